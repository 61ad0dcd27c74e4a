//! The mark of a container that is ours: a file `nonnet` in its directory, of lines `KEY VALUE`.
//!
//! It is there before the container is and goes after it, so that what a crash left half made is known for what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ecow::EcoString;
use nonnet_hooks::mirror::{Ownership, Stage};

/// The file's name.
const FILE: &str = "nonnet";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) ownership: Ownership,
    /// The settings that the container's configuration has.
    pub(super) settings: BTreeMap<EcoString, EcoString>,
    /// The first process of the container that runs with other settings, and which these are.
    pub(super) outdated: Option<(u32, BTreeSet<EcoString>)>,
    /// What became of the program for the first start.
    pub(super) firstboot: Option<EcoString>,
}

impl Marker {
    pub(super) fn new(ownership: Ownership) -> Self {
        Self {
            ownership,
            settings: BTreeMap::new(),
            outdated: None,
            firstboot: None,
        }
    }

    /// Reads the mark of the container in `directory`; `None`: there is none, or it cannot be read.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        let text = fs::read_to_string(directory.join(FILE)).ok()?;
        let (mut group, mut uuid, mut stage) = (None, None, None);
        let (mut settings, mut outdated, mut firstboot) = (BTreeMap::new(), None, None);
        for line in text.lines() {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "group" => group = u32::from_str_radix(value, 16).ok(),
                "row" => uuid = u128::from_str_radix(value, 16).ok(),
                "stage" => stage = stage_of(value),
                "setting" => {
                    let (name, value) = value.split_once(' ').unwrap_or((value, ""));
                    settings.insert(name.into(), value.into());
                }
                "outdated" => {
                    let mut words = value.split(' ');
                    let init = words.next().and_then(|word| word.parse().ok());
                    outdated = init.map(|init| (init, words.map(EcoString::from).collect()));
                }
                "firstboot" => firstboot = Some(value.into()),
                _ => {}
            }
        }
        let ownership = Ownership {
            group: group?,
            uuid: uuid?,
            stage: stage?,
        };
        Some(Self {
            ownership,
            settings,
            outdated,
            firstboot,
        })
    }

    /// Writes the mark, whole or not at all.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let Ownership { group, uuid, stage } = self.ownership;
        let mut text = format!(
            "# nonnet starts, stops and destroys this container by this file; it is not to be changed by others.\n\
             group {group:08x}\nrow {uuid:032x}\nstage {}\n",
            word_of(stage)
        );
        for (name, value) in &self.settings {
            let _ = writeln!(text, "setting {name} {value}");
        }
        if let Some((init, settings)) = &self.outdated {
            let settings: Vec<&str> = settings.iter().map(EcoString::as_str).collect();
            let _ = writeln!(text, "outdated {init} {}", settings.join(" "));
        }
        if let Some(words) = &self.firstboot {
            let words: String = words.chars().filter(|c| !c.is_control()).collect();
            let _ = writeln!(text, "firstboot {words}");
        }
        let new = place(directory).with_extension("new");
        fs::write(&new, text)?;
        fs::rename(new, place(directory))
    }

    /// Takes the mark away.
    pub(super) fn remove(directory: &Path) -> io::Result<()> {
        match fs::remove_file(place(directory)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn place(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

fn word_of(stage: Stage) -> &'static str {
    match stage {
        Stage::Creating => "creating",
        Stage::Created => "created",
        Stage::Adopted => "adopted",
    }
}

fn stage_of(word: &str) -> Option<Stage> {
    [Stage::Creating, Stage::Created, Stage::Adopted]
        .into_iter()
        .find(|stage| word_of(*stage) == word)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let directory = std::env::temp_dir().join(format!("nonnet-marker-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut marker = Marker::new(Ownership {
            group: 0x4711_0000,
            uuid: 7,
            stage: Stage::Created,
        });
        marker.settings = [
            ("memory".into(), "512".into()),
            ("nameserver".into(), "10.0.0.1 fd00::1".into()),
        ]
        .into();
        marker.outdated = Some((12, ["hostname".into()].into()));
        marker.firstboot = Some("failed: sh ended with status 1".into());
        marker.write(&directory).unwrap();
        assert_eq!(Marker::read(&directory), Some(marker));
        fs::write(directory.join(FILE), "group x\n").unwrap();
        assert_eq!(Marker::read(&directory), None);
        Marker::remove(&directory).unwrap();
        Marker::remove(&directory).unwrap();
        fs::remove_dir(&directory).unwrap();
    }
}
