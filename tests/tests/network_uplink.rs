//! An uplink with the addresses that its host is reached by: they move to the bridge under a checkpoint, connections go on, and everything goes
//! back as it was when nobody confirms or the row goes.

use nonnet_tests::host::{Host, delete, update};
use nonnet_tests::netns::Inside;
use serde_json::{Value, json};

/// Who answers far away, behind the gateway.
const FAR: &str = "203.0.113.9";

/// Answered pings in a row that show that a way is open.
const PINGS: usize = 10;

/// Pings that may be lost while addresses move; each is a tenth of a second.
const LOST_MAX: usize = 20;

/// A host whose only link outside is `eth0`, with addresses and routes of many sorts, towards namespace `isp`.
fn host() -> Host {
    let mut host = Host::prepare(&[]);
    host.netns.add("isp").unwrap();
    host.sh("set -e
        ip link add eth0 address 02:00:00:00:00:0e type veth peer name isp0 netns isp
        ip netns exec isp sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
        ip -n isp link set lo up; ip -n isp link set isp0 up; ip link set eth0 up
        ip -n isp addr add 192.0.2.1/24 dev isp0; ip -n isp addr add 2001:db8::1/64 dev isp0 nodad
        ip -n isp addr add 203.0.113.9/32 dev lo; ip -n isp addr add 2001:db8:1::9/128 dev lo
        ip addr add 192.0.2.10/24 brd 192.0.2.255 dev eth0
        ip addr add 192.0.2.11/24 dev eth0 label eth0:1
        ip addr add 198.51.100.7/32 dev eth0 valid_lft 3000 preferred_lft 2000
        ip addr add 2001:db8::10/64 dev eth0 nodad
        ip addr add 2001:db8::11/64 dev eth0 nodad valid_lft 3000 preferred_lft 2000
        ip route add default via 192.0.2.1 proto dhcp metric 100
        ip route add 203.0.113.128/25 via 192.0.2.1 src 192.0.2.11 mtu 1400
        ip route add 203.0.113.0/24 dev eth0 scope link table 100
        ip route add 203.0.113.64/27 nexthop via 192.0.2.1 weight 2 nexthop via 192.0.2.2 weight 1
        ip -6 route add default via 2001:db8::1 proto ra metric 1024 expires 3000
        ip -6 route add 2001:db8:2::/64 via fe80::1 dev eth0
    ");
    host.run();
    host
}

fn bridge(name: &str) -> Value {
    json!({"op": "insert", "table": "bridges", "row": {"name": name, "uplinks": "eth0"}})
}

fn checkpoint(timeout: u64) -> Value {
    json!({"op": "insert", "table": "checkpoints", "row": {"name": "try", "timeout": timeout}})
}

/// The addresses and routes of a link as they are shown, with all that a move keeps: no counting down times, nor what the kernel makes for
/// every link.
fn shown(host: &Host, link: &str) -> Vec<String> {
    let text = host.sh(&format!(
        "ip -o addr show dev {link} scope global; ip route show table all dev {link} | sed 's/^/r /'
         ip -6 route show table all dev {link} | sed 's/^/r /'; ip route show 203.0.113.64/27"
    ));
    let is_kept = |line: &&str| {
        !line.starts_with("r local")
            && !line.starts_with("r broadcast")
            && !["fe80::/64", "ff00::/8", "anycast"]
                .iter()
                .any(|word| line.contains(word))
    };
    let cleaned = |line: &str| {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        for key in ["valid_lft", "preferred_lft", "expires"] {
            if let Some(at) = words.iter().position(|word| *word == key)
                && let Some(time) = words.get_mut(at + 1).filter(|time| **time != "forever")
            {
                *time = "some";
            }
        }
        if words.get(1) == Some(&link) {
            words.remove(0);
        }
        // That a link has no carrier yet says nothing about its routes.
        words.retain(|word| *word != "linkdown");
        words.join(" ")
    };
    let mut lines: Vec<String> = text.lines().filter(is_kept).map(cleaned).collect();
    lines.sort();
    lines
}

/// Whether the uplink has neither addresses nor routes but what the kernel makes for every link.
fn is_bare(host: &Host) -> bool {
    let text =
        host.sh("ip -o addr show dev eth0 scope global; ip route show table all dev eth0; ip -6 route show dev eth0");
    text.lines()
        .all(|line| line.starts_with("fe80::/64") || line.contains("ff00::/8") || line.contains("local fe80"))
}

/// What a link shows, in the words of another link.
fn as_on(lines: &[String], from: &str, to: &str) -> Vec<String> {
    let mut lines: Vec<String> = lines.iter().map(|line| line.replace(from, to)).collect();
    lines.sort();
    lines
}

/// A connection and pings through the uplink that go on and on.
struct Traffic {
    _processes: Vec<Inside>,
}

/// Talks to itself far away ten times a second, and says how often it was answered, or why no more.
const TALK: &str = r"
import socket, sys, time
if sys.argv[1] == 'serve':
    listener = socket.create_server(('', 7777))
    while True:
        peer = listener.accept()[0]
        while data := peer.recv(100):
            peer.sendall(data)
log = open(sys.argv[2], 'w', buffering=1)
talk = socket.create_connection((sys.argv[1], 7777))
talk.settimeout(60)
while True:
    talk.sendall(b'x')
    log.write('answered\n' if talk.recv(100) else 'broken\n')
    time.sleep(0.1)
";

impl Traffic {
    fn start(host: &mut Host) -> Self {
        let directory = host.netns.directory().display().to_string();
        let program = format!("{directory}/talk.py");
        std::fs::write(&program, TALK).unwrap();
        let mut processes = vec![
            host.netns
                .spawn("ip", &["netns", "exec", "isp", "python3", &program, "serve"])
                .unwrap(),
        ];
        host.until("somebody listens", |host| {
            host.succeeds("ip netns exec isp ss -ltn | grep -q :7777")
        });
        let log = format!("{directory}/talk.log");
        processes.push(host.netns.spawn("python3", &[&program, FAR, &log]).unwrap());
        for (address, log) in [(FAR, "ping4.log"), ("2001:db8:1::9", "ping6.log")] {
            let ping = format!("exec ping -n -i 0.1 {address} > {directory}/{log} 2>&1");
            processes.push(host.netns.spawn("sh", &["-c", &ping]).unwrap());
        }
        let traffic = Self { _processes: processes };
        Self::goes_on(host);
        traffic
    }

    fn lines(host: &Host, log: &str, word: &str) -> usize {
        let text = std::fs::read_to_string(host.netns.directory().join(log)).unwrap_or_default();
        assert!(!text.contains("broken"), "{text}");
        text.lines().filter(|line| line.contains(word)).count()
    }

    /// More is answered than was until now, of each sort.
    #[track_caller]
    fn goes_on(host: &mut Host) {
        for (log, word) in [
            ("talk.log", "answered"),
            ("ping4.log", "bytes from"),
            ("ping6.log", "bytes from"),
        ] {
            let before = Self::lines(host, log, word);
            host.until(&format!("{log} goes on"), |host| {
                Self::lines(host, log, word) >= before + PINGS
            });
        }
    }

    /// How many pings were lost that others overtook.
    fn lost(host: &Host, log: &str) -> usize {
        let text = std::fs::read_to_string(host.netns.directory().join(log)).unwrap();
        let number = |line: &str| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse::<usize>().ok();
        let answered = text
            .lines()
            .filter(|line| line.contains("bytes from"))
            .filter_map(number);
        let answered: std::collections::BTreeSet<usize> = answered.collect();
        answered.last().copied().unwrap_or(0) - answered.len()
    }
}

#[test]
fn without_a_checkpoint_the_addresses_stay_and_the_row_says_how_they_would_move() {
    let mut host = host();
    let before = shown(&host, "eth0");
    host.transact(&[bridge("br0")]);
    host.until_state("bridges", "br0", "conflict");
    let error = host.error("bridges", "br0");
    for words in ["eth0 has address 192.0.2.10/24", "nonnet apply --confirm 60"] {
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(shown(&host, "eth0"), before);
    assert!(!host.sh("ip link show eth0").contains("master"));
    // A checkpoint that opens later is one as well. When it is over, the row says again what it said.
    host.transact(&[checkpoint(600)]);
    host.until_state("bridges", "br0", "converged");
    assert_eq!(shown(&host, "br0").len(), before.len());
    assert!(is_bare(&host), "{:?}", shown(&host, "eth0"));
    host.transact(&[update("checkpoints", "try", &json!({"rollback": true}))]);
    host.until_state("bridges", "br0", "conflict");
    assert_eq!(shown(&host, "eth0"), before);
    assert!(!host.sh("ip link show eth0").contains("master"));
    // A file that says what the rows say already: what has failed is tried again under the checkpoint, and nothing else makes a commit.
    let file = json!({"version": 1, "plugins": {"bridges": [{"name": "br0", "uplinks": ["eth0"]}]}});
    let again = format!("apply - --confirm 600 --checkpoint again --wait 60 <<'END'\n{file}\nEND\n");
    let told = host.says(&again, 0);
    assert!(
        told.contains("tried again under the checkpoint") && told.contains("Bridge br0: converged"),
        "{told}"
    );
    assert!(is_bare(&host), "{:?}", shown(&host, "eth0"));
    host.says("confirm again", 0);
    let commits = host.progress().0;
    let told = host.says(&again.replace("again", "more"), 0);
    assert!(told.contains("Nothing to change"), "{told}");
    assert_eq!(host.progress().0, commits);
}

#[test]
fn addresses_move_under_a_checkpoint_and_stay_moved_until_the_row_goes() {
    let mut host = host();
    let before = shown(&host, "eth0");
    let _traffic = Traffic::start(&mut host);
    let state = json!({"version": 1, "plugins": {"bridges": [{"name": "br0", "uplinks": ["eth0"]}]}});
    std::fs::write(host.netns.directory().join("state.json"), state.to_string()).unwrap();
    let said = host.says("apply state.json --confirm 600 --dry-run", 0);
    assert!(
        said.contains("move address 192.0.2.10/24, ") && said.contains(" from eth0 to br0"),
        "{said}"
    );
    let said = host.says("plan state.json", 1);
    assert!(
        said.contains("eth0 has address") && !said.contains("move address"),
        "{said}"
    );
    assert_eq!(shown(&host, "eth0"), before);

    let said = host.says("apply state.json --confirm 600", 0);
    assert!(said.contains("unless it is confirmed"), "{said}");
    host.until_state("bridges", "br0", "converged");
    Traffic::goes_on(&mut host);
    assert!(host.sh("ip link show br0").contains("02:00:00:00:00:0e"));
    let moved = shown(&host, "br0");
    assert_eq!(moved, as_on(&before, "eth0", "br0"));
    assert!(is_bare(&host), "{:?}", shown(&host, "eth0"));

    // Confirmed, over a restart, a crash, and after what somebody did to the link.
    host.transact(&[update("checkpoints", "apply", &json!({"confirmed": true}))]);
    host.converged();
    host.stop();
    host.run();
    host.converged();
    host.kill();
    host.run();
    host.converged();
    assert_eq!(shown(&host, "br0"), moved);
    let last = host.last_event();
    host.sh("ip link set eth0 nomaster");
    host.until_event(last, "healed", "eth0");
    Traffic::goes_on(&mut host);
    assert_eq!(shown(&host, "br0"), moved);
    // A DHCP client that knows nothing of the bridge renews its lease on the link.
    host.sh("ip addr add 198.51.100.7/32 dev eth0 valid_lft 9000 preferred_lft 9000");
    host.until("the lease is renewed on the bridge", |host| {
        let lease = host.sh("ip -o addr show dev br0 to 198.51.100.7");
        let seconds = lease
            .split("valid_lft ")
            .nth(1)
            .and_then(|rest| rest.split("sec").next()?.parse::<u32>().ok());
        seconds.is_some_and(|seconds| seconds > 8_000) && host.sh("ip -o -4 addr show dev eth0").is_empty()
    });
    host.converged();

    // Another bridge needs another checkpoint: without one the addresses go back rather than away.
    host.transact(&[delete("bridges", "br0"), bridge("br1")]);
    host.until_state("bridges", "br1", "conflict");
    assert_eq!(shown(&host, "eth0"), before);
    Traffic::goes_on(&mut host);
    host.transact(&[checkpoint(600)]);
    host.until_state("bridges", "br1", "converged");
    Traffic::goes_on(&mut host);
    assert!(host.sh("ip -o addr show dev br1").contains("192.0.2.10/24"));
    host.transact(&[delete("bridges", "br1")]);
    host.until("the bridge is gone", |host| host.link("br1").is_none());
    host.until("all is as it was", |host| shown(host, "eth0") == before);
    assert!(!host.sh("ip link show eth0").contains("alias"));
    Traffic::goes_on(&mut host);
    for log in ["ping4.log", "ping6.log"] {
        let count = Traffic::lost(&host, log);
        assert!(count <= LOST_MAX, "{count} pings of {log} were lost");
    }
}

#[test]
fn what_is_not_confirmed_goes_back_even_if_the_server_died_meanwhile() {
    let mut host = host();
    let before = shown(&host, "eth0");
    let _traffic = Traffic::start(&mut host);
    host.transact(&[checkpoint(2), bridge("br0")]);
    host.until("they moved", |host| {
        host.sh("ip -o addr show dev br0 2>/dev/null || true")
            .contains("192.0.2.10")
    });
    host.until("they are back", |host| {
        shown(host, "eth0") == before && host.link("br0").is_none()
    });
    host.until("it is rolled back", |host| {
        host.row("checkpoints", "try")["state"] == "rolled_back"
    });
    host.converged();
    Traffic::goes_on(&mut host);
    assert!(host.find("bridges", "br0").is_none() && !host.sh("ip link show eth0").contains("taken"));

    host.transact(&[delete("checkpoints", "try")]);
    host.transact(&[checkpoint(3), bridge("br0")]);
    host.until("they moved", |host| {
        host.sh("ip -o addr show dev br0 2>/dev/null || true")
            .contains("192.0.2.10")
    });
    host.kill();
    // With half of it undone, as if it had died in the midst of it.
    host.sh("ip addr add 192.0.2.10/24 brd 192.0.2.255 dev eth0");
    host.run();
    host.until("they are back", |host| {
        host.link("br0").is_none() && shown(host, "eth0") == before
    });
    host.converged();
    Traffic::goes_on(&mut host);
    assert!(host.find("bridges", "br0").is_none());
}
