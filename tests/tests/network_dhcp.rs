//! Ports that get their addresses from a DHCP server: dnsmasq in a namespace of its own, behind the bridge.

use std::fs;

use nix::sys::signal::Signal;
use nonnet_tests::host::{Host, delete, insert, update};
use nonnet_tests::netns::Inside;
use serde_json::{Value, json};

/// A host with a bridge, and a namespace with the server's link on that bridge.
struct Lan {
    host: Host,
    server: Option<Inside>,
}

impl Lan {
    /// Without a server yet.
    fn new() -> Self {
        let mut host = Host::start();
        host.transact(&[insert("bridges", "bridge", &json!({"name": "br0"}))]);
        host.converged();
        host.sh(
            "ip netns add lan && ip link add lan0 type veth peer name eth0 netns lan && ip link set lan0 master br0 up
            ip -n lan link set lo up && ip -n lan link set eth0 up && ip -n lan addr add 10.9.0.1/24 dev eth0",
        );
        Self { host, server: None }
    }

    /// With a server that has these arguments besides a range.
    fn with(arguments: &[&str]) -> Self {
        let mut lan = Self::new();
        lan.serve(arguments);
        lan
    }

    fn serve(&mut self, arguments: &[&str]) {
        let directory = self.host.netns.directory().display().to_string();
        let mut command = self.host.netns.command("ip");
        command.args([
            "netns",
            "exec",
            "lan",
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-ping",
            "--port=0",
        ]);
        command.args([
            "--interface=eth0",
            "--bind-interfaces",
            "--log-dhcp",
            "--user=root",
            "--pid-file=",
        ]);
        command.args([
            format!("--log-facility={directory}/dnsmasq.log"),
            format!("--dhcp-leasefile={directory}/leases"),
        ]);
        command.args(arguments);
        self.server = Some(self.host.netns.spawn_command(&mut command).unwrap());
    }

    /// Ends the server, which keeps its leases in a file.
    fn silence(&mut self) {
        let mut server = self.server.take().unwrap();
        server.signal(Signal::SIGTERM).unwrap();
        server.wait().unwrap();
    }

    /// What the server has said.
    fn log(&self) -> String {
        fs::read_to_string(self.host.netns.directory().join("dnsmasq.log")).unwrap_or_default()
    }

    fn count(&self, word: &str) -> usize {
        self.log().lines().filter(|line| line.contains(word)).count()
    }

    /// Waits until the server has said a word this often.
    #[track_caller]
    fn until_said(&mut self, word: &str, times: usize) {
        let path = self.host.netns.directory().join("dnsmasq.log");
        self.host.until(&format!("the server says {word} {times} times"), |_| {
            fs::read_to_string(&path).is_ok_and(|log| log.lines().filter(|line| line.contains(word)).count() >= times)
        });
    }

    /// A port that asks, in a namespace of this name.
    fn port(&mut self, name: &str, more: &Value) {
        self.host.netns.add(name).unwrap();
        self.insert(name, more);
    }

    fn insert(&mut self, name: &str, more: &Value) {
        let bridge = self.host.row("bridges", "br0")["_uuid"].clone();
        let mut row =
            json!({"name": format!("vi{name}"), "netns": name, "bridge": ["uuid", bridge], "addresses": "dhcp"});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.host.transact(&[insert("ports", "port", &row)]);
    }

    /// The only lease.
    #[track_caller]
    fn lease(&mut self) -> Value {
        let rows = self.host.rows("leases");
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0].clone()
    }

    fn address(&self, name: &str) -> String {
        self.host
            .sh(&format!("ip -n {name} -4 -o addr show dev eth0 | awk '{{print $4}}'"))
            .trim()
            .to_owned()
    }
}

const RANGE: &str = "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,2m";

