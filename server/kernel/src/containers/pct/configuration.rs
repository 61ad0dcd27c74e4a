//! What Proxmox's own configuration of a container says (`pct.conf(5)`). It is only read: who changes it is `pct`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ecow::EcoString;

/// Where the configurations of this node's containers are.
const CONFIGURATIONS: &str = "/etc/pve/lxc";

/// The section of what a running container takes when it starts again.
const PENDING: &str = "[pve:pending]";

/// A container's configuration, without its snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Configuration {
    values: BTreeMap<EcoString, EcoString>,
    pending: BTreeMap<EcoString, EcoString>,
}

impl Configuration {
    /// Reads that of a container; `None`: there is none.
    pub(in super::super) fn read(id: &str) -> Option<Self> {
        fs::read_to_string(place(id)).ok().map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut configuration = Self::default();
        let mut section = "";
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                section = line;
            } else if let Some((name, value)) = line.split_once(':').filter(|_| !line.starts_with('#')) {
                let values = match section {
                    "" => &mut configuration.values,
                    PENDING => &mut configuration.pending,
                    _ => continue,
                };
                values.insert(name.into(), value.trim().into());
            }
        }
        configuration
    }

    /// What it is locked for: `create`, `backup` ...
    pub(in super::super) fn lock(&self) -> Option<&str> {
        self.values.get("lock").map(EcoString::as_str)
    }

    /// Whether a flag is on.
    pub(in super::super) fn is_set(&self, flag: &str) -> bool {
        self.values.get(flag).is_some_and(|value| value == "1")
    }

    /// Whether it carries a tag.
    pub(in super::super) fn has_tag(&self, tag: &str) -> bool {
        let tags = self.values.get("tags").map(EcoString::as_str).unwrap_or_default();
        tags.split([';', ',', ' ']).any(|of| of == tag)
    }

    /// Whether it says nothing but that it is locked, which is how it is while a container is made.
    pub(in super::super) fn is_bare(&self) -> bool {
        self.values.keys().all(|name| matches!(name.as_str(), "arch" | "lock"))
    }

    /// The options that a running container takes when it starts again.
    pub(in super::super) fn pending(self) -> BTreeSet<EcoString> {
        let deleted = self.pending.get("delete").cloned().unwrap_or_default();
        let deleted = deleted
            .split([',', ' '])
            .map(|name| name.trim_start_matches('!').into());
        let named = self.pending.into_keys().filter(|name| name != "delete");
        named
            .chain(deleted)
            .filter(|name: &EcoString| !name.is_empty())
            .collect()
    }
}

/// The ids of all containers of this node.
pub(in super::super) fn ids() -> Vec<EcoString> {
    let entries = fs::read_dir(CONFIGURATIONS).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| Some(name.strip_suffix(".conf")?.into()))
        .collect()
}

/// Whether there is a container of that id.
pub(in super::super) fn exists(id: &str) -> bool {
    place(id).exists()
}

fn place(id: &str) -> PathBuf {
    Path::new(CONFIGURATIONS).join(format!("{id}.conf"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_kept_apart() {
        let text = "#said: by somebody\nhostname: a\nlock: backup\ntags: web;nonnet-4e4e0001\nunprivileged: 1\n\
                    rootfs: local:100/disk.raw,size=8G\n\n[pve:pending]\nfeatures: nesting=1\ndelete: nameserver,!swap\n\n\
                    [before]\nmemory: 64\n";
        let configuration = Configuration::parse(text);
        assert_eq!(configuration.lock(), Some("backup"));
        assert!(configuration.is_set("unprivileged") && !configuration.is_set("protection"));
        assert!(configuration.has_tag("nonnet-4e4e0001") && !configuration.has_tag("nonnet"));
        assert!(!configuration.is_bare() && Configuration::parse("lock: create\n").is_bare());
        let pending: Vec<EcoString> = configuration.pending().into_iter().collect();
        assert_eq!(pending, ["features", "nameserver", "swap"]);
    }
}
