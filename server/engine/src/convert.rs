//! A database under a new schema (ovsdb-server(7) 4.1.17, `convert`).
//!
//! Tables and columns that the new schema does not have are left out, those that it adds hold their defaults; a column of the same name
//! holds what its JSON form means to the new type. The result must pass the checks of a commit that inserts all of it, garbage collection
//! included. It costs a pass over all rows.

use std::sync::Arc;

use nonnet_schema::{ColumnIndex, ColumnSchema, ColumnType, DatabaseSchema, Datum, OvsdbError, TableSchema};

use crate::check;
use crate::database::Database;
use crate::entropy::Entropy;
use crate::hook::CommitHook;
use crate::row::Row;
use crate::transaction::Transaction;

/// The rows of `database` under `schema`, with their UUIDs and new versions; `database` stays as it is. `sequence` and `hook` are those of
/// the commit, the hook one for the new schema.
///
/// # Errors
/// A datum that its new type does not admit, the first by table, row and column; or the first check that fails.
pub fn convert(
    database: &Database,
    schema: Arc<DatabaseSchema>,
    sequence: u64,
    hook: Option<&dyn CommitHook>,
    entropy: &mut Entropy,
) -> Result<Database, OvsdbError> {
    let mut converted = database.empty_with(schema);
    let mut transaction = Transaction::new(&converted, entropy);
    for new_table in converted.schema().tables() {
        if let (Some((index, rows)), Some(new_index)) = (
            database.table_named(&new_table.name),
            converted.schema().table_index(&new_table.name),
        ) {
            let plan = TablePlan::new(database.schema().table(index), new_table);
            let mut rows: Vec<&Arc<Row>> = rows.rows().collect();
            rows.sort_unstable_by_key(|row| row.uuid());
            for row in rows {
                transaction.insert(new_index, row.uuid(), plan.fields(row)?);
            }
        }
    }
    if let Some(hook) = hook {
        hook.begin(&mut transaction, sequence);
        hook.prepare(&mut transaction)?;
    }
    check::run(&mut transaction)?;
    let changes = transaction.into_change_set();
    converted.apply(&changes);
    Ok(converted)
}

/// What becomes of the rows of one table.
struct TablePlan<'a> {
    defaults: Vec<Datum>,
    columns: Vec<ColumnPlan<'a>>,
}

/// A column that is in both schemas.
struct ColumnPlan<'a> {
    from: ColumnIndex,
    to: ColumnIndex,
    /// What its data must become; None where the type has not changed.
    type_: Option<&'a ColumnType>,
}

impl<'a> TablePlan<'a> {
    fn new(old: &TableSchema, new: &'a TableSchema) -> Self {
        let column = |(to, column): (ColumnIndex, &'a ColumnSchema)| {
            let from = old.column_index(&column.name)?;
            let is_same = old.column(from).type_ == column.type_;
            Some(ColumnPlan {
                from,
                to,
                type_: (!is_same).then_some(&column.type_),
            })
        };
        Self {
            defaults: new.default_fields(),
            columns: new.declared_columns().filter_map(column).collect(),
        }
    }

    fn fields(&self, row: &Row) -> Result<Vec<Datum>, OvsdbError> {
        let mut fields = self.defaults.clone();
        for column in &self.columns {
            let datum = row.get(column.from);
            fields[column.to.0] = match column.type_ {
                Some(type_) => datum.converted(type_)?,
                None => datum.clone(),
            };
        }
        Ok(fields)
    }
}
