//! `nonnet`, the command line, with a real nonnetd: what its users type, what they read, and how it ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test panics"
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nonnet_tests::program;
use nonnet_tests::server::{Kind, Server};
use serde_json::{Value, json};

/// The socket whose name tells the file, relative to the server's directory.
const SOCKET: &str = "test.db.sock";

/// How long a server may take to commit what is its own.
const FIRST_COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the seed prints for its first container, as far as it is true here.
const CREATED_100: [&str; 3] = [
    "Created container 100",
    "Renamed veth to vi100",
    "Container 100 joins netmaker",
];

/// A server of `OpNonNet` with `--kernel off`.
fn server() -> Result<Server> {
    let schema = std::fs::read_to_string(program::repository().join("schema/schemas/nonnet.ovsschema"))?;
    let remote = format!("--remote=punix:{SOCKET}");
    let server = Server::start_with(Kind::Nonnetd, &serde_json::from_str(&schema)?, &[&remote])?;
    // The server's own first commit, the row of the host, may come after it began to answer.
    let deadline = Instant::now() + FIRST_COMMIT_TIMEOUT;
    while head(&server)? == 0 {
        ensure!(Instant::now() < deadline, "the server did not commit its host row");
    }
    Ok(server)
}

/// Runs `nonnet` in the server's directory.
fn nonnet(server: &Server, arguments: &[&str], input: &str) -> Result<Output> {
    let mut command = program::tied(&program::ours("nonnet")?)?;
    command
        .current_dir(server.directory())
        .env("NONNET_SOCKET", SOCKET)
        .env("XDG_STATE_HOME", server.directory().join("state"))
        .args(arguments);
    program::run_command(&mut command, input.as_bytes())
}

/// Runs `nonnet`, which must end with that code, and returns its standard output and its standard error.
fn check(server: &Server, arguments: &[&str], input: &str, code: i32) -> Result<(String, String)> {
    let output = nonnet(server, arguments, input)?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    ensure!(
        output.status.code() == Some(code),
        "{arguments:?} ended with {}: {out}{err}",
        output.status
    );
    Ok((out, err))
}

fn json_of(server: &Server, arguments: &[&str]) -> Result<Value> {
    let (out, _) = check(server, arguments, "", 0)?;
    serde_json::from_str(&out).with_context(|| out)
}

/// The number of the newest record of the log.
fn head(server: &Server) -> Result<u64> {
    let report = json_of(server, &["verify", "--format", "json"])?;
    report["seq"].as_u64().with_context(|| report.to_string())
}

fn block(name: &str) -> Result<String> {
    let path = program::repository().join("tools/nonnet/tests/data").join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// A state file with that many containers, each with a bridge of its own name.
fn containers(count: usize) -> String {
    let containers: Vec<Value> = (0..count).map(|at| json!({"id": at.to_string()})).collect();
    json!({"version": 1, "plugins": {"lxc": {"containers": containers}}}).to_string()
}

fn write(server: &Server, name: &str, content: &str) -> Result<()> {
    Ok(std::fs::write(server.directory().join(name), content)?)
}

#[test]
fn a_state_file_becomes_rows_and_a_second_run_commits_nothing() -> Result<()> {
    let server = server()?;
    write(&server, "state.json", &block("seed-000-block0.json")?)?;
    let before = head(&server)?;
    let (out, _) = check(&server, &["apply", "state.json"], "", 0)?;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..3], CREATED_100);
    let head_line = check(&server, &["verify"], "", 0)?.0;
    let footprint = lines[3]
        .strip_prefix("Blockchain footprint recorded: ")
        .context(out.clone())?;
    assert!(
        head_line
            .lines()
            .next()
            .is_some_and(|line| line.ends_with(&format!("head {footprint}"))),
        "{head_line}{footprint}"
    );
    assert_eq!(head(&server)?, before + 1);
    let (out, _) = check(&server, &["apply", "state.json"], "", 0)?;
    assert_eq!(out, "Nothing to change: everything is as the file says\n");
    assert_eq!(head(&server)?, before + 1);
    Ok(())
}

#[test]
fn query_prints_what_was_declared() -> Result<()> {
    let server = server()?;
    check(&server, &["apply", "-"], &block("seed-000-block0.json")?, 0)?;
    let expected: Value = serde_json::from_str(&block("seed-000-expected-query.json")?)?;
    let (printed, _) = check(&server, &["query", "--plugin", "lxc"], "", 0)?;
    assert_eq!(serde_json::from_str::<Value>(&printed)?, expected);
    // In the order of the seed, for those who read it.
    let at = |name: &str| printed.find(&format!("\"{name}\"")).expect(name);
    assert!(at("id") < at("veth") && at("veth") < at("bridge") && at("bridge") < at("running"));
    check(&server, &["diff", "-"], &printed, 0)?;
    Ok(())
}

