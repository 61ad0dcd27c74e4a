//! `nonnet head`: the newest signed head of the log.

use std::thread::sleep;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nonnet_chain::Checkpoint;
use nonnet_store::Reader;
use serde_json::json;

use crate::arguments::{Common, Head};
use crate::limits::{SIGNED_DELAY, SIGNED_INTERVAL};
use crate::output::Output;
use crate::server::database_file;

/// Prints the checkpoint of the newest record; where no server signs it, the newest there is.
pub(crate) fn run(common: &Common, options: &Head, output: &mut Output) -> Result<u8> {
    let file = database_file(options.file.as_deref(), common)?;
    let reader = Reader::open(&file)?;
    let wanted = reader.head()?.map_or(0, |head| head.seq + 1);
    let deadline = Instant::now() + SIGNED_DELAY;
    let (size, note) = loop {
        match reader.checkpoint()? {
            Some((size, note)) if size >= wanted || Instant::now() >= deadline => break (size, note),
            None if Instant::now() >= deadline => bail!(
                "{}: no head is signed yet: nonnetd signs one each second while records come",
                file.display()
            ),
            _ => sleep(SIGNED_INTERVAL),
        }
    };
    let checkpoint = Checkpoint::parse(&note).with_context(|| format!("{}: the newest checkpoint", file.display()))?;
    if output.is_json() {
        let key = reader.key()?.map(|key| key.verifier_key(&checkpoint.origin));
        output.json(&json!({
            "origin": checkpoint.origin, "size": size, "root": checkpoint.root.to_string(), "key": key, "note": note,
        }))?;
        return Ok(0);
    }
    output.line(note.trim_end())?;
    Ok(0)
}
