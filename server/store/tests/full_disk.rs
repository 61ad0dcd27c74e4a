//! A full disk: what found no room is not there, what was acknowledged is, and it goes on by itself.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]
#![allow(unreachable_pub, missing_docs)]

mod fixture;

use std::path::Path;

use fixture::Model;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nonnet_store::{AppendError, Log, Reader, Scope, open};

/// Runs `test` on a file system of `size` that only this thread sees and that goes with it.
fn on_small_disk(size: &'static str, test: fn(&Path)) {
    let thread = std::thread::spawn(move || {
        let unshared = unshare(CloneFlags::CLONE_NEWNS);
        assert!(unshared.is_ok(), "making a file system needs root");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let directory = tempfile::tempdir().unwrap();
        mount(
            Some("tmpfs"),
            directory.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(format!("size={size}").as_str()),
        )
        .unwrap();
        test(directory.path());
        nix::mount::umount2(directory.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    });
    thread.join().unwrap();
}

/// Appends until there is no room; gives how many appends were acknowledged.
fn append_until_full(model: &mut Model, log: &mut dyn Log) -> u64 {
    for count in 0..100_000 {
        let before = (model.chain.clone(), model.rows.clone());
        let record = model.next();
        match log.append(&[record], before.0.head(), true) {
            Ok(_) if count % 16 == 15 => match log.maintain(true) {
                Ok(_) | Err(AppendError::Full { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            Ok(_) => {}
            Err(AppendError::Full { .. }) => {
                (model.chain, model.rows) = before;
                return count;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the disk never filled up");
}

#[test]
fn a_full_disk_is_survived() {
    on_small_disk("1m", |directory| {
        let path = directory.join("a.db");
        let ballast = directory.join("ballast");
        let mut model = Model::create(&path);
        std::fs::write(&ballast, vec![1; 300 * 1024]).unwrap();
        let mut log = open(&path).unwrap().log;
        let first = append_until_full(&mut model, &mut log);
        assert_eq!(log.head(), model.chain.head());
        std::fs::remove_file(&ballast).unwrap();
        let second = append_until_full(&mut model, &mut log);
        eprintln!("{first} appends on the small disk, {second} more after room was made");
        assert!(first > 10 && second > 10);
        Reader::open(&path).unwrap().verify(&Scope::default(), |_| ()).unwrap();
        drop(log);
        let opened = open(&path).unwrap();
        model.assert_same(&opened);
    });
}
