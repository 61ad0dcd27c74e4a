//! What somebody else changes is put back, and the row and the events say so; or it is only told, where that is wanted.

use nonnet_tests::host::{Host, bridge_and_network, port, update};
use nonnet_tests::program::{self, POLL_INTERVAL};
use nonnet_tests::wire::Session;
use serde_json::{Value, json};

/// A bridge with two ports, IPv6 and an MTU, converged.
fn host(arguments: &[&str]) -> Host {
    let mut host = Host::start_with(arguments);
    let mut operations = bridge_and_network("br0", "n0", &[("10.8.0.0/24", "10.8.0.1"), ("fd08::/64", "fd08::1")]);
    operations.push(json!({"op": "update", "table": "networks", "where": [], "row": {"mtu": 1400}}));
    for name in ["c1", "c2"] {
        host.netns.add(name).unwrap();
        operations.push(port(&format!("vi{name}"), name));
    }
    host.transact(&operations);
    host.converged();
    host
}

/// Everything that nonnet made, as text in which two equal states are equal: without indexes, counters and lifetimes.
fn shape(host: &Host) -> String {
    let script = "ip -br addr | sed 's/@if[0-9]*//' | sort
        for l in br0 vic1 vic2; do ip -o link show $l | grep -oE '<.*> mtu [0-9]* |master [^ ]*'; done
        for n in c1 c2; do ip -n $n -br link | sed 's/@if[0-9]*//'; ip -n $n -br addr | sed 's/@if[0-9]*//'; ip -n $n -4 route; ip -n $n -6 route; done";
    // The kernel gives link-local addresses in its own time.
    let text = host.sh(script);
    let words = |line: &str| {
        line.split_whitespace()
            .filter(|word| !word.starts_with("fe80:"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    text.lines()
        .filter(|line| !line.starts_with("fe80:"))
        .map(words)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn whatever_is_broken_by_hand_is_healed() {
    let mut host = host(&[]);
    let wanted = shape(&host);
    for damage in [
        "ip link del vic1",
        "ip -n c1 link del eth0",
        "ip -n c1 link set eth0 down",
        "ip link set vic1 down",
        "ip link set vic1 nomaster",
        "ip link set vic1 mtu 1280",
        "ip -n c1 link set eth0 mtu 1280",
        "ip -n c1 link set eth0 address 02:00:00:00:00:77",
        "ip -n c1 link set eth0 down; ip -n c1 link set eth0 name other; ip -n c1 link set other up || true",
        "ip -n c1 addr flush dev eth0 scope global",
        "ip -n c1 addr del fd08::2/64 dev eth0 || ip -n c1 addr del fd08::3/64 dev eth0",
        "ip -n c1 -4 route del default",
        "ip -n c1 -6 route del default",
        "ip -n c1 link set lo down",
        "ip link set br0 down",
        "ip addr del 10.8.0.1/24 dev br0",
        "ip link del br0",
        "ip link set vic1 down; ip link set vic1 name elsewhere || true",
    ] {
        let before = host.last_event();
        host.sh(damage);
        host.until(&format!("healed after: {damage}\nwanted:\n{wanted}"), |host| {
            shape(host) == wanted
        });
        host.until(&format!("told after: {damage}"), |host| {
            let events = host.events(before);
            ["drift", "healed"]
                .iter()
                .all(|kind| events.iter().any(|event| event["kind"] == *kind))
        });
        host.converged();
        assert!(host.pings("c1", "10.8.0.1") && host.pings("c2", "fd08::1"), "{damage}");
        // Five heals of one object in ten seconds are contention; this test is not about that.
        host.stop();
        host.run();
        host.converged();
    }
}

#[test]
fn a_deleted_veth_is_back_and_both_ports_of_a_deleted_bridge() {
    let mut host = host(&[]);
    let before = host.last_event();
    host.sh("ip link del vic1");
    host.until_event(before, "healed", "vic1");
    assert_eq!(host.link("vic1").unwrap()["master"], "br0");
    assert_eq!(host.state("ports", "vic1"), "converged");

    let before = host.last_event();
    host.sh("ip link del br0");
    host.until_event(before, "healed", "br0");
    host.until("the ports are back on their bridge", |host| {
        ["vic1", "vic2"]
            .iter()
            .all(|name| host.link(name).is_some_and(|link| link["master"] == "br0"))
    });
    host.converged();
    assert!(host.pings("c1", "10.8.0.1") && host.pings("c2", "10.8.0.1"));
}

#[test]
fn what_is_changed_again_and_again_is_left_and_said_to_be_contended() {
    let mut host = host(&[]);
    host.until("it is left", |host| {
        let _ = host.netns.try_sh("ip link set vic1 mtu 1333");
        host.state("ports", "vic1") == "conflict"
    });
    let error = host.error("ports", "vic1");
    assert!(error.starts_with("contended: healed 5 times in 10 s"), "{error}");
    assert_eq!(host.state("ports", "vic2"), "converged");
    host.until("it is counted", |host| host.progress().2 == 1);
}

#[test]
fn with_heal_report_drift_is_told_and_left() {
    let mut host = host(&["--heal", "report"]);
    let before = host.last_event();
    host.sh("ip link set vic1 mtu 1280");
    host.until_state("ports", "vic1", "drifted");
    host.until_event(before, "drift", "vic1");
    assert_eq!(host.link("vic1").unwrap()["mtu"], 1280);
    assert!(
        host.error("ports", "vic1").starts_with("changed by somebody else"),
        "{}",
        host.error("ports", "vic1")
    );
    host.until("it is counted", |host| host.progress().2 == 1);
    host.sh("ip link set vic1 mtu 1400");
    host.until_state("ports", "vic1", "converged");
    host.converged();
    host.sh("ip link del vic2");
    host.until_state("ports", "vic2", "drifted");
    assert!(host.link("vic2").is_none());
}

#[test]
fn rows_say_what_becomes_of_drift() {
    let mut host = host(&[]);
    let heal = |word: &str| json!({"other_config": ["map", [["heal", word]]]});
    host.transact(&[update("ports", "vic1", &heal("report"))]);
    host.converged();
    host.sh("ip link set vic1 mtu 1280; ip link set vic2 mtu 1280");
    host.until_state("ports", "vic1", "drifted");
    host.until("the other port is healed", |host| {
        host.link("vic2").unwrap()["mtu"] == 1400
    });
    assert_eq!(host.link("vic1").unwrap()["mtu"], 1280);
    let before = host.last_event();
    host.transact(&[update("ports", "vic1", &heal("on"))]);
    host.converged();
    assert_eq!(host.link("vic1").unwrap()["mtu"], 1400);
    // The row of the host speaks for all others.
    host.transact(&[json!({"op": "update", "table": "host", "where": [], "row": heal("off")})]);
    host.sh("ip link set vic2 mtu 1280; ip link set vic1 mtu 1280");
    host.until("what says so itself is healed", |host| {
        host.link("vic1").unwrap()["mtu"] == 1400
    });
    assert_eq!(host.link("vic2").unwrap()["mtu"], 1280);
    host.transact(&[json!({"op": "update", "table": "host", "where": [], "row": {"other_config": ["map", []]}})]);
    host.until("what was left meanwhile is taken back", |host| {
        host.link("vic2").unwrap()["mtu"] == 1400
    });
    host.until_event(before, "healed", "vic2");
    let (_, why) = host.refused(&[update("bridges", "br0", &heal("maybe"))]);
    assert!(
        why.contains("other_config:heal: \"maybe\" is none of on, report, off"),
        "{why}"
    );
}

#[test]
fn a_client_that_monitors_sees_the_drift_and_the_heal() {
    let mut host = host(&[]);
    let mut client = host.connect().unwrap();
    let request =
        json!(["OpNonNet", "events", {"events": [{"columns": ["kind", "detail"], "select": {"initial": false}}]}]);
    client.call("monitor", &request).unwrap();
    host.sh("ip link del vic1");
    let mut seen = Vec::new();
    while !seen.iter().any(|kind| kind == "healed") {
        let update = client.receive().unwrap();
        let rows = update["params"][1]["events"].as_object().cloned().unwrap_or_default();
        seen.extend(
            rows.values()
                .filter_map(|row| row["new"]["kind"].as_str().map(str::to_owned)),
        );
    }
    assert!(seen.iter().any(|kind| kind == "drift"), "{seen:?}");
    std::thread::sleep(POLL_INTERVAL);
    host.converged();
}

#[test]
fn observing_tells_what_would_be_done_and_does_nothing() {
    let mut host = Host::start_with(&["--kernel", "observe"]);
    host.netns.add("c1").unwrap();
    let before = host.sh("ip addr; ip -n c1 addr; ip -n c1 route");
    let mut operations = bridge_and_network("br0", "n0", &[("10.9.0.0/24", "10.9.0.1")]);
    operations.push(port("vi1", "c1"));
    host.transact(&operations);
    assert_eq!(host.settled(), 3);
    for (table, name) in [("bridges", "br0"), ("networks", "n0"), ("ports", "vi1")] {
        assert_eq!(host.state(table, name), "waiting", "{table} {name}");
    }
    let error = host.error("bridges", "br0");
    assert!(
        error.starts_with("not applied, since the server only observes: "),
        "{error}"
    );
    assert_eq!(host.sh("ip addr; ip -n c1 addr; ip -n c1 route"), before);

    // What it wanted is made by the next run that may, and found as wanted by one that may not.
    host.stop();
    host.arguments(&[]);
    host.run();
    host.converged();
    host.stop();
    let made = host.sh("ip addr; ip -n c1 addr; ip -n c1 route");
    host.arguments(&["--kernel", "observe"]);
    host.run();
    host.converged();
    assert_eq!(host.sh("ip addr; ip -n c1 addr; ip -n c1 route"), made);
}

#[test]
fn without_the_kernel_rows_are_rows() {
    let mut host = Host::start_with(&["--kernel", "off"]);
    let before = host.sh("ip addr");
    host.transact(&bridge_and_network("br0", "n0", &[("10.9.0.0/24", "10.9.0.1")]));
    assert_eq!(host.row("bridges", "br0")["status"], json!({}));
    assert_eq!(host.sh("ip addr"), before);
}

#[test]
fn without_cap_net_admin_the_server_says_so_once_and_observes() {
    let mut host = Host::prepare(&[]);
    let nonnetd = program::ours("nonnetd").unwrap().display().to_string();
    let caps = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
    host.run_command(&[&caps[..], &[nonnetd.as_str()]].concat());
    let before = host.sh("ip addr");
    host.transact(&bridge_and_network("br0", "n0", &[("10.9.0.0/24", "10.9.0.1")]));
    assert_eq!(host.settled(), 2);
    assert!(
        host.error("bridges", "br0")
            .starts_with("not applied, since the server only observes: ")
    );
    assert_eq!(host.sh("ip addr"), before);
    let log = host.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("CAP_NET_ADMIN")).collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(
        said.first()
            .is_some_and(|line| line.contains("only compared with the kernel")),
        "{log}"
    );
    let _: Value = host.row("networks", "n0");
}
