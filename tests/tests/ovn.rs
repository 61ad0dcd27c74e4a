//! A whole OVN control plane whose two databases are in one `nonnetd`: `ovn-northd` writes there what it writes in `ovsdb-server`, and goes on
//! after a restart of either.

use nonnet_tests::ovn::ControlPlane;
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
