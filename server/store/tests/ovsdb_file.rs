//! Files of ovsdb-server, record by record: what is read, what is refused, and in which words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test panics"
)]

use std::fmt::Write as _;

use nonnet_chain::{Author, Kind, Moment};
use nonnet_schema::{Uuid, parse_uuid};
use nonnet_store::ovsdb_file::{self, Origin, OvsdbFile, OvsdbFileError, ReadError};
use nonnet_store::{Reader, Scope};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const B: &str = "bbbbbbbb-0000-4000-8000-000000000002";

fn schema() -> Value {
    json!({"name": "d", "version": "1.2.3", "cksum": "1 2", "tables": {"t": {"columns": {
        "name": {"type": "string"},
        "few": {"type": {"key": "integer", "min": 1, "max": 2}},
        "map": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
        "maybe": {"type": {"key": "real", "min": 0, "max": 1}},
        "small": {"type": {"key": {"type": "integer", "minInteger": 0, "maxInteger": 9}}},
        "fleeting": {"type": "integer", "ephemeral": true}}}}})
}

fn record(magic: &str, body: &str) -> String {
    let body = format!("{body}\n");
    let mut sha1 = String::new();
    for byte in Sha1::digest(body.as_bytes()) {
        write!(sha1, "{byte:02x}").unwrap();
    }
    format!("OVSDB {magic} {} {sha1}\n{body}", body.len())
}

/// A file with the schema and these transactions.
fn file(transactions: &[Value]) -> String {
    let mut text = record("JSON", &schema().to_string());
    for transaction in transactions {
        text.push_str(&record("JSON", &transaction.to_string()));
    }
    text
}

fn read(text: &str) -> OvsdbFile {
    ovsdb_file::read(text.as_bytes()).unwrap()
}

/// The columns of a row that are not empty sets or maps, as JSON.
fn row(file: &OvsdbFile, uuid: &str) -> Option<Value> {
    let row = file.rows.iter().find(|row| Some(row.uuid) == parse_uuid(uuid))?;
    let columns = file.schema.table(row.table).declared_columns();
    let fields = columns.map(|(at, column)| (column.name.to_string(), row.fields[at.0].to_json()));
    Some(Value::Object(fields.collect()))
}

fn first_insert() -> Value {
    json!({"t": {A: {"name": "a"}}, "_date": 1_700_000_000_123_u64, "_comment": "first"})
}

#[test]
fn rows_are_inserted_modified_and_deleted() {
    let file = read(&file(&[
        json!({"t": {A: {"name": "a", "maybe": 0.5}, B: {"few": ["set", [1, 2]]}}}),
        json!({"t": {A: {"maybe": ["set", []], "map": ["map", [["k", "v"]]]}, B: null}}),
        json!({"t": {A: {"map": ["map", [["k", "w"], ["l", "x"]]]}}, "_is_diff": false}),
    ]));
    assert_eq!(file.damage, None);
    assert_eq!(file.records, 4);
    let expected = json!({"name": "a", "few": 0, "map": ["map", [["k", "w"], ["l", "x"]]], "maybe": ["set", []], "small": 0, "fleeting": 0});
    assert_eq!(row(&file, A), Some(expected));
    assert_eq!(row(&file, B), None);
}

#[test]
fn a_difference_may_be_larger_than_the_column() {
    let file = read(&file(&[
        json!({"t": {A: {"few": ["set", [1, 2]]}}}),
        json!({"t": {A: {"few": ["set", [1, 2, 3, 4]]}}, "_is_diff": true}),
    ]));
    assert_eq!(file.damage, None);
    assert_eq!(row(&file, A).unwrap()["few"], json!(["set", [3, 4]]));
}

#[test]
fn a_difference_is_taken_from_the_default_too() {
    let file = read(&file(&[
        json!({"t": {A: {"name": "a"}}}),
        json!({"t": {A: {"few": 5}}, "_is_diff": true}),
        json!({"t": {A: {"map": ["map", [["k", "v"]]], "name": "b", "maybe": 2}}, "_is_diff": true}),
        json!({"t": {A: {"map": ["map", [["k", "v"], ["l", "w"]]], "maybe": ["set", []]}}, "_is_diff": true}),
        json!({"t": {B: {"few": 7}}, "_is_diff": true}),
    ]));
    assert_eq!(file.damage, None);
    let a = row(&file, A).unwrap();
    assert_eq!(a["few"], json!(["set", [0, 5]]));
    assert_eq!(a["map"], json!(["map", [["l", "w"]]]));
    assert_eq!((&a["name"], &a["maybe"]), (&json!("b"), &json!(["set", []])));
    // What is inserted is never a difference.
    assert_eq!(row(&file, B).unwrap()["few"], json!(7));
}

