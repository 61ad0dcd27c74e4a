//! The reconciler and the real kernel with real LXC containers, in a namespace of the test's own. As root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

mod lab;

use std::fs::File;
use std::time::{Duration, Instant};

use lab::{Lab, bridge, gateway, owner, port};
use nix::sched::{CloneFlags, setns, unshare};
use nonnet_hooks::object::{NetnsRef, Owner};
use nonnet_hooks::reconcile::Desired;
use nonnet_hooks::report::{EventKind, State};
use nonnet_tests::netns::Netns;

/// Puts the calling thread, and so the kernel thread that it starts, into a namespace.
fn enter(netns: &Netns) {
    unshare(CloneFlags::CLONE_FS).unwrap();
    for (name, kind) in [("net", CloneFlags::CLONE_NEWNET), ("mnt", CloneFlags::CLONE_NEWNS)] {
        setns(File::open(format!("/proc/{}/ns/{name}", netns.pid())).unwrap(), kind).unwrap();
    }
}

fn container(id: &str) -> NetnsRef {
    NetnsRef::Lxc { id: id.into() }
}

fn rows() -> Vec<(Owner, Desired)> {
    let mut rows = vec![
        (owner("bridges", 1), bridge("br0")),
        (owner("networks", 1), gateway("br0", "10.9.0.1/16")),
    ];
    rows.extend([100_u32, 101].map(|id| (owner("lxc", id.into()), port(id, container(&id.to_string())))));
    rows
}

fn waits(lab: &Lab, id: u128) -> bool {
    lab.state(&owner("lxc", id)) == Some(State::Waiting)
}

#[test]
fn containers_are_served_the_moment_they_run_and_after_each_restart() {
    let mut netns = Netns::new().unwrap();
    netns.create_container("100").unwrap();
    netns.create_container("101").unwrap();
    enter(&netns);
    let mut lab = Lab::new(rows());
    lab.until("waiting", |lab| waits(lab, 100) && waits(lab, 101));
    let error = lab.reports[&owner("lxc", 100)].error.clone().unwrap();
    assert_eq!(error, "container 100 is not running, and there is no namespace 100");
    for round in 0..2 {
        for id in ["100", "101"] {
            netns.start_container(id).unwrap();
        }
        let from = Instant::now();
        lab.converged(1);
        println!(
            "round {round}: converged {:?} after both containers ran",
            from.elapsed()
        );
        netns
            .in_container("100", "ping -c1 -W2 10.9.0.1 && ping -c1 -W2 10.9.0.111")
            .unwrap();
        assert!(
            netns
                .in_container("101", "ip addr show eth0")
                .unwrap()
                .contains("10.9.0.111/16")
        );
        for id in ["100", "101"] {
            netns.stop_container(id).unwrap();
        }
        lab.until("waiting again", |lab| waits(lab, 100) && waits(lab, 101));
        let from = Instant::now();
        while netns.try_sh("ip link show vi100").unwrap().0 {
            assert!(
                from.elapsed() < lab::PATIENCE,
                "the container's namespace is kept alive"
            );
            lab.during(Duration::from_millis(10));
        }
    }
    assert_eq!(lab.count(EventKind::Drift), 0, "that a container stops is no drift");
}

#[test]
fn namespace_of_the_containers_name_stands_in_until_the_container_runs() {
    let mut netns = Netns::new().unwrap();
    netns.create_container("100").unwrap();
    netns.add("100").unwrap();
    netns.add("101").unwrap();
    enter(&netns);
    let mut lab = Lab::new(rows());
    lab.converged(1);
    netns.sh("ip netns exec 100 ping -c1 -W2 10.9.0.111").unwrap();
    netns.start_container("100").unwrap();
    let moved = |_: &Lab| netns.in_container("100", "ping -c1 -W1 10.9.0.111").is_ok();
    lab.until("the container has it", moved);
    assert!(!netns.try_sh("ip -n 100 link show eth0").unwrap().0);
}
