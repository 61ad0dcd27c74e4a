//! `nonnetd`'s stream: framing, half-close, explanations before the end, and limits, over a real socket and with real programs.

use std::path::Path;
use std::time::{Duration, Instant};

use nonnet_tests::case;
use nonnet_tests::program;
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::{Client, Session};
use serde_json::{Value, json};

/// Bytes of the largest message.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Containers inside each other, the message itself included.
const DEPTH_MAX: usize = 1000;

const ECHO: &str = r#"{"id":1,"method":"echo","params":["a {b} [c] \"d\" \\"]}"#;

fn start() -> Server {
    Server::start(Kind::Nonnetd, &case::schema("things").unwrap()).unwrap()
}

fn wait_for_name(name: &str, timeout_ms: u32) -> String {
    json!({"id": "w", "method": "transact", "params": ["things",
        {"op": "wait", "table": "t", "where": [["name", "==", name]], "columns": ["name"], "until": "==",
         "rows": [{"name": name}], "timeout": timeout_ms}]})
    .to_string()
}

fn insert(name: &str) -> Value {
    json!({"op": "insert", "table": "t", "row": {"name": name}})
}

/// Sends bytes, ends the sending side, and returns all that comes back.
fn exchange(server: &Server, bytes: &[u8]) -> String {
    let mut client = server.connect().unwrap();
    client.send_bytes(bytes).unwrap();
    client.half_close().unwrap();
    String::from_utf8(client.receive_bytes_to_end().unwrap()).unwrap()
}

/// Asserts that the stream ends after exactly one line that explains.
fn assert_explained(text: &str, received: &str) {
    assert!(received.ends_with('\n'), "{text:?} was answered by {received:?}");
    assert_eq!(received.lines().count(), 1, "{text:?} was answered by {received:?}");
    let message: Value = serde_json::from_str(received).unwrap();
    assert_eq!(message["id"], Value::Null, "{message}");
    assert_eq!(message.get("result"), Some(&Value::Null), "{message}");
    assert_eq!(message["error"]["error"], "syntax error", "{message}");
    assert!(
        message["error"]["details"]
            .as_str()
            .is_some_and(|details| !details.is_empty()),
        "{message}"
    );
}

