//! What stands against taking something back.

use nonnet_schema::Uuid;
use nonnet_store::RowRecord;

/// Why a row cannot be what it was.
#[derive(Clone, Debug)]
pub(crate) struct Conflict {
    pub(crate) table: String,
    pub(crate) uuid: Uuid,
    pub(crate) column: Option<String>,
    /// `was changed`, `was deleted`: what is wrong.
    pub(crate) problem: String,
    /// The commit that is to blame, where one is.
    pub(crate) by: Option<Box<RowRecord>>,
}

impl Conflict {
    pub(crate) fn row(table: &str, uuid: Uuid, problem: impl Into<String>) -> Self {
        Self {
            table: table.to_owned(),
            uuid,
            column: None,
            problem: problem.into(),
            by: None,
        }
    }

    pub(crate) fn column(self, column: &str) -> Self {
        Self {
            column: Some(column.to_owned()),
            ..self
        }
    }

    pub(crate) fn by(self, record: Option<RowRecord>) -> Self {
        Self {
            by: record.map(Box::new),
            ..self
        }
    }
}
