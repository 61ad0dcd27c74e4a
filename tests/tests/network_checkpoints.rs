//! Checkpoints: what is not confirmed in time, or fails, is taken back in rows and kernel, over restarts too; and the log says so.

use std::collections::BTreeMap;

use nonnet_tests::host::{Host, bridge_and_network, delete, port, update};
use serde_json::{Value, json};

/// Tables whose rows a rollback brings back.
const TABLES: &[&str] = &["bridges", "networks", "ports", "leases", "routes", "lxc"];

/// Columns that the server tells: they are not part of what is wanted.
const TOLD: &[&str] = &[
    "_version",
    "status",
    "error",
    "ifindex",
    "mac_in_use",
    "addresses_in_use",
    "link_state",
];

/// A bridge with a network and a port in namespace `c0`, converged; namespaces `c1` and `c2` are there too.
fn host() -> Host {
    let mut host = Host::start();
    for name in ["c0", "c1", "c2"] {
        host.netns.add(name).unwrap();
    }
    let mut operations = bridge_and_network("br0", "n0", &[("10.60.0.0/24", "10.60.0.1")]);
    operations.push(port("p0", "c0"));
    // Without an MTU in the row the kernel's stays whatever it is.
    operations.push(update("bridges", "br0", &json!({"mtu": 1500})));
    host.transact(&operations);
    host.converged();
    host
}

/// Everything that is wanted, by table and UUID.
fn wanted(host: &mut Host) -> BTreeMap<(String, String), Value> {
    let mut all = BTreeMap::new();
    for table in TABLES {
        for mut row in host.rows(table) {
            let columns = row.as_object_mut().unwrap();
            columns.retain(|name, _| !TOLD.contains(&name.as_str()));
            all.insert(((*table).to_owned(), row["_uuid"].to_string()), row);
        }
    }
    all
}

fn checkpoint(name: &str, timeout: u64, on_error: &str) -> Value {
    let row = json!({"name": name, "timeout": timeout, "on_error": on_error});
    json!({"op": "insert", "table": "checkpoints", "row": row})
}

/// The insert of a port into a network that is there.
fn another_port(host: &mut Host, name: &str, netns: &str) -> Value {
    let network = host.row("networks", "n0")["_uuid"].clone();
    let row = json!({"name": name, "netns": netns, "network": ["uuid", network]});
    json!({"op": "insert", "table": "ports", "row": row})
}

fn until_closed(host: &mut Host, name: &str, state: &str) {
    host.until(&format!("checkpoint {name} is {state}"), |host| {
        host.row("checkpoints", name)["state"] == state
    });
}

/// Waits until the time is up that the checkpoint was open at most.
fn until_past(host: &mut Host, deadline_ms: i64) {
    host.until("the time is up", |_| {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
        i64::try_from(now).unwrap() > deadline_ms
    });
}

/// What the command line prints; it must end with that status.
#[track_caller]
fn says(host: &Host, words: &str, status: i32) -> String {
    host.says(words, status)
}

