//! `nonnet query`: the rows there are.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use nonnet_schema::{ColumnSchema, DatabaseSchema, Datum, TableSchema, Uuid};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::arguments::{Common, Query};
use crate::catalog;
use crate::content::{Row, Rows};
use crate::notation::parse_datum;
use crate::output::{NOTHING, Output, words};
use crate::server::Server;
use crate::source::Source;
use crate::wanted::LXC;

/// A container as state files have it, its members in the order of the seed.
#[derive(Debug, Serialize)]
struct Container {
    id: String,
    veth: String,
    bridge: String,
    running: bool,
    properties: BTreeMap<String, String>,
}

/// The content of the plugin `lxc`.
#[derive(Debug, Serialize)]
struct Containers {
    containers: Vec<Container>,
}

/// A condition on the rows that are shown.
struct Clause<'a> {
    column: &'a ColumnSchema,
    function: &'static str,
    argument: Value,
}

/// Prints rows of the server.
pub(crate) async fn run(common: &Common, options: &Query, output: &mut Output) -> Result<u8> {
    let server = Server::open(common).await?;
    print(&Source::Server(&server.connection), &server.schema, options, output).await?;
    Ok(0)
}

/// Prints rows, from wherever they are.
pub(crate) async fn print(
    source: &Source<'_>,
    schema: &DatabaseSchema,
    options: &Query,
    output: &mut Output,
) -> Result<()> {
    if let Some(plugin) = &options.plugin {
        return print_plugin(source, schema, plugin, output).await;
    }
    let Some(name) = &options.table else {
        return print_all(source, schema, output).await;
    };
    let table = catalog::known_table(schema, name)?;
    let columns = columns(table, &options.columns, source)?;
    let mut rows = Rows::read_from(source, schema, &[name]).await?;
    if !options.conditions.is_empty() {
        let clauses: Vec<Clause<'_>> = options
            .conditions
            .iter()
            .map(|text| parse_clause(text, table, &rows, schema, source))
            .collect::<Result<_>>()?;
        // The engine judges the conditions: it knows its functions best.
        let condition: Vec<Value> = clauses
            .iter()
            .map(|clause| json!([clause.column.name.as_str(), clause.function, clause.argument]))
            .collect();
        let select = json!({"op": "select", "table": name, "where": condition});
        let selected = source.select(schema, vec![select]).await?;
        rows.add_table(name, selected.first().map(Vec::as_slice).unwrap_or_default())?;
    }
    if output.is_json() {
        output.json(&table_json(table, &columns, &rows))?;
    } else {
        print_table(table, &columns, &rows, options.columns.is_empty(), output)?;
    }
    Ok(())
}

async fn print_all(source: &Source<'_>, schema: &DatabaseSchema, output: &mut Output) -> Result<()> {
    let tables: Vec<&TableSchema> = schema.tables().iter().filter(|table| is_told(table, source)).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let rows = Rows::read_from(source, schema, &names).await?;
    let mut all = Map::new();
    let mut is_first = true;
    for table in tables {
        let columns = columns(table, &[], source)?;
        if output.is_json() {
            all.insert(table.name.to_string(), table_json(table, &columns, &rows));
        } else if rows.table(&table.name).next().is_some() {
            if !is_first {
                output.line("")?;
            }
            is_first = false;
            output.line(&format!("{}:", table.name))?;
            print_table(table, &columns, &rows, true, output)?;
        }
    }
    if output.is_json() {
        output.json(&all)?;
    } else if is_first {
        output.line("no rows")?;
    }
    Ok(())
}

/// Whether the source has rows of the table at all.
fn is_told(table: &TableSchema, source: &Source<'_>) -> bool {
    source.has_ephemeral() || table.declared_columns().any(|(_, column)| column.persistent)
}

