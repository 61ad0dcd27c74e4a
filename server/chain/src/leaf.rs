//! The leaves of a body: what they say, and their bytes.

use ecow::EcoString;
use nonnet_engine::RowChange;
use nonnet_schema::{ColumnSchema, Datum, TableSchema, Uuid};

use crate::canonical::{self, DecodeError, Form, Input, Problem, write_text, write_varint};
use crate::limits::{CLAIMED_ELEMENTS_MAX, DIFFERENCE_ELEMENTS_MIN};

pub(crate) const LEAF_META: u8 = 0;
pub(crate) const LEAF_ROW: u8 = 1;
pub(crate) const LEAF_SCHEMA: u8 = 2;
pub(crate) const LEAF_ROTATION: u8 = 3;

/// Leaf 0: what the header has no place for. Never a command line or an environment, which hold secrets.
///
/// ```text
/// 0, u64 start_ticks, u32 operations, text remote, text address, text unit, text request_id,
/// varint count, text comment*, varint count, (text name, text detail)*
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Start of the peer's process in clock ticks since boot (`proc(5)`, stat field 22); 0 where unknown.
    pub start_ticks: u64,
    /// Operations of the transaction.
    pub operations: u32,
    /// The remote that accepted the peer, in OVS syntax.
    pub remote: EcoString,
    /// The peer's address; empty on a unix socket.
    pub address: EcoString,
    /// The peer's systemd unit or cgroup; empty where unknown.
    pub unit: EcoString,
    /// The id of the JSON-RPC request, as JSON text.
    pub request_id: EcoString,
    /// The text of each `comment` operation, in order.
    pub comments: Vec<EcoString>,
    /// What else is known, by name: the name in a TLS certificate, the user of a gateway.
    pub details: Vec<(EcoString, EcoString)>,
}

/// What a record did to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RowOp {
    /// The row is new.
    Insert = 1,
    /// Some columns changed.
    Modify = 2,
    /// The row is gone.
    Delete = 3,
}

/// What became of one column of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatumChange {
    /// The datum before and after; an inserted row has none before, a deleted one none after.
    Whole {
        /// Before.
        old: Option<Datum>,
        /// After.
        new: Option<Datum>,
    },
    /// The elements of a large set or map that went and that came; a pair whose value changed is in both.
    Elements {
        /// Elements of the datum before only.
        gone: Datum,
        /// Elements of the datum after only.
        come: Datum,
    },
}

/// A column and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDelta {
    /// The column's name.
    pub column: EcoString,
    /// What became of it.
    pub change: DatumChange,
}

/// A changed row: all persistent columns of one that was inserted or deleted, the changed ones of one that was modified.
///
/// ```text
/// 1, text table, 16 bytes of UUID, op (1 insert, 2 modify, 3 delete), varint columns,
/// (text column, datum old, datum new)*     columns strictly ascending by bytes
/// ```
///
/// An insert has old absent, a delete new absent; so has a column that a new schema brought or dropped. Where a modified datum has more than [`DIFFERENCE_ELEMENTS_MIN`] elements before and
/// after, old holds the elements that went and new those that came, with the tags for parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowDelta {
    /// The row's table.
    pub table: EcoString,
    /// The row.
    pub uuid: Uuid,
    /// What became of it.
    pub op: RowOp,
    /// Its columns, sorted by name.
    pub columns: Vec<ColumnDelta>,
}

/// A change does not fit the datum that it should change: the row and the log do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log says that it held something else before")]
pub struct MisfitDelta;

impl Meta {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(LEAF_META);
        out.extend_from_slice(&self.start_ticks.to_le_bytes());
        out.extend_from_slice(&self.operations.to_le_bytes());
        for text in [&self.remote, &self.address, &self.unit, &self.request_id] {
            write_text(text, out);
        }
        write_varint(self.comments.len() as u64, out);
        for comment in &self.comments {
            write_text(comment, out);
        }
        write_varint(self.details.len() as u64, out);
        for (name, detail) in &self.details {
            write_text(name, out);
            write_text(detail, out);
        }
    }

    /// Decodes a whole leaf.
    pub fn decode(leaf: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Input::new(leaf);
        expect_tag(&mut input, LEAF_META)?;
        let mut meta = Self {
            start_ticks: input.u64()?,
            operations: input.u32()?,
            remote: input.text()?.into(),
            address: input.text()?.into(),
            unit: input.text()?.into(),
            request_id: input.text()?.into(),
            ..Self::default()
        };
        for _ in 0..input.count()? {
            meta.comments.push(input.text()?.into());
        }
        for _ in 0..input.count()? {
            meta.details.push((input.text()?.into(), input.text()?.into()));
        }
        input.finish()?;
        Ok(meta)
    }
}

impl DatumChange {
    /// The datum after, from the one before.
    ///
    /// # Errors
    /// [`MisfitDelta`] where `before` is not what the change says.
    pub fn apply(&self, before: Option<&Datum>) -> Result<Option<Datum>, MisfitDelta> {
        match self {
            Self::Whole { old, new } => (old.as_ref() == before).then(|| new.clone()).ok_or(MisfitDelta),
            Self::Elements { gone, come } => turn(before, gone, come),
        }
    }

    /// The datum before, from the one after.
    ///
    /// # Errors
    /// [`MisfitDelta`] where `after` is not what the change says.
    pub fn unapply(&self, after: Option<&Datum>) -> Result<Option<Datum>, MisfitDelta> {
        match self {
            Self::Whole { old, new } => (new.as_ref() == after).then(|| old.clone()).ok_or(MisfitDelta),
            Self::Elements { gone, come } => turn(after, come, gone),
        }
    }

