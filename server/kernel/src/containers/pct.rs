//! Proxmox VE's `pct(1)`: the arguments for what is wanted of a container.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ecow::{EcoString, eco_format};
use nonnet_hooks::object::container::{Container, Source};

use super::driver::Words;
use crate::process::Job;

/// The program.
const PCT: &str = "pct";

/// Where Proxmox keeps the configurations of containers.
const CONFIGURATIONS: &str = "/etc/pve/lxc";

/// Settings that are options of the same name.
const OPTIONS: [&str; 8] = [
    "cores",
    "features",
    "hostname",
    "memory",
    "nameserver",
    "onboot",
    "searchdomain",
    "swap",
];

/// Whether the program is on this machine.
pub(super) fn is_here() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(PCT).is_file())
}

/// The ids of all containers.
pub(super) fn ids() -> Vec<EcoString> {
    let entries = fs::read_dir(CONFIGURATIONS).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| Some(name.strip_suffix(".conf")?.into()))
        .collect()
}

/// Whether there is a container of that id.
pub(super) fn exists(id: &str) -> bool {
    let file: PathBuf = Path::new(CONFIGURATIONS).join(format!("{id}.conf"));
    file.exists()
}

/// `pct create`, or `pct clone` of a golden image.
pub(super) fn create(container: &Container, source: &Source, deadline: Duration) -> Result<Job, Words> {
    let job = match source {
        Source::Template(template) => simple("create", &container.id, deadline)?.arg(template.as_str()),
        Source::Golden(golden) if golden.bytes().all(|byte| byte.is_ascii_digit()) => {
            let mut job =
                Job::new(PCT, deadline).args(["clone", golden.as_str(), container.id.as_str(), "--full", "1"]);
            if let Some(hostname) = container.settings.get("hostname") {
                job = job.args(["--hostname", hostname.as_str()]);
            }
            return Ok(job);
        }
        Source::Golden(golden) => {
            return Err(eco_format!(
                "golden_image {golden}: pct copies containers by their number"
            ));
        }
    };
    let mut job = options(job, &container.settings);
    let get = |property: &str| container.creation.get(property);
    match (get("storage"), get("rootfs_size")) {
        (Some(storage), Some(size)) => job = job.arg("--rootfs").arg(format!("{storage}:{size}")),
        (Some(storage), None) => job = job.args(["--storage", storage.as_str()]),
        (None, Some(size)) => job = job.arg("--rootfs").arg(size.as_str()),
        (None, None) => {}
    }
    if let Some(word) = get("unprivileged") {
        job = job.args(["--unprivileged", number(word)]);
    }
    Ok(job)
}

/// `pct set` with what differs from the settings before.
pub(super) fn set(
    container: &Container,
    before: &BTreeMap<EcoString, EcoString>,
    deadline: Duration,
) -> Result<Job, Words> {
    let mut changed = container.settings.clone();
    changed.retain(|name, value| before.get(name) != Some(value));
    let mut job = options(simple("set", &container.id, deadline)?, &changed);
    let gone: Vec<&str> = before
        .keys()
        .filter(|name| !container.settings.contains_key(*name))
        .map(EcoString::as_str)
        .collect();
    if !gone.is_empty() {
        job = job.arg("--delete").arg(gone.join(","));
    }
    Ok(job)
}

/// `pct shutdown`, which forces what does not stop in time.
pub(super) fn shutdown(id: &str, seconds: u64, deadline: Duration) -> Result<Job, Words> {
    let job = simple("shutdown", id, deadline)?;
    Ok(job.arg("--timeout").arg(seconds.to_string()).args(["--forceStop", "1"]))
}

/// `pct destroy`
pub(super) fn destroy(id: &str, deadline: Duration) -> Result<Job, Words> {
    Ok(simple("destroy", id, deadline)?.args(["--purge", "1", "--force", "1"]))
}

/// `pct COMMAND ID`
pub(super) fn simple(command: &str, id: &str, deadline: Duration) -> Result<Job, Words> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(eco_format!("Proxmox has numbers for containers, and \"{id}\" is none"));
    }
    Ok(Job::new(PCT, deadline).args([command, id]))
}

fn options(mut job: Job, settings: &BTreeMap<EcoString, EcoString>) -> Job {
    for name in OPTIONS {
        if let Some(value) = settings.get(name) {
            job = job.arg(format!("--{name}")).arg(number(value));
        }
    }
    job
}

/// Perl knows no words for true and false.
fn number(word: &str) -> &str {
    match word {
        "true" => "1",
        "false" => "0",
        other => other,
    }
}
