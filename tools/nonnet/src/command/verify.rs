//! `nonnet verify`: whether the log is the chain that was written.

use std::path::Path;

use anyhow::{Context as _, Result};
use nonnet_chain::{Checkpoint, FaultKind, Head, Verifier};
use nonnet_store::{Damage, OpenError, Reader, Scope, Sound};
use serde_json::json;

use crate::arguments::{Common, Verify};
use crate::output::{Colour, Output};
use crate::server::database_file;
use crate::verified::Memory;

/// The exit code where the log is not what was written.
const FAULTY: u8 = 1;

/// The exit code where it is, but something that would show more is not there.
const INCOMPLETE: u8 = 2;

/// Verifies the file; 1 with a fault, an error where it cannot be read.
pub(crate) fn run(common: &Common, options: &Verify, output: &mut Output) -> Result<u8> {
    let file = database_file(options.file.as_deref(), common)?;
    let heads = options.head.iter().map(|path| head_file(path));
    let memory = options.since_my_last.then(|| Memory::of(&file)).transpose()?;
    let scope = Scope {
        every_state: options.state,
        heads: heads.collect::<Result<_>>()?,
        since: memory.as_ref().map(Memory::read).transpose()?.flatten(),
    };
    let error = match Reader::open(&file).and_then(|reader| reader.verify(&scope, |_| {})) {
        Ok(sound) => {
            if let (Some(memory), Some(verified)) = (memory, sound.verified()) {
                memory.write(&verified)?;
            }
            return report_sound(&file, &sound, &scope, output);
        }
        Err(error) => error,
    };
    let OpenError::Damaged { damage, .. } = &error else {
        return Err(error.into());
    };
    report_fault(&file, damage, last_sound(&file), output).map(|()| FAULTY)
}

/// A head that was kept outside: what `nonnet head` printed.
fn head_file(path: &Path) -> Result<Checkpoint> {
    let note = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Checkpoint::parse(&note).with_context(|| path.display().to_string())
}

fn report_sound(file: &Path, sound: &Sound, scope: &Scope, output: &mut Output) -> Result<u8> {
    let (verifier, heads) = (&sound.verifier, scope.heads.len());
    let (records, head) = (verifier.records(), verifier.head());
    let lost = verifier.lost_keys();
    let code = if lost.is_empty() { 0 } else { INCOMPLETE };
    if output.is_json() {
        let hash = head.map(|head| head.hash.to_string());
        let report = json!({
            "file": file.display().to_string(), "sound": true, "complete": code == 0, "records": records,
            "seq": head.map(|head| head.seq), "hash": hash, "root": sound.root.to_string(), "rows": sound.rows,
            "checkpoints": sound.checkpoints, "unsigned_checkpoints": sound.unsigned, "heads": heads,
            "key": verifier.key().map(|key| key.to_string()), "lost_keys": lost,
        });
        output.json(&report)?;
        return Ok(code);
    }
    let head = head
        .map(|head| format!(", head {} {}", head.seq, head.hash))
        .unwrap_or_default();
    let text = output.coloured(Colour::Green, "chain sound");
    let after = match &scope.since {
        Some(since) => format!(" after record {}", since.head.seq),
        None => String::new(),
    };
    output.line(&format!("{}{after}, {text}{head}", counted(records, "record")))?;
    let (signed, rows) = (
        counted(sound.checkpoints, "signed checkpoint"),
        counted(sound.rows, "row"),
    );
    let seen = match heads {
        0 => String::new(),
        heads => format!(", {} from outside", counted(heads as u64, "head")),
    };
    output.line(&format!("{rows}, {signed}{seen}, tree {}", sound.root))?;
    for seq in lost {
        let text = format!(
            "record {seq} brings a new key that the one before did not sign: what comes before it is bound by no key, \
             compare it with a head that was kept outside (--head)"
        );
        let text = output.coloured(Colour::Yellow, &text);
        output.line(&text)?;
    }
    Ok(code)
}

fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn report_fault(file: &Path, damage: &Damage, last: Option<Head>, output: &mut Output) -> Result<()> {
    let fault = match damage {
        Damage::Record(fault) | Damage::LostRecords { fault } => Some(fault),
        _ => None,
    };
    if output.is_json() {
        let report = json!({
            "file": file.display().to_string(), "sound": false, "error": damage.to_string(),
            "seq": fault.map(|fault| fault.seq), "kind": attack(damage),
            "last_good": last.map(|head| json!({"seq": head.seq, "hash": head.hash.to_string()})),
        });
        return Ok(output.json(&report)?);
    }
    let text = match (damage, fault) {
        (Damage::Record(_), Some(fault)) => {
            format!("FAULT at record {}: {}: {}", fault.seq, kind(&fault.kind), fault.kind)
        }
        (_, Some(fault)) => format!("FAULT at record {}: {}: {damage}", fault.seq, kind(&fault.kind)),
        (_, None) => format!("FAULT: {}: {damage}", attack(damage)),
    };
    let text = output.coloured(Colour::Red, &text);
    output.line(&text)?;
    output.line(&match last {
        Some(head) => format!("last good head {} {}", head.seq, head.hash),
        None => "no record before it is good".to_owned(),
    })?;
    Ok(())
}

/// What was done to the file, in one word or two.
fn attack(damage: &Damage) -> &'static str {
    match damage {
        Damage::Record(fault) | Damage::LostRecords { fault } => kind(&fault.kind),
        Damage::Tree { .. } => "edited tree",
        Damage::Checkpoint { .. } => "rewritten or truncated",
        Damage::Forked { .. } => "rewritten or forked",
        Damage::Behind { .. } => "truncated or put back",
        Damage::Row { .. } | Damage::Rows { .. } | Damage::State { .. } => "edited rows",
        Damage::Pages(_) | Damage::Layout(_) | Damage::Setting(_) | Damage::HeadFile => "damaged file",
    }
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
        FaultKind::UnsignedKey => "unsigned key",
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
