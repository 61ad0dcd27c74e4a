//! State files: from JSON documents to the rows they want, under the schema of the server.
//!
//! Every fault names the file, the document where there are several, and the path to the member. Nothing is passed over but members
//! whose names start with `_`.

use std::collections::HashMap;
use std::str::FromStr;

use nonnet_schema::{DatabaseSchema, TableSchema};
use serde_json::{Map, Value};

use crate::catalog;
use crate::notation::kind_of;
use crate::wanted::{LXC, Result, WantedRow, expected, fault, is_comment, read_row};

/// The version of state files that is understood.
const VERSION: u64 = 1;

/// What a file wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// In the order of the file.
    pub(crate) rows: Vec<WantedRow>,
    /// The tables that it names, also with no rows.
    pub(crate) tables: Vec<String>,
}

/// Reads documents as one state; `only` restricts it to those plugins, if there are any.
pub(crate) fn read_state(
    documents: &[Value],
    source_name: &str,
    schema: &DatabaseSchema,
    only: &[String],
) -> Result<State> {
    let mut state = State::default();
    for (at, document) in documents.iter().enumerate() {
        let place = match documents.len() {
            1 => source_name.to_owned(),
            _ => format!("{source_name}: document {}", at + 1),
        };
        let interpreter = Interpreter { schema, only };
        let read = interpreter.document(document, &place)?;
        merge(&mut state, read);
    }
    for plugin in only {
        if !state.tables.contains(plugin) {
            return fault(source_name, format!("it has no plugin \"{plugin}\""));
        }
    }
    Ok(state)
}

impl State {
    /// Leaves only these rows, each `TABLE:NAME`; all where none is named.
    ///
    /// # Errors
    /// The first that the file does not have.
    pub(crate) fn restrict(mut self, only: &[RowName], source_name: &str) -> Result<Self> {
        if only.is_empty() {
            return Ok(self);
        }
        let names = |row: &WantedRow, name: &RowName| row.table == name.table && row.key == name.key;
        if let Some(missing) = only.iter().find(|name| !self.rows.iter().any(|row| names(row, name))) {
            return fault(
                source_name,
                format!("it has no \"{}\" in plugin \"{}\"", missing.key, missing.table),
            );
        }
        self.rows.retain(|row| only.iter().any(|name| names(row, name)));
        Ok(self)
    }
}

/// A row as `TABLE:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowName {
    table: String,
    key: String,
}

impl RowName {
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

impl FromStr for RowName {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            Some((table, key)) if !table.is_empty() && !key.is_empty() => Ok(Self {
                table: table.to_owned(),
                key: key.to_owned(),
            }),
            _ => Err("a row is written TABLE:NAME, as in lxc:100".to_owned()),
        }
    }
}

/// Adds a later document: of a row that is in both, its columns win.
fn merge(state: &mut State, later: State) {
    for table in later.tables {
        if !state.tables.contains(&table) {
            state.tables.push(table);
        }
    }
    let known: HashMap<(String, String), usize> = state
        .rows
        .iter()
        .enumerate()
        .map(|(at, row)| ((row.table.clone(), row.key.clone()), at))
        .collect();
    for row in later.rows {
        let at = known.get(&(row.table.clone(), row.key.clone()));
        match at.and_then(|at| state.rows.get_mut(*at)) {
            Some(known) => known.columns.extend(row.columns),
            None => state.rows.push(row),
        }
    }
}

struct Interpreter<'a> {
    schema: &'a DatabaseSchema,
    only: &'a [String],
}