#[test]
fn address_that_somebody_has_already_is_declined_and_another_is_leased() {
    // The server looks for nobody itself, and gives the lowest address first.
    let mut lan = Lan::with(&[RANGE, "--dhcp-sequential-ip"]);
    lan.host.sh(
        "ip netns add squatter
        ip link add squat0 type veth peer name eth0 address 02:00:00:00:00:50 netns squatter && ip link set squat0 master br0 up
        ip -n squatter link set eth0 up && ip -n squatter addr add 10.9.0.50/24 dev eth0",
    );
    assert!(lan.host.pings("lan", "10.9.0.50"));
    lan.port("web", &json!({}));
    lan.host.until_event(0, "failed", "02:00:00:00:00:50");
    lan.host.converged();
    assert_eq!(lan.address("web"), "10.9.0.51/24");
    assert!(lan.count("DHCPDECLINE") == 1, "{}", lan.log());
    let events = lan.host.events(0);
    let told = |event: &Value| {
        event["detail"]
            .as_str()
            .unwrap_or_default()
            .contains("10.9.0.50, which 10.9.0.1 leased")
    };
    assert!(events.iter().any(told), "{events:?}");
    assert!(lan.host.pings("web", "10.9.0.50") && lan.host.pings("lan", "10.9.0.51"));
    // Another one finds what is free at once.
    lan.port("next", &json!({}));
    lan.host.converged();
    assert_eq!(
        (lan.address("next").as_str(), lan.count("DHCPDECLINE")),
        ("10.9.0.52/24", 1),
        "{}",
        lan.log()
    );
}

#[test]
fn port_has_what_the_server_gives_and_gives_it_back() {
    let mut lan = Lan::with(&[
        RANGE,
        "--dhcp-option=option:router,10.9.0.1",
        "--dhcp-option=option:dns-server,10.9.0.53",
        "--dhcp-option=option:mtu,1400",
        "--domain=example.org",
    ]);
    lan.port("web", &json!({}));
    lan.host.converged();
    let lease = lan.lease();
    assert_eq!(lease["source"], "dhcp");
    assert!(
        lease["expires"].as_i64().is_some_and(|expires| expires > 1_700_000_000),
        "{lease}"
    );
    let options = lease["options"].clone();
    assert_eq!(
        (
            &options["routers"],
            &options["dns"],
            &options["domain"],
            &options["server"],
            &options["prefix"]
        ),
        (
            &json!("10.9.0.1"),
            &json!("10.9.0.53"),
            &json!("example.org"),
            &json!("10.9.0.1"),
            &json!("24")
        )
    );
    let address = lease["address"].as_str().unwrap().to_owned();
    assert_eq!(lan.address("web"), format!("{address}/24"));
    let routes = lan.host.sh("ip -n web route");
    assert!(routes.contains("default via 10.9.0.1 dev eth0 proto 110"), "{routes}");
    assert_eq!(lan.host.links_in("web")["eth0"]["mtu"], 1400);
    assert!(lan.host.pings("web", "10.9.0.1"));
    assert!(lan.log().contains("client provides name: web"), "{}", lan.log());
    assert_eq!(
        lan.host.row("ports", "viweb")["addresses_in_use"],
        json!(format!("{address}/24"))
    );

    lan.host.transact(&[delete("ports", "viweb")]);
    lan.host.converged();
    lan.until_said(&format!("DHCPRELEASE(eth0) {address}"), 1);
    assert!(lan.host.rows("leases").is_empty());
}

