//! The users and groups of unprivileged containers: which of the host's they are, and files given to them.
//!
//! Takes `subuid(5)` and `subgid(5)` of root, or a container's configuration; gives the lines of LXC's configuration, and trees of files in which
//! each owner is the host's number for it. It never follows a link.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};

use ecow::eco_format;

use super::driver::Words;

/// The bits of a file's mode that a change of its owner takes away.
const SET_ID: u32 = 0o6000;

/// The host's numbers for a container's users and groups from 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Idmap {
    users: Numbers,
    groups: Numbers,
}

/// So many numbers from a first one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers {
    first: u32,
    count: u32,
}

impl Idmap {
    /// The numbers that root may give to containers.
    ///
    /// # Errors
    /// The file that has none.
    pub(super) fn of_root() -> Result<Self, Words> {
        let numbers = |file: &str| {
            subordinate(&fs::read_to_string(file).unwrap_or_default()).ok_or_else(|| {
                eco_format!("unprivileged: {file} has no numbers for root; it needs a line as root:100000:65536")
            })
        };
        Ok(Self {
            users: numbers("/etc/subuid")?,
            groups: numbers("/etc/subgid")?,
        })
    }

    /// What a container's configuration says; `None`: its users are the host's.
    ///
    /// # Errors
    /// When it says more than one range for either.
    pub(super) fn in_configuration(text: &str) -> Result<Option<Self>, Words> {
        let entries: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("lxc.idmap")?.trim_start().strip_prefix('='))
            .collect();
        let numbers = |kind: &str| {
            entries
                .iter()
                .find_map(|entry| match entry.split_whitespace().collect::<Vec<_>>()[..] {
                    [of, "0", first, count] if of == kind => Some(Numbers {
                        first: first.parse().ok()?,
                        count: count.parse().ok()?,
                    }),
                    _ => None,
                })
        };
        match (numbers("u"), numbers("g"), entries.len()) {
            (_, _, 0) => Ok(None),
            (Some(users), Some(groups), 2) => Ok(Some(Self { users, groups })),
            _ => Err("its lxc.idmap has more than one range of users and one of groups".into()),
        }
    }

    /// Gives a container's directory to its root, as LXC does: nobody else may look into it.
    pub(super) fn give_directory(self, directory: &Path) -> io::Result<()> {
        chown(directory, Some(self.users.first), Some(self.groups.first))
    }

    /// Gives a file that the container's root is to own.
    pub(super) fn give_all(self, tree: &Path) -> io::Result<()> {
        // A file of several names is given once.
        let mut given = HashSet::new();
        let mut rest: Vec<PathBuf> = vec![tree.to_owned()];
        while let Some(path) = rest.pop() {
            let of_path = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            let found = fs::symlink_metadata(&path).map_err(of_path)?;
            if found.is_dir() {
                for entry in fs::read_dir(&path).map_err(of_path)? {
                    rest.push(entry.map_err(of_path)?.path());
                }
            } else if found.nlink() > 1 && !given.insert((found.dev(), found.ino())) {
                continue;
            }
            let user = self.users.of(found.uid()).ok_or_else(|| outside("user", found.uid()));
            let group = self.groups.of(found.gid()).ok_or_else(|| outside("group", found.gid()));
            let (user, group) = (user.map_err(of_path)?, group.map_err(of_path)?);
            lchown(&path, Some(user), Some(group)).map_err(of_path)?;
            if found.is_file() && found.mode() & SET_ID != 0 {
                fs::set_permissions(&path, fs::Permissions::from_mode(found.mode())).map_err(of_path)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Idmap {
    /// The lines of LXC's configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, Numbers { first, count }) in [('u', self.users), ('g', self.groups)] {
            writeln!(f, "lxc.idmap = {kind} 0 {first} {count}")?;
        }
        Ok(())
    }
}

impl Numbers {
    /// The host's number for one of the container's.
    fn of(self, inside: u32) -> Option<u32> {
        (inside < self.count).then(|| self.first.checked_add(inside)).flatten()
    }
}

fn outside(what: &str, number: u32) -> io::Error {
    io::Error::other(format!(
        "its {what} {number} is none of those that an unprivileged container has"
    ))
}

/// The first numbers for root in a file of `subuid(5)`.
fn subordinate(text: &str) -> Option<Numbers> {
    let mut entries = text
        .lines()
        .filter_map(|line| line.strip_prefix("root:").or(line.strip_prefix("0:")));
    entries.find_map(|entry| {
        let (first, count) = entry.split_once(':')?;
        Some(Numbers {
            first: first.parse().ok()?,
            count: count.trim().parse().ok()?,
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    const NUMBERS: Numbers = Numbers {
        first: 100_000,
        count: 65_536,
    };

    #[test]
    fn numbers_of_root_are_found() {
        assert_eq!(subordinate("user:1:2\nroot:100000:65536\n"), Some(NUMBERS));
        assert_eq!(subordinate("user:1:2\n"), None);
        assert_eq!((NUMBERS.of(65_535), NUMBERS.of(65_536)), (Some(165_535), None));
    }

    #[test]
    fn a_configuration_says_what_was_written_into_it() {
        let idmap = Idmap {
            users: NUMBERS,
            groups: Numbers { first: 7, count: 1 },
        };
        assert_eq!(
            Idmap::in_configuration(&format!("lxc.uts.name = a\n{idmap}")),
            Ok(Some(idmap))
        );
        assert_eq!(Idmap::in_configuration("lxc.uts.name = a\n"), Ok(None));
        assert!(Idmap::in_configuration(&format!("{idmap}lxc.idmap = u 1000 1000 1\n")).is_err());
    }

    #[test]
    fn a_tree_is_given_as_far_as_there_are_numbers() {
        let tree = tempfile::tempdir().unwrap();
        let (file, link) = (tree.path().join("file"), tree.path().join("link"));
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(&file, tree.path().join("name")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let own = fs::metadata(&file).unwrap();
        // The number of who runs this stays, so that it needs no rights.
        let same = |number: u32| Numbers {
            first: 0,
            count: number + 1,
        };
        let idmap = Idmap {
            users: same(own.uid()),
            groups: same(own.gid()),
        };
        idmap.give_all(tree.path()).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o4755);
        let none = Idmap {
            users: Numbers { first: 1, count: 0 },
            ..idmap
        };
        let error = none.give_all(tree.path()).unwrap_err().to_string();
        assert!(
            error.contains("its user ") && error.contains(tree.path().to_str().unwrap()),
            "{error}"
        );
    }
}
