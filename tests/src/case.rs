//! The case list: what is sent, and what must come back.
//!
//! A file under `tests/cases` is an array of cases. A case:
//!
//! ```json
//! {"case": "a fact", "schema": "types", "restart": "no: why not", "steps": [
//!   {"transact": [{"op": "..."}], "result": [{}]},
//!   {"on": "b", "call": "monitor", "params": ["types", 1, {}], "result": {}},
//!   {"on": "b", "transact": [{"op": "wait"}], "id": 7, "parked": true},
//!   {"notify": "cancel", "params": [7]}
//! ]}
//! ```
//!
//! `schema` is the name of a file under `tests/cases/schemas` or a schema; `on` names the session (default `a`). A step does one of:
//! `transact` (operations on the case's database), `call` and `notify` with `params`, `text` (sent as it is), `close`, and
//! `restart` (SIGKILL, start, all sessions gone). A request is answered by `result` or `error` unless it is `parked`;
//! `before` lists what comes on the same session before the reply, `also` what comes on each session after it, and `closed`
//! says that the server closes the connection, `ends` which other sessions it closes. `ordered` keeps the order of selected rows. Nothing else may come.
//!
//! UUIDs in expectations are `<0>`, `<1>`, and so on; the same name in a later request stands for the same UUID. `reference` replaces
//! the expectation for `ovsdb-server` 3.1 where it differs on purpose, or is `"skip: why"`, on a step or a whole case.
//! A step without expectation is filled in by the recorder (see [`crate::record`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// One case with its schema read.
#[derive(Debug)]
pub struct Case {
    /// The file it stands in.
    pub file: PathBuf,
    /// The fact it shows.
    pub name: String,
    /// The database schema.
    pub schema: Value,
    /// The database's name.
    pub database: String,
    /// Why the server must not be restarted between steps.
    pub no_restart: Option<String>,
    /// Why `ovsdb-server` does not run it.
    pub no_reference: Option<String>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// One thing done, and what must come of it.
#[derive(Debug)]
pub struct Step {
    /// Its text in the file.
    pub text: String,
    /// The session it is done on.
    pub session: String,
    /// What is done.
    pub action: Action,
    /// What must come of it.
    pub expected: Expected,
    /// What must come of it on `ovsdb-server`, where that differs.
    pub reference: Option<Reference>,
    /// Selected rows come in an order that counts.
    pub ordered: bool,
}

/// What a step does.
#[derive(Debug)]
pub enum Action {
    /// A request; `parked` ones are not answered at once.
    Request {
        /// The method.
        method: String,
        /// Its params, any JSON.
        params: Value,
        /// The request id.
        id: Value,
        /// No reply is awaited.
        parked: bool,
    },
    /// A notification.
    Notify {
        /// The method.
        method: String,
        /// Its params.
        params: Value,
    },
    /// Text sent as it is. A reply, if one is expected, has this id.
    Text {
        /// The text.
        text: String,
        /// The id of the reply awaited.
        id: Option<Value>,
    },
    /// The session's connection is closed.
    Close,
    /// The server is killed and started; all sessions are gone.
    Restart,
}

/// What must come of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// `{"result": ...}` or `{"error": ...}`.
    pub reply: Option<Value>,
    /// Messages on the same session before the reply.
    pub before: Vec<Value>,
    /// Messages on each session after that.
    pub also: BTreeMap<String, Vec<Value>>,
    /// The connection ends.
    pub closed: bool,
    /// Other sessions whose connections end; what came on them before is in `also`.
    pub ends: Vec<String>,
}

/// How `ovsdb-server` differs.
#[derive(Debug)]
pub enum Reference {
    /// The step is not sent to it.
    Skip,
    /// It answers otherwise.
    Expected(Expected),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase<'a> {
    case: String,
    schema: Value,
    restart: Option<String>,
    reference: Option<String>,
    #[serde(borrow)]
    steps: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "it is what stands in the file")]
struct RawStep {
    on: Option<String>,
    transact: Option<Vec<Value>>,
    call: Option<String>,
    notify: Option<String>,
    params: Option<Value>,
    text: Option<String>,
    #[serde(default)]
    close: bool,
    #[serde(default)]
    restart: bool,
    #[serde(default)]
    parked: bool,
    #[serde(default)]
    ordered: bool,
    id: Option<Value>,
    #[serde(flatten)]
    expected: BTreeMap<String, Value>,
}

impl Case {
    /// Whether the server may be restarted between any two steps without a client seeing more than a lost connection.
    pub fn allows_restarts(&self) -> bool {
        self.no_restart.is_none() && self.steps.iter().all(Step::allows_restart)
    }
}

impl Step {
    /// What must come of it on this server; none if it is not sent there.
    pub fn expected_on(&self, reference: bool) -> Option<&Expected> {
        match &self.reference {
            Some(Reference::Skip) if reference => None,
            Some(Reference::Expected(expected)) if reference => Some(expected),
            _ => Some(&self.expected),
        }
    }

    fn allows_restart(&self) -> bool {
        let plain = match &self.action {
            Action::Request { method, parked, .. } => {
                !parked && matches!(method.as_str(), "transact" | "get_schema" | "list_dbs")
            }
            _ => false,
        };
        let Expected {
            before,
            also,
            closed,
            ends,
            ..
        } = &self.expected;
        let is_quiet = before.is_empty() && also.is_empty() && !closed && ends.is_empty();
        plain && is_quiet && !self.text.contains("_version")
    }
}

