//! Proxmox VE's `pct(1)`: the arguments for what is wanted of a container.
//!
//! Takes wanted containers, gives [`Job`]s. Proxmox's own files about a container are only read.

mod configuration;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use ecow::{EcoString, eco_format};
use nonnet_hooks::object::container::{Container, Source};

pub(super) use self::configuration::{Configuration, exists, ids};
use super::driver::Words;
use crate::process::{Job, search_path};

/// The program.
const PCT: &str = "pct";

/// Settings that are options of the same name.
const OPTIONS: [&str; 9] = [
    "cores",
    "features",
    "hostname",
    "memory",
    "nameserver",
    "onboot",
    "protection",
    "searchdomain",
    "swap",
];

/// Settings that Proxmox gives to a running container.
const LIVE: [&str; 5] = ["cores", "memory", "onboot", "protection", "swap"];

/// What a container has whose row says nothing about an option that Proxmox cannot be without.
const REQUIRED: [(&str, &str); 1] = [("memory", "512")];

/// Whether the program is on this machine.
pub(super) fn is_here() -> bool {
    std::env::split_paths(&search_path()).any(|directory| directory.join(PCT).is_file())
}

/// What makes a container, in this order. All of it carries `tag`, as soon as Proxmox has a configuration of it.
///
/// # Errors
/// What `pct` could not do.
pub(super) fn create(container: &Container, source: &Source, tag: &str, deadline: Duration) -> Result<Vec<Job>, Words> {
    match source {
        Source::Template(template) => Ok(vec![unpack(container, template, tag, deadline)?]),
        Source::Golden(golden) => copy(container, golden, tag, deadline),
    }
}

/// `pct create`
fn unpack(container: &Container, template: &str, tag: &str, deadline: Duration) -> Result<Job, Words> {
    if !template.starts_with('/') && !template.contains(":vztmpl/") {
        return Err(eco_format!(
            "template {template}: Proxmox's pct takes STORAGE:vztmpl/FILE or the path of an archive"
        ));
    }
    let job = simple("create", &container.id, deadline)?.arg(template);
    let mut job = options(job, &container.settings).args(["--tags", tag]);
    let get = |property: &str| container.creation.get(property);
    if let Some(storage) = get("storage") {
        job = job.args(["--storage", storage.as_str()]);
    }
    if let Some(size) = get("rootfs_size") {
        job = job.args(["--rootfs", size.as_str()]);
    }
    if let Some(word) = get("unprivileged") {
        job = job.args(["--unprivileged", number(word)]);
    }
    Ok(job)
}

/// `pct clone`, and what a copy does not have from there.
fn copy(container: &Container, golden: &EcoString, tag: &str, deadline: Duration) -> Result<Vec<Job>, Words> {
    if !is_number(golden) {
        return Err(eco_format!(
            "golden_image {golden}: pct copies containers by their number"
        ));
    }
    let is_unprivileged = Configuration::read(golden).is_some_and(|golden| golden.is_set("unprivileged"));
    let get = |property: &str| container.creation.get(property);
    if let Some(word) = get("unprivileged").filter(|word| (word.as_str() == "true") != is_unprivileged) {
        return Err(eco_format!(
            "unprivileged {word}: golden_image {golden} is not, and a copy is as what it is copied from"
        ));
    }
    let id = container.id.as_str();
    let mut clone = simple("clone", golden, deadline)?.args([id, "--full", "1"]);
    if let Some(storage) = get("storage") {
        clone = clone.args(["--storage", storage.as_str()]);
    }
    let mut jobs = vec![clone, simple("set", id, deadline)?.args(["--tags", tag])];
    if let Some(size) = get("rootfs_size") {
        jobs.push(simple("resize", id, deadline)?.args(["rootfs", &format!("{size}G")]));
    }
    if container.settings.iter().any(is_option) {
        jobs.push(options(simple("set", id, deadline)?, &container.settings));
    }
    Ok(jobs)
}

/// `pct set` with what differs from the settings before; `None`: nothing does.
///
/// # Errors
/// An id that is no number.
pub(super) fn set(
    container: &Container,
    before: &BTreeMap<EcoString, EcoString>,
    deadline: Duration,
) -> Result<Option<Job>, Words> {
    let now = &container.settings;
    let mut changed = now.clone();
    changed.retain(|name, value| before.get(name) != Some(value));
    changed.retain(|name, value| is_option((name, value)));
    let mut gone: Vec<&str> = Vec::new();
    for name in before.iter().filter(|entry| is_option(*entry)).map(|(name, _)| name) {
        if now.get(name).is_some_and(|value| is_option((name, value))) {
            continue;
        }
        match REQUIRED.iter().find(|(required, _)| required == name) {
            Some((_, value)) => drop(changed.insert(name.clone(), (*value).into())),
            None => gone.push(name),
        }
    }
    if changed.is_empty() && gone.is_empty() {
        return Ok(None);
    }
    let mut job = options(simple("set", &container.id, deadline)?, &changed);
    if !gone.is_empty() {
        job = job.arg("--delete").arg(gone.join(","));
    }
    Ok(Some(job))
}

