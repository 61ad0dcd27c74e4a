//! Names: real clients ask for them on a network's gateways, and `resolv.conf` says where, in a host of the test's own.

use std::fs;
use std::path::PathBuf;

use nonnet_tests::host::{Host, delete, insert, port, update};
use serde_json::{Value, json};

/// A bridge and a network on it with these settings for names, known as `network`.
fn network(at: u8, dns: &[(&str, &str)]) -> Vec<Value> {
    let dns: Vec<Value> = dns.iter().map(|(key, value)| json!([key, value])).collect();
    let row = json!({"name": format!("net{at}"), "bridge": ["named-uuid", "bridge"], "ipam": "sequential", "dns": ["map", dns],
        "subnets": ["map", [[format!("10.77.{at}.0/24"), format!("10.77.{at}.1")],
            [format!("fd77:{at}::/64"), format!("fd77:{at}::1")]]]});
    vec![
        insert("bridges", "bridge", &json!({"name": format!("br{at}")})),
        insert("networks", "network", &row),
    ]
}

/// A port with names in a namespace of its own name.
fn named(host: &Host, name: &str, names: &[&str]) -> Value {
    host.netns.add(name).unwrap();
    let mut operation = port(name, name);
    operation["row"]["names"] = json!(["set", names]);
    operation
}

/// A host with an `/etc` of its own, which is the machine's otherwise, and with no nameserver there.
fn host() -> Host {
    let mut host = Host::prepare(&[]);
    let etc = host.netns.directory().join("etc");
    host.sh(&format!(
        "mkdir {0} && cp -a /etc/. {0} && mount --bind {0} /etc",
        etc.display()
    ));
    host.sh("rm -rf /etc/resolv.conf /etc/netns && echo nameserver 127.0.0.53 > /etc/resolv.conf");
    host.run();
    host
}

fn etc(host: &Host, file: &str) -> PathBuf {
    host.netns.directory().join("etc").join(file)
}

/// What `dig` prints in a namespace: the answer's records in short, or everything where `words` ask for it.
#[track_caller]
fn dig(host: &Host, netns: &str, words: &str) -> String {
    host.sh(&format!("ip netns exec {netns} dig +tries=2 +time=5 {words}"))
}

#[test]
fn names_of_ports_are_answered_on_the_gateways() {
    let mut host = host();
    let mut rows = network(1, &[("domain", "lab.test")]);
    rows.extend([named(&host, "web", &["www", "Shop.Deep"]), named(&host, "client", &[])]);
    host.transact(&rows);
    host.converged();
    let (four, six) = ("@10.77.1.1", "@fd77:1::1");
    let web = host.row("ports", "web")["addresses_in_use"].to_string();
    for server in [four, six] {
        let a = dig(&host, "client", &format!("{server} www.lab.test A +short"));
        assert!(web.contains(a.trim()) && a.contains("10.77.1."), "{a} {web}");
        let aaaa = dig(&host, "client", &format!("{server} WWW AAAA +short"));
        assert!(web.contains(aaaa.trim()) && aaaa.contains("fd77:1::"), "{aaaa} {web}");
    }
    let address = host.ipv4("web");
    let reverse = dig(&host, "client", &format!("{four} -x {address} +short"));
    assert_eq!(
        reverse.lines().collect::<Vec<_>>(),
        ["shop.deep.lab.test.", "www.lab.test."]
    );
    let denied = dig(&host, "client", &format!("{four} nobody.lab.test"));
    assert!(
        denied.contains("status: NXDOMAIN") && denied.contains("SOA"),
        "{denied}"
    );
    let empty = dig(&host, "client", &format!("{four} www.lab.test MX"));
    assert!(
        empty.contains("status: NOERROR") && empty.contains("ANSWER: 0"),
        "{empty}"
    );
    let over_tcp = dig(&host, "client", &format!("{four} www.lab.test +tcp +short"));
    assert!(over_tcp.contains("10.77.1."), "{over_tcp}");

    host.transact(&[update("ports", "web", &json!({"names": ["set", ["other"]]}))]);
    host.converged();
    let gone = dig(&host, "client", &format!("{four} www.lab.test"));
    assert!(gone.contains("status: NXDOMAIN"), "{gone}");
    let there = dig(&host, "client", &format!("{four} other.lab.test +short"));
    assert!(there.contains("10.77.1."), "{there}");
}

