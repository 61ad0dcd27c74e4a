//! Roles of OVN's southbound database, as `ovn-northd` fills them: chassis with certificates, and a client without, ask for the same, and are
//! answered as `ovsdb-server` answers them.

use std::time::{Duration, Instant};

use nonnet_tests::ovn::ControlPlane;
use nonnet_tests::pki::{Identity, Pki};
use nonnet_tests::program::{self, POLL_INTERVAL};
use nonnet_tests::server::Kind;
use nonnet_tests::transcript::{self, Transcript};
use serde_json::{Value, json};

/// How long a server may take to listen where a row says so.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The file with the southbound database.
const SOUTHBOUND_FILE: &str = "more-0.db";

const TLS: &str = "pssl:0:127.0.0.1";
const PLAIN: &str = "ptcp:0:127.0.0.1";

/// A transaction on the southbound database by the client under test.
const TRANSACT: &str = r#"transact() { ovsdb-client $TLS transact $REMOTE "[\"OVN_Southbound\", $1]"; }"#;

/// An authority, the server and two chassis whose names are `a` and `b`.
struct Certified {
    pki: Pki,
    server: Identity,
    chassis: [Identity; 2],
}

impl Certified {
    fn new() -> Self {
        let pki = Pki::new().unwrap();
        let [server, a, b] = ["server", "a", "b"].map(|name| pki.certify(name).unwrap());
        let chassis = [a, b];
        Self { pki, server, chassis }
    }

    fn options(&self, identity: &Identity) -> Vec<String> {
        identity.options(&self.pki.authority())
    }
}

/// OVN's databases with the roles that `ovn-northd` makes, on a server that restricts its clients over TLS and TCP to the one for chassis.
fn start(kind: Kind, certified: &Certified) -> ControlPlane {
    let mut arguments = certified.options(&certified.server);
    arguments.push("--remote=db:OVN_Southbound,SB_Global,connections".to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut plane = ControlPlane::start_with(kind, &arguments).unwrap();
    run(
        &plane,
        "ovn-sbctl --timeout=20 wait-until RBAC_Role ovn-controller name=ovn-controller",
    );
    plane.stop_northd().unwrap();
    let remotes = format!("ovn-sbctl set-connection role=ovn-controller {TLS} {PLAIN}");
    run(&plane, &remotes);
    plane
}

/// What a command prints, which must succeed.
#[track_caller]
fn run(plane: &ControlPlane, script: &str) -> String {
    let output = program::run_command(&mut plane.shell(script).unwrap(), b"").unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The port of a remote, when it listens.
fn port(plane: &ControlPlane, target: &str) -> String {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let status = format!("ovn-sbctl --bare --columns=status find Connection 'target=\"{target}\"'");
        let status = run(plane, &status);
        if let Some(port) = status.split(' ').find_map(|word| word.strip_prefix("bound_port=")) {
            return port.to_owned();
        }
        assert!(Instant::now() < deadline, "{target} does not listen: {status}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// What a client is answered.
fn play(plane: &ControlPlane, remote: &str, options: &[String]) -> Vec<String> {
    let mut transcript = Transcript::default();
    for step in transcript::session("ovn-rbac").unwrap() {
        let mut shell = plane.shell(&format!("{TRANSACT}\n{}", step.command)).unwrap();
        shell.env("REMOTE", remote).env("TLS", options.join(" "));
        transcript.run(&mut shell, &step).unwrap();
    }
    let port = remote.rsplit_once(':').unwrap().1;
    let lines = transcript.lines().iter();
    lines.map(|line| line.replace(port, "PORT")).collect()
}

/// What chassis `a`, chassis `b` and a client without a name are answered.
fn answers(plane: &ControlPlane, certified: &Certified) -> [Vec<String>; 3] {
    let encrypted = format!("ssl:127.0.0.1:{}", port(plane, TLS));
    let plain = format!("tcp:127.0.0.1:{}", port(plane, PLAIN));
    let [a, b] = &certified.chassis;
    [
        play(plane, &encrypted, &certified.options(a)),
        play(plane, &encrypted, &certified.options(b)),
        play(plane, &plain, &[]),
    ]
}

/// The answer to the first command that has this in it.
#[track_caller]
fn answer_to<'a>(printed: &'a [String], part: &str) -> &'a str {
    let asked = |line: &String| line.starts_with("$ ") && line.contains(part);
    &printed[printed.iter().position(asked).unwrap() + 1]
}

#[test]
fn chassis_may_write_what_ovsdb_server_lets_them_write() {
    let certified = Certified::new();
    let ours = answers(&start(Kind::Nonnetd, &certified), &certified);
    let theirs = answers(&start(Kind::Reference, &certified), &certified);
    for (our, their) in ours.iter().zip(&theirs) {
        for (index, (line, expected)) in our.iter().zip(their).enumerate() {
            let before: &[String] = &our[index.saturating_sub(3)..index];
            assert_eq!(line, expected, "after {before:#?}");
        }
        assert_eq!(our.len(), their.len());
    }
    let [a, b, nobody] = ours;
    let update = r#"[["name", "==", "a"]], "row": {"nb_cfg": 1}"#;
    assert_eq!(answer_to(&a, update), r#"[{"count":1}]"#);
    let refusal = r#"RBAC rules for client \"b\" role \"ovn-controller\" prohibit modification of table \"Chassis\"."#;
    assert!(answer_to(&b, update).contains(refusal), "{b:#?}");
    let refusal = refusal.replace(r#"\"b\""#, r#"\"(null)\""#);
    assert!(answer_to(&nobody, update).contains(&refusal), "{nobody:#?}");
    for printed in [&a, &b, &nobody] {
        let answer = answer_to(printed, "convert");
        assert!(answer.contains("only the root role may convert"), "{answer}");
        let answer = answer_to(printed, "select");
        assert!(answer.contains(r#""name":"b""#), "{answer}");
    }
}

#[test]
fn the_log_names_the_certificate_and_the_role_of_who_wrote() {
    let certified = Certified::new();
    let plane = start(Kind::Nonnetd, &certified);
    run(&plane, "ovn-sbctl chassis-add a geneve 192.0.2.1");
    let options = certified.options(&certified.chassis[0]).join(" ");
    let remote = format!("ssl:127.0.0.1:{}", port(&plane, TLS));
    run(
        &plane,
        &format!("ovn-sbctl {options} --db={remote} set Chassis a nb_cfg=1"),
    );
    let nonnet = program::ours("nonnet").unwrap();
    let file = plane.server.directory().join(SOUTHBOUND_FILE);
    let log = ["log", file.to_str().unwrap(), "--table", "Chassis", "--format", "json"];
    let log = program::succeed(&nonnet, &log, b"").unwrap();
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [newest, older] = &records[..] else {
        panic!("{log}");
    };
    let details = json!({"certificate": "a", "role": "ovn-controller"});
    assert_eq!(newest["who"]["details"], details, "{newest}");
    // The administrator came by the socket.
    assert_ne!(older["who"]["uid"], Value::Null, "{older}");
    assert!(older["who"]["details"].get("role").is_none(), "{older}");
}
