//! LXC containers that rows make, start, stop, change and destroy: the real `lxc-*` programs with the busybox template.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nonnet_tests::host::{Host, bridge_and_network, delete, insert, update};
use serde_json::{Value, json};

/// A host whose containers are in a directory of its own.
fn host() -> Host {
    let mut host = Host::prepare(&[]);
    let path = host.netns.lxc_path();
    fs::create_dir_all(&path).unwrap();
    host.arguments(&[&format!("--lxc-path={path}")]);
    host.run();
    host
}

fn properties(pairs: &[(&str, &str)]) -> Value {
    let pairs: Vec<Value> = pairs.iter().map(|(key, value)| json!([key, value])).collect();
    json!(["map", pairs])
}

/// The operation that inserts a container of the busybox template.
fn busybox(id: &str, more: &[(&str, &str)], running: bool) -> Value {
    let mut pairs = vec![("template", "busybox")];
    pairs.extend(more);
    insert(
        "lxc",
        &format!("lxc{id}"),
        &json!({"id": id, "running": running, "properties": properties(&pairs)}),
    )
}

/// As [`busybox`], attached to `vmbr0` with an address, and running.
fn attached(id: &str, address: &str, more: &[(&str, &str)]) -> Value {
    let mut pairs = vec![("network_type", "bridge"), ("ipv4", address)];
    pairs.extend(more);
    let mut operation = busybox(id, &pairs, true);
    operation["row"]["bridge"] = json!("vmbr0");
    operation
}

fn set_running(id: &str, running: bool) -> Value {
    update("lxc", id, &json!({"running": running}))
}

/// The operation that gives some properties of a container other values.
fn set_properties(id: &str, pairs: &[(&str, &str)]) -> Value {
    let keys: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
    json!({"op": "mutate", "table": "lxc", "where": [["id", "==", id]], "mutations": [
        ["properties", "delete", ["set", keys]], ["properties", "insert", properties(pairs)]]})
}

