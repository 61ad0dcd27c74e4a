//! Sources that are reached with TLS: relays and backups of ovsdb-server and of nonnetd, with keys and certificates of `ovs-pki`.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nonnet_tests::case;
use nonnet_tests::pki::Pki;
use nonnet_tests::program::{self, POLL_INTERVAL};
use nonnet_tests::server::{Kind, Server};
use serde_json::{Value, json};

/// How long something may take that is waited for: a source is tried again after 8 s at most.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Characters of a name that takes several records of TLS and more than a socket holds.
const LONG: usize = 3_000_000;

fn wait_until(what: &str, server: &Server, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(
            Instant::now() < deadline,
            "{what} did not come true: {}",
            server.stderr()
        );
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn as_texts(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// A server that listens with TLS too, and where.
fn source(kind: Kind, pki: &Pki) -> (Server, String) {
    let port = free_port();
    let mut arguments = pki.certify("source").unwrap().options(&pki.authority());
    arguments.push(format!("--remote=pssl:{port}:127.0.0.1"));
    let server = Server::start_with(kind, &case::schema("things").unwrap(), &as_texts(&arguments)).unwrap();
    (server, format!("ssl:127.0.0.1:{port}"))
}

/// What a follower is started with; `authority` vouches for its source.
fn options(pki: &Pki, authority: &Path) -> Vec<String> {
    let mut arguments = pki.certify("follower").unwrap().options(authority);
    arguments.push("--unixctl=ctl".to_owned());
    arguments
}

fn relay(remote: &str, arguments: &[String]) -> Server {
    Server::start_relay(Kind::Nonnetd, "things", remote, &as_texts(arguments)).unwrap()
}

fn backup(remote: &str, mut arguments: Vec<String>) -> Server {
    arguments.push(format!("--sync-from={remote}"));
    Server::start_with(Kind::Nonnetd, &case::schema("things").unwrap(), &as_texts(&arguments)).unwrap()
}

fn insert(server: &Server, name: &str) -> Value {
    let operation = json!({"op": "insert", "table": "t", "row": {"name": name}});
    let results = server.connect().unwrap().transact("things", &[operation]).unwrap();
    results[0].clone()
}

/// The names of all rows; none where the database is not there yet.
fn names(server: &Server) -> Vec<String> {
    let select = json!({"op": "select", "table": "t", "where": [], "columns": ["name"]});
    let reply = server
        .connect()
        .and_then(|mut client| client.call("transact", &json!(["things", select])))
        .unwrap_or_default();
    let rows = reply["result"][0]["rows"].as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn status(server: &Server) -> String {
    control(server, &["ovsdb-server/sync-status"])
}

fn control(server: &Server, words: &[&str]) -> String {
    let socket = server.directory().join("ctl");
    let mut arguments = vec!["-t", socket.to_str().unwrap()];
    arguments.extend_from_slice(words);
    let output = program::run(&program::system("ovs-appctl").unwrap(), &arguments, b"").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Rows come and go over TLS, long ones too, and the source may end and come again.
fn check_relay(kind: Kind) {
    let pki = Pki::new().unwrap();
    let (mut source, remote) = source(kind, &pki);
    let long = "l".repeat(LONG);
    insert(&source, &long);
    let relay = relay(&remote, &options(&pki, &pki.authority()));
    wait_until("the relay has the row", &relay, || names(&relay) == [long.as_str()]);
    let longer = "m".repeat(LONG);
    assert!(insert(&relay, &longer)["uuid"].is_array());
    assert_eq!(names(&source), [long.as_str(), &longer]);
    source.kill().unwrap();
    source.run().unwrap();
    insert(&source, "since");
    wait_until("the relay has followed", &relay, || {
        names(&relay) == [long.as_str(), &longer, "since"]
    });
}

#[test]
fn relay_of_ovsdb_server() {
    check_relay(Kind::Reference);
}

#[test]
fn relay_of_nonnetd() {
    check_relay(Kind::Nonnetd);
}

fn check_backup(kind: Kind) {
    let pki = Pki::new().unwrap();
    let (mut active, remote) = source(kind, &pki);
    insert(&active, "before");
    let backup = backup(&remote, options(&pki, &pki.authority()));
    wait_until("the backup has the row", &backup, || names(&backup) == ["before"]);
    assert!(
        status(&backup).contains(&format!("replicating: {remote}\n")),
        "{}",
        status(&backup)
    );
    insert(&active, "during");
    wait_until("the backup has both", &backup, || {
        names(&backup) == ["before", "during"]
    });
    active.kill().unwrap();
    wait_until("the loss is noticed", &backup, || {
        status(&backup).contains(&format!("connecting: {remote}"))
    });
    control(&backup, &["ovsdb-server/disconnect-active-ovsdb-server"]);
    insert(&backup, "after");
    assert_eq!(names(&backup), ["after", "before", "during"]);
}

#[test]
fn backup_of_ovsdb_server() {
    check_backup(Kind::Reference);
}

#[test]
fn backup_of_nonnetd() {
    check_backup(Kind::Nonnetd);
}

#[test]
fn source_that_nobody_vouches_for_is_not_followed() {
    let (pki, strangers) = (Pki::new().unwrap(), Pki::new().unwrap());
    let (source, remote) = source(Kind::Reference, &strangers);
    insert(&source, "strange");
    let relay = relay(&remote, &options(&pki, &pki.authority()));
    let refused = format!("the source {remote} cannot be followed: {remote}: invalid peer certificate");
    wait_until("the source is refused", &relay, || relay.stderr().contains(&refused));
    assert_eq!(names(&relay), Vec::<String>::new());
}

#[test]
fn source_with_tls_and_no_key_is_refused_by_the_name_of_the_option() {
    let schema = case::schema("things").unwrap();
    let remote = "ssl:127.0.0.1:1";
    let missing = "--private-key is missing; pssl: and ssl: remotes need";
    let following = Server::start_with(Kind::Nonnetd, &schema, &[&format!("--sync-from={remote}")]);
    let relaying = Server::start_relay(Kind::Nonnetd, "things", remote, &[]);
    for refused in [following, relaying] {
        let refusal = refused.unwrap_err().to_string();
        assert!(refusal.contains(missing), "{refusal}");
    }
    // One that is named later is in the log.
    let server = Server::start_with(Kind::Nonnetd, &schema, &["--unixctl=ctl"]).unwrap();
    control(&server, &["ovsdb-server/set-active-ovsdb-server", remote]);
    control(&server, &["ovsdb-server/connect-active-ovsdb-server"]);
    let lost = format!("the active server {remote} cannot be followed now: {remote}: {missing}");
    wait_until("the log names the option", &server, || server.stderr().contains(&lost));
}
