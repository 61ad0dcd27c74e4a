//! The canonical form: round trips, one encoding per value, and decoders that take any bytes.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

use nonnet_chain::canonical::{Form, Input, write_datum};
use nonnet_chain::{Body, Header, RowDelta};
use nonnet_schema::{Atom, Datum, Real, Uuid};
use proptest::collection::vec;
use proptest::prelude::*;

fn atoms() -> impl Strategy<Value = Vec<Atom>> {
    prop_oneof![
        vec(any::<i64>().prop_map(Atom::Integer), 0..90),
        vec(
            any::<f64>().prop_filter_map("finite", |f| Real::new(f).map(Atom::Real)),
            0..90
        ),
        vec(any::<bool>().prop_map(Atom::Boolean), 0..3),
        vec("[^\0]{0,20}".prop_map(|text| Atom::String(text.into())), 0..90),
        vec(any::<u128>().prop_map(|bits| Atom::Uuid(Uuid::from_u128(bits))), 0..90),
    ]
}

fn datums() -> impl Strategy<Value = Datum> {
    let unique = |mut keys: Vec<Atom>| {
        keys.sort();
        keys.dedup();
        keys
    };
    let set = atoms().prop_map(move |keys| Datum::set(unique(keys)).unwrap());
    let map = (atoms(), atoms()).prop_map(move |(keys, values)| {
        let pairs = unique(keys).into_iter().zip(values);
        Datum::map(pairs.collect()).unwrap()
    });
    prop_oneof![set, map]
}

fn encoded(datum: &Datum) -> Vec<u8> {
    let mut out = Vec::new();
    write_datum(datum, &mut out);
    out
}

proptest! {
    #[test]
    fn a_datum_survives_its_encoding(datum in datums()) {
        let bytes = encoded(&datum);
        let mut input = Input::new(&bytes);
        prop_assert_eq!(input.datum().unwrap(), datum);
        prop_assert!(input.is_empty());
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(bytes in vec(0_u8..6, 0..40)) {
        let mut input = Input::new(&bytes);
        if let Ok(Form::Whole(datum)) = input.form() {
            let encoded = encoded(&datum);
            prop_assert_eq!(&bytes[..encoded.len()], &encoded[..]);
        }
    }

    #[test]
    fn a_changed_byte_never_gives_the_same_datum(datum in datums(), at in any::<prop::sample::Index>(), bit in 0_u32..8) {
        let mut bytes = encoded(&datum);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        if let Ok(other) = Input::new(&bytes).datum() {
            prop_assert_ne!(other, datum);
        }
    }

    #[test]
    fn decoders_take_any_bytes(bytes in vec(any::<u8>(), 0..400)) {
        let _ = Input::new(&bytes).form();
        let _ = Body::decode(&bytes);
        let _ = RowDelta::decode(&bytes);
        let _ = Header::decode(&bytes);
    }

    #[test]
    fn a_header_survives_its_encoding(mut bytes in vec(any::<u8>(), 256), kind in 1_u8..=12, flags in 0_u8..32) {
        bytes[..8].copy_from_slice(&[b'N', b'N', b'C', b'1', kind, flags, 0, 1]);
        prop_assert_eq!(&Header::decode(&bytes).unwrap().encode()[..], &bytes[..]);
    }
}

#[test]
fn a_claimed_count_makes_no_room() {
    // A set that claims 2^62 integers.
    let bytes = [1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
    assert!(Input::new(&bytes).datum().is_err());
}

#[test]
fn negative_zero_and_long_varints_are_refused() {
    let mut negative_zero = vec![1, 1, 2];
    negative_zero.extend_from_slice(&(-0.0_f64).to_bits().to_le_bytes());
    assert!(Input::new(&negative_zero).datum().is_err());
    assert!(Input::new(&[0x80, 0x00]).varint().is_err());
    assert!(Input::new(&[0xff; 10]).varint().is_err());
    assert_eq!(
        Input::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).varint(),
        Ok(u64::MAX)
    );
}
