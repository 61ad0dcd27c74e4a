//! The reconciler and the real kernel, in namespaces of the tests' own. As root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

mod lab;

use std::process::{Child, Command as Process};
use std::time::{Duration, Instant};

use lab::{Lab, bridge, gateway, isolate, name, named, owner, port, sh, try_sh, veth};
use nonnet_hooks::object::{NetnsRef, Object, Owner, Route};
use nonnet_hooks::reconcile::Desired;
use nonnet_hooks::report::{EventKind, State};

/// A child process that does not outlive the test.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn network() -> Vec<(Owner, Desired)> {
    vec![
        (owner("bridges", 1), bridge("br0")),
        (owner("networks", 1), gateway("br0", "10.9.0.1/16")),
    ]
}

fn with_ports(count: u32) -> Vec<(Owner, Desired)> {
    let mut rows = network();
    rows.extend((0..count).map(|at| (owner("ports", u128::from(at)), port(at, named(&format!("c{at}"))))));
    rows
}

#[test]
fn two_ports_reach_each_other_and_the_gateway() {
    isolate();
    sh("ip netns add c0 && ip netns add c1");
    let mut lab = Lab::new(with_ports(2));
    lab.converged(1);
    sh("ip netns exec c0 ping -c1 -W2 10.9.0.1");
    sh("ip netns exec c0 ping -c1 -W2 10.9.0.11");
    sh("ping -c1 -W2 10.9.0.10");
    assert!(sh("ip -n c0 route").contains("default via 10.9.0.1 dev eth0 proto 110"));
    assert!(sh("ip -n c0 link show eth0").contains("mtu 1450"));
    assert!(sh("ip -d link show vi0").contains("alias nonnet:ports/00000000-0000-0000-0000-000000000000"));
    assert_eq!(
        sh("ip netns exec c0 cat /proc/sys/net/ipv4/conf/eth0/rp_filter").trim(),
        "0"
    );
    assert!(
        !sh("ip -6 addr; ip -n c0 -6 addr").contains("fe80"),
        "no IPv6 chatter where a network has none"
    );
    let report = &lab.reports[&owner("ports", 1)];
    assert_eq!(report.facts.mac.unwrap().to_string(), "02:00:00:09:00:0b");
    assert_eq!(report.facts.addresses, vec!["10.9.0.11/16".parse().unwrap()]);
    lab.until("carrier", |lab| lab.reports[&owner("ports", 1)].facts.up == Some(true));
}

#[test]
fn rows_that_change_and_go_are_followed() {
    isolate();
    sh("ip netns add c0 && ip netns add c1");
    let mut lab = Lab::new(with_ports(2));
    lab.converged(1);
    let mut changed = veth(0, named("c0"));
    changed.ifname = name("lan0");
    changed.mtu = Some(1400);
    changed.addresses = vec!["10.9.1.1/16".parse().unwrap(), "fd09::2/64".parse().unwrap()];
    changed.defaults = vec![
        Route::default_via("10.9.0.1".parse().unwrap()),
        Route::default_via("fd09::1".parse().unwrap()),
    ];
    changed.ipv6 = true;
    let cfg = lab.commit(vec![(owner("ports", 0), Desired::Objects(vec![Object::Port(changed)]))]);
    lab.converged(cfg);
    let inside = sh("ip -n c0 addr show lan0");
    assert!(inside.contains("10.9.1.1/16") && inside.contains("fd09::2/64") && !inside.contains("10.9.0.10/"));
    assert!(sh("ip -n c0 -6 route").contains("default via fd09::1 dev lan0 proto 110 metric 1024"));
    let cfg = lab.commit(vec![
        (owner("ports", 0), Desired::Gone),
        (owner("ports", 1), Desired::Gone),
    ]);
    lab.converged(cfg);
    assert!(!try_sh("ip link show vi0").0 && !try_sh("ip link show vi1").0 && !try_sh("ip -n c1 link show eth0").0);
    let cfg = lab.commit(vec![
        (owner("networks", 1), Desired::Gone),
        (owner("bridges", 1), Desired::Gone),
    ]);
    lab.converged(cfg);
    assert_eq!(sh("ip -o link").lines().count(), 1, "only the loopback is left");
}

