//! `nonnet monitor`: changes of rows as they happen.

use anyhow::Result;
use nonnet_client::{Replica, ReplicaEvent, Row, RowChange, Selection};
use nonnet_schema::{Atom, BaseType, Constraint, DatabaseSchema, Datum};
use serde_json::{Map, Value, json};

use crate::arguments::{Common, Monitor};
use crate::catalog;
use crate::notation::{friendly_atom, to_friendly};
use crate::output::{Colour, Output, bare_or_quoted, change_words};
use crate::server::{Server, address};
use crate::time;

/// Follows the tables until the output is closed or the process is ended.
pub(crate) async fn run(common: &Common, options: &Monitor, output: &mut Output) -> Result<u8> {
    // Explains an unknown database or table better than the replica can.
    let server = Server::open(common).await?;
    let mut selection = Selection::all();
    for table in &options.tables {
        catalog::known_table(&server.schema, table)?;
    }
    for table in shown_tables(&server.schema, &options.tables) {
        selection = selection.table(table);
    }
    for (table, key) in named_tables(&server.schema, &options.tables) {
        selection = selection.columns(table, &[key.as_str()]);
    }
    drop(server);
    let address = address(common)?;
    let mut replica = Replica::open(&address, &common.db, selection).await?;
    note(&format!("following {} at {address}; end with Ctrl-C", common.db));
    loop {
        let changes = match replica.next().await {
            ReplicaEvent::Changed(changes) => changes,
            ReplicaEvent::Lost(error) => {
                note(&format!("{error}; connecting again"));
                continue;
            }
            ReplicaEvent::Synced(changes) => {
                note("connected again");
                changes
            }
        };
        for change in changes
            .iter()
            .filter(|change| options.tables.is_empty() || options.tables.contains(&change.table))
        {
            print(change, &replica, output)?;
        }
        output.flush()?;
    }
}

fn note(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("nonnet: {text}\n").as_bytes());
}

/// The tables asked for, each once; none stands for all.
fn shown_tables(schema: &DatabaseSchema, asked: &[String]) -> Vec<String> {
    let tables = schema.tables().iter().map(|table| table.name.to_string());
    tables
        .filter(|table| asked.is_empty() || asked.contains(table))
        .collect()
}

/// The other tables that those refer to, with the columns by which their rows are named.
fn named_tables(schema: &DatabaseSchema, asked: &[String]) -> Vec<(String, String)> {
    if asked.is_empty() {
        return Vec::new();
    }
    let mut named = Vec::new();
    for table in asked.iter().filter_map(|name| catalog::table(schema, name)) {
        let targets = table
            .declared_columns()
            .filter_map(|(_, column)| catalog::target(schema, column));
        for target in targets.filter(|target| !asked.iter().any(|name| *name == target.name)) {
            let Some(key) = catalog::key_column(target) else {
                continue;
            };
            let pair = (target.name.to_string(), key.name.to_string());
            if !named.contains(&pair) {
                named.push(pair);
            }
        }
    }
    named
}

fn print(change: &RowChange, replica: &Replica, output: &mut Output) -> Result<()> {
    let columns = columns_of(change, replica);
    let key = key_of(change, replica);
    let (sign, action, colour) = match (&change.old, &change.new) {
        (None, _) => ('+', "insert", Colour::Green),
        (Some(_), Some(_)) => ('~', "modify", Colour::Yellow),
        (Some(_), None) => ('-', "delete", Colour::Red),
    };
    let now = time::local(time::now_us());
    if output.is_json() {
        let column = |(name, old, new): (String, Option<Value>, Option<Value>)| {
            let mut members = Map::new();
            members.extend(old.map(|old| ("old".to_owned(), old)));
            members.extend(new.map(|new| ("new".to_owned(), new)));
            (name, Value::Object(members))
        };
        let columns: Map<String, Value> = columns.into_iter().map(column).collect();
        let uuid = change.uuid.hyphenated().to_string();
        output.json_line(&json!({
            "time": now, "action": action, "table": change.table, "row": key, "uuid": uuid, "columns": columns,
        }))?;
        return Ok(());
    }
    let columns: Vec<String> = columns
        .iter()
        .map(|(name, old, new)| change_words(name, old.as_ref(), new.as_ref()))
        .collect();
    let separator = if columns.is_empty() { "" } else { ": " };
    let line = format!(
        "{sign} {} {}{separator}{}",
        change.table,
        bare_or_quoted(&key),
        columns.join(", ")
    );
    let line = output.coloured(colour, &line);
    output.line(&format!("{now} {line}"))?;
    Ok(())
}

/// What changed: of a row that came or went, all that is not as by default.
fn columns_of(change: &RowChange, replica: &Replica) -> Vec<(String, Option<Value>, Option<Value>)> {
    let Some(table) = catalog::table(replica.schema(), &change.table) else {
        return Vec::new();
    };
    let mut columns = Vec::new();
    for (_, column) in table.declared_columns() {
        let datum = |row: &Option<std::sync::Arc<Row>>| row.as_deref().and_then(|row| row.get(&column.name)).cloned();
        let (old, new) = (datum(&change.old), datum(&change.new));
        let default = Datum::default_for(&column.type_);
        let is_modify = change.old.is_some() && change.new.is_some();
        let is_shown = if is_modify {
            old != new
        } else {
            old.as_ref().or(new.as_ref()).is_some_and(|datum| *datum != default)
        };
        if is_shown {
            let friendly =
                |datum: Datum| to_friendly(&datum, &column.type_, &mut |base, atom| name_of(base, atom, replica));
            columns.push((column.name.to_string(), old.map(friendly), new.map(friendly)));
        }
    }
    columns
}

fn key_of(change: &RowChange, replica: &Replica) -> String {
    let column = catalog::table(replica.schema(), &change.table).and_then(catalog::key_column);
    let row = change.new.as_deref().or(change.old.as_deref());
    let key = column.and_then(|column| row?.get(&column.name)?.as_str().map(str::to_owned));
    key.unwrap_or_else(|| change.uuid.hyphenated().to_string())
}

/// What a referred row is called.
fn name_of(base: &BaseType, atom: &Atom, replica: &Replica) -> Value {
    let name = || {
        let Constraint::Reference { table, .. } = &base.constraint else {
            return None;
        };
        let key = catalog::key_column(catalog::table(replica.schema(), table)?)?;
        let row = replica.table(table)?.get(atom.as_uuid()?)?;
        row.get(&key.name)?.as_str().map(Value::from)
    };
    name().unwrap_or_else(|| friendly_atom(atom))
}
