//! `nonnetd` killed at any moment loses nothing it acknowledged, and a damaged file is refused, not repaired.
//!
//! `NONNET_CRASH_ROUNDS` sets the number of kills, `NONNET_CRASH_BYTES` the number of damaged bytes, `NONNET_TESTS_SEED` repeats a run.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nonnet_tests::program::{self, number_from_environment};
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::{Client, Session};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// Rounds of load and SIGKILL.
const ROUNDS: u64 = 300;

/// Rounds on one database: its log grows, and all of it is verified after each.
const ROUNDS_PER_DATABASE: usize = 20;

/// Damaged bytes, each tried alone.
const DAMAGED_BYTES: u64 = 40;

/// The longest time a loaded server lives.
const DELAY_MS_MAX: u64 = 150;

/// Clients that write at the same time.
const WRITERS: usize = 3;

/// Transactions a writer sends before it waits for the first answer.
const PIPELINED: u64 = 4;

/// Rounds whose rows are kept in the database.
const ROUNDS_KEPT: u64 = 5;

/// Rows with a text that is found in the file.
const CANARIES: usize = 150;

/// A text found in the file wherever one of our rows is stored.
const CANARY: &str = "canary-in-a-row";

fn schema() -> Value {
    json!({"name": "crash", "version": "1.0.0", "tables": {
        "entry": {"isRoot": true, "indexes": [["key"]], "columns": {
            "key": {"type": "string"}, "round": {"type": "integer"}, "payload": {"type": "string"}}},
        "counter": {"isRoot": true, "columns": {"writer": {"type": "integer"}, "value": {"type": "integer"}}}}})
}

/// The seed of this run, printed so that a failure can be repeated.
fn seed() -> u64 {
    let seed = number_from_environment("NONNET_TESTS_SEED", u64::from(std::process::id())).unwrap();
    println!("NONNET_TESTS_SEED={seed}");
    seed
}

/// What one writer knows when its server is gone.
#[derive(Default)]
struct Written {
    sent: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
    refused: Vec<Value>,
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let rounds = number_from_environment("NONNET_CRASH_ROUNDS", ROUNDS).unwrap();
    let mut random = SmallRng::seed_from_u64(seed());
    let mut acknowledged = 0;
    for first in (0..rounds).step_by(ROUNDS_PER_DATABASE) {
        let mut server = server_with_counters();
        let mut counted = [0; WRITERS];
        for round in first..rounds.min(first + ROUNDS_PER_DATABASE as u64) {
            let delay = Duration::from_millis(random.random_range(0..=DELAY_MS_MAX));
            let written = load_and_kill(&mut server, round, delay);
            acknowledged += written.iter().map(|written| written.acknowledged.len()).sum::<usize>();
            verify_file(&server, round);
            server.run().unwrap();
            check_round(&server, round, &written, &mut counted);
        }
    }
    println!("{rounds} rounds, {acknowledged} acknowledged transactions, none lost");
    assert!(acknowledged > 0, "no transaction was acknowledged in {rounds} rounds");
}

fn server_with_counters() -> Server {
    let server = Server::start(Kind::Nonnetd, &schema()).unwrap();
    let counters: Vec<Value> = (0..WRITERS)
        .map(|writer| json!({"op": "insert", "table": "counter", "row": {"writer": writer}}))
        .collect();
    server.connect().unwrap().transact("crash", &counters).unwrap();
    server
}

/// Lets the writers work for a while, kills the server under them, and returns what they know.
fn load_and_kill(server: &mut Server, round: u64, delay: Duration) -> Vec<Written> {
    let (ready, started) = mpsc::channel();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let client = server.connect().unwrap();
            let ready = ready.clone();
            thread::spawn(move || {
                ready.send(()).unwrap();
                write_until_the_end(client, round, writer)
            })
        })
        .collect();
    (0..WRITERS).for_each(|_| started.recv().unwrap());
    thread::sleep(delay);
    server.kill().unwrap();
    writers.into_iter().map(|writer| writer.join().unwrap()).collect()
}

