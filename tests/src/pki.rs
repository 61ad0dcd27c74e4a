//! Keys and certificates as Open vSwitch makes them: by `ovs-pki`, in a directory of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::program;

/// An authority, and those it has certified.
#[derive(Debug)]
pub struct Pki {
    directory: TempDir,
}

/// What somebody proves itself with.
#[derive(Clone, Debug)]
pub struct Identity {
    /// In PEM.
    pub private_key: PathBuf,
    /// In PEM.
    pub certificate: PathBuf,
}

impl Pki {
    /// Makes an authority.
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("nonnet-pki-").tempdir()?;
        let pki = Self { directory };
        pki.run(&["init"])?;
        Ok(pki)
    }

    /// Certifies somebody of that name.
    pub fn certify(&self, name: &str) -> Result<Identity> {
        self.run(&["-u", "req+sign", name, "switch"])?;
        let file = |kind: &str| self.directory.path().join(format!("{name}-{kind}.pem"));
        Ok(Identity {
            private_key: file("privkey"),
            certificate: file("cert"),
        })
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("pki/switchca/cacert.pem")
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let directory = self.directory.path();
        let mut command = Command::new(program::system("ovs-pki")?);
        command
            .current_dir(directory)
            .arg(format!("--dir={}", directory.join("pki").display()))
            .arg(format!("--log={}", directory.join("log").display()))
            .args(arguments);
        let output = program::run_command(&mut command, b"")?;
        ensure!(
            output.status.success(),
            "ovs-pki {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

impl Identity {
    /// The options of Open vSwitch's programs, and of nonnetd, that name the files, with who vouches for the peers.
    pub fn options(&self, authority: &Path) -> Vec<String> {
        vec![
            format!("--private-key={}", self.private_key.display()),
            format!("--certificate={}", self.certificate.display()),
            format!("--ca-cert={}", authority.display()),
        ]
    }
}