#[test]
fn what_is_not_confirmed_in_time_is_taken_back_in_rows_and_kernel() {
    let mut host = host();
    let before = wanted(&mut host);
    let links = host.links();
    let (base, _, _) = host.progress();
    let added = another_port(&mut host, "p1", "c1");
    let operations = [
        checkpoint("try", 2, "keep"),
        added,
        delete("ports", "p0"),
        update("bridges", "br0", &json!({"mtu": 1400})),
    ];
    host.transact(&operations);
    let row = host.row("checkpoints", "try");
    assert_eq!((&row["state"], &row["base"]), (&json!("open"), &json!(base)), "{row}");
    assert!(row["deadline"].is_i64(), "{row}");
    // What comes later belongs to it too, whoever does it.
    let later = another_port(&mut host, "p2", "c2");
    host.transact(&[later]);
    let mut seen = false;
    host.until("it is rolled back", |host| {
        seen |= host.link("p1").is_some();
        host.row("checkpoints", "try")["state"] == "rolled_back"
    });
    assert!(seen, "the kernel never followed");
    host.converged();
    assert_eq!(wanted(&mut host), before);
    let row = host.row("checkpoints", "try");
    assert_eq!(row["error"], "not confirmed within 2 s", "{row}");
    assert_eq!(row["confirmed"], false, "{row}");
    assert!(host.pings("c0", "10.60.0.1"));
    let now = host.links();
    assert!(now.keys().eq(links.keys()), "{now:?}");
    assert_eq!(now["br0"]["mtu"], links["br0"]["mtu"]);
    assert!(!host.links_in("c1").contains_key("eth0") && !host.links_in("c2").contains_key("eth0"));
    host.until_event(0, "rolled_back", "try");

    // The rollback is a commit more, which says why; the log is sound.
    let (newest, _, _) = host.progress();
    assert_eq!(newest, base + 3);
    let log = says(&host, "log --limit 1", 0);
    let reason = format!("rollback of checkpoint try to commit {base}: not confirmed within 2 s");
    assert!(log.contains(&reason) && log.contains("checkpoint try"), "{log}");
    assert!(says(&host, "verify", 0).contains("chain sound"));
    let (_, details) =
        host.refused(&[json!({"op": "update", "table": "checkpoints", "where": [], "row": {"confirmed": true}})]);
    assert!(
        details.contains("was rolled back: not confirmed within 2 s"),
        "{details}"
    );
}

#[test]
fn what_is_confirmed_stays_and_can_be_taken_back_later() {
    let mut host = host();
    let before = wanted(&mut host);
    let added = another_port(&mut host, "p1", "c1");
    host.transact(&[checkpoint("try", 2, "keep"), added]);
    host.until("its time is told", |host| {
        host.row("checkpoints", "try")["deadline"].is_i64()
    });
    let deadline = host.row("checkpoints", "try")["deadline"].as_i64().unwrap();
    let (_, details) = host.refused(&[delete("checkpoints", "try")]);
    assert!(details.contains("confirm it or roll it back"), "{details}");
    host.transact(&[update("checkpoints", "try", &json!({"confirmed": true}))]);
    let row = host.row("checkpoints", "try");
    assert_eq!(
        (&row["state"], &row["deadline"]),
        (&json!("confirmed"), &json!([])),
        "{row}"
    );
    until_past(&mut host, deadline + 500);
    host.converged();
    assert_eq!(host.row("checkpoints", "try")["state"], "confirmed");
    assert!(host.pings("c1", "10.60.0.1"));

    // The server has forgotten what the rows were; the log has not.
    host.stop();
    host.run();
    host.transact(&[update("checkpoints", "try", &json!({"rollback": true}))]);
    until_closed(&mut host, "try", "rolled_back");
    host.converged();
    assert_eq!(wanted(&mut host), before);
    assert!(host.link("p1").is_none() && host.pings("c0", "10.60.0.1"));
    assert!(says(&host, "verify", 0).contains("chain sound"));
}

