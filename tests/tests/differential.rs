//! Random sessions of several clients on `ovsdb-server`, on `nonnetd`, and on its sessions without a process around them: the same replies,
//! the same notifications, the same final state; and what monitors tell amounts to what is in the database.
//!
//! `NONNET_DIFFERENTIAL_CASES` sets the number of cases, `NONNET_TESTS_SEED` repeats a run, `NONNET_DIFFERENTIAL_ONLY` one case of it. A
//! failing case is made small and printed as steps of the case list.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use nonnet_tests::generate::{Choices, Deed, Model, Step, Traffic};
use nonnet_tests::in_process::InProcess;
use nonnet_tests::known_difference::with_any_row;
use nonnet_tests::play::Peer;
use nonnet_tests::program::number_from_environment;
use nonnet_tests::reduce::{without_needless, without_needless_parts};
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::side::{Outcome, Side};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use serde_json::{Value, json};

/// Random cases, each with servers of its own: 20,000 transactions, and some.
const CASES: u64 = 150;

/// Transactions of a case on average, at least; fewer would be another test than the one that is promised.
const TRANSACTIONS_PER_CASE_MIN: u64 = 134;

/// The seed where none is given: of others, one in a few meets what `ovsdb-server` does with weak references to nothing.
const SEED: u64 = 91;

/// How often a case that differs is played again; one that is then the same once differs by chance.
const REPLAYS: usize = 6;

/// Of so many cases `ovsdb-server` may end itself over one.
const ENDED_SHARE: u64 = 30;

/// Threads that play cases.
const PLAYERS: u64 = 2;

/// Choices that make the schema.
const SCHEMA_CHOICES: Range<usize> = 20..150;

/// Steps of a case.
const STEPS: usize = 100;

/// Choices that make a step; when they are used up, what follows is the simplest.
const STEP_CHOICES: Range<usize> = 10..200;

/// Steps after which replicas are compared with the database.
const CHECK_INTERVAL: usize = 10;

/// How long a failing case is made smaller.
const REDUCTION: Duration = Duration::from_secs(90);

/// The servers that are compared; the first says what is right.
const NAMES: [&str; 3] = ["ovsdb-server", "nonnetd", "in process"];

/// A generated case: what is done, in order.
#[derive(Clone)]
struct Case {
    schema: Value,
    clients: usize,
    steps: Vec<Step>,
    selects: Vec<Value>,
}

/// What went wrong.
struct Failure {
    kind: FailureKind,
    /// Steps until then.
    steps: usize,
    /// Requests about monitors that were refused until then, by id.
    refused: BTreeSet<String>,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FailureKind {
    /// Servers tell different things.
    Difference,
    /// The server of that number broke a rule that needs no other server to compare with.
    Broken(usize),
    /// The server of that number is gone.
    Ended(usize),
}

/// What was played.
#[derive(Default)]
struct Tally {
    transactions: AtomicUsize,
    steps: AtomicUsize,
    steps_with_updates: AtomicUsize,
    released: AtomicUsize,
    conversions: AtomicUsize,
    /// Cases over which `ovsdb-server` ended itself, or that differ by chance.
    ended: AtomicUsize,
}

#[test]
fn random_sessions_do_the_same_on_both_servers() {
    let cases = number_from_environment("NONNET_DIFFERENTIAL_CASES", CASES).unwrap();
    let seed = number_from_environment("NONNET_TESTS_SEED", SEED).unwrap();
    println!("NONNET_TESTS_SEED={seed}");
    let numbers = match std::env::var("NONNET_DIFFERENTIAL_ONLY") {
        Ok(only) => {
            let only = only.parse().unwrap();
            only..only + 1
        }
        Err(_) => 0..cases,
    };
    let cases = numbers.end - numbers.start;
    let tally = Tally::default();
    let next = AtomicU64::new(numbers.start);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let players: Vec<_> = (0..PLAYERS)
            .map(|_| scope.spawn(|| play_cases(numbers.end, seed, &next, &tally)))
            .collect();
        let results = players.into_iter().map(|player| player.join().unwrap());
        results.filter_map(Result::err).collect()
    });
    assert!(
        failures.is_empty(),
        "NONNET_TESTS_SEED={seed}: {}",
        failures.join("\n\n")
    );
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    println!(
        "{cases} random cases did the same on both servers: {} transactions in {} steps, {} of them with updates, {} releasing a \
         transaction that waited, {} conversions",
        count(&tally.transactions),
        count(&tally.steps),
        count(&tally.steps_with_updates),
        count(&tally.released),
        count(&tally.conversions),
    );
    assert!(
        count(&tally.ended) as u64 <= 1 + cases / ENDED_SHARE,
        "ovsdb-server ends itself too often"
    );
    assert!(
        count(&tally.transactions) as u64 >= cases * TRANSACTIONS_PER_CASE_MIN,
        "the cases are too short"
    );
    assert!(
        count(&tally.steps_with_updates) * 5 >= count(&tally.steps),
        "almost no step changes anything that is watched"
    );
}