#[test]
fn network_sees_its_own_names_and_those_of_networks_it_lists() {
    let mut host = host();
    for (at, dns) in [(1, vec![("domain", "one.test")]), (2, vec![("networks", "net1")])] {
        let mut rows = network(at, &dns);
        rows.push(named(&host, &format!("p{at}"), &[&format!("name{at}")]));
        host.transact(&rows);
    }
    host.converged();
    let from_two = dig(&host, "p2", "@10.77.2.1 name1.one.test +short");
    assert!(from_two.contains("10.77.1."), "{from_two}");
    // The host has no nameserver that answers, so what is not known stays without an answer.
    let from_one = dig(&host, "p1", "@10.77.1.1 name2 +noall +comments || true");
    assert!(!from_one.contains("NOERROR"), "{from_one}");
    host.sh("sysctl -qw net.ipv4.ip_forward=1");
    let across = dig(&host, "p2", "@10.77.1.1 name1.one.test");
    assert!(across.contains("status: REFUSED"), "{across}");
}

#[test]
fn other_questions_go_to_the_nameservers_of_the_network() {
    let mut host = host();
    let upstream = host.netns.directory().join("dnsmasq.pid");
    host.sh("ip addr add 192.0.2.53/32 dev lo; ip addr add 192.0.2.52/32 dev lo");
    // One that refuses all questions.
    let refusing = host.netns.directory().join("refusing.pid");
    host.sh(&format!(
        "dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --listen-address=192.0.2.52 --user=root --pid-file={}",
        refusing.display()
    ));
    host.sh(&format!(
        "dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --listen-address=192.0.2.53 --user=root \
         --address=/example.test/198.51.100.7 --txt-record=long.test,{0},{0},{0},{0},{0},{0} --pid-file={1}",
        "x".repeat(250),
        upstream.display()
    ));
    let mut rows = network(1, &[("servers", "192.0.2.52 192.0.2.53"), ("domain", "lab.test")]);
    rows.push(named(&host, "client", &[]));
    host.transact(&rows);
    host.converged();
    let answer = dig(&host, "client", "@10.77.1.1 www.example.test +short");
    assert_eq!(answer.trim(), "198.51.100.7");
    let getent = host.sh("ip netns exec client getent hosts www.example.test");
    assert!(getent.starts_with("198.51.100.7"), "{getent}");
    // Longer than a datagram may be: cut short, and asked again over TCP.
    let long = dig(&host, "client", "@10.77.1.1 long.test TXT +bufsize=512");
    assert!(long.contains("(TCP)") && long.contains(&"x".repeat(250)), "{long}");
    let plain = dig(&host, "client", "@10.77.1.1 long.test TXT +noedns +ignore");
    assert!(plain.contains(" tc"), "{plain}");
    // What nobody answers is said to be so.
    host.sh(&format!(
        "kill $(cat {}) $(cat {})",
        upstream.display(),
        refusing.display()
    ));
    let none = dig(&host, "client", "@10.77.1.1 www.example.test +time=15 +tries=1");
    assert!(none.contains("status: SERVFAIL"), "{none}");
}

#[test]
fn internal_network_asks_nobody_else() {
    let mut host = host();
    let mut rows = network(1, &[("domain", "lab.test")]);
    rows[1]["row"]["internal"] = json!(true);
    rows.push(named(&host, "client", &["me"]));
    host.transact(&rows);
    host.converged();
    let other = dig(&host, "client", "@10.77.1.1 www.example.test");
    assert!(other.contains("status: REFUSED"), "{other}");
    let own = dig(&host, "client", "@10.77.1.1 me +short");
    assert!(own.contains("10.77.1."), "{own}");
}

#[test]
fn port_that_somebody_else_has_is_the_networks_error_until_it_is_free() {
    let mut host = host();
    host.sh("ip addr add 10.77.1.1/32 dev lo");
    let blocker = host
        .netns
        .spawn("socat", &["UDP4-RECVFROM:53,bind=10.77.1.1", "SYSTEM:sleep 60"])
        .unwrap();
    host.until("the port is taken", |host| {
        host.succeeds("ss -lun | grep -q 10.77.1.1:53")
    });
    host.transact(&network(1, &[("domain", "lab.test")]));
    host.until_state("networks", "net1", "failed");
    let error = host.error("networks", "net1");
    assert!(
        error.contains("answer names on 10.77.1.1 port 53") && error.contains("in use"),
        "{error}"
    );
    drop(blocker);
    host.until_state("networks", "net1", "converged");
    host.transact(&[delete("networks", "net1")]);
    host.until("nobody listens", |host| {
        !host.succeeds("ss -lun | grep -q 10.77.1.1:53")
    });
}

