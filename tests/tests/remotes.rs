//! Every kind of remote, with the programs of Open vSwitch and OpenSSL at the other end.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nonnet_tests::case;
use nonnet_tests::pki::{Identity, Pki};
use nonnet_tests::program::{self, POLL_INTERVAL};
use nonnet_tests::server::{Kind, Server};

/// How long something may take that is waited for.
const TIMEOUT: Duration = Duration::from_secs(20);

// Authorities that ovs-pki makes within one second have the same name, so a stranger's certificate may be one of an unknown issuer or one
// with a bad signature.

/// What `list-dbs` prints.
const DATABASES: &str = "_Server\nthings\n";

fn start(arguments: &[String]) -> Server {
    let schema = case::schema("things").unwrap();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Server::start_with(Kind::Nonnetd, &schema, &arguments).unwrap()
}

/// A server that listens with TLS, and its port.
fn start_tls(identity: &Identity, authority: &Path) -> (Server, u16) {
    let mut arguments = identity.options(authority);
    arguments.push("--remote=pssl:0:127.0.0.1".to_owned());
    let server = start(&arguments);
    let log = server.stderr();
    let (_, rest) = log.split_once("0:127.0.0.1: listening on port ").unwrap();
    let port = rest.lines().next().unwrap().parse().unwrap();
    (server, port)
}

fn list_databases(options: &[String], remote: &str) -> Output {
    let mut arguments: Vec<String> = options.to_vec();
    arguments.extend(["--timeout=10".to_owned(), "list-dbs".to_owned(), remote.to_owned()]);
    program::run(&program::system("ovsdb-client").unwrap(), &arguments, b"").unwrap()
}

fn served(options: &[String], remote: &str) {
    let output = list_databases(options, remote);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), DATABASES, "{remote}: {stderr}");
}

fn refused(options: &[String], remote: &str) {
    let output = list_databases(options, remote);
    assert!(!output.status.success(), "{remote}");
    assert_eq!(output.stdout, b"", "{remote}");
}

/// What `openssl s_client` prints when it sends a request, without a certificate of its own unless one is given.
fn handshake(port: u16, identity: Option<&Identity>) -> String {
    let mut arguments = vec![
        "s_client".to_owned(),
        "-connect".to_owned(),
        format!("127.0.0.1:{port}"),
    ];
    if let Some(identity) = identity {
        arguments.extend(["-cert".to_owned(), identity.certificate.display().to_string()]);
        arguments.extend(["-key".to_owned(), identity.private_key.display().to_string()]);
    } else {
        // Until the server has said why it ends.
        arguments.push("-ign_eof".to_owned());
    }
    let request = b"{\"method\":\"list_dbs\",\"params\":[],\"id\":1}\n";
    let output = program::run(&program::system("openssl").unwrap(), &arguments, request).unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// A port that nobody has for now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn tls_client_with_a_certificate_of_the_authority_is_served() {
    let pki = Pki::new().unwrap();
    let (server, client) = (pki.certify("server").unwrap(), pki.certify("client").unwrap());
    let (_server, port) = start_tls(&server, &pki.authority());
    let remote = format!("ssl:127.0.0.1:{port}");
    let options = client.options(&pki.authority());
    served(&options, &remote);
    let mut older = options;
    older.push("--ssl-protocols=TLSv1.2".to_owned());
    served(&older, &remote);
}

#[test]
fn tls_client_without_a_certificate_of_the_authority_is_refused() {
    let (pki, other) = (Pki::new().unwrap(), Pki::new().unwrap());
    let (server, port) = start_tls(&pki.certify("server").unwrap(), &pki.authority());
    let stranger = other.certify("client").unwrap();
    refused(&stranger.options(&pki.authority()), &format!("ssl:127.0.0.1:{port}"));
    wait_until("the reason in the log", || {
        server.stderr().contains("invalid peer certificate: ")
    });
    let without = handshake(port, None);
    assert!(without.contains("alert certificate required"), "{without}");
    assert!(!without.contains("\"result\""), "{without}");
    // Nor is plain text answered.
    refused(&[], &format!("tcp:127.0.0.1:{port}"));
    let client = pki.certify("client").unwrap();
    served(&client.options(&pki.authority()), &format!("ssl:127.0.0.1:{port}"));
}

#[test]
fn new_connections_see_the_files_as_they_are_now() {
    let pki = Pki::new().unwrap();
    let (first, second) = (pki.certify("first").unwrap(), pki.certify("second").unwrap());
    let client = pki.certify("client").unwrap();
    let (_server, port) = start_tls(&first, &pki.authority());
    let seen = || {
        let said = handshake(port, Some(&client));
        let subject = said.lines().find(|line| line.starts_with("subject=")).unwrap();
        subject.rsplit_once("CN = ").unwrap().1.to_owned()
    };
    assert_eq!(seen(), "first");
    fs::rename(&second.private_key, &first.private_key).unwrap();
    fs::rename(&second.certificate, &first.certificate).unwrap();
    assert_eq!(seen(), "second");
    served(&client.options(&pki.authority()), &format!("ssl:127.0.0.1:{port}"));
}

#[test]
fn missing_key_ends_the_start_and_is_named() {
    let pki = Pki::new().unwrap();
    let identity = pki.certify("server").unwrap();
    let refusal = |arguments: &[String]| {
        let schema = case::schema("things").unwrap();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Server::start_with(Kind::Nonnetd, &schema, &arguments)
            .unwrap_err()
            .to_string()
    };
    let listening = "--remote=pssl:0:127.0.0.1".to_owned();
    let without = refusal(std::slice::from_ref(&listening));
    assert!(
        without.contains("--private-key is missing; pssl: and ssl: remotes need"),
        "{without}"
    );
    fs::remove_file(&identity.private_key).unwrap();
    let mut arguments = identity.options(&pki.authority());
    arguments.push(listening);
    let gone = refusal(&arguments);
    let expected = format!(
        "--private-key={}: No such file or directory",
        identity.private_key.display()
    );
    assert!(gone.contains(&expected), "{gone}");
}