#[test]
fn all_or_nothing_takes_everything_back_when_one_row_is_in_conflict() {
    let mut host = host();
    host.sh("ip link add taken type bridge");
    let before = wanted(&mut host);
    let operations = [
        checkpoint("all", 0, "rollback"),
        another_port(&mut host, "p1", "c1"),
        another_port(&mut host, "taken", "c2"),
    ];
    host.transact(&operations);
    until_closed(&mut host, "all", "rolled_back");
    host.converged();
    let error = host.row("checkpoints", "all")["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(error.starts_with("ports taken: conflict: "), "{error}");
    assert_eq!(wanted(&mut host), before);
    assert!(host.link("p1").is_none() && host.link("taken").is_some());

    // Where all is well nobody needs to confirm.
    host.transact(&[delete("checkpoints", "all")]);
    let operations = [checkpoint("all", 0, "rollback"), another_port(&mut host, "p1", "c1")];
    host.transact(&operations);
    until_closed(&mut host, "all", "confirmed");
    assert!(host.pings("c1", "10.60.0.1"));
    // A row that fails later is another matter.
    let taken = another_port(&mut host, "taken", "c2");
    host.transact(&[taken]);
    host.until_state("ports", "taken", "conflict");
    assert_eq!(host.row("checkpoints", "all")["state"], "confirmed");
}

#[test]
fn a_checkpoint_survives_a_crash_and_is_taken_back_at_the_start_once_its_time_is_up() {
    let mut host = host();
    let before = wanted(&mut host);
    let added = another_port(&mut host, "p1", "c1");
    host.transact(&[checkpoint("crash", 3, "keep"), added, delete("ports", "p0")]);
    host.converged();
    host.until("its time is told", |host| {
        host.row("checkpoints", "crash")["deadline"].is_i64()
    });
    let deadline = host.row("checkpoints", "crash")["deadline"].as_i64().unwrap();
    // A restart in time leaves it open until the same moment.
    host.kill();
    host.run();
    let row = host.row("checkpoints", "crash");
    if row["state"] == "open" {
        host.until("its time is told", |host| {
            host.row("checkpoints", "crash")["deadline"] != json!([])
        });
        let again = host.row("checkpoints", "crash")["deadline"]
            .as_i64()
            .unwrap_or(deadline);
        assert!((again - deadline).abs() < 1_000, "{again} {deadline}");
    }
    host.kill();
    host.arguments(&["--kernel", "observe"]);
    let past = std::time::Duration::from_millis(10);
    while i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap() <= deadline + 1_000 {
        std::thread::sleep(past);
    }
    // Rolled back before anything is looked at in the kernel, which is left alone here.
    host.run();
    assert_eq!(host.row("checkpoints", "crash")["state"], "rolled_back");
    assert_eq!(wanted(&mut host), before);
    host.stop();
    host.arguments(&[]);
    host.run();
    host.converged();
    assert!(host.link("p1").is_none() && host.pings("c0", "10.60.0.1"));
    assert!(says(&host, "verify", 0).contains("chain sound"));
}

#[test]
fn of_two_checkpoints_the_older_takes_the_younger_along() {
    let mut host = host();
    let before = wanted(&mut host);
    let first = another_port(&mut host, "p1", "c1");
    host.transact(&[checkpoint("old", 600, "keep"), first]);
    let between = wanted(&mut host);
    let second = another_port(&mut host, "p2", "c2");
    host.transact(&[checkpoint("young", 600, "keep"), second]);
    let (tag, _) = host.refused(&[checkpoint("young", 5, "keep")]);
    assert_eq!(tag, "constraint violation");
    host.transact(&[update("checkpoints", "young", &json!({"rollback": true}))]);
    until_closed(&mut host, "young", "rolled_back");
    assert_eq!(wanted(&mut host), between);
    assert_eq!(host.row("checkpoints", "old")["state"], "open");
    host.transact(&[checkpoint("third", 600, "keep"), delete("ports", "p0")]);
    host.transact(&[update("checkpoints", "old", &json!({"rollback": true}))]);
    until_closed(&mut host, "old", "rolled_back");
    assert_eq!(
        host.row("checkpoints", "third")["error"],
        "with checkpoint old, which is older"
    );
    assert_eq!(wanted(&mut host), before);
    host.converged();
    assert!(host.link("p1").is_none() && host.pings("c0", "10.60.0.1"));
}

#[test]
fn what_the_server_says_of_a_checkpoint_nobody_else_can() {
    let mut host = host();
    for (row, told) in [
        (json!({"name": "x", "state": "confirmed"}), "state"),
        (json!({"name": "x", "error": "none"}), "error"),
        (json!({"name": "x", "base": 1_000}), "no such commit"),
        (json!({"name": "x", "base": 1, "timeout": 5}), "without timeout"),
        (json!({"name": "x", "rollback": true}), "nothing to roll back"),
    ] {
        let (_, details) = host.refused(&[json!({"op": "insert", "table": "checkpoints", "row": row})]);
        assert!(details.contains(told) && details.contains("checkpoints"), "{details}");
    }
    host.transact(&[checkpoint("x", 600, "keep")]);
    for (row, told) in [
        (json!({"state": "confirmed"}), "state"),
        (json!({"base": 0}), "base"),
        (json!({"confirmed": true, "rollback": true}), "rolled back"),
    ] {
        let (_, details) = host.refused(&[update("checkpoints", "x", &row)]);
        assert!(details.contains(told) && details.contains("\"x\""), "{details}");
    }
    let many: Vec<Value> = (0..16)
        .map(|number| checkpoint(&format!("m{number}"), 600, "keep"))
        .collect();
    let (_, details) = host.refused(&many);
    assert!(details.contains("at most 16"), "{details}");
}

#[test]
fn the_command_line_applies_confirms_and_rolls_back() {
    let mut host = host();
    let before = wanted(&mut host);
    let file = |mtu: u32| {
        json!({"version": 1, "plugins": {"bridges": [{"name": "br0", "mtu": mtu}],
            "ports": [{"name": "p1", "netns": "c1", "network": "n0"}]}})
    };
    let write = |host: &Host, state: &Value| {
        std::fs::write(host.netns.directory().join("state.json"), state.to_string()).unwrap();
    };
    write(&host, &file(1400));
    let said = says(&host, "apply state.json --confirm 600", 0);
    assert!(said.contains("Port p1: converged"), "{said}");
    assert!(said.contains("unless it is confirmed: nonnet confirm apply"), "{said}");
    let list = says(&host, "checkpoint list", 0);
    assert!(list.contains("apply") && list.contains("unless confirmed"), "{list}");
    assert!(says(&host, "checkpoint show", 0).contains("within 600 s"));
    write(&host, &file(1300));
    assert!(says(&host, "apply state.json --confirm 600", 1).contains("checkpoint apply is open"));
    let now = wanted(&mut host);
    let said = says(&host, "rollback --dry-run", 0);
    assert!(
        said.contains("nonnet apply state.json") && said.contains("+ ports p1") && said.contains("would be taken back"),
        "{said}"
    );
    assert_eq!(wanted(&mut host), now);
    let said = says(&host, "rollback", 0);
    assert!(
        said.contains("Rolled back to commit") && said.contains("apply"),
        "{said}"
    );
    assert_eq!(wanted(&mut host), before);
    assert!(says(&host, "rollback", 1).contains("no checkpoint is open"));
    assert!(says(&host, "confirm apply", 1).contains("rolled back"));

    // The name is free again.
    assert!(says(&host, "apply state.json --confirm 600 --format json", 0).contains("\"state\": \"open\""));
    assert!(says(&host, "confirm", 0).contains("Confirmed checkpoint apply"));
    assert!(says(&host, "confirm apply", 0).contains("confirmed already"));
    assert_eq!(host.row("bridges", "br0")["mtu"], 1300);

    // All or nothing, with a row that cannot come true.
    host.sh("ip link add p9 type bridge");
    let state = json!({"version": 1, "plugins": {"bridges": [{"name": "br0", "mtu": 1280}],
        "ports": [{"name": "p9", "netns": "c2", "network": "n0"}]}});
    write(&host, &state);
    let said = says(&host, "apply state.json --on-error rollback", 1);
    assert!(said.contains("all of it was rolled back: ports p9: conflict"), "{said}");
    assert_eq!(host.row("bridges", "br0")["mtu"], 1300);
    assert!(host.find("ports", "p9").is_none());

    // A mark, and any older commit.
    let said = says(&host, "checkpoint create here", 0);
    assert!(said.contains("Made checkpoint here at commit"), "{said}");
    let base = host.row("checkpoints", "here")["base"].as_i64().unwrap();
    let marked = wanted(&mut host);
    assert!(says(&host, &format!("rollback --to {} --dry-run", base + 1), 0).contains("Nothing has come after commit"));
    host.transact(&[delete("ports", "p0"), delete("ports", "p1")]);
    let said = says(&host, &format!("rollback --to {base} --dry-run"), 0);
    assert!(said.contains("- ports p0") && said.contains("- ports p1"), "{said}");
    says(&host, &format!("rollback --to {base}"), 0);
    assert_eq!(wanted(&mut host), marked);
    host.transact(&[delete("ports", "p0")]);
    says(&host, "rollback here", 0);
    assert_eq!(wanted(&mut host), marked);
    assert!(says(&host, "rollback --to 100000", 1).contains("no such commit"));
    says(&host, "checkpoint delete here", 0);
    host.converged();
    assert!(host.pings("c0", "10.60.0.1") && host.pings("c1", "10.60.0.1"));
    assert!(says(&host, "verify", 0).contains("chain sound"));
}

#[test]
fn a_plan_tells_what_would_be_done_and_does_nothing() {
    let mut host = host();
    let (next, _, _) = host.progress();
    assert!(says(&host, "plan", 0).contains("Nothing to do"));
    assert_eq!(says(&host, "diff --live", 0), "");
    let state = json!({"version": 1, "plugins": {"bridges": [{"name": "br0", "mtu": 1400}], "ports": [
        {"name": "p1", "netns": "c1", "network": "n0"}, {"name": "p2", "netns": "nowhere", "network": "n0"}]}});
    std::fs::write(host.netns.directory().join("state.json"), state.to_string()).unwrap();
    let said = says(&host, "plan state.json", 1);
    for words in [
        "+ ports p1",
        "add link p1 type veth",
        "add address 10.60.0.",
        "mtu 1400",
        "nowhere",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    let json: Value = serde_json::from_str(&says(&host, "plan state.json --format json", 1)).unwrap();
    let steps = json["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["row"] == "ports p1"), "{json}");
    assert!(
        json["held"]
            .as_array()
            .unwrap()
            .iter()
            .any(|held| held["state"] == "waiting"),
        "{json}"
    );
    std::fs::write(
        host.netns.directory().join("bad.json"),
        state.to_string().replace("1400", "9"),
    )
    .unwrap();
    says(&host, "plan bad.json", 2);
    let rehearsed = says(&host, "apply state.json --dry-run", 0);
    assert!(
        rehearsed.contains("add link p1 type veth") && rehearsed.contains("The server would accept"),
        "{rehearsed}"
    );
    // Only that row, and what does not name a row of the file is refused.
    let said = says(&host, "plan state.json --only ports:p1", 1);
    assert!(said.contains("add link p1") && !said.contains("mtu 1400"), "{said}");
    assert!(says(&host, "plan state.json --only ports:p9", 2).contains("it has no \"p9\" in plugin \"ports\""));
    assert!(says(&host, "plan state.json --only p1", 2).contains("a row is written TABLE:NAME, as in lxc:100"));
    // Nothing was committed, and nothing done.
    assert_eq!(host.progress().0, next);
    assert!(host.link("p1").is_none() && host.find("ports", "p1").is_none());
    // Rows that name the same namespace afterwards come true.
    says(&host, "apply state.json --only ports:p1", 0);
    host.until_state("ports", "p1", "converged");
    assert!(host.find("ports", "p2").is_none() && host.row("bridges", "br0")["mtu"] != 1400);
    says(&host, "apply state.json", 0);
    assert!(host.pings("c1", "10.60.0.1"));
}

#[test]
fn what_somebody_broke_is_told_by_diff_live() {
    let mut host = host();
    host.stop();
    host.arguments(&["--heal", "report"]);
    host.run();
    host.converged();
    host.sh("ip link del p0");
    host.until_state("ports", "p0", "drifted");
    let said = says(&host, "diff --live", 1);
    assert!(
        said.contains("! p0 (ports p0)") && said.contains("add link p0 type veth"),
        "{said}"
    );
    assert_eq!(said.lines().filter(|line| line.starts_with('!')).count(), 1, "{said}");
}
