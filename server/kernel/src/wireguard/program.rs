//! wireguard-go: the program that does what a kernel without `WireGuard` lacks, one process per link.
//!
//! A device is made and marked, and then given to it: the device goes when the process ends, and the process when the device goes,
//! so that none of them is ever left behind. Where the process runs, its UDP socket stays, wherever the device is moved. It belongs to nobody's
//! terminal and writes to nobody, so that it outlives this server.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ecow::{EcoString, eco_format};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nonnet_hooks::plan::LinkChange;

use crate::limits::{WIREGUARD_END_PATIENCE, WIREGUARD_START_PATIENCE, WIREGUARD_WORDS_BYTES};
use crate::message;
use crate::process::{self, Job};
use crate::runner::link_in;
use crate::tap::Fresh;
use crate::wire::Wire;

/// The program.
const PROGRAM: &str = "wireguard-go";

/// Where its sockets are, by which `wg` reaches it: one directory for all of a mount namespace.
const SOCKETS: &str = "/var/run/wireguard";

/// Between looks at whether it answers.
const INTERVAL: Duration = Duration::from_millis(2);

/// The last release that expects a header before each packet, by its day: the next one, of 2025, has none.
const LAST_HEADED: u32 = 20_230_223;

/// Makes a device of that name and group in the namespace of the calling thread, starts the program on it, and waits until it answers.
pub(super) fn start(name: &str, group: u32) -> Result<Child, EcoString> {
    let from = Instant::now();
    // That of the device's former life may be about to end.
    while answers(name) {
        if from.elapsed() > WIREGUARD_END_PATIENCE {
            return Err(eco_format!("another program answers at {SOCKETS}/{name}.sock already"));
        }
        thread::sleep(INTERVAL);
    }
    let cannot = |error: io::Error| eco_format!("{PROGRAM} cannot be run: {error}");
    let device = device(name, group, version()?.is_some_and(|day| day <= LAST_HEADED))?;
    let (words, theirs) = words().map_err(cannot)?;
    let mut child = Command::new(PROGRAM)
        .arg(name)
        .env_clear()
        .env("PATH", process::search_path())
        .env("LOG_LEVEL", "error")
        .env("WG_PROCESS_FOREGROUND", "1")
        .env("WG_TUN_FD", "0")
        .stdin(device.into_file())
        .stdout(Stdio::null())
        .stderr(theirs)
        .current_dir("/")
        .process_group(0)
        .spawn()
        .map_err(cannot)?;
    let from = Instant::now();
    loop {
        let ended = child.try_wait().map_err(cannot)?;
        if let Some(status) = ended {
            return Err(eco_format!("{PROGRAM} ended at its start ({status}){}", said(words)));
        }
        if answers(name) {
            return Ok(child);
        }
        if from.elapsed() > WIREGUARD_START_PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            let seconds = WIREGUARD_START_PATIENCE.as_secs();
            return Err(eco_format!(
                "{PROGRAM} did not answer within {seconds} s{}",
                said(words)
            ));
        }
        thread::sleep(INTERVAL);
    }
}

/// The day of the release, if it says so: `wireguard-go v0.0.20220316`.
fn version() -> Result<Option<u32>, EcoString> {
    let printed = Job::new(PROGRAM, WIREGUARD_START_PATIENCE).arg("--version").run();
    let printed = printed.map_err(|error| {
        let hint = if error.is_missing() {
            "; options:userspace needs it on this host"
        } else {
            ""
        };
        eco_format!("{error}{hint}")
    })?;
    let day = printed
        .output
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v0.0."));
    Ok(day.and_then(|day| day.get(..8)?.parse().ok()))
}

/// A device that carries the group before anybody else can have it.
fn device(name: &str, group: u32, headed: bool) -> Result<Fresh, EcoString> {
    let device = Fresh::tun(name, headed).map_err(|error| eco_format!("{error}"))?;
    let set = LinkChange {
        group: Some(group),
        ..LinkChange::default()
    };
    let marked = Wire::open().and_then(|mut wire| {
        let found = wire.call_one(message::link_get(name))?;
        let index = found
            .ok()
            .and_then(|messages| link_in(&messages))
            .map_or(0, |link| link.index);
        wire.call_one(message::link_set(index, &set, None, false))
    });
    match marked {
        Ok(Ok(_)) => Ok(device),
        Ok(Err(refused)) => Err(eco_format!("{refused}")),
        Err(error) => Err(eco_format!("{error}")),
    }
}

fn answers(name: &str) -> bool {
    UnixStream::connect(format!("{SOCKETS}/{name}.sock")).is_ok()
}

/// A piece of memory that it can say a few words into, for as long as it lives: it never grows, and nobody has to read it.
fn words() -> io::Result<(File, File)> {
    let memory = memfd_create(c"wireguard-go", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let memory = File::from(memory);
    memory.set_len(WIREGUARD_WORDS_BYTES)?;
    let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(memory.as_fd(), FcntlArg::F_ADD_SEALS(seals))?;
    Ok((memory.try_clone()?, memory))
}

fn said(mut words: File) -> EcoString {
    let mut text = Vec::new();
    let _ = words.rewind().and_then(|()| words.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let mut lines = text
        .trim_matches(['\0', '\n'])
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    match lines.next_back() {
        Some(line) => eco_format!(": {}", line.trim_matches('\0')),
        None => EcoString::new(),
    }
}
