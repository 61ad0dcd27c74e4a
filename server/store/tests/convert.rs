//! A file under a new schema: one record more, which a start replays, `verify` understands, and whose past is there to read.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]
#![allow(unreachable_pub, missing_docs)]

mod fixture;

use std::path::Path;
use std::sync::Arc;

use fixture::Model;
use nonnet_chain::{Author, Kind, Moment, Request, RowOp, StoredSide};
use nonnet_engine::{Database, Entropy, Transaction, commit};
use nonnet_schema::{DatabaseSchema, TableIndex};
use nonnet_store::{Conversion, ConvertError, Log as _, OpenError, Opened, Reader, Scope, convert, open};

const NARROW: &str = r#"{"name":"Test","version":"2.0.0","tables":{
    "net":{"columns":{"name":{"type":"string"},"mtu":{"type":"real"},"zone":{"type":"string"}},"isRoot":true},
    "extra":{"columns":{"n":{"type":"integer"}},"isRoot":true}}}"#;

fn conversion() -> Conversion {
    Conversion {
        author: Author {
            remote: "schema convert".into(),
            ..Author::default()
        },
        moment: Moment::default(),
        seed: [1; 32],
    }
}

fn filled(path: &Path) -> Model {
    let mut model = Model::create(path);
    let mut opened = open(path).unwrap();
    model.append(&mut opened.log, 60);
    model
}

#[test]
fn a_converted_file_opens_with_the_new_schema_and_its_rows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let model = filled(&path);
    let nets = model.rows.keys().filter(|(table, _)| table.0 == 0).count();
    assert!(nets > 0);
    let before = model.chain.head();
    let schema = DatabaseSchema::from_text(NARROW).unwrap();
    let head = convert(&path, &schema, &conversion()).unwrap();
    assert_eq!(head.seq, before.seq + 1);
    let Opened {
        schema: found,
        rows,
        chain,
        ..
    } = open(&path).unwrap();
    assert_eq!((&found, chain.head()), (&schema, head));
    assert_eq!(rows.len(), nets);
    for row in rows {
        let table = schema.table(row.table);
        let column = |name: &str| &row.fields[table.column_index(name).unwrap().0];
        let old = &model.rows[&(TableIndex(0), row.uuid)];
        let old_table = model.schema.table(TableIndex(0));
        assert_eq!(column("name"), old.get(old_table.column_index("name").unwrap()));
        assert_eq!(column("zone").as_str(), Some(""));
        let mtu = old.get(old_table.column_index("mtu").unwrap()).as_integer().unwrap();
        assert_eq!(column("mtu").to_json().as_f64(), Some(mtu as f64));
    }
}

#[test]
fn the_log_tells_of_the_conversion_and_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let model = filled(&path);
    let before = model.chain.head();
    let head = convert(&path, &DatabaseSchema::from_text(NARROW).unwrap(), &conversion()).unwrap();
    let reader = Reader::open(&path).unwrap();
    let verifier = reader.verify(&Scope::default(), |_| ()).unwrap().verifier;
    assert_eq!(verifier.head(), Some(head));
    assert_eq!(verifier.last_header().unwrap().kind, Kind::Schema);
    let record = reader.records(head.seq..=head.seq).next().unwrap().unwrap();
    let body = nonnet_chain::Body::decode(&record.body.unwrap()).unwrap();
    assert_eq!(
        body.schema.unwrap(),
        DatabaseSchema::from_text(NARROW).unwrap().to_text()
    );
    assert_eq!(body.meta.remote, "schema convert");
    assert_eq!(body.rows.len(), model.rows.len());
    let deleted = body.rows.iter().filter(|row| row.table == "port");
    assert!(deleted.clone().count() > 0 && deleted.clone().all(|row| row.op == RowOp::Delete));
    // What was before cannot be told as changes of rows that have other columns now.
    assert!(reader.since(before.hash.transaction_id()).unwrap().is_none());
    assert!(reader.since(head.hash.transaction_id()).unwrap().is_some());
}

#[test]
fn a_start_replays_commits_before_and_after_a_conversion() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let mut opened = open(&path).unwrap();
    model.append(&mut opened.log, 60);
    let mut entropy = Entropy::new([2; 32]);
    let mut before = Database::new(Arc::new(model.schema.clone()), 1);
    for ((table, uuid), row) in &model.rows {
        before.load(*table, *uuid, row.fields().to_vec(), &mut entropy);
    }
    let schema = Arc::new(DatabaseSchema::from_text(NARROW).unwrap());
    let mut after = nonnet_engine::convert(&before, Arc::clone(&schema), 61, None, &mut entropy).unwrap();
    let side = |database| StoredSide {
        database,
        volatile: &[],
    };
    let (author, request, moment) = (Author::default(), Request::default(), Moment::default());
    let sides = (side(&before), side(&after));
    let converted = model.chain.convert(&author, &request, moment, sides).unwrap();
    let mut transaction = Transaction::new(&after, &mut entropy);
    let extra = schema.table_index("extra").unwrap();
    let uuid = transaction.new_uuid();
    transaction.insert(extra, uuid, schema.table(extra).default_fields());
    let changes = commit(transaction).unwrap();
    after.apply(&changes);
    let next = model
        .chain
        .commit(&author, &request, moment, &changes, &schema)
        .unwrap();
    let expected = opened.log.head();
    opened.log.append(&[converted, next], expected, true).unwrap();
    assert_eq!(opened.log.materialised_seq(), 0);
    drop(opened);
    for _ in 0..2 {
        let mut opened = open(&path).unwrap();
        assert_eq!((&opened.schema, &opened.chain), (&*schema, &model.chain));
        for row in &opened.rows {
            let fields = after.table(row.table).row(row.uuid).unwrap().fields();
            assert_eq!(row.fields[2..], fields[2..]);
        }
        let rows: usize = (0..2).map(|table| after.table(TableIndex(table)).len()).sum();
        assert_eq!(opened.rows.len(), rows);
        // The second time around they are read, not replayed.
        fixture::materialise(&mut opened.log);
    }
}

#[test]
fn a_conversion_that_does_not_fit_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let model = filled(&path);
    let text = NARROW.replace(r#""name":{"type":"string"}"#, r#""name":{"type":"integer"}"#);
    let error = convert(&path, &DatabaseSchema::from_text(&text).unwrap(), &conversion()).unwrap_err();
    assert!(matches!(error, ConvertError::Misfit { .. }), "{error}");
    assert!(error.to_string().contains("expected integer"), "{error}");
    model.assert_same(&open(&path).unwrap());
}

#[test]
fn a_file_that_a_server_has_open_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let model = filled(&path);
    let held = open(&path).unwrap();
    let error = convert(&path, &model.schema, &conversion()).unwrap_err();
    assert!(matches!(error, ConvertError::Open(OpenError::InUse { .. })), "{error}");
    drop(held);
    convert(&path, &model.schema, &conversion()).unwrap();
}
