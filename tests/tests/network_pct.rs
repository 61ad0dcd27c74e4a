//! LXC containers by Proxmox VE's `pct`.
//!
//! pct itself runs on Proxmox only. A stand-in of ours (`tests/src/pct.py`) takes its place: it has the arguments, words, exit status, locks and pending
//! changes of the real one, and starts real containers by LXC as its services do. Proxmox's storages and cluster are not tested here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nonnet_tests::host::{Host, bridge_and_network, delete, insert, update};
use nonnet_tests::program;
use serde_json::{Value, json};

/// A container's id, its properties, and what its row's error is to say.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

const PCT: &str = include_str!("../src/pct.py");

/// A template of the storage `local`.
const TEMPLATE: &str = "local:vztmpl/base.tar";

/// Makes the archive of a template: busybox, without what LXC's template has for a network of its own.
const ARCHIVE: &str = "
set -e
mkdir -p cache base
echo 'lxc.net.0.type = empty' > base.conf
lxc-create -P \"$PWD/base\" -n base -f base.conf -t busybox >/dev/null
sed -i /udhcpc/d base/base/rootfs/etc/init.d/rcS
tar -C base/base/rootfs -cf cache/base.tar .
lxc-destroy -P \"$PWD/base\" -n base
";

/// A host with the stand-in, and with directories of Proxmox's and LXC's that nobody else sees.
struct Proxmox {
    host: Host,
    directory: PathBuf,
}

impl Proxmox {
    fn start() -> Self {
        let mut host = Host::prepare(&[]);
        let cgroup = host.netns.foreign_cgroup();
        let directory = host.netns.directory().join("pve");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("pct"), PCT).unwrap();
        fs::set_permissions(directory.join("pct"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(directory.join("cgroup"), cgroup).unwrap();
        let place = directory.display();
        host.sh(&format!(
            "cd {place} && mkdir etc lxc images && cp -a /etc/. etc && mkdir -p etc/pve/lxc
             mount --bind etc /etc && mount --bind lxc /var/lib/lxc\n{ARCHIVE}"
        ));
        let mut proxmox = Self { host, directory };
        proxmox.run();
        proxmox
    }

    fn run(&mut self) {
        let program = program::ours("nonnetd").unwrap();
        let path = std::env::var("PATH").unwrap();
        let path = format!("PATH={}:{path}", self.directory.display());
        self.host.run_command(&["env", &path, &program.display().to_string()]);
    }

    fn mode(&self, mode: &str) {
        fs::write(self.directory.join("mode"), mode).unwrap();
    }

    fn pct(&self, arguments: &str) -> String {
        self.host
            .sh(&format!("{}/pct {arguments}", self.directory.display()))
            .trim()
            .to_owned()
    }

    fn inside(&self, id: &str, script: &str) -> String {
        self.pct(&format!("exec {id} -- sh -c '{script}'"))
    }

    /// The calls with `word` in them.
    fn calls(&self, word: &str) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join("calls")).unwrap_or_default();
        let calls = text.lines().filter(|line| line.contains(word)).map(str::to_owned);
        calls.collect()
    }

    /// Proxmox's configuration of a container, read as nobody locks it.
    fn configuration(&self, id: &str) -> String {
        self.host.sh(&format!("cat /etc/pve/lxc/{id}.conf 2>/dev/null || true"))
    }

    fn status(&mut self, id: &str, key: &str) -> String {
        let row = self.host.row("lxc", id);
        row["status"][key].as_str().unwrap_or_default().to_owned()
    }

    fn fails_with(&mut self, id: &str, words: &str) {
        self.host.until(&format!("{id} fails with {words:?}"), |host| {
            host.state("lxc", id) == "failed" && host.error("lxc", id).contains(words)
        });
    }

    fn destroyed(&mut self, ids: &[&str]) {
        self.host
            .transact(&ids.iter().map(|id| delete("lxc", id)).collect::<Vec<_>>());
        self.host.converged();
        for id in ids {
            assert_eq!(self.configuration(id), "", "{id} is left");
            assert!(!self.directory.join("images").join(id).exists());
            assert!(!self.directory.join("lxc").join(id).exists());
        }
    }
}

