//! Damaged files: whatever byte is wrong, it is found or makes no difference, and nothing is changed.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]
#![allow(unreachable_pub, missing_docs)]

mod fixture;

use std::path::{Path, PathBuf};

use fixture::{Model, bytes_of, materialise, rows_of};
use nonnet_store::{OpenError, open};

/// Copies the files of a database, so that each fault meets whole ones.
fn copy(from: &Path, to: &Path) {
    for suffix in ["", "-wal", "-shm", ".head"] {
        let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        let _ = std::fs::remove_file(name(to));
        if name(from).exists() {
            std::fs::copy(name(from), name(to)).unwrap();
        }
    }
}

/// Damages the file ending in `suffix` in many places; gives how often that was found.
fn damage_everywhere(model: &mut Model, whole: &Path, suffix: &str, rounds: usize) -> usize {
    let victim = whole.with_file_name("victim.db");
    let target = PathBuf::from(format!("{}{suffix}", victim.display()));
    let length = std::fs::metadata(format!("{}{suffix}", whole.display())).unwrap().len();
    let mut found = 0;
    for round in 0..rounds {
        copy(whole, &victim);
        let mut bytes = std::fs::read(&target).unwrap();
        let at = model.random(length) as usize;
        if round % 8 == 7 {
            let page = at / 4096 * 4096;
            let end = bytes.len().min(page + 4096);
            bytes[page..end].fill(0);
        } else {
            bytes[at] ^= 1 << model.random(8);
        }
        std::fs::write(&target, bytes).unwrap();
        let before = bytes_of(&victim);
        match open(&victim) {
            Ok(opened) => {
                assert_eq!(opened.chain.head(), model.chain.head(), "round {round}, byte {at}");
                assert!(
                    rows_of(&opened) == model.persistent(),
                    "round {round}, byte {at}: wrong rows served"
                );
            }
            Err(error) => {
                found += 1;
                assert!(
                    bytes_of(&victim) == before,
                    "round {round}, byte {at}: {error}: files changed"
                );
                let is_named = matches!(
                    error,
                    OpenError::Damaged { .. } | OpenError::NotOurs { .. } | OpenError::TooNew { .. }
                );
                assert!(is_named, "round {round}, byte {at}: {error}");
            }
        }
    }
    found
}

#[test]
fn damage_to_the_file_is_found_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("whole.db");
    let mut model = Model::create(&path);
    let mut log = open(&path).unwrap().log;
    model.append(&mut log, 150);
    materialise(&mut log);
    drop(log);
    let found = damage_everywhere(&mut model, &path, "", 500);
    eprintln!("{found} of 500 faults in the file were found, the others made no difference");
    assert!(found > 300, "{found}");
}

#[test]
fn damage_to_the_write_ahead_log_is_found_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("whole.db");
    let mut model = Model::create(&path);
    let mut log = open(&path).unwrap().log;
    model.append(&mut log, 60);
    materialise(&mut log);
    model.append(&mut log, 60);
    // As after kill -9: the files as they are while the log is open.
    let killed = directory.path().join("killed.db");
    copy(&path, &killed);
    let found = damage_everywhere(&mut model, &killed, "-wal", 300);
    eprintln!("{found} of 300 faults in the write-ahead log were found, the others made no difference");
    assert!(found > 250, "{found}");
}

#[test]
fn damage_to_a_partly_moved_write_ahead_log_is_found_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("whole.db");
    let mut model = Model::create(&path);
    let mut log = open(&path).unwrap().log;
    model.append(&mut log, 60);
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM log").unwrap();
    model.append(&mut log, 60);
    reader
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))
        .unwrap_or_default();
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))
        .unwrap();
    materialise(&mut log);
    let killed = directory.path().join("killed.db");
    copy(&path, &killed);
    let found = damage_everywhere(&mut model, &killed, "-wal", 200);
    eprintln!("{found} of 200 faults in a partly moved write-ahead log were found");
    assert!(found > 100, "{found}");
}

#[test]
fn a_removed_write_ahead_log_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("whole.db");
    let mut model = Model::create(&path);
    let mut log = open(&path).unwrap().log;
    model.append(&mut log, 10);
    let killed = directory.path().join("killed.db");
    copy(&path, &killed);
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", killed.display())).unwrap();
    }
    let error = open(&killed).unwrap_err().to_string();
    assert!(error.contains("record 10 was acknowledged"), "{error}");
}

#[test]
fn damage_to_the_head_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("whole.db");
    let mut model = Model::create(&path);
    let mut log = open(&path).unwrap().log;
    model.append(&mut log, 3);
    drop(log);
    assert_eq!(damage_everywhere(&mut model, &path, ".head", 100), 100);
}
