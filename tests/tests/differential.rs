//! Random schemas and transactions on `ovsdb-server` and on `nonnetd`: the same replies, the same updates, the same final state.
//!
//! `NONNET_DIFFERENTIAL_CASES` sets the number of cases, `NONNET_TESTS_SEED` repeats a run; a failing case is made small and printed.

use anyhow::Context;
use nonnet_tests::generate::{Choices, DATABASE, Model};
use nonnet_tests::program::number_from_environment;
use nonnet_tests::rename::{Leniency, Order, Renamer};
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::{Client, Session};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Value, json};

/// Random cases, each with two servers of its own.
const CASES: u64 = 60;

/// Choices a case is made of.
const CHOICES_MAX: usize = 1500;

/// Transactions of a case.
const TRANSACTIONS_MAX: usize = 40;

/// Attempts to make a failing case smaller.
const SHRINK_ITERATIONS_MAX: u32 = 400;

/// Errors of a mutation that depend on the row; with several rows the first one reported is any of them.
const ROW_ERRORS: [&str; 3] = ["constraint violation", "domain error", "range error"];

/// What commit errors are about; with several violations the one reported is any of them.
const COMMIT_ERRORS: [&[&str]; 5] = [
    &["references nonexistent row"],
    &["cannot delete"],
    &["transaction causes"],
    &["Deletion of", "Weak reference column"],
    &["Transaction causes multiple rows"],
];

/// A generated case: what is sent, in order.
struct Case {
    schema: Value,
    monitors: (Value, Value),
    transactions: Vec<Vec<Value>>,
    selects: Vec<Value>,
}

/// One server with a session that writes and one that watches.
struct Side {
    server: Server,
    writer: Client,
    watcher: Client,
    names: Renamer,
}

