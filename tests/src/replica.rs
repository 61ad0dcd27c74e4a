//! What a client that follows its monitors holds: made of initial states and updates alone, to be compared with a `select`.
//!
//! It takes requests as they are sent and messages as they come, and refuses an update that does not fit what it holds: a row
//! inserted twice, old values that were not there, a change of a row that was never told of.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

/// The replicas of one client, by monitor.
#[derive(Debug, Default)]
pub struct Replicas {
    monitors: BTreeMap<String, Replica>,
    /// Requests that say something about monitors, by id, until they are answered.
    asked: Vec<(Value, Value)>,
    types: Types,
}

/// The rows that one monitor tells of, by table.
#[derive(Clone, Debug)]
struct Replica {
    /// Made by `monitor`, which has no conditions.
    is_plain: bool,
    tables: BTreeMap<String, Table>,
}

/// A table all of whose events are watched.
#[derive(Clone, Debug)]
struct Table {
    columns: Vec<String>,
    condition: Vec<Value>,
    rows: Rows,
}

/// Rows by UUID, their values by column.
type Rows = BTreeMap<String, BTreeMap<String, Contents>>;

/// The elements of a value; those of a set have no second text.
type Contents = BTreeMap<String, String>;

/// Types by table and column.
#[derive(Clone, Debug, Default)]
struct Types(BTreeMap<String, BTreeMap<String, Type>>);

#[derive(Clone, Debug)]
struct Type {
    default: Contents,
    /// Changes are told as differences.
    is_composite: bool,
}

/// A replica's table and the selects that give the same rows.
#[derive(Debug)]
pub struct Check {
    /// Whose table.
    pub place: String,
    /// One `select` for each clause of the condition, any of which may hold.
    pub selects: Vec<Value>,
    columns: Vec<String>,
    rows: Rows,
}

impl Replicas {
    /// None yet, of a database of this schema.
    pub fn new(schema: &Value) -> Self {
        Self {
            types: Types::new(schema),
            ..Self::default()
        }
    }

    /// Notes what a client asks for.
    pub fn sent(&mut self, request: &Value) {
        let method = request["method"].as_str().unwrap_or_default();
        if method.starts_with("monitor") {
            self.asked.push((request["id"].clone(), request.clone()));
        }
    }

    /// Takes a message as it came.
    pub fn received(&mut self, message: &Value) -> Result<()> {
        if message["method"]
            .as_str()
            .is_some_and(|method| method.starts_with("update"))
        {
            return self.update(message).with_context(|| format!("replica: {message}"));
        }
        let Some(at) = self
            .asked
            .iter()
            .position(|(id, _)| message.get("method").is_none() && message.get("id") == Some(id))
        else {
            return Ok(());
        };
        let (_, request) = self.asked.remove(at);
        match message.get("result") {
            None | Some(Value::Null) => Ok(()),
            Some(result) => self
                .answered(&request, result)
                .with_context(|| format!("replica: {message}")),
        }
    }

    /// All that can be checked.
    pub fn checks(&self) -> Vec<Check> {
        let tables = self
            .monitors
            .iter()
            .flat_map(|(id, replica)| replica.tables.iter().map(move |(name, table)| (id, name, table)));
        tables
            .map(|(id, name, table)| Check {
                place: format!("monitor {id} table {name}"),
                selects: table.selects(name),
                columns: table.columns.clone(),
                rows: table.rows.clone(),
            })
            .collect()
    }

