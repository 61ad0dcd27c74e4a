//! A network namespace of the bench's own, with named namespaces in it that nobody else sees.
//!
//! All of it belongs to one thread: a mount namespace in which `/run` is empty and private, so that the names under `/run/netns` exist
//! for this thread and the processes it starts only. When they have ended, the kernel removes everything; nothing on the machine was
//! changed.

use std::fs::{self, File};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Where `ip netns` and nonnetd look for named namespaces.
const NAMES: &str = "/run/netns";

/// Runs `work` on a thread in namespaces of its own, with an empty `/run`.
///
/// # Errors
/// Without the right to make namespaces (root has it), and what `work` fails with.
pub fn run_inside<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            enter()?;
            work()
        });
        inside
            .join()
            .map_err(|_| anyhow!("the thread in the namespace panicked"))?
    })
}

/// Makes a named network namespace; for threads inside [`run_inside`].
pub fn add(name: &str) -> Result<()> {
    let path = Path::new(NAMES).join(name);
    File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let made = thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                mount(
                    Some("/proc/thread-self/ns/net"),
                    &path,
                    None::<&str>,
                    MsFlags::MS_BIND,
                    None::<&str>,
                )
            })
            .join()
    });
    made.map_err(|_| anyhow!("the thread that makes a namespace panicked"))?
        .with_context(|| format!("make the network namespace {name}"))
}

/// How many links the calling thread's network namespace has.
pub fn count_links() -> Result<usize> {
    let devices = fs::read_to_string("/proc/thread-self/net/dev").context("read the list of links")?;
    Ok(devices.lines().filter(|line| line.contains(':')).count())
}

fn enter() -> Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context("make a namespace for the containers: run the bench as root, or with `--skip containers`")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).context("make mounts private")?;
    mount(Some("bench"), "/run", Some("tmpfs"), MsFlags::empty(), NONE).context("mount an empty /run")?;
    fs::create_dir(NAMES).context("create a directory for names of namespaces")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn named_namespaces_are_seen_inside_only() {
        const NAME: &str = "nonnet-bench-test";
        let links = run_inside(|| {
            add(NAME)?;
            assert!(Path::new(NAMES).join(NAME).exists());
            count_links()
        });
        assert_eq!(links.unwrap(), 1, "lo and nothing else");
        assert!(!Path::new(NAMES).join(NAME).exists());
    }
}