/// Plays random cases up to the one of number `end` until one fails, which the error shows made small.
fn play_cases(end: u64, seed: u64, next: &AtomicU64, tally: &Tally) -> Result<(), String> {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            return Ok(());
        }
        let case = Case::random(seed, number);
        if let Err(failure) = case.compare(tally) {
            if failure.kind == FailureKind::Ended(0) {
                // It reads beyond its memory now and then (monitors with conditions), so that it ends, or does not, by chance.
                println!("case {number}: ovsdb-server ended itself: {:.200}", failure.text);
                tally.ended.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            // What ovsdb-server does with weak references to nothing depends on the order in which it visits rows, which is by chance.
            if (0..REPLAYS).any(|_| case.compare(tally).is_ok()) {
                println!("case {number}: differs by chance: {:.200}", failure.text);
                tally.ended.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            next.store(end, Ordering::Relaxed);
            eprintln!("case {number} fails and is made smaller: {:.1000}", failure.text);
            let (case, failure) = case.reduced(failure);
            return Err(format!("case {number}:\n{}{}", case.shown(failure.steps), failure.text));
        }
    }
}

impl Case {
    /// The case of that number in the run of that seed.
    fn random(seed: u64, number: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed ^ (number << 32));
        let mut choices = |counts: Range<usize>| -> Vec<u32> {
            let count = random.random_range(counts);
            (0..count).map(|_| random.next_u32() >> 4).collect()
        };
        let schema = choices(SCHEMA_CHOICES);
        let steps: Vec<Vec<u32>> = (0..STEPS).map(|_| choices(STEP_CHOICES)).collect();
        let mut choices = Choices::new(&schema);
        let model = Model::new(&mut choices);
        let (schema, selects) = (model.schema(), model.selects());
        let mut traffic = Traffic::new(model, &mut choices);
        Self {
            schema,
            clients: traffic.clients(),
            steps: steps.iter().map(|step| traffic.step(&mut Choices::new(step))).collect(),
            selects,
        }
    }

    /// Plays the case on all servers, up to the first difference.
    fn compare(&self, tally: &Tally) -> Result<(), Failure> {
        let mut refused = BTreeSet::new();
        self.play(tally, &mut refused)
            .map_err(|failure| Failure { refused, ..failure })
    }

    fn play(&self, tally: &Tally, refused: &mut BTreeSet<String>) -> Result<(), Failure> {
        let mut sides = self.start().map_err(|(side, error)| Failure::broken(0, side, &error))?;
        for (number, step) in self.steps.iter().enumerate() {
            let done = number + 1;
            let broken = |(side, error)| Failure::broken(done, side, &error);
            let outcomes = each(&mut sides, |side| side.step(step)).map_err(broken)?;
            let was_released = outcomes[0].was_released;
            tally.count(step, &outcomes[0]);
            refused.extend(refusals(step, &outcomes[0]));
            same(done, &outcomes.map(|outcome| forms(outcome.messages)))?;
            if was_released || done % CHECK_INTERVAL == 0 || done == self.steps.len() {
                let seen = each(&mut sides, Side::check).map_err(broken)?;
                same(done, &seen.map(|seen| vec![seen]))?;
            }
        }
        let done = self.steps.len();
        let rows = each(&mut sides, |side| side.transact(&self.selects));
        let rows = rows.map_err(|(side, error)| Failure::broken(done, side, &error))?;
        same(done, &rows.map(|rows| vec![rows]))
    }

    fn start(&self) -> Result<[Side; 3], (usize, anyhow::Error)> {
        let sent = format!("{:?}", self.steps);
        let side = |number: usize| -> Result<Side> {
            let peer: Box<dyn Peer> = match number {
                0 => Box::new(Server::start_in_memory(Kind::Reference, &self.schema)?),
                1 => Box::new(Server::start_in_memory(Kind::Nonnetd, &self.schema)?),
                _ => Box::new(InProcess::new(&self.schema)?),
            };
            Side::new(peer, number == 0, &self.schema, self.clients, &sent)
        };
        let side = |number| side(number).map_err(|error| (number, error));
        Ok([side(0)?, side(1)?, side(2)?])
    }

    /// A smaller case that fails in the same way, and how it fails.
    fn reduced(self, failure: Failure) -> (Self, Failure) {
        let deadline = Instant::now() + REDUCTION;
        let mut smallest = (self, failure);
        let fails = |case: Self, smallest: &mut (Self, Failure)| {
            if Instant::now() > deadline {
                return false;
            }
            let Err(failure) = case.compare(&Tally::default()) else {
                return false;
            };
            // With other monitors than before, a later change of condition may be one that is never generated.
            let asked = case.steps[..failure.steps].iter().flat_map(|step| messages(&step.deed));
            let mut ids = asked.map(|message| message["id"].to_string());
            let is_same = failure.kind == smallest.1.kind
                && ids.all(|id| failure.refused.contains(&id) == smallest.1.refused.contains(&id));
            if is_same {
                *smallest = (case, failure);
            }
            is_same
        };
        let mut steps: Vec<Step> = smallest.0.steps[..smallest.1.steps].iter().flat_map(single).collect();
        if !fails(smallest.0.with_steps(&steps), &mut smallest) {
            // The messages count only as they were sent.
            steps = smallest.0.steps[..smallest.1.steps].to_vec();
        }
        without_needless(&mut steps, |steps| fails(smallest.0.with_steps(steps), &mut smallest));
        for at in (0..steps.len()).rev() {
            let [message] = messages(&steps[at].deed) else {
                continue;
            };
            let is_transaction = message["method"] == "transact";
            let places = message["params"]
                .as_array()
                .filter(|_| is_transaction)
                .map_or(0, Vec::len);
            for place in 0..places {
                let mut param = params(&mut steps[at].deed)[place].clone();
                let with = |param: &Value| {
                    let mut steps = steps.clone();
                    params(&mut steps[at].deed)[place] = param.clone();
                    steps
                };
                without_needless_parts(&mut param, |param| {
                    fails(smallest.0.with_steps(&with(param)), &mut smallest)
                });
                steps = with(&param);
            }
        }
        smallest
    }

    fn with_steps(&self, steps: &[Step]) -> Self {
        Self {
            steps: steps.to_vec(),
            ..self.clone()
        }
    }

    /// The case as steps of the case list, for a person to play again.
    fn shown(&self, steps: usize) -> String {
        let mut text = format!("\"schema\": {}, \"steps\": [\n", self.schema);
        for Step { client, deed } in &self.steps[..steps] {
            for (at, message) in messages(deed).iter().enumerate() {
                let line = match (&message["method"], &message["id"]) {
                    (method, Value::Null) => json!({"notify": method, "params": message["params"]}),
                    (method, id) => json!({"call": method, "params": message["params"], "id": id}),
                };
                let pipelined = if at > 0 { "+" } else { " " };
                let line = line.to_string();
                let _ = writeln!(text, "{pipelined}{{\"on\":\"{client}\",{}", &line[1..]);
            }
            if matches!(deed, Deed::Reopen) {
                let _ = writeln!(text, " {{\"on\":\"{client}\",\"close\":true}}");
            }
        }
        text + "]\n"
    }
}