    fn answered(&mut self, request: &Value, result: &Value) -> Result<()> {
        let params = &request["params"];
        match request["method"].as_str().unwrap_or_default() {
            "monitor" => self.begin(params, result, true),
            "monitor_cond" => self.begin(params, result, false),
            "monitor_cond_since" => self.begin(params, &result[2], false),
            "monitor_cond_change" => {
                let mut replica = self
                    .monitors
                    .remove(&params[0].to_string())
                    .context("no such monitor")?;
                let is_plain = replica.is_plain;
                for (name, changes) in members(&params[2]).filter(|_| !is_plain) {
                    let last = changes.as_array().and_then(|changes| changes.last());
                    if let (Some(table), Some(change)) = (replica.tables.get_mut(name), last) {
                        table.condition = items(&change["where"]);
                    }
                }
                self.monitors.insert(params[1].to_string(), replica);
                Ok(())
            }
            "monitor_cancel" => {
                self.monitors.remove(&params[0].to_string());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, params: &Value, initial: &Value, is_plain: bool) -> Result<()> {
        let mut replica = Replica {
            is_plain,
            tables: BTreeMap::new(),
        };
        for (name, requests) in members(&params[2]) {
            let requests = match requests {
                Value::Array(requests) => requests.clone(),
                request => vec![request.clone()],
            };
            if let Some(table) = Table::new(&requests, self.types.columns(name)?) {
                replica.tables.insert(name.clone(), table);
            }
        }
        replica.apply(initial, &self.types)?;
        self.monitors.insert(params[1].to_string(), replica);
        Ok(())
    }

    fn update(&mut self, message: &Value) -> Result<()> {
        let params = &message["params"];
        let mut id = params[0].to_string();
        // A monitor that is being renamed bears the new name in the updates before the reply.
        while !self.monitors.contains_key(&id) {
            let renamed = self.asked.iter().find(|(_, request)| {
                let new_id = request["params"][1].to_string();
                request["method"] == "monitor_cond_change" && new_id == id
            });
            let (_, request) = renamed.context("an update of no monitor")?;
            id = request["params"][0].to_string();
        }
        let updates = if message["method"] == "update3" {
            &params[2]
        } else {
            &params[1]
        };
        let replica = self.monitors.get_mut(&id).context("just found")?;
        replica.apply(updates, &self.types)
    }
}

impl Replica {
    fn apply(&mut self, updates: &Value, types: &Types) -> Result<()> {
        for (name, rows) in members(updates) {
            let Some(table) = self.tables.get_mut(name) else {
                continue;
            };
            for (uuid, row) in members(rows) {
                table
                    .apply(uuid, row, types.columns(name)?)
                    .with_context(|| format!("table {name} row {uuid}"))?;
            }
        }
        Ok(())
    }
}

impl Table {
    /// None where an event is not watched.
    fn new(requests: &[Value], types: &BTreeMap<String, Type>) -> Option<Self> {
        let first = requests.first()?;
        let mut columns: Vec<String> = Vec::new();
        for request in requests {
            if members(&request["select"]).any(|(_, selected)| selected == false) {
                return None;
            }
            match request.get("columns") {
                Some(names) => columns.extend(items(names).iter().filter_map(Value::as_str).map(str::to_owned)),
                None => columns.extend(types.keys().filter(|name| *name != "_uuid").cloned()),
            }
        }
        Some(Self {
            columns,
            condition: items(&first["where"]),
            rows: Rows::new(),
        })
    }

    fn selects(&self, name: &str) -> Vec<Value> {
        let mut columns = self.columns.clone();
        if !columns.iter().any(|column| column == "_uuid") {
            columns.push("_uuid".to_owned());
        }
        let conditions: Vec<Value> = match self.condition.as_slice() {
            [] => vec![json!([])],
            clauses => clauses.iter().map(|clause| json!([clause])).collect(),
        };
        conditions
            .into_iter()
            .map(|condition| json!({"op": "select", "table": name, "where": condition, "columns": columns}))
            .collect()
    }

    fn apply(&mut self, uuid: &str, update: &Value, types: &BTreeMap<String, Type>) -> Result<()> {
        let known = self.rows.contains_key(uuid);
        if let Some(row) = update.get("initial").or(update.get("insert")) {
            ensure!(!known, "it is inserted twice");
            let mut values: BTreeMap<String, Contents> = BTreeMap::new();
            for column in &self.columns {
                let known_type = types.get(column).context("an unknown column")?;
                let value = row.get(column).map(contents).transpose()?;
                values.insert(column.clone(), value.unwrap_or_else(|| known_type.default.clone()));
            }
            self.rows.insert(uuid.to_owned(), values);
        } else if update.get("delete").is_some() {
            ensure!(known, "it is deleted and was not there");
            self.rows.remove(uuid);
        } else if let Some(changes) = update.get("modify") {
            let row = self.rows.get_mut(uuid).context("it changes and was not there")?;
            for (column, value) in members(changes) {
                let known_type = types.get(column).context("an unknown column")?;
                let held = row.get_mut(column).context("a column that is not watched")?;
                let changed = known_type.changed(held, contents(value)?);
                ensure!(changed != *held, "column {column} does not change");
                *held = changed;
            }
        } else {
            self.apply_old_and_new(uuid, update)?;
        }
        Ok(())
    }

    /// An update in the notation of `monitor`.
    fn apply_old_and_new(&mut self, uuid: &str, update: &Value) -> Result<()> {
        if let Some(old) = update.get("old") {
            let row = self.rows.get(uuid).context("it has an old value and was not there")?;
            for (column, value) in members(old) {
                ensure!(
                    row.get(column) == Some(&contents(value)?),
                    "column {column} was {:?}",
                    row.get(column)
                );
            }
            if update.get("new").is_none() {
                ensure!(
                    members(old).count() == self.columns.len(),
                    "not all columns that were there"
                );
            }
        }
        let before = self.rows.remove(uuid);
        ensure!(
            before.is_some() == update.get("old").is_some(),
            "whether it is new is told otherwise"
        );
        if let Some(new) = update.get("new") {
            let mut row = BTreeMap::new();
            for column in &self.columns {
                row.insert(
                    column.clone(),
                    contents(new.get(column).context("a column is missing")?)?,
                );
            }
            self.rows.insert(uuid.to_owned(), row);
        }
        Ok(())
    }
}

impl Check {
    /// Compares the replica with what the selects gave.
    pub fn compare(&self, results: &[Value]) -> Result<()> {
        let mut rows = Rows::new();
        for row in results.iter().flat_map(|result| items(&result["rows"])) {
            let uuid = row["_uuid"][1].as_str().context("a row without UUID")?.to_owned();
            let values = self
                .columns
                .iter()
                .map(|column| Ok((column.clone(), contents(&row[column])?)));
            rows.insert(uuid, values.collect::<Result<_>>()?);
        }
        ensure!(
            rows == self.rows,
            "{}: a select gives {rows:?}, the updates gave {:?}",
            self.place,
            self.rows
        );
        Ok(())
    }
}

impl Types {
    fn new(schema: &Value) -> Self {
        let tables = members(&schema["tables"]).map(|(name, table)| {
            let columns = members(&table["columns"]).map(|(name, column)| (name.clone(), Type::new(&column["type"])));
            let implied = ["_uuid", "_version"].map(|name| (name.to_owned(), Type::new(&json!("uuid"))));
            (name.clone(), columns.chain(implied).collect())
        });
        Self(tables.collect())
    }

    fn columns(&self, table: &str) -> Result<&BTreeMap<String, Type>> {
        self.0.get(table).with_context(|| format!("no table {table}"))
    }
}

impl Type {
    fn new(json: &Value) -> Self {
        let max = json.get("max").map_or(Some(1), Value::as_u64);
        let min = json.get("min").map_or(Some(1), Value::as_u64);
        let default = if min == Some(0) {
            Contents::new()
        } else {
            let value = json
                .get("value")
                .map_or_else(String::new, |base| default_atom(base).to_string());
            Contents::from([(default_atom(json.get("key").unwrap_or(json)).to_string(), value)])
        };
        Self {
            default,
            is_composite: max != Some(1),
        }
    }

    /// A value with the change that an update tells of.
    fn changed(&self, held: &Contents, change: Contents) -> Contents {
        if !self.is_composite {
            return change;
        }
        let mut changed = held.clone();
        for (key, value) in change {
            if changed.get(&key) == Some(&value) {
                changed.remove(&key);
            } else {
                changed.insert(key, value);
            }
        }
        changed
    }
}

fn default_atom(base: &Value) -> Value {
    match base.get("type").unwrap_or(base).as_str() {
        Some("integer" | "real") => json!(0),
        Some("boolean") => json!(false),
        Some("uuid") => json!(["uuid", "00000000-0000-0000-0000-000000000000"]),
        _ => json!(""),
    }
}

fn contents(value: &Value) -> Result<Contents> {
    Ok(match value.as_array().map(Vec::as_slice) {
        Some([Value::String(tag), Value::Array(elements)]) if tag == "set" => elements
            .iter()
            .map(|element| (element.to_string(), String::new()))
            .collect(),
        Some([Value::String(tag), Value::Array(pairs)]) if tag == "map" => pairs
            .iter()
            .map(|pair| (pair[0].to_string(), pair[1].to_string()))
            .collect(),
        _ if value.is_null() || value.is_object() => bail!("{value} is no value"),
        _ => Contents::from([(value.to_string(), String::new())]),
    })
}

/// The members of an object; none of anything else.
fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn items(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}
