//! The rows of the bench's table: like those of a port in a real database, some 300 bytes of JSON each.
//!
//! Row `n` is the same on every server and in every run, its UUID included.

use std::fmt::Write as _;

/// The schema of the bench's database.
pub const SCHEMA: &str = include_str!("../bench.ovsschema");

/// The name of the database in [`SCHEMA`].
pub const DATABASE: &str = "Bench";

/// The name in row `number`: the indexed column.
pub fn name(number: usize) -> String {
    format!("port-{number:08}")
}

/// The UUID that row `number` has when [`insert_as`] made it: version 4, spread like a random one.
pub fn uuid(number: usize) -> String {
    let (high, low) = (mix(number as u64), mix(!(number as u64)));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

/// The operation that inserts row `number` under a UUID of the server's choice.
pub fn insert(number: usize) -> String {
    operation(number, "")
}

/// The operation that inserts row `number` as [`uuid`] says.
pub fn insert_as(number: usize) -> String {
    operation(number, &format!(r#""uuid":"{}","#, uuid(number)))
}

/// A number below `bound` that looks random and is the same in every run.
pub fn pick(step: usize, bound: usize) -> usize {
    (mix(step as u64 ^ 0x5eed) % bound.max(1) as u64) as usize
}

fn operation(number: usize, uuid_member: &str) -> String {
    let mut text = String::with_capacity(512);
    let [a, b, c] = [(number >> 16) & 0xff, (number >> 8) & 0xff, number & 0xff];
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        r#"{{"op":"insert","table":"port",{uuid_member}"row":{{"name":"{name}","bridge":"br-{bridge}","ofport":{number},"mac":"02:00:00:{a:02x}:{b:02x}:{c:02x}","tag":{tag},"enabled":true,"addresses":["set",["10.{a}.{b}.{c}","fd00::{a:x}:{b:x}:{c:x}"]],"external_ids":["map",[["attached-mac","02:00:00:{a:02x}:{b:02x}:{c:02x}"],["container_id","{container}"],["owner","bench"]]]}}}}"#,
        name = name(number),
        bridge = number % 16,
        tag = number % 4096,
        container = uuid(number ^ (1 << 40)),
    );
    text
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014): neighbours become unlike.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
