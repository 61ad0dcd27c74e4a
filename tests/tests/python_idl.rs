//! The Python IDL of the package `ovs`, unmodified: what it sees on `nonnetd` is what it sees on `ovsdb-server`.
//!
//! That a replica on `nonnetd` is resumed, not read anew, after a reconnect or restart is shown in `monitor_since.rs`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use nonnet_tests::case;
use nonnet_tests::program;
use nonnet_tests::server::{Kind, Server};

/// A script that ends with this value.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Python with the pinned `ovs`, in the virtual environment that tests/run makes.
fn python() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let python = test.ancestors().nth(3).unwrap().join("venv/bin/python");
    assert!(python.is_file(), "{} is missing: tests/run makes it", python.display());
    python
}

/// Runs a script on a new server, which is killed and started again wherever the script asks for it. Gives what it printed.
fn play(kind: Kind, name: &str) -> Vec<String> {
    let mut server = Server::start(kind, &case::schema("things").unwrap()).unwrap();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python").join(name);
    let mut command = program::tied(&python()).unwrap();
    command.args([
        script.as_os_str(),
        server.remote().as_ref(),
        server.schema_path().as_os_str(),
    ]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = Script(command.spawn().unwrap());
    let mut input = script.0.stdin.take().unwrap();
    let mut printed = Vec::new();
    for line in BufReader::new(script.0.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "restart" {
            server.kill().unwrap();
            server.run().unwrap();
            input.write_all(b"\n").unwrap();
        }
        printed.push(line);
    }
    let status = script.0.wait().unwrap();
    assert!(status.success(), "{kind:?}: {status} after {printed:#?}");
    printed
}

fn compare(name: &str) {
    let ours = play(Kind::Nonnetd, name);
    assert!(!ours.is_empty(), "{name} printed nothing");
    assert_eq!(ours, play(Kind::Reference, name));
}

#[test]
fn rows_are_inserted_modified_verified_and_deleted() {
    compare("idl_session.py");
}

#[test]
fn conditions_and_locks_outlast_reconnects_and_restarts() {
    compare("idl_conditions.py");
}
