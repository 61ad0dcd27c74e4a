//! Records and chains: what they hold, that their bytes never change, and that verification names what was done to them.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]
#![allow(unreachable_pub, missing_docs)]

mod fixture;

use std::fmt::Write;

use fixture::{author, change, integers, moment, records, request, row, schema, stored};
use nonnet_chain::{
    Chain, DatumChange, FaultKind, Flags, Head, Kind, RecordHash, RowDelta, RowOp, StateDigest, StoredRecord, Verifier,
};
use nonnet_engine::ChangeSet;
use nonnet_schema::{Datum, TableIndex, Uuid};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn first_fault(stored: &[StoredRecord]) -> Option<(u64, FaultKind)> {
    let mut verifier = Verifier::from_genesis();
    stored
        .iter()
        .find_map(|record| verifier.check(record).err())
        .map(|fault| (fault.seq, fault.kind))
}

fn all() -> Vec<StoredRecord> {
    records().iter().map(stored).collect()
}

#[test]
fn the_bytes_of_records_are_fixed() {
    let records = records();
    let lines: String = records.iter().fold(String::new(), |mut lines, record| {
        writeln!(
            lines,
            "{}\n{}\n{}",
            record.hash,
            hex(&record.header.encode()),
            hex(&record.body)
        )
        .unwrap();
        lines
    });
    assert_eq!(lines, include_str!("vectors.txt"));
}

#[test]
fn a_record_says_who_when_and_what() {
    let record = records().remove(1);
    let header = record.header;
    assert_eq!(
        (header.kind, header.seq, header.n_rows, header.n_leaves),
        (Kind::Transaction, 1, 2, 3)
    );
    assert_eq!(
        (header.uid, header.gid, header.pid, header.comm().as_str()),
        (0, 1, 42, "ovsdb-client")
    );
    assert_eq!(header.txn_uid, Uuid::from_u128(1));
    assert_eq!(record.hash.transaction_id().as_bytes()[..], record.hash.0[..16]);
    let body = record.decode_body().unwrap();
    assert_eq!(body.meta.remote, "punix:/run/nonnet.db.sock");
    assert_eq!(body.meta.comments, ["a network"]);
    assert_eq!((body.meta.operations, body.meta.start_ticks), (2, 7));
    assert_eq!(body.rows.len(), 2);
    assert_eq!(body.rows[0].op, RowOp::Insert);
    let names: Vec<&str> = body.rows[0]
        .columns
        .iter()
        .map(|column| column.column.as_str())
        .collect();
    assert_eq!(names, ["mtu", "name", "ports", "tags"]);
}

#[test]
fn genesis_holds_the_schema() {
    let genesis = records().remove(0);
    assert_eq!((genesis.header.seq, genesis.header.prev), (0, RecordHash::ZERO));
    assert_eq!(genesis.decode_body().unwrap().schema.unwrap(), schema().to_text());
}

#[test]
fn a_modification_holds_only_what_changed_and_outlives_the_process() {
    let record = records().remove(2);
    assert!(record.header.flags.has(Flags::HAS_EPHEMERAL));
    let rows = record.decode_body().unwrap().rows;
    assert_eq!(rows[0].columns.len(), 1);
    let expected = DatumChange::Whole {
        old: Some(Datum::scalar(1500)),
        new: Some(Datum::empty_set()),
    };
    assert_eq!(rows[0].columns[0].change, expected);
}

#[test]
fn a_change_of_ephemeral_columns_alone_has_no_leaf() {
    let (old, new) = (row(1, &[]), row(1, &[("status", Datum::scalar("up"))]));
    assert_eq!(
        RowDelta::of(&change(Some(old), Some(new)), schema().table(TableIndex(0))),
        None
    );
}

#[test]
fn one_element_more_in_a_large_set_costs_one_element() {
    let schema = schema();
    let (mut chain, _) = Chain::begin(Uuid::nil(), &schema, &author(), moment(0)).unwrap();
    let (old, new) = (integers(0..10_000), integers(1..10_001));
    let rows = |datum: &Datum| Some(row(1, &[("ports", datum.clone())]));
    let changes = ChangeSet::new(vec![change(rows(&old), rows(&new))]);
    let record = chain
        .commit(&author(), &request(1), moment(1), &changes, &schema)
        .unwrap();
    assert!(record.body.len() < 300, "{}", record.body.len());
    let body = record.decode_body().unwrap();
    let change = &body.rows[0].columns[0].change;
    assert_eq!(
        *change,
        DatumChange::Elements {
            gone: integers(0..1),
            come: integers(10_000..10_001)
        }
    );
    assert_eq!(change.apply(Some(&old)).unwrap(), Some(new.clone()));
    assert_eq!(change.unapply(Some(&new)).unwrap(), Some(old.clone()));
    assert!(change.apply(Some(&new)).is_err());
}

