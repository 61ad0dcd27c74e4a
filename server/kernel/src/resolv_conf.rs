//! Writes `resolv.conf` for namespaces, and gives back what was there before.
//!
//! Takes a place (the directory of a named namespace, or the root of a process) and a text. Inside a process's root every path is resolved as that process
//! would (`openat2`, `RESOLVE_IN_ROOT`), so that its symbolic links never lead to the host's files; what is at the file's name is never
//! followed but replaced, by a rename. What was there is kept beside it until it is given back.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use ecow::{EcoString, eco_format};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use nonnet_hooks::plan::Refusal;
use nonnet_hooks::resolv_conf::owner_of;
use nonnet_hooks::want::Mark;

use crate::limits::RESOLV_CONF_BYTES_MAX;
use crate::netns::has_ended;

/// Where `ip netns exec` finds what is a named namespace's own.
pub(crate) const NETNS_DIRECTORY: &str = "/etc/netns";

const FILE: &str = "resolv.conf";
/// The new text, until it takes the file's place.
const FRESH: &str = ".resolv.conf.nonnet-new";
/// What was there before.
const FORMER: &str = ".resolv.conf.nonnet-former";

/// Where a namespace's `resolv.conf` is.
#[derive(Debug)]
pub(crate) enum Place {
    /// That of a namespace of this name.
    Named(EcoString),
    /// That below the root of a process, which is held so that its number cannot be another's.
    Process(u32, Option<OwnedFd>),
    /// That below the root of a container of this id which does not run.
    Root(EcoString, PathBuf),
}

/// What is at the file's name.
enum Content {
    /// Nothing.
    Nothing,
    /// A text of ours.
    Ours(EcoString),
    /// Something else.
    Other,
}

/// The text of ours that is there, if there is one.
pub(crate) fn read(place: &Place, mark: Mark) -> Result<Option<EcoString>, Refusal> {
    let directory = match place.directory(false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| place.refusal(&error))?,
    };
    match content(&directory, mark).map_err(|error| place.refusal(&error))? {
        Content::Ours(text) => Ok(Some(text)),
        Content::Nothing | Content::Other => Ok(None),
    }
}

/// Writes a text of ours; what somebody else wrote is kept.
pub(crate) fn write(place: &Place, text: &str, mark: Mark) -> Result<(), Refusal> {
    place
        .directory(true)
        .and_then(|directory| write_in(&directory, text, mark))
        .map_err(|error| place.refusal(&error))
}

/// Gives back what was there before, unless somebody else has written since.
pub(crate) fn give_back(place: &Place, mark: Mark) -> Result<(), Refusal> {
    let given = match place.directory(false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(directory) => give_back_in(&directory, mark),
    };
    given.map_err(|error| place.refusal(&error))?;
    if let Place::Named(name) = place {
        // A directory without anything in it says nothing; one that is not empty stays.
        let _ = std::fs::remove_dir(PathBuf::from(NETNS_DIRECTORY).join(name.as_str()));
        let _ = std::fs::remove_dir(NETNS_DIRECTORY);
    }
    Ok(())
}

fn write_in(directory: &OwnedFd, text: &str, mark: Mark) -> io::Result<()> {
    match content(directory, mark)? {
        Content::Ours(now) if now == text => return Ok(()),
        Content::Other => match linkat(directory, FILE, directory, FORMER, AtFlags::empty()) {
            // What is there since then is somebody else's change of ours; what was there first is what will be given back.
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        },
        Content::Ours(_) | Content::Nothing => {}
    }
    let new = || {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(directory, FRESH, flags, Mode::from_bits_truncate(0o644))
    };
    let file = match new() {
        Err(Errno::EEXIST) => {
            // The rest of a write that did not come to its end.
            unlinkat(directory, FRESH, UnlinkatFlags::NoRemoveDir)?;
            new()?
        }
        other => other?,
    };
    // Whatever the server's umask is, everybody inside reads it.
    fchmod(&file, Mode::from_bits_truncate(0o644))?;
    let mut file = File::from(file);
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
    let renamed = written.and_then(|()| Ok(renameat(directory, FRESH, directory, FILE)?));
    if renamed.is_err() {
        let _ = unlinkat(directory, FRESH, UnlinkatFlags::NoRemoveDir);
    }
    renamed
}

