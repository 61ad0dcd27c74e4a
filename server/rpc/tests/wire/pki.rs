//! Certificates by `openssl`: an authority, and those it has signed.

use std::{fs, path::PathBuf, process::Command};

use nonnet_rpc::{CaCert, Tls};
use tempfile::TempDir;

const CONFIGURATION: &str = "[req]\n\
    distinguished_name = name\n\
    [name]\n\
    [authority]\n\
    basicConstraints = critical,CA:TRUE\n\
    [end]\n\
    basicConstraints = CA:FALSE\n\
    subjectAltName = DNS:localhost\n";

/// An authority in a directory of its own.
pub(crate) struct Pki {
    directory: TempDir,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let pki = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::write(pki.path("openssl.cnf"), CONFIGURATION).unwrap();
        // No two authorities have the same name.
        let name = pki.directory.path().display().to_string().replace('/', "_");
        pki.make("ca", &name, "authority", &[]);
        pki
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The settings of whoever shows a certificate with that common name, which is made.
    pub(crate) fn tls(&self, name: &str) -> Tls {
        self.make(name, name, "end", &["-CA", "ca.pem", "-CAkey", "ca.key"]);
        Tls {
            private_key: Some(self.path(&format!("{name}.key"))),
            certificate: Some(self.path(&format!("{name}.pem"))),
            ca_cert: Some(CaCert::File(self.path("ca.pem"))),
            ..Tls::default()
        }
    }

    fn make(&self, file: &str, name: &str, kind: &str, more: &[&str]) {
        let mut command = Command::new("openssl");
        command
            .current_dir(self.directory.path())
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args(["-config", "openssl.cnf", "-extensions", kind, "-days", "2"])
            .args(["-subj", &format!("/CN={name}")])
            .args(["-keyout", &format!("{file}.key"), "-out", &format!("{file}.pem")])
            .args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
