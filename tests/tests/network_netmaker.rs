//! Netmaker: rows of `network_type` netmaker join and leave by `netclient`, with tokens that nobody sees.
//!
//! netclient itself comes with a server's account only, and in no package. A stand-in of ours takes its place, which takes the same commands, answers
//! `list` in the same form, and fails in the ways in which the real one does: it ends with status 0 without having joined, hangs, crashes, or prints something else.
//! What the real one does on the wire is not tested here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nonnet_tests::host::{Host, bridge_and_network, delete, insert, update};
use serde_json::{Value, json};

const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.default-secret.sIgNaTuRe";
const TOKEN_PROD: &str = "eyJhbGciOiJIUzI1NiJ9.production-secret.sIgNaTuRe";

/// The stand-in. A namespace stands for a machine; the network that a token stands for is named by its hash.
const NETCLIENT: &str = r#"#!/bin/sh
dir=DIRECTORY
state=$dir/joined.$(readlink /proc/self/ns/net | tr -dc 0-9)
mode=$(cat "$dir/mode")
echo "$*" >> "$dir/calls"
again() { n=$(cat "$dir/count" 2>/dev/null || echo 0); echo $((n + 1)) > "$dir/count"; [ "$n" -lt 2 ]; }
case $1 in
join)
    case $mode in
    silent) echo "error installing: no route to host"; exit 0 ;;
    garbage) exit 0 ;;
    hang) : > "$dir/hangs"; sleep 600 ;;
    crash) echo "failed to parse access token $TOKEN" >&2; kill -SEGV $$ ;;
    flaky) if again; then echo "server busy" >&2; exit 1; fi ;;
    esac
    [ -n "$TOKEN" ] || exit 0
    printf %s "$TOKEN" | md5sum | cut -c1-8 > "$state" ;;
list)
    [ "$mode" = garbage ] && { echo "Connected networks: prod"; exit 0; }
    [ -f "$state" ] || { echo; echo "no such network"; exit 0; }
    printf '[\n {\n  "network": "net-%s",\n  "node_id": "1",\n  "connected": true,\n  "ipv4_addr": "100.64.0.5/32",\n  "ipv6_addr": ""\n }\n]\n' "$(cat "$state")" ;;
leave)
    if [ "$mode" = flaky ] && again; then echo "cannot reach server" >&2; exit 1; fi
    rm -f "$state" ;;
esac
"#;

struct Mesh {
    host: Host,
    directory: PathBuf,
}

