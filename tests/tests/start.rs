//! Starting and stopping `nonnetd`: defaults, signals, and the refusals with their words.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nonnet_tests::case;
use nonnet_tests::program::{self, POLL_INTERVAL};
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::Client;
use serde_json::json;

fn start() -> Server {
    Server::start(Kind::Nonnetd, &case::schema("things").unwrap()).unwrap()
}

#[test]
fn it_stops_cleanly_on_sigterm_and_sigint() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = start();
        server
            .connect()
            .unwrap()
            .transact("things", &[json!({"op": "insert", "table": "t", "row": {"name": "a"}})])
            .unwrap();
        server.signal(signal).unwrap();
        let code = server.wait().unwrap();
        assert_eq!(code, Some(0), "{signal}: {}", server.stderr());
        assert!(!server.socket().exists(), "{signal}: the socket was left behind");
        server.run().unwrap();
        let rows = server.connect().unwrap().transact(
            "things",
            &[json!({"op": "select", "table": "t", "where": [], "columns": ["name"]})],
        );
        assert_eq!(rows.unwrap(), vec![json!({"rows": [{"name": "a"}]})]);
    }
}

#[test]
fn a_client_sees_the_end_of_the_server() {
    let mut server = start();
    let mut client = server.connect().unwrap();
    client.call("echo", &json!([])).unwrap();
    server.stop().unwrap();
    assert_eq!(client.receive_bytes_to_end().unwrap(), b"");
}

#[test]
fn a_second_server_on_the_same_file_is_refused() {
    let server = start();
    let nonnetd = program::ours("nonnetd").unwrap();
    let other = server.directory().join("other.sock");
    let remote = format!("--remote=punix:{}", other.display());
    let file = server.file();
    let output = program::run(
        &nonnetd,
        &["--kernel".as_ref(), "off".as_ref(), remote.as_ref(), file.as_os_str()],
        b"",
    )
    .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(stderr.contains(&file.display().to_string()), "{stderr}");
    assert!(
        ["in use", "locked", "another"].iter().any(|word| stderr.contains(word)),
        "{stderr}"
    );
    assert!(!other.exists(), "the second server left its socket behind");
    server.connect().unwrap().call("echo", &json!([])).unwrap();
}

#[test]
fn a_socket_path_that_is_a_directory_is_refused() {
    let mut server = Server::prepare(Kind::Nonnetd, &case::schema("things").unwrap()).unwrap();
    std::fs::create_dir(server.socket()).unwrap();
    assert_ne!(server.run_to_end().unwrap(), Some(0));
    let stderr = server.stderr();
    assert!(
        stderr.contains(&server.socket().display().to_string()) && stderr.contains("directory"),
        "{stderr}"
    );
    assert!(server.socket().is_dir());
}

#[test]
fn a_stale_socket_of_a_killed_server_is_replaced() {
    let mut server = start();
    server.kill().unwrap();
    assert!(server.socket().exists());
    server.run().unwrap();
}

#[test]
fn a_file_that_is_no_database_is_refused_and_kept() {
    let mut server = Server::prepare(Kind::Nonnetd, &case::schema("things").unwrap()).unwrap();
    let text = b"these are somebody's notes, not a database\n".repeat(200);
    std::fs::write(server.file(), &text).unwrap();
    assert_ne!(server.run_to_end().unwrap(), Some(0));
    assert!(server.stderr().contains("test.db"), "{}", server.stderr());
    assert_eq!(std::fs::read(server.file()).unwrap(), text);
}

#[test]
fn a_schema_file_with_a_comma_too_much_is_located() {
    let mut server = Server::prepare(Kind::Nonnetd, &json!({})).unwrap();
    std::fs::write(server.schema_path(), "{\n  \"name\": \"d\",\n  \"tables\": {},\n}\n").unwrap();
    assert_ne!(server.run_to_end().unwrap(), Some(0));
    let stderr = server.stderr();
    assert!(stderr.contains("line 4") || stderr.contains(":4:"), "{stderr}");
}

#[test]
fn a_remote_in_unknown_syntax_is_refused() {
    let schema = case::schema("things").unwrap();
    for remote in ["carrier-pigeon:7", "ptcp:99999", "punix:", "ptcp:0:nosuchaddress"] {
        let argument = format!("--remote={remote}");
        let error = Server::start_with(Kind::Nonnetd, &schema, &[&argument])
            .map(|_| ())
            .unwrap_err();
        assert!(format!("{error:#}").contains(remote), "{remote}: {error:#}");
    }
}

#[test]
fn without_arguments_it_makes_nonnet_db_here() {
    let directory = tempfile::tempdir().unwrap();
    let stdout = directory.path().join("stdout");
    let mut command = program::tied(&program::ours("nonnetd").unwrap()).unwrap();
    command
        .arg("--kernel")
        .arg("off")
        .current_dir(directory.path())
        .stdin(Stdio::null());
    let file = std::fs::File::create(&stdout).unwrap();
    let mut child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let socket = directory.path().join("nonnet.db.sock");
    let deadline = Instant::now() + Duration::from_secs(20);
    let list = loop {
        if let Ok(mut client) = Client::connect(&socket) {
            break client.call("list_dbs", &json!([])).unwrap();
        }
        assert!(
            Instant::now() < deadline,
            "{}",
            std::fs::read_to_string(&stdout).unwrap()
        );
        std::thread::sleep(POLL_INTERVAL);
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        list["result"].as_array().unwrap().contains(&json!("OpNonNet")),
        "{list}"
    );
    assert!(directory.path().join("nonnet.db").is_file());
    let text = std::fs::read_to_string(&stdout).unwrap();
    assert!(text.contains("nonnet.db") && text.contains("nonnet.db.sock"), "{text}");
}