#[test]
fn small_dates_are_seconds() {
    let date = |date: u64| read(&file(&[json!({"_date": date})])).date_ms;
    assert_eq!(date(1_300_000_000), Some(1_300_000_000_000));
    assert_eq!(date((1 << 32) - 1), Some(((1 << 32) - 1) * 1000));
    assert_eq!(date(1 << 32), Some(1 << 32));
    assert_eq!(date(1_700_000_000_123), Some(1_700_000_000_123));
    assert_eq!(read(&file(&[])).date_ms, None);
}

/// A file of which the third record is `tail` reads up to there, and says these words of it.
fn check_damage(tail: &str, words: &str) {
    let sound = file(&[first_insert()]);
    let file = read(&format!(
        "{sound}{tail}{}",
        record("JSON", &json!({"t": {B: {}}}).to_string())
    ));
    let damage = file.damage.clone().unwrap_or_else(|| panic!("not damaged: {tail}"));
    assert_eq!((damage.record, damage.offset), (2, sound.len() as u64), "{damage}");
    assert!(damage.to_string().contains(words), "{damage}");
    assert_eq!(file.records, 2);
    assert_eq!(file.date_ms, Some(1_700_000_000_123));
    assert!(row(&file, A).is_some() && row(&file, B).is_none(), "{damage}");
    let whole = format!("{sound}{tail}{}", record("JSON", &json!({"t": {B: {}}}).to_string()));
    assert_eq!(file.sha1, format!("{:x}", Sha1::digest(whole.as_bytes())));
}

#[test]
fn damage_is_named_by_record_byte_and_kind() {
    let transaction = |json: Value| record("JSON", &json.to_string());
    check_damage("OVSDB JSON 12\n", "bad header \"OVSDB JSON 12\"");
    check_damage("garbage\n", "bad header \"garbage\"");
    check_damage(&"x".repeat(1000), "bad header");
    check_damage(&record("CLUSTER", "{}"), "bad header \"OVSDB CLUSTER 3 ");
    check_damage(
        &transaction(first_insert()).replace(" JSON ", " JSON 9"),
        "short body: ",
    );
    check_damage(
        &transaction(first_insert()).replace("first", "f1rst"),
        "SHA-1 mismatch: ",
    );
    check_damage(&record("JSON", "{\"t\":"), "bad JSON: ");
    check_damage(&record("JSON", "[]"), "the record is not an object");
    check_damage(&transaction(json!({"nosuch": {}})), "unknown table nosuch");
    check_damage(&transaction(json!({"_other": {}})), "unknown table _other");
    check_damage(
        &transaction(json!({"t": {A: {"nosuch": 1}}})),
        "unknown column nosuch of table t",
    );
    check_damage(
        &transaction(json!({"t": {A: {"_uuid": 1}}})),
        "unknown column _uuid of table t",
    );
    check_damage(
        &transaction(json!({"t": {B: null}})),
        &format!("delete of unknown row {B} of table t"),
    );
    check_damage(&transaction(json!({"t": {"x": {}}})), "\"x\" in table t is not a UUID");
    check_damage(&transaction(json!({"t": []})), "table t is not an object");
    check_damage(&transaction(json!({"t": {A: {"small": 10}}})), "column small of row");
    check_damage(
        &transaction(json!({"t": {A: {"few": ["set", [1, 2, 3]]}}})),
        "column few of row",
    );
    let three = json!({"t": {A: {"few": ["set", [1, 2]]}}, "_is_diff": true});
    check_damage(&transaction(three), "would have 3 elements");
    // Nothing of a transaction counts of which a part is wrong.
    check_damage(&transaction(json!({"t": {B: {}}, "z": {}})), "unknown table z");
}

#[test]
fn a_file_that_ends_early_keeps_what_came_before() {
    let text = file(&[first_insert(), json!({"t": {B: {"name": "b"}}})]);
    let (first, second) = (file(&[]).len(), file(&[first_insert()]).len());
    for end in first..text.len() {
        let file = read(&text[..end]);
        let whole = end == first || end == second;
        assert_eq!(file.damage.is_none(), whole, "{end}: {:?}", file.damage);
        assert_eq!(file.rows.len(), usize::from(end >= second), "{end}");
    }
}