fn give_back_in(directory: &OwnedFd, mark: Mark) -> io::Result<()> {
    let ours = matches!(content(directory, mark)?, Content::Ours(_));
    let back = if ours {
        match renameat(directory, FORMER, directory, FILE) {
            Err(Errno::ENOENT) => unlinkat(directory, FILE, UnlinkatFlags::NoRemoveDir),
            other => other,
        }
    } else {
        unlinkat(directory, FORMER, UnlinkatFlags::NoRemoveDir)
    };
    match back {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn content(directory: &OwnedFd, mark: Mark) -> io::Result<Content> {
    // Neither a symbolic link is followed nor a writer of a pipe waited for.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(directory, FILE, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(Content::Nothing),
        Err(Errno::ELOOP | Errno::ENXIO) => return Ok(Content::Other),
        other => File::from(other?),
    };
    if !file.metadata()?.is_file() {
        return Ok(Content::Other);
    }
    let mut bytes = Vec::new();
    file.take(RESOLV_CONF_BYTES_MAX).read_to_end(&mut bytes)?;
    match String::from_utf8(bytes) {
        Ok(text) if owner_of(&text, mark).is_some() => Ok(Content::Ours(text.into())),
        _ => Ok(Content::Other),
    }
}

impl Place {
    /// The directory that the file is in, made where it is missing and `make` says so.
    fn directory(&self, make: bool) -> io::Result<OwnedFd> {
        match self {
            Self::Named(name) => {
                if make {
                    match std::fs::create_dir(NETNS_DIRECTORY) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                        _ => {}
                    }
                }
                let all = File::open(NETNS_DIRECTORY)?;
                // One that leads elsewhere, such as to /etc itself, is not the namespace's own.
                inside(&all, name, ResolveFlag::RESOLVE_NO_SYMLINKS, make)
            }
            Self::Root(_, root) => below(&File::open(root)?, make),
            Self::Process(pid, process) => {
                let root = File::open(format!("/proc/{pid}/root"))?;
                if process.as_ref().is_some_and(has_ended) {
                    return Err(io::Error::from(io::ErrorKind::NotFound));
                }
                let (there, here) = (root.metadata()?, std::fs::metadata("/")?);
                if (there.dev(), there.ino()) == (here.dev(), here.ino()) {
                    return Err(io::Error::other(
                        "it has no root directory of its own (dns:resolv_conf=false leaves the file alone)",
                    ));
                }
                below(&root, make)
            }
        }
    }

    fn refusal(&self, error: &io::Error) -> Refusal {
        let file = match self {
            Self::Named(name) => eco_format!("{NETNS_DIRECTORY}/{name}/{FILE}"),
            Self::Process(pid, _) => eco_format!("/etc/{FILE} of process {pid}"),
            Self::Root(id, _) => eco_format!("/etc/{FILE} of container {id}"),
        };
        Refusal {
            errno: 0,
            text: eco_format!("{file}: {error}"),
        }
    }
}

/// The directory below a root directory, as who has that root would find it.
fn below(root: &File, make: bool) -> io::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    inside(root, "etc", resolve, make)
}

