//! The canonical binary form of atoms and datums, as records and stored rows hold them.
//!
//! ```text
//! varint = LEB128 of 64 bits in the fewest bytes
//! text   = varint byte length, UTF-8 without NUL
//! atom   = 1, i64 LE | 2, f64 bits LE (finite, never -0) | 3, 0 or 1 | 4, text | 5, 16 bytes of UUID
//! datum  = 0                             absent
//!        | 1, varint count, atom*        a set: atoms of one tag, strictly ascending in OVSDB order
//!        | 2, varint count, (atom atom)* a map: pairs of key and value, keys strictly ascending, keys of one tag, values of one tag
//!        | 3 as 1, 4 as 2                some elements of a set or map (see `RowDelta`)
//!        | 127                           reserved for the hash of a secret
//! ```
//!
//! Every value has exactly one encoding, and what decodes encodes to the same bytes again.

use ecow::EcoString;
use nonnet_schema::{Atom, Datum, Real, Uuid};

use crate::limits::{CLAIMED_ELEMENTS_MAX, VARINT_BYTES_MAX};

const ATOM_INTEGER: u8 = 1;
const ATOM_REAL: u8 = 2;
const ATOM_BOOLEAN: u8 = 3;
const ATOM_STRING: u8 = 4;
const ATOM_UUID: u8 = 5;

const DATUM_ABSENT: u8 = 0;
const DATUM_SET: u8 = 1;
const DATUM_MAP: u8 = 2;
const DATUM_SET_PART: u8 = 3;
const DATUM_MAP_PART: u8 = 4;

/// Why bytes are no encoding, and how many bytes into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {problem}")]
pub struct DecodeError {
    /// Bytes before the fault.
    pub offset: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// They end in the middle of a value.
    #[error("ends too early")]
    TooShort,
    /// They go on after the value.
    #[error("goes on after the end")]
    TooLong,
    /// A number that is too large or not in its shortest form.
    #[error("bad number")]
    BadNumber,
    /// Text that is not UTF-8, or has a NUL.
    #[error("bad text")]
    BadText,
    /// A tag or an enumerated value that does not exist.
    #[error("unknown tag {0}")]
    UnknownTag(u8),
    /// Elements that are not strictly ascending or of several types.
    #[error("elements out of order")]
    OutOfOrder,
}

/// A datum with the role that its tag tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// No datum.
    Absent,
    /// The whole datum.
    Whole(Datum),
    /// Some elements of a datum.
    Part(Datum),
}

