//! Datums against a model: ordered sets and maps of the standard library, at sizes on both sides of the border between slice and tree.
#![allow(clippy::unwrap_used, missing_docs, reason = "a failed test panics")]

use std::collections::{BTreeMap, BTreeSet};

use nonnet_schema::{Atom, AtomicType, BaseType, ColumnType, Datum, UNLIMITED};
use proptest::collection::{btree_map, btree_set};
use proptest::prelude::*;

type Set = BTreeSet<i64>;
type Map = BTreeMap<i64, i64>;

fn set(model: &Set) -> Datum {
    Datum::set(model.iter().rev().map(|key| Atom::from(*key)).collect()).unwrap()
}

fn map(model: &Map) -> Datum {
    Datum::map(
        model
            .iter()
            .rev()
            .map(|(key, value)| (Atom::from(*key), Atom::from(*value)))
            .collect(),
    )
    .unwrap()
}

fn column(value: bool) -> ColumnType {
    let integer = BaseType::plain(AtomicType::Integer);
    ColumnType {
        key: integer.clone(),
        value: value.then_some(integer),
        min: 0,
        max: UNLIMITED,
    }
}

fn sets() -> impl Strategy<Value = Set> {
    btree_set(0_i64..150, 0..140)
}

fn maps() -> impl Strategy<Value = Map> {
    btree_map(0_i64..150, 0_i64..3, 0..140)
}

proptest! {
    #[test]
    fn sets_behave_like_ordered_sets(a in sets(), b in sets()) {
        let (datum_a, datum_b) = (set(&a), set(&b));
        prop_assert_eq!(datum_a.len(), a.len());
        prop_assert_eq!(datum_a.union(&datum_b), set(&a.union(&b).copied().collect()));
        prop_assert_eq!(datum_a.subtract(&datum_b), set(&a.difference(&b).copied().collect()));
        prop_assert_eq!(datum_a.includes(&datum_b), b.is_subset(&a));
        prop_assert_eq!(datum_a.excludes(&datum_b), a.is_disjoint(&b));
        prop_assert_eq!(datum_a == datum_b, a == b);
    }

    #[test]
    fn a_difference_of_sets_is_symmetric_and_leads_from_old_to_new(old in sets(), new in sets()) {
        let diff = set(&new).diff_from(&set(&old), &column(false));
        prop_assert_eq!(&diff, &set(&old.symmetric_difference(&new).copied().collect()));
        prop_assert_eq!(set(&old).with_diff(&diff, &column(false)), set(&new));
    }

    #[test]
    fn a_difference_of_maps_leads_from_old_to_new(old in maps(), new in maps()) {
        let diff = map(&new).diff_from(&map(&old), &column(true));
        for (key, value) in &diff {
            let key = key.as_integer().unwrap();
            prop_assert!(old.get(&key) != new.get(&key));
            prop_assert_eq!(value.unwrap().as_integer(), new.get(&key).or(old.get(&key)).copied());
        }
        prop_assert_eq!(map(&old).with_diff(&diff, &column(true)), map(&new));
    }

    #[test]
    fn inserting_into_a_map_keeps_the_values_it_has(a in maps(), b in maps()) {
        let mut expected = b.clone();
        expected.extend(&a);
        prop_assert_eq!(map(&a).union(&map(&b)), map(&expected));
        let kept = a.iter().filter(|(key, value)| b.get(key) != Some(value)).map(|(key, value)| (*key, *value));
        prop_assert_eq!(map(&a).subtract(&map(&b)), map(&kept.collect()));
    }

    #[test]
    fn a_datum_survives_its_own_notation(a in sets(), b in maps()) {
        for (datum, type_) in [(set(&a), column(false)), (map(&b), column(true))] {
            let mut text = String::new();
            datum.write_json(&mut text);
            let json = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(Datum::parse(&json, &type_, None).unwrap(), datum.clone());
            prop_assert_eq!(datum.to_json(), json);
        }
    }
}
