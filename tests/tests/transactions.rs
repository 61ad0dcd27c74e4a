//! The case list, run by several drivers: `ovsdb-server` proves the expectations, `nonnetd` meets them, also across restarts.

use nonnet_tests::case::{self, Action, Case};
use nonnet_tests::in_process::InProcess;
use nonnet_tests::play::{Options, play, play_on};
use nonnet_tests::server::Kind;
use nonnet_tests::{program, record};

/// Threads that play cases at the same time.
const PLAYERS: usize = 4;

#[test]
fn ovsdb_server_answers_as_the_cases_say() {
    let cases = case::load_all().unwrap();
    if record::is_wanted() {
        record::fill_in(&cases).unwrap();
    }
    let cases = case::load_all().unwrap();
    let options = Options {
        reference: true,
        restart_between: false,
    };
    play_all(
        Kind::Reference,
        &cases
            .iter()
            .filter(|case| case.no_reference.is_none())
            .collect::<Vec<_>>(),
        options,
    );
}

#[test]
fn nonnetd_answers_as_the_cases_say() {
    let cases = case::load_all().unwrap();
    play_all(
        Kind::Nonnetd,
        &cases.iter().collect::<Vec<_>>(),
        Options {
            reference: false,
            restart_between: false,
        },
    );
}

#[test]
fn nonnetd_answers_the_same_when_it_is_killed_between_steps() {
    let cases = case::load_all().unwrap();
    let options = Options {
        reference: false,
        restart_between: true,
    };
    play_all(
        Kind::Nonnetd,
        &cases.iter().filter(|case| case.allows_restarts()).collect::<Vec<_>>(),
        options,
    );
}

#[test]
fn the_sessions_answer_as_the_cases_say_without_a_process_around_them() {
    let cases = case::load_all().unwrap();
    let options = Options {
        reference: false,
        restart_between: false,
    };
    let mut failures = Vec::new();
    let mut played = 0;
    for case in cases
        .iter()
        .filter(|case| case.steps.iter().all(|step| !matches!(step.action, Action::Restart)))
    {
        played += case.steps.len();
        let mut peer = InProcess::new(&case.schema).unwrap();
        if let Err(error) = play(&mut peer, case, options, |_, _| Ok(())) {
            failures.push(format!("{error:#}"));
        }
    }
    println!("in process: {played} steps, {} cases failed", failures.len());
    assert!(
        failures.is_empty(),
        "{} cases failed:\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

#[test]
fn every_step_has_an_expectation() {
    for case in case::load_all().unwrap() {
        for step in &case.steps {
            let silent = step.text.contains("\"parked\"")
                || step.text.starts_with("{\"text\"")
                || ["\"notify\"", "\"restart\"", "\"close\""]
                    .iter()
                    .any(|word| step.text.contains(word));
            assert!(
                silent || !step.expected.is_blank(),
                "{}: {}: {}",
                case.file.display(),
                case.name,
                step.text
            );
        }
    }
}

/// Plays all cases, reports every one that fails, and prints how much was played.
fn play_all(kind: Kind, cases: &[&Case], options: Options) {
    if kind == Kind::Nonnetd {
        program::ours("nonnetd").unwrap();
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    if let Err(error) = play_on(kind, case, options) {
                        failures.lock().unwrap().push(format!("{error:#}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let steps: usize = cases.iter().map(|case| case.steps.len()).sum();
    println!(
        "{kind:?}: {} cases, {steps} steps, {} failed",
        cases.len(),
        failures.len()
    );
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n\n")
    );
}
