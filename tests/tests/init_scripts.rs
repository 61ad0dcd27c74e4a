//! The init scripts of Open vSwitch and OVN, unchanged, with our programs under the names that they start: what they print and do is what
//! they print and do with Debian's.

use std::fs;

use nonnet_tests::host_directories::HostDirectories;
use serde_json::Value;

const OVS_CTL: &str = "/usr/share/openvswitch/scripts/ovs-ctl";
const OVN_CTL: &str = "/usr/share/ovn/scripts/ovn-ctl";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// A script's output and exit status, without what differs from run to run.
fn script(host: &HostDirectories, words: &[&str]) -> (Option<i32>, String) {
    let output = host.run(words[0], &words[1..]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let text = text.replace(&host.path("").display().to_string(), "");
    let is_number = |word: &str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_digit());
    let masked = text.split_inclusive([' ', '(', ')', '\n', '.']).map(|piece| {
        let word = piece.trim_end_matches([' ', '(', ')', '\n', '.']);
        if is_number(word) {
            piece.replacen(word, "PID", 1)
        } else {
            piece.to_owned()
        }
    });
    (output.status.code(), masked.collect())
}

fn ovs_ctl(host: &HostDirectories, command: &str) -> (Option<i32>, String) {
    script(
        host,
        &[
            OVS_CTL,
            "--system-id=test",
            "--no-ovs-vswitchd",
            "--no-record-hostname",
            command,
        ],
    )
}

/// An older schema: a column less, another version.
fn old_schema(host: &HostDirectories) {
    let mut schema: Value = serde_json::from_str(&fs::read_to_string(SCHEMA).unwrap()).unwrap();
    let columns = schema["tables"]["Open_vSwitch"]["columns"].as_object_mut().unwrap();
    columns.remove("ovs_version").unwrap();
    schema["version"] = "8.0.0".into();
    schema["cksum"] = "1 2".into();
    fs::write(host.path("old.ovsschema"), schema.to_string()).unwrap();
}

#[test]
fn ovs_ctl_starts_upgrades_restarts_and_stops_the_server() {
    let told = [HostDirectories::theirs().unwrap(), HostDirectories::ours().unwrap()].map(|host| {
        let mut told = Vec::new();
        old_schema(&host);
        host.succeed("ovsdb-tool", &["create", "db/conf.db", "old.ovsschema"]);
        let kept = r#"["Open_vSwitch",{"op":"insert","table":"Open_vSwitch","row":{"external_ids":["map",[["kept","yes"]]]}}]"#;
        host.succeed("ovsdb-tool", &["transact", "db/conf.db", kept]);
        for command in ["start", "status", "start"] {
            told.push(ovs_ctl(&host, command));
        }
        host.succeed("ovs-vsctl", &["--no-wait", "add-br", "br0"]);
        let before = host.pid("ovsdb-server").unwrap();
        told.push(ovs_ctl(&host, "restart"));
        assert_ne!(host.pid("ovsdb-server").unwrap(), before);
        let vsctl = |words: &[&str]| (Some(0), host.succeed("ovs-vsctl", words));
        told.push(vsctl(&["--no-wait", "list-br"]));
        told.push(vsctl(&["--no-wait", "get", "Open_vSwitch", ".", "external_ids:kept", "external_ids:system-id"]));
        for command in ["stop", "status"] {
            told.push(ovs_ctl(&host, command));
        }
        // Back to the older schema, and up again: now the file is the server's own.
        host.succeed("ovsdb-tool", &["convert", "db/conf.db", "old.ovsschema"]);
        told.push(ovs_ctl(&host, "start"));
        told.push(vsctl(&["--no-wait", "list-br"]));
        told.push(ovs_ctl(&host, "stop"));
        let backup = "db/conf.db.backup8.0.0-1";
        for words in [&["db-version", "db/conf.db"][..], &["db-version", backup], &["needs-conversion", "db/conf.db"]] {
            told.push((Some(0), host.succeed("ovsdb-tool", words)));
        }
        let bridges = r#"["Open_vSwitch",{"op":"select","table":"Bridge","where":[],"columns":["name"]}]"#;
        told.push((Some(0), host.succeed("ovsdb-tool", &["query", backup, bridges])));
        assert_eq!(host.files("run"), [""; 0]);
        told
    });
    assert_eq!(told[1], told[0]);
    assert!(
        told[0]
            .iter()
            .any(|(_, text)| text.contains("Converting database schema")),
        "{told:?}"
    );
}

#[test]
fn ovn_ctl_starts_restarts_and_stops_the_servers() {
    let told = [HostDirectories::theirs().unwrap(), HostDirectories::ours().unwrap()].map(|host| {
        let mut told = Vec::new();
        for command in ["start_nb_ovsdb", "start_sb_ovsdb", "status_ovsdb"] {
            told.push(script(&host, &[OVN_CTL, command]));
        }
        let files = host.files("run").join(" ");
        assert_eq!(
            files,
            "ovnnb_db.ctl ovnnb_db.pid ovnnb_db.sock ovnsb_db.ctl ovnsb_db.pid ovnsb_db.sock"
        );
        let remote = format!("--db=unix:{}", host.path("run/ovnnb_db.sock").display());
        host.succeed("ovn-nbctl", &[&remote, "ls-add", "sw0"]);
        told.push(script(&host, &[OVN_CTL, "restart_nb_ovsdb"]));
        let listed = host.succeed(
            "ovn-nbctl",
            &[&remote, "--bare", "--columns=name", "list", "Logical_Switch"],
        );
        told.push((Some(0), listed));
        for command in ["stop_nb_ovsdb", "stop_sb_ovsdb", "status_ovsdb"] {
            told.push(script(&host, &[OVN_CTL, command]));
        }
        assert_eq!(host.files("run"), [""; 0]);
        told
    });
    assert_eq!(told[1], told[0]);
}