#[test]
fn two_documents_in_one_file_are_applied_as_one_commit() -> Result<()> {
    let server = server()?;
    let both = format!("{}{}", block("seed-000-block0.json")?, block("seed-000-block2.json")?);
    let before = head(&server)?;
    let (out, _) = check(&server, &["apply", "-"], &both, 0)?;
    assert!(
        out.contains("Created container 100") && out.contains("Created container 102"),
        "{out}"
    );
    assert_eq!(head(&server)?, before + 1);
    Ok(())
}

#[test]
fn a_comma_too_much_is_told_by_line_and_column() -> Result<()> {
    let server = server()?;
    let before = head(&server)?;
    let state = "{\n  \"version\": 1,\n  \"plugins\": {\n    \"bridges\": [{\"name\": \"br0\"},]\n  }\n}\n";
    write(&server, "state.json", state)?;
    let (out, err) = check(&server, &["apply", "state.json"], "", 1)?;
    assert_eq!(out, "");
    assert!(
        err.starts_with("nonnet: state.json:4:32: a comma too much: nothing follows it\n"),
        "{err}"
    );
    assert!(
        err.contains("    4 |     \"bridges\": [{\"name\": \"br0\"},]\n"),
        "{err}"
    );
    let (_, err) = check(&server, &["diff", "-"], "{\"id\": \"1\", // one\n}", 2)?;
    assert!(
        err.starts_with("nonnet: standard input:1:13: JSON has no comments"),
        "{err}"
    );
    assert_eq!(head(&server)?, before);
    Ok(())
}

#[test]
fn an_unknown_plugin_is_refused_by_its_name() -> Result<()> {
    let server = server()?;
    let before = head(&server)?;
    let state = r#"{"version": 1, "plugins": {"bridges": [{"name": "br0"}], "systemd": {"units": {}}}}"#;
    let (_, err) = check(&server, &["apply", "-"], state, 1)?;
    assert!(
        err.starts_with("nonnet: standard input: plugin \"systemd\" is not supported yet; supported are"),
        "{err}"
    );
    assert_eq!(head(&server)?, before);
    check(&server, &["apply", "-", "--plugin", "bridges"], state, 0)?;
    Ok(())
}

#[test]
fn diff_tells_by_its_exit_code() -> Result<()> {
    let server = server()?;
    write(&server, "state.json", &block("seed-000-block1.json")?)?;
    let (out, _) = check(&server, &["diff", "state.json"], "", 1)?;
    let properties = "properties {ipv4=192.168.1.101/24, network_type=bridge}";
    assert_eq!(
        out,
        format!("+ lxc 101: bridge vmbr0, {properties}, running true, veth vi101\n")
    );
    check(&server, &["apply", "state.json"], "", 0)?;
    assert_eq!(check(&server, &["diff", "state.json"], "", 0)?.0, "");
    let changed = r#"{"id": "101", "bridge": "vmbr1"}"#;
    assert_eq!(
        check(&server, &["diff", "-"], changed, 1)?.0,
        "~ lxc 101: bridge vmbr0 -> vmbr1\n"
    );
    let output = nonnet(&server, &["diff", "-", "--format", "json"], changed)?;
    let change = json!({"action": "modify", "table": "lxc", "row": "101", "columns": {"bridge": {"old": "vmbr0", "new": "vmbr1"}}});
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout)?,
        json!({"changes": [change]})
    );
    // Nobody looks after the kernel here.
    let (out, _) = check(&server, &["diff", "state.json", "--live"], "", 1)?;
    assert!(out.starts_with("! lxc 101: "), "{out}");
    let (_, err) = check(&server, &["diff", "absent.json"], "", 2)?;
    assert!(err.starts_with("nonnet: absent.json: cannot be read"), "{err}");
    Ok(())
}