#[test]
fn only_what_is_asked_for_is_provided() {
    let mut lan = Lan::with(&[
        RANGE,
        "--dhcp-option=option:router,10.9.0.1",
        "--dhcp-option=option:mtu,1400",
    ]);
    let options = json!([
        "map",
        [
            ["dhcp_request", "subnet-mask"],
            ["dhcp_host_name", "other"],
            ["dhcp_vendor_class", "nonnet-test"]
        ]
    ]);
    lan.port("web", &json!({"options": options}));
    lan.host.converged();
    assert!(!lan.host.sh("ip -n web route").contains("default"));
    assert_eq!(lan.host.links_in("web")["eth0"]["mtu"], 1500);
    let log = lan.log();
    assert!(
        log.contains("client provides name: other") && log.contains("vendor class: nonnet-test"),
        "{log}"
    );
    assert!(log.contains("requested options: 1:netmask\n"), "{log}");
    let options = json!({"options": ["map", [["default_route", "false"]]]});
    lan.host.transact(&[update("ports", "viweb", &options)]);
    lan.host.converged();
    lan.until_said("client provides name: web", 1);
    lan.host
        .until("the MTU follows", |host| host.links_in("web")["eth0"]["mtu"] == 1400);
    assert!(
        !lan.host.sh("ip -n web route").contains("default"),
        "the row wants none"
    );
}

#[test]
fn classless_routes_are_routes() {
    let mut lan = Lan::with(&[
        RANGE,
        "--dhcp-option=option:router,10.9.0.1",
        "--dhcp-option=option:classless-static-route,0.0.0.0/0,10.9.0.2,172.16.0.0/12,10.9.0.3",
    ]);
    lan.port("web", &json!({}));
    lan.host.converged();
    let routes = lan.host.sh("ip -n web route");
    assert!(routes.contains("default via 10.9.0.2 dev eth0 proto 110"), "{routes}");
    assert!(
        routes.contains("172.16.0.0/12 via 10.9.0.3 dev eth0 proto 110"),
        "{routes}"
    );
}

#[test]
fn lease_is_renewed_and_the_row_is_told() {
    let mut lan = Lan::with(&[RANGE, "--dhcp-option=option:T1,4"]);
    lan.port("web", &json!({}));
    lan.host.converged();
    let before = lan.lease();
    lan.until_said("DHCPACK", 3);
    lan.host.until("the end of the lease moves", |host| {
        host.rows("leases")[0]["expires"].as_i64() > before["expires"].as_i64()
    });
    let after = lan.lease();
    assert_eq!(
        (&before["address"], &before["_uuid"]),
        (&after["address"], &after["_uuid"])
    );
    assert_eq!(lan.host.state("ports", "viweb"), "converged");
    lan.host.converged();
}

#[test]
fn restart_of_the_server_keeps_address_and_loses_no_packet() {
    let mut lan = Lan::with(&[RANGE]);
    lan.port("web", &json!({}));
    lan.host.converged();
    let address = lan.address("web");
    let mut command = lan.host.netns.command("ip");
    command.args([
        "netns", "exec", "web", "ping", "-n", "-i", "0.05", "-w", "600", "-q", "10.9.0.1",
    ]);
    let mut ping = lan
        .host
        .netns
        .spawn_command(command.stdout(std::process::Stdio::piped()))
        .unwrap();
    for kill in [true, false] {
        let asked = lan.count("DHCPREQUEST");
        if kill {
            lan.host.kill();
        } else {
            lan.host.stop();
        }
        lan.host.run();
        lan.until_said("DHCPREQUEST", asked + 1);
        lan.host.converged();
        assert_eq!(lan.address("web"), address);
    }
    assert_eq!(lan.count("DHCPDISCOVER(eth0)"), 1, "{}", lan.log());
    ping.signal(Signal::SIGINT).unwrap();
    let summary = ping.line_with("packet loss").unwrap();
    assert!(summary.contains(" 0% packet loss"), "{summary}");
}

