//! The commands that read history and put it to use, on random databases: what they say is what was.
//!
//! `NONNET_HISTORY_POINTS` sets the number of states that are looked at again, `NONNET_TESTS_SEED` repeats a run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test panics"
)]

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nonnet_schema::{DatabaseSchema, Datum};
use nonnet_store::Reader;
use nonnet_tests::generate::{Choices, DATABASE, Model};
use nonnet_tests::program::{self, number_from_environment};
use nonnet_tests::server::{Kind, Server};
use nonnet_tests::wire::Client;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{Rng, RngCore as _, SeedableRng};
use serde_json::{Value, json};

/// States that are compared with what `at` says.
const POINTS: u64 = 1000;

/// Databases of each of the other tests.
const DATABASES: u64 = 10;

/// States of one database.
const POINTS_OF_DATABASE: usize = 100;

/// Commits between two new schemas.
const CONVERSION_COMMITS: usize = 40;

/// Commits of a database whose commits are taken back.
const COMMITS: usize = 40;

/// Commits taken back and brought back again, rows asked about, states restored: of each database.
const TRIES: usize = 12;

/// Numbers from which one transaction is made.
const CHOICES: usize = 300;

/// Transactions of which at least one should be committed.
const ATTEMPTS_MAX: usize = 50;

/// The persistent columns of every row, by table and UUID.
type State = BTreeMap<(String, String), BTreeMap<String, Datum>>;

/// A database that random transactions change.
struct Subject {
    server: Server,
    client: Client,
    model: Model,
    random: SmallRng,
}

impl Subject {
    fn new(seed: u64, is_wanted: impl Fn(&Value) -> bool) -> Result<Self> {
        let mut random = SmallRng::seed_from_u64(seed);
        let model = loop {
            let model = Model::new(&mut Choices::new(&numbers(&mut random)));
            if is_wanted(&model.schema()) {
                break model;
            }
        };
        let server = Server::start_in_memory(Kind::Nonnetd, &model.schema())?;
        Ok(Self {
            client: server.connect()?,
            server,
            model,
            random,
        })
    }

    /// The number of the newest record.
    fn head(&self) -> Result<u64> {
        Ok(Reader::open(&self.server.file())?.head()?.context("no head")?.seq)
    }

