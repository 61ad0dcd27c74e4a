//! A whole Open vSwitch whose database is in `nonnetd`: what `ovs-vsctl` configures is done, frames pass, and a restart of `nonnetd` underneath
//! disturbs nothing.

use nonnet_tests::open_vswitch::OpenVswitch;
use nonnet_tests::server::Kind;

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";
const C: &str = "192.0.2.3";

/// A switch with a bridge and two hosts.
fn switch() -> OpenVswitch {
    let switch = OpenVswitch::start(Kind::Nonnetd).unwrap();
    switch
        .configure("add-br br0 -- set bridge br0 datapath_type=netdev")
        .unwrap();
    for (host, address) in [("ha", A), ("hb", B)] {
        switch.add_host(host, &format!("{address}/24")).unwrap();
        switch.configure(&format!("add-port br0 {host}")).unwrap();
    }
    switch
}

/// A number that a command prints.
fn number(switch: &OpenVswitch, commands: &str) -> i64 {
    let text = switch.configure(commands).unwrap();
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{commands} printed {text}"))
}

/// Frames received at a host's port, as far as `ovs-vswitchd` has said so.
fn received(switch: &OpenVswitch) -> i64 {
    let commands = "--if-exists get interface ha statistics:rx_packets";
    switch.configure(commands).unwrap().trim().parse().unwrap_or(0)
}

#[test]
fn ports_made_by_ovs_vsctl_carry_frames() {
    let switch = switch();
    assert!(switch.pings("ha", B).unwrap(), "{}", switch.log());

    let cfg = number(&switch, "get open_vswitch . next_cfg");
    assert_eq!(
        number(&switch, "get open_vswitch . cur_cfg"),
        cfg,
        "ovs-vswitchd says what it has done"
    );
    assert!(number(&switch, "get interface ha ofport") > 0);
    assert_eq!(switch.configure("get interface ha link_state").unwrap(), "up\n");
    assert_eq!(
        switch.configure("get bridge br0 datapath_version").unwrap(),
        "\"<built-in>\"\n"
    );

    switch.configure("set port hb tag=10").unwrap();
    assert!(!switch.pings("ha", B).unwrap(), "other VLANs are apart");
    switch.configure("set port ha tag=10").unwrap();
    assert!(switch.pings("ha", B).unwrap(), "the same VLAN is one");

    switch.configure("add-port br0 nosuch").unwrap();
    let error = switch.configure("get interface nosuch error").unwrap();
    assert!(error.contains("could not open network device nosuch"), "{error}");

    switch.configure("del-port hb").unwrap();
    assert!(!switch.pings("ha", B).unwrap(), "a port that is gone carries nothing");
    switch.configure("del-br br0").unwrap();
    assert_eq!(
        switch.run("ovs-vsctl list-ifaces br0 2>&1 || true").unwrap(),
        "ovs-vsctl: no bridge named br0\n"
    );
    switch.run("! ip link show br0 2>&1").unwrap();
}

#[test]
fn ovs_vswitchd_goes_on_after_a_kill_of_nonnetd() {
    let mut switch = switch();
    assert!(switch.pings("ha", B).unwrap(), "{}", switch.log());
    let before = number(&switch, "get open_vswitch . cur_cfg");

    // Without its lock in the database ovs-vswitchd does not forward in user space, on any server; it does again by itself.
    switch.server.kill().unwrap();
    switch.server.run().unwrap();
    switch
        .wait_until("frames that pass again", |switch| switch.pings("ha", B))
        .unwrap();
    assert_eq!(switch.configure("list-ports br0").unwrap(), "ha\nhb\n");

    switch.add_host("hc", &format!("{C}/24")).unwrap();
    switch.configure("add-port br0 hc").unwrap();
    assert!(number(&switch, "get open_vswitch . cur_cfg") > before);
    assert!(switch.pings("ha", C).unwrap(), "a port that came later works");

    let earlier = received(&switch);
    assert!(switch.pings("ha", B).unwrap());
    switch
        .wait_until("statistics that grow", |switch| Ok(received(switch) > earlier))
        .unwrap();
    let log = switch.log();
    assert!(
        log.contains("connection closed by peer") || log.contains("Connection reset"),
        "{log}"
    );
    assert!(!log.contains("|EMER|") && !log.contains("|ERR|ovsdb"), "{log}");
    assert!(switch.vswitchd_runs());
}