fn properties(pairs: &[(&str, &str)]) -> Value {
    let pairs: Vec<Value> = pairs.iter().map(|(key, value)| json!([key, value])).collect();
    json!(["map", pairs])
}

fn container(id: &str, more: &[(&str, &str)], running: bool) -> Value {
    let row = json!({"id": id, "running": running, "properties": properties(more)});
    insert("lxc", &format!("lxc{id}"), &row)
}

fn templated(id: &str, more: &[(&str, &str)], running: bool) -> Value {
    container(id, &[&[("template", TEMPLATE)], more].concat(), running)
}

fn set_running(id: &str, running: bool) -> Value {
    update("lxc", id, &json!({"running": running}))
}

/// The operation that takes some properties away and gives others values.
fn change(id: &str, gone: &[&str], pairs: &[(&str, &str)]) -> Value {
    let keys: Vec<&str> = gone.iter().copied().chain(pairs.iter().map(|(key, _)| *key)).collect();
    json!({"op": "mutate", "table": "lxc", "where": [["id", "==", id]], "mutations": [
        ["properties", "delete", ["set", keys]], ["properties", "insert", properties(pairs)]]})
}

#[test]
fn every_property_reaches_pct_and_the_container_is_in_its_network() {
    let mut proxmox = Proxmox::start();
    let script = proxmox.directory.join("first.sh");
    fs::write(&script, "id -u > /root/first\n").unwrap();
    let mut operations = bridge_and_network("vmbr0", "lan", &[("192.168.1.0/24", "192.168.1.1")]);
    let mut row = templated(
        "100",
        &[
            ("network_type", "bridge"),
            ("ipv4", "192.168.1.100/24"),
            ("hostname", "web-1"),
            ("memory", "64"),
            ("swap", "32"),
            ("storage", "local-btrfs"),
            ("rootfs_size", "8"),
            ("cores", "2"),
            ("unprivileged", "true"),
            ("features", "nesting=1"),
            ("firewall", "false"),
            ("onboot", "true"),
            ("protection", "true"),
            ("nameserver", "192.168.1.1,fd00::1"),
            ("searchdomain", "example.org"),
            ("firstboot_script", script.to_str().unwrap()),
        ],
        true,
    );
    row["row"]["bridge"] = json!("vmbr0");
    operations.push(row);
    proxmox.mode("slow-start");
    proxmox.host.transact(&operations);
    proxmox.host.converged();
    proxmox.mode("");
    let creates = proxmox.calls("create");
    let [create] = &creates[..] else { panic!("{creates:?}") };
    let (options, tag) = create.split_once(" --tags nonnet-").unwrap();
    assert_eq!(
        options,
        format!(
            "create 100 {TEMPLATE} --cores 2 --features nesting=1 --hostname web-1 --memory 64 --nameserver '192.168.1.1 fd00::1' \
             --onboot 1 --protection 1 --searchdomain example.org --swap 32"
        )
    );
    assert!(
        tag.ends_with(" --storage local-btrfs --rootfs 8 --unprivileged 1"),
        "{tag}"
    );
    assert_eq!(proxmox.host.state("lxc", "100"), "converged");
    assert_eq!(proxmox.status("100", "container"), "running");
    assert_eq!(proxmox.status("100", "ignored"), "");
    assert_eq!(proxmox.status("100", "firstboot"), "done");
    assert_eq!(proxmox.host.link("vi100").unwrap()["master"], "vmbr0");
    proxmox.inside("100", "ping -c 1 -W 5 192.168.1.1");
    assert_eq!(
        proxmox.inside("100", "cat /root/first; hostname; cat /etc/resolv.conf"),
        "0\nweb-1\nsearch example.org\nnameserver 192.168.1.1\nnameserver fd00::1"
    );
    let user = proxmox.host.sh("cat /proc/$(lxc-info -n 100 -pH)/uid_map");
    assert!(user.split_whitespace().eq(["0", "100000", "65536"]), "{user}");

    // What runs takes some at once and some when it starts again; what Proxmox cannot be without gets its default.
    proxmox.host.transact(&[change(
        "100",
        &["nameserver"],
        &[("memory", "96"), ("hostname", "web-2"), ("cores", "3")],
    )]);
    proxmox.host.converged();
    assert_eq!(
        proxmox.calls("set 100"),
        ["set 100 --cores 3 --hostname web-2 --memory 96 --delete nameserver"]
    );
    assert_eq!(proxmox.status("100", "restart"), "hostname,nameserver");
    proxmox
        .host
        .transact(&[change("100", &["memory", "swap"], &[("features", "")])]);
    proxmox.host.converged();
    assert_eq!(
        proxmox.calls("set 100")[1..],
        ["set 100 --memory 512 --delete features,swap"]
    );
    for running in [false, true] {
        proxmox.host.transact(&[set_running("100", running)]);
        proxmox.host.converged();
    }
    assert_eq!(proxmox.calls("shutdown"), ["shutdown 100 --timeout 10 --forceStop 1"]);
    assert_eq!(proxmox.status("100", "restart"), "");
    assert_eq!(proxmox.inside("100", "hostname"), "web-2");
    assert!(!proxmox.configuration("100").contains("pending"));

    // By hand, and by itself: followed as without pct.
    proxmox.pct("stop 100");
    proxmox.host.until("it is started again", |host| {
        host.sh("lxc-info -n 100 -s -H || true").trim() == "RUNNING" && host.link("vi100").is_some()
    });
    proxmox.host.until_state("lxc", "100", "converged");
    proxmox.inside("100", "ping -c 1 -W 5 192.168.1.1");

    let (_, details) = proxmox.host.refused(&[delete("lxc", "100")]);
    assert!(details.contains("properties:protection"), "{details}");
    proxmox.host.transact(&[change("100", &[], &[("protection", "false")])]);
    proxmox.destroyed(&["100"]);
    assert!(proxmox.host.link("vi100").is_none());
    assert_eq!(proxmox.pct("list"), "");
}

