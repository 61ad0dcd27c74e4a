//! The control socket of a server, asked with the operating system's `ovs-appctl`.

use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, ensure};

use crate::program;

/// Runs a command on a control socket.
///
/// # Errors
/// When `ovs-appctl` cannot be run.
pub fn run(socket: &Path, words: &[&str]) -> Result<Output> {
    let socket = socket.to_str().context("a path of text")?;
    let mut arguments = vec!["-t", socket];
    arguments.extend_from_slice(words);
    program::run(&program::system("ovs-appctl")?, &arguments, b"")
}

/// What a command answers that must succeed.
///
/// # Errors
/// When it fails; the error carries why.
pub fn ask(socket: &Path, words: &[&str]) -> Result<String> {
    let output = run(socket, words)?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{words:?}: {stderr}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The words of a command that must fail; the last line is `ovs-appctl`'s own.
///
/// # Errors
/// When it succeeds.
pub fn refusal(socket: &Path, words: &[&str]) -> Result<String> {
    let output = run(socket, words)?;
    ensure!(output.status.code() == Some(2), "{words:?} gave {}", output.status);
    let stderr = String::from_utf8(output.stderr)?;
    Ok(stderr.lines().next().unwrap_or_default().to_owned())
}