impl Interpreter<'_> {
    fn document(&self, document: &Value, place: &str) -> Result<State> {
        let Value::Object(members) = document else {
            return fault(place, format!("a document is an object, not {}", kind_of(document)));
        };
        if members.contains_key("plugins") {
            return self.plugins(members, place);
        }
        if members.contains_key("version") {
            return match check_version(members, place) {
                Ok(()) => fault(place, "\"plugins\" is missing"),
                Err(version) => Err(version),
            };
        }
        if members.contains_key("method") {
            return fault(
                place,
                "not a state file but a request to the server; `nonnet transact` sends such",
            );
        }
        let mut state = State::default();
        if members.contains_key("containers") {
            self.containers(document, place, &mut state)?;
        } else if members.contains_key("id") {
            state.tables.push(LXC.to_owned());
            state
                .rows
                .push(read_row(self.table(LXC, place)?, document, place, self.schema)?);
        } else if members.contains_key("interfaces") {
            return fault(place, unsupported(&["net".to_owned()], self.schema));
        } else {
            return fault(
                place,
                "not a state file: \"version\" and \"plugins\" are expected, or \"containers\", or the \"id\" of one container",
            );
        }
        Ok(state)
    }

    fn plugins(&self, members: &Map<String, Value>, place: &str) -> Result<State> {
        check_version(members, place)?;
        if let Some(name) = members
            .keys()
            .find(|name| !is_comment(name) && !matches!(name.as_str(), "version" | "plugins"))
        {
            return fault(
                place,
                format!("\"{name}\" has no meaning here; only \"version\" and \"plugins\" have"),
            );
        }
        let plugins = match members.get("plugins") {
            Some(Value::Object(plugins)) => plugins,
            other => {
                return fault(
                    &format!("{place}: plugins"),
                    expected("an object", other.unwrap_or(&Value::Null)),
                );
            }
        };
        let chosen = |name: &String| !is_comment(name) && (self.only.is_empty() || self.only.contains(name));
        let unknown: Vec<String> = plugins
            .keys()
            .filter(|name| chosen(name) && !self.is_supported(name))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            return fault(place, unsupported(&unknown, self.schema));
        }
        let mut state = State::default();
        for (name, content) in plugins.iter().filter(|(name, _)| chosen(name)) {
            let place = format!("{place}: plugins.{name}");
            if name == LXC && content.is_object() {
                self.containers(content, &place, &mut state)?;
            } else {
                self.rows(name, content, &place, &mut state)?;
            }
        }
        Ok(state)
    }

    fn is_supported(&self, name: &str) -> bool {
        catalog::table(self.schema, name).is_some_and(catalog::is_describable)
    }

    fn table(&self, name: &str, place: &str) -> Result<&TableSchema> {
        match catalog::table(self.schema, name).filter(|table| catalog::is_describable(table)) {
            Some(table) => Ok(table),
            None => fault(place, unsupported(&[name.to_owned()], self.schema)),
        }
    }

    /// `{"containers": [...]}`.
    fn containers(&self, json: &Value, place: &str, state: &mut State) -> Result<()> {
        let mut containers = &Value::Null;
        for (name, member) in json.as_object().into_iter().flatten() {
            match name.as_str() {
                "containers" => containers = member,
                name if is_comment(name) => {}
                name => {
                    return fault(
                        place,
                        format!("\"{name}\" has no meaning here; only \"containers\" has"),
                    );
                }
            }
        }
        self.rows(LXC, containers, &format!("{place}.containers"), state)
    }

    /// An array of rows of a table.
    fn rows(&self, table: &str, json: &Value, place: &str, state: &mut State) -> Result<()> {
        let table = self.table(table, place)?;
        let Value::Array(items) = json else {
            return fault(place, expected("an array", json));
        };
        state.tables.push(table.name.to_string());
        let mut places: HashMap<String, String> = HashMap::new();
        for (at, item) in items.iter().enumerate() {
            let row = read_row(table, item, &format!("{place}[{at}]"), self.schema)?;
            if let Some(twin) = places.insert(row.key.clone(), row.place.clone()) {
                return fault(&row.place, format!("\"{}\" stands in {twin} already", row.key));
            }
            state.rows.push(row);
        }
        Ok(())
    }
}

fn check_version(members: &Map<String, Value>, place: &str) -> Result<()> {
    match members.get("version") {
        Some(version) if version.as_f64() == Some(VERSION as f64) => Ok(()),
        Some(version) => fault(
            &format!("{place}: version"),
            format!("state files of version {version} are not supported, only those of version {VERSION}"),
        ),
        None => fault(place, format!("\"version\": {VERSION} is missing")),
    }
}

fn unsupported(names: &[String], schema: &DatabaseSchema) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let (noun, verb) = if names.len() == 1 {
        ("plugin", "is")
    } else {
        ("plugins", "are")
    };
    let mut text = format!(
        "{noun} {} {verb} not supported yet; supported are {}",
        quoted.join(", "),
        catalog::describable(schema).join(", ")
    );
    if names.iter().any(|name| name == "net") && catalog::table(schema, "bridges").is_some() {
        text.push_str(
            ". Linux bridges are written as \"bridges\": [{\"name\": \"br0\"}]; OVS bridges are not supported yet",
        );
    }
    text
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