#[test]
fn what_pct_refuses_is_the_rows_error_in_its_words_and_nothing_is_left() {
    let mut proxmox = Proxmox::start();
    let (_, details) = proxmox.host.refused(&[templated("101", &[("firewall", "true")], true)]);
    assert!(
        details.contains("\"101\"")
            && details.contains("properties:firewall")
            && details.contains("networks.isolation"),
        "{details}"
    );
    let cases: [Case<'_>; 6] = [
        (
            "101",
            &[("template", TEMPLATE), ("memory", "4")],
            "memory: value must have a minimum value of 16",
        ),
        (
            "102",
            &[("template", "busybox")],
            "template busybox: Proxmox's pct takes STORAGE:vztmpl/FILE",
        ),
        (
            "103",
            &[("template", TEMPLATE), ("storage", "tank")],
            "storage 'tank' does not exist",
        ),
        (
            "104",
            &[("template", "local:vztmpl/none.tar")],
            "unable to create CT 104",
        ),
        (
            "web",
            &[("template", TEMPLATE)],
            "Proxmox has numbers for containers, and \"web\" is none",
        ),
        ("7", &[("template", TEMPLATE)], "value does not look like a valid VM ID"),
    ];
    let operations: Vec<Value> = cases.iter().map(|(id, pairs, _)| container(id, pairs, true)).collect();
    proxmox.host.transact(&operations);
    for (id, _, words) in &cases {
        proxmox.fails_with(id, words);
        let error = proxmox.host.error("lxc", id);
        assert!(error.starts_with(&format!("create container {id}")), "{error}");
        assert!(
            !error.contains("pct ended") || error.contains("pct ended with status 255"),
            "{error}"
        );
    }
    proxmox.host.until("each is tried again", |host| {
        cases.iter().all(|(id, ..)| {
            let attempts = host.row("lxc", id)["status"]["attempts"]
                .as_str()
                .map(str::parse::<u32>);
            attempts.is_some_and(|attempts| attempts.is_ok_and(|attempts| attempts >= 2))
        })
    });
    // With another value it works.
    proxmox.host.transact(&[change("101", &[], &[("memory", "16")])]);
    proxmox.host.until_state("lxc", "101", "converged");
    let ids: Vec<&str> = cases.iter().map(|(id, ..)| *id).collect();
    proxmox.destroyed(&ids);
}