#[test]
fn named_namespace_gets_a_resolv_conf_that_is_kept_and_taken_away() {
    let mut host = host();
    let dns = [("domain", "lab.test"), ("search", "more.test"), ("options", "ndots:2")];
    let mut rows = network(1, &dns);
    rows.push(named(&host, "web", &["www"]));
    host.transact(&rows);
    host.converged();
    let file = etc(&host, "netns/web/resolv.conf");
    let text = fs::read_to_string(&file).unwrap();
    let uuid = host.row("ports", "web")["_uuid"].as_str().unwrap().to_owned();
    let (first, rest) = text.split_once('\n').unwrap();
    assert!(first.starts_with(&format!("# nonnet:ports/{uuid} ")), "{first}");
    let expected = "search lab.test more.test\noptions ndots:2\nnameserver 10.77.1.1\nnameserver fd77:1::1\n";
    assert_eq!(rest, expected);
    // What programs in the namespace see is what a C library finds names by.
    let found = host.sh("ip netns exec web getent ahosts www");
    assert!(found.contains("10.77.1."), "{found}");

    host.transact(&[update(
        "networks",
        "net1",
        &json!({"dns": ["map", [["servers", "192.0.2.9"], ["resolver", "false"]]]}),
    )]);
    host.converged();
    assert!(fs::read_to_string(&file).unwrap().ends_with("\nnameserver 192.0.2.9\n"));
    assert!(!host.succeeds("ss -lun | grep -q 10.77.1.1:53"));

    host.transact(&[delete("ports", "web")]);
    host.converged();
    host.until("the file is gone", |_| !file.exists());
    let directory = etc(&host, "netns");
    host.until("the directory is gone", |_| !directory.exists());
}

#[test]
fn namespace_without_a_word_about_names_is_left_alone() {
    let mut host = host();
    let mut rows = network(1, &[]);
    rows.push(named(&host, "web", &[]));
    host.transact(&rows);
    host.converged();
    assert!(!etc(&host, "netns").exists());
    assert!(!host.succeeds("ss -lun | grep -q :53"));
    // With the first name there is something to answer.
    host.transact(&[update("ports", "web", &json!({"names": "www"}))]);
    host.converged();
    let answer = dig(&host, "web", "@10.77.1.1 www +short");
    assert!(answer.contains("10.77.1."), "{answer}");
}

#[test]
fn resolv_conf_never_leaves_the_root_of_a_container() {
    let mut host = host();
    let precious = etc(&host, "resolv.conf");
    fs::write(&precious, "nameserver 192.0.2.1\n").unwrap();
    host.netns.create_container("c1").unwrap();
    let rootfs = PathBuf::from(host.netns.lxc_path()).join("c1/rootfs");
    let file = rootfs.join("etc/resolv.conf");
    let _ = fs::remove_file(&file);
    let hostile = precious.to_str().unwrap();
    std::os::unix::fs::symlink(hostile, &file).unwrap();
    host.netns.start_container("c1").unwrap();
    let mut rows = network(1, &[("domain", "lab.test")]);
    rows.push(insert(
        "lxc",
        "c1",
        &json!({"id": "c1", "veth": "vic1", "bridge": "br1", "running": true,
        "properties": ["map", [["network", "net1"]]]}),
    ));
    host.transact(&rows);
    host.converged();
    assert_eq!(fs::read_to_string(&precious).unwrap(), "nameserver 192.0.2.1\n");
    let inside = host.netns.in_container("c1", "cat /etc/resolv.conf").unwrap();
    assert!(inside.contains("nameserver 10.77.1.1"), "{inside}");
    // The container's own name is known, to itself as to others.
    let found = host.netns.in_container("c1", "nslookup c1.lab.test").unwrap();
    assert!(found.contains("10.77.1.2"), "{found}");

    // A change by hand is taken back when everything is read again.
    host.netns
        .in_container("c1", "echo nameserver 192.0.2.66 > /etc/resolv.conf")
        .unwrap();
    host.kill();
    host.run();
    host.until("the file is ours again", |host| {
        let text = host.netns.in_container("c1", "cat /etc/resolv.conf").unwrap();
        text.contains("nameserver 10.77.1.1")
    });

    host.transact(&[update("networks", "net1", &json!({"dns": ["map", []]}))]);
    host.until("what was there is back", |_| {
        fs::read_link(&file).is_ok_and(|target| target == precious)
    });
    assert_eq!(fs::read_to_string(&precious).unwrap(), "nameserver 192.0.2.1\n");
    host.netns.stop_container("c1").unwrap();
}