#[test]
fn no_server_and_refusals_are_said_in_the_row() {
    let mut lan = Lan::new();
    lan.port("web", &json!({}));
    lan.host.until_state("ports", "viweb", "waiting");
    let error = lan.host.error("ports", "viweb");
    assert!(error.contains("no answer from a DHCP server"), "{error}");
    lan.host.until("the row is counted", |host| host.progress().2 == 1);
    lan.serve(&[RANGE]);
    lan.host.converged();
    let first = lan.address("web");

    // The server comes back for another subnet: it refuses the address when it is asked again.
    lan.silence();
    lan.host
        .sh("ip -n lan addr flush dev eth0 && ip -n lan addr add 10.10.0.1/24 dev eth0");
    lan.serve(&[
        "--dhcp-range=10.10.0.50,10.10.0.60,255.255.255.0,2m",
        "--dhcp-authoritative",
    ]);
    lan.host.kill();
    lan.host.run();
    lan.until_said("DHCPNAK", 1);
    lan.host.until("another address", |host| {
        host.sh("ip -n web -4 -o addr show dev eth0").contains("10.10.0.")
    });
    lan.host.converged();
    assert!(!lan.host.sh("ip -n web -4 -o addr").contains(&first));
    assert!(lan.lease()["address"].as_str().unwrap().starts_with("10.10.0."));
}

#[test]
fn namespace_that_comes_again_gets_the_address_it_had() {
    let mut lan = Lan::with(&[RANGE]);
    lan.port("web", &json!({}));
    lan.host.converged();
    let address = lan.address("web");
    lan.host.sh("ip netns del web");
    lan.host.until_state("ports", "viweb", "waiting");
    lan.host.netns.add("web").unwrap();
    lan.host.until_state("ports", "viweb", "converged");
    lan.host.converged();
    assert_eq!(lan.address("web"), address);
}

#[test]
fn network_with_dhcp_gives_its_ports_addresses_and_a_static_one_asks_nobody() {
    let mut lan = Lan::with(&[RANGE]);
    let bridge = lan.host.row("bridges", "br0")["_uuid"].clone();
    let network = json!({"name": "n0", "bridge": ["uuid", bridge], "ipam": "dhcp"});
    lan.host.transact(&[insert("networks", "network", &network)]);
    let network = lan.host.row("networks", "n0")["_uuid"].clone();
    let on = json!({"network": ["uuid", network], "addresses": ["set", []], "bridge": ["set", []]});
    for name in ["a", "b"] {
        lan.port(name, &on);
    }
    lan.host.converged();
    assert_ne!(lan.address("a"), lan.address("b"));
    assert!(lan.host.pings("a", lan.address("b").trim_end_matches("/24")));
    lan.host.transact(&[update(
        "ports",
        "via",
        &json!({"network": ["set", []], "bridge": ["uuid", bridge], "addresses": "10.9.0.99/24"}),
    )]);
    lan.host.converged();
    lan.until_said("DHCPRELEASE", 1);
    assert_eq!(lan.address("a"), "10.9.0.99/24");
}

#[test]
fn container_asks_by_its_id() {
    let mut lan = Lan::with(&[RANGE]);
    lan.host.netns.add("101").unwrap();
    let properties = json!(["map", [["network_type", "bridge"], ["ipv4", "dhcp"]]]);
    lan.host.transact(&[insert(
        "lxc",
        "row",
        &json!({"id": "101", "bridge": "br0", "properties": properties}),
    )]);
    lan.until_said("client provides name: 101", 1);
    lan.host
        .until("an address", |host| host.sh("ip -n 101 -4 -o addr").contains("10.9.0."));
}

#[test]
fn a_guarded_port_asks_and_uses_what_it_is_given_and_nothing_else() {
    let mut lan = Lan::with(&["--dhcp-range=10.9.0.100,10.9.0.110,255.255.255.0,1h"]);
    lan.port("c1", &json!({"anti_spoof": true}));
    lan.host.converged();
    assert!(lan.host.pings("c1", "10.9.0.1"));
    let neighbours = "ip -n lan neigh flush dev eth0";
    lan.host
        .sh(&format!("ip -n c1 addr add 10.9.0.77/24 dev eth0; {neighbours}"));
    assert!(
        !lan.host
            .succeeds("ip netns exec c1 ping -n -c 1 -W 1 -I 10.9.0.77 10.9.0.1")
    );
    lan.host.sh(neighbours);
    assert!(lan.host.pings("c1", "10.9.0.1"));
}