/// Inserts rows and counts them in the same transaction until the connection ends.
fn write_until_the_end(mut client: Client, round: u64, writer: usize) -> Written {
    let mut written = Written::default();
    let mut next = 0;
    let mut answered = 0;
    loop {
        while next < answered + PIPELINED {
            let key = format!("{round}-{writer}-{next}");
            let request = json!({"id": key, "method": "transact", "params": ["crash",
                {"op": "insert", "table": "entry", "row": {"key": key, "round": round, "payload": "p".repeat(50)}},
                {"op": "mutate", "table": "counter", "where": [["writer", "==", writer]], "mutations": [["value", "+=", 1]]}]});
            written.sent.insert(key);
            if client.send(&request.to_string()).is_err() {
                return written;
            }
            next += 1;
        }
        let Ok(reply) = client.receive() else { return written };
        answered += 1;
        if reply["result"][1] == json!({"count": 1}) && reply["result"].as_array().is_some_and(|all| all.len() == 2) {
            written.acknowledged.insert(reply["id"].as_str().unwrap().to_owned());
        } else {
            written.refused.push(reply);
        }
    }
}

/// Compares what is in the database with what the writers know, then removes the rows of old rounds.
fn check_round(server: &Server, round: u64, written: &[Written], counted: &mut [u64; WRITERS]) {
    let mut client = server.connect().unwrap();
    let select =
        json!({"op": "select", "table": "entry", "where": [["round", "==", round]], "columns": ["_uuid", "key"]});
    let counters = json!({"op": "select", "table": "counter", "where": [], "columns": ["writer", "value"]});
    let results = client.transact("crash", &[select, counters]).unwrap();
    let rows = results[0]["rows"].as_array().unwrap();
    let found: BTreeSet<String> = rows.iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(found.len(), rows.len(), "round {round}: a row is there twice");
    for (writer, written) in written.iter().enumerate() {
        assert!(written.refused.is_empty(), "round {round}: {:?}", written.refused);
        let lost: Vec<_> = written.acknowledged.difference(&found).collect();
        assert!(
            lost.is_empty(),
            "round {round}: acknowledged and lost: {lost:?}; stderr: {}",
            server.stderr()
        );
        let prefix = format!("{round}-{writer}-");
        let kept = found.iter().filter(|key| key.starts_with(&prefix)).count() as u64;
        let row = results[1]["rows"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["writer"] == writer)
            .unwrap();
        let value = row["value"].as_u64().unwrap();
        assert_eq!(
            value,
            counted[writer] + kept,
            "round {round}: a transaction was applied in part or twice"
        );
        counted[writer] = value;
        // What was sent in order is kept in order: a prefix, without holes.
        let expected: BTreeSet<String> = (0..kept).map(|number| format!("{prefix}{number}")).collect();
        assert!(
            expected.is_subset(&found) && expected.is_subset(&written.sent),
            "round {round}: a hole among {found:?}"
        );
    }
    if let Some(old) = round.checked_sub(ROUNDS_KEPT) {
        let delete = json!({"op": "delete", "table": "entry", "where": [["round", "<=", old]]});
        client.transact("crash", &[delete]).unwrap();
    }
}

