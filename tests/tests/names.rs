//! Our server called as `ovsdb-server`: that program's command line, files and words, for scripts that look for it on PATH.

use std::fs;
use std::path::Path;

use nonnet_tests::host_directories::HostDirectories;
use nonnet_tests::program;

const SCHEMA: &str =
    r#"{"name":"ordinals","version":"5.1.3","tables":{"ordinals":{"columns":{"number":{"type":"integer"}}}}}"#;

fn with_schema(host: HostDirectories) -> HostDirectories {
    fs::write(host.path("s.ovsschema"), SCHEMA).unwrap();
    host
}

fn ours() -> HostDirectories {
    with_schema(HostDirectories::ours().unwrap())
}

fn theirs() -> HostDirectories {
    with_schema(HostDirectories::theirs().unwrap())
}

const DETACHED: [&str; 5] = [
    "--detach",
    "--pidfile",
    "--log-file",
    "--remote=punix:db.sock",
    "-vconsole:off",
];

#[test]
fn everything_has_the_place_that_ovsdb_server_gives_it() {
    let listings = [theirs(), ours()].map(|host| {
        host.succeed("ovsdb-tool", &["create", "db/conf.db", "s.ovsschema"]);
        host.succeed("ovsdb-server", &DETACHED);
        let pid = fs::read_to_string(host.path("run/ovsdb-server.pid")).unwrap();
        let pid = pid.trim();
        assert_eq!(
            fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(),
            "ovsdb-server\n"
        );
        // The clients find it without a word, ovs-appctl by the name of the pid file.
        assert_eq!(host.succeed("ovsdb-client", &["list-dbs"]), "_Server\nordinals\n");
        let version = host.succeed("ovs-appctl", &["-t", "ovsdb-server", "version"]);
        assert!(version.starts_with("ovsdb-server (Open vSwitch) 3."), "{version}");
        let files = host.files("run").join(" ").replace(pid, "PID");
        host.succeed("ovs-appctl", &["-t", "ovsdb-server", "exit"]);
        while Path::new("/proc").join(pid).exists() {
            std::thread::sleep(program::POLL_INTERVAL);
        }
        (files, host.files("run"), host.files("log"))
    });
    assert_eq!(listings[0].0, "db.sock ovsdb-server.PID.ctl ovsdb-server.pid");
    assert_eq!(listings[1], listings[0]);
}

#[test]
fn a_file_of_ovsdb_server_is_served_and_both_tools_know_it_afterwards() {
    let host = ours();
    host.succeed("ovsdb-tool", &["create", "db/conf.db", "s.ovsschema"]);
    for number in 1..=2 {
        let insert = format!(r#"["ordinals",{{"op":"insert","table":"ordinals","row":{{"number":{number}}}}}]"#);
        host.succeed("ovsdb-tool", &["transact", "db/conf.db", &insert]);
        host.succeed("ovsdb-server", &DETACHED);
        // A server has it open: it can be read, not written.
        let refused = host.run("ovsdb-tool", &["transact", "db/conf.db", &insert]);
        let stderr = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr.contains("failed to lock lockfile"), "{stderr}");
        let dumped = host.succeed(
            "ovsdb-client",
            &["dump", "--format=csv", "ordinals", "ordinals", "number"],
        );
        assert_eq!(dumped.lines().count(), 2 + number, "{dumped}");
        let select = r#"["ordinals",{"op":"select","table":"ordinals","where":[],"columns":["number"]}]"#;
        let selected = host.succeed("ovsdb-tool", &["query", "db/conf.db", select]);
        assert_eq!(selected.matches("\"number\":").count(), number, "{selected}");
        let pid = fs::read_to_string(host.path("run/ovsdb-server.pid")).unwrap();
        host.succeed("ovs-appctl", &["-t", "ovsdb-server", "exit"]);
        while Path::new("/proc").join(pid.trim()).exists() {
            std::thread::sleep(program::POLL_INTERVAL);
        }
    }
    assert!(
        host.files("db").contains(&"conf.db.ovsdb".to_owned()),
        "{:?}",
        host.files("db")
    );
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_ovsdb_server_and_nothing_is_made() {
    let (ours, theirs) = (ours(), theirs());
    for host in [&ours, &theirs] {
        fs::write(host.path("empty.db"), "").unwrap();
    }
    for words in [
        &[][..],
        &["--detach"],
        &["nosuch.db"],
        &["--detach", "--pidfile", "nosuch.db"],
        &["empty.db"],
        &["s.ovsschema"],
        &["--bogus"],
    ] {
        let told = [&ours, &theirs].map(|host| {
            let output = host.run("ovsdb-server", words);
            let stderr = String::from_utf8(output.stderr).unwrap();
            let here = host.path("").display().to_string();
            // Beside them both log.
            let words = stderr.lines().rfind(|line| line.starts_with("ovsdb-server: "));
            let words = words.map(|line| line.replace(&here, ""));
            (output.status.code(), words, host.files("run"))
        });
        assert_eq!(told[0], told[1], "{words:?}");
        assert!(told[0].1.is_some(), "{words:?}");
        assert!(!ours.path("db/conf.db").exists() && !ours.path("nosuch.db").exists());
    }
}

#[test]
fn the_version_is_where_scripts_look_for_it() {
    let host = ours();
    for name in ["ovsdb-server", "ovsdb-tool"] {
        for option in ["-V", "--version"] {
            let version = host.succeed(name, &[option]);
            let (first, rest) = version.split_once('\n').unwrap();
            assert!(first.starts_with(&format!("{name} (Open vSwitch) 3.")), "{version}");
            assert!(rest.contains("nonnet"), "{version}");
        }
    }
}

#[test]
fn a_script_learns_the_port_that_the_kernel_chose() {
    let host = ours();
    host.succeed("ovsdb-tool", &["-v", "create", "db/conf.db", "s.ovsschema"]);
    let output = host.run(
        "ovsdb-server",
        &[
            "--detach",
            "--no-chdir",
            "--pidfile",
            "--monitor",
            "--no-self-confinement",
            "-vconsole:off",
            "--remote=ptcp:0:127.0.0.1",
            "-vsocket_util:console:info",
        ],
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let (_, port) = stderr.split_once("0:127.0.0.1: listening on port ").unwrap();
    let remote = format!("tcp:127.0.0.1:{}", port.trim());
    assert_eq!(
        host.succeed("ovsdb-client", &["list-dbs", &remote]),
        "_Server\nordinals\n"
    );
}

#[test]
fn the_user_is_changed_before_anything_is_made() {
    let host = ours();
    host.succeed("ovsdb-tool", &["create", "db/conf.db", "s.ovsschema"]);
    host.succeed("chown", &["-R", "nobody", "."]);
    let refused = host.run("ovsdb-server", &["--user=nosuch", "--detach"]);
    assert_eq!(refused.status.code(), Some(1));
    host.succeed(
        "ovsdb-server",
        &["--detach", "--pidfile", "--user", "nobody", "--remote=punix:db.sock"],
    );
    let pid = fs::read_to_string(host.path("run/ovsdb-server.pid")).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    let nobody = host.succeed("id", &["-u", "nobody"]);
    assert!(uids.split_whitespace().all(|uid| uid == nobody.trim()), "{uids}");
    let owner = host.succeed(
        "stat",
        &["-c", "%U", "run/db.sock", "db/conf.db", "run/ovsdb-server.pid"],
    );
    assert_eq!(owner, "nobody\nnobody\nnobody\n");
}
