//! Processes that are killed: what they acknowledged is there, and the chain is whole.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]
#![allow(unreachable_pub, missing_docs)]

mod fixture;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fixture::Model;
use nonnet_schema::{TableIndex, Uuid};
use nonnet_store::{Log, Opened, Reader, Scope, open};

const CHILD_FILE: &str = "NONNET_STORE_CHILD";
const CHILD_RECORDS: &str = "NONNET_STORE_CHILD_RECORDS";

/// The child of the other tests: inserts rows until it is killed, and prints each record that is acknowledged.
#[test]
fn child() {
    let Ok(path) = std::env::var(CHILD_FILE) else { return };
    let mut opened = open(Path::new(&path)).unwrap();
    let mut model = Model::after(opened.chain);
    for _ in 0..std::env::var(CHILD_RECORDS).unwrap().parse::<u64>().unwrap() {
        let expected = model.chain.head();
        let uuid = Uuid::from_u128(u128::from(expected.seq) << 64 | 1);
        let row = model.row(TableIndex(0), uuid);
        let record = model.record(vec![(TableIndex(0), uuid, Some(row))]);
        let head = opened
            .log
            .append(&[record], expected, expected.seq.is_multiple_of(2))
            .unwrap();
        println!("acknowledged {}", head.seq);
        if head.seq.is_multiple_of(7) {
            opened.log.maintain(true).unwrap();
        }
    }
}

/// Starts the child, under `wrapper` where that is not empty; it ends by itself after `records`.
fn spawn(path: &Path, wrapper: &[&str], records: u64) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(&program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(&program);
            command
        }
    };
    command
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD_FILE, path)
        .env(CHILD_RECORDS, records.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Reads what the child says until it ends; kills it after `count` records where that is some. Gives the last record that it acknowledged.
fn follow(mut child: Child, count: Option<usize>) -> u64 {
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let numbers = lines.filter_map(|line| line.rsplit_once("acknowledged ")?.1.parse::<u64>().ok());
    let mut last = 0;
    for (at, number) in numbers.enumerate() {
        last = number;
        if Some(at) == count {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    last
}

/// Opens what a killed child left: record n inserted row n.
fn assert_whole(path: &Path, acknowledged: u64, why: &str) {
    let Opened { chain, rows, log, .. } = open(path).unwrap();
    assert!(chain.head().seq >= acknowledged, "{why}: record {acknowledged} is lost");
    assert_eq!(rows.len() as u64, chain.head().seq, "{why}");
    drop(log);
    assert_eq!(
        Reader::open(path)
            .unwrap()
            .verify(&Scope::default(), |_| ())
            .unwrap()
            .verifier
            .head(),
        Some(chain.head()),
        "{why}"
    );
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    Model::create(&path);
    for round in 0..20 {
        let acknowledged = follow(spawn(&path, &[], 10_000), Some(5 + round * 3));
        assert!(acknowledged > 0);
        assert_whole(&path, acknowledged, &format!("round {round}"));
    }
}

#[test]
fn each_system_call_may_be_the_last() {
    let strace = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    assert!(strace.is_ok(), "strace is missing: tests/run installs it");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    Model::create(&path);
    let mut rounds = 0;
    for call in ["pwrite64", "fdatasync", "fsync", "unlink", "ftruncate"] {
        for fault in ["signal=KILL", "error=EIO"] {
            for when in [1, 2, 3, 5, 9, 20, 33] {
                let inject = format!("inject={call}:{fault}:when={when}");
                let trace = format!("trace={call}");
                let wrapper = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
                let acknowledged = follow(spawn(&path, &wrapper, 40), None);
                assert_whole(&path, acknowledged, &inject);
                rounds += 1;
            }
        }
    }
    eprintln!("{rounds} processes ended at a system call of our choice");
}