    /// Random transactions until one is committed with a record; gives its number. None where the schema makes that too rare.
    fn commit(&mut self) -> Result<Option<u64>> {
        let before = self.head()?;
        for _ in 0..ATTEMPTS_MAX {
            let operations = self.model.transaction(&mut Choices::new(&numbers(&mut self.random)));
            self.client.transact(DATABASE, &operations)?;
            let head = self.head()?;
            if head > before {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    fn convert(&mut self) -> Result<()> {
        self.model.convert(&mut Choices::new(&numbers(&mut self.random)));
        let reply = self.client.call("convert", &json!([DATABASE, self.model.schema()]))?;
        ensure!(reply["error"].is_null(), "{reply}");
        self.client = self.server.connect()?;
        Ok(())
    }

    fn schema(&self) -> Result<DatabaseSchema> {
        Ok(DatabaseSchema::from_text(&self.model.schema().to_string())?)
    }

    /// What the server tells of its rows, as far as a log holds it.
    fn state(&mut self) -> Result<State> {
        let (schema, selects) = (self.schema()?, self.model.selects());
        let results = self.client.transact(DATABASE, &selects)?;
        let mut state = State::new();
        for (select, result) in selects.iter().zip(&results) {
            let name = select["table"].as_str().context("table")?;
            let table = schema.table(schema.table_index(name).context("table")?);
            for row in result["rows"].as_array().with_context(|| result.to_string())? {
                let uuid = row["_uuid"][1].as_str().context("uuid")?.to_owned();
                let mut columns = BTreeMap::new();
                for (_, column) in table.declared_columns().filter(|(_, column)| column.persistent) {
                    let datum = Datum::parse(&row[column.name.as_str()], &column.type_, None)?;
                    columns.insert(column.name.to_string(), datum);
                }
                state.insert((name.to_owned(), uuid), columns);
            }
        }
        Ok(state)
    }

    /// Runs `nonnet`, whose exit code must be one of those given.
    fn nonnet(&self, arguments: &[&str], codes: &[i32]) -> Result<(i32, String)> {
        let mut command = program::tied(&program::ours("nonnet")?)?;
        command
            .args(["--db", DATABASE, "--socket", &self.server.remote()])
            .args(arguments);
        let output = program::run_command(&mut command, b"")?;
        let out = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
        let code = output.status.code().filter(|code| codes.contains(code));
        let code = code.with_context(|| format!("{arguments:?} ended with {}: {out}", output.status))?;
        Ok((code, out))
    }

    /// The same with the log's file said.
    fn on_file(&self, arguments: &[&str], codes: &[i32]) -> Result<(i32, String)> {
        let file = self.server.file();
        let file = file.to_str().context("path")?;
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--file", file]).collect();
        self.nonnet(&arguments, codes)
    }
}

fn numbers(random: &mut SmallRng) -> Vec<u32> {
    (0..CHOICES).map(|_| random.next_u32() >> 4).collect()
}

/// The seed of this run, printed so that a failure can be repeated.
fn seed() -> u64 {
    let seed = number_from_environment("NONNET_TESTS_SEED", u64::from(std::process::id())).unwrap();
    println!("NONNET_TESTS_SEED={seed}");
    seed
}

fn any(_: &Value) -> bool {
    true
}

/// Whether all that a schema has is in the log.
fn is_all_persistent(schema: &Value) -> bool {
    !schema.to_string().contains("\"ephemeral\":true")
}

/// The rows in a file as `nonnet at ... dump` writes it; columns with their defaults are left out there.
fn dumped(text: &str) -> Result<State> {
    let mut lines = text.lines().filter(|line| !line.starts_with("OVSDB JSON "));
    let schema = DatabaseSchema::from_text(lines.next().context("no schema")?)?;
    let mut state = State::new();
    let Some(rows) = lines.next() else { return Ok(state) };
    let tables: Value = serde_json::from_str(rows)?;
    let tables = tables.as_object().context("tables")?;
    for (name, rows) in tables.iter().filter(|(name, _)| !name.starts_with('_')) {
        let table = schema.table(schema.table_index(name).context("table")?);
        for (uuid, row) in rows.as_object().context("rows")? {
            let mut columns = BTreeMap::new();
            for (_, column) in table.declared_columns().filter(|(_, column)| column.persistent) {
                let datum = match row.get(column.name.as_str()) {
                    Some(json) => Datum::parse(json, &column.type_, None)?,
                    None => Datum::default_for(&column.type_),
                };
                columns.insert(column.name.to_string(), datum);
            }
            state.insert((name.clone(), uuid.clone()), columns);
        }
    }
    Ok(state)
}

#[test]
fn at_tells_the_rows_that_there_were() -> Result<()> {
    let seed = seed();
    let points = number_from_environment("NONNET_HISTORY_POINTS", POINTS)?;
    let (mut compared, mut number) = (0, 0);
    while compared < points {
        number += 1;
        let mut subject = Subject::new(seed ^ number << 32, any)?;
        let mut states = Vec::new();
        while states.len() < POINTS_OF_DATABASE {
            if states.len() % CONVERSION_COMMITS == CONVERSION_COMMITS - 1 {
                subject.convert()?;
            }
            let Some(seq) = subject.commit()? else { break };
            states.push((seq, subject.state()?));
        }
        states.shuffle(&mut subject.random);
        for (at, (seq, state)) in states.iter().enumerate() {
            if at == states.len() / 2 {
                subject.server.stop()?;
            }
            let (_, text) = subject.on_file(&["at", &seq.to_string(), "dump"], &[0])?;
            assert_eq!(&dumped(&text)?, state, "seed {seed}, database {number}, commit {seq}");
            compared += 1;
        }
    }
    Ok(())
}

#[test]
fn undo_of_undo_is_as_if_nothing_had_been() -> Result<()> {
    let seed = seed();
    let mut undone = 0;
    for number in 0..DATABASES {
        let mut subject = Subject::new(seed ^ number << 32, is_all_persistent)?;
        let mut states = BTreeMap::from([(subject.head()?, subject.state()?)]);
        for _ in 0..COMMITS {
            let Some(seq) = subject.commit()? else { break };
            states.insert(seq, subject.state()?);
        }
        if subject.head()? == 0 {
            continue;
        }
        for turn in 0..TRIES {
            let place = format!("seed {seed}, database {number}, try {turn}");
            let head = subject.head()?;
            let before = subject.state()?;
            // The newest can always be taken back; what came later may stand against an older one.
            let seq = if turn == 0 {
                head
            } else {
                subject.random.random_range(1..=head)
            };
            let codes: &[i32] = if turn == 0 { &[0] } else { &[0, 1] };
            let (code, out) = subject
                .on_file(&["undo", &seq.to_string()], codes)
                .with_context(|| place.clone())?;
            let after = subject.state()?;
            if code == 1 {
                assert!(
                    out.contains("! ") || out.contains("nothing was changed"),
                    "{place}: {out}"
                );
                assert_eq!((after, subject.head()?), (before, head), "{place}: {out}");
                continue;
            }
            undone += 1;
            if seq == head && turn == 0 {
                assert_eq!(after, states[&(head - 1)], "{place}: {out}");
            }
            assert_eq!(subject.head()?, head + 1, "{place}: {out}");
            subject
                .on_file(&["undo", "head"], &[0])
                .with_context(|| place.clone())?;
            assert_eq!(subject.state()?, before, "{place}: undo of undo");
            subject
                .on_file(&["undo", "head"], &[0])
                .with_context(|| place.clone())?;
            assert_eq!(subject.state()?, after, "{place}: undo of undo of undo");
        }
        subject.on_file(&["undo", "head", "--dry-run"], &[0])?;
    }
    assert!(undone as u64 > DATABASES, "only {undone} commits could be undone");
    Ok(())
}

#[test]
fn restored_rows_are_those_that_there_were() -> Result<()> {
    let seed = seed();
    let mut restored = 0;
    for number in 0..DATABASES {
        let mut subject = Subject::new(seed ^ number << 32, is_all_persistent)?;
        let mut states = BTreeMap::from([(subject.head()?, subject.state()?)]);
        for _ in 0..COMMITS {
            let Some(seq) = subject.commit()? else { break };
            states.insert(seq, subject.state()?);
        }
        for turn in 0..TRIES {
            let place = format!("seed {seed}, database {number}, try {turn}");
            let known: Vec<u64> = states.keys().copied().collect();
            let seq = known[subject.random.random_range(0..known.len())];
            let (head, before) = (subject.head()?, subject.state()?);
            let arguments = ["restore", "--to", &seq.to_string()];
            let dry: Vec<&str> = arguments.into_iter().chain(["--dry-run"]).collect();
            subject.on_file(&dry, &[0, 1]).with_context(|| place.clone())?;
            assert_eq!(subject.head()?, head, "{place}: dry run");
            let (code, out) = subject.on_file(&arguments, &[0, 1]).with_context(|| place.clone())?;
            if code == 1 {
                // A row that was made again under its UUID, with something else in a column that cannot be set.
                assert!(out.contains("is immutable"), "{place}: {out}");
                assert_eq!(subject.state()?, before, "{place}: {out}");
            } else {
                restored += 1;
                assert_eq!(subject.state()?, states[&seq], "{place}: {out}");
            }
            if let Some(seq) = subject.commit()? {
                states.insert(seq, subject.state()?);
            }
        }
    }
    assert!(restored > 0);
    Ok(())
}

/// For each row that there ever was, by table and UUID: whether it is gone, and the last commit that named each of its columns.
type Origins = BTreeMap<(String, String), Origin>;

#[derive(Default)]
struct Origin {
    made: u64,
    deleted: Option<u64>,
    columns: BTreeMap<String, u64>,
}

/// What a replay of the log says.
fn replay(file: &Path, subject: &Subject) -> Result<Origins> {
    let (_, text) = subject.nonnet(&["log", file.to_str().context("path")?, "--reverse", "--json"], &[0])?;
    let mut origins = Origins::new();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line)?;
        let seq = record["seq"].as_u64().context("seq")?;
        for row in record["rows"].as_array().context("rows")? {
            let text = |name: &str| row[name].as_str().map(str::to_owned).context("text");
            let origin = origins.entry((text("table")?, text("uuid")?)).or_default();
            match row["op"].as_str() {
                Some("insert") => {
                    *origin = Origin {
                        made: seq,
                        ..Origin::default()
                    }
                }
                Some("delete") => origin.deleted = Some(seq),
                _ => {
                    let columns = row["columns"].as_object().context("columns")?;
                    origin
                        .columns
                        .extend(columns.keys().map(|column| (column.clone(), seq)));
                }
            }
        }
    }
    Ok(origins)
}

#[test]
fn blame_agrees_with_a_replay_of_the_log() -> Result<()> {
    let seed = seed();
    for number in 0..DATABASES {
        let mut subject = Subject::new(seed ^ number << 32, any)?;
        for commit in 0..COMMITS {
            if commit == COMMITS / 2 {
                subject.convert()?;
            }
            let _too_rare = subject.commit()?;
        }
        let schema = subject.schema()?;
        let origins = replay(&subject.server.file(), &subject)?;
        let mut rows: Vec<_> = origins.iter().collect();
        rows.retain(|((table, _), _)| schema.table_index(table).is_some());
        rows.shuffle(&mut subject.random);
        for ((table, uuid), origin) in rows.into_iter().take(TRIES) {
            let place = format!("seed {seed}, database {number}, {table} {uuid}");
            let (_, text) = subject
                .on_file(&["blame", table, uuid, "--json"], &[0])
                .with_context(|| place.clone())?;
            let blamed: Value = serde_json::from_str(&text)?;
            assert_eq!(blamed["deleted"]["seq"].as_u64(), origin.deleted, "{place}: {text}");
            for (column, told) in blamed["columns"].as_object().context("columns")? {
                let expected = origin.columns.get(column).copied().unwrap_or(origin.made);
                assert_eq!(
                    told["commit"]["seq"].as_u64(),
                    Some(expected),
                    "{place}: {column}: {text}"
                );
            }
        }
    }
    Ok(())
}