#[test]
fn a_message_may_be_cut_anywhere() {
    let server = start();
    let mut other = server.connect().unwrap();
    let mut client = server.connect().unwrap();
    for cut in 1..ECHO.len() {
        client.send(&ECHO[..cut]).unwrap();
        // The other session's answer shows that the server had a turn in between.
        other.call("echo", &json!([])).unwrap();
        client.send(&ECHO[cut..]).unwrap();
        assert_eq!(
            client.receive().unwrap()["result"],
            json!(["a {b} [c] \"d\" \\"]),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let server = start();
    let mut client = server.connect().unwrap();
    for byte in ECHO.bytes() {
        client.send_bytes(&[byte]).unwrap();
    }
    assert_eq!(client.receive().unwrap()["id"], 1);
}

#[test]
fn many_messages_in_one_read_are_answered_in_order() {
    let server = start();
    let mut client = server.connect().unwrap();
    let text: String = (0..300)
        .map(|id| json!({"id": id, "method": "echo", "params": [id]}).to_string() + [" ", "", "\n"][id % 3])
        .collect();
    client.send(&text).unwrap();
    for id in 0..300 {
        assert_eq!(client.receive().unwrap()["id"], id);
    }
}

#[test]
fn a_pipelined_transaction_comes_before_its_select() {
    let server = start();
    let mut client = server.connect().unwrap();
    let mut text = String::new();
    for id in 0..100 {
        text += &json!({"id": id, "method": "transact", "params": ["things", insert("p")]}).to_string();
    }
    text += r#"{"id":"s","method":"transact","params":["things",{"op":"select","table":"t","where":[],"columns":["_uuid"]}]}"#;
    client.send(&text).unwrap();
    let reply = client.reply_to(&json!("s")).unwrap();
    assert_eq!(reply["result"][0]["rows"].as_array().unwrap().len(), 100);
    assert_eq!(client.notifications.len(), 100);
}

#[test]
fn a_half_closed_session_gets_every_reply_and_then_the_end() {
    let server = start();
    let text: String = (0..50)
        .map(|id| json!({"id": id, "method": "transact", "params": ["things", insert("h")]}).to_string())
        .collect();
    let received = exchange(&server, text.as_bytes());
    assert_eq!(received.matches("\"uuid\"").count(), 100, "{received}");
}

#[test]
fn a_half_closed_session_still_gets_the_reply_of_its_wait() {
    let server = start();
    let mut waiting = server.connect().unwrap();
    waiting.send(&wait_for_name("late", 15_000)).unwrap();
    waiting.half_close().unwrap();
    let mut other = server.connect().unwrap();
    other.call("echo", &json!([])).unwrap();
    other.transact("things", &[insert("late")]).unwrap();
    let received: Value = serde_json::from_slice(&waiting.receive_bytes_to_end().unwrap()).unwrap();
    assert_eq!(received["id"], "w");
    assert_eq!(received["result"], json!([{}]));
}

#[test]
fn a_half_closed_session_gets_the_timeout_of_its_wait() {
    let server = start();
    let received = exchange(&server, wait_for_name("never", 100).as_bytes());
    assert!(received.contains("timed out"), "{received}");
}

#[test]
fn a_half_closed_monitor_gets_its_rows_and_then_the_end() {
    let server = start();
    server.connect().unwrap().transact("things", &[insert("m")]).unwrap();
    let received = exchange(
        &server,
        br#"{"id":1,"method":"monitor","params":["things",null,{"t":{"columns":["name"]}}]}"#,
    );
    assert!(received.contains(r#""name":"m""#), "{received}");
}

#[test]
fn netcat_and_socat_print_the_reply_and_exit() {
    let server = start();
    let request = format!("{ECHO}\n");
    let netcat = program::system("nc").unwrap();
    let socat = program::system("socat").unwrap();
    let address = format!("UNIX-CONNECT:{}", server.socket().display());
    let socket = server.socket();
    let answers = [
        program::succeed(
            &netcat,
            &["-N".as_ref(), "-U".as_ref(), socket.as_os_str()],
            request.as_bytes(),
        )
        .unwrap(),
        program::succeed(&socat, &["-", &address], request.as_bytes()).unwrap(),
    ];
    for answer in answers {
        assert!(answer.ends_with("}\n"), "{answer:?}");
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["id"], 1);
    }
}

#[test]
fn netcat_gets_the_reply_of_a_blocked_wait() {
    let server = start();
    let netcat = program::system("nc").unwrap();
    let socket = server.socket();
    let request = wait_for_name("never", 150) + "\n";
    let answer = program::succeed(
        &netcat,
        &["-N".as_ref(), "-U".as_ref(), socket.as_os_str()],
        request.as_bytes(),
    )
    .unwrap();
    assert!(answer.contains("timed out"), "{answer}");
}

#[test]
fn a_reply_ends_in_a_newline_when_the_request_did() {
    let server = start();
    let reply = exchange(&server, ECHO.as_bytes());
    assert!(reply.ends_with('}'), "{reply:?}");
    assert_eq!(exchange(&server, format!("{ECHO}\n").as_bytes()), format!("{reply}\n"));
    assert_eq!(
        exchange(&server, format!("{ECHO}\n{ECHO}\n").as_bytes()),
        format!("{reply}\n{reply}\n")
    );
    assert_eq!(
        exchange(&server, format!("{ECHO}{ECHO}").as_bytes()),
        format!("{reply}{reply}")
    );
}

#[test]
fn operations_may_come_nested_in_an_array() {
    let server = start();
    let nested = r#"{"jsonrpc":"2.0","method":"transact","params":["things",[{"op":"insert","table":"t","row":{"name":"n"}},{"op":"select","table":"t","where":[],"columns":["name"]}]],"id":1}"#;
    let received = exchange(&server, nested.as_bytes());
    let reply: Value = serde_json::from_str(&received).unwrap();
    assert_eq!(reply["result"][1], json!({"rows": [{"name": "n"}]}), "{received}");
    assert!(!received.contains("jsonrpc"), "{received}");
    let flat =
        r#"{"method":"transact","params":["things",{"op":"select","table":"t","where":[],"columns":["name"]}],"id":1}"#;
    let nested = r#"{"method":"transact","params":["things",[{"op":"select","table":"t","where":[],"columns":["name"]}]],"id":1}"#;
    assert_eq!(exchange(&server, flat.as_bytes()), exchange(&server, nested.as_bytes()));
}

#[test]
fn malformed_input_is_explained_before_the_end() {
    let server = start();
    let mut other = server.connect().unwrap();
    for text in [
        "not json\n",
        "}\n",
        "[1,2]\n",
        "\"text\"\n",
        "5\n",
        "{\"id\":1,}\n",
        "{\"id\":1 \"method\":\"echo\"}\n",
        "{\"id\":01}\n",
        "{\"id\":\"\u{1}\"}\n",
        "{\"id\":1,\"method\":\"echo\"}\n",
        "{\"id\":1,\"params\":[]}\n",
        "{\"id\":1,\"method\":5,\"params\":[]}\n",
        "{\"id\":1,\"method\":\"echo\",\"params\":{}}\n",
        "{\"id\":1,\"method\":\"echo\",\"params\":[],\"result\":5}\n",
        "{\"id\":1,\"result\":5}\n",
        "{}\n",
    ] {
        let mut client = server.connect().unwrap();
        client.send(text).unwrap();
        let received = String::from_utf8(client.receive_bytes_to_end().unwrap()).unwrap();
        assert_explained(text, &received);
        assert_eq!(
            other.call("echo", &json!(["alive"])).unwrap()["result"],
            json!(["alive"])
        );
    }
}

#[test]
fn requests_before_malformed_input_are_answered() {
    let server = start();
    let mut client = server.connect().unwrap();
    client.send(&format!("{ECHO}\nrubbish\n")).unwrap();
    let received = String::from_utf8(client.receive_bytes_to_end().unwrap()).unwrap();
    let (first, second) = received.split_once('\n').unwrap();
    assert_eq!(serde_json::from_str::<Value>(first).unwrap()["id"], 1);
    assert_explained("rubbish", second);
}

#[test]
fn an_http_request_is_told_what_this_socket_is() {
    let server = start();
    let curl = program::system("curl").unwrap();
    for arguments in [
        &["http://localhost/"][..],
        &["-d", "{}", "http://localhost/x"],
        &["-X", "PUT", "http://localhost/"],
    ] {
        let mut command: Vec<String> = ["-s", "-S", "-m", "10", "-w", "\n%{http_code}", "--unix-socket"]
            .map(str::to_owned)
            .to_vec();
        command.push(server.socket().display().to_string());
        command.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let answer = program::succeed(&curl, &command, b"").unwrap();
        let (body, status) = answer.rsplit_once('\n').unwrap();
        assert_eq!(status, "400", "{answer}");
        assert!(body.contains("OVSDB"), "{answer}");
    }
}

#[test]
fn the_largest_message_is_taken_and_a_larger_one_is_refused() {
    let server = start();
    let mut other = server.connect().unwrap();
    let frame = json!({"id": 1, "method": "echo", "params": [""]}).to_string();
    let message = |bytes: usize| frame.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - frame.len())));
    let mut client = server.connect().unwrap();
    client.send(&message(MESSAGE_BYTES_MAX)).unwrap();
    assert_eq!(
        client.receive_text().unwrap().matches('x').count(),
        MESSAGE_BYTES_MAX - frame.len()
    );
    let mut client = server.connect().unwrap();
    // The server may close before it has read everything.
    let sent = client.send(&message(MESSAGE_BYTES_MAX + 1));
    let received = client.receive_bytes_to_end().unwrap();
    if sent.is_ok() || !received.is_empty() {
        assert_explained("a message too large", &String::from_utf8(received).unwrap());
    }
    assert_eq!(other.call("echo", &json!([])).unwrap()["result"], json!([]));
}