#[test]
fn deleted_veth_is_back_and_the_row_says_healed() {
    isolate();
    sh("ip netns add c0");
    let mut lab = Lab::new(with_ports(1));
    lab.converged(1);
    let from = Instant::now();
    sh("ip link del vi0");
    lab.until("healed", |lab| lab.count(EventKind::Healed) == 1);
    assert!(from.elapsed() < Duration::from_secs(1));
    println!(
        "noticed and healed within {:?}; the reconciler counts {} ms",
        from.elapsed(),
        lab.events.last().unwrap().ms
    );
    sh("ip netns exec c0 ping -c1 -W2 10.9.0.1");
    sh("ip -n c0 addr del 10.9.0.10/16 dev eth0");
    lab.until("healed", |lab| lab.count(EventKind::Healed) == 2);
    assert!(
        sh("ip -n c0 route").contains("default via 10.9.0.1"),
        "the route that vanished with the address is back"
    );
    sh("ip link set vi0 nomaster && ip -n c0 link set eth0 down");
    lab.until("healed", |lab| lab.count(EventKind::Healed) >= 3 && lab.progress.1 == 0);
    lab.during(Duration::from_millis(50));
    sh("ip netns exec c0 ping -c1 -W2 10.9.0.1");
}

#[test]
fn what_somebody_else_made_stays_untouched() {
    isolate();
    sh("ip link add br9 type bridge && ip link set br9 up && ip addr add 192.0.2.1/24 dev br9");
    sh("ip netns add other && ip link add veth9 type veth peer name eth0 netns other && ip link set veth9 master br9");
    sh("ip link add vi0 type bridge && ip netns add c0");
    let before = sh("ip -o link show br9; ip -o link show veth9; ip -o link show vi0; ip addr show br9");
    let mut lab = Lab::new(with_ports(1));
    lab.until("conflict", |lab| lab.progress == (1, 1));
    assert_eq!(lab.state(&owner("ports", 0)), Some(State::Conflict));
    let error = lab.reports[&owner("ports", 0)].error.clone().unwrap();
    assert_eq!(error, "the name vi0 is taken by a bridge that is not nonnet's");
    let cfg = lab.commit(vec![
        (owner("ports", 0), Desired::Gone),
        (owner("networks", 1), Desired::Gone),
        (owner("bridges", 1), Desired::Gone),
    ]);
    lab.converged(cfg);
    assert_eq!(
        before,
        sh("ip -o link show br9; ip -o link show veth9; ip -o link show vi0; ip addr show br9")
    );
    let cfg = lab.commit(with_ports(1));
    sh("ip link del vi0");
    lab.until("the name is free", |lab| lab.progress.0 >= cfg && lab.progress.1 == 0);
}

#[test]
fn namespace_that_appears_later_is_served_at_once() {
    isolate();
    let mut lab = Lab::new(with_ports(1));
    lab.until("waiting", |lab| lab.state(&owner("ports", 0)) == Some(State::Waiting));
    assert_eq!(
        lab.reports[&owner("ports", 0)].error.as_deref(),
        Some("namespace c0 does not exist")
    );
    for round in 0..3 {
        let from = Instant::now();
        sh("ip netns add c0");
        lab.converged(1);
        println!("round {round}: {:?} after the namespace was asked for", from.elapsed());
        sh("ip netns exec c0 ping -c1 -W2 10.9.0.1");
        sh("ip netns del c0");
        lab.until("waiting again", |lab| {
            lab.state(&owner("ports", 0)) == Some(State::Waiting)
        });
        let from = Instant::now();
        while try_sh("ip link show vi0").0 {
            assert!(from.elapsed() < lab::PATIENCE, "the namespace is kept alive");
            lab.during(Duration::from_millis(10));
        }
    }
    assert_eq!(lab.count(EventKind::Drift), 0, "that a namespace goes is no drift");
}

#[test]
fn namespace_of_a_process_and_of_a_path_is_served() {
    isolate();
    let guest = Guest(Process::new("unshare").args(["-n", "sleep", "60"]).spawn().unwrap());
    let pid = guest.0.id();
    while std::fs::read_link(format!("/proc/{pid}/ns/net")).ok() == std::fs::read_link("/proc/thread-self/ns/net").ok()
    {
        std::thread::yield_now();
    }
    let mut rows = network();
    rows.push((owner("ports", 0), port(0, NetnsRef::Pid(pid))));
    let mut lab = Lab::new(rows);
    lab.converged(1);
    sh(&format!("nsenter -t {pid} -n ping -c1 -W2 10.9.0.1"));
    let mut changed = veth(0, NetnsRef::Path(format!("/proc/{pid}/ns/net").into()));
    changed.ifname = name("eth1");
    changed.sysctls = [("ipv4/conf/eth1/rp_filter".into(), "0".into())].into();
    let cfg = lab.commit(vec![(owner("ports", 0), Desired::Objects(vec![Object::Port(changed)]))]);
    lab.converged(cfg);
    assert_eq!(
        lab.operations.iter().filter(|o| o.starts_with("add link vi0")).count(),
        1,
        "the pair is kept"
    );
    drop(guest);
    lab.until("waiting", |lab| lab.state(&owner("ports", 0)) == Some(State::Waiting));
}

