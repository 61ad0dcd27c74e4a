//! `nonnet verify`: whether the log is the chain that was written.

use std::path::Path;

use anyhow::Result;
use nonnet_chain::{FaultKind, Head, Verifier};
use nonnet_store::{Damage, OpenError, Reader};
use serde_json::json;

use crate::arguments::{Common, Verify};
use crate::output::{Colour, Output};
use crate::server::database_file;

/// The exit code where the log is not what was written.
const FAULTY: u8 = 1;

/// Verifies the file; 1 with a fault, an error where it cannot be read.
pub(crate) fn run(common: &Common, options: &Verify, output: &mut Output) -> Result<u8> {
    let file = database_file(options.file.as_deref(), common)?;
    let error = match Reader::open(&file).and_then(|reader| reader.verify(|_| {})) {
        Ok(verifier) => return report_sound(&file, &verifier, output).map(|()| 0),
        Err(error) => error,
    };
    let OpenError::Damaged { damage, .. } = &error else {
        return Err(error.into());
    };
    report_fault(&file, damage, last_sound(&file), output).map(|()| FAULTY)
}

fn report_sound(file: &Path, verifier: &Verifier, output: &mut Output) -> Result<()> {
    let (records, head) = (verifier.records(), verifier.head());
    if output.is_json() {
        let hash = head.map(|head| head.hash.to_string());
        let report = json!({
            "file": file.display().to_string(), "sound": true, "records": records, "seq": head.map(|head| head.seq), "hash": hash,
        });
        return Ok(output.json(&report)?);
    }
    let noun = if records == 1 { "record" } else { "records" };
    let head = head
        .map(|head| format!(", head {} {}", head.seq, head.hash))
        .unwrap_or_default();
    let sound = output.coloured(Colour::Green, "chain sound");
    Ok(output.line(&format!("{records} {noun}, {sound}{head}"))?)
}

fn report_fault(file: &Path, damage: &Damage, last: Option<Head>, output: &mut Output) -> Result<()> {
    let fault = match damage {
        Damage::Record(fault) | Damage::LostRecords { fault } => Some(fault),
        _ => None,
    };
    if output.is_json() {
        let report = json!({
            "file": file.display().to_string(), "sound": false, "error": damage.to_string(),
            "seq": fault.map(|fault| fault.seq), "kind": fault.map(|fault| kind(&fault.kind)),
            "last_good": last.map(|head| json!({"seq": head.seq, "hash": head.hash.to_string()})),
        });
        return Ok(output.json(&report)?);
    }
    let text = match (damage, fault) {
        (Damage::Record(_), Some(fault)) => {
            format!("FAULT at record {}: {}: {}", fault.seq, kind(&fault.kind), fault.kind)
        }
        (_, Some(fault)) => format!("FAULT at record {}: {}: {damage}", fault.seq, kind(&fault.kind)),
        (_, None) => format!("FAULT: {damage}"),
    };
    let text = output.coloured(Colour::Red, &text);
    output.line(&text)?;
    output.line(&match last {
        Some(head) => format!("last good head {} {}", head.seq, head.hash),
        None => "no record before it is good".to_owned(),
    })?;
    Ok(())
}

/// What was done to the log, in one word or two.
fn kind(kind: &FaultKind) -> &'static str {
    match kind {
        FaultKind::EditedHeader => "edited header",
        FaultKind::MalformedHeader(_) => "malformed header",
        FaultKind::EditedBody => "edited body",
        FaultKind::MalformedBody(_) => "malformed body",
        FaultKind::MissingBody => "removed body",
        FaultKind::MissingRecord { .. } => "removed record",
        FaultKind::Reordered { .. } => "reordered",
        FaultKind::BrokenLink => "broken link",
        FaultKind::ForeignRecord => "foreign record",
        FaultKind::WrongSchema => "wrong schema",
        FaultKind::Truncated { .. } => "truncated",
        FaultKind::Replaced { .. } => "replaced",
    }
}

/// The newest record before the first fault.
fn last_sound(file: &Path) -> Option<Head> {
    let reader = Reader::open(file).ok()?;
    let mut verifier = Verifier::from_genesis();
    for record in reader.records(0..=u64::MAX) {
        if record.is_err() || record.is_ok_and(|record| verifier.check(&record).is_err()) {
            break;
        }
    }
    verifier.head()
}
