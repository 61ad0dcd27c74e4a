//! `nonnet plan`: what the server would do in the kernel, now or if a state file were applied, as typed operations.

use anyhow::{Context, Result, bail};
use nonnet_schema::DatabaseSchema;
use serde_json::{Value, json};

use crate::arguments::{Common, Plan};
use crate::content::Rows;
use crate::difference::{Change, compare, to_json};
use crate::document::source_name;
use crate::output::{Colour, Output, printable};
use crate::plan::Plan as Transaction;
use crate::server::Server;
use crate::state::read_state;

/// The exit code where something would be done.
const SOMETHING: u8 = 1;

/// What the server would do in the kernel.
#[derive(Debug, Default)]
pub(crate) struct KernelPlan {
    steps: Vec<Value>,
    /// What would not come true now.
    held: Vec<Value>,
}

/// Prints the plan; 0 where nothing is to be done, 1 where something is.
pub(crate) async fn run(common: &Common, options: &Plan, output: &mut Output) -> Result<u8> {
    let server = Server::open(common).await?;
    let mut changes = Vec::new();
    let mut operations = Vec::new();
    if let Some(file) = &options.file {
        let documents = super::documents(file)?;
        let source = source_name(file);
        let state = read_state(&documents, &source, &server.schema, &options.part.plugins)?
            .restrict(&options.part.only, &source)?;
        let tables: Vec<&str> = state.tables.iter().map(String::as_str).collect();
        let rows = Rows::read(&server.connection, &server.schema, &tables).await?;
        changes = compare(&state, &rows, &server.schema, options.part.prune)?;
        operations = operations_of(&changes, &rows, &server.schema, None);
    }
    let plan = KernelPlan::ask(&server, operations).await?;
    if output.is_json() {
        let changes: Vec<Value> = changes.iter().map(to_json).collect();
        output.json(&json!({"changes": changes, "steps": plan.steps, "held": plan.held}))?;
    } else {
        super::diff::print(&changes, output)?;
        plan.print(output)?;
        if changes.is_empty() && plan.is_empty() {
            output.line("Nothing to do: everything is as wanted")?;
        }
    }
    Ok(if changes.is_empty() && plan.is_empty() {
        0
    } else {
        SOMETHING
    })
}

/// The operations that make changes.
pub(crate) fn operations_of(
    changes: &[Change],
    rows: &Rows<'_>,
    schema: &DatabaseSchema,
    checkpoint: Option<&Value>,
) -> Vec<Value> {
    let plan = Transaction::new(changes, rows, schema, "nonnet plan", checkpoint, false);
    plan.transaction().operations().to_vec()
}

impl KernelPlan {
    /// Asks the server what it would do if the operations were committed; without any, what it would do now.
    pub(crate) async fn ask(server: &Server, operations: Vec<Value>) -> Result<Self> {
        let mut params = vec![Value::from(server.schema.name.as_str())];
        params.extend(operations);
        let answer = server.connection.call("nonnet_plan", params).await;
        let answer = answer.context("the server cannot say what it would do")?;
        let results = answer.get("results").and_then(Value::as_array);
        let failed = results
            .into_iter()
            .flatten()
            .find_map(|result| Some((result.get("error")?.as_str()?, result)));
        if let Some((error, result)) = failed {
            let details = result.get("details").and_then(Value::as_str).unwrap_or_default();
            bail!(
                "the server would refuse it: {}",
                printable(&format!("{error}: {details}"))
            );
        }
        let Some(plan) = answer.get("plan").filter(|plan| plan.is_object()) else {
            bail!("the server does not look at the kernel (--kernel off)");
        };
        let list = |name: &str| plan.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(Self {
            steps: list("steps"),
            held: list("held"),
        })
    }

    /// Whether nothing would be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Prints what would be done to each object, and what would have to wait.
    pub(crate) fn print(&self, output: &mut Output) -> std::io::Result<()> {
        let text = |value: &Value, name: &str| printable(value.get(name).and_then(Value::as_str).unwrap_or_default());
        let about = |value: &Value| match (text(value, "object"), text(value, "row")) {
            (object, row) if row.is_empty() => object,
            (object, row) if object.is_empty() => row,
            (object, row) => format!("{object} ({row})"),
        };
        let mut objects: Vec<(String, Vec<String>)> = Vec::new();
        for step in &self.steps {
            let (about, operation) = (about(step), text(step, "operation"));
            match objects.iter_mut().find(|(known, _)| *known == about) {
                Some((_, operations)) => operations.push(operation),
                None => objects.push((about, vec![operation])),
            }
        }
        for (about, operations) in objects {
            let line = output.coloured(Colour::Yellow, &format!("! {about}"));
            output.line(&line)?;
            for operation in operations {
                output.line(&format!("    {operation}"))?;
            }
        }
        for held in &self.held {
            let line = format!("! {}: {}: {}", about(held), text(held, "state"), text(held, "reason"));
            let line = output.coloured(Colour::Red, &line);
            output.line(&line)?;
        }
        Ok(())
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        json!({"steps": self.steps, "held": self.held})
    }
}
