//! The fuzz targets in every run of the tests: each entry of the corpus, then mutations of the corpus and of the case list by proptest.
//!
//! `NONNET_FUZZ_CASES` is how many mutated inputs each target is given, `NONNET_TESTS_SEED` what they begin with. A failure is shrunk and
//! printed; what it finds becomes an entry of the corpus and a test with a name.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

use nonnet_tests::case::{self, Action};
use nonnet_tests::fuzz::{TARGETS, Target};
use nonnet_tests::program::{number_from_environment, repository};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{RngSeed, TestCaseResult, TestError, TestRunner};
use serde_json::Value;

/// Inputs that each target is given by default; those of `transact` and `message` run a server each.
const CASES: u64 = 4_000;

/// Bytes of a made input at most.
const INPUT_BYTES_MAX: usize = 4096;

/// As the server parses on: the deepest messages need it in an unoptimised build.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Texts that mean something in what is fuzzed; the first only removes what it replaces.
const TOKENS: &[&str] = &[
    "",
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

/// Bytes of an input: where they begin, and how many at most.
#[derive(Clone, Debug)]
struct Slice(Index, usize);

/// One change of an input.
#[derive(Clone, Debug)]
enum Mutation {
    Truncate(Index),
    /// The bits of a byte that are flipped.
    Flip(Index, u8),
    /// Which of the digits becomes this one.
    Digit(Index, u8),
    Replace(Slice, &'static str),
    Duplicate(Slice),
    /// What takes the place of the slice: a slice of another input.
    Splice(Slice, Index, Slice),
    /// The brackets around the slice, and how often they are there.
    Nest(Slice, (&'static str, &'static str), usize),
}

#[test]
fn every_entry_of_the_corpus_holds() {
    on_a_deep_stack(|| {
        for target in TARGETS {
            let entries = corpus(target.name);
            assert!(!entries.is_empty(), "the corpus of {} is empty", target.name);
            for (path, input) in entries {
                if let Err(panic) = catch_unwind(|| (target.run)(&input)) {
                    eprintln!("{}: {} fails", target.name, path.display());
                    resume_unwind(panic);
                }
            }
        }
    });
}

#[test]
fn json_text_is_read_and_printed_alike() {
    drive("json");
}

#[test]
fn any_messages_are_answered_or_end_their_session() {
    drive("message");
}

#[test]
fn any_schema_is_refused_or_prints_as_itself() {
    drive("schema");
}

#[test]
fn any_condition_is_refused_or_agrees_with_itself() {
    drive("condition");
}

#[test]
fn any_transactions_keep_monitors_and_undo_right() {
    drive("transact");
}

#[test]
fn a_failure_shrinks_to_few_mutations() {
    // Long, so that mutations seldom meet.
    let inputs = [b"[10,20]".repeat(200), b"{\"a\":[]}".repeat(200)];
    let without_a_null = |input: &[u8]| {
        prop_assert!(!input.windows(4).any(|bytes| bytes == b"null"));
        Ok(())
    };
    for seed in 0..16 {
        let failure = fail(&inputs, seed, CASES as u32, without_a_null);
        let Err(TestError::Fail(_, (_, mutations))) = failure else {
            panic!("seed {seed}: {failure:?}")
        };
        assert!(mutations.len() <= 2, "seed {seed}: {mutations:?}");
    }
}

fn drive(name: &'static str) {
    let target = TARGETS.into_iter().find(|target| target.name == name).unwrap();
    on_a_deep_stack(move || run(target));
}

fn on_a_deep_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    if let Err(panic) = thread.spawn(test).unwrap().join() {
        resume_unwind(panic);
    }
}

fn run(target: Target) {
    let mut inputs: Vec<_> = corpus(target.name).into_iter().map(|(_, input)| input).collect();
    inputs.extend(seeds(target.name));
    let seed = number_from_environment("NONNET_TESTS_SEED", u64::from(std::process::id())).unwrap();
    let cases = number_from_environment("NONNET_FUZZ_CASES", CASES).unwrap();
    println!(
        "{}: {} inputs, {cases} cases, NONNET_TESTS_SEED={seed}",
        target.name,
        inputs.len()
    );
    let run = |input: &[u8]| {
        (target.run)(input);
        Ok(())
    };
    match fail(&inputs, seed, u32::try_from(cases).unwrap(), run) {
        Ok(()) => {}
        Err(TestError::Fail(reason, (of, mutations))) => panic!(
            "{}: {reason}\nNONNET_TESTS_SEED={seed}, shrunk to {mutations:?} of\n{}\nthe input is\n{}",
            target.name,
            of.get(&inputs).escape_ascii(),
            mutated(&inputs, of, &mutations).escape_ascii()
        ),
        Err(TestError::Abort(reason)) => panic!("{}: NONNET_TESTS_SEED={seed}: {reason}", target.name),
    }
}

/// Gives `test` mutated `inputs`; an error is the shrunk failure, which of the inputs and its mutations.
fn fail(
    inputs: &[Vec<u8>],
    seed: u64,
    cases: u32,
    test: impl Fn(&[u8]) -> TestCaseResult,
) -> Result<(), TestError<(Index, Vec<Mutation>)>> {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..ProptestConfig::default()
    };
    let strategy = (any::<Index>(), vec(mutation(), 1..=4));
    let test = AssertUnwindSafe(test);
    TestRunner::new(config).run(&strategy, |(of, mutations)| test(&mutated(inputs, of, &mutations)))
}

