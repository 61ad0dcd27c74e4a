//! The records of a file, one after the other.

use std::fmt::Write as _;
use std::io::{self, BufRead, Read};

use nonnet_schema::DatabaseSchema;
use serde_json::Value;
use sha1::{Digest, Sha1};

use super::replay::Replay;
use super::{CLUSTER_MAGIC, FILE_MARK, MAGIC, OvsdbFile, ReadError, RecordDamage, RecordFault};
use crate::limits::OVSDB_HEADER_BYTES_MAX;

/// Reads a standalone database up to its end or its first damaged record.
///
/// # Errors
/// Where there is not even a schema, or the stream fails.
pub fn read(input: impl BufRead) -> Result<OvsdbFile, ReadError> {
    let (schema, mut transactions) = transactions(input)?;
    let mut replay = Replay::new(schema);
    let mut damage = None;
    while let Some(transaction) = transactions.next_transaction()? {
        let applied = transaction.and_then(|transaction| {
            let applied = replay.apply(&transaction);
            applied.map_err(|fault| transactions.damage_of_newest(fault))
        });
        if let Err(found) = applied {
            damage = Some(found);
            break;
        }
    }
    let count = damage.as_ref().map_or(transactions.count, |damage| damage.record);
    let sha1 = transactions.records.sha1_to_end()?;
    let (schema, rows, date_ms) = replay.finish();
    Ok(OvsdbFile {
        schema,
        rows,
        records: count,
        date_ms,
        sha1,
        damage,
    })
}

/// The schema of a standalone database, and what comes after it.
///
/// # Errors
/// Where there is not even a schema, or the stream fails.
pub fn transactions<R: BufRead>(input: R) -> Result<(DatabaseSchema, Transactions<R>), ReadError> {
    let mut records = Records {
        input,
        sha1: Sha1::new(),
        offset: 0,
        body_offset: 0,
        body_bytes: 0,
    };
    let schema = records.schema()?;
    let newest_offset = records.offset;
    Ok((
        schema,
        Transactions {
            records,
            count: 1,
            newest_offset,
        },
    ))
}

/// The transactions of a file, one after the other.
pub struct Transactions<R> {
    records: Records<R>,
    /// Records that were read, that of the schema among them.
    count: u64,
    /// Where the newest of them begins.
    newest_offset: u64,
}

impl<R: BufRead> Transactions<R> {
    /// The next transaction, a JSON object as it is written, or what is wrong with it; None at the end.
    ///
    /// # Errors
    /// Where the stream fails.
    pub fn next_transaction(&mut self) -> io::Result<Option<Result<Value, RecordDamage>>> {
        self.newest_offset = self.records.offset;
        let Some(body) = self.records.next_body()? else {
            return Ok(None);
        };
        self.count += 1;
        let transaction = body.and_then(|body| object(&body));
        Ok(Some(transaction.map_err(|fault| self.damage_of_newest(fault))))
    }

    fn damage_of_newest(&self, fault: RecordFault) -> RecordDamage {
        self.records.damage(self.count - 1, self.newest_offset, fault)
    }
}

/// A hash in lower-case hexadecimal.
pub(super) fn hex(hash: &[u8]) -> String {
    hash.iter()
        .fold(String::with_capacity(hash.len() * 2), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

struct Records<R> {
    input: R,
    sha1: Sha1,
    offset: u64,
    /// Of the newest body, as its header says.
    body_offset: u64,
    body_bytes: u64,
}

/// The line before a body.
struct Header<'a> {
    magic: &'a str,
    length: u64,
    sha1: &'a str,
}

impl<R: BufRead> Records<R> {
    fn schema(&mut self) -> Result<DatabaseSchema, ReadError> {
        let line = self.line()?;
        if !line.starts_with(FILE_MARK) {
            return Err(ReadError::NotOvsdb);
        }
        if line[FILE_MARK.len()..].starts_with(CLUSTER_MAGIC.as_bytes()) {
            return Err(ReadError::Clustered);
        }
        let json = self.body(&line)?.and_then(|body| object(&body));
        let schema = json.and_then(|json| DatabaseSchema::parse(&json).map_err(RecordFault::Schema));
        schema.map_err(|fault| ReadError::FirstRecord(Box::new(self.damage(0, 0, fault))))
    }

    fn damage(&self, record: u64, offset: u64, fault: RecordFault) -> RecordDamage {
        RecordDamage {
            record,
            offset,
            body_offset: self.body_offset,
            body_bytes: self.body_bytes,
            fault,
        }
    }

    /// The body of the next record, its hash checked; None at the end.
    fn next_body(&mut self) -> io::Result<Option<Result<Vec<u8>, RecordFault>>> {
        let line = self.line()?;
        if line.is_empty() {
            return Ok(None);
        }
        self.body(&line).map(Some)
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut limited = (&mut self.input).take(OVSDB_HEADER_BYTES_MAX);
        limited.read_until(b'\n', &mut line)?;
        self.took(&line);
        Ok(line)
    }

    fn body(&mut self, line: &[u8]) -> io::Result<Result<Vec<u8>, RecordFault>> {
        (self.body_offset, self.body_bytes) = (self.offset, 0);
        let Some(header) = Header::parse(line).filter(|header| header.magic == MAGIC) else {
            let text = String::from_utf8_lossy(line).trim_end().to_owned();
            return Ok(Err(RecordFault::Header(text)));
        };
        self.body_bytes = header.length;
        let mut body = Vec::new();
        // The length is only a claim: room is made for what is there.
        (&mut self.input).take(header.length).read_to_end(&mut body)?;
        self.took(&body);
        if (body.len() as u64) < header.length {
            return Ok(Err(RecordFault::Short {
                found: body.len() as u64,
                expected: header.length,
            }));
        }
        let found = hex(&Sha1::digest(&body));
        if !found.eq_ignore_ascii_case(header.sha1) {
            let expected = header.sha1.to_ascii_lowercase();
            return Ok(Err(RecordFault::Checksum { found, expected }));
        }
        Ok(Ok(body))
    }

    fn took(&mut self, bytes: &[u8]) {
        self.sha1.update(bytes);
        self.offset += bytes.len() as u64;
    }

    fn sha1_to_end(mut self) -> io::Result<String> {
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(hex(&self.sha1.finalize()));
            }
            self.sha1.update(bytes);
            let count = bytes.len();
            self.input.consume(count);
        }
    }
}

impl<'a> Header<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(line.strip_prefix(FILE_MARK)?.strip_suffix(b"\n")?).ok()?;
        let mut parts = text.split(' ');
        let header = Self {
            magic: parts.next()?,
            length: parts
                .next()
                .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?
                .parse()
                .ok()?,
            sha1: parts
                .next()
                .filter(|text| text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit()))?,
        };
        (header.length > 0 && parts.next().is_none()).then_some(header)
    }
}

fn object(body: &[u8]) -> Result<Value, RecordFault> {
    match serde_json::from_slice(body) {
        Ok(json @ Value::Object(_)) => Ok(json),
        Ok(_) => Err(RecordFault::NotObject("the record".to_owned())),
        Err(error) => Err(RecordFault::Json(error.to_string())),
    }
}
