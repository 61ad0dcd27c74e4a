//! Remotes that rows of a database ask for: `--remote=db:DB,TABLE,COLUMN`, as Open vSwitch starts its server and `ovs-vsctl set-manager`
//! fills it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nonnet_tests::pki::Pki;
use nonnet_tests::program::{self, POLL_INTERVAL};
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::{case, control};
use serde_json::{Value, json};

/// How long something may take that is waited for; statuses are written every 2.5 s.
const TIMEOUT: Duration = Duration::from_secs(20);

const MANAGERS: &str = "--remote=db:Open_vSwitch,Open_vSwitch,manager_options";

/// A server with Open vSwitch's own database.
fn start(kind: Kind, arguments: &[&str]) -> Server {
    let text = std::fs::read_to_string("/usr/share/openvswitch/vswitch.ovsschema").unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let mut all = arguments.to_vec();
    if kind == Kind::Nonnetd {
        all.push("--unixctl=ctl");
    }
    let server = Server::start_with(kind, &schema, &all).unwrap();
    vsctl(&server, &["init"]);
    server
}

fn ctl(server: &Server) -> PathBuf {
    server.directory().join("ctl")
}

fn vsctl(server: &Server, words: &[&str]) -> String {
    let database = format!("--db={}", server.remote());
    let mut arguments = vec!["--no-wait", &database];
    arguments.extend_from_slice(words);
    let text = program::succeed(&program::system("ovs-vsctl").unwrap(), &arguments, b"").unwrap();
    text.trim().to_owned()
}

