//! `nonnet prove`: a proof that the log has a commit, in one file; and whether such a file proves anything.

use std::path::Path;
use std::thread::sleep;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nonnet_chain::{Checkpoint, DatumChange, Proof, ProofFault, Proven, RowDelta, Shown, UNKNOWN_ID};
use nonnet_schema::{Datum, Uuid, parse_uuid};
use nonnet_store::{Inclusion, Reader};
use serde_json::{Map, Value, json};

use crate::arguments::{Common, Prove};
use crate::history::History;
use crate::limits::{SIGNED_DELAY, SIGNED_INTERVAL};
use crate::output::{Colour, Output};
use crate::{proof_file, time};

/// The exit code where a file proves nothing.
const FAULTY: u8 = 1;

/// Prints a proof, or checks one; 1 where that proves nothing.
pub(crate) fn run(common: &Common, options: &Prove, output: &mut Output) -> Result<u8> {
    if let Some(path) = &options.check {
        return check(path, options.head.as_deref(), output);
    }
    let point = options
        .commit
        .as_ref()
        .context("which commit? Give its number, hash or id")?;
    let history = History::open(options.file.as_deref(), common)?;
    let row = options.row.as_deref().map(row_uuid).transpose()?;
    let proof = prove(&history.reader, history.resolve(point)?, row)?;
    output.json(&proof_file::to_json(&proof)?)?;
    Ok(0)
}

fn row_uuid(text: &str) -> Result<Uuid> {
    parse_uuid(text).with_context(|| format!("--row {text:?} is no UUID"))
}

fn prove(reader: &Reader, seq: u64, row: Option<Uuid>) -> Result<Proof> {
    let deadline = Instant::now() + SIGNED_DELAY;
    loop {
        let fault = match reader.inclusion(seq)? {
            Some(inclusion) => {
                let proof = shown(inclusion, row)?;
                match proof.check() {
                    Ok(_) => return Ok(proof),
                    Err(fault) => Some(fault),
                }
            }
            None => None,
        };
        if Instant::now() >= deadline {
            match fault {
                Some(fault) => bail!("record {seq} cannot be proven, since {fault}; see `nonnet verify`"),
                None => bail!(
                    "no head that has record {seq} is signed yet: nonnetd signs one each second while records come"
                ),
            }
        }
        sleep(SIGNED_INTERVAL);
    }
}

fn shown(inclusion: Inclusion, row: Option<Uuid>) -> Result<Proof> {
    let seq = inclusion.record.seq;
    let body = inclusion
        .record
        .body
        .with_context(|| format!("the body of record {seq} was removed"))?;
    let shown = match row {
        None => Shown::Body(body),
        Some(uuid) => Shown::row(&body, |delta| delta.uuid == uuid)
            .with_context(|| format!("record {seq}"))?
            .with_context(|| format!("record {seq} did not change row {}", uuid.hyphenated()))?,
    };
    Ok(Proof {
        header: inclusion.record.header,
        shown,
        path: inclusion.path,
        note: inclusion.note,
        key: inclusion.key,
    })
}

fn check(path: &Path, head: Option<&Path>, output: &mut Output) -> Result<u8> {
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    let proof = proof_file::from_text(&read(path)?).with_context(|| path.display().to_string())?;
    let proven = match proof.check() {
        Ok(proven) => proven,
        Err(fault) => return report_fault(&fault, output).map(|()| FAULTY),
    };
    if let Some(head) = head {
        let head = Checkpoint::parse(&read(head)?).with_context(|| head.display().to_string())?;
        if head != proven.checkpoint {
            bail!(
                "the proof leads to another head: prove the record again once that head is the newest, or leave --head out"
            );
        }
    }
    report(&proof, &proven, output)?;
    Ok(0)
}

fn report_fault(fault: &ProofFault, output: &mut Output) -> Result<()> {
    if output.is_json() {
        return Ok(output.json(&json!({"proven": false, "error": fault.to_string()}))?);
    }
    let text = output.coloured(Colour::Red, &format!("NOT PROVEN: {fault}"));
    Ok(output.line(&text)?)
}

fn report(proof: &Proof, proven: &Proven, output: &mut Output) -> Result<()> {
    let (header, checkpoint) = (&proven.header, &proven.checkpoint);
    let key = proof.key.verifier_key(&checkpoint.origin);
    if output.is_json() {
        let rows: Vec<Value> = proven.rows.iter().map(row_json).collect();
        return Ok(output.json(&json!({
            "proven": true, "seq": header.seq, "hash": header.hash().to_string(), "kind": header.kind.name(),
            "time": time::local(header.time_us), "uid": header.uid, "rows": rows,
            "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.to_string(), "key": key,
        }))?);
    }
    let text = format!(
        "proven: record {} of the {} that this head has signed",
        header.seq, checkpoint.size
    );
    let text = output.coloured(Colour::Green, &text);
    output.line(&text)?;
    output.line(&format!("head {} by {key}", checkpoint.root))?;
    let (at, uid) = (time::local(header.time_us), header.uid);
    let who = if uid == UNKNOWN_ID {
        "the server itself".to_owned()
    } else {
        format!("uid {uid}")
    };
    output.line(&format!("{} {}, {at}, by {who}", header.kind.name(), header.hash()))?;
    for row in &proven.rows {
        output.line(&format!("    {}", row_json(row)))?;
    }
    Ok(())
}

/// What the record did to a row, with data as RFC 7047 writes them.
fn row_json(row: &RowDelta) -> Value {
    let datum = |datum: &Option<Datum>| datum.as_ref().map_or(Value::Null, Datum::to_json);
    let change = |change: &DatumChange| match change {
        DatumChange::Whole { old, new } => json!({"old": datum(old), "new": datum(new)}),
        DatumChange::Elements { gone, come } => json!({"gone": gone.to_json(), "come": come.to_json()}),
    };
    let columns = row
        .columns
        .iter()
        .map(|column| (column.column.to_string(), change(&column.change)));
    let columns: Map<String, Value> = columns.collect();
    json!({"table": row.table.as_str(), "uuid": row.uuid.hyphenated().to_string(), "columns": columns})
}