#[test]
fn a_whole_host_is_described_and_described_again() -> Result<()> {
    let server = server()?;
    let host = |gateway: &str| {
        let route = json!({"destination": "10.9.0.0/16", "gateway": gateway});
        let lan = json!({
            "name": "lan", "bridge": "br0", "subnets": {"10.44.0.0/24": "10.44.0.1"}, "ipam": "sequential", "routes": [route],
        });
        let web = json!({"name": "web0", "network": "lan", "netns": "web"});
        json!({"version": 1, "plugins": {"networks": [lan], "ports": [web], "bridges": [{"name": "br0", "mtu": 1400}]}})
            .to_string()
    };
    let (out, _) = check(&server, &["apply", "-"], &host("10.44.0.254"), 0)?;
    let lines: Vec<&str> = out.lines().take(3).collect();
    assert_eq!(
        lines,
        ["Created bridge br0", "Created network lan", "Created port web0"]
    );
    check(&server, &["diff", "-"], &host("10.44.0.254"), 0)?;
    let (out, _) = check(&server, &["apply", "-"], &host("10.44.0.253"), 0)?;
    assert!(out.starts_with("Changed network lan: routes "), "{out}");
    let rows = json_of(
        &server,
        &["query", "networks", "--columns", "bridge,routes", "--format", "json"],
    )?;
    assert_eq!(rows[0]["bridge"], json!("br0"));
    assert_eq!(
        rows[0]["routes"],
        json!([{"destination": "10.9.0.0/16", "gateway": "10.44.0.253"}])
    );
    Ok(())
}

#[test]
fn dry_run_lets_the_server_speak_and_changes_nothing() -> Result<()> {
    let server = server()?;
    check(
        &server,
        &["apply", "-"],
        r#"{"version": 1, "plugins": {"bridges": [{"name": "br0"}]}}"#,
        0,
    )?;
    let before = head(&server)?;
    let block = block("seed-000-block0.json")?;
    let (out, _) = check(&server, &["apply", "-", "--dry-run"], &block, 0)?;
    assert!(
        out.starts_with("+ lxc 100: ") && out.ends_with("nothing was changed\n"),
        "{out}"
    );
    let long = r#"{"version": 1, "plugins": {"bridges": [{"name": "a-name-too-long-for-a-link"}]}}"#;
    let (_, of_rehearsal) = check(&server, &["apply", "-", "--dry-run"], long, 1)?;
    assert!(
        of_rehearsal.contains("15") && of_rehearsal.contains("a-name-too-long-for-a-link"),
        "{of_rehearsal}"
    );
    let overlapping = |bridge: &str| {
        let network = |name: &str, subnet: &str| json!({"name": name, "bridge": bridge, "subnets": {subnet: ""}});
        let networks = [network("one", "10.44.0.0/16"), network("two", "10.44.7.0/24")];
        json!({"version": 1, "plugins": {"networks": networks}}).to_string()
    };
    let (_, of_rehearsal) = check(&server, &["apply", "-", "--dry-run"], &overlapping("br0"), 1)?;
    let (_, of_apply) = check(&server, &["apply", "-"], &overlapping("br0"), 1)?;
    assert_eq!(of_rehearsal, of_apply);
    assert!(
        of_apply.contains("10.44.7.0/24") && of_apply.ends_with("nothing was changed\n"),
        "{of_apply}"
    );
    let (_, err) = check(&server, &["apply", "-"], &overlapping("br9"), 1)?;
    assert!(
        err.contains("plugins.networks[0].bridge: there is no \"br9\" in bridges"),
        "{err}"
    );
    assert_eq!(head(&server)?, before);
    Ok(())
}

