//! The log of a database file as commands read it: its records, what its rows are called, and which commits people mean.

mod between;
mod entry;
mod filter;
mod names;
mod point;
mod printer;
mod shown;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nonnet_schema::DatabaseSchema;
use nonnet_store::{Contents, HASHES_FOUND_MAX, Reader};

use crate::arguments::Common;
use crate::output::printable;
use crate::server::database_file;
use crate::time;

pub(crate) use between::between;
pub(crate) use entry::Entry;
pub(crate) use filter::Filter;
pub(crate) use names::{Names, find_row};
pub(crate) use point::{POINT_HELP, Point};
pub(crate) use printer::{Printer, Style};

/// A database file, open for reading.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) path: PathBuf,
    pub(crate) reader: Reader,
    /// The schema in force.
    pub(crate) schema: DatabaseSchema,
}

impl History {
    /// Opens the file given, or the one that belongs to the socket.
    pub(crate) fn open(file: Option<&Path>, common: &Common) -> Result<Self> {
        let path = database_file(file, common)?;
        let reader = Reader::open(&path)?;
        let schema = DatabaseSchema::from_text(&reader.schema_text()?);
        let schema = schema.with_context(|| format!("{}: schema", path.display()))?;
        Ok(Self { path, reader, schema })
    }

    /// The number of the newest record.
    pub(crate) fn head(&self) -> Result<u64> {
        let head = self.reader.head()?;
        let head = head.with_context(|| format!("{}: the log is empty", self.path.display()))?;
        Ok(head.seq)
    }

    /// The number of the record that is meant; of a time, that of the newest record then.
    pub(crate) fn resolve(&self, point: &Point) -> Result<u64> {
        let head = self.head()?;
        match point {
            Point::Number(number) if *number <= head => Ok(*number),
            Point::Number(number) => {
                // It may be the beginning of a hash without letters.
                match self.by_hash(&number.to_string())? {
                    Some(found) => Ok(found),
                    None => bail!("there is no commit {number} yet: the newest is {head}"),
                }
            }
            Point::Head { back } => match head.checked_sub(*back) {
                Some(seq) => Ok(seq),
                None => bail!("there is no commit {back} before the newest, which is {head}"),
            },
            Point::Hash(prefix) => match self.by_hash(prefix)? {
                Some(found) => Ok(found),
                None => bail!("no commit has a hash that begins with {prefix}"),
            },
            Point::Time(time_us) => {
                if *time_us > time::now_us() {
                    bail!("{} is in the future", time::local(*time_us));
                }
                let first = self.reader.time_of(0)?;
                self.reader.seq_at(*time_us)?.with_context(|| match first {
                    Some(first) => format!(
                        "the log begins at {}, after {}",
                        time::local(first),
                        time::local(*time_us)
                    ),
                    None => format!("the log knows nothing of {}", time::local(*time_us)),
                })
            }
        }
    }

    /// The first record at that point or after it; beyond the newest where all are before.
    pub(crate) fn first_since(&self, point: &Point) -> Result<u64> {
        match point {
            Point::Time(time_us) => {
                let before = self.reader.seq_at(time_us.saturating_sub(1))?;
                Ok(before.map_or(0, |seq| seq.saturating_add(1)))
            }
            other => self.resolve(other),
        }
    }

    /// The last record at that point or before it; None where all are after.
    pub(crate) fn last_until(&self, point: &Point) -> Result<Option<u64>> {
        match point {
            Point::Time(time_us) => Ok(self.reader.seq_at(*time_us)?),
            other => self.resolve(other).map(Some),
        }
    }

    /// The rows after a record.
    pub(crate) fn contents_at(&self, seq: u64) -> Result<Contents> {
        let contents = self.reader.contents_at(seq)?;
        contents.with_context(|| format!("{} has no record {seq}", self.path.display()))
    }

    /// A record.
    pub(crate) fn entry(&self, seq: u64) -> Result<Entry> {
        let record = self.reader.records(seq..=seq).next().transpose()?;
        let record = record.with_context(|| format!("{} has no record {seq}", self.path.display()))?;
        Entry::decode(&record)
    }

    fn by_hash(&self, prefix: &str) -> Result<Option<u64>> {
        let found = self.reader.seqs_of_hash(prefix)?;
        match found.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(*only)),
            several => {
                let numbers: Vec<String> = several.iter().map(u64::to_string).collect();
                let more = if several.len() < HASHES_FOUND_MAX {
                    ""
                } else {
                    " and more"
                };
                bail!(
                    "the hashes of commits {}{more} begin with {}: give more of it",
                    numbers.join(", "),
                    printable(prefix)
                )
            }
        }
    }
}