/// The chain in the file is whole, as `nonnet verify` sees it while no server runs.
fn verify_file(server: &Server, round: u64) {
    let nonnet = program::ours("nonnet").unwrap();
    let file = server.file();
    let output = program::run(&nonnet, &["verify".as_ref(), file.as_os_str()], b"").unwrap();
    assert!(
        output.status.success(),
        "round {round}: verify: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_durable_row_survives_when_durability_is_on_request() {
    let mut server = Server::start_with(Kind::Nonnetd, &schema(), &["--durability", "on-request"]).unwrap();
    let mut client = server.connect().unwrap();
    for number in 0..50 {
        let row = json!({"op": "insert", "table": "entry", "row": {"key": number.to_string()}});
        client
            .transact("crash", &[row, json!({"op": "commit", "durable": true})])
            .unwrap();
    }
    server.kill().unwrap();
    verify_file(&server, 0);
    server.run().unwrap();
    let select = json!({"op": "select", "table": "entry", "where": [], "columns": ["key"]});
    let results = server.connect().unwrap().transact("crash", &[select]).unwrap();
    assert_eq!(results[0]["rows"].as_array().unwrap().len(), 50);
}

#[test]
fn a_damaged_byte_is_found_named_and_left_alone() {
    let tries = number_from_environment("NONNET_CRASH_BYTES", DAMAGED_BYTES).unwrap();
    let mut random = SmallRng::seed_from_u64(seed());
    let mut server = server_with_canaries();
    let file = server.file();
    let good = std::fs::read(&file).unwrap();
    let places: Vec<usize> = good
        .windows(CANARY.len())
        .enumerate()
        .filter(|(_, text)| *text == CANARY.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(places.len() >= 100, "only {} rows are found in the file", places.len());
    let mut refused = 0;
    for _ in 0..tries {
        let at = places[random.random_range(0..places.len())] + random.random_range(0..CANARY.len());
        let mut bad = good.clone();
        bad[at] ^= 1 << random.random_range(0..8);
        std::fs::write(&file, &bad).unwrap();
        if let Err(error) = server.run() {
            check_refusal(&server, at, &format!("{error:#}"), &bad);
            refused += 1;
        } else {
            // The byte was in space that the file no longer uses: then everything is served as it was.
            check_canaries(&server, at);
            assert_eq!(server.stop().unwrap(), Some(0));
        }
    }
    println!("{tries} bytes damaged, {refused} starts refused");
    assert!(
        refused * 2 > tries,
        "only {refused} of {tries} damaged files were refused"
    );
    std::fs::write(&file, &good).unwrap();
    server.run().unwrap();
    check_canaries(&server, 0);
}

/// The server said what is damaged and touched nothing.
fn check_refusal(server: &Server, at: usize, said: &str, bad: &[u8]) {
    let names = ["record", "row", "hash", "page", "sequence", "leaf", "malformed"];
    assert!(
        names.iter().any(|name| said.contains(name)),
        "byte {at}: it does not say what is damaged: {said}"
    );
    let file = server.file();
    assert!(std::fs::read(&file).unwrap() == bad, "byte {at}: the file was changed");
    // `nonnet verify` reads the log: what is damaged there it finds as well.
    if said.lines().last().is_some_and(|line| line.contains("record")) {
        let nonnet = program::ours("nonnet").unwrap();
        let verified = program::run(&nonnet, &["verify".as_ref(), file.as_os_str()], b"").unwrap();
        assert!(
            !verified.status.success(),
            "byte {at}: verify found nothing, the server said: {said}"
        );
    }
}

fn check_canaries(server: &Server, at: usize) {
    let select = json!({"op": "select", "table": "entry", "where": [], "columns": ["key", "payload"]});
    let results = server.connect().unwrap().transact("crash", &[select]).unwrap();
    let rows = results[0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), CANARIES, "byte {at}: rows are missing");
    for row in rows {
        let expected = format!("{CANARY}-{}", row["key"].as_str().unwrap());
        assert_eq!(row["payload"], expected, "byte {at}: a damaged row is served");
    }
}

/// A server that was stopped cleanly, with rows whose text is found in the file.
fn server_with_canaries() -> Server {
    let mut server = Server::start(Kind::Nonnetd, &schema()).unwrap();
    let mut client = server.connect().unwrap();
    for number in 0..CANARIES {
        let row = json!({"key": number.to_string(), "payload": format!("{CANARY}-{number}")});
        client
            .transact("crash", &[json!({"op": "insert", "table": "entry", "row": row})])
            .unwrap();
    }
    assert_eq!(server.stop().unwrap(), Some(0), "{}", server.stderr());
    server
}

#[test]
fn a_truncated_file_is_refused() {
    let mut server = server_with_canaries();
    let file = server.file();
    let good = std::fs::read(&file).unwrap();
    for part in [1, 2, 3] {
        let bad = &good[..good.len() * part / 4];
        std::fs::write(&file, bad).unwrap();
        assert_ne!(server.run_to_end().unwrap(), Some(0), "{part}/4 of the file was served");
        assert!(std::fs::read(&file).unwrap() == bad, "{part}/4 of the file was changed");
    }
}
