//! The fuzz targets in every run of the tests: each entry of the corpus, then mutations of the corpus and of the case list.
//!
//! `NONNET_FUZZ_CASES` is how many mutations each target is given, `NONNET_TESTS_SEED` what they begin with.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use nonnet_tests::case::{self, Action};
use nonnet_tests::fuzz::{Mutator, TARGETS, Target};
use nonnet_tests::program::{number_from_environment, repository};
use serde_json::Value;

/// Mutations that each target is given by default; those of `transact` and `message` run a server each.
const CASES: u64 = 4_000;

/// As the server parses on: the deepest messages need it in an unoptimised build.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Mutations between two reports of where the run is.
const REPORTED_CASES: u64 = 1_000;

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

fn drive(name: &'static str) {
    let target = TARGETS.into_iter().find(|target| target.name == name).unwrap();
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let run = thread.spawn(move || run(target)).unwrap();
    if let Err(panic) = run.join() {
        std::panic::resume_unwind(panic);
    }
}

fn run(target: Target) {
    let mut corpus = Vec::new();
    let mut entries: Vec<PathBuf> = std::fs::read_dir(repository().join("tests/fuzz/corpus").join(target.name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        let input = std::fs::read(&path).unwrap();
        check(target, &input, &path.display().to_string());
        corpus.push(input);
    }
    assert!(!corpus.is_empty(), "the corpus of {} is empty", target.name);
    corpus.extend(seeds(target.name));
    let seed = number_from_environment("NONNET_TESTS_SEED", u64::from(std::process::id())).unwrap();
    let cases = number_from_environment("NONNET_FUZZ_CASES", CASES).unwrap();
    println!(
        "{}: {} inputs, {cases} mutations, NONNET_TESTS_SEED={seed}",
        target.name,
        corpus.len()
    );
    let mut mutator = Mutator::new(seed);
    for case in 0..cases {
        let input = mutator.next(&corpus);
        check(target, &input, &format!("mutation {case} of NONNET_TESTS_SEED={seed}"));
        if case % REPORTED_CASES == 0 {
            println!("{}: {case}", target.name);
        }
    }
}

/// Runs one input; where it fails, the input is printed for the corpus.
fn check(target: Target, input: &[u8], what: &str) {
    let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    if let Err(panic) = ended {
        eprintln!("{}: {what} fails; the input is\n{}", target.name, input.escape_ascii());
        std::panic::resume_unwind(panic);
    }
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