#[test]
fn what_has_no_schema_is_refused() {
    let refused = |text: &str| ovsdb_file::read(text.as_bytes()).unwrap_err();
    assert!(matches!(refused(""), ReadError::NotOvsdb));
    assert!(matches!(refused("SQLite format 3\0"), ReadError::NotOvsdb));
    let clustered = refused(&record("CLUSTER", "{}"));
    assert!(matches!(clustered, ReadError::Clustered));
    assert!(clustered.to_string().contains("ovsdb-tool cluster-to-standalone"));
    let short = refused(&file(&[])[..100]);
    assert!(
        short
            .to_string()
            .starts_with("unexpected file format: record 0 at byte 0: short body"),
        "{short}"
    );
    let none = refused(&record("JSON", "{\"name\":\"d\"}"));
    assert!(none.to_string().contains("bad schema: "), "{none}");
}

fn origin() -> Origin {
    Origin {
        author: Author::default(),
        moment: Moment::default(),
        db_id: Uuid::from_u128(1),
        txn_uid: Uuid::from_u128(2),
    }
}

#[test]
fn an_import_is_one_record_that_names_its_source() {
    let directory = tempfile::tempdir().unwrap();
    let (path, source) = (
        directory.path().join("new.db"),
        read(&file(&[first_insert(), json!({"t": {B: {"few": 3}}})])),
    );
    ovsdb_file::import(&path, &source, "/some/conf.db".as_ref(), &origin()).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.verify(&Scope::default(), |_| ()).unwrap().verifier.records(), 2);
    let contents = reader.contents().unwrap();
    assert_eq!(contents.newest.kind, Kind::Import);
    let mut rows = contents.rows;
    rows.sort_by_key(|row| (row.table, row.uuid));
    assert_eq!(rows, source.rows);
    let record = reader.records(1..=1).next().unwrap().unwrap();
    let body = nonnet_chain::Body::decode(&record.body.unwrap()).unwrap();
    let detail = |name: &str| {
        body.meta
            .details
            .iter()
            .find(|(known, _)| known == name)
            .unwrap()
            .1
            .to_string()
    };
    assert_eq!(detail("source"), "/some/conf.db");
    assert_eq!(
        (detail("source_sha1"), detail("source_records")),
        (source.sha1.clone(), "3".to_owned())
    );
    drop(reader);
    let opened = nonnet_store::open(&path).unwrap();
    assert_eq!(opened.rows.len(), 2);
    drop(opened);
    let again = ovsdb_file::import(&path, &source, "/some/conf.db".as_ref(), &origin()).unwrap_err();
    assert!(matches!(again, OvsdbFileError::Store(_)), "{again}");
}

#[test]
fn what_is_written_is_read_again() {
    let source = read(&file(&[
        first_insert(),
        json!({"t": {B: {"map": ["map", [["\u{e4}\n", "\""]]], "maybe": 0.1}}}),
    ]));
    let mut bytes = Vec::new();
    ovsdb_file::write(
        &mut bytes,
        &source.schema,
        &source.rows,
        1_700_000_000_000,
        "a \"comment\"",
    )
    .unwrap();
    let again = ovsdb_file::read(bytes.as_slice()).unwrap();
    assert_eq!(
        (again.records, again.damage, again.date_ms),
        (2, None, Some(1_700_000_000_000))
    );
    assert_eq!((again.schema, again.rows), (source.schema, source.rows));
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains(&format!("\"{A}\":{{\"name\":\"a\"}}")), "{text}");
}

#[test]
fn a_conversion_in_place_keeps_the_original() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("conf.db");
    let text = format!("{}damaged\n", file(&[first_insert()]));
    std::fs::write(&path, &text).unwrap();
    // Another file of the name that the original would get.
    std::fs::write(directory.path().join("conf.db.ovsdb"), "other").unwrap();
    assert!(ovsdb_file::is_ovsdb_file(&path).unwrap());
    let converted = ovsdb_file::convert_in_place(&path, &origin()).unwrap();
    assert_eq!(converted.kept.file_name().unwrap(), "conf.db.ovsdb.1");
    assert_eq!(std::fs::read_to_string(&converted.kept).unwrap(), text);
    assert!(!ovsdb_file::is_ovsdb_file(&path).unwrap());
    assert_eq!(nonnet_store::open(&path).unwrap().rows, converted.source.rows);
    assert_eq!(converted.source.damage.unwrap().record, 2);
}

#[test]
fn an_interrupted_conversion_is_done_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("conf.db");
    std::fs::write(&path, file(&[first_insert()])).unwrap();
    std::fs::hard_link(&path, directory.path().join("conf.db.ovsdb")).unwrap();
    std::fs::write(directory.path().join("conf.db.new"), "half").unwrap();
    let converted = ovsdb_file::convert_in_place(&path, &origin()).unwrap();
    assert_eq!(converted.kept.file_name().unwrap(), "conf.db.ovsdb");
    assert_eq!(nonnet_store::open(&path).unwrap().rows.len(), 1);
}
