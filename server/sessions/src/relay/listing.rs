//! The row of a relayed database in `_Server` (ovsdb-server(5)).

use nonnet_engine::{ChangeSet, Database, Entropy, Row, Transaction, commit};
use nonnet_schema::{Datum, OvsdbError};

/// What the row says.
pub(super) struct State<'a> {
    pub(super) name: &'a str,
    pub(super) is_connected: bool,
    /// Its text; None until the source has told it.
    pub(super) schema: Option<&'a str>,
}

/// The change that adds the row of a relayed database of which nothing is known yet.
pub(super) fn add(catalog: &Database, name: &str, entropy: &mut Entropy) -> Result<ChangeSet, OvsdbError> {
    let state = State {
        name,
        is_connected: false,
        schema: None,
    };
    update(catalog, &state, true, entropy)
}

/// The change that makes the row say so; `anew` puts another row in its place.
pub(super) fn update(
    catalog: &Database,
    state: &State<'_>,
    anew: bool,
    entropy: &mut Entropy,
) -> Result<ChangeSet, OvsdbError> {
    let Some(at) = catalog.schema().table_index("Database") else {
        return Ok(ChangeSet::default());
    };
    let table = catalog.schema().table(at);
    let name_column = table.column_index("name");
    let is_it = |row: &Row| name_column.is_some_and(|column| row.get(column).as_str() == Some(state.name));
    let mut transaction = Transaction::new(catalog, entropy);
    let old = transaction.rows(at).find(|row| is_it(row)).cloned();
    let mut fields = table.default_fields();
    let values = [
        ("name", Datum::scalar(state.name)),
        ("model", Datum::scalar("relay")),
        ("connected", Datum::scalar(state.is_connected)),
        ("leader", Datum::scalar(false)),
        ("schema", Datum::optional(state.schema)),
    ];
    for (name, datum) in values {
        if let Some(column) = table.column_index(name) {
            fields[column.0] = datum;
        }
    }
    match old {
        Some(old) if !anew => transaction.replace(at, Row::new(old.uuid(), old.version(), fields)),
        old => {
            if let Some(old) = old {
                transaction.delete(at, old.uuid());
            }
            let uuid = transaction.new_uuid();
            transaction.insert(at, uuid, fields);
        }
    }
    commit(transaction)
}
