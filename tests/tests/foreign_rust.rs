//! OVSDB clients from the Rust crate registry, unmodified and with all their faults: what each can do on `ovsdb-server` it can do on `nonnetd`.
//!
//! `ovsdb` 0.0.6 has no monitor and hangs in its `get_schema` on any server; `ovsdb-client` 0.0.1 has no transaction.

use std::collections::HashMap;
use std::time::Duration;

use jsonrpsee_of_ovsdb_client::core::client::{Subscription, SubscriptionClientT};
use nonnet_tests::case;
use nonnet_tests::server::{Kind, Server};
use ovsdb::protocol::Request;
use ovsdb::protocol::method::{Method, Operation, Params};
use ovsdb_client::rpc::{self, RpcClient};
use ovsdb_client::schema::{MonitorRequest, UpdateNotification};
use serde::Serialize;
use serde_json::{Value, json};

/// How long a client that should be answered at once may wait: these crates wait for ever where they fail.
const PATIENCE: Duration = Duration::from_secs(20);

/// Parameters that the crate has no type for.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Raw(Value);

impl Params for Raw {}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} was not answered within {PATIENCE:?}"))
}

fn servers() -> impl Iterator<Item = Server> {
    let start = |kind| Server::start(kind, &case::schema("things").unwrap()).unwrap();
    [Kind::Reference, Kind::Nonnetd].into_iter().map(start)
}

fn insert(name: &str, n: i64) -> Value {
    json!({"op": "insert", "table": "t", "row": {"name": name, "n": n, "s": ["set", ["x", "y"]]}})
}

#[tokio::test]
async fn the_crate_ovsdb_lists_and_transacts() {
    for server in servers() {
        let client = ovsdb::Client::connect_unix(&server.socket()).await.unwrap();
        let echo = soon("echo", client.echo(vec!["Hello", "OVSDB"])).await.unwrap();
        assert_eq!(*echo, ["Hello", "OVSDB"]);

        let databases = soon("list_dbs", client.list_databases()).await.unwrap();
        let mut names: Vec<String> = databases.iter().cloned().collect();
        names.sort();
        assert_eq!(names, ["_Server", "things"]);

        let params = Raw(json!(["things", insert("one", 1), insert("two", 2)]));
        let request = Request::new(Method::Transact, Some(Box::new(params)));
        let inserted: Option<Value> = soon("transact", client.execute(request)).await.unwrap();
        let inserted = inserted.unwrap();
        assert!(inserted[1]["uuid"][1].is_string(), "{inserted}");

        let select = Operation::Select {
            table: "t".to_owned(),
            clauses: Vec::new(),
        };
        let selected: Value = soon("select", client.transact("things", vec![select])).await.unwrap();
        let rows = selected[0]["rows"].as_array().unwrap();
        let mut seen: Vec<(&str, i64)> = rows
            .iter()
            .map(|row| (row["name"].as_str().unwrap(), row["n"].as_i64().unwrap()))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [("one", 1), ("two", 2)]);
        soon("the end of the connection", client.stop()).await.unwrap();
    }
}

#[tokio::test]
async fn the_crate_ovsdb_client_reads_the_schema_and_monitors() {
    for server in servers() {
        let mut writer = server.connect().unwrap();
        writer.transact("things", &[insert("one", 1)]).unwrap();

        let client = rpc::connect_unix(server.socket()).await.unwrap();
        let mut names = soon("list_dbs", client.list_databases()).await.unwrap();
        names.sort();
        assert_eq!(names, ["_Server", "things"]);

        let schema = soon("get_schema", client.get_schema("things")).await.unwrap();
        assert_eq!((schema.name.as_str(), schema.version.as_str()), ("things", "1.0.0"));
        assert_eq!(schema.tables["u"].columns["flag"].r#type, json!("boolean"));
        assert_eq!(schema.tables["t"].columns["o"].r#type["min"], json!(0));

        let mut updates: Subscription<UpdateNotification<Value>> = client.subscribe_to_method("update").await.unwrap();
        let request = MonitorRequest {
            columns: Some(vec!["name".to_owned(), "n".to_owned()]),
            ..MonitorRequest::default()
        };
        let requests = HashMap::from([("t".to_owned(), request)]);
        let initial = soon("monitor", client.monitor("things", None, requests)).await.unwrap();
        let rows: Vec<&Value> = initial["t"].values().collect();
        assert_eq!(rows, [&json!({"new": {"name": "one", "n": 1}})]);

        for number in 2..5 {
            let change = json!({"op": "update", "table": "t", "where": [], "row": {"n": number}});
            writer.transact("things", &[change]).unwrap();
            let update = soon("the update", updates.next()).await.unwrap().unwrap();
            assert_eq!(update.id, None);
            let rows: Vec<&Value> = update.message["t"].values().collect();
            let expected = json!({"old": {"n": number - 1}, "new": {"name": "one", "n": number}});
            assert_eq!(rows, [&expected]);
        }
    }
}
