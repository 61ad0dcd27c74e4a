//! Reports become columns.

use nonnet_hooks::name::LinkName;
use nonnet_hooks::object::{ObjectKey, Owner};
use nonnet_hooks::report::{Event, EventKind, Facts, Report, State};
use nonnet_hooks::status::{capabilities_column, progress_columns, report_columns};
use nonnet_hooks::tables::events::EventLog;
use nonnet_schema::parse_uuid;
use serde_json::{Value, json};

use crate::fixture::{Host, container, insert};

fn owner(table: &str, row: &Value) -> Owner {
    Owner {
        table: table.into(),
        uuid: parse_uuid(row["_uuid"][1].as_str().unwrap()).unwrap().as_u128(),
    }
}

fn report(owner: Owner, state: State, error: Option<&str>) -> Report {
    Report {
        owner,
        state,
        cfg: 5,
        attempts: 2,
        error: error.map(Into::into),
        facts: Facts {
            ifindex: Some(9),
            mac: Some("02:00:00:00:00:09".parse().unwrap()),
            addresses: vec!["10.0.0.5/24".parse().unwrap()],
            up: Some(true),
            peers: Vec::new(),
            notes: Vec::new(),
        },
    }
}

fn write(host: &mut Host, report: &Report, time_ms: u64) {
    let writes = report_columns(&host.tables, &host.database, report, time_ms);
    host.write(|_, transaction| writes.into_iter().for_each(|write| write.apply(transaction)));
}

#[test]
fn report_of_a_port_is_told_in_its_row_and_its_containers() {
    let mut host = Host::new();
    host.commit(&json!([
        insert("bridges", &json!({"name": "br0"})),
        container(
            "1",
            "br0",
            &[("ipv4", "10.0.0.5/24"), ("memory", "512"), ("cores", "2")]
        ),
    ]));
    let port = owner("ports", &host.only("ports", &["_uuid"]));
    write(
        &mut host,
        &report(port.clone(), State::Waiting, Some("no such namespace")),
        1_000,
    );
    write(
        &mut host,
        &report(port.clone(), State::Waiting, Some("still none")),
        2_000,
    );
    let status = json!([
        "map",
        [
            ["attempts", "2"],
            ["cfg", "5"],
            ["since", "1970-01-01T00:00:01.000Z"],
            ["state", "waiting"]
        ]
    ]);
    assert_eq!(
        host.only("ports", &["status", "error"]),
        json!({"status": status, "error": "still none"})
    );
    write(&mut host, &report(port, State::Converged, None), 3_000);
    let row = host.only(
        "ports",
        &["ifindex", "mac_in_use", "addresses_in_use", "link_state", "error"],
    );
    assert_eq!(
        row,
        json!({"ifindex": 9, "mac_in_use": "02:00:00:00:00:09", "addresses_in_use": "10.0.0.5/24", "link_state": "up", "error": ["set", []]})
    );
    let status = json!([
        "map",
        [
            ["attempts", "2"],
            ["cfg", "5"],
            ["ignored", "cores,memory"],
            ["since", "1970-01-01T00:00:03.000Z"],
            ["state", "converged"],
        ]
    ]);
    assert_eq!(
        host.only("lxc", &["status", "error"]),
        json!({"status": status, "error": ["set", []]})
    );
}

#[test]
fn status_is_not_a_persistent_change() {
    let mut host = Host::new();
    host.commit(&json!([insert("bridges", &json!({"name": "br0"}))]));
    let bridge = owner("bridges", &host.only("bridges", &["_uuid"]));
    let writes = report_columns(&host.tables, &host.database, &report(bridge, State::Converged, None), 1);
    let changes = host.write(|_, transaction| writes.into_iter().for_each(|write| write.apply(transaction)));
    assert!(!changes.is_empty() && !changes.is_persistent(host.database.schema()));
}

#[test]
fn report_about_a_row_that_is_gone_writes_nothing() {
    let host = Host::new();
    let gone = Owner {
        table: "bridges".into(),
        uuid: 7,
    };
    assert!(report_columns(&host.tables, &host.database, &report(gone, State::Failed, Some("x")), 1).is_empty());
}

#[test]
fn progress_and_capabilities_are_in_the_host_row() {
    let mut host = Host::new();
    let uuid = parse_uuid(host.only("host", &["_uuid"])["_uuid"][1].as_str().unwrap()).unwrap();
    let mut writes = progress_columns(&host.tables, uuid, 7, 2);
    writes.push(capabilities_column(
        &host.tables,
        uuid,
        ["veth".into(), "bridge".into()],
    ));
    host.write(|_, transaction| writes.into_iter().for_each(|write| write.apply(transaction)));
    let row = host.only("host", &["cur_cfg", "failed", "capabilities"]);
    assert_eq!(
        row,
        json!({"cur_cfg": 7, "failed": 2, "capabilities": ["set", ["bridge", "veth"]]})
    );
}

#[test]
fn newest_thousand_events_are_kept() {
    let mut host = Host::new();
    let mut log = EventLog::new(&host.tables, &host.database);
    let event = Event {
        kind: EventKind::Healed,
        object: ObjectKey::Link(LinkName::new("vi1").unwrap()),
        owner: None,
        ms: 4,
        text: "back".into(),
    };
    for _ in 0..3 {
        host.write(|tables, transaction| {
            for _ in 0..400 {
                log.record(tables, transaction, &event, 3, 1_000);
            }
        });
    }
    let rows = host.rows("events", &["seq", "kind", "object", "detail", "cfg", "ms", "time"]);
    assert_eq!(rows.len(), 1_000);
    let oldest = rows.iter().min_by_key(|row| row["seq"].as_i64()).unwrap();
    assert_eq!(
        *oldest,
        json!({"seq": 201, "kind": "healed", "object": "vi1", "detail": "back", "cfg": 3, "ms": 4, "time": 1000})
    );
    let again = EventLog::new(&host.tables, &host.database);
    assert_eq!(format!("{again:?}"), format!("{log:?}"));
}