/// The settings among those that differ which a running container has not taken.
pub(super) fn waiting(id: &str, differing: BTreeSet<EcoString>) -> BTreeSet<EcoString> {
    let pending = Configuration::read(id).map(Configuration::pending).unwrap_or_default();
    let mut waiting = differing;
    waiting.retain(|name| !LIVE.contains(&name.as_str()));
    waiting.extend(pending.into_iter().filter(|name| OPTIONS.contains(&name.as_str())));
    waiting
}

/// `pct shutdown`, which forces what does not stop in time.
///
/// # Errors
/// An id that is no number.
pub(super) fn shutdown(id: &str, seconds: u64, deadline: Duration) -> Result<Job, Words> {
    let job = simple("shutdown", id, deadline)?;
    Ok(job.arg("--timeout").arg(seconds.to_string()).args(["--forceStop", "1"]))
}

/// What takes protection off that the row had, so that the container can be destroyed; one that somebody else put on stays.
///
/// # Errors
/// An id that is no number.
pub(super) fn unprotect(id: &str, deadline: Duration) -> Result<Job, Words> {
    Ok(simple("set", id, deadline)?.args(["--protection", "0"]))
}

/// `pct destroy`
///
/// # Errors
/// An id that is no number.
pub(super) fn destroy(id: &str, deadline: Duration) -> Result<Job, Words> {
    Ok(simple("destroy", id, deadline)?.args(["--purge", "1", "--force", "1"]))
}

/// `pct COMMAND ID`
///
/// # Errors
/// An id that is no number.
pub(super) fn simple(command: &str, id: &str, deadline: Duration) -> Result<Job, Words> {
    if !is_number(id) {
        return Err(eco_format!("Proxmox has numbers for containers, and \"{id}\" is none"));
    }
    Ok(Job::new(PCT, deadline).args([command, id]))
}

/// Whether a `pct` is at work on making a container: its process, or the one that it has for that.
pub(super) fn is_being_made(id: &str) -> bool {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .bytes()
                .all(|byte| byte.is_ascii_digit())
        })
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|command| makes(&String::from_utf8_lossy(&command), id))
}

/// Whether a command line (arguments end in NUL) is that of a `pct` which makes a container.
fn makes(command: &str, id: &str) -> bool {
    if command.starts_with("task UPID:") && command.contains(&format!(":vzcreate:{id}:")) {
        return true;
    }
    let arguments: Vec<&str> = command.split('\0').collect();
    arguments.windows(4).any(|window| {
        let [program, command, of, to] = *window else {
            return false;
        };
        let made = match command {
            "create" => of,
            "clone" => to,
            _ => return false,
        };
        program.rsplit('/').next() == Some(PCT) && made == id
    })
}

fn is_number(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a setting is an option; an empty one is as good as none.
fn is_option((name, value): (&EcoString, &EcoString)) -> bool {
    OPTIONS.contains(&name.as_str()) && !value.is_empty()
}

fn options(job: Job, settings: &BTreeMap<EcoString, EcoString>) -> Job {
    let given = settings.iter().filter(|entry| is_option(*entry));
    given.fold(job, |job, (name, value)| {
        job.arg(format!("--{name}")).arg(number(value))
    })
}

/// Perl knows no words for true and false.
fn number(word: &str) -> &str {
    match word {
        "true" => "1",
        "false" => "0",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pct_that_makes_a_container_is_known_by_its_command_line() {
        let makes = |words: &str| makes(&(words.replace(' ', "\0") + "\0"), "100");
        assert!(makes("/usr/bin/perl -T /usr/sbin/pct create 100 local:vztmpl/a"));
        assert!(makes("/usr/bin/perl -T /usr/sbin/pct clone 900 100 --full 1"));
        assert!(!makes("/usr/bin/perl -T /usr/sbin/pct create 1000 local:vztmpl/a"));
        assert!(!makes("/usr/bin/perl -T /usr/sbin/pct clone 100 101"));
        assert!(!makes("vi pct create"));
        assert!(super::makes(
            "task UPID:pve:0001:0002:0003:vzcreate:100:root@pam:",
            "100"
        ));
    }
}