fn status(host: &mut Host, id: &str, key: &str) -> String {
    host.row("lxc", id)["status"][key]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// What `lxc-info` says of a container: `RUNNING`, `STOPPED`, or nothing.
fn info(host: &Host, id: &str) -> String {
    let (_, text) = host
        .netns
        .try_sh(&format!("lxc-info -P {} -n {id} -s", host.netns.lxc_path()))
        .unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix("State:"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The process id of a container's init, as seen inside.
fn init(host: &Host, id: &str) -> String {
    host.sh(&format!("lxc-info -P {} -n {id} -pH", host.netns.lxc_path()))
        .trim()
        .to_owned()
}

fn directory(host: &Host, id: &str) -> PathBuf {
    PathBuf::from(host.netns.lxc_path()).join(id)
}

fn destroyed(host: &mut Host, ids: &[&str]) {
    host.transact(&ids.iter().map(|id| delete("lxc", id)).collect::<Vec<_>>());
    host.converged();
    for id in ids {
        assert!(!directory(host, id).exists(), "{id} is left");
        assert!(host.link(&format!("vi{id}")).is_none());
    }
    assert_eq!(host.sh(&format!("lxc-ls -P {}", host.netns.lxc_path())).trim(), "");
}

#[test]
fn a_row_makes_a_container_starts_it_stops_it_and_destroys_it() {
    let mut host = host();
    let mut operations = bridge_and_network("vmbr0", "lan", &[("192.168.1.0/24", "192.168.1.1")]);
    operations.push(attached(
        "901",
        "192.168.1.101/24",
        &[("hostname", "web-1"), ("memory", "64")],
    ));
    host.transact(&operations);
    host.converged();
    assert_eq!(host.state("lxc", "901"), "converged");
    assert_eq!(
        (
            info(&host, "901").as_str(),
            status(&mut host, "901", "container").as_str()
        ),
        ("RUNNING", "running")
    );
    assert_eq!(host.netns.in_container("901", "hostname").unwrap().trim(), "web-1");
    host.netns.in_container("901", "ping -c 1 -W 5 192.168.1.1").unwrap();
    assert_eq!(host.link("vi901").unwrap()["master"], "vmbr0");

    host.transact(&[set_running("901", false)]);
    host.converged();
    assert_eq!(
        (
            info(&host, "901").as_str(),
            status(&mut host, "901", "container").as_str()
        ),
        ("STOPPED", "stopped")
    );
    assert!(host.link("vi901").is_none());
    // Somebody starts what is not to run.
    host.netns.start_container("901").unwrap();
    host.until("it is stopped again", |host| info(host, "901") == "STOPPED");

    host.transact(&[set_running("901", true)]);
    host.converged();
    host.netns.in_container("901", "ping -c 1 -W 5 192.168.1.1").unwrap();
    destroyed(&mut host, &["901"]);
}

#[test]
fn a_container_whose_first_process_dies_is_started_again_unless_its_row_says_no() {
    let mut host = host();
    let mut operations = bridge_and_network("vmbr0", "lan", &[("192.168.1.0/24", "192.168.1.1")]);
    operations.push(attached("902", "192.168.1.102/24", &[]));
    operations.push(busybox("903", &[("restart", "no")], true));
    host.transact(&operations);
    host.converged();
    let before = host.last_event();
    for id in ["902", "903"] {
        host.sh(&format!("kill -9 {}", init(&host, id)));
    }
    host.until("its end is told", |host| status(host, "903", "container") == "stopped");
    let error = host.error("lxc", "903");
    assert_eq!(
        error,
        "container 903 stopped: its first process was ended by SIGKILL; properties:restart is \"no\""
    );
    host.until_event(before, "drift", "902");
    host.until("it is attached again", |host| {
        host.netns.in_container("902", "ping -c 1 -W 1 192.168.1.1").is_ok()
    });
    host.until_state("lxc", "902", "converged");
    assert_eq!(info(&host, "903"), "STOPPED");

    // By hand, within the rest: followed, and nothing else is done.
    host.netns.stop_container("902").unwrap();
    host.netns.start_container("902").unwrap();
    host.until("it is attached once more", |host| {
        host.netns.in_container("902", "ping -c 1 -W 1 192.168.1.1").is_ok()
    });
    host.until_state("lxc", "902", "converged");
    host.transact(&[set_running("903", false)]);
    host.until_state("lxc", "903", "converged");
    host.transact(&[set_running("903", true)]);
    host.converged();
    destroyed(&mut host, &["902", "903"]);
}

#[test]
fn changes_are_taken_at_once_or_at_the_next_start_or_refused() {
    let mut host = host();
    let mut operations = bridge_and_network("vmbr0", "lan", &[("192.168.1.0/24", "192.168.1.1")]);
    operations.push(insert("bridges", "other", &json!({"name": "vmbr1"})));
    operations.push(attached(
        "904",
        "192.168.1.104/24",
        &[("memory", "64"), ("hostname", "old")],
    ));
    host.transact(&operations);
    host.converged();
    let first = init(&host, "904");
    let limit = |host: &Host| {
        let path = host.netns.lxc_path();
        let of = |file: &str| {
            host.netns
                .try_sh(&format!("lxc-cgroup -P {path} -n 904 {file} 2>/dev/null"))
                .unwrap()
        };
        let (ok, text) = of("memory.limit_in_bytes");
        if ok { text } else { of("memory.max").1 }
    };
    assert_eq!(limit(&host).trim(), (64 << 20).to_string());

    host.transact(&[set_properties("904", &[("memory", "96"), ("hostname", "new")])]);
    host.converged();
    assert_eq!(limit(&host).trim(), (96 << 20).to_string());
    assert_eq!(status(&mut host, "904", "restart"), "hostname");
    assert_eq!(
        (
            init(&host, "904"),
            host.netns.in_container("904", "hostname").unwrap().trim()
        ),
        (first, "old")
    );

    // Another bridge moves the port; the address stays, and the container does not notice.
    host.sh("ip addr add 192.168.1.2/24 dev vmbr1 2>/dev/null || true");
    let index = |host: &Host| {
        host.netns
            .in_container("904", "cat /sys/class/net/eth0/ifindex")
            .unwrap()
    };
    let before = index(&host);
    host.transact(&[update("lxc", "904", &json!({"bridge": "vmbr1"}))]);
    host.until("the port has moved", |host| {
        host.link("vi904").is_some_and(|link| link["master"] == "vmbr1")
    });
    host.converged();
    assert_eq!(index(&host), before);
    host.transact(&[update("lxc", "904", &json!({"bridge": "vmbr0"}))]);
    host.until("it is back", |host| {
        host.netns.in_container("904", "ping -c 1 -W 1 192.168.1.1").is_ok()
    });

    for running in [false, true] {
        host.transact(&[set_running("904", running)]);
        host.converged();
    }
    assert_eq!(status(&mut host, "904", "restart"), "");
    assert_eq!(host.netns.in_container("904", "hostname").unwrap().trim(), "new");

    for (property, value) in [
        ("template", "download:debian/bookworm/amd64"),
        ("unprivileged", "true"),
        ("storage", "zfs"),
    ] {
        let (_, details) = host.refused(&[set_properties("904", &[(property, value)])]);
        assert!(
            details.contains("\"904\"") && details.contains(&format!("properties:{property}")),
            "{details}"
        );
    }
    for (property, value) in [
        ("memory", "lots"),
        ("cores", "0"),
        ("hostname", "-x"),
        ("restart", "maybe"),
        ("swap", "-1"),
    ] {
        let (_, details) = host.refused(&[set_properties("904", &[(property, value)])]);
        assert!(details.contains(&format!("properties:{property}")), "{details}");
    }
    destroyed(&mut host, &["904"]);
}

#[test]
fn a_protected_container_is_not_deleted() {
    let mut host = host();
    host.transact(&[busybox("905", &[("protection", "true")], false)]);
    host.converged();
    let (error, details) = host.refused(&[delete("lxc", "905")]);
    assert_eq!(error, "constraint violation");
    assert!(
        details.contains("\"905\"") && details.contains("properties:protection"),
        "{details}"
    );
    assert!(directory(&host, "905").exists());
    host.transact(&[set_properties("905", &[("protection", "false")])]);
    destroyed(&mut host, &["905"]);
}

#[test]
fn five_in_one_transaction_of_which_one_fails_in_lxcs_words() {
    let mut host = host();
    let mut operations: Vec<Value> = ["910", "911", "912", "913"].map(|id| busybox(id, &[], true)).to_vec();
    let row = json!({"id": "914", "running": true, "properties": properties(&[("template", "no-such-template")])});
    operations.insert(2, insert("lxc", "broken", &row));
    host.transact(&operations);
    for id in ["910", "911", "912", "913"] {
        host.until_state("lxc", id, "converged");
        assert_eq!(info(&host, id), "RUNNING");
    }
    host.until_state("lxc", "914", "failed");
    let error = host.error("lxc", "914");
    assert!(
        error.starts_with("create container 914") && error.contains("no-such-template"),
        "{error}"
    );
    assert!(error.contains("lxc-create ended with status 1"), "{error}");
    assert!(!directory(&host, "914").exists(), "what was half made is left");
    host.until("it is tried again", |host| {
        status(host, "914", "attempts").parse::<u32>().is_ok_and(|n| n >= 2)
    });
    destroyed(&mut host, &["910", "911", "912", "913", "914"]);
}

#[test]
fn a_container_of_somebody_elses_is_left_alone_and_taken_over_only_on_demand() {
    let mut host = host();
    for id in ["920", "921"] {
        host.netns.create_container(id).unwrap();
        host.netns.start_container(id).unwrap();
    }
    let row = json!({"id": "921", "running": true, "properties": properties(&[("managed", "true")])});
    host.transact(&[insert("lxc", "a", &json!({"id": "920"})), insert("lxc", "b", &row)]);
    host.converged();
    assert_eq!(status(&mut host, "921", "adopted"), "true");
    // A row that only attaches does not stop what it did not start.
    assert_eq!(
        (info(&host, "920"), info(&host, "921")),
        ("RUNNING".to_owned(), "RUNNING".to_owned())
    );
    assert!(!directory(&host, "920").join("nonnet").exists());
    host.transact(&[set_running("921", false)]);
    host.until("it is stopped", |host| info(host, "921") == "STOPPED");
    host.transact(&[delete("lxc", "920"), delete("lxc", "921")]);
    host.converged();
    assert_eq!(
        (info(&host, "920"), info(&host, "921")),
        ("RUNNING".to_owned(), "STOPPED".to_owned())
    );
    assert!(!directory(&host, "921").join("nonnet").exists());

    let row = json!({"id": "922", "running": true, "properties": properties(&[("managed", "true")])});
    host.transact(&[insert("lxc", "c", &row)]);
    host.until_state("lxc", "922", "waiting");
    assert!(host.error("lxc", "922").starts_with("container 922 does not exist"));
}

#[test]
fn what_a_crash_left_half_made_is_taken_away_and_made_again() {
    let mut host = host();
    host.transact(&[busybox("930", &[], false), busybox("931", &[], true)]);
    host.converged();
    host.kill();
    // As a crash in the middle of making it would leave it; and one that nobody wants any more.
    let marker = fs::read_to_string(directory(&host, "930").join("nonnet")).unwrap();
    let half = marker.replace("stage created", "stage creating");
    assert_ne!(half, marker);
    fs::write(directory(&host, "930").join("nonnet"), &half).unwrap();
    fs::remove_dir_all(directory(&host, "930").join("rootfs")).unwrap();
    let stray = directory(&host, "932");
    fs::create_dir_all(&stray).unwrap();
    fs::write(stray.join("nonnet"), &half).unwrap();
    let before = init(&host, "931");
    host.run();
    host.until("it is whole", |host| directory(host, "930").join("rootfs/bin").exists());
    host.converged();
    host.until("the stray is gone", |_| !stray.exists());
    assert_eq!(
        init(&host, "931"),
        before,
        "a restart of the server is none of its containers"
    );
    destroyed(&mut host, &["930", "931"]);
}

#[test]
fn a_program_runs_once_after_the_first_start_and_a_golden_image_is_copied() {
    let mut host = host();
    let script = host.netns.directory().join("first.sh");
    fs::write(&script, "echo once >> /root/boots; echo said\n").unwrap();
    host.transact(&[busybox("940", &[("firstboot_script", script.to_str().unwrap())], true)]);
    host.converged();
    assert_eq!(status(&mut host, "940", "firstboot"), "done");
    for running in [false, true] {
        host.transact(&[set_running("940", running)]);
        host.converged();
    }
    assert_eq!(
        host.netns.in_container("940", "cat /root/boots").unwrap().trim(),
        "once"
    );
    assert_eq!(
        fs::read_to_string(directory(&host, "940").join("firstboot.log")).unwrap(),
        "said\n"
    );

    host.transact(&[set_running("940", false)]);
    host.converged();
    let copy = json!({"id": "941", "running": true, "properties": properties(&[("golden_image", "940"), ("hostname", "copy")])});
    host.transact(&[insert("lxc", "copy", &copy)]);
    host.converged();
    assert_eq!(
        host.netns.in_container("941", "cat /root/boots; hostname").unwrap(),
        "once\ncopy\n"
    );
    destroyed(&mut host, &["940", "941"]);
}

#[test]
fn a_container_goes_with_its_processes_when_it_does_not_stop_by_itself() {
    let mut host = host();
    host.transact(&[busybox("950", &[], true)]);
    host.converged();
    // Its init is stopped, and cannot answer.
    let pid = host.netns.pid();
    let inside: Vec<String> = init(&host, "950").split_whitespace().map(str::to_owned).collect();
    host.sh(&format!("kill -STOP {}", inside.join(" ")));
    assert!(kill(Pid::from_raw(i32::try_from(pid).unwrap()), None::<Signal>).is_ok());
    destroyed(&mut host, &["950"]);
}

/// A host whose root has numbers for unprivileged containers, or none; its containers are in a directory that those can reach.
fn host_with_numbers(numbers: &str) -> Host {
    let mut host = Host::prepare(&[]);
    let path = host.netns.lxc_path();
    fs::create_dir_all(&path).unwrap();
    // What the container's root can reach must be open for everybody, and that directory is not.
    let own = host.netns.directory().join("etc");
    fs::set_permissions(host.netns.directory(), fs::Permissions::from_mode(0o711)).unwrap();
    host.sh(&format!(
        "mkdir {own} && cp -a /etc/. {own} && mount --bind {own} /etc && printf '{numbers}' | tee /etc/subuid > /etc/subgid",
        own = own.display()
    ));
    host.arguments(&[&format!("--lxc-path={path}")]);
    host.run();
    host
}

/// What `/proc` says of the user of a container's first process, as the host sees it.
fn host_user(host: &Host, id: &str) -> String {
    let text = host.sh(&format!("cat /proc/{}/status", init(host, id)));
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

const UNPRIVILEGED: (&str, &str) = ("unprivileged", "true");

#[test]
fn the_root_of_an_unprivileged_container_is_nobody_on_the_host() {
    let mut host = host_with_numbers("root:100000:65536\\n");
    let mut operations = bridge_and_network("vmbr0", "lan", &[("192.168.1.0/24", "192.168.1.1")]);
    let more = [UNPRIVILEGED, ("nameserver", "192.168.1.1"), ("memory", "64")];
    operations.push(attached("960", "192.168.1.160/24", &more));
    host.transact(&operations);
    host.converged();
    assert_eq!(host_user(&host, "960"), "100000");
    assert_eq!(host.netns.in_container("960", "id -u").unwrap().trim(), "0");
    host.netns.in_container("960", "ping -c 1 -W 5 192.168.1.1").unwrap();
    // Its files are its root's, those that come from outside too; the host's are not.
    let written = "cat /etc/resolv.conf && echo >> /etc/resolv.conf && touch /root/own";
    let text = host.netns.in_container("960", written).unwrap();
    assert_eq!(text, "nameserver 192.168.1.1\n");
    let owner = fs::metadata(directory(&host, "960").join("rootfs/root/own"))
        .unwrap()
        .uid();
    assert_eq!(owner, 100_000);
    assert!(host.netns.in_container("960", "mknod /root/disk b 8 0").is_err());

    // A copy has the same users, said or not; one with others is refused in words.
    host.transact(&[set_running("960", false)]);
    host.converged();
    let copy = |id: &str, more: &[(&str, &str)]| {
        let pairs = [&[("golden_image", "960")], more].concat();
        let row = json!({"id": id, "running": true, "properties": properties(&pairs)});
        insert("lxc", &format!("copy{id}"), &row)
    };
    let operations = [
        copy("961", &[]),
        copy("962", &[UNPRIVILEGED]),
        copy("963", &[("unprivileged", "false")]),
    ];
    host.transact(&operations);
    for id in ["961", "962"] {
        host.until_state("lxc", id, "converged");
        assert_eq!(host_user(&host, id), "100000");
        host.netns.in_container(id, "test -O /root/own").unwrap();
    }
    host.until_state("lxc", "963", "failed");
    let error = host.error("lxc", "963");
    assert!(
        error.contains("golden_image 960 is unprivileged, and so is every copy of it"),
        "{error}"
    );
    destroyed(&mut host, &["960", "961", "962", "963"]);
}

#[test]
fn an_archive_or_a_directory_is_unpacked_for_the_users_of_its_container() {
    let mut host = host_with_numbers("root:200000:65536\\n");
    host.transact(&[busybox("970", &[], false)]);
    host.converged();
    let (rootfs, archive) = (
        directory(&host, "970").join("rootfs"),
        host.netns.directory().join("rootfs.tar"),
    );
    host.sh(&format!(
        "cd {} && mkdir home/user && chown 1000:1000 home/user && cp bin/busybox bin/su2 && chmod 4755 bin/su2 && tar -cf {} .",
        rootfs.display(),
        archive.display()
    ));
    let (archive, rootfs) = (archive.to_str().unwrap(), rootfs.to_str().unwrap());
    let row = |id: &str, pairs: &[(&str, &str)]| {
        let row = json!({"id": id, "running": true, "properties": properties(pairs)});
        insert("lxc", &format!("lxc{id}"), &row)
    };
    let sized = [("template", archive), ("rootfs_size", "1")];
    let stored = [("template", archive), ("storage", "local-btrfs")];
    host.transact(&[
        row("971", &[("template", archive)]),
        row("972", &[("template", archive), UNPRIVILEGED]),
        row("973", &[("golden_image", rootfs), UNPRIVILEGED]),
        row("974", &sized),
        row("975", &stored),
        row("976", &[("template", "/nowhere/rootfs.tar")]),
    ]);
    for (id, user) in [("971", "0"), ("972", "200000"), ("973", "200000")] {
        host.until_state("lxc", id, "converged");
        assert_eq!(host_user(&host, id), user);
        let seen = "stat -c '%u %a' /bin/su2 /home/user /";
        let seen = host.netns.in_container(id, seen).unwrap();
        assert_eq!(seen.lines().collect::<Vec<_>>(), ["0 4755", "1000 755", "0 755"]);
        // Nobody else on the host gets at a program in there that runs as root.
        let mode = fs::metadata(directory(&host, id)).unwrap().mode();
        assert_eq!(mode & 0o7, 0, "{id}: {mode:o}");
    }
    for (id, words) in [
        ("974", "rootfs_size 1: a directory has no size"),
        ("975", "storage local-btrfs: without Proxmox's pct"),
        ("976", "/nowhere/rootfs.tar: Cannot open: No such file or directory"),
    ] {
        host.until_state("lxc", id, "failed");
        let error = host.error("lxc", id);
        assert!(error.contains(words), "{error}");
        assert!(!directory(&host, id).exists(), "what was half made is left");
    }
    destroyed(&mut host, &["970", "971", "972", "973", "974", "975", "976"]);
}

#[test]
fn what_stands_against_an_unprivileged_container_is_its_rows_error() {
    let mut host = host_with_numbers("nobody:1:1\\n");
    host.transact(&[busybox("980", &[UNPRIVILEGED], true)]);
    host.until_state("lxc", "980", "failed");
    let error = host.error("lxc", "980");
    assert!(
        error.contains("/etc/subuid has no numbers for root; it needs a line as root:100000:65536"),
        "{error}"
    );
    // They come, but its root cannot reach its files.
    let closed = host.netns.directory().to_owned();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    host.sh("echo root:100000:65536 | tee /etc/subuid > /etc/subgid");
    host.until("it is made and does not start", |host| {
        let error = host.error("lxc", "980");
        error.starts_with("start container 980") && error.contains(&format!("Could not access {}", closed.display()))
    });
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).unwrap();
    host.until_state("lxc", "980", "converged");
    assert_eq!(host_user(&host, "980"), "100000");
    destroyed(&mut host, &["980"]);
}

#[test]
fn what_cannot_be_downloaded_leaves_nothing_and_is_tried_again() {
    let mut host = host();
    let template = [("template", "download:debian/bookworm/amd64")];
    let row = json!({"id": "990", "running": true, "properties": properties(&template)});
    host.transact(&[insert("lxc", "a", &row)]);
    host.until("it is tried again", |host| {
        status(host, "990", "attempts").parse::<u32>().is_ok_and(|n| n >= 2)
    });
    host.until_state("lxc", "990", "failed");
    let error = host.error("lxc", "990");
    assert!(
        error.starts_with(
            "create container 990 template download:debian/bookworm/amd64: lxc-create ended with status 1: "
        ) && error.contains("Failed to download https://"),
        "{error}"
    );
    assert!(!directory(&host, "990").exists(), "what was half made is left");
    destroyed(&mut host, &["990"]);
}

#[test]
fn what_lxc_has_no_setting_for_is_the_rows_error() {
    let mut host = host();
    host.transact(&[busybox("991", &[("features", "nesting=1,keyctl=1")], true)]);
    host.until_state("lxc", "991", "failed");
    let error = host.error("lxc", "991");
    assert!(
        error.contains("features keyctl=1: without Proxmox's pct, nesting=1 is the only feature"),
        "{error}"
    );
    host.transact(&[set_properties("991", &[("features", "nesting=1")])]);
    host.until_state("lxc", "991", "converged");
    destroyed(&mut host, &["991"]);
}