#[test]
fn a_large_map_is_recorded_by_its_changed_pairs() {
    let map = |changed: &str| {
        Datum::string_map((0..100).map(|at| {
            (
                format!("k{at}"),
                if at == 5 { changed.into() } else { format!("v{at}") },
            )
        }))
    };
    let rows = |datum: Datum| Some(row(1, &[("tags", datum)]));
    let delta = RowDelta::of(
        &change(rows(map("old")), rows(map("new"))),
        schema().table(TableIndex(0)),
    )
    .unwrap();
    let pair = |value| Datum::string_map([("k5", value)]);
    assert_eq!(
        delta.columns[0].change,
        DatumChange::Elements {
            gone: pair("old"),
            come: pair("new")
        }
    );
    assert_eq!(
        delta.columns[0].change.apply(Some(&map("old"))).unwrap(),
        Some(map("new"))
    );
}

#[test]
fn a_clock_that_steps_back_is_flagged() {
    let schema = schema();
    let (mut chain, _) = Chain::begin(Uuid::nil(), &schema, &author(), moment(9)).unwrap();
    let mut commit = |seq| {
        chain
            .commit(&author(), &request(1), moment(seq), &ChangeSet::default(), &schema)
            .unwrap()
    };
    assert!(commit(3).header.flags.has(Flags::CLOCK_STEPPED_BACK));
    assert!(!commit(4).header.flags.has(Flags::CLOCK_STEPPED_BACK));
}

#[test]
fn a_chain_goes_on_after_its_last_header() {
    let records = records();
    let chain = Chain::after(&records[3].header, StateDigest::default());
    assert_eq!(chain.head(), records[3].head());
    assert!(records[3].follows(records[2].head()));
    assert!(!records[3].follows(records[1].head()));
}

#[test]
fn an_untouched_chain_verifies() {
    assert_eq!(first_fault(&all()), None);
}

#[test]
fn every_flipped_bit_is_found() {
    for seq in 0..4 {
        let len = all()[seq].header.len() + all()[seq].body.as_ref().unwrap().len() + 32;
        for at in 0..len {
            let mut stored = all();
            let record = &mut stored[seq];
            let (header_len, body) = (record.header.len(), record.body.as_mut().unwrap());
            match at {
                _ if at < header_len => record.header[at] ^= 1,
                _ if at < header_len + body.len() => body[at - header_len] ^= 1,
                _ => record.hash[at - header_len - body.len()] ^= 1,
            }
            assert!(
                first_fault(&stored).is_some_and(|(found, _)| found == seq as u64),
                "record {seq} byte {at}"
            );
        }
    }
}

#[test]
fn an_edited_header_with_a_new_hash_breaks_the_link_after_it() {
    let (mut stored, records) = (all(), records());
    let mut header = records[1].header;
    header.uid = 1000;
    stored[1].header = header.encode().to_vec();
    stored[1].hash = header.hash().0.to_vec();
    assert_eq!(first_fault(&stored), Some((2, FaultKind::BrokenLink)));
}

#[test]
fn each_fault_has_its_name() {
    let mut edited = all();
    edited[1].header[160] ^= 1;
    assert_eq!(first_fault(&edited), Some((1, FaultKind::EditedHeader)));
    let mut edited = all();
    edited[2].body.as_mut().unwrap()[30] ^= 1;
    assert_eq!(first_fault(&edited), Some((2, FaultKind::EditedBody)));
    let mut missing = all();
    missing.remove(2);
    assert_eq!(
        first_fault(&missing),
        Some((3, FaultKind::MissingRecord { expected: 2 }))
    );
    let mut reordered = all();
    reordered.swap(1, 2);
    (reordered[1].seq, reordered[2].seq) = (1, 2);
    assert_eq!(first_fault(&reordered), Some((1, FaultKind::Reordered { found: 2 })));
    let mut pruned = all();
    pruned[3].body = None;
    assert_eq!(first_fault(&pruned), Some((3, FaultKind::MissingBody)));
}

#[test]
fn a_shortened_or_replaced_end_shows_against_a_known_head() {
    let known = records()[3].head();
    let verified = |count: usize| {
        let mut verifier = Verifier::from_genesis();
        for record in all().iter().take(count) {
            verifier.check(record).unwrap();
        }
        verifier
    };
    assert!(verified(4).check_known(known).is_ok());
    assert!(verified(4).check_known(records()[1].head()).is_ok());
    assert_eq!(
        verified(3).check_known(known).unwrap_err().kind,
        FaultKind::Truncated { known: 3 }
    );
    let other = Head {
        hash: RecordHash([1; 32]),
        ..known
    };
    assert_eq!(
        verified(4).check_known(other).unwrap_err().kind,
        FaultKind::Replaced { known: other.hash }
    );
}