fn inside(parent: impl AsFd, name: &str, resolve: ResolveFlag, make: bool) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(resolve);
    match openat2(&parent, name, how) {
        Err(Errno::ENOENT) if make => {
            mkdirat(&parent, name, Mode::from_bits_truncate(0o755))?;
            Ok(openat2(&parent, name, how)?)
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn mark() -> Mark {
        Mark::of(b"test")
    }

    fn text() -> String {
        let mark = mark().row_mark();
        format!("# nonnet:ports/00000000-0000-0000-0000-000000000001 {mark}\nnameserver 10.0.0.1\n")
    }

    /// What a process would see whose root is `root`.
    fn etc(root: &Path) -> io::Result<OwnedFd> {
        below(&File::open(root)?, true)
    }

    struct Trap {
        directory: tempfile::TempDir,
    }

    /// A root, and outside of it a file of the host's that must stay as it is.
    fn trap() -> Trap {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::create_dir(directory.path().join("host")).unwrap();
        fs::write(directory.path().join("host/resolv.conf"), "the host's").unwrap();
        Trap { directory }
    }

    impl Trap {
        fn root(&self) -> PathBuf {
            self.directory.path().join("root")
        }

        fn host(&self) -> PathBuf {
            self.directory.path().join("host")
        }

        fn write(&self) -> io::Result<()> {
            write_in(&etc(&self.root())?, &text(), mark())
        }

        fn assert_host_is_whole(&self) {
            let entries: Vec<_> = fs::read_dir(self.host()).unwrap().flatten().collect();
            assert_eq!(entries.len(), 1);
            assert_eq!(fs::read_to_string(self.host().join(FILE)).unwrap(), "the host's");
        }
    }

    #[test]
    fn link_at_the_files_name_is_replaced_and_given_back() {
        let trap = trap();
        fs::create_dir(trap.root().join("etc")).unwrap();
        let file = trap.root().join("etc/resolv.conf");
        for target in [
            trap.host().join(FILE).to_str().unwrap(),
            "../../host/resolv.conf",
            "nowhere",
            FILE,
        ] {
            symlink(target, &file).unwrap();
            trap.write().unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text());
            assert!(!fs::symlink_metadata(&file).unwrap().is_symlink());
            trap.assert_host_is_whole();
            give_back_in(&etc(&trap.root()).unwrap(), mark()).unwrap();
            assert_eq!(fs::read_link(&file).unwrap(), Path::new(target));
            fs::remove_file(&file).unwrap();
        }
        assert_eq!(fs::read_dir(trap.root().join("etc")).unwrap().count(), 0);
    }

    #[test]
    fn directory_that_leads_out_of_the_root_leads_nowhere() {
        for (target, works) in [
            ("/inside", true),
            ("../../host", false),
            ("etc", false),
            ("/proc/self/cwd", false),
        ] {
            let trap = trap();
            fs::create_dir(trap.root().join("inside")).unwrap();
            symlink(target, trap.root().join("etc")).unwrap();
            assert_eq!(trap.write().is_ok(), works, "{target}");
            assert_eq!(trap.root().join("inside/resolv.conf").exists(), works, "{target}");
            trap.assert_host_is_whole();
        }
        let trap = trap();
        symlink(trap.host(), trap.root().join("etc")).unwrap();
        trap.write().unwrap_err();
        trap.assert_host_is_whole();
    }

    #[test]
    fn what_somebody_else_wrote_since_stays() {
        let trap = trap();
        trap.write().unwrap();
        let file = trap.root().join("etc/resolv.conf");
        assert_eq!(fs::read_to_string(&file).unwrap(), text(), "the directory was made");
        fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
        give_back_in(&etc(&trap.root()).unwrap(), mark()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "nameserver 192.0.2.1\n");
        trap.write().unwrap();
        give_back_in(&etc(&trap.root()).unwrap(), mark()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "nameserver 192.0.2.1\n");
    }

    #[test]
    fn what_is_no_file_is_an_error_and_stays() {
        let trap = trap();
        fs::create_dir_all(trap.root().join("etc/resolv.conf")).unwrap();
        trap.write().unwrap_err();
        assert!(trap.root().join("etc/resolv.conf").is_dir());
        assert!(!trap.root().join("etc").join(FRESH).exists());
    }
}
