//! A whole OVN whose databases are in one `nonnetd`: `ovn-northd` writes there what it writes in `ovsdb-server`, `ovn-controller` makes a switch of
//! it, and both go on after a restart of the server.

use nonnet_tests::open_vswitch::OpenVswitch;
use nonnet_tests::ovn::{ControlPlane, NORTHBOUND_SCHEMA, SOUTHBOUND_SCHEMA};
use nonnet_tests::server::Kind;

/// What is compared at one point of the session.
#[derive(Debug)]
struct Written {
    flows: Vec<String>,
    bindings: Vec<String>,
}

fn written(plane: &ControlPlane) -> Written {
    Written {
        flows: plane.flows().unwrap(),
        bindings: plane.bindings().unwrap(),
    }
}

/// A network is made, the server killed and started again, and the network changed. Gives what was printed, and what was written before and after.
fn play(kind: Kind) -> (Vec<String>, [Written; 2]) {
    let mut plane = ControlPlane::start(kind).unwrap();
    plane.play("ovn-network").unwrap();
    let before = written(&plane);
    plane.server.kill().unwrap();
    plane.server.run().unwrap();
    let restarted = written(&plane);
    assert_eq!(restarted.flows, before.flows, "the restart lost or changed flows");
    plane.play("ovn-network-later").unwrap();
    let after = written(&plane);
    assert!(plane.northd_runs().unwrap(), "{}", plane.log());
    assert!(!plane.log().contains("|EMER|"), "{}", plane.log());
    (plane.printed().to_vec(), [before, after])
}

/// Compares line by line, for an error that can be read.
fn same(what: &str, ours: &[String], theirs: &[String]) {
    let missing: Vec<&String> = theirs.iter().filter(|line| !ours.contains(line)).collect();
    let extra: Vec<&String> = ours.iter().filter(|line| !theirs.contains(line)).collect();
    assert!(
        missing.is_empty() && extra.is_empty() && ours.len() == theirs.len(),
        "{what}: {} lines and {} on ovsdb-server; missing {missing:#?}, too many {extra:#?}",
        ours.len(),
        theirs.len()
    );
}

#[test]
fn ovn_northd_writes_the_flows_that_it_writes_in_ovsdb_server() {
    let (printed, ours) = play(Kind::Nonnetd);
    let (expected, theirs) = play(Kind::Reference);
    same("what was printed", &printed, &expected);
    for (our, their) in ours.iter().zip(&theirs) {
        // Three switches and a router make some hundred.
        assert!(their.flows.len() > 300, "{} flows", their.flows.len());
        same("logical flows", &our.flows, &their.flows);
        same("datapaths and ports", &our.bindings, &their.bindings);
    }
}

/// The address of a logical port's host.
const ADDRESSES: [(&str, &str); 3] = [("h1", "10.0.0.1"), ("h2", "10.0.0.2"), ("h3", "10.0.0.3")];

/// Binds a host's wire to a logical port of the same name.
fn add_host(ovn: &OpenVswitch, host: &str, address: &str) {
    ovn.add_host(host, &format!("{address}/24")).unwrap();
    let mac = ovn
        .run(&format!(
            "ip -n {host} -o link show eth0 | sed 's/.*ether \\([^ ]*\\).*/\\1/'"
        ))
        .unwrap();
    let mac = mac.trim();
    ovn.run(&format!(
        "ovn-nbctl --timeout=30 lsp-add sw0 {host} -- lsp-set-addresses {host} '{mac} {address}'"
    ))
    .unwrap();
    ovn.configure(&format!(
        "add-port br-int {host} -- set interface {host} external_ids:iface-id={host}"
    ))
    .unwrap();
    ovn.run(&format!(
        "ovn-nbctl --timeout=30 wait-until Logical_Switch_Port {host} up=true"
    ))
    .unwrap();
    ovn.run("ovn-nbctl --timeout=30 --wait=hv sync").unwrap();
}

#[test]
fn logical_ports_bound_by_ovn_controller_reach_each_other() {
    let mut ovn = OpenVswitch::start_with(Kind::Nonnetd, &[NORTHBOUND_SCHEMA, SOUTHBOUND_SCHEMA]).unwrap();
    let remote = ovn.server.remote();
    ovn.run("ovn-nbctl init && ovn-sbctl init").unwrap();
    let databases = [format!("--ovnnb-db={remote}"), format!("--ovnsb-db={remote}")];
    ovn.add_program("ovn-northd", &[&databases[0], &databases[1]]).unwrap();
    let chassis = "external_ids:system-id=ch0 external_ids:ovn-encap-type=geneve external_ids:ovn-encap-ip=127.0.0.1";
    ovn.configure(&format!(
        "set open_vswitch . {chassis} external_ids:ovn-bridge-datapath-type=netdev external_ids:ovn-remote={remote}"
    ))
    .unwrap();
    ovn.add_program("ovn-controller", &[&remote]).unwrap();
    ovn.run("ovn-sbctl --timeout=30 wait-until Chassis ch0").unwrap();
    ovn.run("ovn-nbctl ls-add sw0").unwrap();
    for (host, address) in &ADDRESSES[..2] {
        add_host(&ovn, host, address);
    }
    let [_, (_, second), (third, last)] = ADDRESSES;
    assert!(ovn.pings("h1", second).unwrap(), "{}", ovn.log());

    ovn.run("ovn-nbctl --timeout=30 --wait=hv acl-add sw0 to-lport 1000 'outport == \"h2\" && icmp4' drop")
        .unwrap();
    assert!(!ovn.pings("h1", second).unwrap(), "a rule that drops");
    ovn.run("ovn-nbctl --timeout=30 --wait=hv acl-del sw0").unwrap();

    ovn.server.kill().unwrap();
    ovn.server.run().unwrap();
    ovn.wait_until("frames that pass again", |ovn| ovn.pings("h1", second))
        .unwrap();
    add_host(&ovn, third, last);
    assert!(
        ovn.pings("h1", last).unwrap(),
        "a port that came after the restart: {}",
        ovn.log()
    );
}