/// Waits until a column of a manager is as wanted.
#[track_caller]
fn until(server: &Server, manager: &str, column: &str, wanted: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let value = vsctl(server, &["--if-exists", "get", "Manager", manager, column]);
        let value = value.trim_matches('"').to_owned();
        if wanted(&value) {
            return value;
        }
        assert!(Instant::now() < deadline, "{column} of {manager} stays {value:?}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// The port of a manager that listens.
#[track_caller]
fn port_of(server: &Server, manager: &str) -> u16 {
    until(server, manager, "status:bound_port", |port| !port.is_empty())
        .parse()
        .unwrap()
}

/// A client of the operating system that stays connected until it is killed.
fn real_client(port: u16) -> Child {
    let mut command = program::tied(&program::system("ovsdb-client").unwrap()).unwrap();
    command
        .args([
            "monitor",
            &format!("tcp:127.0.0.1:{port}"),
            "Open_vSwitch",
            "Bridge",
            "name",
        ])
        .env("OVS_RUNDIR", "/nonexistent");
    program::silent(&mut command).spawn().unwrap()
}

/// The end of a connection: nothing comes any more.
fn closes(stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut line = String::new();
    matches!(BufReader::new(stream).read_line(&mut line), Ok(0)) || line.is_empty()
}

/// The status of a manager, with the port out of the way.
fn status(server: &Server) -> String {
    let port = port_of(server, ".");
    vsctl(server, &["get", "Manager", ".", "status"]).replace(&port.to_string(), "PORT")
}

#[test]
fn a_manager_is_listened_to_and_its_row_tells_how_it_is() {
    let shown = |kind| {
        let server = start(kind, &[MANAGERS]);
        vsctl(&server, &["set-manager", "ptcp:0:127.0.0.1"]);
        let mut shown = vec![status(&server), until(&server, ".", "is_connected", |is| is == "false")];
        let port = port_of(&server, ".");
        let mut clients = vec![real_client(port)];
        until(&server, ".", "is_connected", |is| is == "true");
        shown.push(status(&server));
        clients.push(real_client(port));
        until(&server, ".", "status", |status| status.contains("n_connections"));
        shown.push(status(&server));
        for mut client in clients {
            client.kill().unwrap();
            client.wait().unwrap();
        }
        until(&server, ".", "is_connected", |is| is == "false");
        shown.push(status(&server));
        // The remote goes with its row, and its sessions go with it.
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        until(&server, ".", "is_connected", |is| is == "true");
        vsctl(&server, &["del-manager"]);
        assert!(closes(&stream), "{kind:?}");
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "{kind:?}");
        shown.push(control::ask(&ctl(&server), &["ovsdb-server/list-remotes"]).unwrap());
        shown.last_mut().unwrap().truncate(48);
        shown
    };
    let ours = shown(Kind::Nonnetd);
    assert_eq!(ours, shown(Kind::Reference));
    assert!(ours[2].contains("bound_port=\"PORT\""), "{ours:?}");
}

#[test]
fn a_client_is_dialled_and_its_row_tells_of_locks_and_of_the_loss() {
    let server = start(Kind::Nonnetd, &[MANAGERS]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp:{}", listener.local_addr().unwrap());
    vsctl(&server, &["set-manager", &target]);
    let (stream, _) = listener.accept().unwrap();
    until(&server, ".", "status:state", |state| state == "ACTIVE");
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    for (id, lock) in ["one", "two"].into_iter().enumerate() {
        writeln!(&stream, "{}", json!({"id": id, "method": "lock", "params": [lock]})).unwrap();
        let mut reply = vec![0; 64];
        let count = std::io::Read::read(&mut lines, &mut reply).unwrap();
        assert!(String::from_utf8_lossy(&reply[..count]).contains("\"locked\":true"));
    }
    until(&server, ".", "status:locks_held", |locks| locks == "one two");
    until(&server, ".", "status:sec_since_connect", |seconds| seconds != "0");
    drop(lines);
    stream.shutdown(std::net::Shutdown::Both).unwrap();
    drop(stream);
    drop(listener);
    until(&server, ".", "status:state", |state| state == "BACKOFF");
    until(&server, ".", "status:last_error", |error| error.contains("refused"));
    until(&server, ".", "is_connected", |is| is == "false");
}

#[test]
fn a_target_that_is_none_is_told_of_and_ends_nothing() {
    let server = start(Kind::Nonnetd, &[MANAGERS, "--log-file=log"]);
    vsctl(&server, &["set-manager", "pigeon:1", "ptcp:0:127.0.0.1"]);
    let rows = vsctl(
        &server,
        &["--bare", "--columns=_uuid", "find", "Manager", "target=\"pigeon:1\""],
    );
    until(&server, &rows, "status:last_error", |error| error.contains("pigeon:1"));
    let rows = vsctl(
        &server,
        &[
            "--bare",
            "--columns=_uuid",
            "find",
            "Manager",
            "target=\"ptcp:0:127.0.0.1\"",
        ],
    );
    port_of(&server, &rows);
    let log = std::fs::read_to_string(server.directory().join("log")).unwrap();
    let told = log.lines().filter(|line| line.contains("|WARN|pigeon:1: ")).count();
    assert_eq!(told, 1, "{log}");
}

#[test]
fn a_silent_client_is_probed_as_its_row_says() {
    let server = start(Kind::Nonnetd, &[MANAGERS]);
    vsctl(&server, &["set-manager", "ptcp:0:127.0.0.1"]);
    vsctl(&server, &["set", "Manager", ".", "inactivity_probe=500"]);
    let stream = TcpStream::connect(("127.0.0.1", port_of(&server, "."))).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut probe = vec![0; 64];
    let mut reader = &stream;
    let count = std::io::Read::read(&mut reader, &mut probe).unwrap();
    let probe: Value = serde_json::from_slice(&probe[..count]).unwrap();
    assert_eq!(probe["method"], "echo");
    // Whoever does not answer is gone.
    assert!(closes(&stream));
}

#[test]
fn options_of_a_row_hold_for_its_sessions() {
    let server = start(Kind::Nonnetd, &[]);
    let schema = json!({"name": "more", "tables": {
        "remote": {"columns": {
            "target": {"type": "string"},
            "read_only": {"type": "boolean"},
            "status": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}, "ephemeral": true},
        }, "isRoot": true},
        "top": {"columns": {
            "plain": {"type": {"key": "string", "min": 0, "max": 9}},
            "rows": {"type": {"key": {"type": "uuid", "refTable": "remote"}, "min": 0, "max": 9}},
        }, "isRoot": true},
    }});
    let mut other = Server::prepare(Kind::Nonnetd, &schema).unwrap();
    other.run().unwrap();
    let socket = other.directory().join("plain.sock");
    let plain = format!("punix:{}", socket.display());
    let guarded = other.directory().join("guarded.sock");
    let insert = json!([
        {"op": "insert", "table": "remote", "uuid-name": "r",
            "row": {"target": format!("punix:{}", guarded.display()), "read_only": true}},
        {"op": "insert", "table": "top", "row": {"plain": plain, "rows": ["named-uuid", "r"]}},
    ]);
    let mut client = other.connect().unwrap();
    client.transact("more", insert.as_array().unwrap()).unwrap();
    other.stop().unwrap();
    let ask = |words: &[&str]| control::ask(&ctl(&server), words).unwrap();
    ask(&["ovsdb-server/add-db", other.file().to_str().unwrap()]);
    ask(&["ovsdb-server/add-remote", "db:more,top,plain"]);
    ask(&["ovsdb-server/add-remote", "db:more,top,rows"]);
    let write = json!({"op": "insert", "table": "top", "row": {}});
    let mut through = nonnet_tests::wire::Client::connect(&socket).unwrap();
    assert!(through.transact("more", std::slice::from_ref(&write)).unwrap()[0]["uuid"].is_array());
    let mut reader = nonnet_tests::wire::Client::connect(&guarded).unwrap();
    let refused = reader.transact("more", std::slice::from_ref(&write)).unwrap();
    assert_eq!(refused[0]["error"], "not allowed");
    // With the database its remotes go, and come again with it.
    ask(&["ovsdb-server/remove-db", "more"]);
    assert!(through.receive_bytes_to_end().is_ok());
    let deadline = Instant::now() + TIMEOUT;
    while socket.exists() {
        assert!(Instant::now() < deadline, "{} stays", socket.display());
        std::thread::sleep(POLL_INTERVAL);
    }
    ask(&["ovsdb-server/add-db", other.file().to_str().unwrap()]);
    while !socket.exists() {
        assert!(Instant::now() < deadline, "{} does not come back", socket.display());
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[test]
fn columns_that_do_not_exist_are_refused_in_the_words_of_ovsdb_server() {
    let (ours, theirs) = (start(Kind::Nonnetd, &[]), start(Kind::Reference, &[]));
    for name in [
        "db:",
        "db:x",
        "db:x,y",
        "db:x,y,z",
        "db:Open_vSwitch,y,z",
        "db:Open_vSwitch,Open_vSwitch,z",
        "db:Open_vSwitch, Bridge,name",
    ] {
        let words = ["ovsdb-server/add-remote", name];
        let refusal = |server| control::refusal(&ctl(server), &words).unwrap();
        assert_eq!(refusal(&ours), refusal(&theirs));
    }
    for name in [
        "db:Open_vSwitch,Open_vSwitch,manager_options",
        "db:Open_vSwitch,Open_vSwitch,next_cfg",
        "db:Open_vSwitch,,Bridge,name,more",
    ] {
        for words in [["ovsdb-server/add-remote", name], ["ovsdb-server/remove-remote", name]] {
            let answer = |server| control::ask(&ctl(server), &words).unwrap();
            assert_eq!(answer(&ours), answer(&theirs), "{words:?}");
        }
    }
}

#[test]
fn a_column_that_does_not_exist_ends_the_start() {
    for kind in [Kind::Nonnetd, Kind::Reference] {
        let error =
            Server::start_with(kind, &case::schema("things").unwrap(), &["--remote=db:things,t,nosuch"]).unwrap_err();
        let expected = "\"db:things,t,nosuch\": table \"t\" has no column \"nosuch\"";
        assert!(error.to_string().contains(expected), "{kind:?}: {error:#}");
    }
}

/// Open vSwitch's own start script, in directories of its own, where `ovsdb-server` is a link to our server.
struct Script(tempfile::TempDir);

impl Script {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("nonnet-test-").tempdir().unwrap();
        for name in ["bin", "run", "log", "etc"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let link = directory.path().join("bin/ovsdb-server");
        std::os::unix::fs::symlink(program::ours("nonnetd").unwrap(), link).unwrap();
        Self(directory)
    }

    /// Runs a program as the script's environment has it; it must succeed. Gives what it printed.
    #[track_caller]
    fn run(&self, program: &str, words: &[&str]) -> String {
        let path = |name: &str| self.0.path().join(name);
        let mut command = Command::new(program);
        command
            .args(words)
            .env(
                "PATH",
                format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", path("bin").display()),
            )
            .env("OVS_RUNDIR", path("run"))
            .env("OVS_LOGDIR", path("log"))
            .env("OVS_DBDIR", path("etc"))
            .env("OVS_SYSCONFDIR", path("etc"));
        let output = program::run_command(&mut command, b"").unwrap();
        let printed = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {words:?}: {printed}");
        printed
    }

    fn ctl(&self, words: &[&str]) -> String {
        self.run("/usr/share/openvswitch/scripts/ovs-ctl", words)
    }

    fn vsctl(&self, words: &[&str]) -> String {
        let mut all = vec!["--no-wait"];
        all.extend_from_slice(words);
        self.run("/usr/bin/ovs-vsctl", &all).trim().trim_matches('"').to_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.0.path().join("log/ovsdb-server.log")).unwrap()
    }

    /// The port of the manager.
    fn port(&self) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let port = self.vsctl(&["get", "Manager", ".", "status:bound_port"]);
            if port.parse::<u16>().is_ok() {
                return port;
            }
            assert!(Instant::now() < deadline, "{port}: {}", self.log());
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let read = |name: &str| std::fs::read_to_string(self.0.path().join("run").join(name)).unwrap_or_default();
        if let Ok(pid) = read("ovsdb-server.pid").trim().parse() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[test]
fn the_start_script_of_open_vswitch_starts_it_and_its_rows_name_the_files_of_tls() {
    let script = Script::new();
    script.ctl(&["--no-ovs-vswitchd", "--system-id=random", "start"]);
    script.vsctl(&["set-manager", "ptcp:0:127.0.0.1"]);
    let remote = format!("tcp:127.0.0.1:{}", script.port());
    assert_eq!(
        script.run("/usr/bin/ovsdb-client", &["list-dbs", &remote]),
        "Open_vSwitch\n_Server\n"
    );
    let pki = Pki::new().unwrap();
    let shown = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (server, client) = (pki.certify("server").unwrap(), pki.certify("client").unwrap());
    script.vsctl(&[
        "set-ssl",
        &shown(server.private_key),
        &shown(server.certificate),
        &shown(pki.authority()),
    ]);
    script.vsctl(&["set-manager", "pssl:0:127.0.0.1"]);
    let remote = format!("ssl:127.0.0.1:{}", script.port());
    let options = client.options(&pki.authority());
    let mut words: Vec<&str> = options.iter().map(String::as_str).collect();
    words.extend(["list-dbs", &remote]);
    assert_eq!(script.run("/usr/bin/ovsdb-client", &words), "Open_vSwitch\n_Server\n");
    script.ctl(&["--no-ovs-vswitchd", "stop"]);
    assert!(!script.0.path().join("run/ovsdb-server.pid").exists());
    let log = script.log();
    let complaints: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("|ERR|") || line.contains("|WARN|"))
        .collect();
    assert_eq!(complaints, Vec::<&str>::new());
}