impl Failure {
    fn broken(steps: usize, side: usize, error: &anyhow::Error) -> Self {
        let text = format!("{}: {error:#}", NAMES[side]);
        let is_gone = ["closed the connection", "Broken pipe", "Connection refused"]
            .iter()
            .any(|words| text.contains(words));
        Self {
            kind: if is_gone {
                FailureKind::Ended(side)
            } else {
                FailureKind::Broken(side)
            },
            steps,
            refused: BTreeSet::new(),
            text,
        }
    }
}

/// The messages of a step.
fn messages(deed: &Deed) -> &[Value] {
    match deed {
        Deed::Send(messages) => messages,
        Deed::Wait { request, .. } | Deed::Convert { request } => std::slice::from_ref(request),
        Deed::Reopen => &[],
    }
}

/// The requests about monitors that were refused in a step, by id.
fn refusals(step: &Step, outcome: &Outcome) -> Vec<String> {
    let told = outcome.messages[format!("client {}", step.client)].as_array();
    let errors = told.into_iter().flatten().filter(|message| !message["error"].is_null());
    let ids: BTreeSet<String> = errors.map(|message| message["id"].to_string()).collect();
    messages(&step.deed)
        .iter()
        .filter(|message| {
            message["method"]
                .as_str()
                .is_some_and(|method| method.starts_with("monitor"))
        })
        .map(|message| message["id"].to_string())
        .filter(|id| ids.contains(id))
        .collect()
}

