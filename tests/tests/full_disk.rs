//! A disk that fills up under a running server: no commit is half done, no answer is a lie, and it goes on by itself once there is room.

use std::fs;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nonnet_tests::case;
use nonnet_tests::server::{Kind, Server};
use serde_json::{Value, json};

/// Bytes of the file that takes the room away.
const BALLAST_BYTES: usize = 8 * 1024 * 1024;

/// A server on a file system of a few megabytes that only the calling thread and its children see.
fn start_on_small_disk() -> Server {
    assert!(
        unshare(CloneFlags::CLONE_NEWNS).is_ok(),
        "making a file system needs root"
    );
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let mut server = Server::prepare(Kind::Nonnetd, &case::schema("things").unwrap()).unwrap();
    let schema = fs::read(server.schema_path()).unwrap();
    let (tmpfs, size) = (Some("tmpfs"), Some("size=10m"));
    mount(tmpfs, server.directory(), tmpfs, MsFlags::empty(), size).unwrap();
    fs::write(server.schema_path(), schema).unwrap();
    server.run().unwrap();
    server
}

fn insert(name: &str) -> Value {
    json!({"op": "insert", "table": "t", "row": {"name": name}})
}

#[test]
fn a_full_disk_refuses_commits_and_room_brings_them_back() {
    let thread = std::thread::spawn(|| {
        let mut server = start_on_small_disk();
        let (mut writer, mut watcher) = (server.connect().unwrap(), server.connect().unwrap());
        let request = json!(["things", "m", {"t": {"columns": ["name"]}}]);
        watcher.call("monitor", &request).unwrap();
        writer.transact("things", &[insert("before")]).unwrap();

        let ballast = server.directory().join("ballast");
        // Writes what fits; that the rest does not is the point.
        let _ = fs::write(&ballast, vec![0; BALLAST_BYTES * 2]);
        let mut refused = 0;
        let mut acknowledged = vec!["before".to_owned()];
        for n in 0..200 {
            let name = format!("row {n} {}", "x".repeat(4000));
            let reply = writer.call("transact", &json!(["things", insert(&name)])).unwrap();
            if reply["error"].is_null() {
                acknowledged.push(name);
            } else {
                assert_eq!(reply["error"]["error"], "I/O error", "{reply}");
                refused += 1;
            }
        }
        assert!(refused > 0, "the disk was never full");
        let select = json!({"op": "select", "table": "t", "where": [], "columns": ["name"], "sort": ["name"]});
        let names = |results: &[Value]| -> Vec<String> {
            let rows = results[0]["rows"].as_array().unwrap();
            rows.iter()
                .map(|row| row["name"].as_str().unwrap().to_owned())
                .collect()
        };
        acknowledged.sort();
        assert_eq!(
            names(&writer.transact("things", std::slice::from_ref(&select)).unwrap()),
            acknowledged
        );

        fs::remove_file(&ballast).unwrap();
        writer.transact("things", &[insert("after")]).unwrap();
        acknowledged.push("after".to_owned());
        acknowledged.sort();
        // The watcher has heard of every row that was acknowledged, and of no other.
        watcher.call("echo", &json!([])).unwrap();
        assert_eq!(
            names(&watcher.transact("things", std::slice::from_ref(&select)).unwrap()),
            acknowledged
        );
        server.kill().unwrap();
        server.run().unwrap();
        assert_eq!(
            names(&server.connect().unwrap().transact("things", &[select]).unwrap()),
            acknowledged
        );
        let directory = server.directory().to_owned();
        server.kill().unwrap();
        umount2(&directory, MntFlags::MNT_DETACH).unwrap();
    });
    thread.join().unwrap();
}