/// An `ovsdb-client` that waits for a server to dial it.
fn waiting_client(options: &[String], remote: &str) -> Child {
    let mut command = program::tied(&program::system("ovsdb-client").unwrap()).unwrap();
    command.args(options).args(["--timeout=20", "list-dbs", remote]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn assert_served(client: Child) {
    let output = client.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), DATABASES, "{stderr}");
}

#[test]
fn clients_that_wait_are_dialled() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("client");
    let port = free_port();
    let server = start(&[
        format!("--remote=tcp:127.0.0.1:{port}"),
        format!("--remote=unix:{}", socket.display()),
    ]);
    // Each comes and goes twice: the server dials again.
    for _ in 0..2 {
        assert_served(waiting_client(&[], &format!("ptcp:{port}:127.0.0.1")));
        assert_served(waiting_client(&[], &format!("punix:{}", socket.display())));
    }
    assert!(server.stderr().contains(&format!("tcp:127.0.0.1:{port}: connected")));
}

#[test]
fn first_server_that_is_dialled_is_believed_and_from_then_on_only_its_authority() {
    let (pki, other) = (Pki::new().unwrap(), Pki::new().unwrap());
    let (server, client) = (pki.certify("server").unwrap(), pki.certify("client").unwrap());
    let directory = tempfile::tempdir().unwrap();
    let believed = directory.path().join("ca.pem");
    let port = free_port();
    let peer = |identity: &Identity, authority: &Path| {
        let mut arguments = identity.options(&pki.authority());
        arguments.push(format!("--peer-ca-cert={}", authority.display()));
        arguments.push(format!("--remote=pssl:{port}:127.0.0.1"));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Server::start_with(Kind::Reference, &case::schema("things").unwrap(), &arguments).unwrap()
    };
    let first = peer(&client, &pki.authority());
    let server = start(&[
        format!("--private-key={}", server.private_key.display()),
        format!("--certificate={}", server.certificate.display()),
        format!("--bootstrap-ca-cert={}", believed.display()),
        format!("--remote=ssl:127.0.0.1:{port}"),
    ]);
    let connected = format!("ssl:127.0.0.1:{port}: connected");
    wait_until("a connection that was verified", || {
        server.stderr().contains(&connected)
    });
    let log = server.stderr();
    let bootstrapped = log.find("successfully bootstrapped CA cert to").unwrap();
    assert!(bootstrapped < log.find(&connected).unwrap(), "{log}");
    let fingerprint = |path: &Path| {
        let openssl = program::system("openssl").unwrap();
        let path = path.to_str().unwrap();
        program::succeed(&openssl, &["x509", "-noout", "-fingerprint", "-in", path], b"").unwrap()
    };
    assert_eq!(fingerprint(&believed), fingerprint(&pki.authority()));
    assert_eq!(fs::metadata(&believed).unwrap().mode() & 0o777, 0o644);
    drop(first);
    let _stranger = peer(&other.certify("client").unwrap(), &other.authority());
    wait_until("the reason in the log", || {
        server.stderr().contains("cannot connect: invalid peer certificate: ")
    });
    assert_eq!(server.stderr().matches(&connected).count(), 1);
    assert_eq!(fingerprint(&believed), fingerprint(&pki.authority()));
}

#[test]
fn clients_that_wait_with_tls_are_dialled() {
    let pki = Pki::new().unwrap();
    let (server, client) = (pki.certify("server").unwrap(), pki.certify("client").unwrap());
    let port = free_port();
    let mut arguments = server.options(&pki.authority());
    arguments.push(format!("--remote=ssl:127.0.0.1:{port}"));
    let _server = start(&arguments);
    let waiting = waiting_client(&client.options(&pki.authority()), &format!("pssl:{port}:127.0.0.1"));
    assert_served(waiting);
}

#[test]
fn inherited_sockets_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("inherited");
    let (unix, tcp) = (
        UnixListener::bind(&path).unwrap(),
        TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    fcntl(&unix, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    fcntl(&tcp, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let _server = start(&[
        format!("--remote=pfd:{}", unix.as_raw_fd()),
        format!("--remote=pfd:{}", tcp.as_raw_fd()),
    ]);
    served(&[], &format!("unix:{}", path.display()));
    served(&[], &format!("tcp:{}", tcp.local_addr().unwrap()));
}

#[test]
fn socket_has_the_mode_and_the_group_that_are_asked_for() {
    let server = start(&["--socket-mode=606".to_owned(), "--socket-group=daemon".to_owned()]);
    let made = fs::metadata(server.socket()).unwrap();
    let daemon = nix::unistd::Group::from_name("daemon").unwrap().unwrap();
    assert_eq!((made.mode() & 0o777, made.gid()), (0o606, daemon.gid.as_raw()));
}

#[test]
fn what_is_sent_over_tcp_has_the_code_point_of_internetwork_control() {
    let port = free_port();
    let _server = start(&[format!("--remote=ptcp:{port}:127.0.0.1")]);
    let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let ours = client.local_addr().unwrap();
    let sockets = || {
        let mut command = Command::new(program::system("ss").unwrap());
        command.args(["-H", "-t", "-n", "--tos", "state", "established"]);
        command.arg(format!("src 127.0.0.1:{port} and dst {ours}"));
        String::from_utf8(program::run_command(&mut command, b"").unwrap().stdout).unwrap()
    };
    wait_until("internetwork control", || sockets().contains("tos:0xc0"));
}
