//! How much a server holds, for `memory/show` (ovsdb-server(1), "memory/show").
//!
//! Rows are counted from snapshots, so that counting a million of them can be done elsewhere.

use std::fmt::Write as _;

use nonnet_engine::Snapshot;
use nonnet_schema::Strength;

/// What a server holds as of one moment.
#[derive(Clone, Debug)]
pub struct Usage {
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) monitors: usize,
    pub(crate) sessions: usize,
    pub(crate) triggers: usize,
}

#[derive(Default)]
struct Rows {
    atoms: usize,
    cells: usize,
    weak_references: usize,
}

impl Usage {
    /// One line in ovsdb-server's words; `backlog_bytes` wait to be read by clients. Takes time in proportion to the rows.
    pub fn to_line(&self, backlog_bytes: usize) -> String {
        let mut rows = Rows::default();
        for snapshot in &self.snapshots {
            rows.add(snapshot);
        }
        let mut line = format!(
            "atoms:{} cells:{} monitors:{} n-weak-refs:{}",
            rows.atoms, rows.cells, self.monitors, rows.weak_references
        );
        for (key, count) in [
            ("sessions", self.sessions),
            ("triggers", self.triggers),
            ("backlog", backlog_bytes),
        ] {
            if count > 0 {
                // Writing to a string cannot fail.
                let _ = write!(line, " {key}:{count}");
            }
        }
        line
    }
}

impl Rows {
    fn add(&mut self, snapshot: &Snapshot) {
        for (at, schema) in snapshot.schema().tables().iter().enumerate() {
            let table = snapshot.table(nonnet_schema::TableIndex(at));
            self.cells += table.len() * schema.columns().len();
            let is_weak: Vec<bool> = schema
                .columns()
                .iter()
                .map(|column| {
                    let bases = [Some(&column.type_.key), column.type_.value.as_ref()];
                    let mut references = bases.into_iter().flatten().filter_map(|base| base.reference());
                    references.any(|(_, strength)| strength == Strength::Weak)
                })
                .collect();
            for row in table.rows() {
                for (field, is_weak) in row.fields().iter().zip(&is_weak) {
                    self.atoms += field.len();
                    self.weak_references += if *is_weak { field.len() } else { 0 };
                }
            }
        }
    }
}