/// The rows of a container `c1` of somebody else's on a network with names.
fn container(host: &mut Host) -> Vec<Value> {
    host.netns.create_container("c1").unwrap();
    let mut rows = network(
        1,
        &[("domain", "lab.test"), ("search", "other.test"), ("options", "ndots:2")],
    );
    rows.push(insert(
        "lxc",
        "c1",
        &json!({"id": "c1", "veth": "vic1", "bridge": "br1", "properties": ["map", [["network", "net1"]]]}),
    ));
    rows
}

#[test]
fn container_that_is_stopped_and_started_has_its_file_and_gives_it_back_either_way() {
    let mut host = host();
    let path = host.netns.lxc_path();
    host.stop();
    host.arguments(&["--lxc-path", &path]);
    host.run();
    let rows = container(&mut host);
    let file = PathBuf::from(&path).join("c1/rootfs/etc/resolv.conf");
    fs::write(&file, "nameserver 192.0.2.77\n").unwrap();
    host.netns.start_container("c1").unwrap();
    host.transact(&rows);
    host.converged();
    let text = fs::read_to_string(&file).unwrap();
    let rest: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(
        rest,
        [
            "search lab.test other.test",
            "options ndots:2",
            "nameserver 10.77.1.1",
            "nameserver fd77:1::1"
        ]
    );

    host.netns.stop_container("c1").unwrap();
    host.until_state("lxc", "c1", "waiting");
    fs::write(&file, "nameserver 192.0.2.78\n").unwrap();
    host.netns.start_container("c1").unwrap();
    host.until("it is ours again", |_| {
        fs::read_to_string(&file).is_ok_and(|now| now == text)
    });
    host.converged();

    host.netns.stop_container("c1").unwrap();
    host.until_state("lxc", "c1", "waiting");
    host.transact(&[delete("lxc", "c1")]);
    host.until("it is as it was before", |_| {
        fs::read_to_string(&file).is_ok_and(|now| now == "nameserver 192.0.2.77\n")
    });
}

#[test]
fn file_goes_with_its_row_even_if_the_server_did_nothing_then() {
    let mut host = host();
    let path = host.netns.lxc_path();
    let lxc_path = ["--lxc-path", path.as_str()];
    host.stop();
    host.arguments(&lxc_path);
    host.run();
    let mut rows = container(&mut host);
    rows.push(named(&host, "web", &["www"]));
    let file = PathBuf::from(&path).join("c1/rootfs/etc/resolv.conf");
    fs::write(&file, "nameserver 192.0.2.77\n").unwrap();
    host.netns.start_container("c1").unwrap();
    host.transact(&rows);
    host.converged();
    let named = etc(&host, "netns/web/resolv.conf");
    assert!(named.exists() && fs::read_to_string(&file).unwrap().contains("10.77.1.1"));

    // The rows go while nothing follows them.
    host.stop();
    host.arguments(&[lxc_path[0], lxc_path[1], "--kernel", "observe"]);
    host.run();
    host.transact(&[delete("lxc", "c1"), delete("ports", "web")]);
    host.stop();
    host.netns.stop_container("c1").unwrap();
    assert!(named.exists());
    // A file of another database's is none of ours.
    let other = etc(&host, "netns/other");
    fs::create_dir(&other).unwrap();
    let text = "# nonnet:ports/00000000-0000-0000-0000-000000000001 40000002\nnameserver 192.0.2.1\n";
    fs::write(other.join("resolv.conf"), text).unwrap();
    host.arguments(&lxc_path);
    host.run();
    host.until("the files are as they were before", |_| {
        !named.exists() && fs::read_to_string(&file).is_ok_and(|now| now == "nameserver 192.0.2.77\n")
    });
    assert_eq!(fs::read_to_string(other.join("resolv.conf")).unwrap(), text);
}

