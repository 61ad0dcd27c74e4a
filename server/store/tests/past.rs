//! The rows after any record, the records of any row, and the record of any time.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]
#![allow(unreachable_pub, missing_docs)]

mod fixture;

use std::collections::BTreeSet;
use std::path::Path;

use ecow::EcoString;
use fixture::{Model, Rows, materialise};
use nonnet_chain::{Author, Body, Moment};
use nonnet_schema::{DatabaseSchema, Uuid};
use nonnet_store::{Contents, Conversion, OpenError, Reader, SqliteLog, convert, open};

/// The rows after each record, from the first on.
fn fill(model: &mut Model, log: &mut SqliteLog, states: &mut Vec<Rows>, records: usize) {
    for _ in 0..records {
        model.append(log, 1);
        states.push(model.persistent());
    }
}

fn rows_of(contents: Contents) -> Rows {
    let rows = contents.rows.into_iter();
    rows.map(|row| ((row.table, row.uuid), row.fields)).collect()
}

fn assert_states(path: &Path, states: &[Rows]) {
    let reader = Reader::open(path).unwrap();
    for (seq, rows) in states.iter().enumerate() {
        let contents = reader.contents_at(seq as u64).unwrap().unwrap();
        assert_eq!(contents.newest.seq, seq as u64);
        assert_eq!(&rows_of(contents), rows, "after record {seq}");
    }
    assert!(reader.contents_at(states.len() as u64).unwrap().is_none());
    assert_newest_rows(&reader, states.last().unwrap());
}

/// Each row as it is after the newest record.
fn assert_newest_rows(reader: &Reader, rows: &Rows) {
    let schema = DatabaseSchema::from_text(&reader.schema_text().unwrap()).unwrap();
    for number in 0..61 {
        let uuid = Uuid::from_u128(number << 64 | 7);
        for (at, table) in schema.tables().iter().enumerate() {
            let expected = rows.get(&(nonnet_schema::TableIndex(at), uuid));
            let found = reader.row(&table.name, uuid).unwrap();
            assert_eq!(found.is_some(), expected.is_some(), "{} {uuid}", table.name);
            for (column, datum) in found.iter().flatten() {
                assert_eq!(datum, &expected.unwrap()[table.column_index(column).unwrap().0]);
            }
        }
    }
}

/// The records of each row, newest first, as the whole log says.
fn assert_row_records(path: &Path) {
    let reader = Reader::open(path).unwrap();
    let bodies: Vec<Body> = reader
        .records(0..=u64::MAX)
        .map(|record| Body::decode(&record.unwrap().body.unwrap()).unwrap())
        .collect();
    let rows = bodies.iter().flat_map(|body| &body.rows);
    let rows: BTreeSet<(EcoString, Uuid)> = rows.map(|row| (row.table.clone(), row.uuid)).collect();
    assert!(!rows.is_empty());
    for (table, uuid) in rows.into_iter().chain([("net".into(), Uuid::from_u128(1))]) {
        let changes = |(seq, body): (usize, &Body)| {
            let mut deltas = body.rows.iter();
            let delta = deltas.find(|delta| delta.table == table && delta.uuid == uuid)?;
            Some((seq as u64, delta.clone()))
        };
        let mut expected: Vec<_> = bodies.iter().enumerate().filter_map(changes).collect();
        expected.reverse();
        let found = reader.row_records(&table, uuid).unwrap().map(|record| {
            let record = record.unwrap();
            (record.header.seq, record.delta)
        });
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let seqs: Vec<u64> = reader.row_seqs(uuid).unwrap().map(Result::unwrap).collect();
        assert!(seqs.is_sorted_by(|a, b| a > b));
        assert!(expected.iter().all(|(seq, _)| seqs.contains(seq)));
    }
}

#[test]
fn the_rows_after_any_record_are_told_whatever_the_stored_rows_are_as_of() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut opened = open(&path).unwrap();
    let mut states = vec![Rows::new()];
    fill(&mut model, &mut opened.log, &mut states, 100);
    assert_states(&path, &states);
    materialise(&mut opened.log);
    assert_states(&path, &states);
    fill(&mut model, &mut opened.log, &mut states, 40);
    assert_states(&path, &states);
}

#[test]
fn every_record_of_a_row_is_told_however_far_the_index_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut opened = open(&path).unwrap();
    model.append(&mut opened.log, 400);
    assert_row_records(&path);
    materialise(&mut opened.log);
    assert_row_records(&path);
    model.append(&mut opened.log, 40);
    assert_row_records(&path);
}

#[test]
fn a_row_with_more_records_than_are_read_at_once_has_all_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut log = open(&path).unwrap().log;
    let (table, uuid) = (nonnet_schema::TableIndex(1), Uuid::from_u128(5));
    for _ in 0..600 {
        let (expected, row) = (model.chain.head(), model.row(table, uuid));
        let record = model.record(vec![(table, uuid, Some(row))]);
        nonnet_store::Log::append(&mut log, &[record], expected, false).unwrap();
    }
    materialise(&mut log);
    let reader = Reader::open(&path).unwrap();
    let seqs: Vec<u64> = reader.row_seqs(uuid).unwrap().map(Result::unwrap).collect();
    assert_eq!(seqs, (1..=600).rev().collect::<Vec<u64>>());
}

#[test]
fn what_the_index_says_counts_only_where_the_record_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut opened = open(&path).unwrap();
    model.append(&mut opened.log, 30);
    materialise(&mut opened.log);
    drop(opened);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let more = "INSERT OR IGNORE INTO rowlog SELECT a.row, b.seq FROM rowlog a, rowlog b";
    assert!(connection.execute(more, ()).unwrap() > 0);
    drop(connection);
    assert_row_records(&path);
}