#[test]
fn an_endless_string_is_refused_at_the_limit() {
    let server = start();
    let mut client = server.connect().unwrap();
    client.send("{\"id\":\"").unwrap();
    let chunk = vec![b'y'; 1024 * 1024];
    let deadline = Instant::now() + Duration::from_secs(10);
    while client.send_bytes(&chunk).is_ok() {
        assert!(Instant::now() < deadline, "an endless string is read for ever");
    }
    let memory = resident_kibibytes(&server);
    assert!(
        memory < 128 * 1024,
        "one endless string made the server grow to {memory} KiB"
    );
    assert_eq!(
        server.connect().unwrap().call("echo", &json!([])).unwrap()["result"],
        json!([])
    );
}

fn resident_kibibytes(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn the_deepest_message_is_taken_and_a_deeper_one_is_refused() {
    let server = start();
    // The message and its params are two containers.
    let message = |depth: usize| {
        format!(
            r#"{{"id":1,"method":"echo","params":[{}{}]}}"#,
            "[".repeat(depth - 2),
            "]".repeat(depth - 2)
        )
    };
    let reply = exchange(&server, message(DEPTH_MAX).as_bytes());
    assert_eq!(reply.matches('[').count(), DEPTH_MAX - 1, "{reply}");
    let refused = exchange(&server, (message(DEPTH_MAX + 1) + "\n").as_bytes());
    assert_explained("a message too deep", &refused);
    let endless = exchange(&server, &vec![b'['; 100_000]);
    assert_explained("an endless array", &endless);
}

#[test]
fn params_of_real_clients_are_taken() {
    let server = start();
    let mut client = server.connect().unwrap();
    let list = client.call("list_dbs", &json!([null])).unwrap();
    assert!(list["result"].as_array().unwrap().contains(&json!("things")), "{list}");
    let schema = client
        .call(
            "get_schema",
            &json!(["_Server", "4d3a3c5e-0000-4000-8000-000000000000"]),
        )
        .unwrap();
    assert_eq!(schema["result"]["name"], "_Server");
    let id = client.call("get_server_id", &Value::Null).unwrap();
    assert!(id["result"].is_string(), "{id}");
    let monitor = json!({"databaseName": "things", "id": "x"});
    let rows = client
        .call(
            "monitor_cond",
            &json!(["things", monitor, {"t": {"columns": ["name"]}}]),
        )
        .unwrap();
    assert_eq!(rows["result"], json!({}));
    client.transact("things", &[insert("g")]).unwrap();
    assert_eq!(client.notifications[0]["params"][0], monitor);
    assert_eq!(client.notifications[0]["id"], Value::Null);
}

#[test]
fn an_error_reply_has_a_null_result_and_a_result_a_null_error() {
    let server = start();
    let failed = exchange(&server, br#"{"id":1,"method":"nosuch","params":[]}"#);
    let failed: Value = serde_json::from_str(&failed).unwrap();
    assert_eq!(failed, json!({"id": 1, "error": "unknown method", "result": null}));
    assert!(failed.as_object().unwrap().contains_key("result"));
    let done: Value = serde_json::from_str(&exchange(&server, ECHO.as_bytes())).unwrap();
    assert!(done.as_object().unwrap().contains_key("error"), "{done}");
}

#[test]
fn a_session_that_does_not_read_harms_nobody() {
    let server = start();
    let mut deaf = server.connect().unwrap();
    deaf.send(
        &json!({"id": 1, "method": "monitor", "params": ["things", null, {"t": {"columns": ["name"]}}]}).to_string(),
    )
    .unwrap();
    let mut client = server.connect().unwrap();
    let text = "z".repeat(100_000);
    for round in 0..50 {
        client
            .transact("things", &[insert(&format!("{round} {text}"))])
            .unwrap();
    }
    client
        .transact("things", &[json!({"op": "delete", "table": "t", "where": []})])
        .unwrap();
    // It finds a consistent end: every row it was told of is told gone.
    let mut rows = std::collections::BTreeSet::new();
    client.transact("things", &[insert("end")]).unwrap();
    while !rows.iter().any(|(_, name)| name == "end") {
        apply(&mut deaf, &mut rows);
    }
    assert_eq!(rows.len(), 1);
}

/// Takes one message of a `monitor` on `t` into the set of rows.
fn apply(client: &mut Client, rows: &mut std::collections::BTreeSet<(String, String)>) {
    let message = client.receive().unwrap();
    let updates = if message["method"] == "update" {
        &message["params"][1]
    } else {
        &message["result"]
    };
    let Some(table) = updates["t"].as_object() else { return };
    for (uuid, update) in table {
        rows.retain(|(known, _)| known != uuid);
        if let Some(name) = update["new"]["name"].as_str() {
            rows.insert((uuid.clone(), name.to_owned()));
        }
    }
}

#[test]
fn a_tcp_remote_listens_in_ovs_syntax() {
    let server = Server::start_with(
        Kind::Nonnetd,
        &case::schema("things").unwrap(),
        &["--remote=ptcp:0:127.0.0.1"],
    )
    .unwrap();
    let port = listening_port(&server);
    let client = program::system("ovsdb-client").unwrap();
    let list = program::succeed(&client, &["list-dbs", &format!("tcp:127.0.0.1:{port}")], b"").unwrap();
    assert!(list.lines().any(|line| line == "things"), "{list}");
}

/// The TCP port the server's process listens on, from the kernel's table.
fn listening_port(server: &Server) -> u16 {
    let pid = server.pid().unwrap();
    let inodes = socket_inodes(Path::new(&format!("/proc/{pid}/fd")));
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields[3] == "0A" && inodes.contains(&fields[9].to_owned()) {
            return u16::from_str_radix(fields[1].rsplit_once(':').unwrap().1, 16).unwrap();
        }
    }
    panic!("nonnetd listens on no TCP port: {}", server.stderr());
}

fn socket_inodes(directory: &Path) -> Vec<String> {
    std::fs::read_dir(directory)
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect()
}
