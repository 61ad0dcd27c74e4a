//! The log and its proofs, checked by a program that shares nothing with ours: `second_verifier.py`, written from the documented formats.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nonnet_tests::program::{ours, repository, run, system};
use nonnet_tests::server::{Kind, Server};
use serde_json::{Value, json};

fn schema() -> Value {
    json!({"name": "test", "version": "1.0.0", "tables": {"entry": {"isRoot": true, "columns": {
        "key": {"type": "string"}, "value": {"type": "integer"},
        "many": {"type": {"key": "integer", "min": 0, "max": "unlimited"}}}}}})
}

/// Whether a program ends with 0, and what it says.
fn says(program: &Path, arguments: &[&str]) -> Result<(bool, String)> {
    let output = run(program, arguments, b"")?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

/// What the second verifier says of a file.
fn second(file: &str) -> Result<(bool, String)> {
    let script = repository().join("tests/src/second_verifier.py");
    says(&system("python3")?, &[&script.to_string_lossy(), file])
}

/// A stopped server with 300 commits under several keys; gives the UUIDs of the newest commit's rows.
fn written() -> Result<(Server, Vec<String>)> {
    let mut server = Server::start_with(Kind::Nonnetd, &schema(), &["--key-life", "1"])?;
    let mut client = server.connect()?;
    let mut uuids = Vec::new();
    for round in 0..300 {
        let insert = |key: String| json!({"op": "insert", "table": "entry", "row": {"key": key, "value": round, "many": ["set", (0..round).collect::<Vec<_>>()]}});
        let operations = json!(["test", insert(format!("a{round}")), insert(format!("b{round}"))]);
        let reply = client.call("transact", &operations)?;
        uuids = (0..2)
            .filter_map(|at| Some(reply["result"][at]["uuid"][1].as_str()?.to_owned()))
            .collect();
        if round % 100 == 99 {
            // A key lives for a second.
            sleep(Duration::from_millis(1100));
        }
    }
    drop(client);
    assert_eq!(server.stop()?, Some(0));
    assert_eq!(uuids.len(), 2);
    Ok((server, uuids))
}

#[test]
fn a_log_and_its_proofs_hold_for_a_program_that_is_not_ours() -> Result<()> {
    let (server, uuids) = written()?;
    let file = server.file().to_string_lossy().into_owned();
    let nonnet = ours("nonnet")?;
    let (sound, told) = second(&file)?;
    assert!(sound && told.starts_with("sound: 30"), "{told}");
    let (_, verified) = says(&nonnet, &["verify", &file, "--format", "json"])?;
    let verified: Value = serde_json::from_str(&verified)?;
    assert!(
        told.contains(&format!("sound: {} records", verified["records"])),
        "{told}{verified}"
    );
    assert!(
        told.contains(&format!(" {} checkpoints", verified["checkpoints"])),
        "{told}{verified}"
    );
    assert!(
        told.trim_end().ends_with(verified["root"].as_str().context("root")?),
        "{told}{verified}"
    );
    assert!(
        verified["records"].as_u64() >= Some(303),
        "keys were replaced: {verified}"
    );

    let newest = newest_with(&nonnet, &file, &uuids[0])?;
    for (at, arguments) in [
        vec![newest.as_str()],
        vec![newest.as_str(), "--row", &uuids[1]],
        vec!["0"],
        vec!["17"],
    ]
    .iter()
    .enumerate()
    {
        let proof = server.directory().join(format!("proof{at}.json"));
        let mut all = vec!["prove", "--file", &file];
        all.extend(arguments);
        let (is_made, text) = says(&nonnet, &all)?;
        assert!(is_made, "{text}");
        fs::write(&proof, &text)?;
        let path = proof.to_string_lossy().into_owned();
        let (is_proven, told) = second(&path)?;
        assert!(is_proven, "{told}");
        let (is_proven, told) = says(&nonnet, &["prove", "--check", &path])?;
        assert!(is_proven && told.starts_with("proven: record "), "{told}");
        if arguments.contains(&"--row") {
            assert!(
                told.contains(&uuids[1]) && !text.contains(&uuids[0].replace('-', "")),
                "{told}"
            );
        }
        falsified(&nonnet, &path, &text)?;
    }
    let (is_made, told) = says(&nonnet, &["prove", "--file", &file, "17", "--row", &uuids[0]])?;
    assert!(!is_made && told.contains("record 17 did not change row"), "{told}");
    Ok(())
}

/// The number of the commit that brought a row.
fn newest_with(nonnet: &Path, file: &str, uuid: &str) -> Result<String> {
    let (_, log) = says(nonnet, &["log", file, "--limit", "5", "--format", "json"])?;
    let commits = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let commit = commits
        .into_iter()
        .find(|commit| commit["rows"].to_string().contains(uuid));
    Ok(commit.context("the commit of the row")?["seq"].to_string())
}

/// Neither program takes a proof of which one digit differs.
fn falsified(nonnet: &Path, path: &str, text: &str) -> Result<()> {
    let proof: Value = serde_json::from_str(text)?;
    let mut changed = 0;
    for name in ["header", "body", "leaf", "path", "leaf_hashes"] {
        let place = match &proof[name] {
            Value::Array(hashes) if !hashes.is_empty() => format!("/{name}/{}", hashes.len() / 2),
            Value::String(_) => format!("/{name}"),
            _ => continue,
        };
        let mut other = proof.clone();
        let value = other.pointer_mut(&place).context("the place")?;
        let mut digits = value.as_str().context("digits")?.to_owned();
        let at = digits.len() / 2;
        let digit = if digits.as_bytes()[at] == b'0' { "1" } else { "0" };
        digits.replace_range(at..=at, digit);
        *value = digits.into();
        fs::write(path, other.to_string())?;
        assert!(!second(path)?.0, "{place}");
        assert!(!says(nonnet, &["prove", "--check", path])?.0, "{place}");
        changed += 1;
    }
    assert!(changed >= 3, "{text}");
    Ok(())
}

#[test]
fn what_is_wrong_with_a_log_is_seen_by_a_program_that_is_not_ours() -> Result<()> {
    let (server, _) = written()?;
    let file = server.file();
    let copy = server.directory().join("copy.db");
    let sqlite = system("sqlite3")?;
    for (change, fault) in [
        (
            "UPDATE log SET header = CAST(substr(header, 1, 20) || x'55' || substr(header, 22) AS BLOB) WHERE seq = 100",
            "record 100: the header does not fit its hash",
        ),
        (
            "UPDATE log SET body = CAST(substr(body, 1, length(body) - 1) || x'55' AS BLOB) WHERE seq = 100",
            "record 100: the body does not fit its header",
        ),
        ("DELETE FROM log WHERE seq = 100", "record 100 is missing"),
        (
            "DELETE FROM log WHERE seq >= 200",
            "a checkpoint is of more than the 200 records",
        ),
        (
            "UPDATE checkpoint SET note = replace(note, 'nonnet.local', 'nonnet.global')",
            "FAULT: ",
        ),
    ] {
        fs::copy(&file, &copy)?;
        let path = copy.to_string_lossy().into_owned();
        let (is_changed, told) = says(&sqlite, &[&path, change])?;
        assert!(is_changed, "{told}");
        let (sound, told) = second(&path)?;
        assert!(!sound && told.contains(fault), "{change}: {told}");
    }
    Ok(())
}