/// Bytes that are being decoded, from the front.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Input<'a> {
    /// Nothing of `bytes` decoded yet.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// True at the end.
    pub fn is_empty(&self) -> bool {
        self.offset == self.bytes.len()
    }

    /// The error that `problem` is, here.
    pub fn error(&self, problem: Problem) -> DecodeError {
        DecodeError {
            offset: self.offset,
            problem,
        }
    }

    /// Nothing may follow.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.error(Problem::TooLong))
        }
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let taken = rest.get(..count).ok_or_else(|| self.error(Problem::TooShort))?;
        self.offset += count;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Four bytes as a number.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes as a number.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Sixteen bytes as a UUID.
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    /// A varint.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut number: u64 = 0;
        for at in 0..VARINT_BYTES_MAX {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * at as u32;
            if (bits << shift) >> shift != bits || (byte == 0 && at > 0) {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.error(Problem::BadNumber))
    }

    /// A varint that counts things of which each takes a byte or more: no more than bytes are left.
    pub fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.varint()?;
        let left = self.bytes.len() - self.offset;
        match usize::try_from(count) {
            Ok(count) if count <= left => Ok(count),
            _ => Err(self.error(Problem::TooShort)),
        }
    }

    /// A text.
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = self.count()?;
        let bytes = self.bytes(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) if !bytes.contains(&0) => Ok(text),
            _ => Err(self.error(Problem::BadText)),
        }
    }

    /// An atom.
    pub fn atom(&mut self) -> Result<Atom, DecodeError> {
        Ok(match self.byte()? {
            ATOM_INTEGER => Atom::Integer(i64::from_le_bytes(self.array()?)),
            ATOM_REAL => Atom::Real(self.real()?),
            ATOM_BOOLEAN => match self.byte()? {
                boolean @ (0 | 1) => Atom::Boolean(boolean == 1),
                other => return Err(self.error(Problem::UnknownTag(other))),
            },
            ATOM_STRING => Atom::String(EcoString::from(self.text()?)),
            ATOM_UUID => Atom::Uuid(self.uuid()?),
            other => return Err(self.error(Problem::UnknownTag(other))),
        })
    }

    fn real(&mut self) -> Result<Real, DecodeError> {
        let bits = self.u64()?;
        let real = Real::new(f64::from_bits(bits)).filter(|real| real.get().to_bits() == bits);
        real.ok_or_else(|| self.error(Problem::BadNumber))
    }

    /// A datum, or the absence of one.
    pub fn form(&mut self) -> Result<Form, DecodeError> {
        Ok(match self.byte()? {
            DATUM_ABSENT => Form::Absent,
            DATUM_SET => Form::Whole(self.set()?),
            DATUM_MAP => Form::Whole(self.map()?),
            DATUM_SET_PART => Form::Part(self.set()?),
            DATUM_MAP_PART => Form::Part(self.map()?),
            other => return Err(self.error(Problem::UnknownTag(other))),
        })
    }

    /// A whole datum.
    pub fn datum(&mut self) -> Result<Datum, DecodeError> {
        match self.form()? {
            Form::Whole(datum) => Ok(datum),
            Form::Absent => Err(self.error(Problem::UnknownTag(DATUM_ABSENT))),
            Form::Part(_) => Err(self.error(Problem::UnknownTag(DATUM_SET_PART))),
        }
    }

    fn set(&mut self) -> Result<Datum, DecodeError> {
        let count = self.count()?;
        if count == 1 {
            return Ok(Datum::scalar(self.atom()?));
        }
        let mut keys: Vec<Atom> = Vec::with_capacity(count.min(CLAIMED_ELEMENTS_MAX));
        for _ in 0..count {
            let key = self.atom()?;
            self.check_follows(keys.last(), &key)?;
            keys.push(key);
        }
        Datum::set(keys).map_err(|_| self.error(Problem::OutOfOrder))
    }

    fn map(&mut self) -> Result<Datum, DecodeError> {
        let count = self.count()?;
        let mut pairs: Vec<(Atom, Atom)> = Vec::with_capacity(count.min(CLAIMED_ELEMENTS_MAX));
        for _ in 0..count {
            let (key, value) = (self.atom()?, self.atom()?);
            self.check_follows(pairs.last().map(|(key, _)| key), &key)?;
            if pairs.last().is_some_and(|(_, last)| last.kind() != value.kind()) {
                return Err(self.error(Problem::OutOfOrder));
            }
            pairs.push((key, value));
        }
        Datum::map(pairs).map_err(|_| self.error(Problem::OutOfOrder))
    }

    fn check_follows(&self, last: Option<&Atom>, next: &Atom) -> Result<(), DecodeError> {
        match last {
            Some(last) if last.kind() != next.kind() || last >= next => Err(self.error(Problem::OutOfOrder)),
            _ => Ok(()),
        }
    }
}

/// Appends a varint.
pub fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a text, without the NULs that it may not have.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    if text.contains('\0') {
        return write_text(&text.replace('\0', ""), out);
    }
    write_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Appends an atom.
pub fn write_atom(atom: &Atom, out: &mut Vec<u8>) {
    match atom {
        Atom::Integer(integer) => {
            out.push(ATOM_INTEGER);
            out.extend_from_slice(&integer.to_le_bytes());
        }
        Atom::Real(real) => {
            out.push(ATOM_REAL);
            out.extend_from_slice(&real.get().to_bits().to_le_bytes());
        }
        Atom::Boolean(boolean) => out.extend_from_slice(&[ATOM_BOOLEAN, u8::from(*boolean)]),
        Atom::String(text) => {
            out.push(ATOM_STRING);
            write_text(text, out);
        }
        Atom::Uuid(uuid) => {
            out.push(ATOM_UUID);
            out.extend_from_slice(uuid.as_bytes());
        }
    }
}

/// Appends a whole datum.
pub fn write_datum(datum: &Datum, out: &mut Vec<u8>) {
    out.push(if datum.is_map() { DATUM_MAP } else { DATUM_SET });
    write_elements(datum, out);
}

/// Appends some elements of a datum.
pub(crate) fn write_part(datum: &Datum, out: &mut Vec<u8>) {
    out.push(if datum.is_map() { DATUM_MAP_PART } else { DATUM_SET_PART });
    write_elements(datum, out);
}

/// Appends what stands for a large datum where its elements stand elsewhere (see `StateDigest`).
pub(crate) fn write_large_mark(datum: &Datum, out: &mut Vec<u8>) {
    out.push(if datum.is_map() { DATUM_MAP_PART } else { DATUM_SET_PART });
}

/// Appends a whole datum, or the absence of one.
pub(crate) fn write_optional(datum: Option<&Datum>, out: &mut Vec<u8>) {
    match datum {
        Some(datum) => write_datum(datum, out),
        None => out.push(DATUM_ABSENT),
    }
}

fn write_elements(datum: &Datum, out: &mut Vec<u8>) {
    write_varint(datum.len() as u64, out);
    for (key, value) in datum {
        write_atom(key, out);
        if let Some(value) = value {
            write_atom(value, out);
        }
    }
}
