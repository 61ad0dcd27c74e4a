//! `WireGuard` links with the real `wireguard-go` and `wg`: made, moved, healed, and their keys seen by nobody.

use std::fs;

use nonnet_tests::host::{Host, delete, insert, update};
use serde_json::{Value, json};

/// Where the two ends of the tunnel are, and what they have.
const ENDS: [End; 2] = [
    End {
        port: "wg1",
        netns: "c1",
        addresses: ["10.90.0.1/24", "fd90::1/64"],
        behind: ["10.91.1.0/24", "fd91:1::/64"],
        listen: 51_821,
    },
    End {
        port: "wg2",
        netns: "c2",
        addresses: ["10.90.0.2/24", "fd90::2/64"],
        behind: ["10.91.2.0/24", "fd91:2::/64"],
        listen: 51_822,
    },
];

struct End {
    port: &'static str,
    netns: &'static str,
    addresses: [&'static str; 2],
    behind: [&'static str; 2],
    listen: u16,
}

impl End {
    fn key_file(&self, host: &Host) -> String {
        format!("{}/{}.key", host.netns.directory().display(), self.port)
    }

    fn row(&self, host: &Host) -> Value {
        let listen = self.listen.to_string();
        json!({
            "name": self.port, "kind": "wireguard", "netns": self.netns, "addresses": ["set", self.addresses],
            "options": ["map", [["private_key_file", self.key_file(host)], ["listen_port", listen], ["userspace", "true"]]],
        })
    }

    /// The row that tells the other end of this one.
    fn peer(&self, key: &str) -> Value {
        let [v4, v6] = self
            .addresses
            .map(|address| address.split('/').next().unwrap_or_default().to_owned());
        let [behind4, behind6] = self.behind.map(str::to_owned);
        json!({
            "key": key, "endpoint": format!("127.0.0.1:{}", self.listen), "keepalive": 5,
            "allowed": ["set", [v4, v6, behind4, behind6]],
        })
    }
}

/// A host with both ends, which know each other.
fn tunnel() -> (Host, [String; 2]) {
    let mut host = Host::start();
    for end in &ENDS {
        host.netns.add(end.netns).unwrap();
    }
    let rows: Vec<Value> = ENDS
        .iter()
        .map(|end| insert("ports", end.port, &end.row(&host)))
        .collect();
    host.transact(&rows);
    host.converged();
    let keys = ENDS.each_ref().map(|end| public_key(&mut host, end.port));
    meet(&mut host, &keys);
    (host, keys)
}

fn public_key(host: &mut Host, port: &str) -> String {
    host.row("ports", port)["status"]["public_key"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Tells each end of the other.
fn meet(host: &mut Host, keys: &[String; 2]) {
    let mut operations = Vec::new();
    for (own, other) in [(0, 1), (1, 0)] {
        let name = format!("peer_{other}");
        operations.push(insert("peers", &name, &ENDS[other].peer(&keys[other])));
        operations.push(update("ports", ENDS[own].port, &json!({"peers": ["named-uuid", name]})));
    }
    host.transact(&operations);
    host.converged();
}

fn reaches(host: &mut Host) {
    host.until("both families pass the tunnel", |host| {
        host.succeeds("ip netns exec c1 ping -n -c 1 -W 1 10.90.0.2")
            && host.succeeds("ip netns exec c2 ping -n -c 1 -W 1 fd90::1")
    });
}

fn private_keys(host: &Host) -> Vec<String> {
    let keys = ENDS
        .iter()
        .map(|end| fs::read_to_string(end.key_file(host)).unwrap().trim().to_owned());
    keys.collect()
}

fn peer(host: &mut Host, key: &str) -> Value {
    let rows = host.rows("peers");
    rows.into_iter().find(|row| row["key"] == key).unwrap()
}

/// The process of a link.
fn program(host: &Host, name: &str) -> String {
    host.sh(&format!("pgrep -f '^wireguard-go {name}$' || true"))
        .trim()
        .to_owned()
}

#[test]
fn two_namespaces_reach_each_other_and_the_rows_tell_of_the_handshake() {
    let (mut host, keys) = tunnel();
    reaches(&mut host);
    for end in &ENDS {
        let link = host.links_in(end.netns).remove("eth0").unwrap();
        assert_eq!(link["linkinfo"]["info_kind"], "tun");
        assert!(link["ifalias"].as_str().unwrap().starts_with("nonnet:ports/"), "{link}");
        assert!(host.link(end.port).is_none(), "the link has moved");
        let status = host.row("ports", end.port)["status"].clone();
        assert_eq!(status["listen_port"], end.listen.to_string());
        let routes = host.sh(&format!("ip -n {0} route; ip -n {0} -6 route", end.netns));
        let other = if end.port == "wg1" { &ENDS[1] } else { &ENDS[0] };
        assert!(other.behind.iter().all(|prefix| routes.contains(prefix)), "{routes}");
    }
    // The tunnel's own sockets are the host's.
    let sockets = host.sh("ss -Huln");
    assert!(sockets.contains(":51821") && sockets.contains(":51822"), "{sockets}");
    assert_eq!(host.sh("ip netns exec c1 ss -Huln").trim(), "");
    host.until("the rows tell of it", |host| {
        keys.iter().all(|key| {
            let status = &peer(host, key)["status"];
            let moment = status["latest_handshake"].as_str().unwrap_or_default();
            moment.ends_with('Z') && status["received"].as_str().is_some_and(|octets| octets != "0")
        })
    });
    let status = peer(&mut host, &keys[0])["status"].clone();
    assert_eq!(
        (&status["state"], &status["endpoint"]),
        (&json!("converged"), &json!("127.0.0.1:51821"))
    );
}

#[test]
fn a_key_that_is_missing_is_made_for_root_alone_and_nobody_else_sees_one() {
    let (mut host, _) = tunnel();
    let shared = format!("{}/shared", host.netns.directory().display());
    host.sh(&format!("umask 077; wg genpsk > {shared}"));
    let secret = json!({"secret": format!("file:{shared}")});
    host.transact(&[json!({"op": "update", "table": "peers", "where": [], "row": secret})]);
    host.converged();
    reaches(&mut host);
    assert!(
        host.sh("wg show wg1 preshared-keys")
            .contains(fs::read_to_string(&shared).unwrap().trim())
    );
    for end in &ENDS {
        assert_eq!(
            host.sh(&format!("stat -c '%a %u' {}", end.key_file(&host))).trim(),
            "600 0"
        );
    }
    let mut secrets = private_keys(&host);
    secrets.push(fs::read_to_string(&shared).unwrap().trim().to_owned());
    let rows: Vec<Value> = ["ports", "peers", "events", "host"]
        .iter()
        .flat_map(|table| host.rows(table))
        .collect();
    let rows = json!(rows).to_string();
    let arguments = host.sh("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' ' '");
    // The history is in the files whose names begin with the database's.
    let files = format!("{}*", host.file().display());
    assert!(host.succeeds(&format!("grep -aq private_key_file {files}")));
    for secret in &secrets {
        for (place, text) in [("rows", &rows), ("arguments", &arguments), ("log", &host.log())] {
            assert!(!text.contains(secret.as_str()), "a key is in the {place}");
        }
        assert!(
            !host.succeeds(&format!("grep -aqF '{secret}' {files}")),
            "a key is in a file"
        );
    }
    // A key shared no more is taken out of the link, too.
    host.transact(&[json!({"op": "update", "table": "peers", "where": [], "row": {"secret": ["set", []]}})]);
    host.converged();
    assert!(host.sh("wg show wg1 preshared-keys").contains("(none)"));
}

#[test]
fn a_peer_that_is_dropped_is_cut_off_and_its_routes_go() {
    let (mut host, keys) = tunnel();
    reaches(&mut host);
    host.transact(&[update("ports", "wg1", &json!({"peers": ["set", []]}))]);
    host.converged();
    assert!(!host.succeeds("ip netns exec c1 ping -n -c 1 -W 1 10.90.0.2"));
    let routes = host.sh("ip -n c1 route; ip -n c1 -6 route");
    assert!(!routes.contains("10.91.2.0") && !routes.contains("fd91:2:"), "{routes}");
    assert_eq!(host.sh("wg show wg1 peers").trim(), "");
    host.transact(&[
        insert("peers", "again", &ENDS[1].peer(&keys[1])),
        update("ports", "wg1", &json!({"peers": ["named-uuid", "again"]})),
    ]);
    host.converged();
    reaches(&mut host);
    // What a peer may have changes in place.
    let fewer = json!({"allowed": ["set", ["10.90.0.2", "10.92.0.0/16"]]});
    let of_peer = json!([["key", "==", keys[1]]]);
    host.transact(&[json!({"op": "update", "table": "peers", "where": of_peer, "row": fewer})]);
    host.converged();
    let routes = host.sh("ip -n c1 route; ip -n c1 -6 route");
    assert!(
        routes.contains("10.92.0.0/16") && !routes.contains("10.91.2.0"),
        "{routes}"
    );
}

#[test]
fn what_somebody_else_changes_is_healed() {
    let (mut host, keys) = tunnel();
    reaches(&mut host);
    let before = host.last_event();
    host.sh(&format!("wg set wg1 peer {} remove", keys[1]));
    host.until_event(before, "healed", "wg1");
    reaches(&mut host);
    let before = host.last_event();
    host.sh("umask 077; wg genkey > /run/other; wg set wg2 private-key /run/other listen-port 9 fwmark 7");
    host.until_event(before, "healed", "wg2");
    assert_eq!(host.sh("wg show wg2 listen-port").trim(), "51822");
    assert_eq!(host.sh("wg show wg2 fwmark").trim(), "off");
    reaches(&mut host);
    // The process is the link: it comes back with all that was on it.
    let before = host.last_event();
    let old = program(&host, "wg1");
    host.sh(&format!("kill -9 {old}"));
    host.until_event(before, "healed", "wg1");
    host.converged();
    reaches(&mut host);
    assert_ne!(program(&host, "wg1"), old);
    let before = host.last_event();
    host.sh("ip -n c2 link del eth0");
    host.until_event(before, "healed", "wg2");
    host.converged();
    reaches(&mut host);
}

#[test]
fn a_crash_of_the_server_is_not_felt_and_its_next_start_changes_nothing() {
    let (mut host, _) = tunnel();
    reaches(&mut host);
    let programs = [program(&host, "wg1"), program(&host, "wg2")];
    let index = |host: &Host| host.links_in("c1")["eth0"]["ifindex"].clone();
    let before = (host.sh("wg show wg1 latest-handshakes"), index(&host));
    let mut command = host.netns.command("sh");
    let report = host.netns.directory().join("ping");
    let script = "exec ip netns exec c1 ping -n -i 0.1 -c 30 -W 2 10.90.0.2 > \"$0\"";
    command.args(["-c", script]).arg(&report);
    let mut ping = host.netns.spawn_command(&mut command).unwrap();
    host.kill();
    host.run();
    host.converged();
    ping.wait().unwrap();
    let said = fs::read_to_string(report).unwrap();
    assert!(said.contains(" 0% packet loss"), "{said}");
    assert_eq!((host.sh("wg show wg1 latest-handshakes"), index(&host)), before);
    assert_eq!([program(&host, "wg1"), program(&host, "wg2")], programs);
    let kinds: Vec<String> = host
        .events(0)
        .iter()
        .map(|event| event["kind"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        !kinds.is_empty() && kinds.iter().all(|kind| kind == "adopted"),
        "{kinds:?}"
    );
}

#[test]
fn with_the_row_the_link_and_its_process_go() {
    let (mut host, _) = tunnel();
    assert!(!program(&host, "wg1").is_empty());
    host.transact(&[delete("ports", "wg1")]);
    host.until("the link is gone", |host| !host.links_in("c1").contains_key("eth0"));
    host.until("its process is gone", |host| program(host, "wg1").is_empty());
    assert!(!program(&host, "wg2").is_empty());
    assert_eq!(host.sh("ls /run/wireguard").trim(), "wg2.sock");
    // So they do with their namespace.
    host.sh("ip netns del c2");
    host.until("its process is gone", |host| program(host, "wg2").is_empty());
    host.until_state("ports", "wg2", "waiting");
    host.netns.add("c2").unwrap();
    host.until_state("ports", "wg2", "converged");
    assert!(host.links_in("c2").contains_key("eth0"));
}

#[test]
fn a_link_on_the_host_and_peers_of_a_network() {
    let mut host = Host::start();
    host.netns.add("c1").unwrap();
    let key = host.sh("wg genkey | wg pubkey");
    let network = json!({"name": "mesh", "subnets": ["map", [["10.90.0.0/24", ""]]], "ipam": "none", "peers": ["named-uuid", "peer"]});
    let options = json!([
        "map",
        [
            ["private_key_file", format!("{}/k", host.netns.directory().display())],
            ["userspace", "true"],
            ["fwmark", "0x2a"]
        ]
    ]);
    host.transact(&[
        insert(
            "peers",
            "peer",
            &json!({"kind": "wireguard", "key": key.trim(), "allowed": "10.91.0.0/16"}),
        ),
        insert("networks", "network", &network),
        insert(
            "ports",
            "p",
            &json!({"name": "wg9", "kind": "wireguard", "network": ["named-uuid", "network"],
            "addresses": "10.90.0.9", "mtu": 1380, "options": options}),
        ),
    ]);
    host.converged();
    let link = host.link("wg9").unwrap();
    assert_eq!(
        (&link["mtu"], &link["linkinfo"]["info_kind"]),
        (&json!(1380), &json!("tun"))
    );
    assert!(host.sh("ip route").contains("10.91.0.0/16 dev wg9"));
    assert!(host.sh("wg show wg9").contains(key.trim()));
    assert_eq!(host.sh("wg show wg9 fwmark").trim(), "0x2a");
    // It moves, and what was on the host goes.
    host.transact(&[update("ports", "wg9", &json!({"netns": "c1"}))]);
    host.converged();
    assert!(host.link("wg9").is_none() && host.links_in("c1").contains_key("eth0"));
    assert!(!host.sh("ip route").contains("10.91.0.0/16") && host.sh("ip -n c1 route").contains("10.91.0.0/16"));
    assert_eq!(host.sh("pgrep -c wireguard-go").trim(), "1");
}

#[test]
fn a_kernel_without_wireguard_says_so_in_the_row() {
    let mut host = Host::start();
    let capabilities = host.rows("host")[0]["capabilities"].to_string();
    let options = json!(["map", [["private_key_file", "/run/k"]]]);
    host.transact(&[insert(
        "ports",
        "p",
        &json!({"name": "wg0", "kind": "wireguard", "addresses": "10.90.0.9/24", "options": options}),
    )]);
    host.settled();
    if capabilities.contains("link:wireguard") {
        host.until_state("ports", "wg0", "converged");
        assert_eq!(host.link("wg0").unwrap()["linkinfo"]["info_kind"], "wireguard");
    } else {
        host.until_state("ports", "wg0", "failed");
        let error = host.error("ports", "wg0");
        assert!(
            error.contains("this kernel has no links of kind wireguard") && error.contains("options:userspace"),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_cannot_serve_is_named_and_tried_again() {
    let mut host = Host::start();
    host.sh("echo nonsense > /run/k; chmod 600 /run/k");
    let options = json!(["map", [["private_key_file", "/run/k"], ["userspace", "true"]]]);
    host.transact(&[insert(
        "ports",
        "p",
        &json!({"name": "wg0", "kind": "wireguard", "addresses": "10.90.0.9/24", "options": options}),
    )]);
    host.until_state("ports", "wg0", "failed");
    let error = host.error("ports", "wg0");
    assert!(
        error.contains("private_key_file: /run/k has no key") && !error.contains("nonsense"),
        "{error}"
    );
    host.sh("wg genkey > /run/k; chmod 644 /run/k");
    host.until("it is refused", |host| {
        host.error("ports", "wg0").contains("open to others")
    });
    host.sh("chmod 600 /run/k");
    host.until_state("ports", "wg0", "converged");
}

#[test]
fn wrong_input_is_refused_by_row_and_column() {
    let mut host = Host::start();
    let [good, other, port] = good_rows();
    let with = |row: &Value, changes: &Value| {
        let mut row = row.clone();
        for (column, value) in changes.as_object().unwrap() {
            row[column] = value.clone();
        }
        row
    };
    let options = |pairs: &[[&str; 2]]| json!({"options": ["map", pairs]});
    let cases: Vec<(Value, Value, &str)> = vec![
        (
            json!({"key": "short"}),
            json!({}),
            "table peers, row \"short\", column key",
        ),
        (
            json!({"key": ["set", []]}),
            json!({}),
            "column key: a wireguard peer needs its public key",
        ),
        (json!({"endpoint": "example.org:1"}), json!({}), "column endpoint"),
        (json!({"endpoint": "2001:db8::1:51820"}), json!({}), "column endpoint"),
        (json!({"endpoint": "192.0.2.1:0"}), json!({}), "column endpoint"),
        (json!({"allowed": "10.0.0.1/8"}), json!({}), "column allowed"),
        (
            json!({"allowed": "fd00::/8"}),
            json!({}),
            "column allowed: fd00::/8 is behind peer",
        ),
        (
            json!({"key": key('b')}),
            json!({}),
            "column key: the link has this peer twice",
        ),
        (json!({"secret": "hush"}), json!({}), "column secret"),
        (json!({"secret": "file:relative"}), json!({}), "column secret"),
        (json!({"kind": "geneve"}), json!({}), "column kind"),
        (
            json!({"allowed": "0.0.0.0/0"}),
            json!({}),
            "table ports, row \"wg0\", column peers",
        ),
        (
            json!({}),
            json!({"options": ["map", []]}),
            "table ports, row \"wg0\", column options:private_key_file",
        ),
        (
            json!({}),
            options(&[["private_key_file", "k"]]),
            "column options:private_key_file",
        ),
        (
            json!({}),
            options(&[["private_key_file", "/k"], ["listen_port", "70000"]]),
            "column options:listen_port",
        ),
        (
            json!({}),
            options(&[["private_key_file", "/k"], ["fwmark", "x"]]),
            "column options:fwmark",
        ),
        (
            json!({}),
            options(&[["private_key_file", "/k"], ["userspace", "yes"]]),
            "column options:userspace",
        ),
        (
            json!({}),
            options(&[["private_key_file", "/k"], ["private_key", "x"]]),
            "column options",
        ),
        (json!({}), json!({"mac": "02:00:00:00:00:01"}), "column mac"),
        (json!({}), json!({"parent": "eth7"}), "column parent"),
        (
            json!({}),
            json!({"kind": "dummy", "options": ["map", []]}),
            "column peers: a dummy has no peers",
        ),
    ];
    for (peer, changed, expected) in cases {
        let (_, details) = host.refused(&[
            insert("peers", "one", &with(&good, &peer)),
            insert("peers", "two", &other),
            insert("ports", "p", &with(&port, &changed)),
        ]);
        assert!(details.contains(expected), "{expected}: {details}");
        assert!(!details.contains("hush"), "{details}");
    }
    assert!(host.rows("peers").is_empty() && host.rows("ports").is_empty());
}

/// Two good peers, known as `one` and `two`, and a port that has them.
fn good_rows() -> [Value; 3] {
    let good = json!({"kind": "wireguard", "key": key('a'), "allowed": "10.0.0.0/8"});
    let port = json!({"name": "wg0", "kind": "wireguard", "options": ["map", [["private_key_file", "/run/k"], ["userspace", "true"]]],
        "peers": ["set", [["named-uuid", "one"], ["named-uuid", "two"]]]});
    let other = json!({"kind": "wireguard", "key": key('b'), "allowed": "fd00::/8"});
    [good, other, port]
}

/// A public key that begins with this letter.
fn key(letter: char) -> String {
    format!("{}=", letter.to_string().repeat(42) + "A")
}

#[test]
fn a_peer_that_changes_is_checked_with_the_others_of_its_link() {
    let mut host = Host::start();
    let [good, other, port] = good_rows();
    host.transact(&[
        insert("peers", "one", &good),
        insert("peers", "two", &other),
        insert("ports", "p", &port),
    ]);
    let both = json!({"op": "update", "table": "peers", "where": [], "row": {"allowed": "10.0.0.0/8"}});
    let (_, details) = host.refused(&[both]);
    assert!(details.contains("10.0.0.0/8 is behind peer"), "{details}");
}
