//! The digest of a state: of all stored rows, in no order, kept up to date row by row.
//!
//! `LtHash` with 1,024 lanes of 16 bits: the sum, lane by lane modulo 2^16, of the expanded hashes of all elements. To find other rows with
//! the same sum is a lattice problem of about 200 bits (Bellare and Micciancio 1997; Lewi and others 2019).
//!
//! ```text
//! element  = 1, text table, 16 bytes of UUID, (text column, datum)*     a row: its persistent columns, strictly ascending by bytes
//!          | 2, text table, 16 bytes of UUID, text column, atom [, atom] an element of a large set, or a pair of a large map
//! lanes    = the first 2,048 bytes of keyed BLAKE3 over the element, as 1,024 numbers of 16 bits, little-endian
//! root     = keyed BLAKE3 over the 2,048 bytes of the sum, little-endian
//! ```
//!
//! A datum with more elements than [`DIFFERENCE_ELEMENTS_MIN`] stands in its row as the single byte 3 (a set) or 4 (a map), and its
//! elements beside the row: one element more among ten thousand must not cost ten thousand.

use std::fmt;

use nonnet_engine::RowChange;
use nonnet_schema::{Atom, Datum, TableSchema, Uuid};

use crate::canonical::{write_atom, write_datum, write_large_mark, write_text};
use crate::conversion::StoredSide;
use crate::hash::{STATE_BYTES, expanded_element, state_root};
use crate::leaf::{DatumChange, RowDelta};
use crate::limits::DIFFERENCE_ELEMENTS_MIN;

const LANES: usize = STATE_BYTES / 2;
const ELEMENT_ROW: u8 = 1;
const ELEMENT_LARGE: u8 = 2;

/// The digest of all stored rows. Two kilobytes.
#[derive(Clone, PartialEq, Eq)]
pub struct StateDigest {
    lanes: [u16; LANES],
}

/// Which row.
#[derive(Clone, Copy, Debug)]
pub struct RowName<'a> {
    /// Its table.
    pub table: &'a str,
    /// Its UUID.
    pub uuid: Uuid,
}

/// Whether elements come or go.
#[derive(Clone, Copy)]
enum Sign {
    Plus,
    Minus,
}

impl Default for StateDigest {
    /// That of no rows.
    fn default() -> Self {
        Self { lanes: [0; LANES] }
    }
}

impl StateDigest {
    /// That of all rows of a database that are stored.
    pub fn of(side: StoredSide<'_>) -> Self {
        let mut digest = Self::default();
        side.for_each_row(|table, row| {
            let name = RowName {
                table: &table.name,
                uuid: row.uuid(),
            };
            digest.add_row(name, persistent(table, row));
        });
        digest
    }

    /// What headers hold of it.
    pub fn root(&self) -> [u8; 32] {
        state_root(&self.to_bytes())
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; STATE_BYTES] {
        let mut bytes = [0; STATE_BYTES];
        for (to, lane) in bytes.chunks_exact_mut(2).zip(self.lanes) {
            to.copy_from_slice(&lane.to_le_bytes());
        }
        bytes
    }

    /// The digest of those bytes.
    pub fn from_bytes(bytes: &[u8; STATE_BYTES]) -> Self {
        let mut lanes = [0; LANES];
        for (lane, from) in lanes.iter_mut().zip(bytes.chunks_exact(2)) {
            *lane = u16::from_le_bytes([from[0], from[1]]);
        }
        Self { lanes }
    }