/// Prints a table as state files have it.
async fn print_plugin(source: &Source<'_>, schema: &DatabaseSchema, plugin: &str, output: &mut Output) -> Result<()> {
    let Some(table) = catalog::table(schema, plugin).filter(|table| catalog::is_describable(table)) else {
        let known = catalog::describable(schema).join(", ");
        bail!("plugin \"{plugin}\" is not supported yet; supported are {known}");
    };
    let rows = Rows::read_from(source, schema, &[plugin]).await?;
    if plugin == LXC {
        let containers = sorted(table, &rows)
            .into_iter()
            .map(|(_, row)| container(row))
            .collect();
        return Ok(output.json(&Containers { containers })?);
    }
    let key = catalog::key_column(table).map(|key| key.name.as_str());
    let wanted = |row: &Row| {
        let mut members = Map::new();
        for (_, column) in table.declared_columns().filter(|(_, column)| column.persistent) {
            let datum = row
                .get(column.name.as_str())
                .cloned()
                .unwrap_or_else(|| Datum::default_for(&column.type_));
            if datum != Datum::default_for(&column.type_) || key == Some(column.name.as_str()) {
                members.insert(column.name.to_string(), rows.friendly(column, &datum));
            }
        }
        Value::Object(members)
    };
    let rows: Vec<Value> = sorted(table, &rows).into_iter().map(|(_, row)| wanted(row)).collect();
    Ok(output.json(&rows)?)
}

fn container(row: &Row) -> Container {
    let text = |column: &str| row.get(column).and_then(Datum::as_str).unwrap_or_default().to_owned();
    let atom = |atom: &nonnet_schema::Atom| atom.as_str().unwrap_or_default().to_owned();
    let properties = row.get("properties").into_iter().flat_map(Datum::iter);
    Container {
        id: text("id"),
        veth: text("veth"),
        bridge: text("bridge"),
        running: row.get("running").and_then(Datum::as_bool).unwrap_or_default(),
        properties: properties
            .filter_map(|(key, value)| Some((atom(key), atom(value?))))
            .collect(),
    }
}

/// The columns to show: those asked for, or all with the name first; `_uuid` as none.
fn columns<'a>(
    table: &'a TableSchema,
    asked: &'a [String],
    source: &Source<'_>,
) -> Result<Vec<(&'a str, Option<&'a ColumnSchema>)>> {
    let mut columns = Vec::new();
    for name in asked {
        if name == "_uuid" {
            columns.push(("_uuid", None));
        } else {
            columns.push((name.as_str(), Some(told_column(table, name, source)?)));
        }
    }
    if columns.is_empty() {
        let key = catalog::key_column(table);
        let others = table
            .declared_columns()
            .map(|(_, column)| column)
            .filter(|column| Some(*column) != key && (column.persistent || source.has_ephemeral()));
        columns.extend(
            key.into_iter()
                .chain(others)
                .map(|column| (column.name.as_str(), Some(column))),
        );
    }
    Ok(columns)
}

/// The column of that name, which the source must tell.
fn told_column<'a>(table: &'a TableSchema, name: &str, source: &Source<'_>) -> Result<&'a ColumnSchema> {
    let column = catalog::known_column(table, name)?;
    if !column.persistent && !source.has_ephemeral() {
        bail!("the column {name} of {} is ephemeral: no log holds it", table.name);
    }
    Ok(column)
}

/// The rows by name: numbers by their value, then texts.
fn sorted<'a>(table: &TableSchema, rows: &'a Rows<'_>) -> Vec<(Uuid, &'a Row)> {
    let mut sorted: Vec<(Uuid, &Row)> = rows.table(&table.name).collect();
    let key = catalog::key_column(table).map(|key| key.name.as_str());
    sorted.sort_by_key(|(uuid, row)| {
        let name = key.and_then(|key| row.get(key)?.as_str()).unwrap_or_default();
        (name.parse::<u64>().unwrap_or(u64::MAX), name.to_owned(), *uuid)
    });
    sorted
}

fn cell(uuid: Uuid, row: &Row, column: Option<&ColumnSchema>, rows: &Rows<'_>) -> Value {
    match column {
        None => uuid.hyphenated().to_string().into(),
        Some(column) => row
            .get(column.name.as_str())
            .map_or(Value::Null, |datum| rows.friendly(column, datum)),
    }
}

