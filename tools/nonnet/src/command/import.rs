//! `nonnet import`: a database of ours from a file of ovsdb-server, which stays as it is.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use nonnet_chain::Head;
use nonnet_store::ovsdb_file::{self, Origin, OvsdbFile};
use serde_json::json;

use crate::arguments::Import;
use crate::output::{Colour, Output};
use crate::server::FILE_HERE;
use crate::{origin, time};

/// The exit code where the file is damaged and nothing was made.
const DAMAGED: u8 = 1;

/// Makes the database; 1 where the source is damaged and that was not allowed.
pub(crate) fn run(options: &Import, output: &mut Output) -> Result<u8> {
    let source = ovsdb_file::open(&options.source)?;
    let target = options.file.as_deref().unwrap_or(Path::new(FILE_HERE));
    if let Some(damage) = &source.damage {
        let name = options.source.display();
        let sound = counted(source.records, "sound record");
        complain(&format!("{name}: {damage}"));
        if !options.up_to_damage {
            complain(&format!(
                "nothing was imported; --up-to-damage imports the {sound} before it"
            ));
            return Ok(DAMAGED);
        }
        complain(&format!("{name}: only the {sound} before it will be imported"));
    }
    // The log names the file so that it is found from anywhere.
    let source_path = std::path::absolute(&options.source).with_context(|| options.source.display().to_string())?;
    let head = ovsdb_file::import(target, &source, &source_path, &origin()?)?;
    report(options, target, &source, head, output)?;
    Ok(0)
}

/// Says something on standard error; where nobody reads that, the exit code tells.
fn complain(text: &str) {
    let _ = io::stderr().write_all(format!("nonnet: {text}\n").as_bytes());
}

fn report(options: &Import, target: &Path, source: &OvsdbFile, head: Head, output: &mut Output) -> Result<()> {
    if output.is_json() {
        let damage = source
            .damage
            .as_ref()
            .map(|damage| json!({"record": damage.record, "offset": damage.offset, "error": damage.fault.to_string()}));
        return Ok(output.json(&json!({
            "source": options.source.display().to_string(), "sha1": source.sha1, "records": source.records,
            "date": source.date_ms.map(|date| time::local(date.saturating_mul(1000))), "damage": damage,
            "file": target.display().to_string(), "database": source.schema.name.as_str(), "rows": source.rows.len(),
            "seq": head.seq, "hash": head.hash.to_string(),
        }))?);
    }
    let date = source.date_ms.map_or_else(String::new, |date| {
        format!(", the last of {}", time::local(date.saturating_mul(1000)))
    });
    output.line(&format!(
        "{}: {}{date}",
        options.source.display(),
        counted(source.records, "record")
    ))?;
    let made = format!(
        "{}: {} with {}, head {} {}",
        target.display(),
        source.schema.name,
        counted(source.rows.len() as u64, "row"),
        head.seq,
        head.hash
    );
    let made = output.coloured(Colour::Green, &made);
    Ok(output.line(&made)?)
}

/// Who runs this, now, with ids that nobody has.
fn origin() -> Result<Origin> {
    Ok(Origin {
        author: origin::author("nonnet", "import"),
        moment: origin::moment(),
        db_id: origin::random_uuid()?,
        txn_uid: origin::random_uuid()?,
    })
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
