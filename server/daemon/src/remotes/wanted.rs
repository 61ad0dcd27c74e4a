//! The remotes that a column asks for: strings are targets; references lead to rows that say more (ovsdb-server(1), "--remote").

use std::time::Duration;

use nonnet_engine::{Database, Row};
use nonnet_rpc::RemoteOptions;
use nonnet_schema::{Datum, TableIndex, TableSchema, Uuid};

use crate::remotes::column::{ColumnError, FoundColumn};

/// The largest differentiated services code point.
const DSCP_MAX: u8 = 63;

/// A remote that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) target: String,
    /// None where nothing but the target is said.
    pub(crate) options: Option<RemoteOptions>,
}

impl Wanted {
    /// Whether it is a socket that this process was started with, which no row can know of.
    pub(crate) fn is_inherited(&self) -> bool {
        self.target.starts_with("pfd:")
    }
}

/// The remotes in a column; none where it holds neither strings nor references. Rows that name no target are given as errors.
pub(crate) fn remotes_in(found: FoundColumn<'_>) -> Vec<Result<Wanted, ColumnError>> {
    if found.holds_strings() {
        let targets = found.rows().flat_map(|row| row.get(found.column).keys());
        let wanted = |target: &str| {
            Ok(Wanted {
                target: target.to_owned(),
                options: None,
            })
        };
        return targets.filter_map(|atom| atom.as_str().map(wanted)).collect();
    }
    let Some(table) = found.referenced() else {
        return Vec::new();
    };
    let rows = referenced_rows(found, table);
    rows.into_iter()
        .map(|row| remote_in(found.database, table, row))
        .collect()
}

/// The rows of `table` that a column refers to, each once.
pub(crate) fn referenced_rows(found: FoundColumn<'_>, table: TableIndex) -> Vec<&Row> {
    let mut uuids: Vec<Uuid> = found
        .rows()
        .flat_map(|row| row.get(found.column).keys().filter_map(nonnet_schema::Atom::as_uuid))
        .collect();
    uuids.sort_unstable();
    uuids.dedup();
    let rows = found.database.table(table);
    uuids
        .into_iter()
        .filter_map(|uuid| rows.row(uuid).map(|row| &**row))
        .collect()
}

/// The target that a row names.
pub(crate) fn target_of<'a>(table: &TableSchema, row: &'a Row) -> Option<&'a str> {
    let target = scalar(table, row, "target")?.as_str()?;
    Some(target).filter(|target| !target.is_empty())
}

fn remote_in(database: &Database, table: TableIndex, row: &Row) -> Result<Wanted, ColumnError> {
    let table = database.schema().table(table);
    let Some(target) = target_of(table, row) else {
        return Err(ColumnError::NoTarget(table.name.clone()));
    };
    let milliseconds = |column| {
        let datum = scalar(table, row, column)?;
        datum
            .as_integer()
            .map(|number| Duration::from_millis(number.try_into().unwrap_or(0)))
    };
    let default = RemoteOptions::default();
    let options = RemoteOptions {
        max_backoff: milliseconds("max_backoff").unwrap_or(default.max_backoff),
        inactivity_probe: milliseconds("inactivity_probe"),
        dscp: dscp_of(table, row),
        read_only: scalar(table, row, "read_only")
            .and_then(Datum::as_bool)
            .unwrap_or(false),
        role: scalar(table, row, "role")
            .and_then(Datum::as_str)
            .unwrap_or_default()
            .into(),
        ..default
    };
    Ok(Wanted {
        target: target.to_owned(),
        options: Some(options),
    })
}

fn dscp_of(table: &TableSchema, row: &Row) -> Option<u8> {
    let column = table.column_index("other_config")?;
    let dscp: u8 = row.get(column).get_str("dscp")?.trim().parse().ok()?;
    (dscp <= DSCP_MAX).then_some(dscp)
}

/// The datum of a column that holds at most one atom, where it holds one.
fn scalar<'a>(table: &TableSchema, row: &'a Row, column: &str) -> Option<&'a Datum> {
    let index = table.column_index(column)?;
    let type_ = &table.column(index).type_;
    let datum = row.get(index);
    (type_.max == 1 && !type_.is_map() && !datum.is_empty()).then_some(datum)
}
