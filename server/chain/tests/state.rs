//! The digest of a state: whatever the way to it, the same rows have the same digest, and other rows another.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use std::collections::BTreeMap;

use nonnet_chain::{RowName, StateDigest};
use nonnet_schema::{Atom, Datum, Uuid};
use proptest::prelude::*;

/// A row's columns by name.
type Fields = BTreeMap<&'static str, Datum>;

fn name(uuid: u8) -> RowName<'static> {
    RowName {
        table: "T",
        uuid: Uuid::from_u128(u128::from(uuid)),
    }
}

fn borrowed(fields: &Fields) -> impl Iterator<Item = (&str, &Datum)> + Clone {
    fields.iter().map(|(column, datum)| (*column, datum))
}

fn digest_of(rows: &BTreeMap<u8, Fields>) -> StateDigest {
    let mut digest = StateDigest::default();
    for (uuid, fields) in rows {
        digest.add_row(name(*uuid), borrowed(fields));
    }
    digest
}

/// Follows one row from what it was to what it is.
fn follow(digest: &mut StateDigest, uuid: u8, before: Option<&Fields>, after: Option<&Fields>) {
    digest.change_row(name(uuid), before.map(borrowed), after.map(borrowed));
    for column in ["ids", "map", "name"] {
        let datum = |fields: Option<&Fields>| fields.and_then(|fields| fields.get(column)).cloned();
        digest.change_datum(name(uuid), column, datum(before).as_ref(), datum(after).as_ref());
    }
}

fn integers(from: i64, count: i64) -> Datum {
    Datum::set((from..from + count).map(Atom::Integer).collect()).unwrap()
}

fn pairs(count: i64, value: i64) -> Datum {
    let pair = |key| (Atom::Integer(key), Atom::Integer(if key % 7 == 0 { value } else { 0 }));
    Datum::map((0..count).map(pair).collect()).unwrap()
}

/// Sets and maps on both sides of where they count as large.
fn fields() -> impl Strategy<Value = Fields> {
    let lengths = || prop_oneof![0..4_i64, 60..70_i64, 100..300_i64];
    ("[a-c]{0,2}", 0..5_i64, lengths(), 0..3_i64, lengths()).prop_map(|(name, from, count, value, pairs_count)| {
        BTreeMap::from([
            ("ids", integers(from, count)),
            ("map", pairs(pairs_count, value)),
            ("name", Datum::scalar(Atom::String(name.into()))),
        ])
    })
}

proptest! {
    #[test]
    fn rows_that_were_followed_have_the_digest_of_rows_that_were_added(
        steps in prop::collection::vec((0..6_u8, prop::option::weighted(0.7, fields())), 1..20)
    ) {
        let (mut rows, mut digest) = (BTreeMap::new(), StateDigest::default());
        for (uuid, after) in steps {
            let before = match after.clone() {
                Some(fields) => rows.insert(uuid, fields),
                None => rows.remove(&uuid),
            };
            follow(&mut digest, uuid, before.as_ref(), after.as_ref());
            prop_assert_eq!(&digest, &digest_of(&rows));
        }
        let bytes = digest.to_bytes();
        prop_assert_eq!(StateDigest::from_bytes(&bytes), digest);
    }
}

#[test]
fn what_differs_in_one_place_has_another_root() {
    let base = || {
        BTreeMap::from([
            ("ids", integers(0, 100)),
            ("map", pairs(100, 1)),
            ("name", Datum::scalar(Atom::String("a".into()))),
        ])
    };
    let mut roots = vec![digest_of(&BTreeMap::from([(1, base())])).root()];
    let mut changed = |uuid, change: &dyn Fn(&mut Fields)| {
        let mut fields = base();
        change(&mut fields);
        roots.push(digest_of(&BTreeMap::from([(uuid, fields)])).root());
    };
    changed(2, &|_| ());
    changed(1, &|fields| drop(fields.remove("name")));
    changed(1, &|fields| drop(fields.insert("ids", integers(0, 101))));
    changed(1, &|fields| drop(fields.insert("ids", integers(0, 64))));
    changed(1, &|fields| drop(fields.insert("ids", integers(1, 100))));
    changed(1, &|fields| drop(fields.insert("map", pairs(100, 2))));
    changed(1, &|fields| drop(fields.insert("map", integers(0, 100))));
    changed(1, &|fields| {
        let ids = fields.insert("ids", integers(7, 100));
        drop((ids, fields.insert("map", pairs(99, 1))));
    });
    roots.push(StateDigest::default().root());
    let distinct: std::collections::BTreeSet<_> = roots.iter().collect();
    assert_eq!(distinct.len(), roots.len());
}
