//! `nonnet export`: the rows of a database of ours as a file that ovsdb-server and ovsdb-tool read.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use nonnet_store::{Contents, Reader, ovsdb_file};

use crate::arguments::Export;
use crate::output::Output;

/// Writes the rows as of the newest record, whether a server runs or not.
pub(crate) fn run(options: &Export, output: &mut Output) -> Result<u8> {
    let contents = Reader::open(&options.file)?.contents()?;
    put(&contents, options.target.as_deref(), output)?;
    Ok(0)
}

/// Writes rows to a file that must not exist; without one, or for -, to standard output.
pub(crate) fn put(contents: &Contents, target: Option<&Path>, output: &mut Output) -> Result<()> {
    match target {
        None => write(output.bytes(), contents)?,
        Some(path) if path == Path::new("-") => write(output.bytes(), contents)?,
        Some(path) => {
            let mut open = OpenOptions::new();
            open.write(true).create_new(true).mode(0o600);
            let file = open.open(path).with_context(|| path.display().to_string())?;
            let written = write(&mut BufWriter::new(&file), contents).and_then(|()| file.sync_all());
            if let Err(error) = written {
                // Half a file would be taken for a whole one.
                let _ = std::fs::remove_file(path);
                return Err(error).with_context(|| path.display().to_string());
            }
        }
    }
    Ok(())
}

/// The same rows give the same bytes: the date is that of their last commit.
fn write(out: &mut impl Write, contents: &Contents) -> io::Result<()> {
    let Contents { schema, rows, newest } = contents;
    let comment = format!(
        "nonnet export of {} at record {} {}",
        schema.name,
        newest.seq,
        newest.hash()
    );
    ovsdb_file::write(out, schema, rows, newest.time_us / 1000, &comment)?;
    out.flush()
}