#[test]
fn random_transactions_do_the_same_on_both_servers() {
    let cases = number_from_environment("NONNET_DIFFERENTIAL_CASES", CASES).unwrap();
    let seed = number_from_environment("NONNET_TESTS_SEED", u64::from(std::process::id())).unwrap();
    println!("NONNET_TESTS_SEED={seed}");
    let config = Config {
        cases: u32::try_from(cases).unwrap(),
        max_shrink_iters: SHRINK_ITERATIONS_MAX,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let result = runner.run(&vec(any::<u32>(), 50..CHOICES_MAX), |choices| {
        compare(&case(&choices)).map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    if let Err(error) = result {
        let text = error.to_string();
        // The choices mean nothing to a reader; the difference carries the case itself.
        panic!(
            "NONNET_TESTS_SEED={seed}: {}",
            text.split("minimal failing input").next().unwrap_or(&text)
        );
    }
    println!("{cases} random cases did the same on both servers");
}

fn case(choices: &[u32]) -> Case {
    let mut choices = Choices::new(choices);
    let mut model = Model::new(&mut choices);
    let monitors = model.monitors(&mut choices);
    let mut transactions = Vec::new();
    while !choices.is_empty() && transactions.len() < TRANSACTIONS_MAX {
        transactions.push(model.transaction(&mut choices));
    }
    Case {
        schema: model.schema(),
        monitors,
        transactions,
        selects: model.selects(),
    }
}

/// Plays a case on both servers; the error shows the case up to the first difference.
fn compare(case: &Case) -> anyhow::Result<()> {
    let mut sides = [Side::start(Kind::Reference, case)?, Side::start(Kind::Nonnetd, case)?];
    for (method, request) in [("monitor", &case.monitors.0), ("monitor_cond", &case.monitors.1)] {
        let params = json!([DATABASE, method, request]);
        let [theirs, ours] = sides
            .each_mut()
            .map(|side| side.watcher.call(method, &params).map(|reply| bare(&reply)));
        let (theirs, ours) = (theirs?, ours?);
        anyhow::ensure!(
            theirs == ours,
            "{}\n{method} {request}\nreference: {theirs}\nnonnetd:   {ours}",
            case.schema
        );
    }
    for (number, operations) in case.transactions.iter().enumerate() {
        let [theirs, ours] = sides
            .each_mut()
            .map(|side| side.step(operations).with_context(|| shown(case, number)));
        let (theirs, ours) = (theirs?, ours?);
        if !alike(operations, &theirs, &ours) {
            anyhow::bail!("{}\nreference: {theirs}\nnonnetd:   {ours}", shown(case, number));
        }
    }
    let [theirs, ours] = sides.each_mut().map(|side| side.step(&case.selects));
    let (theirs, ours) = (theirs?, ours?);
    anyhow::ensure!(
        theirs == ours,
        "{}\nat the end, reference: {theirs}\nnonnetd:   {ours}",
        shown(case, case.transactions.len())
    );
    Ok(())
}

/// The case as requests, for a person to send again.
fn shown(case: &Case, last: usize) -> String {
    let requests: Vec<String> = case
        .transactions
        .iter()
        .take(last + 1)
        .map(|operations| {
            let mut params = vec![json!(DATABASE)];
            params.extend_from_slice(operations);
            Value::Array(params).to_string()
        })
        .collect();
    format!(
        "\nschema: {}\nmonitors: {:?}\n{}",
        case.schema,
        case.monitors,
        requests.join("\n")
    )
}

impl Side {
    fn start(kind: Kind, case: &Case) -> anyhow::Result<Self> {
        let server = Server::start(kind, &case.schema)?;
        let mut names = Renamer::new(Leniency {
            drop_version: false,
            index_rows_in_any_order: true,
        });
        names.keep(&format!("{:?}{:?}{:?}", case.transactions, case.selects, case.monitors));
        Ok(Self {
            writer: server.connect()?,
            watcher: server.connect()?,
            server,
            names,
        })
    }

    /// Runs one transaction and returns its results and the updates it caused, in canonical form.
    fn step(&mut self, operations: &[Value]) -> anyhow::Result<Value> {
        let server = &self.server;
        let died = || format!("{:?}: {}", server.kind(), server.stderr());
        let results = self.writer.transact(DATABASE, operations).with_context(died)?;
        self.watcher.call("list_dbs", &json!([])).with_context(died)?;
        let mut updates = std::mem::take(&mut self.watcher.notifications);
        updates.sort_by_key(|update| update["method"].to_string());
        let is_commit_error = |number: usize| number >= operations.len();
        let results = results
            .iter()
            .enumerate()
            .map(|(number, result)| comparable(result, is_commit_error(number)));
        let message = json!({"results": results.collect::<Vec<_>>(), "updates": updates});
        Ok(self.names.canonical(&message, Order::default()))
    }
}

/// Equal, or different only in the row whose mutation failed first.
fn alike(operations: &[Value], theirs: &Value, ours: &Value) -> bool {
    let (Some(left), Some(right)) = (theirs["results"].as_array(), ours["results"].as_array()) else {
        return false;
    };
    let mut pairs = left.iter().zip(right).enumerate();
    theirs["updates"] == ours["updates"]
        && left.len() == right.len()
        && pairs.all(|(number, (left, right))| {
            let is_mutation = operations
                .get(number)
                .is_some_and(|operation| operation["op"] == "mutate");
            left == right || is_mutation && is_row_error(left) && is_row_error(right)
        })
}

fn is_row_error(result: &Value) -> bool {
    result["error"]
        .as_str()
        .is_some_and(|error| ROW_ERRORS.contains(&error))
}

/// A result without what may differ: a text that changed after 3.1, and which of several violations a commit error names.
fn comparable(result: &Value, is_commit_error: bool) -> Value {
    let mut result = result.clone();
    if result["error"] == "duplicate uuid" {
        result["details"] = json!("This UUID would duplicate another.");
    }
    if is_commit_error {
        let details = result["details"].as_str().unwrap_or_default();
        let kind = COMMIT_ERRORS
            .iter()
            .find(|alternatives| alternatives.iter().any(|words| details.contains(words)));
        result["details"] = kind.map_or_else(|| json!(details), |alternatives| json!(alternatives[0]));
    }
    result
}

fn bare(reply: &Value) -> Value {
    json!({"result": reply.get("result"), "error": reply.get("error").filter(|error| !error.is_null())})
}

#[test]
fn generated_cases_are_not_trivial() {
    let choices: Vec<u32> = (0..CHOICES_MAX as u32)
        .map(|number| number.wrapping_mul(2_654_435_761) >> 7)
        .collect();
    let case = case(&choices);
    let mut side = Side::start(Kind::Reference, &case).unwrap();
    side.watcher
        .send(&json!({"id": 1, "method": "monitor", "params": [DATABASE, 1, case.monitors.0]}).to_string())
        .unwrap();
    let committed = case
        .transactions
        .iter()
        .filter(|operations| {
            let message = side.step(operations).unwrap();
            message["updates"].as_array().is_some_and(|updates| !updates.is_empty())
        })
        .count();
    println!(
        "{committed} of {} transactions changed something",
        case.transactions.len()
    );
    assert!(
        committed * 8 >= case.transactions.len(),
        "almost no generated transaction changes anything"
    );
}
