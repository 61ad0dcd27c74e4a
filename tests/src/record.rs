//! Fills in expectations: a step without one gets what `ovsdb-server` answers, written into the case file.
//!
//! `NONNET_TESTS_RECORD=1 cargo test -p nonnet-tests --test transactions` runs it; what it writes is to be read against the
//! protocol before it is committed. Without the variable a step without expectation is a failure.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::case::{self, Case, Step};
use crate::play::{self, Options};
use crate::server::{Kind, Server};

/// Whether this run fills in expectations.
pub fn is_wanted() -> bool {
    std::env::var_os("NONNET_TESTS_RECORD").is_some()
}

/// Fills in all steps that have no expectation, in all files; a case that cannot be played is left as it is.
///
/// # Errors
/// When any case could not be played; the others are filled in all the same.
pub fn fill_in(cases: &[Case]) -> Result<()> {
    let failures: Vec<String> = cases
        .iter()
        .filter(|case| case.no_reference.is_none())
        .filter_map(|case| fill_in_one(case).err().map(|error| format!("{error:#}")))
        .collect();
    ensure!(
        failures.is_empty(),
        "{} cases could not be recorded:\n{}",
        failures.len(),
        failures.join("\n")
    );
    Ok(())
}

fn fill_in_one(case: &Case) -> Result<()> {
    let mut pending: Vec<(String, String)> = Vec::new();
    let mut server = Server::start(Kind::Reference, &case.schema)?;
    let options = Options {
        reference: true,
        restart_between: false,
    };
    play::play(&mut server, case, options, |step, received| {
        if step.expected.is_blank() && step.reference.is_none() {
            pending.push((step.text.clone(), with_outcome(step, received)?));
        }
        Ok(())
    })
    .with_context(|| server.stderr())?;
    replace(&case.file, &case.name, &pending)
}

fn with_outcome(step: &Step, received: &Value) -> Result<String> {
    let mut value = received.clone();
    let members = value.as_object_mut().context("an outcome is an object")?;
    let mut parts = Vec::new();
    if let Some(before) = members.remove("before") {
        parts.push(format!("\"before\": {before}"));
    }
    if let Some(reply) = members.remove("reply") {
        let text = reply.to_string();
        parts.push(text[1..text.len() - 1].to_owned());
    }
    for (name, value) in members {
        parts.push(format!("\"{name}\": {value}"));
    }
    if parts.is_empty() {
        return Ok(step.text.clone());
    }
    let body = step.text.trim_end().strip_suffix('}').context("a step is an object")?;
    Ok(format!("{body}, {}}}", parts.join(", ")))
}

fn replace(file: &Path, case: &str, changes: &[(String, String)]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let file: PathBuf = file.to_owned();
    let mut text = std::fs::read_to_string(&file)?;
    let mut position = text.find(&format!("\"{case}\"")).context("the case is in its file")?;
    for (old, new) in changes {
        let offset = text[position..].find(old.as_str()).context("the step is in its file")?;
        let start = position + offset;
        text.replace_range(start..start + old.len(), new);
        position = start + new.len();
    }
    std::fs::write(&file, text)?;
    ensure!(!case::load(&file)?.is_empty(), "{} has no case", file.display());
    Ok(())
}
