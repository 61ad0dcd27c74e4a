//! Rows that another server told, put into a transaction: those of a relayed database, and those of a backup.
//!
//! The rows are checked as those of any commit. What does not fit is the source's fault, or means that something of it was missed.

use std::collections::HashSet;

use nonnet_chain::{Author, Request};
use nonnet_engine::{Row, Transaction, commit};
use nonnet_schema::{
    ColumnIndex, Datum, ErrorKind, OvsdbError, RowNews, RowUpdate, TableIndex, TableSchema, UUID_COLUMN, Uuid,
    VERSION_COLUMN,
};

use crate::command::Command;
use crate::now::Now;
use crate::server::Server;

/// Why what a source told does not become the rows.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A change of a row that was never told.
    #[error("row {uuid} of table {table} is modified, but it is not there")]
    UnknownRow {
        /// The table.
        table: String,
        /// The row.
        uuid: Uuid,
    },
    /// A datum that its column may not hold.
    #[error("row {uuid} of table {table}: {cause}")]
    Datum {
        /// The table.
        table: String,
        /// The row.
        uuid: Uuid,
        /// What is wrong.
        cause: OvsdbError,
    },
    /// The rows break a rule of the schema, or cannot be kept.
    #[error(transparent)]
    Commit(#[from] OvsdbError),
}

impl Server {
    /// What `get_server_id` answers.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Says whether a database is a backup: then its clients only read, and [`replicate`](Self::replicate) writes.
    pub fn set_backup(&mut self, database: &str, is_backup: bool) {
        if let Some(served) = self.databases.get_mut(database) {
            served.is_backup = is_backup;
        }
    }

    /// Whether the rows of a database are another server's, so that nobody writes to them here.
    pub fn is_follower(&self, database: &str) -> bool {
        let served = self.databases.get(database);
        served.is_some_and(|served| served.is_backup || served.is_relayed())
    }

    /// Commits rows of the server that a database is a backup of. Of the tables in `whole` all rows are told: the others go.
    ///
    /// # Errors
    /// [`SourceError`]; nothing has changed then.
    pub fn replicate(
        &mut self,
        database: &str,
        author: &Author,
        now: Now,
        updates: &[RowUpdate],
        whole: &[TableIndex],
    ) -> Result<Vec<Command>, SourceError> {
        let Some(served) = self.databases.get(database) else {
            return Ok(Vec::new());
        };
        let mut transaction = Transaction::new(&served.database, &mut self.entropy);
        write(&mut transaction, updates)?;
        delete_others(&mut transaction, updates, whole.iter().copied());
        let changes = commit(transaction)?;
        let request = Request {
            txn_uid: self.entropy.uuid(),
            ..Request::default()
        };
        self.commit_changes(database, author, &request, now, changes)?;
        self.retry_parked(database, now);
        Ok(std::mem::take(&mut self.commands))
    }
}

/// Writes what became of rows.
pub(crate) fn write(transaction: &mut Transaction<'_>, updates: &[RowUpdate]) -> Result<(), SourceError> {
    updates.iter().try_for_each(|update| write_row(transaction, update))
}

/// Deletes the rows of `tables` that are not among `updates`, which tell all rows that there are.
pub(crate) fn delete_others(
    transaction: &mut Transaction<'_>,
    updates: &[RowUpdate],
    tables: impl Iterator<Item = TableIndex>,
) {
    let told: HashSet<(TableIndex, Uuid)> = updates.iter().map(|update| (update.table, update.uuid)).collect();
    for table in tables {
        let rows = transaction.rows(table).map(|row| row.uuid());
        let others: Vec<Uuid> = rows.filter(|uuid| !told.contains(&(table, *uuid))).collect();
        for uuid in others {
            transaction.delete(table, uuid);
        }
    }
}

fn write_row(transaction: &mut Transaction<'_>, update: &RowUpdate) -> Result<(), SourceError> {
    let RowUpdate { table, uuid, news } = update;
    let schema = transaction.schema().table(*table);
    let old = transaction.row(*table, *uuid).cloned();
    let fields = match (news, &old) {
        (RowNews::Gone, _) => {
            transaction.delete(*table, *uuid);
            return Ok(());
        }
        (RowNews::Whole(columns), _) => {
            let mut fields = schema.default_fields();
            assign(&mut fields, columns, |_, new, _| new.clone());
            fields
        }
        (RowNews::Difference(columns), Some(old)) => {
            let mut fields = old.fields().to_vec();
            assign(&mut fields, columns, |old, difference, column| {
                old.with_diff(difference, &schema.column(column).type_)
            });
            fields
        }
        (RowNews::Difference(_), None) => {
            return Err(SourceError::UnknownRow {
                table: schema.name.to_string(),
                uuid: *uuid,
            });
        }
    };
    if let Some(cause) = misfit(schema, &fields) {
        return Err(SourceError::Datum {
            table: schema.name.to_string(),
            uuid: *uuid,
            cause,
        });
    }
    match old {
        Some(old) => transaction.replace(*table, Row::new(*uuid, old.version(), fields)),
        None => transaction.insert(*table, *uuid, fields),
    }
    Ok(())
}

/// What is wrong with the number of elements of a field. Each atom was checked when it was parsed.
fn misfit(schema: &TableSchema, fields: &[Datum]) -> Option<OvsdbError> {
    schema.declared_columns().find_map(|(at, column)| {
        let (count, type_) = (fields[at.0].len(), &column.type_);
        let fits = (type_.min as usize..=type_.max as usize).contains(&count);
        (!fits).then(|| {
            let english = type_.to_english();
            OvsdbError::new(ErrorKind::ResultSize { count, english })
        })
    })
}

/// Puts the columns that are given into the fields of a row.
fn assign(
    fields: &mut [Datum],
    columns: &[(ColumnIndex, Datum)],
    combine: impl Fn(&Datum, &Datum, ColumnIndex) -> Datum,
) {
    // A row's version is that of the database it is in.
    let is_declared = |column: ColumnIndex| column != UUID_COLUMN && column != VERSION_COLUMN;
    for (column, given) in columns.iter().filter(|(column, _)| is_declared(*column)) {
        if let Some(field) = fields.get_mut(column.0) {
            *field = combine(field, given, *column);
        }
    }
}
