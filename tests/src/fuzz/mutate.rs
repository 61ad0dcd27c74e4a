//! Inputs made from others: the mutations that find most in texts with a grammar.

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// Words that mean something in what is fuzzed.
const WORDS: &[&str] = &[
    "null",
    "true",
    "false",
    "-0",
    "1e400",
    "9223372036854775808",
    "5e-1",
    "\"\\ud800\"",
    "[\"set\",[]]",
    "[\"map\",[]]",
    "[\"uuid\",\"00000000-0000-0000-0000-000000000000\"]",
    "[\"named-uuid\",\"a\"]",
    "\"_uuid\"",
    "\"_version\"",
    "\"==\"",
    "\"includes\"",
    "\"where\":[]",
    "\"op\":\"insert\"",
    "\"op\":\"wait\"",
    "\"timeout\":0",
    "\"uuid-name\":\"a\"",
    "[",
    "]",
    "{",
    "}",
    ",",
    "[[",
    "]]",
    "{\"",
    "\n",
    "\u{e9}",
];

/// Bytes of a made input at most.
const INPUT_BYTES_MAX: usize = 4096;

/// Makes inputs; the same seed makes the same ones.
#[derive(Debug)]
pub struct Mutator(SmallRng);

impl Mutator {
    /// Seeded.
    pub fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// One to four mutations of one of `corpus`, which must hold something.
    pub fn next(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.pick(corpus).clone();
        for _ in 0..self.0.random_range(1..=4) {
            self.mutate(&mut input, corpus);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.0.random_range(0..all.len())]
    }

    fn mutate(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.0.random_range(0..=input.len());
        let end = self.0.random_range(at..=input.len().min(at + 64));
        match self.0.random_range(0..8) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..end)),
            2 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.0.random_range(0..8);
                }
            }
            3 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = self.0.random();
                }
            }
            4 | 5 => drop(input.splice(at..end, self.pick(WORDS).bytes())),
            6 => {
                let piece = input[at..end].to_vec();
                drop(input.splice(at..at, piece));
            }
            _ => {
                let other = self.pick(corpus).clone();
                let from = self.0.random_range(0..=other.len());
                let to = self.0.random_range(from..=other.len());
                drop(input.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }
}
