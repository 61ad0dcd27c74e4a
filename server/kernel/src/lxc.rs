//! Finds the init process of running LXC containers.
//!
//! A container's monitor process calls itself `[lxc monitor] PATH ID`, or is an `lxc-start` in the foreground; its only child is the container's
//! init. Looking at processes works whatever the lxcpath is, and needs none of LXC's own protocol. Only containers that were started in the server's own
//! network namespace count. Takes container ids, gives process ids; it must never signal or enter anything.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::limits::{MONITOR_TITLE_MS, PROCESSES_AFRESH_MS};

/// Where LXC keeps containers unless it is told otherwise.
pub(crate) const LXCPATH: &str = "/var/lib/lxc";

/// What is known about processes, so that a look costs only what is new.
#[derive(Debug)]
pub(crate) struct Containers {
    first_seen: HashMap<u32, Instant>,
    monitors: HashMap<String, BTreeSet<u32>>,
    afresh: Instant,
}

impl Containers {
    pub(crate) fn new() -> Self {
        Self {
            first_seen: HashMap::new(),
            monitors: HashMap::new(),
            afresh: Instant::now(),
        }
    }

    /// Looks at all processes for monitors.
    pub(crate) fn look(&mut self, now: Instant) {
        if now.duration_since(self.afresh).as_millis() >= u128::from(PROCESSES_AFRESH_MS) {
            self.first_seen.clear();
            self.afresh = now;
        }
        let pids: HashSet<u32> = processes().collect();
        self.first_seen.retain(|pid, _| pids.contains(pid));
        for monitors in self.monitors.values_mut() {
            monitors.retain(|pid| pids.contains(pid));
        }
        self.monitors.retain(|_, monitors| !monitors.is_empty());
        for pid in pids {
            let since = *self.first_seen.entry(pid).or_insert(now);
            let young = now.duration_since(since).as_millis() < u128::from(MONITOR_TITLE_MS);
            if let Some(id) = young.then(|| monitored(pid)).flatten() {
                self.monitors.entry(id).or_default().insert(pid);
            }
        }
    }

    /// The init process of the running container of this id.
    pub(crate) fn init(&self, id: &str) -> Option<u32> {
        self.monitors
            .get(id)?
            .iter()
            .find_map(|monitor| Self::init_of(*monitor, id))
    }

    /// The init process of the running container of this id below an lxcpath.
    pub(crate) fn init_below(&self, path: &Path, id: &str) -> Option<u32> {
        let monitors = self.monitors.get(id)?.iter();
        let below = |monitor: &&u32| lxcpath_of(**monitor).is_some_and(|of| Path::new(&of) == path);
        monitors.filter(below).find_map(|monitor| Self::init_of(*monitor, id))
    }

    fn init_of(monitor: u32, id: &str) -> Option<u32> {
        // The number may be another process's by now, and the container another network's: one that was started elsewhere is not this
        // server's, whatever it is called.
        let here = fs::read_link("/proc/thread-self/ns/net").ok()?;
        let there = fs::read_link(format!("/proc/{monitor}/ns/net")).ok()?;
        if here != there || monitored(monitor).as_deref() != Some(id) {
            return None;
        }
        let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).ok()?;
        children.split_ascii_whitespace().next()?.parse().ok()
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn monitored(pid: u32) -> Option<String> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    container_of(&String::from_utf8_lossy(&command))
}

/// The lxcpath of a monitor's container.
fn lxcpath_of(pid: u32) -> Option<String> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    lxcpath_in(&String::from_utf8_lossy(&command))
}

/// The lxcpath in the command line of a monitor.
fn lxcpath_in(command: &str) -> Option<String> {
    let command = command.trim_end_matches('\0');
    if let Some(title) = command.strip_prefix("[lxc monitor] ") {
        return title.rsplit_once(' ').map(|(path, _)| path.to_owned());
    }
    let mut arguments = command.split('\0').skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "-P" || argument == "--lxcpath" {
            return arguments.next().map(str::to_owned);
        }
        if let Some(path) = argument.strip_prefix("--lxcpath=") {
            return Some(path.to_owned());
        }
    }
    Some(LXCPATH.to_owned())
}

/// The container id in a command line (arguments end in NUL) if it is that of a monitor.
fn container_of(command: &str) -> Option<String> {
    let command = command.trim_end_matches('\0');
    if let Some(title) = command.strip_prefix("[lxc monitor] ") {
        return title.rsplit_once(' ').map(|(_, id)| id.to_owned());
    }
    let mut arguments = command.split('\0');
    let program = arguments.next()?;
    if program.rsplit('/').next() != Some("lxc-start") {
        return None;
    }
    let mut id = None;
    while let Some(argument) = arguments.next() {
        if argument == "-n" || argument == "--name" {
            id = arguments.next();
        } else if let Some(name) = argument.strip_prefix("--name=") {
            id = Some(name);
        } else if [
            "-P",
            "--lxcpath",
            "-f",
            "--rcfile",
            "-o",
            "--logfile",
            "-l",
            "--logpriority",
        ]
        .contains(&argument)
        {
            arguments.next();
        } else if !argument.starts_with('-') {
            id = id.or(Some(argument));
        }
    }
    id.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitor_names_its_container() {
        let of = |command: &str| container_of(command);
        assert_eq!(of("[lxc monitor] /var/lib/lxc 100\0").as_deref(), Some("100"));
        assert_eq!(of("[lxc monitor] /tmp/a b/lxc web-1\0\0\0").as_deref(), Some("web-1"));
        assert_eq!(
            of("/usr/bin/lxc-start\0-F\0-P\0/tmp/x\0-n\0c1\0").as_deref(),
            Some("c1")
        );
        assert_eq!(of("lxc-start\0--name=c2\0-F\0").as_deref(), Some("c2"));
        assert_eq!(of("lxc-start\0-P\0/tmp/x\0c3\0").as_deref(), Some("c3"));
        assert_eq!(of("/usr/bin/lxc-info\0-n\0c1\0"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn monitor_names_its_lxcpath() {
        let of = |command: &str| lxcpath_in(command);
        assert_eq!(
            of("[lxc monitor] /tmp/a b/lxc web-1\0").as_deref(),
            Some("/tmp/a b/lxc")
        );
        assert_eq!(of("lxc-start\0-F\0-P\0/tmp/x\0-n\0c1\0").as_deref(), Some("/tmp/x"));
        assert_eq!(of("lxc-start\0--lxcpath=/y\0c1\0").as_deref(), Some("/y"));
        assert_eq!(of("lxc-start\0-F\0c1\0").as_deref(), Some("/var/lib/lxc"));
    }
}