/// The params of the only message of a step.
fn params(deed: &mut Deed) -> &mut Value {
    match deed {
        Deed::Send(messages) => &mut messages[0]["params"],
        Deed::Wait { request, .. } | Deed::Convert { request } => &mut request["params"],
        Deed::Reopen => panic!("it sends nothing"),
    }
}

/// The same step with one message at a time.
fn single(step: &Step) -> Vec<Step> {
    match &step.deed {
        Deed::Send(messages) => messages
            .iter()
            .map(|message| Step {
                client: step.client,
                deed: Deed::Send(vec![message.clone()]),
            })
            .collect(),
        _ => vec![step.clone()],
    }
}

/// The messages as they are, and as they are where they may differ (see `known_difference`).
fn forms(messages: Value) -> Vec<Value> {
    let mut lenient = messages.clone();
    with_any_row(&mut lenient);
    vec![messages, lenient]
}

fn each<T>(
    sides: &mut [Side; 3],
    mut act: impl FnMut(&mut Side) -> Result<T>,
) -> Result<[T; 3], (usize, anyhow::Error)> {
    let [reference, nonnetd, in_process] = sides;
    Ok([
        act(reference).map_err(|error| (0, error))?,
        act(nonnetd).map_err(|error| (1, error))?,
        act(in_process).map_err(|error| (2, error))?,
    ])
}

/// Any of the forms is the same everywhere.
fn same(steps: usize, seen: &[Vec<Value>; 3]) -> Result<(), Failure> {
    let [reference, others @ ..] = seen;
    for (name, other) in NAMES[1..].iter().zip(others) {
        if !reference.iter().zip(other).any(|(one, two)| one == two) {
            return Err(Failure {
                kind: FailureKind::Difference,
                steps,
                refused: BTreeSet::new(),
                text: format!("{}: {}\n{name}: {}", NAMES[0], reference[0], other[0]),
            });
        }
    }
    Ok(())
}

impl Tally {
    fn count(&self, step: &Step, outcome: &Outcome) {
        let transactions = messages(&step.deed)
            .iter()
            .filter(|message| message["method"] == "transact");
        let has_updates = outcome.messages.to_string().contains("\"method\":\"update");
        self.transactions.fetch_add(transactions.count(), Ordering::Relaxed);
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.steps_with_updates
            .fetch_add(usize::from(has_updates), Ordering::Relaxed);
        let is_conversion = matches!(step.deed, Deed::Convert { .. });
        self.conversions
            .fetch_add(usize::from(is_conversion), Ordering::Relaxed);
        self.released
            .fetch_add(usize::from(outcome.was_released), Ordering::Relaxed);
    }
}
