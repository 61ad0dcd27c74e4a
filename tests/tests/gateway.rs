//! The HTTP gateway of a real `nonnetd`: curl for POST, a WebSocket client for subscriptions.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nonnet_tests::case;
use nonnet_tests::program;
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::RECEIVE_TIMEOUT;
use serde_json::{Value, json};
use soketto::handshake::{Client as Handshake, ServerResponse};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

/// The socket of the gateway, in the server's directory.
const SOCKET: &str = "http.sock";

fn start(arguments: &[&str]) -> Server {
    let mut all = vec!["--http=unix:http.sock"];
    all.extend(arguments);
    Server::start_with(Kind::Nonnetd, &case::schema("things").unwrap(), &all).unwrap()
}

fn socket(server: &Server) -> PathBuf {
    server.directory().join(SOCKET)
}

/// What curl prints, with the head of the answer.
fn curl(server: &Server, arguments: &[&str]) -> String {
    let socket = socket(server);
    let mut all = vec![
        "-sS",
        "-i",
        "--max-time",
        "20",
        "--unix-socket",
        socket.to_str().unwrap(),
    ];
    all.extend(arguments);
    let output = program::run(&program::system("curl").unwrap(), &all, b"").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Calls a method by POST.
fn post(server: &Server, method: &str, params: &Value) -> Value {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let answer = curl(
        server,
        &["-H", "content-type: application/json", "-d", &body, "http://nonnet/rpc"],
    );
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    serde_json::from_str(body).unwrap()
}

fn insert(n: i64) -> Value {
    json!({"op": "insert", "table": "t", "row": {"n": n}})
}

fn select() -> Value {
    json!({"op": "select", "table": "t", "where": [], "columns": ["n"]})
}

/// A WebSocket, used as a blocking client.
struct WebSocket {
    runtime: Runtime,
    sender: soketto::Sender<Compat<UnixStream>>,
    receiver: soketto::Receiver<Compat<UnixStream>>,
    next_id: u64,
    notifications: Vec<Value>,
}

impl WebSocket {
    fn connect(socket: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (sender, receiver) = runtime.block_on(async {
            let stream = UnixStream::connect(socket).await.unwrap();
            let mut handshake = Handshake::new(stream.compat(), "nonnet", "/rpc");
            let response = handshake.handshake().await.unwrap();
            assert!(matches!(response, ServerResponse::Accepted { .. }), "{response:?}");
            handshake.into_builder().finish()
        });
        Self {
            runtime,
            sender,
            receiver,
            next_id: 1,
            notifications: Vec::new(),
        }
    }

    /// The next message; None when the server has closed the WebSocket.
    fn receive(&mut self) -> Option<Value> {
        let mut text = Vec::new();
        let receiver = &mut self.receiver;
        let outcome = self.runtime.block_on(async {
            tokio::time::timeout(RECEIVE_TIMEOUT, receiver.receive_data(&mut text))
                .await
                .unwrap()
        });
        outcome.ok().map(|_| serde_json::from_slice(&text).unwrap())
    }

    fn send(&mut self, method: &str, params: &Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let text = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
        let sender = &mut self.sender;
        self.runtime.block_on(async {
            sender.send_text(text).await.unwrap();
            sender.flush().await.unwrap();
        });
        id
    }

    /// Calls a method; what comes before its reply is kept in `notifications`.
    fn call(&mut self, method: &str, params: &Value) -> Value {
        let id = self.send(method, params);
        loop {
            let message = self.receive().unwrap();
            if message["id"] == json!(id) {
                return message;
            }
            self.notifications.push(message);
        }
    }

    /// Subscribes; gives the subscription's id and the initial state.
    fn subscribe(&mut self, name: &Value) -> (Value, Value) {
        let params = json!(["things", name, {"t": [{"columns": ["n"]}]}]);
        let reply = self.call("monitor_cond", &params);
        let initial = self.receive().unwrap();
        assert_eq!(initial["method"], "update2");
        assert_eq!(initial["params"]["subscription"], reply["result"]);
        (reply["result"].clone(), initial["params"]["result"].clone())
    }
}

#[test]
fn post_gives_the_results_of_the_ovsdb_socket() {
    let server = start(&[]);
    let mut client = server.connect().unwrap();
    for (method, params) in [
        ("list_dbs", json!([])),
        ("get_server_id", json!([])),
        ("get_schema", json!(["things"])),
        ("echo", json!([1, {"a": [null, "\u{e9}"]}])),
        (
            "transact",
            json!(["things", select(), {"op": "comment", "comment": "x"}]),
        ),
    ] {
        let expected = client.call(method, &params).unwrap();
        let answer = post(&server, method, &params);
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 1, "result": expected["result"]}));
    }
}

