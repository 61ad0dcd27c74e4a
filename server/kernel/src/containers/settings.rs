//! A container's settings as lines of LXC's configuration (`lxc.container.conf(5)`), and as control files of its running cgroup.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use ecow::{EcoString, eco_format};

use super::driver::Words;

/// The lines around what is ours in a configuration.
const BEGIN: &str = "# nonnet: from here on by the container's row; changes are lost";
const END: &str = "# nonnet: until here";

/// A second of processor time as `cpu.max` and `cpu.cfs_quota_us` count it.
const PERIOD_US: u64 = 100_000;

/// Which cgroups this host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cgroups {
    /// The unified hierarchy alone.
    Unified,
    /// One hierarchy per controller.
    Legacy,
}

impl Cgroups {
    pub(super) fn of_this_host() -> Self {
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            Self::Unified
        } else {
            Self::Legacy
        }
    }
}

/// Refuses what LXC's programs have no setting for here.
///
/// # Errors
/// The property and why.
pub(super) fn check_settings(settings: &BTreeMap<EcoString, EcoString>, cgroups: Cgroups) -> Result<(), Words> {
    if let Some(other) = features(settings).find(|feature| !is_nesting(feature)) {
        return Err(eco_format!(
            "features {other}: without Proxmox's pct, nesting=1 is the only feature"
        ));
    }
    if features(settings).any(is_nesting) && !Path::new(NESTING).exists() {
        return Err(eco_format!("features nesting=1: there is no {NESTING}"));
    }
    let is_said = |name: &str| settings.contains_key(name);
    if cgroups == Cgroups::Legacy && is_said("swap") && !is_said("memory") {
        return Err("swap: this host's cgroups (version 1) limit it together with memory, which is not given".into());
    }
    Ok(())
}

fn features(settings: &BTreeMap<EcoString, EcoString>) -> impl Iterator<Item = &str> {
    let features = settings.get("features").map(EcoString::as_str).unwrap_or_default();
    features.split(',').filter(|feature| !feature.is_empty())
}

fn is_nesting(feature: &str) -> bool {
    matches!(feature, "nesting=1" | "nesting" | "nesting=true")
}

/// The control files for the settings that a running container can take, with the setting's name.
pub(super) fn controls(
    settings: &BTreeMap<EcoString, EcoString>,
    cgroups: Cgroups,
) -> Vec<(&'static str, &'static str, String)> {
    let number = |name: &str| settings.get(name).and_then(|text| text.parse::<u64>().ok());
    let (memory, swap) = (number("memory"), number("swap"));
    let bytes = |mib: u64| (mib << 20).to_string();
    let mut controls = Vec::new();
    if let Some(memory) = memory {
        let file = match cgroups {
            Cgroups::Unified => "memory.max",
            Cgroups::Legacy => "memory.limit_in_bytes",
        };
        controls.push(("memory", file, bytes(memory)));
    }
    match (cgroups, memory, swap) {
        (Cgroups::Unified, _, Some(swap)) => controls.push(("swap", "memory.swap.max", bytes(swap))),
        // There it is memory and swap together, which needs both.
        (Cgroups::Legacy, Some(memory), Some(swap)) => {
            controls.push(("swap", "memory.memsw.limit_in_bytes", bytes(memory + swap)));
        }
        _ => {}
    }
    if let Some(cores) = number("cores") {
        controls.push(match cgroups {
            Cgroups::Unified => ("cores", "cpu.max", format!("{} {PERIOD_US}", cores * PERIOD_US)),
            Cgroups::Legacy => ("cores", "cpu.cfs_quota_us", (cores * PERIOD_US).to_string()),
        });
    }
    controls
}

/// The settings that differ between two configurations and that a container takes when it starts.
pub(super) fn taken_at_start(
    old: &BTreeMap<EcoString, EcoString>,
    new: &BTreeMap<EcoString, EcoString>,
) -> BTreeSet<EcoString> {
    let names: BTreeSet<&EcoString> = old.keys().chain(new.keys()).collect();
    let differs =
        |name: &&&EcoString| old.get(**name) != new.get(**name) && !matches!(name.as_str(), "onboot" | "protection");
    names.iter().filter(differs).map(|name| (**name).clone()).collect()
}

/// A configuration with our lines at its end, in place of those that it had.
pub(super) fn configuration(text: &str, settings: &BTreeMap<EcoString, EcoString>, cgroups: Cgroups) -> String {
    let mut ours = false;
    let mut kept = String::new();
    for line in text.lines() {
        ours |= line == BEGIN;
        if !ours {
            kept.push_str(line);
            kept.push('\n');
        }
        ours &= line != END;
    }
    let _ = writeln!(kept, "{BEGIN}");
    let prefix = match cgroups {
        Cgroups::Unified => "lxc.cgroup2",
        Cgroups::Legacy => "lxc.cgroup",
    };
    for (_, file, value) in controls(settings, cgroups) {
        let _ = writeln!(kept, "{prefix}.{file} = {value}");
    }
    if let Some(hostname) = settings.get("hostname") {
        let _ = writeln!(kept, "lxc.uts.name = {hostname}");
    }
    if let Some(onboot) = settings.get("onboot") {
        let _ = writeln!(kept, "lxc.start.auto = {}", u8::from(onboot == "true"));
    }
    if features(settings).any(is_nesting) {
        let _ = writeln!(kept, "lxc.include = {NESTING}");
    }
    let _ = writeln!(kept, "{END}");
    kept
}

/// LXC's own lines for containers in which there are containers.
pub(super) const NESTING: &str = "/usr/share/lxc/config/nesting.conf";

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<EcoString, EcoString> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn our_lines_replace_those_that_were_there() {
        let settings_1 = settings(&[("memory", "64"), ("hostname", "web"), ("cores", "2")]);
        let once = configuration("lxc.uts.name = t1\n", &settings_1, Cgroups::Legacy);
        assert_eq!(
            once,
            format!(
                "lxc.uts.name = t1\n{BEGIN}\nlxc.cgroup.memory.limit_in_bytes = 67108864\n\
                 lxc.cgroup.cpu.cfs_quota_us = 200000\nlxc.uts.name = web\n{END}\n"
            )
        );
        let settings_2 = settings(&[("features", "keyctl=1,nesting=1"), ("onboot", "true"), ("swap", "1")]);
        let twice = configuration(&once, &settings_2, Cgroups::Unified);
        assert_eq!(
            twice,
            format!(
                "lxc.uts.name = t1\n{BEGIN}\nlxc.cgroup2.memory.swap.max = 1048576\nlxc.start.auto = 1\n\
                 lxc.include = {NESTING}\n{END}\n"
            )
        );
    }

    #[test]
    fn what_differs_is_named() {
        let old = settings(&[("memory", "64"), ("hostname", "a"), ("onboot", "true")]);
        let new = settings(&[("memory", "64"), ("hostname", "b"), ("cores", "1")]);
        let names: Vec<EcoString> = taken_at_start(&old, &new).into_iter().collect();
        assert_eq!(names, ["cores", "hostname"]);
    }
}