#[test]
fn a_file_of_format_2_is_read_and_gets_its_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut opened = open(&path).unwrap();
    model.append(&mut opened.log, 50);
    materialise(&mut opened.log);
    drop(opened);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "DROP TABLE rowlog; DROP TABLE tree; DROP TABLE checkpoint; \
             DELETE FROM setting WHERE name IN ('rowlog', 'state'); PRAGMA user_version = 2",
        )
        .unwrap();
    drop(connection);
    assert!(!Reader::open(&path).unwrap().has_row_index().unwrap());
    assert_row_records(&path);
    let mut opened = open(&path).unwrap();
    model.append(&mut opened.log, 5);
    assert_row_records(&path);
    materialise(&mut opened.log);
    assert_row_records(&path);
    assert!(Reader::open(&path).unwrap().has_row_index().unwrap());
}

#[test]
fn the_rows_before_a_conversion_are_told_under_the_schema_of_that_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut opened = open(&path).unwrap();
    let mut states = vec![Rows::new()];
    fill(&mut model, &mut opened.log, &mut states, 60);
    drop(opened);
    let narrow = r#"{"name":"Test","version":"2.0.0","tables":{
        "net":{"columns":{"name":{"type":"string"},"zone":{"type":"string"}},"isRoot":true}}}"#;
    let narrow = DatabaseSchema::from_text(narrow).unwrap();
    let wide = model
        .schema
        .to_text()
        .replace(r#""mtu":{"type":"integer"}"#, r#""mtu":{"type":"real"}"#);
    assert!(wide.contains("real"));
    let wide = DatabaseSchema::from_text(&wide).unwrap();
    let conversion = Conversion {
        author: Author::default(),
        moment: Moment::default(),
        seed: [1; 32],
    };
    for schema in [&narrow, &model.schema, &wide] {
        convert(&path, schema, &conversion).unwrap();
    }
    let reader = Reader::open(&path).unwrap();
    for (seq, rows) in states.iter().enumerate() {
        let contents = reader.contents_at(seq as u64).unwrap().unwrap();
        assert_eq!(contents.schema, model.schema);
        assert_eq!(&rows_of(contents), rows, "after record {seq}");
    }
    for (seq, schema) in [(61, &narrow), (62, &model.schema), (63, &wide)] {
        let contents = reader.contents_at(seq).unwrap().unwrap();
        assert_eq!((&contents.schema, contents.newest.seq), (schema, seq));
        let nets = states.last().unwrap().keys().filter(|(table, _)| table.0 == 0).count();
        assert_eq!(contents.rows.len(), nets);
    }
}

#[test]
fn a_body_that_was_removed_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut opened = open(&path).unwrap();
    model.append(&mut opened.log, 30);
    materialise(&mut opened.log);
    drop(opened);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute("UPDATE log SET body = NULL WHERE seq BETWEEN 1 AND 10", ())
        .unwrap();
    drop(connection);
    let reader = Reader::open(&path).unwrap();
    assert!(reader.contents_at(10).unwrap().is_some());
    assert!(matches!(
        reader.contents_at(9),
        Err(OpenError::BodyRemoved { seq: 10, .. })
    ));
}

#[test]
fn a_record_is_found_by_the_beginning_of_its_hash() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut log = open(&path).unwrap().log;
    for indexed in [false, true] {
        model.append(&mut log, 40);
        if indexed {
            materialise(&mut log);
        }
        let reader = Reader::open(&path).unwrap();
        for record in reader.records(0..=u64::MAX) {
            let record = record.unwrap();
            let hash = nonnet_chain::RecordHash(record.hash.clone().try_into().unwrap()).to_string();
            for length in [1, 7, 15, 16, 17, 32, 64] {
                let found = reader.seqs_of_hash(&hash[..length]).unwrap();
                assert!(
                    found.contains(&record.seq) || length == 1 && found.len() > 7,
                    "{length}"
                );
            }
            assert_eq!(reader.seqs_of_hash(&hash).unwrap(), [record.seq]);
        }
        assert!(reader.seqs_of_hash("123456789abcdef0").unwrap().is_empty());
    }
}

#[test]
fn the_newest_record_at_a_time_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut log = open(&path).unwrap().log;
    // Genesis is of time 0.
    for time_us in [10, 20, 20, 30, 50] {
        model.time_us = time_us;
        model.append(&mut log, 1);
    }
    let reader = Reader::open(&path).unwrap();
    let at = |time_us| reader.seq_at(time_us).unwrap();
    let expected = [
        (0, 0),
        (9, 0),
        (10, 1),
        (19, 1),
        (20, 3),
        (29, 3),
        (30, 4),
        (49, 4),
        (50, 5),
        (99, 5),
    ];
    for (time_us, seq) in expected {
        assert_eq!(at(time_us), Some(seq), "at {time_us}");
    }
}

#[test]
fn of_times_that_were_twice_one_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut log = open(&path).unwrap().log;
    let times = [10, 20, 30, 12, 22, 32, 14, 24, 34];
    for time_us in times {
        model.time_us = time_us;
        model.append(&mut log, 1);
    }
    let reader = Reader::open(&path).unwrap();
    for time_us in 10..40 {
        let seq = reader.seq_at(time_us).unwrap().unwrap();
        assert!(times[seq as usize - 1] <= time_us);
        assert!(times.get(seq as usize).is_none_or(|next| *next > time_us));
    }
}