#[test]
fn a_lock_a_start_that_fails_and_a_pct_that_hangs_are_told_and_overcome() {
    let mut proxmox = Proxmox::start();
    proxmox.mode("fail-start");
    proxmox.host.transact(&[templated("110", &[("memory", "64")], true)]);
    proxmox.fails_with("110", "start container 110: pct ended with status 255: ");
    proxmox.fails_with("110", "command 'systemctl start pve-container@110' failed: exit code 1");
    proxmox.mode("");
    proxmox.host.until_state("lxc", "110", "converged");

    proxmox.host.sh("sed -i '1i lock: backup' /etc/pve/lxc/110.conf");
    proxmox.host.transact(&[change("110", &[], &[("memory", "80")])]);
    proxmox.fails_with("110", "pct ended with status 255: CT is locked (backup)");
    proxmox.pct("unlock 110");
    proxmox.host.until_state("lxc", "110", "converged");
    assert!(proxmox.configuration("110").contains("memory: 80\n"));

    proxmox.mode("hang-set");
    proxmox.host.transact(&[change("110", &[], &[("memory", "96")])]);
    let hangs = proxmox.directory.join("hangs");
    proxmox.host.until("it hangs", |_| hangs.exists());
    // Others go on meanwhile.
    proxmox.host.transact(&[templated("111", &[], false)]);
    proxmox.host.until_state("lxc", "111", "converged");
    proxmox.host.until("it is killed", |host| {
        host.error("lxc", "110")
            .contains("pct did not end within 30 s and was killed")
    });
    proxmox.mode("");
    proxmox.host.until_state("lxc", "110", "converged");
    assert!(proxmox.configuration("110").contains("memory: 96\n"));
    proxmox.destroyed(&["110", "111"]);
}

#[test]
fn a_container_of_somebody_elses_is_never_destroyed() {
    let mut proxmox = Proxmox::start();
    proxmox.pct(&format!("create 120 {TEMPLATE} --hostname mine"));
    proxmox.host.transact(&[templated("120", &[], true)]);
    proxmox.host.converged();
    assert_eq!(proxmox.status("120", "adopted"), "true");
    assert_eq!(proxmox.pct("status 120"), "status: running");
    proxmox.host.transact(&[delete("lxc", "120")]);
    proxmox.host.converged();
    assert_eq!(proxmox.pct("status 120"), "status: running");
    assert!(proxmox.calls("destroy").is_empty());

    // One that comes into being between the look and the making.
    proxmox.mode("race");
    proxmox.host.transact(&[templated("121", &[], false)]);
    proxmox.host.until_state("lxc", "121", "converged");
    proxmox.mode("");
    assert_eq!(proxmox.calls("create 121").len(), 1);
    assert!(proxmox.configuration("121").contains("hostname: somebody"));
    assert_eq!(proxmox.status("121", "adopted"), "true");
    proxmox.host.transact(&[delete("lxc", "121")]);
    proxmox.host.converged();
    assert!(proxmox.configuration("121").contains("hostname: somebody"));
    assert!(proxmox.calls("destroy").is_empty() && proxmox.calls("unlock").is_empty());

    // Protection that somebody put on one of ours holds, and is told.
    proxmox.host.transact(&[templated("122", &[], false)]);
    proxmox.host.converged();
    proxmox.pct("set 122 --protection 1");
    let before = proxmox.host.last_event();
    proxmox.host.transact(&[delete("lxc", "122")]);
    proxmox.host.until("the refusal is told", |host| {
        format!("{:?}", host.events(before)).contains("can't remove CT 122 - protection mode enabled")
    });
    proxmox.pct("set 122 --protection 0");
    let conf = "test ! -e /etc/pve/lxc/122.conf";
    proxmox.host.until("it is destroyed", |host| host.succeeds(conf));
    proxmox.host.converged();
}

