//! A new schema for a database file that no server has open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nonnet_chain::{Author, Head, Moment, RecordTooLarge, Request, StoredSide};
use nonnet_engine::{Database, Entropy};
use nonnet_schema::{DatabaseSchema, OvsdbError};

use crate::layout::OpenError;
use crate::log::{AppendError, Log as _};
use crate::open::{Opened, open};

/// Who converts, when, and what random numbers that takes.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// Who.
    pub author: Author,
    /// When.
    pub moment: Moment,
    /// Where the UUIDs come from.
    pub seed: [u8; 32],
}

/// Why a file was not converted. It is as it was, unless the error says that the outcome is unknown.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The file cannot be opened, or a server has it open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What it holds does not fit the new schema.
    #[error("{} does not fit the new schema: {error}", .path.display())]
    Misfit {
        /// The file.
        path: PathBuf,
        /// What does not fit, as a server would answer.
        error: OvsdbError,
    },
    /// The record of it would be too large.
    #[error("{}: {source}", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How large.
        source: RecordTooLarge,
    },
    /// It could not be written.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Brings the database at `path` under another schema, as `convert` of ovsdb-server(7) 4.1.17 does, in one record; gives that.
///
/// The name of the database may change with it. The rules of a network controller are not looked at.
///
/// # Errors
/// [`ConvertError`].
pub fn convert(path: &Path, schema: &DatabaseSchema, conversion: &Conversion) -> Result<Head, ConvertError> {
    let Opened {
        mut log,
        schema: old_schema,
        rows,
        mut chain,
        ..
    } = open(path)?;
    let mut entropy = Entropy::new(conversion.seed);
    let mut before = Database::new(Arc::new(old_schema), entropy.uuid().as_u64_pair().0);
    for row in rows {
        before.load(row.table, row.uuid, row.fields, &mut entropy);
    }
    let expected = chain.head();
    let after = nonnet_engine::convert(&before, Arc::new(schema.clone()), expected.seq + 1, None, &mut entropy);
    let after = after.map_err(|error| ConvertError::Misfit {
        path: path.to_owned(),
        error,
    })?;
    let stored = |database| StoredSide {
        database,
        volatile: &[],
    };
    let request = Request {
        operations: 1,
        txn_uid: entropy.uuid(),
        durable: true,
        ..Request::default()
    };
    let record = chain.convert(
        &conversion.author,
        &request,
        conversion.moment,
        (stored(&before), stored(&after)),
    );
    let record = record.map_err(|source| ConvertError::TooLarge {
        path: path.to_owned(),
        source,
    })?;
    let head = log.append(&[record], expected, true)?;
    // So that the next start has little to replay; the record is written, whatever becomes of this.
    while matches!(log.maintain(true), Ok(true)) {}
    Ok(head)
}
