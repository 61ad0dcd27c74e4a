//! The two programs that are compared: where they lie, and building ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nonnet_tests::program;

use crate::options::from_top;

/// Which command line and which database file a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ovsdb-server` of Open vSwitch.
    Reference,
    /// Our `nonnetd`.
    Nonnetd,
}

/// A server that can be started.
#[derive(Clone, Debug)]
pub struct Program {
    /// Which command line it takes.
    pub kind: Kind,
    /// The executable.
    pub path: PathBuf,
    /// How the tables call it.
    pub label: String,
    /// What it says about its version.
    pub version: String,
}

impl Program {
    /// Finds what `--server-a` and `--server-b` name; plain `nonnetd` is built first.
    ///
    /// # Errors
    /// When it is not installed, is not one of the two, or does not build.
    pub fn find(argument: &str) -> Result<Self> {
        let (kind, path) = match argument {
            "ovsdb-server" => (Kind::Reference, program::system("ovsdb-server")?),
            "nonnetd" => (Kind::Nonnetd, build_nonnetd()?),
            _ => (kind_of(argument)?, from_top(Path::new(argument))),
        };
        ensure!(path.is_file(), "there is no server {}", path.display());
        let version = program::succeed(&path, &["--version"], b"")?
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        Ok(Self {
            kind,
            path,
            label: argument.to_owned(),
            version,
        })
    }
}

fn kind_of(argument: &str) -> Result<Kind> {
    let file = Path::new(argument)
        .file_name()
        .and_then(|file| file.to_str())
        .unwrap_or_default();
    if file.starts_with("ovsdb-server") {
        Ok(Kind::Reference)
    } else if file.starts_with("nonnetd") {
        Ok(Kind::Nonnetd)
    } else {
        bail!("{argument} is neither an ovsdb-server nor a nonnetd: the name of the file must begin with one of these")
    }
}

/// Builds `nonnetd` as it is delivered. Cargo does nothing when it is built already.
fn build_nonnetd() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let bench = std::env::current_exe().context("where the bench runs from")?;
    let target = bench
        .ancestors()
        .nth(3)
        .context("a bench runs in target/<profile>/deps")?;
    eprintln!("building nonnetd (release)");
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "nonnetd",
            "--bin",
            "nonnetd",
            "--target-dir",
        ])
        .arg(target)
        .current_dir(program::repository())
        .status()
        .context("run cargo to build nonnetd")?;
    ensure!(
        status.success(),
        "nonnetd does not build (its errors are above), so there is nothing to measure"
    );
    Ok(target.join("release/nonnetd"))
}
