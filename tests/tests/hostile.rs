//! Hostile and broken clients on `nonnetd`: each ends as specified, in bounded memory, while an honest client goes on being served rightly.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nonnet_tests::case;
use nonnet_tests::program;
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::{Client, Session};
use serde_json::{Value, json};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Sessions that a server has at most.
const SESSIONS_MAX: usize = 10_240;

/// File descriptors of this process: the other ends of all sessions.
const FILES: u64 = SESSIONS_MAX as u64 + 1024;

const MEBIBYTE: usize = 1024 * 1024;

/// A server under attack, and a client that must not notice.
struct Siege {
    server: Server,
    honest: Client,
    /// Names that the honest client has put in.
    names: usize,
    resident_before: usize,
}

impl Siege {
    fn new() -> Self {
        let server = Server::start(Kind::Nonnetd, &case::schema("things").unwrap()).unwrap();
        let honest = server.connect().unwrap();
        let mut siege = Self {
            server,
            honest,
            names: 0,
            resident_before: 0,
        };
        siege.check_served();
        siege.resident_before = siege.resident();
        siege
    }

    /// What the honest client puts in is there, and is all that it finds.
    fn check_served(&mut self) {
        self.names += 1;
        let name = format!("honest {}", self.names);
        let results = self
            .honest
            .transact(
                "things",
                &[
                    insert(&name),
                    json!({"op": "select", "table": "t", "where": [["name", "==", name]], "columns": ["name"]}),
                ],
            )
            .unwrap();
        assert_eq!(results[1], json!({"rows": [{"name": name}]}));
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.server.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Bytes of memory that the server has in use.
    fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Asserts that the attack has cost no more than so many bytes.
    fn assert_grown_less_than(&self, bytes: usize) {
        let grown = self.resident().saturating_sub(self.resident_before);
        assert!(grown < bytes, "the server grew by {grown} bytes, more than {bytes}");
    }

    /// What a client is told that sends `bytes` and nothing more; the server may close before it has read all.
    fn told(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        read_to_end(stream)
    }
}

fn insert(name: &str) -> Value {
    json!({"op": "insert", "table": "t", "row": {"name": name}})
}

/// Everything until the server closes.
fn read_to_end(mut stream: UnixStream) -> String {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}: after {:?}", String::from_utf8_lossy(&received)),
    }
    String::from_utf8(received).unwrap()
}

/// Asserts that `received` is one line of an error whose details contain `words`.
fn assert_line(received: &str, error: &str, words: &str) {
    assert_eq!(received.matches('\n').count(), 1, "{received:?}");
    let line: Value = serde_json::from_str(received).unwrap();
    assert_eq!(line["error"]["error"], error, "{line}");
    assert!(line["error"]["details"].as_str().unwrap().contains(words), "{line}");
}

fn assert_exhausted(error: &Value, words: &str) {
    assert_eq!(error["error"], "resources exhausted", "{error}");
    assert!(error["details"].as_str().unwrap().contains(words), "{error}");
}

/// Sends requests, one id after the other, while another thread reads; gives the replies in order.
fn pipelined(siege: &Siege, requests: impl Iterator<Item = String> + Send + 'static) -> Vec<Value> {
    let stream = siege.connect();
    let mut sending = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for request in requests {
            sending.write_all(request.as_bytes()).unwrap();
        }
        sending.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let replies = read_to_end(stream);
    sender.join().unwrap();
    serde_json::Deserializer::from_str(&replies)
        .into_iter::<Value>()
        .map(Result::unwrap)
        .collect()
}

fn raise_file_limit() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft < FILES {
        setrlimit(Resource::RLIMIT_NOFILE, FILES, hard.max(FILES))
            .expect("the tests need the right to open 11,264 files: ulimit -Hn");
    }
}

#[test]
fn a_string_of_a_gibibyte_ends_at_the_limit_of_a_message() {
    let mut siege = Siege::new();
    let mut stream = siege.connect();
    stream.write_all(b"{\"id\":\"").unwrap();
    let chunk = vec![b'y'; MEBIBYTE];
    let mut sent = 0;
    while sent < 1024 && stream.write_all(&chunk).is_ok() {
        sent += 1;
        if sent % 8 == 0 {
            siege.check_served();
        }
    }
    assert_line(&read_to_end(stream), "syntax error", "longer than 16777216 bytes");
    siege.assert_grown_less_than(96 * MEBIBYTE);
    siege.check_served();
}

