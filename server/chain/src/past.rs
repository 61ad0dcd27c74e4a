//! What rows were before some records: the log read once, oldest first, and of each column only what is needed to go back.
//!
//! The first change of a column names what it held before, and nothing after that counts. Only where large sets and maps changed by
//! elements is the way back kept, up to the first change that names a whole datum.

use std::collections::BTreeMap;

use ecow::EcoString;
use nonnet_schema::{Datum, Uuid};

use crate::body::Body;
use crate::leaf::{DatumChange, MisfitDelta, RowDelta, RowOp};

/// What became of rows, seen backwards.
#[derive(Clone, Debug, Default)]
pub struct Past {
    rows: BTreeMap<(EcoString, Uuid), PastRow>,
    weight: usize,
}

/// One row before the records.
#[derive(Clone, Debug)]
pub struct PastRow {
    existed: bool,
    columns: BTreeMap<EcoString, PastDatum>,
}

#[derive(Clone, Debug, Default)]
struct PastDatum {
    /// Changes by elements, oldest first.
    parts: Vec<DatumChange>,
    /// The datum after them.
    after: After,
}

/// What a column held after its changes by elements.
#[derive(Clone, Debug, Default)]
enum After {
    /// What it holds after the last record.
    #[default]
    Last,
    /// What a record says; None where the schema did not have the column.
    Known(Option<Datum>),
}

impl Past {
    /// Adds the next record.
    pub fn add(&mut self, body: Body) {
        for delta in body.rows {
            self.add_row(delta);
        }
    }

    /// Every row that the records changed, by table and UUID.
    pub fn rows(&self) -> impl Iterator<Item = (&EcoString, Uuid, &PastRow)> {
        self.rows.iter().map(|((table, uuid), row)| (table, *uuid, row))
    }

    /// Number of rows that the records changed.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True where they changed none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows and elements of datums held, about.
    pub fn weight(&self) -> usize {
        self.weight
    }

    fn add_row(&mut self, delta: RowDelta) {
        let weight = &mut self.weight;
        let row = self.rows.entry((delta.table, delta.uuid)).or_insert_with(|| {
            *weight += 1;
            PastRow {
                existed: delta.op != RowOp::Insert,
                columns: BTreeMap::new(),
            }
        });
        if !row.existed {
            return;
        }
        for column in delta.columns {
            let past = row.columns.entry(column.column).or_default();
            if matches!(past.after, After::Known(_)) {
                continue;
            }
            match column.change {
                DatumChange::Whole { old, .. } => {
                    *weight += 1 + old.as_ref().map_or(0, Datum::len);
                    past.after = After::Known(old);
                }
                DatumChange::Elements { gone, come } => {
                    *weight += 1 + gone.len() + come.len();
                    past.parts.push(DatumChange::Elements { gone, come });
                }
            }
        }
    }
}

impl PastRow {
    /// Whether it was there.
    pub fn existed(&self) -> bool {
        self.existed
    }

    /// What a persistent column held, from what it holds after the records; `after` is None for a row that is gone.
    ///
    /// # Errors
    /// [`MisfitDelta`] where that cannot be.
    pub fn datum(&self, column: &str, after: Option<&Datum>) -> Result<Datum, MisfitDelta> {
        let Some(past) = self.columns.get(column) else {
            return after.cloned().ok_or(MisfitDelta);
        };
        let after = match &past.after {
            After::Last => after.cloned(),
            After::Known(datum) => datum.clone(),
        };
        let unapply = |datum: Option<Datum>, part: &DatumChange| part.unapply(datum.as_ref());
        let before = past.parts.iter().rev().try_fold(after, unapply)?;
        before.ok_or(MisfitDelta)
    }
}