impl Mesh {
    fn start(mode: &str) -> Self {
        let mut host = Host::prepare(&[]);
        let directory = host.netns.directory().join("mesh");
        fs::create_dir(&directory).unwrap();
        let program = directory.join("netclient");
        fs::write(&program, NETCLIENT.replace("DIRECTORY", directory.to_str().unwrap())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mesh_directory = directory.clone();
        let tokens = directory.join("netmaker.env");
        host.arguments(&[
            &format!("--netclient={}", program.display()),
            &format!("--token-file={}", tokens.display()),
            "--netclient-timeout=5",
            &format!("--lxc-path={}", directory.join("lxc").display()),
            "-vv",
        ]);
        let mut mesh = Self {
            host,
            directory: mesh_directory,
        };
        mesh.tokens(
            &format!("# tokens\nNETMAKER_TOKEN='{TOKEN}'\nexport NETMAKER_TOKEN_PROD={TOKEN_PROD}\r\nEMPTY=\n"),
            0o600,
        );
        mesh.mode(mode);
        mesh.host.run();
        mesh
    }

    fn tokens(&self, text: &str, mode: u32) {
        let path = self.directory.join("netmaker.env");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(&self, mode: &str) {
        fs::write(self.directory.join("mode"), mode).unwrap();
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.directory.join("calls")).unwrap_or_default()
    }

    fn status(&mut self, id: &str, key: &str) -> String {
        self.host.row("lxc", id)["status"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The network that a token stands for.
    fn network(&self, token: &str) -> String {
        let hash = self.host.sh(&format!("printf %s '{token}' | md5sum | cut -c1-8"));
        format!("net-{}", hash.trim())
    }

    fn fails_with(&mut self, id: &str, words: &str) {
        self.host.until(&format!("{id} fails with {words:?}"), |host| {
            host.state("lxc", id) == "failed" && host.error("lxc", id).contains(words)
        });
    }

    /// No token is in the database's files, in the log, or in the arguments of any process.
    fn check_secrecy(&mut self) {
        let directory = self.host.netns.directory().to_owned();
        for entry in fs::read_dir(&directory).unwrap().flatten() {
            if entry.file_type().unwrap().is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                for token in [TOKEN, TOKEN_PROD] {
                    let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
                    assert!(!found, "a token is in {}", entry.path().display());
                }
            }
        }
        let arguments = self
            .host
            .sh("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; true");
        assert!(
            !arguments.contains("secret.sIgNaTuRe"),
            "a token is in an argument: {arguments}"
        );
        for table in ["lxc", "ports", "events", "host"] {
            let rows = format!("{:?}", self.host.rows(table));
            assert!(!rows.contains("secret.sIgNaTuRe"), "a token is in table {table}");
        }
    }
}

fn member(id: &str, more: &[(&str, &str)]) -> Value {
    let mut pairs = vec![json!(["network_type", "netmaker"])];
    pairs.extend(more.iter().map(|(key, value)| json!([key, value])));
    insert(
        "lxc",
        &format!("lxc{id}"),
        &json!({"id": id, "running": true, "properties": ["map", pairs]}),
    )
}

#[test]
fn each_container_joins_with_its_own_token_and_leaves_when_its_row_goes() {
    let mut mesh = Mesh::start("good");
    for id in ["100", "102"] {
        mesh.host.netns.add(id).unwrap();
    }
    let prod = [("netmaker_token_env", "NETMAKER_TOKEN_PROD")];
    mesh.host.transact(&[member("100", &[]), member("102", &prod)]);
    mesh.host.converged();
    for (id, token) in [("100", TOKEN), ("102", TOKEN_PROD)] {
        assert_eq!(mesh.status(id, "mesh"), "joined");
        assert_eq!(mesh.status(id, "mesh_networks"), mesh.network(token));
        assert_eq!(mesh.status(id, "mesh_ip"), "100.64.0.5/32");
    }
    mesh.check_secrecy();

    // A server that starts anew finds them joined.
    mesh.host.stop();
    let joins = mesh.calls().matches("join").count();
    mesh.host.run();
    mesh.host.converged();
    assert_eq!(
        (mesh.calls().matches("join").count(), mesh.status("100", "mesh")),
        (joins, "joined".to_owned())
    );

    mesh.host.transact(&[delete("lxc", "100")]);
    mesh.host.converged();
    assert!(
        mesh.calls().contains(&format!("leave {}", mesh.network(TOKEN))),
        "{}",
        mesh.calls()
    );
    mesh.host.transact(&[delete("lxc", "102")]);
    mesh.host.converged();
    let left = fs::read_dir(&mesh.directory).unwrap().flatten();
    assert_eq!(
        left.filter(|entry| entry.file_name().to_string_lossy().starts_with("joined"))
            .count(),
        0
    );
    mesh.check_secrecy();
}

#[test]
fn status_zero_is_no_proof_and_what_fails_is_tried_again() {
    let mut mesh = Mesh::start("silent");
    mesh.host.netns.add("100").unwrap();
    mesh.host.transact(&[member("100", &[])]);
    mesh.fails_with(
        "100",
        "netclient list shows no connected network; it had said: error installing: no route to host",
    );
    mesh.mode("garbage");
    mesh.fails_with(
        "100",
        "netclient list gave no list of networks: Connected networks: prod",
    );
    mesh.mode("crash");
    mesh.fails_with(
        "100",
        "netclient was ended by SIGSEGV: failed to parse access token ***",
    );
    mesh.mode("hang");
    mesh.host
        .until("it hangs", |host| host.netns.directory().join("mesh/hangs").exists());
    mesh.check_secrecy();
    mesh.fails_with("100", "netclient did not end within 5 s and was killed");
    mesh.mode("flaky");
    mesh.host.until_state("lxc", "100", "converged");
    assert_eq!(mesh.status("100", "mesh"), "joined");
    mesh.check_secrecy();
}

#[test]
fn a_token_that_is_not_there_is_the_rows_error_and_no_other_is_taken() {
    let mut mesh = Mesh::start("good");
    mesh.host.netns.add("100").unwrap();
    mesh.host
        .transact(&[member("100", &[("netmaker_token_env", "NETMAKER_TOKEN_DEV")])]);
    mesh.fails_with("100", "variable NETMAKER_TOKEN_DEV is not in");
    assert!(!mesh.calls().contains("join"));
    mesh.tokens(&format!("NETMAKER_TOKEN_DEV={TOKEN}\n"), 0o644);
    mesh.fails_with("100", "is open to others (mode 0644)");
    mesh.tokens(
        &format!("NETMAKER_TOKEN_DEV={TOKEN_PROD}\nNETMAKER_TOKEN_DEV=\"{TOKEN}\"\n"),
        0o600,
    );
    mesh.host.until_state("lxc", "100", "converged");
    assert_eq!(mesh.status("100", "mesh_networks"), mesh.network(TOKEN));
    mesh.check_secrecy();
}

#[test]
fn a_network_is_left_before_its_link_goes_however_often_that_takes() {
    let mut mesh = Mesh::start("good");
    mesh.host.netns.add("100").unwrap();
    let mut operations = bridge_and_network("vmbr0", "lan", &[("192.168.1.0/24", "192.168.1.1")]);
    let mut row = member("100", &[("ipv4", "192.168.1.100/24")]);
    row["row"]["bridge"] = json!("vmbr0");
    operations.push(row);
    mesh.host.transact(&operations);
    mesh.host.converged();
    assert_eq!(
        (mesh.status("100", "mesh"), mesh.status("100", "network")),
        ("joined".to_owned(), "converged".to_owned())
    );
    let _ = fs::remove_file(mesh.directory.join("count"));
    mesh.mode("flaky");
    mesh.host.transact(&[delete("lxc", "100")]);
    mesh.host.until("it has tried twice", |host| {
        let calls = fs::read_to_string(host.netns.directory().join("mesh/calls")).unwrap();
        let there = host.link("vi100").is_some();
        assert!(
            there || calls.matches("leave").count() >= 3,
            "the link went before the network was left"
        );
        calls.matches("leave").count() >= 3
    });
    mesh.host.converged();
    assert!(mesh.host.link("vi100").is_none());
}

#[test]
fn a_token_in_a_row_is_refused_without_being_repeated() {
    let mut mesh = Mesh::start("good");
    for (property, value) in [
        ("netmaker_token_env", TOKEN),
        ("netmaker_token", TOKEN),
        ("netmaker_token_env", "lower"),
        ("netmaker_token_env", ""),
    ] {
        let (_, details) = mesh.host.refused(&[member("100", &[(property, value)])]);
        assert!(
            details.contains("\"100\"") && details.contains(&format!("properties:{property}")),
            "{details}"
        );
        assert!(!details.contains("sIgNaTuRe"), "{details}");
    }
    mesh.check_secrecy();
}

#[test]
fn without_netclient_the_row_says_so() {
    let mut mesh = Mesh::start("good");
    fs::remove_file(mesh.directory.join("netclient")).unwrap();
    mesh.host.netns.add("100").unwrap();
    mesh.host.transact(&[member("100", &[])]);
    mesh.fails_with("100", "network_type netmaker needs netclient on this host");
    mesh.host.transact(&[update(
        "lxc",
        "100",
        &json!({"properties": ["map", [["network_type", "none"]]]}),
    )]);
    mesh.host.converged();
}
