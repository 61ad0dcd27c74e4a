//! Database files: what is written is there again, and who may open them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]
#![allow(unreachable_pub, missing_docs)]

mod fixture;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Instant;

use fixture::{Model, materialise};
use nonnet_chain::{Author, Chain, FaultKind, Header, Moment, Request, StoredSide};
use nonnet_engine::{Database, Entropy};
use nonnet_schema::{DatabaseSchema, Datum, TableIndex, Uuid};
use nonnet_store::{AppendError, Damage, FORMAT_VERSION, Log, OpenError, Reader, Scope, open};

#[test]
fn what_was_appended_is_there_after_each_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    for round in 0..12 {
        let mut opened = open(&path).unwrap();
        model.assert_same(&opened);
        model.append(&mut opened.log, 40);
        if round % 3 == 1 {
            materialise(&mut opened.log);
            assert_eq!(opened.log.materialised_seq(), model.chain.head().seq);
        }
        model.append(&mut opened.log, round);
    }
    let opened = open(&path).unwrap();
    model.assert_same(&opened);
    assert_eq!(opened.verified, model.chain.head().seq + 1);
    assert_eq!(opened.schema, model.schema);
}

#[test]
fn a_missing_file_is_told_from_a_bad_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    assert!(matches!(open(&path), Err(OpenError::Missing { .. })));
    std::fs::write(&path, "").unwrap();
    assert!(matches!(open(&path), Err(OpenError::Missing { .. })));
    std::fs::write(&path, "OVSDB JSON 0 abc\n").unwrap();
    assert!(matches!(open(&path), Err(OpenError::NotOurs { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"OVSDB JSON 0 abc\n");
    let schema = fixture::schema();
    let genesis = Chain::begin(Uuid::nil(), &schema, &Author::default(), Moment::default())
        .unwrap()
        .1;
    assert!(matches!(
        nonnet_store::create(&path, &schema, &genesis),
        Err(OpenError::Exists { .. })
    ));
}

#[test]
fn the_files_are_for_their_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut opened = open(&path).unwrap();
    model.append(&mut opened.log, 3);
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            entry.path()
        );
    }
}

#[test]
fn a_second_server_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    Model::create(&path);
    let opened = open(&path).unwrap();
    let error = open(&path).unwrap_err().to_string();
    let expected = format!(
        "{} is in use by another server, process {}",
        path.display(),
        std::process::id()
    );
    assert_eq!(error, expected);
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(open(&link), Err(OpenError::InUse { .. })));
    drop(opened);
    open(&link).unwrap();
}

#[test]
fn a_newer_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    Model::create(&path);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .pragma_update(None, "user_version", FORMAT_VERSION + 1)
        .unwrap();
    drop(connection);
    let error = open(&path).unwrap_err().to_string();
    let newer = FORMAT_VERSION + 1;
    let expected = format!("a.db has format {newer}; this version reads up to {FORMAT_VERSION}: use a newer nonnet");
    assert!(error.ends_with(&expected), "{error}");
    assert!(matches!(Reader::open(&path), Err(OpenError::TooNew { .. })));
}

#[test]
fn an_append_after_another_record_is_a_conflict_that_tells_what_came_between() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut log = open(&path).unwrap().log;
    let before = model.chain.head();
    let between = [model.next(), model.next()];
    log.append(&between, before, true).unwrap();
    let Err(AppendError::Conflict { head, between: told }) = log.append(&[model.next()], before, true) else {
        panic!("no conflict");
    };
    assert_eq!((head, told.as_slice()), (between[1].head(), &between[..]));
}

#[test]
fn a_reader_sees_and_verifies_what_a_server_writes_and_leaves_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut opened = open(&path).unwrap();
    let reader = Reader::open(&path).unwrap();
    for _ in 0..3 {
        model.append(&mut opened.log, 300);
        materialise(&mut opened.log);
        assert_eq!(reader.head().unwrap(), Some(model.chain.head()));
        assert_eq!(
            reader.verify(&Scope::default(), |_| ()).unwrap().verifier.head(),
            Some(model.chain.head())
        );
    }
    let seqs: Vec<u64> = reader.records(10..=700).map(|record| record.unwrap().seq).collect();
    assert_eq!(seqs, (10..=700).collect::<Vec<_>>());
    drop(reader);
    drop(opened);
    let reader = Reader::open(&path).unwrap();
    let record = reader.records(5..=5).next().unwrap().unwrap();
    assert_eq!(Header::decode(&record.header).unwrap().seq, 5);
    assert_eq!(
        reader.verify(&Scope::default(), |_| ()).unwrap().verifier.records(),
        901
    );
}

#[test]
fn an_edited_record_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut log = open(&path).unwrap().log;
    model.append(&mut log, 20);
    materialise(&mut log);
    drop(log);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute("UPDATE log SET body = x'00' WHERE seq = 7", ())
        .unwrap();
    drop(connection);
    for error in [
        open(&path).unwrap_err(),
        Reader::open(&path)
            .unwrap()
            .verify(&Scope::default(), |_| ())
            .unwrap_err(),
    ] {
        let OpenError::Damaged {
            damage: Damage::Record(fault),
            ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((fault.seq, fault.kind), (7, FaultKind::EditedBody));
    }
}

