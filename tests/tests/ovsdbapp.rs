//! ovsdbapp's own functional tests, unchanged: they start `ovsdb-server` and `ovsdb-tool` from PATH, with ovs-vswitchd, ovn-northd and
//! ovn-controller as clients. Whatever passes with Debian's programs passes with ours, but for one.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::{Duration, Instant};

use nonnet_tests::names::Names;
use nonnet_tests::program;

/// How long all of them may take; alone on two cores it is half a minute.
const TIMEOUT: Duration = Duration::from_mins(10);

/// As many pass on Debian 12; fewer would mean that they no longer find their peers.
const PASSED_MIN: usize = 440;

/// It waits to be told again, after a reconnection, of rows that it knows: a client of ovsdb-server is sent everything anew, one of nonnetd
/// only what has changed meanwhile, which is nothing.
const RESUMED: &str =
    "ovsdbapp.tests.functional.backend.ovs_idl.test_connection.TestConnectionReconnect.test_force_reconnect";

/// Runs the tests; gives the outcome of each, and what those that failed said.
fn run(names: Option<&Names>) -> (BTreeMap<String, String>, String) {
    let test = std::env::current_exe().unwrap();
    let python = test.ancestors().nth(3).unwrap().join("venv/bin/python");
    let script = program::repository().join("tests/python/ovsdbapp_functional.py");
    let directory = tempfile::Builder::new().prefix("nonnet-ovsdbapp-").tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut command = program::tied(&python).unwrap();
    command
        .arg(script)
        .env("TMPDIR", directory.path())
        .current_dir(directory.path());
    if let Some(names) = names {
        command.env("PATH", names.search_path());
    }
    command
        .stdout(File::create(path("out")).unwrap())
        .stderr(File::create(path("err")).unwrap());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + TIMEOUT;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "ovsdbapp's tests do not end");
        std::thread::sleep(program::POLL_INTERVAL);
    }
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    let printed = read("out");
    let outcomes = printed.lines().filter_map(|line| {
        let (outcome, name) = line.split_once(' ')?;
        Some((name.to_owned(), outcome.to_owned()))
    });
    let outcomes = outcomes.collect();
    (outcomes, read("err"))
}

#[test]
fn what_passes_with_the_real_programs_passes_with_ours() {
    let names = Names::make().unwrap();
    let ((theirs, _), (ours, said)) = (run(None), run(Some(&names)));
    let passed: Vec<&String> = theirs
        .iter()
        .filter(|(_, outcome)| *outcome == "passed")
        .map(|(name, _)| name)
        .collect();
    assert!(
        passed.len() >= PASSED_MIN,
        "only {} pass with ovsdb-server",
        passed.len()
    );
    let failed: Vec<&&String> = passed
        .iter()
        .filter(|name| name.as_str() != RESUMED && ours.get(**name).map(String::as_str) != Some("passed"))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}\n{said}");
}
