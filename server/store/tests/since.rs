//! What has changed since a transaction, as the log tells it.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]
#![allow(unreachable_pub, missing_docs)]

mod fixture;

use std::path::Path;

use fixture::{Model, Rows, materialise};
use nonnet_chain::Past;
use nonnet_schema::{DatabaseSchema, Uuid};
use nonnet_store::{FORMAT_VERSION, Reader, SqliteLog, open};

/// The rows after each record, by transaction id.
type States = Vec<(Uuid, Rows)>;

fn fill(model: &mut Model, log: &mut SqliteLog, records: usize) -> States {
    let mut states = Vec::new();
    for _ in 0..records {
        model.append(log, 1);
        states.push((model.chain.head().hash.transaction_id(), model.persistent()));
    }
    states
}

/// Goes back from `now` to the rows before the records of `past`.
fn before(schema: &DatabaseSchema, now: &Rows, past: &Past) -> Rows {
    let mut rows = now.clone();
    for (table, uuid, row) in past.rows() {
        let table = schema.table_index(table).unwrap();
        let after = rows.remove(&(table, uuid));
        if !row.existed() {
            continue;
        }
        let columns = schema.table(table);
        let mut fields = after.clone().unwrap_or_else(|| columns.default_fields());
        for (at, column) in columns.declared_columns().filter(|(_, column)| column.persistent) {
            fields[at.0] = row
                .datum(&column.name, after.as_ref().map(|after| &after[at.0]))
                .unwrap();
        }
        rows.insert((table, uuid), fields);
    }
    rows
}

fn assert_told(path: &Path, model: &Model, states: &States) {
    let reader = Reader::open(path).unwrap();
    let newest = model.chain.head().seq;
    for (at, (id, rows)) in states.iter().enumerate() {
        let since = reader.since(*id).unwrap().unwrap();
        assert_eq!((since.from, since.to), (at as u64 + 1, newest));
        assert_eq!(&before(&model.schema, &model.persistent(), &since.past), rows);
    }
    assert!(reader.since(Uuid::from_u128(7)).unwrap().is_none());
}

#[test]
fn the_rows_as_of_any_transaction_are_told_with_and_without_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut opened = open(&path).unwrap();
    let mut states = fill(&mut model, &mut opened.log, 150);
    assert_told(&path, &model, &states);
    materialise(&mut opened.log);
    assert_told(&path, &model, &states);
    states.extend(fill(&mut model, &mut opened.log, 50));
    assert_told(&path, &model, &states);
}

#[test]
fn the_first_record_is_found_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let genesis = model.chain.head().hash.transaction_id();
    let mut log = open(&path).unwrap().log;
    for _ in 0..2 {
        model.append(&mut log, 3);
        let since = Reader::open(&path).unwrap().since(genesis).unwrap().unwrap();
        assert_eq!((since.from, since.to), (0, model.chain.head().seq));
        materialise(&mut log);
    }
}

#[test]
fn a_file_of_format_1_is_read_and_brought_up_to_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut opened = open(&path).unwrap();
    let mut states = fill(&mut model, &mut opened.log, 30);
    materialise(&mut opened.log);
    drop(opened);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "DROP TABLE txn; DROP TABLE rowlog; DROP TABLE tree; DROP TABLE checkpoint; \
             DELETE FROM setting WHERE name IN ('txn', 'rowlog', 'state'); PRAGMA user_version = 1",
        )
        .unwrap();
    drop(connection);
    assert_told(&path, &model, &states);
    let mut opened = open(&path).unwrap();
    model.assert_same(&opened);
    states.extend(fill(&mut model, &mut opened.log, 1));
    assert_told(&path, &model, &states);
    materialise(&mut opened.log);
    assert_told(&path, &model, &states);
    drop(opened);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let format: i32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(format, FORMAT_VERSION);
    let indexed: i64 = connection
        .query_row("SELECT count(*) FROM txn", (), |row| row.get(0))
        .unwrap();
    assert_eq!(indexed.cast_unsigned(), model.chain.head().seq + 1);
}