    /// Adds a row: its persistent columns, sorted by name.
    pub fn add_row<'a>(&mut self, row: RowName<'_>, fields: impl Iterator<Item = (&'a str, &'a Datum)> + Clone) {
        for (column, datum) in fields.clone().filter(|(_, datum)| is_large(datum)) {
            self.change_elements(row, column, datum, Sign::Plus);
        }
        self.change(&row_element(row, fields), Sign::Plus);
    }

    /// Follows a row from `before` to `after`, each its persistent columns sorted by name; but for the elements of large data, which
    /// [`Self::change_datum`] follows.
    pub fn change_row<'a, B, A>(&mut self, row: RowName<'_>, before: Option<B>, after: Option<A>)
    where
        B: Iterator<Item = (&'a str, &'a Datum)>,
        A: Iterator<Item = (&'a str, &'a Datum)>,
    {
        let before = before.map(|fields| row_element(row, fields));
        let after = after.map(|fields| row_element(row, fields));
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.change(&before, Sign::Minus);
        }
        if let Some(after) = after {
            self.change(&after, Sign::Plus);
        }
    }

    /// Follows the elements of a column's datum where that is large before, after or both.
    pub fn change_datum(&mut self, row: RowName<'_>, column: &str, old: Option<&Datum>, new: Option<&Datum>) {
        let (old, new) = (old.filter(|old| is_large(old)), new.filter(|new| is_large(new)));
        self.change_unshared(row, column, (old, new), Sign::Minus);
        self.change_unshared(row, column, (new, old), Sign::Plus);
    }

    /// Follows what a transaction did to a row, of which `delta` is what is stored.
    pub(crate) fn follow(&mut self, change: &RowChange, delta: &RowDelta, table: &TableSchema) {
        let row = RowName {
            table: &delta.table,
            uuid: delta.uuid,
        };
        let (old, new) = (change.old.as_deref(), change.new.as_deref());
        self.change_row(
            row,
            old.map(|old| persistent(table, old)),
            new.map(|new| persistent(table, new)),
        );
        for column in &delta.columns {
            match &column.change {
                DatumChange::Whole { old, new } => self.change_datum(row, &column.column, old.as_ref(), new.as_ref()),
                DatumChange::Elements { gone, come } => {
                    self.change_elements(row, &column.column, gone, Sign::Minus);
                    self.change_elements(row, &column.column, come, Sign::Plus);
                }
            }
        }
    }

    /// The elements that only the first of two data has.
    fn change_unshared(&mut self, row: RowName<'_>, column: &str, of: (Option<&Datum>, Option<&Datum>), sign: Sign) {
        let is_shared = |key: &Atom, value: Option<&Atom>| {
            let other = of.1.filter(|other| other.contains_key(key));
            other.is_some_and(|other| other.get(key) == value)
        };
        for (key, value) in of.0.into_iter().flat_map(Datum::iter) {
            if !is_shared(key, value) {
                self.change(&large_element(row, column, key, value), sign);
            }
        }
    }

    fn change_elements(&mut self, row: RowName<'_>, column: &str, elements: &Datum, sign: Sign) {
        for (key, value) in elements {
            self.change(&large_element(row, column, key, value), sign);
        }
    }

    fn change(&mut self, element: &[u8], sign: Sign) {
        let expanded = expanded_element(element);
        for (lane, bytes) in self.lanes.iter_mut().zip(expanded.chunks_exact(2)) {
            let term = u16::from_le_bytes([bytes[0], bytes[1]]);
            *lane = match sign {
                Sign::Plus => lane.wrapping_add(term),
                Sign::Minus => lane.wrapping_sub(term),
            };
        }
    }
}

impl fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = blake3::Hash::from_bytes(self.root());
        write!(f, "StateDigest({root})")
    }
}

/// The columns of a row that are stored, with their names.
fn persistent<'a>(
    table: &'a TableSchema,
    row: &'a nonnet_engine::Row,
) -> impl Iterator<Item = (&'a str, &'a Datum)> + Clone {
    let columns = table.declared_columns().filter(|(_, column)| column.persistent);
    columns.map(|(at, column)| (column.name.as_str(), row.get(at)))
}

fn is_large(datum: &Datum) -> bool {
    datum.len() > DIFFERENCE_ELEMENTS_MIN
}

fn row_element<'a>(row: RowName<'_>, fields: impl Iterator<Item = (&'a str, &'a Datum)>) -> Vec<u8> {
    let mut element = begin(ELEMENT_ROW, row);
    for (column, datum) in fields {
        write_text(column, &mut element);
        if is_large(datum) {
            write_large_mark(datum, &mut element);
        } else {
            write_datum(datum, &mut element);
        }
    }
    element
}

fn large_element(row: RowName<'_>, column: &str, key: &Atom, value: Option<&Atom>) -> Vec<u8> {
    let mut element = begin(ELEMENT_LARGE, row);
    write_text(column, &mut element);
    write_atom(key, &mut element);
    if let Some(value) = value {
        write_atom(value, &mut element);
    }
    element
}

fn begin(tag: u8, row: RowName<'_>) -> Vec<u8> {
    let mut element = Vec::with_capacity(256);
    element.push(tag);
    write_text(row.table, &mut element);
    element.extend_from_slice(row.uuid.as_bytes());
    element
}