    fn between(old: Option<&Datum>, new: Option<&Datum>, column: &ColumnSchema) -> Self {
        match (old, new) {
            (Some(old), Some(new)) if old.len().min(new.len()) > DIFFERENCE_ELEMENTS_MIN => {
                let changed = new.diff_from(old, &column.type_);
                Self::Elements {
                    gone: pick(&changed, old),
                    come: pick(&changed, new),
                }
            }
            _ => Self::Whole {
                old: old.cloned(),
                new: new.cloned(),
            },
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Whole { old, new } => {
                canonical::write_optional(old.as_ref(), out);
                canonical::write_optional(new.as_ref(), out);
            }
            Self::Elements { gone, come } => {
                canonical::write_part(gone, out);
                canonical::write_part(come, out);
            }
        }
    }

    fn decode(op: RowOp, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let (old, new) = match (input.form()?, input.form()?) {
            (Form::Part(gone), Form::Part(come)) if op == RowOp::Modify && gone.is_map() == come.is_map() => {
                return Ok(Self::Elements { gone, come });
            }
            (Form::Absent, Form::Whole(new)) if op != RowOp::Delete => (None, Some(new)),
            (Form::Whole(old), Form::Absent) if op != RowOp::Insert => (Some(old), None),
            (Form::Whole(old), Form::Whole(new)) if op == RowOp::Modify => (Some(old), Some(new)),
            _ => return Err(input.error(Problem::UnknownTag(op as u8))),
        };
        Ok(Self::Whole { old, new })
    }
}

impl RowDelta {
    /// What of `change` outlives the process; None where nothing does.
    pub fn of(change: &RowChange, table: &TableSchema) -> Option<Self> {
        let op = match (&change.old, &change.new) {
            (None, Some(_)) => RowOp::Insert,
            (Some(_), Some(_)) => RowOp::Modify,
            (Some(_), None) => RowOp::Delete,
            (None, None) => return None,
        };
        let persistent = change.changed_columns(table).filter(|(_, column)| column.persistent);
        let columns: Vec<ColumnDelta> = persistent
            .map(|(at, column)| {
                let old = change.old.as_ref().map(|row| row.get(at));
                let new = change.new.as_ref().map(|row| row.get(at));
                ColumnDelta {
                    column: column.name.clone(),
                    change: DatumChange::between(old, new, column),
                }
            })
            .collect();
        if op == RowOp::Modify && columns.is_empty() {
            return None;
        }
        Some(Self {
            table: table.name.clone(),
            uuid: change.uuid,
            op,
            columns,
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(LEAF_ROW);
        write_text(&self.table, out);
        out.extend_from_slice(self.uuid.as_bytes());
        out.push(self.op as u8);
        write_varint(self.columns.len() as u64, out);
        for column in &self.columns {
            write_text(&column.column, out);
            column.change.encode(out);
        }
    }

    /// Decodes a whole leaf.
    pub fn decode(leaf: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Input::new(leaf);
        expect_tag(&mut input, LEAF_ROW)?;
        let table = input.text()?.into();
        let uuid = input.uuid()?;
        let op = match input.byte()? {
            1 => RowOp::Insert,
            2 => RowOp::Modify,
            3 => RowOp::Delete,
            other => return Err(input.error(Problem::UnknownTag(other))),
        };
        let count = input.count()?;
        let mut columns: Vec<ColumnDelta> = Vec::with_capacity(count.min(CLAIMED_ELEMENTS_MAX));
        for _ in 0..count {
            let column: EcoString = input.text()?.into();
            if columns.last().is_some_and(|last| last.column >= column) {
                return Err(input.error(Problem::OutOfOrder));
            }
            columns.push(ColumnDelta {
                column,
                change: DatumChange::decode(op, &mut input)?,
            });
        }
        input.finish()?;
        Ok(Self {
            table,
            uuid,
            op,
            columns,
        })
    }
}

/// Takes the tag of a leaf.
pub(crate) fn expect_tag(input: &mut Input<'_>, tag: u8) -> Result<(), DecodeError> {
    match input.byte()? {
        found if found == tag => Ok(()),
        other => Err(input.error(Problem::UnknownTag(other))),
    }
}

/// The elements of `from` whose keys are in `keys`.
fn pick(keys: &Datum, from: &Datum) -> Datum {
    if from.is_map() {
        let pairs = keys
            .keys()
            .filter_map(|key| Some((key.clone(), from.get(key)?.clone())));
        Datum::map(pairs.collect()).unwrap_or_else(|_| Datum::empty_map())
    } else {
        let keys = keys.keys().filter(|key| from.contains_key(key)).cloned();
        Datum::set(keys.collect()).unwrap_or_else(|_| Datum::empty_set())
    }
}

fn turn(from: Option<&Datum>, less: &Datum, more: &Datum) -> Result<Option<Datum>, MisfitDelta> {
    let from = from.ok_or(MisfitDelta)?;
    // An empty set has no type: it may stand for no elements of either.
    let alike = |part: &Datum| part.is_empty() || part.is_map() == from.is_map();
    if !alike(less) || !alike(more) || !from.includes(less) {
        return Err(MisfitDelta);
    }
    let rest = from.subtract(less);
    if more.keys().any(|key| rest.contains_key(key)) {
        return Err(MisfitDelta);
    }
    Ok(Some(rest.union(more)))
}
