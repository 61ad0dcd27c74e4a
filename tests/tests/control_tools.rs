//! The command line tools of Open vSwitch and OVN, unmodified: each plays a session on `nonnetd` and on `ovsdb-server`, and prints the same
//! with the same exit status on both, up to the choice of UUIDs.

use nonnet_tests::netns::Netns;
use nonnet_tests::open_vswitch;
use nonnet_tests::ovn::{NORTHBOUND_SCHEMA, SOUTHBOUND_SCHEMA};
use nonnet_tests::program;
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::transcript::{self, Transcript};

/// Fewer commands would be no session.
const COMMANDS_MIN: usize = 20;

/// Starts a server with a new database and says in the environment of the tools where it is.
fn start(kind: Kind, schema_path: &str) -> (Server, Vec<(&'static str, String)>) {
    let server = Server::start(kind, &program::system_schema(schema_path).unwrap()).unwrap();
    let directory = server.directory().display().to_string();
    let environment = vec![
        ("OVN_NB_DB", server.remote()),
        ("OVN_SB_DB", server.remote()),
        ("OVN_NB_DAEMON", String::new()),
        ("OVS_RUNDIR", directory),
    ];
    (server, environment)
}

/// Plays a session of `tests/cases/sessions` on a new database.
fn play(kind: Kind, session: &str, schema_path: &str) -> Vec<String> {
    let steps = transcript::session(session).unwrap();
    assert!(steps.len() >= COMMANDS_MIN, "{session} has {} commands", steps.len());
    let (server, environment) = start(kind, schema_path);
    let mut transcript = Transcript::default();
    for step in &steps {
        let mut shell = program::tied(&program::system("sh").unwrap()).unwrap();
        shell.current_dir(server.directory()).envs(environment.clone());
        transcript.run(shell.args(["-c", &step.command]), step).unwrap();
    }
    transcript.lines().to_vec()
}

/// Compares what was printed on both servers, and says after which command it differs.
fn same(ours: &[String], theirs: &[String]) {
    for (index, (our, their)) in ours.iter().zip(theirs).enumerate() {
        let command = ours[..=index].iter().rfind(|line| line.starts_with("$ "));
        assert_eq!(our, their, "after {command:?}");
    }
    assert_eq!(ours.len(), theirs.len());
}

fn compare(session: &str, schema_path: &str) {
    same(
        &play(Kind::Nonnetd, session, schema_path),
        &play(Kind::Reference, session, schema_path),
    );
}

#[test]
fn a_session_of_ovs_vsctl_is_the_same() {
    compare("ovs-vsctl", open_vswitch::SCHEMA);
}

#[test]
fn a_session_of_vtep_ctl_is_the_same() {
    compare("vtep-ctl", "/usr/share/openvswitch/vtep.ovsschema");
}

#[test]
fn a_session_of_ovn_nbctl_is_the_same() {
    compare("ovn-nbctl", NORTHBOUND_SCHEMA);
}

#[test]
fn a_session_of_ovn_sbctl_is_the_same() {
    compare("ovn-sbctl", SOUTHBOUND_SCHEMA);
}

/// Plays a session with the tool in the background, which ends with the namespace that it runs in.
fn play_with_daemon(kind: Kind) -> Vec<String> {
    let netns = Netns::alone().unwrap();
    let (mut server, mut environment) = start(kind, NORTHBOUND_SCHEMA);
    let control = server.directory().join("nbctl.ctl").display().to_string();
    environment.retain(|(name, _)| *name != "OVN_NB_DAEMON");
    environment.push(("OVN_NB_DAEMON", control));
    let mut transcript = Transcript::default();
    for session in ["ovn-nbctl-daemon", "ovn-nbctl-daemon-later"] {
        for step in transcript::session(session).unwrap() {
            let script = format!("cd {} && {}", server.directory().display(), step.command);
            let mut shell = netns.command("sh");
            shell.args(["-c", &script]).envs(environment.clone());
            transcript.run(&mut shell, &step).unwrap();
        }
        server.kill().unwrap();
        server.run().unwrap();
    }
    let lines = transcript.lines().to_vec();
    let last = lines.last().unwrap();
    assert!(last.ends_with("exit"), "the tool in the background was there: {last}");
    lines
}

#[test]
fn ovn_nbctl_in_the_background_goes_on_after_a_restart_of_the_server() {
    same(&play_with_daemon(Kind::Nonnetd), &play_with_daemon(Kind::Reference));
}