#[test]
fn what_a_crash_left_half_made_is_taken_away_when_nobody_works_on_it_any_more() {
    let mut proxmox = Proxmox::start();
    let creating = proxmox.directory.join("creating");
    for is_killed in [false, true] {
        let id = if is_killed { "131" } else { "130" };
        proxmox.mode("slow-create");
        proxmox.host.transact(&[templated(id, &[], true)]);
        proxmox.host.until("it is being made", |_| creating.exists());
        assert_eq!(proxmox.configuration(id), "lock: create\n");
        proxmox.host.kill();
        let pid = fs::read_to_string(&creating).unwrap();
        if is_killed {
            proxmox.host.sh(&format!("kill -9 {pid}"));
            proxmox.mode("");
        }
        proxmox.run();
        if !is_killed {
            proxmox.fails_with(id, "a pct is still at work on making container 130");
            assert_eq!(proxmox.configuration(id), "lock: create\n");
            proxmox.mode("");
        }
        fs::remove_file(&creating).unwrap();
        proxmox.host.until_state("lxc", id, "converged");
        assert_eq!(proxmox.pct(&format!("status {id}")), "status: running");
        assert_eq!(proxmox.status(id, "adopted"), "");
        assert_eq!(proxmox.calls(&format!("create {id}")).len(), 2);
        assert_eq!(!proxmox.calls(&format!("unlock {id}")).is_empty(), is_killed);
    }
    proxmox.destroyed(&["130", "131"]);
}

#[test]
fn a_golden_image_is_cloned_and_what_it_does_not_have_is_set() {
    let mut proxmox = Proxmox::start();
    proxmox
        .host
        .transact(&[templated("900", &[("unprivileged", "true"), ("memory", "64")], false)]);
    proxmox.host.converged();
    let golden = ("golden_image", "900");
    let more = [
        golden,
        ("rootfs_size", "8"),
        ("storage", "local-btrfs"),
        ("hostname", "copy"),
        ("memory", "32"),
    ];
    proxmox.host.transact(&[
        container("140", &more, true),
        container("141", &[golden, ("unprivileged", "false")], true),
        container("142", &[("golden_image", "base")], true),
    ]);
    proxmox.host.until_state("lxc", "140", "converged");
    let calls = proxmox.calls("140");
    assert_eq!(calls[0], "clone 900 140 --full 1 --storage local-btrfs");
    assert!(calls[1].starts_with("set 140 --tags nonnet-"), "{calls:?}");
    assert_eq!(
        calls[2..],
        [
            "resize 140 rootfs 8G",
            "set 140 --hostname copy --memory 32",
            "start 140"
        ]
    );
    assert_eq!(proxmox.inside("140", "hostname"), "copy");
    let configuration = proxmox.configuration("140");
    assert!(
        configuration.contains("rootfs: local-btrfs:140/vm-140-disk-0.raw,size=8G"),
        "{configuration}"
    );
    proxmox.fails_with("141", "unprivileged false: golden_image 900 is not");
    proxmox.fails_with("142", "golden_image base: pct copies containers by their number");
    proxmox.destroyed(&["140", "141", "142", "900"]);
}