fn slice() -> impl Strategy<Value = Slice> + Clone {
    (any::<Index>(), 0_usize..=64).prop_map(|(at, bytes)| Slice(at, bytes))
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    let brackets = select(&[("[", "]"), ("{\"a\":", "}"), ("[\"set\",[", "]]")][..]);
    // Up to what is nested too deep.
    let times = (0_u32..=10).prop_map(|power| 1_usize << power);
    let piece = (at(), 0..=INPUT_BYTES_MAX).prop_map(|(at, bytes)| Slice(at, bytes));
    prop_oneof![
        1 => at().prop_map(Mutation::Truncate),
        2 => (at(), 1_u8..).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        1 => (at(), b'0'..=b'9').prop_map(|(at, digit)| Mutation::Digit(at, digit)),
        3 => (slice(), select(TOKENS)).prop_map(|(slice, token)| Mutation::Replace(slice, token)),
        1 => slice().prop_map(Mutation::Duplicate),
        1 => (slice(), at(), piece).prop_map(|(slice, other, piece)| Mutation::Splice(slice, other, piece)),
        1 => (slice(), brackets, times).prop_map(|(slice, brackets, times)| Mutation::Nest(slice, brackets, times)),
    ]
}

fn mutated(inputs: &[Vec<u8>], of: Index, mutations: &[Mutation]) -> Vec<u8> {
    let mut input = of.get(inputs).clone();
    for mutation in mutations {
        mutation.apply(&mut input, inputs);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

impl Slice {
    fn range(&self, bytes: usize) -> Range<usize> {
        let start = self.0.index(bytes + 1);
        start..bytes.min(start + self.1)
    }
}

impl Mutation {
    fn apply(&self, input: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let bytes = input.len();
        match self {
            Self::Truncate(at) => input.truncate(at.index(bytes + 1)),
            Self::Flip(at, bits) => {
                if bytes > 0 {
                    input[at.index(bytes)] ^= bits;
                }
            }
            Self::Digit(at, digit) => {
                let mut digits: Vec<_> = input.iter_mut().filter(|byte| byte.is_ascii_digit()).collect();
                if !digits.is_empty() {
                    **at.get_mut(&mut digits) = *digit;
                }
            }
            Self::Replace(slice, token) => drop(input.splice(slice.range(bytes), token.bytes())),
            Self::Duplicate(slice) => {
                let range = slice.range(bytes);
                let piece = input[range.clone()].to_vec();
                drop(input.splice(range.start..range.start, piece));
            }
            Self::Splice(slice, other, piece) => {
                let other = other.get(inputs);
                let piece = &other[piece.range(other.len())];
                drop(input.splice(slice.range(bytes), piece.iter().copied()));
            }
            Self::Nest(slice, (open, close), times) => {
                let range = slice.range(bytes);
                let nested = [
                    open.repeat(*times).as_bytes(),
                    &input[range.clone()],
                    close.repeat(*times).as_bytes(),
                ]
                .concat();
                drop(input.splice(range, nested));
            }
        }
    }
}

/// The entries of the corpus of a target, in the order of their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(repository().join("tests/fuzz/corpus").join(name)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).unwrap());
    paths.into_iter().map(read).collect()
}

/// What the case list has for a target.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for case in case::load_all().unwrap() {
        let mut transactions = format!("{}\n", Value::from(case.database.as_str()));
        for step in &case.steps {
            match &step.action {
                Action::Request { method, params, id, .. } => {
                    let request = serde_json::json!({"id": id, "method": method, "params": params});
                    if name == "json" || name == "message" {
                        seeds.push(request.to_string().into_bytes());
                    }
                    if let ("transact", Some([_, operations @ ..])) =
                        (method.as_str(), params.as_array().map(Vec::as_slice))
                    {
                        transactions += &Value::from(operations).to_string();
                        transactions.push('\n');
                        let conditions = operations.iter().filter_map(|operation| operation.get("where"));
                        if name == "condition" {
                            seeds.extend(conditions.map(|condition| condition.to_string().into_bytes()));
                        }
                    }
                }
                Action::Text { text, .. } if name == "json" => seeds.push(text.clone().into_bytes()),
                _ => {}
            }
        }
        match name {
            "transact" => seeds.push(transactions.into_bytes()),
            "schema" => seeds.push(case.schema.to_string().into_bytes()),
            _ => {}
        }
    }
    seeds.dedup();
    seeds
}