#[test]
fn an_edited_and_a_removed_row_are_found() {
    for (statement, expected) in [
        ("UPDATE row SET fields = x'00'", "its checksum is wrong"),
        (
            "DELETE FROM row WHERE uuid = (SELECT uuid FROM row LIMIT 1)",
            "the rows are not those that were written",
        ),
        (
            "DELETE FROM setting WHERE name = 'rows'",
            "the setting rows is missing or wrong",
        ),
        (
            "UPDATE setting SET datum = '{}' WHERE name = 'schema'",
            "the setting schema is missing or wrong",
        ),
        (
            "CREATE TRIGGER t AFTER INSERT ON log BEGIN SELECT 1; END",
            "the definition of t is not ours",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut model = Model::create(&path);
        let mut log = open(&path).unwrap().log;
        model.append(&mut log, 20);
        materialise(&mut log);
        drop(log);
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute(statement, ())
            .unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{statement}: {error}");
    }
}

#[test]
fn an_older_copy_of_the_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut log = open(&path).unwrap().log;
    model.append(&mut log, 5);
    drop(log);
    let old = std::fs::read(&path).unwrap();
    let mut log = open(&path).unwrap().log;
    model.append(&mut log, 5);
    drop(log);
    std::fs::write(&path, &old).unwrap();
    let error = open(&path).unwrap_err().to_string();
    assert!(
        error.contains("record 5: the log ends here, but record 10 was acknowledged"),
        "{error}"
    );
    std::fs::remove_file(directory.path().join("a.db.head")).unwrap();
    assert_eq!(open(&path).unwrap().chain.head().seq, 5);
}

#[test]
fn one_hundred_thousand_rows_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut log = open(&path).unwrap().log;
    for chunk in 0..100_u128 {
        let expected = model.chain.head();
        let uuids = (0..1000)
            .map(|at| Uuid::from_u128((chunk * 1000 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)));
        let changes = uuids
            .map(|uuid| (TableIndex(1), uuid, Some(model.row(TableIndex(1), uuid))))
            .collect();
        let record = model.record(changes);
        log.append(&[record], expected, false).unwrap();
    }
    materialise(&mut log);
    drop(log);
    let start = Instant::now();
    let opened = open(&path).unwrap();
    eprintln!(
        "100000 rows opened in {:?}, {} records replayed",
        start.elapsed(),
        opened.replayed
    );
    assert_eq!(opened.rows.len(), 100_000);
}

#[test]
fn a_new_schema_is_in_force_with_the_record_that_brings_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut log = open(&path).unwrap().log;
    let expected = model.chain.head();
    let uuid = Uuid::from_u128(1);
    let row = model.row(TableIndex(1), uuid);
    let inserted = model.record(vec![(TableIndex(1), uuid, Some(row))]);
    let text = model
        .schema
        .to_text()
        .replace(r#""address":"#, r#""mac":{"type":"string"},"address":"#);
    let schema = DatabaseSchema::from_text(&text).unwrap();
    let mut entropy = Entropy::new([2; 32]);
    let mut database = |schema: &DatabaseSchema, fields| {
        let mut database = Database::new(Arc::new(schema.clone()), 1);
        database.load(TableIndex(1), uuid, fields, &mut entropy);
        database
    };
    let fields = model.rows[&(TableIndex(1), uuid)].fields().to_vec();
    let before = database(&model.schema, fields.clone());
    let mac = schema.table(TableIndex(1)).column_index("mac").unwrap();
    let mut fields = fields;
    fields.insert(mac.0, Datum::scalar("aa:bb"));
    let after = database(&schema, fields);
    let (author, request) = (Author::default(), Request::default());
    let side = |database| StoredSide {
        database,
        volatile: &[],
    };
    let sides = (side(&before), side(&after));
    let converted = model
        .chain
        .convert(&author, &request, Moment::default(), sides)
        .unwrap();
    log.append(&[inserted, converted], expected, true).unwrap();
    drop(log);
    for replayed in [2, 0] {
        let mut opened = open(&path).unwrap();
        assert_eq!((opened.replayed, &opened.schema), (replayed, &schema));
        assert_eq!(opened.rows[0].fields[mac.0], Datum::scalar("aa:bb"));
        materialise(&mut opened.log);
    }
    Reader::open(&path).unwrap().verify(&Scope::default(), |_| ()).unwrap();
}

#[test]
fn compaction_gives_room_back_and_loses_no_record() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut opened = open(&path).unwrap();
    model.append(&mut opened.log, 200);
    let compaction = opened.log.compact().unwrap();
    assert!(
        compaction.bytes_after < compaction.bytes_before,
        "{compaction:?} with a write-ahead log of 200 records"
    );
    assert_eq!(opened.log.materialised_seq(), model.chain.head().seq);
    assert_eq!(std::fs::metadata(directory.path().join("a.db-wal")).unwrap().len(), 0);
    // All rows go: what they took is free, and is given back.
    let gone: Vec<_> = model.rows.keys().map(|(table, uuid)| (*table, *uuid, None)).collect();
    let expected = model.chain.head();
    let record = model.record(gone);
    opened.log.append(&[record], expected, true).unwrap();
    opened.log.compact().unwrap();
    model.append(&mut opened.log, 3);
    drop(opened);
    let opened = open(&path).unwrap();
    model.assert_same(&opened);
    assert_eq!(opened.verified, model.chain.head().seq + 1);
}