#[test]
fn a_message_nested_too_deep_ends_its_session() {
    let mut siege = Siege::new();
    let nested = |depth: usize| {
        format!(
            "{{\"id\":1,\"method\":\"echo\",\"params\":{}{}}}",
            "[".repeat(depth - 1),
            "]".repeat(depth - 1)
        )
    };
    assert_line(
        &siege.told(nested(1001).as_bytes()),
        "syntax error",
        "more than 1000 arrays and objects",
    );
    let mut deepest = siege.server.connect().unwrap();
    deepest.send(&nested(1000)).unwrap();
    assert!(deepest.receive_text().unwrap().contains(&"[".repeat(999)));
    siege.check_served();
}

#[test]
fn a_message_of_nothing_but_objects_is_refused_before_it_takes_the_memory() {
    let mut siege = Siege::new();
    let text = format!(
        "{{\"id\":1,\"method\":\"echo\",\"params\":[{}",
        "{\"\":0},".repeat(2_000_000)
    );
    assert_line(
        &siege.told(text.as_bytes()),
        "syntax error",
        "more objects, arrays and items",
    );
    siege.assert_grown_less_than(96 * MEBIBYTE);
    siege.check_served();
}

#[test]
fn a_million_requests_whose_replies_nobody_reads_wait_outside_and_are_all_answered() {
    const REQUESTS: usize = 1_000_000;
    let mut siege = Siege::new();
    let mut stream = siege.connect();
    let text = br#"{"id":1,"method":"echo","params":[]}"#.repeat(1000);
    stream.set_nonblocking(true).unwrap();
    let (mut sent, end) = (0, REQUESTS / 1000 * text.len());
    let mut refused_since = None;
    // The server takes nothing more for a second, although it serves others.
    while refused_since.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(1)) && sent < end {
        match stream.write(&text[sent % text.len()..]) {
            Ok(bytes) => (sent, refused_since) = (sent + bytes, None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                refused_since.get_or_insert_with(Instant::now);
                siege.check_served();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < end / 10, "{sent} bytes of requests were read, and not one reply");
    siege.assert_grown_less_than(32 * MEBIBYTE);
    stream.set_nonblocking(false).unwrap();
    let mut sending = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        while sent < end {
            let from = sent % text.len();
            sending.write_all(&text[from..]).unwrap();
            sent += text.len() - from;
        }
        sending.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let replies = read_to_end(stream);
    sender.join().unwrap();
    assert_eq!(
        replies.matches(r#"{"id":1,"result":[],"error":null}"#).count(),
        REQUESTS
    );
    siege.check_served();
}

#[test]
fn half_a_character_is_no_message_and_two_halves_are_one() {
    let mut siege = Siege::new();
    let echo = b"{\"id\":1,\"method\":\"echo\",\"params\":[\"\xc3\xa9\"]}";
    let at = echo.iter().position(|byte| *byte == 0xc3).unwrap() + 1;
    // At the end of a string.
    let without: Vec<u8> = [&echo[..at], &echo[at + 1..]].concat();
    assert_line(&siege.told(&without), "syntax error", "is not JSON");
    // In two writes.
    let mut client = siege.server.connect().unwrap();
    client.send_bytes(&echo[..at]).unwrap();
    siege.check_served();
    client.send_bytes(&echo[at..]).unwrap();
    assert_eq!(client.receive().unwrap()["result"], json!(["\u{e9}"]));
    // At the end of the stream.
    let mut stream = siege.connect();
    stream.write_all(&echo[..at]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_line(
        &read_to_end(stream),
        "syntax error",
        "the stream ended inside the message",
    );
    siege.check_served();
}

#[test]
fn ten_thousand_sessions_are_served_and_the_one_too_many_is_told() {
    raise_file_limit();
    let mut siege = Siege::new();
    let mut sessions: Vec<UnixStream> = (1..SESSIONS_MAX).map(|_| siege.connect()).collect();
    // All of them are sessions, not only connections.
    let request = br#"{"id":1,"method":"monitor_cond","params":["things","m",{"t":[{"columns":["name"],"where":[["name","==","seen"]]}]}]}"#;
    for session in &mut sessions {
        session.write_all(request).unwrap();
    }
    let mut buffer = [0; 512];
    for session in &mut sessions {
        let bytes = session.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..bytes], br#"{"id":1,"result":{},"error":null}"#);
    }
    assert_line(
        &read_to_end(siege.connect()),
        "resources exhausted",
        "maximum of 10240 sessions",
    );
    siege.check_served();
    siege.assert_grown_less_than(256 * MEBIBYTE);
    // A commit is seen by each.
    siege.honest.transact("things", &[insert("seen")]).unwrap();
    for session in &mut sessions {
        let bytes = session.read(&mut buffer).unwrap();
        assert!(buffer[..bytes].starts_with(br#"{"id":null,"method":"update2","params":["m",{"t":{"#));
        assert!(buffer[..bytes].ends_with(br#"":{"insert":{"name":"seen"}}}}]}"#));
    }
    // Who goes makes room.
    sessions.truncate(SESSIONS_MAX / 2);
    let deadline = Instant::now() + PATIENCE;
    while siege.server.connect().unwrap().call("echo", &json!([])).is_err() {
        assert!(Instant::now() < deadline, "nobody is let in again");
    }
    siege.check_served();
}

/// What a client of `monitor_cond` knows after all its messages: the names by UUID.
fn replica(messages: &[Value]) -> std::collections::BTreeMap<String, Value> {
    let mut rows = std::collections::BTreeMap::new();
    for message in messages {
        let updates = if message["method"] == "update2" {
            &message["params"][1]["t"]
        } else {
            &message["result"]["t"]
        };
        for (uuid, update) in updates.as_object().into_iter().flatten() {
            match update.as_object().unwrap().iter().next().unwrap() {
                (kind, _) if kind == "delete" => assert!(rows.remove(uuid).is_some(), "{message}"),
                (kind, row) if kind == "modify" => {
                    assert!(rows.insert(uuid.clone(), row["name"].clone()).is_some(), "{message}");
                }
                (_, row) => assert!(rows.insert(uuid.clone(), row["name"].clone()).is_none(), "{message}"),
            }
        }
    }
    rows
}

#[test]
fn a_thousand_monitors_that_never_read_cost_nothing_for_each_commit_and_end_right() {
    const COMMITS: usize = 3000;
    raise_file_limit();
    let mut siege = Siege::new();
    let mut deaf: Vec<Client> = (0..1000).map(|_| siege.server.connect().unwrap()).collect();
    for client in &mut deaf {
        client
            .send(r#"{"id":1,"method":"monitor_cond","params":["things","m",{"t":[{"columns":["name"]}]}]}"#)
            .unwrap();
    }
    let text = "x".repeat(300);
    let commit = move |at: usize| {
        let operation = match at % 3 {
            0 => insert(&format!("{at} {text}")),
            1 => {
                json!({"op": "update", "table": "t", "where": [["name", "==", format!("{} {text}", at - 1)]], "row": {"name": format!("{at}")}})
            }
            _ => {
                json!({"op": "delete", "table": "t", "where": [["name", "==", format!("{}", at.saturating_sub(100) / 3 * 3 + 1)]]})
            }
        };
        json!({"id": at, "method": "transact", "params": ["things", operation]}).to_string()
    };
    assert_eq!(pipelined(&siege, (0..COMMITS).map(commit)).len(), COMMITS);
    siege.check_served();
    // Each of them alone would be sent more than a mebibyte.
    siege.assert_grown_less_than(256 * MEBIBYTE);
    let select = json!({"op": "select", "table": "t", "where": [], "columns": ["_uuid", "name"]});
    siege.honest.transact("things", &[insert("end")]).unwrap();
    let results = siege.honest.transact("things", &[select]).unwrap();
    let rows = results[0]["rows"].as_array().unwrap().iter();
    let expected = rows
        .map(|row| (row["_uuid"][1].as_str().unwrap().to_owned(), row["name"].clone()))
        .collect();
    for mut client in deaf.into_iter().step_by(100) {
        let mut messages = Vec::new();
        loop {
            let text = client.receive_text().unwrap();
            let is_last = text.contains("\"name\":\"end\"");
            messages.push(serde_json::from_str(&text).unwrap());
            if is_last {
                break;
            }
        }
        assert!(messages.len() < COMMITS, "nothing was merged");
        assert_eq!(replica(&messages), expected);
    }
}

#[test]
fn ovsdb_client_that_was_stopped_for_five_thousand_commits_ends_with_the_right_rows() {
    let mut siege = Siege::new();
    let output = siege.server.directory().join("monitor.csv");
    let mut child = program::tied(&program::system("ovsdb-client").unwrap())
        .unwrap()
        .args([
            "--format=csv",
            "--no-headings",
            "monitor",
            &siege.server.remote(),
            "things",
            "t",
            "name",
        ])
        .stdout(std::fs::File::create(&output).unwrap())
        .spawn()
        .unwrap();
    let printed = |word: &str| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(&output).unwrap();
            if text.contains(word) {
                return text;
            }
            assert!(
                Instant::now() < deadline,
                "{word} was not printed, only {} bytes",
                text.len()
            );
            std::thread::sleep(program::POLL_INTERVAL);
        }
    };
    printed("honest 1");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    let text = "z".repeat(400);
    let commit = move |at: usize| {
        let operation = match at {
            0..50 => insert(&format!("{at}")),
            _ => {
                json!({"op": "update", "table": "t", "where": [["name", "==", if at < 100 { format!("{}", at - 50) } else { format!("{} {text}", at - 50) }]],
                "row": {"name": format!("{at} {text}")}})
            }
        };
        json!({"id": at, "method": "transact", "params": ["things", operation]}).to_string()
    };
    assert_eq!(pipelined(&siege, (0..5000).map(commit)).len(), 5000);
    siege.honest.transact("things", &[insert("the end")]).unwrap();
    siege.assert_grown_less_than(64 * MEBIBYTE);
    kill(pid, Signal::SIGCONT).unwrap();
    let text = printed("the end");
    kill(pid, Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    let (mut rows, mut changed) = (std::collections::BTreeMap::new(), "");
    for line in text.lines().filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.split(',').collect();
        let [uuid, action, name] = fields[..] else {
            panic!("{line}")
        };
        // A new row stands below its old one and has no UUID of its own.
        changed = if uuid.is_empty() { changed } else { uuid };
        let uuid = changed;
        match action {
            "initial" | "insert" => assert!(rows.insert(uuid.to_owned(), name.to_owned()).is_none(), "{line}"),
            "new" => drop(rows.insert(uuid.to_owned(), name.to_owned())),
            "old" => {}
            "delete" => assert!(rows.remove(uuid).is_some(), "{line}"),
            other => panic!("{other} in {line}"),
        }
    }
    let select = json!({"op": "select", "table": "t", "where": [], "columns": ["name"]});
    let results = siege.honest.transact("things", &[select]).unwrap();
    let mut expected: Vec<String> = results[0]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect();
    let mut found: Vec<String> = rows
        .into_values()
        .map(|name| name.trim_matches('"').to_owned())
        .collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn messages_that_never_arrive_whole_share_a_bounded_memory() {
    const SESSIONS: usize = 24;
    let mut siege = Siege::new();
    let part = [b"{\"id\":\"", vec![b'x'; 15 * MEBIBYTE].as_slice()].concat();
    let mut slow: Vec<UnixStream> = (0..SESSIONS)
        .map(|_| {
            let mut stream = siege.connect();
            stream.write_all(&part).unwrap();
            stream
        })
        .collect();
    siege.check_served();
    // Byte after byte still comes from the newest.
    for stream in &mut slow[SESSIONS - 8..] {
        stream.write_all(b"x").unwrap();
    }
    let newest = slow.split_off(SESSIONS - 8);
    assert_line(
        &read_to_end(slow.remove(0)),
        "resources exhausted",
        "have not arrived whole",
    );
    siege.assert_grown_less_than(320 * MEBIBYTE);
    // Who sends a long message in one go gets it through meanwhile.
    let long = "l".repeat(10 * MEBIBYTE);
    assert_eq!(
        siege.honest.call("echo", &json!([long])).unwrap()["result"][0]
            .as_str()
            .unwrap()
            .len(),
        long.len()
    );
    siege.check_served();
    drop((slow, newest));
}

#[test]
fn arrays_of_a_million_clauses_columns_and_rows_are_answered_or_refused() {
    let mut siege = Siege::new();
    let rows: Vec<Value> = (0..1000).map(|at| insert(&format!("row {at}"))).collect();
    siege.honest.transact("things", &rows).unwrap();
    let mut client = siege.server.connect().unwrap();
    let mut transact = |operation: Value| client.transact("things", &[operation]).unwrap()[0].clone();
    let clauses = vec![json!(true); 1_000_000];
    let refused = transact(json!({"op": "select", "table": "t", "where": clauses}));
    assert_exhausted(&refused, "would compare or change rows");
    let columns = vec![json!("name"); 500_000];
    let refused = transact(json!({"op": "select", "table": "t", "where": [], "columns": columns}));
    assert_eq!(refused["error"], "syntax error", "{:.300}", refused.to_string());
    let mutations = vec![json!(["s", "insert", ["set", ["a"]]]); 300_000];
    let refused = transact(json!({"op": "mutate", "table": "t", "where": [], "mutations": mutations}));
    assert_exhausted(&refused, "would compare or change rows");
    let rows: Vec<Value> = (0..100_000).map(|at| json!({"name": format!("{at}")})).collect();
    let wait = json!({"op": "wait", "table": "t", "where": [], "columns": ["name"], "until": "==", "rows": rows});
    let mut timed = wait.clone();
    timed["timeout"] = json!(0);
    assert_eq!(transact(timed)["error"], "timed out");
    let reply = client.call("transact", &json!(["things", wait])).unwrap();
    assert_exhausted(&reply["error"], "a transaction that waits may take");
    siege.check_served();
}

#[test]
fn a_transaction_of_giant_results_or_changes_is_refused() {
    let mut siege = Siege::new();
    let name = "n".repeat(100_000);
    let rows: Vec<Value> = (0..100).map(|at| insert(&format!("{at} {name}"))).collect();
    siege.honest.transact("things", &rows).unwrap();
    let mut client = siege.server.connect().unwrap();
    let select = json!({"op": "select", "table": "t", "where": [], "columns": ["_uuid", "name"]});
    assert_eq!(
        client.transact("things", std::slice::from_ref(&select)).unwrap()[0]["rows"]
            .as_array()
            .unwrap()
            .len(),
        101
    );
    // Ten megabytes, a thousand times.
    let results = client.transact("things", &vec![select; 1000]).unwrap();
    assert_eq!(results.len(), 1000);
    assert_exhausted(
        results.iter().find(|result| !result["error"].is_null()).unwrap(),
        "selects more than 1073741824 bytes",
    );
    // Eight mebibytes in each row, shared in memory, but not in the log.
    let update = json!({"op": "update", "table": "t", "where": [], "row": {"name": "u".repeat(8 * MEBIBYTE)}});
    let results = client.transact("things", &[update]).unwrap();
    assert_exhausted(&results[1], "bytes or more to the log");
    siege.assert_grown_less_than(900 * MEBIBYTE);
    siege.check_served();
}

#[test]
fn monitors_beyond_the_limit_are_refused() {
    const REQUESTS: usize = 20_000;
    let mut siege = Siege::new();
    let request = |at: usize| {
        json!({"id": at, "method": "monitor", "params": ["things", at / 2, {"t": {"columns": []}}]}).to_string()
    };
    let replies = pipelined(&siege, (0..REQUESTS).map(request));
    assert_eq!(replies.len(), REQUESTS);
    let (good, bad): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply["error"].is_null());
    assert_eq!(good.len(), 1024);
    // Every second one bears an id that is taken.
    let count = |tag: &str| {
        bad.iter()
            .filter(|reply| reply["error"].to_string().contains(tag))
            .count()
    };
    assert_eq!(
        count("duplicate monitor ID") + count("a session may have 1024 monitors"),
        bad.len()
    );
    assert!(count("duplicate monitor ID") >= 1023);
    siege.check_served();
    siege.assert_grown_less_than(64 * MEBIBYTE);
}

#[test]
fn giant_conditions_are_refused_and_large_ones_are_served() {
    let mut siege = Siege::new();
    let clauses =
        |count: usize| -> Vec<Value> { (0..count).map(|at| json!(["name", "==", format!("n{at}")])).collect() };
    let request = |count: usize| json!({"t": [{"columns": ["name"], "where": clauses(count)}]});
    let mut client = siege.server.connect().unwrap();
    let reply = client
        .call("monitor_cond", &json!(["things", "a", request(100_000)]))
        .unwrap();
    assert_exhausted(&reply["error"], "a monitor may have 65536 clauses, not 100000");
    let reply = client
        .call("monitor_cond", &json!(["things", "a", request(20_000)]))
        .unwrap();
    assert_eq!(reply["error"], Value::Null);
    siege.honest.transact("things", &[insert("n19999")]).unwrap();
    let update = client.receive().unwrap();
    assert_eq!(update["method"], "update2");
    let change = json!({"t": [{"where": clauses(100_000)}]});
    let reply = client.call("monitor_cond_change", &json!(["a", "a", change])).unwrap();
    assert_exhausted(&reply["error"], "a monitor may have 65536 clauses, not 100000");
    siege.honest.transact("things", &[insert("n3")]).unwrap();
    assert_eq!(client.receive().unwrap()["method"], "update2");
    siege.check_served();
}

#[test]
fn locks_beyond_the_limit_are_refused() {
    const REQUESTS: usize = 100_000;
    let mut siege = Siege::new();
    let request = |at: usize| json!({"id": at, "method": "lock", "params": [format!("l{at}")]}).to_string();
    let replies = pipelined(&siege, (0..REQUESTS).map(request));
    assert_eq!(replies.len(), REQUESTS);
    assert!(
        replies[..1024]
            .iter()
            .all(|reply| reply["result"] == json!({"locked": true}))
    );
    for reply in &replies[1024..] {
        assert_exhausted(&reply["error"], "a session may hold or wait for 1024 locks");
    }
    // They have gone with their session.
    assert_eq!(
        siege.honest.call("lock", &json!(["l0"])).unwrap()["result"],
        json!({"locked": true})
    );
    let reply = siege.honest.call("lock", &json!(["n".repeat(257)])).unwrap();
    assert_exhausted(&reply["error"], "a lock's name may have 256 bytes, not 257");
    siege.check_served();
}

#[test]
fn waits_beyond_the_limit_are_refused_and_the_others_come_true() {
    let mut siege = Siege::new();
    let mut client = siege.server.connect().unwrap();
    let wait = json!({"op": "wait", "table": "t", "where": [["name", "==", "go"]], "columns": ["name"], "until": "==", "rows": [{"name": "go"}]});
    for at in 0..1001 {
        client
            .send(&json!({"id": at, "method": "transact", "params": ["things", wait]}).to_string())
            .unwrap();
    }
    let reply = client.receive().unwrap();
    assert_eq!(reply["id"], 1000);
    assert_exhausted(&reply["error"], "a session may have 1000 transactions waiting");
    siege.check_served();
    siege.honest.transact("things", &[insert("go")]).unwrap();
    for at in 0..1000 {
        let reply = client.receive().unwrap();
        assert_eq!((&reply["id"], &reply["result"]), (&json!(at), &json!([{}])));
    }
    siege.check_served();
}

#[test]
fn sessions_that_come_and_go_leave_nothing_behind() {
    let mut siege = Siege::new();
    let request = br#"{"id":1,"method":"monitor","params":["things",1,{"t":{"columns":[]}}]}{"id":2,"method":"lock","params":["l"]}"#;
    for round in 0..4000 {
        let mut stream = siege.connect();
        stream.write_all(request).unwrap();
        match round % 4 {
            0 => {
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                assert_eq!(read_to_end(stream).matches("\"error\":null").count(), 2);
            }
            // Gone before it was answered, or in the middle of a message.
            1 => drop(stream),
            2 => stream.write_all(&request[..40]).unwrap(),
            _ => {
                stream.write_all(&request[..40]).unwrap();
                stream.shutdown(std::net::Shutdown::Both).unwrap();
            }
        }
    }
    siege.check_served();
    let deadline = Instant::now() + PATIENCE;
    while siege.honest.call("lock", &json!(["l"])).unwrap()["result"] != json!({"locked": true}) {
        siege.honest.call("unlock", &json!(["l"])).unwrap();
        assert!(Instant::now() < deadline, "a session that is gone holds a lock");
    }
    siege.assert_grown_less_than(32 * MEBIBYTE);
}