#[test]
fn prune_deletes_only_of_the_tables_named_and_asks_for_force() -> Result<()> {
    let server = server()?;
    check(&server, &["apply", "-"], &containers(12), 0)?;
    check(
        &server,
        &["apply", "-"],
        r#"{"version": 1, "plugins": {"bridges": [{"name": "br0"}]}}"#,
        0,
    )?;
    check(&server, &["apply", "-"], &containers(0), 0)?;
    let (_, err) = check(&server, &["apply", "-", "--prune"], &containers(1), 1)?;
    assert!(
        err.contains("--prune would delete 11 containers") && err.contains("--force"),
        "{err}"
    );
    let (out, _) = check(&server, &["apply", "-", "--prune", "--force"], &containers(1), 0)?;
    assert_eq!(out.matches("Deleted container").count(), 11);
    assert_eq!(
        json_of(&server, &["query", "lxc", "--format", "json"])?
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    assert_eq!(
        json_of(&server, &["query", "bridges", "--format", "json"])?
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    Ok(())
}

#[test]
fn several_who_apply_the_same_file_at_once_commit_it_once() -> Result<()> {
    let server = server()?;
    let before = head(&server)?;
    let state = containers(20);
    let codes: Vec<Option<i32>> = std::thread::scope(|scope| {
        let run = || nonnet(&server, &["apply", "-"], &state).ok()?.status.code();
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread"))
            .collect()
    });
    assert_eq!(codes, [Some(0); 6]);
    assert_eq!(head(&server)?, before + 1);
    Ok(())
}

#[test]
fn wait_tells_when_the_kernel_does_not_follow() -> Result<()> {
    let server = server()?;
    let (out, err) = check(
        &server,
        &["apply", "-", "--wait", "0.3"],
        &block("seed-000-block0.json")?,
        1,
    )?;
    assert!(out.starts_with("Created container 100"), "{out}");
    assert!(
        err.contains("the kernel has not followed within 0.3 s") && err.contains("The commit stands"),
        "{err}"
    );
    Ok(())
}

#[test]
fn queries_have_conditions_and_columns() -> Result<()> {
    let server = server()?;
    let all = format!("{}{}", block("seed-000-block0.json")?, block("seed-000-block1.json")?);
    check(&server, &["apply", "-"], &all, 0)?;
    let ids = |condition: &str| -> Result<Vec<String>> {
        let (out, _) = check(
            &server,
            &["query", "lxc", "--where", condition, "--columns", "id"],
            "",
            0,
        )?;
        Ok(out.lines().skip(1).map(|line| line.trim().to_owned()).collect())
    };
    assert_eq!(ids("id=100")?, ["100"]);
    assert_eq!(ids("id!=100")?, ["101"]);
    assert_eq!(ids("running=true")?, ["100", "101"]);
    assert_eq!(ids("properties:network_type=bridge")?, ["101"]);
    let (_, err) = check(&server, &["query", "lxc", "--where", "ide=5"], "", 1)?;
    assert!(err.contains("the table lxc has no column \"ide\"; it has"), "{err}");
    let (_, err) = check(&server, &["query", "containers"], "", 1)?;
    assert!(err.contains("has no table \"containers\"; it has"), "{err}");
    let (out, _) = check(&server, &["query"], "", 0)?;
    assert!(out.contains("lxc:\n") && out.contains("host:\n"), "{out}");
    Ok(())
}

#[test]
fn transact_takes_operations_flat_and_nested() -> Result<()> {
    let server = server()?;
    let insert = r#"{"op":"insert","table":"bridges","row":{"name":"br0"}}"#;
    check(&server, &["transact", insert], "", 0)?;
    let request = r#"{"method":"transact","params":["OpNonNet",[{"op":"select","table":"bridges","where":[],"columns":["name"]}]],"id":1}"#;
    for (arguments, input) in [(vec!["transact", request], ""), (vec!["transact"], request)] {
        let (out, _) = check(&server, &arguments, input, 0)?;
        assert_eq!(
            serde_json::from_str::<Value>(&out)?,
            json!([{"rows": [{"name": "br0"}]}])
        );
    }
    let (out, _) = check(&server, &["transact", insert], "", 1)?;
    assert!(out.contains("constraint violation"), "{out}");
    Ok(())
}

#[test]
fn the_log_is_read_with_and_without_a_server() -> Result<()> {
    let mut server = server()?;
    write(&server, "state.json", &block("seed-000-block0.json")?)?;
    check(&server, &["apply", "state.json"], "", 0)?;
    check(&server, &["apply", "-"], r#"{"id": "100", "bridge": "br7"}"#, 0)?;
    let while_running = check(&server, &["verify", "test.db"], "", 0)?.0;
    assert!(
        while_running.contains(" records, chain sound, head "),
        "{while_running}"
    );
    let log = check(&server, &["log", "test.db"], "", 0)?.0;
    assert!(log.contains("~ lxc 100: bridge vmbr0 -> br7\n"), "{log}");
    assert!(
        log.contains("\"nonnet apply state.json\"") && log.contains(" through nonnet["),
        "{log}"
    );
    assert_eq!(server.stop()?, Some(0));
    let at_rest = check(&server, &["verify", "test.db"], "", 0)?.0;
    assert_eq!(at_rest.lines().next(), while_running.lines().next());
    // What was committed last is signed at a clean stop.
    let head = check(&server, &["head", "test.db"], "", 0)?.0;
    let records = at_rest.split(' ').next().context("the number of records")?;
    assert_eq!(head.lines().nth(1), Some(records), "{head}");
    write(&server, "head", &head)?;
    let seen = check(&server, &["verify", "test.db", "--state", "--head", "head"], "", 0)?.0;
    assert!(seen.contains(", 1 head from outside, tree "), "{seen}");
    let other = head.replace(&format!("\n{records}\n"), "\n99\n");
    write(&server, "other", &other)?;
    let (told, _) = check(&server, &["verify", "test.db", "--head", "other"], "", 1)?;
    assert!(
        told.contains("truncated or put back: the log has") && told.contains("but a head of 99 was kept outside"),
        "{told}"
    );
    for expected in [
        format!("{records} records, chain"),
        "0 records after record ".to_owned(),
    ] {
        let told = check(&server, &["verify", "test.db", "--since-my-last"], "", 0)?.0;
        assert!(told.starts_with(&expected), "{told}");
    }
    let (_, error) = check(&server, &["verify", "test.db", "--head", "state.json"], "", 2)?;
    assert!(error.contains("state.json: it is no signed note"), "{error}");
    let newest: Value =
        serde_json::from_str(&check(&server, &["log", "test.db", "-n", "1", "--format", "json"], "", 0)?.0)?;
    assert_eq!(
        newest["rows"][0]["columns"],
        json!({"bridge": {"old": "vmbr0", "new": "br7"}})
    );
    assert_eq!(newest["who"]["uid"], json!(nix::unistd::getuid().as_raw()));
    let oldest = check(&server, &["log", "test.db", "--reverse", "--limit", "1"], "", 0)?.0;
    assert!(oldest.starts_with("genesis 0 "), "{oldest}");
    let of_lxc = check(&server, &["log", "test.db", "--table", "lxc"], "", 0)?.0;
    assert_eq!(of_lxc.matches("transaction ").count(), 2, "{of_lxc}");
    Ok(())
}

#[test]
fn verify_names_an_edited_record() -> Result<()> {
    let mut server = server()?;
    check(
        &server,
        &["apply", "-"],
        r#"{"id": "100", "properties": {"hostname": "a-name-of-its-own"}}"#,
        0,
    )?;
    let faulty = head(&server)?;
    check(&server, &["apply", "-"], r#"{"id": "101"}"#, 0)?;
    server.stop()?;
    edit(&server.file(), b"a-name-of-its-own", b"b-name-of-its-own")?;
    let (out, _) = check(&server, &["verify", "test.db"], "", 1)?;
    assert!(
        out.starts_with(&format!("FAULT at record {faulty}: edited body: ")),
        "{out}"
    );
    assert!(out.contains(&format!("\nlast good head {} ", faulty - 1)), "{out}");
    let (_, err) = check(&server, &["verify", "absent.db"], "", 2)?;
    assert!(err.contains("absent.db"), "{err}");
    write(&server, "text.db", &"not a database ".repeat(1000))?;
    let (_, err) = check(&server, &["verify", "text.db"], "", 2)?;
    assert!(err.contains("is not a nonnet database"), "{err}");
    Ok(())
}

/// Does something to the log of the stopped server as only somebody with `SQLite` can, and returns what `verify` says.
fn attacked(server: &Server, attack: &str) -> Result<String> {
    for name in ["test.db", "test.db.head"] {
        let copy = name.replace("test", "copy");
        std::fs::copy(server.directory().join(name), server.directory().join(copy))?;
    }
    let path = server.directory().join("copy.db");
    let script = format!(
        "import sqlite3, sys\nfile = sqlite3.connect(sys.argv[1])\n\
         take = lambda seq: file.execute('SELECT hash, header, body FROM log WHERE seq = ?', (seq,)).fetchone()\n\
         put = lambda seq, row: file.execute('UPDATE log SET hash = ?, header = ?, body = ? WHERE seq = ?', (*row, seq))\n\
         {attack}\nfile.commit()\nfile.close()\n"
    );
    let arguments = ["-c".as_ref(), script.as_ref(), path.as_os_str()];
    program::succeed(&program::system("python3")?, &arguments, b"")?;
    let said = check(server, &["verify", "copy.db"], "", 1)?.0;
    for name in ["copy.db-wal", "copy.db-shm"] {
        let _absent = std::fs::remove_file(server.directory().join(name));
    }
    Ok(said)
}

#[test]
fn verify_tells_attacks_apart() -> Result<()> {
    let mut server = server()?;
    for id in 2..9 {
        check(&server, &["apply", "-"], &json!({"id": id.to_string()}).to_string(), 0)?;
    }
    let newest = head(&server)?;
    server.stop()?;
    let said = |attack: &str, start: &str, last_good: u64| -> Result<()> {
        let said = attacked(&server, attack)?;
        ensure!(said.starts_with(start), "{attack}: {said}");
        ensure!(
            said.contains(&format!("\nlast good head {last_good} ")),
            "{attack}: {said}"
        );
        Ok(())
    };
    said(
        "file.execute('DELETE FROM log WHERE seq = 4')",
        "FAULT at record 5: removed record: ",
        3,
    )?;
    said(
        "a, b = take(4), take(5); put(4, b); put(5, a)",
        "FAULT at record 4: reordered: ",
        3,
    )?;
    said(
        "file.execute('DELETE FROM log WHERE seq > 5')",
        "FAULT at record 5: truncated: ",
        5,
    )?;
    said(
        "file.execute('UPDATE log SET body = NULL WHERE seq = 4')",
        "FAULT at record 4: removed body: ",
        3,
    )?;
    let edited = "row = take(4); header = bytearray(row[1]); header[20] ^= 1; put(4, (row[0], bytes(header), row[2]))";
    said(edited, "FAULT at record 4: edited header: ", 3)?;
    assert_eq!(newest, 8);
    Ok(())
}

/// Replaces bytes of the log in the file, the first time they stand there.
fn edit(file: &Path, old: &[u8], new: &[u8]) -> Result<()> {
    for path in [file.to_owned(), file.with_extension("db-wal")] {
        let Ok(mut bytes) = std::fs::read(&path) else { continue };
        let places: Vec<usize> = (0..bytes.len().saturating_sub(old.len()))
            .filter(|at| bytes[*at..].starts_with(old))
            .collect();
        if places.is_empty() {
            continue;
        }
        for at in places {
            bytes[at..at + old.len()].copy_from_slice(new);
        }
        return Ok(std::fs::write(&path, bytes)?);
    }
    anyhow::bail!("the bytes stand nowhere in {}", file.display())
}

#[test]
fn monitor_prints_changes_as_they_happen() -> Result<()> {
    let server = server()?;
    check(&server, &["apply", "-"], &block("seed-000-block1.json")?, 0)?;
    let mut command = program::tied(&program::ours("nonnet")?)?;
    command.current_dir(server.directory()).env("NONNET_SOCKET", SOCKET);
    command
        .args(["monitor", "lxc", "--format", "json"])
        .stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut notes = BufReader::new(child.stderr.take().context("stderr")?);
    let mut changes = BufReader::new(child.stdout.take().context("stdout")?);
    let mut line = String::new();
    notes.read_line(&mut line)?;
    assert!(line.starts_with("nonnet: following OpNonNet at "), "{line}");
    check(&server, &["apply", "-"], r#"{"id": "101", "running": false}"#, 0)?;
    line.clear();
    changes.read_line(&mut line)?;
    child.kill()?;
    child.wait()?;
    let change: Value = serde_json::from_str(&line)?;
    assert_eq!([&change["action"], &change["row"]], [&json!("modify"), &json!("101")]);
    assert_eq!(change["columns"], json!({"running": {"old": true, "new": false}}));
    Ok(())
}

#[test]
fn nobody_to_talk_to_is_explained() -> Result<()> {
    let mut server = server()?;
    let (_, err) = check(&server, &["query", "--db", "Other"], "", 1)?;
    assert!(
        err.contains("serves no database \"Other\"; it serves OpNonNet, _Server"),
        "{err}"
    );
    server.stop()?;
    let (_, err) = check(&server, &["query"], "", 1)?;
    assert!(err.contains("test.db.sock"), "{err}");
    let (_, err) = check(&server, &["query", "--socket", "ssl:1.2.3.4:6640"], "", 1)?;
    assert!(err.contains("ssl: addresses are not supported"), "{err}");
    Ok(())
}

#[test]
fn a_reader_who_has_seen_enough_is_no_error() -> Result<()> {
    let server = server()?;
    check(&server, &["apply", "-"], &containers(500), 0)?;
    let script = format!(
        "set -o pipefail; '{}' log --format json | head -c 10",
        program::ours("nonnet")?.display()
    );
    let mut command = program::tied(&program::system("bash")?)?;
    command
        .current_dir(server.directory())
        .env("NONNET_SOCKET", SOCKET)
        .env("XDG_STATE_HOME", server.directory().join("state"))
        .args(["-c", &script]);
    let output = program::run_command(&mut command, b"")?;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    Ok(())
}