fn table_json(table: &TableSchema, columns: &[(&str, Option<&ColumnSchema>)], rows: &Rows<'_>) -> Value {
    let row_json = |(uuid, row): (Uuid, &Row)| {
        let mut members: Map<String, Value> = columns
            .iter()
            .map(|(name, column)| ((*name).to_owned(), cell(uuid, row, *column, rows)))
            .collect();
        members.insert("_uuid".to_owned(), uuid.hyphenated().to_string().into());
        Value::Object(members)
    };
    sorted(table, rows).into_iter().map(row_json).collect()
}

/// Prints the rows; without the columns that hold nothing in any row, where only the useful ones are wanted.
fn print_table(
    table: &TableSchema,
    columns: &[(&str, Option<&ColumnSchema>)],
    rows: &Rows<'_>,
    only_useful: bool,
    output: &mut Output,
) -> Result<()> {
    let sorted = sorted(table, rows);
    let mut shown: Vec<(&str, Vec<String>)> = columns
        .iter()
        .map(|(name, column)| {
            (
                *name,
                sorted
                    .iter()
                    .map(|(uuid, row)| short(name, &cell(*uuid, row, *column, rows)))
                    .collect(),
            )
        })
        .filter(|(_, cells): &(&str, Vec<String>)| {
            !only_useful || cells.is_empty() || cells.iter().any(|cell| cell != NOTHING)
        })
        .collect();
    if shown.is_empty() {
        // Rows that hold nothing are rows.
        let uuids = sorted.iter().map(|(uuid, _)| uuid.hyphenated().to_string());
        shown.push(("_uuid", uuids.collect()));
    }
    let headings: Vec<&str> = shown.iter().map(|(name, _)| *name).collect();
    let line = |at: usize| shown.iter().filter_map(|(_, cells)| cells.get(at).cloned()).collect();
    let lines: Vec<Vec<String>> = (0..sorted.len()).map(line).collect();
    Ok(output.table(&headings, &lines)?)
}

/// A cell in few words; of a status only the state, JSON has all of it.
fn short(column: &str, value: &Value) -> String {
    match value.get("state").filter(|_| column == "status") {
        Some(state) => words(state),
        None => words(value),
    }
}

/// `COLUMN=VALUE`, `COLUMN!=VALUE`, `COLUMN:KEY=VALUE`.
fn parse_clause<'a>(
    text: &str,
    table: &'a TableSchema,
    rows: &Rows<'_>,
    schema: &DatabaseSchema,
    source: &Source<'_>,
) -> Result<Clause<'a>> {
    let (left, value) = text
        .split_once('=')
        .with_context(|| format!("--where {text}: COLUMN=VALUE is expected"))?;
    let (left, is_negated) = left.strip_suffix('!').map_or((left, false), |left| (left, true));
    let (name, key) = left
        .split_once(':')
        .map_or((left, None), |(name, key)| (name, Some(key)));
    let column = told_column(table, name.trim(), source).with_context(|| format!("--where {text}"))?;
    let is_map = column.type_.value.is_some();
    if is_map != key.is_some() {
        let form = if is_map {
            "COLUMN:KEY=VALUE, since it is a map"
        } else {
            "COLUMN=VALUE, since it is not a map"
        };
        bail!("--where {text}: of {name}, {form}");
    }
    let json = match (key, catalog::target(schema, column)) {
        (Some(key), _) => json!({key: value}),
        (None, Some(target)) if nonnet_schema::parse_uuid(value).is_none() && !value.is_empty() => {
            match rows.find(&target.name, value) {
                Some((uuid, _)) => json!(["set", [["uuid", uuid.hyphenated().to_string()]]]),
                None => bail!("--where {text}: there is no \"{value}\" in {}", target.name),
            }
        }
        (None, _) if value.is_empty() && column.type_.min == 0 => Value::Null,
        (None, _) => value.into(),
    };
    let datum = parse_datum(&json, &column.type_).with_context(|| format!("--where {text}"))?;
    let is_whole = column.type_.max == 1 && !is_map || datum.is_empty();
    let function = match (is_whole, is_negated) {
        (true, false) => "==",
        (true, true) => "!=",
        (false, false) => "includes",
        (false, true) => "excludes",
    };
    Ok(Clause {
        column,
        function,
        argument: datum.to_json(),
    })
}