#[test]
fn nameservers_of_a_lease_reach_the_namespace_whose_row_asks_for_them() {
    let mut host = host();
    host.transact(&[insert("bridges", "bridge", &json!({"name": "br0"}))]);
    host.converged();
    host.sh(
        "ip netns add lan && ip link add lan0 type veth peer name eth0 netns lan && ip link set lan0 master br0 up
        ip -n lan link set eth0 up && ip -n lan addr add 10.9.0.1/24 dev eth0",
    );
    let leases = host.netns.directory().join("leases").display().to_string();
    let arguments = "netns exec lan dnsmasq --keep-in-foreground --conf-file=/dev/null --no-ping --port=0 --interface=eth0 --bind-interfaces \
        --user=root --pid-file= --domain=corp.test --dhcp-option=6,192.0.2.53,192.0.2.54 --dhcp-range=10.9.0.10,10.9.0.99,1h";
    let mut command = host.netns.command("ip");
    command
        .args(arguments.split_whitespace())
        .arg(format!("--dhcp-leasefile={leases}"));
    let _server = host.netns.spawn_command(&mut command).unwrap();
    let bridge = host.row("bridges", "br0")["_uuid"].clone();
    let mut rows = Vec::new();
    for (name, options) in [("asks", json!([["dhcp_dns", "true"]])), ("silent", json!([]))] {
        host.netns.add(name).unwrap();
        let row = json!({"name": name, "netns": name, "bridge": ["uuid", bridge], "addresses": "dhcp", "options": ["map", options]});
        rows.push(insert("ports", &format!("port_{name}"), &row));
    }
    host.transact(&rows);
    let file = etc(&host, "netns/asks/resolv.conf");
    host.until("the file is there", |_| file.exists());
    host.converged();
    let text = fs::read_to_string(&file).unwrap();
    let rest: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(
        rest,
        ["search corp.test", "nameserver 192.0.2.53", "nameserver 192.0.2.54"]
    );
    assert!(!etc(&host, "netns/silent").exists());
    host.transact(&[update("ports", "asks", &json!({"options": ["map", []]}))]);
    host.until("the file is gone", |_| !file.exists());
    let (_, wrong) = host.refused(&[update(
        "ports",
        "asks",
        &json!({"options": ["map", [["dhcp_dns", "yes"]]]}),
    )]);
    assert!(wrong.contains("dhcp_dns") && wrong.contains("yes"), "{wrong}");
}

#[test]
fn bad_settings_are_refused_with_row_and_column() {
    let mut host = host();
    for (dns, why) in [
        (("server", "192.0.2.1"), "no such key"),
        (("servers", "192.0.2.300"), "192.0.2.300"),
        (("domain", "a b"), "no name"),
        (("options", "x\nnameserver 1.1.1.1"), "no option"),
    ] {
        let (_, details) = host.refused(&network(1, &[dns]));
        assert!(
            details.contains("net1") && details.contains("dns") && details.contains(why),
            "{details}"
        );
    }
    let mut rows = network(1, &[]);
    rows.push(named(&host, "web", &["bad name"]));
    let (_, details) = host.refused(&rows);
    assert!(
        details.contains("web") && details.contains("names") && details.contains("bad name"),
        "{details}"
    );
}

#[test]
fn questions_that_are_none_do_no_harm() {
    let mut host = host();
    let mut rows = network(1, &[("domain", "lab.test")]);
    rows.push(named(&host, "web", &["www"]));
    host.transact(&rows);
    host.converged();
    host.sh(
        "ip netns exec web sh -c 'head -c 3000 /dev/urandom | nc -u -w 1 10.77.1.1 53; \
        head -c 3000 /dev/urandom | nc -w 1 10.77.1.1 53; printf \"\\377\\377\" | nc -w 1 10.77.1.1 53; true'",
    );
    let answer = dig(&host, "web", "@10.77.1.1 www.lab.test +short");
    assert!(answer.contains("10.77.1."), "{answer}");
}