#[test]
fn restart_adopts_without_a_message_and_collects_the_rest() {
    isolate();
    sh("ip netns add c0 && ip netns add c1");
    let mut lab = Lab::new(with_ports(2));
    lab.converged(1);
    let before = sh("ip -o link show vi0");
    drop(lab);
    let mut lab = Lab::new(with_ports(1));
    lab.converged(1);
    // What is below /proc/sys has no mark and no event: it is read by the step that would write it.
    let messages: Vec<&String> = lab
        .operations
        .iter()
        .filter(|operation| !operation.starts_with("write"))
        .collect();
    assert_eq!(messages, vec!["delete link vi1"]);
    assert_eq!(before, sh("ip -o link show vi0"));
    assert_eq!((lab.count(EventKind::Adopted), lab.count(EventKind::Collected)), (3, 1));
}

#[test]
fn refused_operation_tells_the_kernels_words_and_fails_only_its_row() {
    isolate();
    sh("ip netns add c0 && ip netns add c1");
    let mut rows = with_ports(2);
    let mut wrong = veth(0, named("c0"));
    wrong.defaults = vec![Route::default_via("192.0.2.1".parse().unwrap())];
    rows[2].1 = Desired::Objects(vec![Object::Port(wrong)]);
    let mut lab = Lab::new(rows);
    lab.until("failed", |lab| {
        lab.state(&owner("ports", 0)) == Some(State::Failed) && lab.progress.0 == 1
    });
    assert_eq!(lab.state(&owner("ports", 1)), Some(State::Converged));
    let error = lab.reports[&owner("ports", 0)].error.clone().unwrap();
    assert!(
        error.contains("add route default via 192.0.2.1") && error.contains("Nexthop has invalid gateway"),
        "{error}"
    );
    lab.until("retries", |lab| lab.reports[&owner("ports", 0)].attempts >= 3);
    let cfg = lab.commit(vec![(owner("ports", 0), port(0, named("c0")))]);
    lab.converged(cfg);
}

#[test]
fn lost_events_are_made_good_by_a_dump() {
    isolate();
    sh("ip netns add c0");
    let mut lab = Lab::new(with_ports(1));
    lab.converged(1);
    // More events than the queues hold, while nobody reads: the thread waits for its inputs to be taken.
    sh("ip link add x0 type bridge; for i in $(seq 1 2000); do echo link set x0 alias n$i; done | ip -batch -");
    sh("ip link del vi0");
    lab.until("healed", |lab| lab.count(EventKind::Healed) == 1);
    lab.feed(nonnet_hooks::reconcile::Input::Overrun);
    sh("ip link set vi0 down");
    lab.until("healed", |lab| lab.count(EventKind::Healed) == 2);
    let links = lab.reconciler.mirror().host().unwrap().links().count();
    assert_eq!(links, sh("ip -o link").lines().count());
}

#[test]
fn hundred_ports_converge_and_go_in_a_commit() {
    isolate();
    let count = 100;
    sh(&format!(
        "for i in $(seq 0 {}); do echo netns add c$i; done | ip -batch -",
        count - 1
    ));
    let mut lab = Lab::new(network());
    lab.converged(1);
    let ports = with_ports(count).split_off(2);
    let from = Instant::now();
    let cfg = lab.commit(ports.clone());
    lab.converged(cfg);
    println!("{count} ports converged in {:?}", from.elapsed());
    sh("ip netns exec c99 ping -c1 -W2 10.9.0.10");
    let one = Instant::now();
    let cfg = lab.commit(vec![(owner("ports", 5), Desired::Gone)]);
    lab.converged(cfg);
    println!("one port gone in {:?}", one.elapsed());
    let one = Instant::now();
    let cfg = lab.commit(vec![ports[5].clone()]);
    lab.converged(cfg);
    println!("one port back in {:?}", one.elapsed());
    let from = Instant::now();
    let cfg = lab.commit(ports.into_iter().map(|(owner, _)| (owner, Desired::Gone)).collect());
    lab.converged(cfg);
    println!("{count} ports gone in {:?}", from.elapsed());
    assert_eq!(sh("ip -o link").lines().count(), 2);
}