#[test]
fn every_error_bears_that_of_the_ovsdb_socket() {
    let server = start(&[]);
    let mut client = server.connect().unwrap();
    for (method, params) in [
        ("get_schema", json!(["nope"])),
        ("get_schema", json!([])),
        ("transact", json!([])),
    ] {
        let expected = client.call(method, &params).unwrap();
        let answer = post(&server, method, &params);
        assert_eq!(answer["error"]["data"], expected["error"]);
        assert_eq!(answer["error"]["code"], -32000);
    }
    for (method, params, code) in [
        ("echo", json!({"a": 1}), -32602),
        ("lock", json!(["x"]), -32601),
        ("monitor_cond", json!(["things", 1, {}]), -32601),
    ] {
        let error = post(&server, method, &params)["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        assert_eq!(error["data"]["error"], "syntax error", "{error}");
    }
}

#[test]
fn read_only_gateway_refuses_what_writes_and_nothing_else() {
    let server = start(&[]);
    let row = json!({"n": 2});
    for (name, operation) in [
        ("insert", insert(1)),
        ("update", json!({"op": "update", "table": "t", "where": [], "row": row})),
        (
            "mutate",
            json!({"op": "mutate", "table": "t", "where": [], "mutations": [["n", "+=", 1]]}),
        ),
        ("delete", json!({"op": "delete", "table": "t", "where": []})),
        ("commit", json!({"op": "commit", "durable": true})),
    ] {
        let answer = post(&server, "transact", &json!(["things", select(), operation, select()]));
        let details = format!("{name} operation not allowed when database server is in read only mode");
        assert_eq!(
            answer["error"]["data"],
            json!({"error": "not allowed", "details": details})
        );
    }
    let mut client = server.connect().unwrap();
    client.transact("things", &[insert(7)]).unwrap();
    let answer = post(&server, "transact", &json!(["things", select()]));
    assert_eq!(answer["result"], json!([{"rows": [{"n": 7}]}]));
}

#[test]
fn writable_gateway_commits_and_the_record_names_its_remote() {
    let server = start(&["--gateway-write"]);
    let answer = post(&server, "transact", &json!(["things", insert(3)]));
    assert_eq!(answer["result"][0]["uuid"][0], "uuid", "{answer}");
    let rows = server.connect().unwrap().transact("things", &[select()]).unwrap();
    assert_eq!(rows, [json!({"rows": [{"n": 3}]})]);
    let mut kept = std::fs::read(server.file()).unwrap();
    kept.extend(std::fs::read(server.directory().join("test.db-wal")).unwrap_or_default());
    let remote = b"http:unix:http.sock";
    assert!(kept.windows(remote.len()).any(|window| window == remote));
}

#[test]
fn subscription_gets_the_state_then_updates_before_replies_until_cancelled() {
    let server = start(&["--gateway-write"]);
    let mut client = server.connect().unwrap();
    client.transact("things", &[insert(1)]).unwrap();
    let mut web = WebSocket::connect(&socket(&server));
    let name = json!(["a", 1.5]);
    let (subscription, initial) = web.subscribe(&name);
    let rows: Vec<&Value> = initial["t"].as_object().unwrap().values().collect();
    assert_eq!(rows, [&json!({"initial": {"n": 1}})]);

    let reply = web.call("transact", &json!(["things", insert(2)]));
    let uuid = reply["result"][0]["uuid"][1].as_str().unwrap();
    assert_eq!(web.notifications.len(), 1, "the update comes before the reply");
    let update = web.notifications.remove(0);
    assert_eq!(update["params"]["subscription"], subscription);
    assert_eq!(
        update["params"]["result"],
        json!([name, {"t": {uuid: {"insert": {"n": 2}}}}])
    );

    client.transact("things", &[insert(3)]).unwrap();
    assert_eq!(web.receive().unwrap()["params"]["result"][0], name);

    assert_eq!(web.call("monitor_cancel", &json!([subscription]))["result"], true);
    client.transact("things", &[insert(4)]).unwrap();
    web.call("transact", &json!(["things", insert(5)]));
    assert_eq!(web.notifications, Vec::<Value>::new());
    assert_eq!(web.call("monitor_cancel", &json!([subscription]))["result"], false);
}

#[test]
fn refused_subscription_bears_the_error_of_the_server() {
    let server = start(&[]);
    let mut web = WebSocket::connect(&socket(&server));
    for params in [
        json!(["nope", 1, {}]),
        json!(["things", 1, {"x": []}]),
        json!(["things"]),
    ] {
        let reply = web.call("monitor_cond", &params);
        assert!(reply["error"]["data"]["error"].is_string(), "{reply}");
    }
    assert_eq!(web.call("echo", &json!([1]))["result"], json!([1]));
}

#[test]
fn slow_subscriber_gets_fewer_and_larger_updates() {
    const COMMITS: i64 = 600;
    const TEXT_BYTES: usize = 20_000;
    let server = start(&["--durability=on-request"]);
    let mut client = server.connect().unwrap();
    let mut web = WebSocket::connect(&socket(&server));
    let params = json!(["things", 1, {"t": [{"columns": ["n", "name"]}]}]);
    web.call("monitor_cond", &params);
    assert_eq!(web.receive().unwrap()["params"]["result"], json!({}));
    let text = "x".repeat(TEXT_BYTES);
    for n in 0..COMMITS {
        let row = json!({"n": n, "name": text});
        client
            .transact("things", &[json!({"op": "insert", "table": "t", "row": row})])
            .unwrap();
    }
    let (mut updates, mut rows) = (0, 0);
    while rows < COMMITS as usize {
        let update = web.receive().unwrap();
        rows += update["params"]["result"][1]["t"].as_object().unwrap().len();
        updates += 1;
    }
    assert_eq!(rows, COMMITS as usize);
    assert!(updates < COMMITS / 2, "{updates} updates for {COMMITS} commits");
}

#[test]
fn paths_answer_what_they_are_for() {
    let server = start(&[]);
    for (arguments, status, says) in [
        (vec!["http://nonnet/healthz"], "200", "ok"),
        (vec!["-X", "POST", "http://nonnet/healthz"], "405", "only asked for"),
        (vec!["http://nonnet/rpc"], "405", "over a WebSocket"),
        (vec!["http://nonnet/rpc?method=transact"], "405", "Allowed here: POST"),
        (vec!["http://nonnet/"], "404", "/rpc (JSON-RPC 2.0)"),
        (vec!["-d", "{}", "http://nonnet/rpc"], "415", "application/json"),
    ] {
        let answer = curl(&server, &arguments);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(body.contains(says), "{answer}");
        for header in [
            "content-security-policy: default-src 'none'; frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
        ] {
            assert!(head.contains(header), "{header}: {head}");
        }
        assert!(!head.contains("access-control"), "{head}");
    }
}

#[test]
fn body_beyond_the_limit_of_a_message_is_refused() {
    let server = start(&[]);
    let body = server.directory().join("body");
    let text = json!({"jsonrpc": "2.0", "id": 1, "method": "echo", "params": ["x".repeat(16 * 1024 * 1024)]});
    std::fs::write(&body, text.to_string()).unwrap();
    let data = format!("@{}", body.display());
    let answer = curl(
        &server,
        &[
            "-H",
            "content-type: application/json",
            "-H",
            "expect:",
            "--data-binary",
            &data,
            "http://nonnet/rpc",
        ],
    );
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn params_nested_too_deep_are_refused_and_the_connection_goes_on() {
    let server = start(&[]);
    let mut web = WebSocket::connect(&socket(&server));
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let text = format!(r#"{{"jsonrpc":"2.0","id":9,"method":"echo","params":{}}}"#, deep(2000));
    let sender = &mut web.sender;
    web.runtime.block_on(async {
        sender.send_text(text).await.unwrap();
        sender.flush().await.unwrap();
    });
    let reply = web.receive().unwrap();
    assert_eq!(reply["error"]["code"], -32602, "{reply}");
    assert_eq!(web.call("echo", &json!([1]))["result"], json!([1]));
}

#[test]
fn server_stops_cleanly_under_open_websockets() {
    let mut server = start(&[]);
    let mut web = WebSocket::connect(&socket(&server));
    web.subscribe(&json!(1));
    let mut waiting = WebSocket::connect(&socket(&server));
    waiting.send(
        "transact",
        &json!(["things", {"op": "wait", "table": "t", "where": [], "columns": ["n"], "until": "==", "rows": [{"n": 1}]}]),
    );
    let mut silent = WebSocket::connect(&socket(&server));
    let began = Instant::now();
    assert_eq!(server.stop().unwrap(), Some(0), "{}", server.stderr());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(!socket(&server).exists());
    assert_eq!(web.receive(), None);
    assert_eq!(silent.receive(), None);
    assert!(waiting.receive().is_none_or(|reply| reply["error"].is_object()));
}

#[test]
fn server_stops_under_a_websocket_that_does_not_read() {
    let mut server = start(&["--durability=on-request"]);
    let mut web = WebSocket::connect(&socket(&server));
    web.send("monitor_cond", &json!(["things", 1, {"t": [{"columns": ["name"]}]}]));
    let mut client = server.connect().unwrap();
    let row = json!({"name": "x".repeat(1_000_000)});
    for _ in 0..8 {
        client
            .transact("things", &[json!({"op": "insert", "table": "t", "row": row})])
            .unwrap();
    }
    assert_eq!(server.stop().unwrap(), Some(0), "{}", server.stderr());
    assert!(!socket(&server).exists());
}

#[test]
fn tcp_address_is_refused_with_the_reason() {
    let nonnetd = program::ours("nonnetd").unwrap();
    let output = program::run(&nonnetd, &["--http", "127.0.0.1:6680"], b"").unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("unix:PATH only") && text.contains("token"), "{text}");
}