impl Expected {
    /// Nothing was written into the case yet.
    pub fn is_blank(&self) -> bool {
        *self == Self::default()
    }
}

/// The directory of the case list.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// All cases of all files, in the order of file names; `NONNET_TESTS_CASE` narrows them to names that contain it.
pub fn load_all() -> Result<Vec<Case>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|end| end == "json") && !path.ends_with("schema_errors.json"));
    files.sort();
    let wanted = std::env::var("NONNET_TESTS_CASE").unwrap_or_default();
    let mut cases = Vec::new();
    for file in files {
        cases.extend(load(&file)?.into_iter().filter(|case| case.name.contains(&wanted)));
    }
    Ok(cases)
}

/// The cases of one file.
pub fn load(file: &Path) -> Result<Vec<Case>> {
    let text = std::fs::read_to_string(file)?;
    let raw: Vec<RawCase<'_>> = serde_json::from_str(&text).with_context(|| format!("read {}", file.display()))?;
    let mut names = std::collections::BTreeSet::new();
    raw.into_iter()
        .map(|raw| {
            let name = raw.case.clone();
            ensure!(
                names.insert(name.clone()),
                "{}: two cases are called {name}",
                file.display()
            );
            read_case(file, raw).with_context(|| format!("{}: case {name}", file.display()))
        })
        .collect()
}

/// The schema of this name under `tests/cases/schemas`.
pub fn schema(name: &str) -> Result<Value> {
    let path = directory().join("schemas").join(format!("{name}.ovsschema"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
}

fn read_case(file: &Path, raw: RawCase<'_>) -> Result<Case> {
    let schema = match raw.schema {
        Value::String(name) => schema(&name)?,
        schema => schema,
    };
    let database = schema
        .get("name")
        .and_then(Value::as_str)
        .context("the schema has no name")?
        .to_owned();
    let no_restart = match raw.restart {
        Some(text) => Some(text.strip_prefix("no: ").context("restart is \"no: why\"")?.to_owned()),
        None => None,
    };
    let no_reference = match raw.reference {
        Some(text) => Some(
            text.strip_prefix("skip: ")
                .context("reference is \"skip: why\"")?
                .to_owned(),
        ),
        None => None,
    };
    let steps = raw
        .steps
        .iter()
        .enumerate()
        .map(|(index, text)| read_step(&database, index, text.get()).with_context(|| format!("step {index}: {text}")))
        .collect::<Result<_>>()?;
    Ok(Case {
        file: file.to_owned(),
        name: raw.case,
        schema,
        database,
        no_restart,
        no_reference,
        steps,
    })
}

fn read_step(database: &str, index: usize, text: &str) -> Result<Step> {
    let mut raw: RawStep = serde_json::from_str(text)?;
    let reference = match raw.expected.remove("reference") {
        None => None,
        Some(Value::String(text)) if text.starts_with("skip: ") => Some(Reference::Skip),
        Some(Value::Object(members)) => Some(Reference::Expected(read_expected(members.into_iter().collect())?)),
        Some(other) => bail!("reference is an object or \"skip: why\", not {other}"),
    };
    let expected = read_expected(std::mem::take(&mut raw.expected))?;
    Ok(Step {
        text: text.to_owned(),
        session: raw.on.clone().unwrap_or_else(|| "a".to_owned()),
        ordered: raw.ordered,
        action: read_action(database, index, raw)?,
        expected,
        reference,
    })
}

fn read_action(database: &str, index: usize, raw: RawStep) -> Result<Action> {
    let id = raw.id.clone().unwrap_or_else(|| json!(index));
    if let Some(operations) = raw.transact {
        let params = std::iter::once(json!(database)).chain(operations).collect();
        return Ok(Action::Request {
            method: "transact".to_owned(),
            params,
            id,
            parked: raw.parked,
        });
    }
    let params = raw.params.unwrap_or_else(|| json!([]));
    Ok(match (raw.call, raw.notify, raw.text) {
        (Some(method), None, None) => Action::Request {
            method,
            params,
            id,
            parked: raw.parked,
        },
        (None, Some(method), None) => Action::Notify { method, params },
        (None, None, Some(text)) => Action::Text { text, id: raw.id },
        (None, None, None) if raw.close => Action::Close,
        (None, None, None) if raw.restart => Action::Restart,
        _ => bail!("a step does exactly one thing"),
    })
}

fn read_expected(mut members: BTreeMap<String, Value>) -> Result<Expected> {
    let mut expected = Expected::default();
    for name in ["result", "error"] {
        if let Some(value) = members.remove(name) {
            expected.reply = Some(json!({ name: value }));
        }
    }
    if let Some(before) = members.remove("before") {
        expected.before = serde_json::from_value(before)?;
    }
    if let Some(also) = members.remove("also") {
        expected.also = serde_json::from_value(also)?;
    }
    if let Some(ends) = members.remove("ends") {
        expected.ends = serde_json::from_value(ends)?;
    }
    expected.closed = members.remove("closed").is_some_and(|closed| closed == true);
    ensure!(members.is_empty(), "unknown members {:?}", members.keys());
    Ok(expected)
}
