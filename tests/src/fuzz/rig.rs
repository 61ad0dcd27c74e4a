//! A server in memory with a database, a client, and sessions that watch every row in every notation.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use nonnet_chain::{Author, Chain};
use nonnet_engine::Database;
use nonnet_schema::{Atom, DatabaseSchema, Datum, TableIndex, TableSchema, Uuid, json as notation};
use nonnet_sessions::{Command, Event, Now, Peer, Server, SessionId};
use serde_json::{Map, Value, json};

use super::parse_any_depth;

/// Transactions of one input at most, so that each is short.
pub(super) const TRANSACTIONS_MAX: usize = 16;

/// Who sends what is fuzzed.
pub(super) const CLIENT: SessionId = SessionId(1);

/// Who watches with `monitor`, and who with `monitor_cond`.
const WATCHERS: [(SessionId, &str); 3] = [
    (SessionId(2), "monitor"),
    (SessionId(3), "monitor_cond"),
    (DEAF, "monitor_cond"),
];

/// Who does not read.
const DEAF: SessionId = SessionId(4);

/// Deadlines that are let pass before what still waits is left waiting.
const TICKS_MAX: usize = 64;

/// Rows by table and UUID, each with its columns.
type Rows = BTreeMap<(String, String), BTreeMap<String, Elements>>;

/// The elements of a value as texts, each with its value in a map.
type Elements = BTreeMap<String, Option<String>>;

/// The server and what was sent.
pub(super) struct Rig {
    server: Server,
    now: Now,
    name: String,
    schema: Arc<DatabaseSchema>,
    newest: u64,
    /// Messages that the client has sent.
    messages: usize,
    finished: usize,
    replies: BTreeMap<String, usize>,
    replicas: BTreeMap<SessionId, Rows>,
}

/// A schema of `tests/cases/schemas`; that of `types` where there is none of that name.
pub(super) fn schema(name: &str) -> Arc<DatabaseSchema> {
    static SCHEMAS: OnceLock<Vec<Arc<DatabaseSchema>>> = OnceLock::new();
    let schemas = SCHEMAS.get_or_init(|| {
        let texts = [
            include_str!("../../cases/schemas/types.ovsschema"),
            include_str!("../../cases/schemas/refs.ovsschema"),
            include_str!("../../cases/schemas/limits.ovsschema"),
            include_str!("../../cases/schemas/shapes.ovsschema"),
            include_str!("../../cases/schemas/things.ovsschema"),
        ];
        let parse = |text| Arc::new(DatabaseSchema::from_text(text).expect("it is a schema"));
        texts.into_iter().map(parse).collect()
    });
    let named = schemas.iter().find(|schema| schema.name == name);
    Arc::clone(named.unwrap_or(&schemas[0]))
}

impl Rig {
    pub(super) fn new(name: &str) -> Self {
        let schema = schema(name);
        let now = Now::default();
        let (chain, _) = Chain::begin(Uuid::nil(), &schema, &Author::default(), now.moment).expect("a chain begins");
        let mut server = Server::new([3; 32]).expect("a server begins");
        let newest = chain.head().seq;
        server
            .add_database(Database::new(Arc::clone(&schema), 1), chain, None, now)
            .expect("the database is served");
        let mut rig = Self {
            server,
            now,
            name: schema.name.to_string(),
            schema,
            newest,
            messages: 0,
            finished: 0,
            replies: BTreeMap::new(),
            replicas: BTreeMap::new(),
        };
        for session in [CLIENT, SessionId(2), SessionId(3), DEAF] {
            let peer = Peer::default();
            rig.event(Event::Opened { session, peer });
        }
        rig
    }

    /// One message of a session.
    pub(super) fn message(&mut self, session: SessionId, message: Value) {
        self.messages += usize::from(session == CLIENT);
        self.event(Event::Message {
            session,
            message,
            newline: false,
        });
        assert!(self.finished <= self.messages, "answered more than was asked");
    }

    /// One transaction of the client.
    pub(super) fn transact(&mut self, operations: Vec<Value>) {
        let count = operations.len();
        let mut params = vec![json!(self.name)];
        params.extend(operations);
        let id = format!("t{}", self.messages);
        self.message(CLIENT, json!({"id": id, "method": "transact", "params": params}));
        let results = self.replies.get(&notation::to_text(&json!(id)));
        // One array in the place of the operations holds them itself.
        assert!(
            count == 1 || results.is_none_or(|results| *results == count || *results == count + 1),
            "{count} operations have {results:?} results"
        );
    }

    /// Has the watchers watch all rows.
    pub(super) fn watch(&mut self) {
        let tables = self.schema.tables().iter();
        let requests: Map<String, Value> = tables.map(|table| (table.name.to_string(), json!([{}]))).collect();
        for (session, method) in WATCHERS {
            self.replicas.insert(session, Rows::new());
            let params = json!([self.name, "m", requests]);
            self.message(session, json!({"id": "m", "method": method, "params": params}));
        }
        self.event(Event::Congested { session: DEAF });
    }

    /// Lets everything be stored, deadlines pass, and the deaf session read.
    pub(super) fn settle(&mut self) {
        for _ in 0..TICKS_MAX {
            let Some(deadline_ms) = self.server.deadline_ms() else {
                break;
            };
            self.now.monotonic_ms = self.now.monotonic_ms.max(deadline_ms);
            self.event(Event::Tick);
        }
        self.stored();
        self.event(Event::Drained { session: DEAF });
    }

    /// A session that comes now is answered; those that were there may have been ended by a conversion.
    pub(super) fn check_served(&mut self) {
        let (session, peer) = (SessionId(5), Peer::default());
        self.event(Event::Opened { session, peer });
        self.message(session, json!({"id": "still", "method": "echo", "params": []}));
        assert!(self.replies.contains_key("\"still\""));
    }

    /// Each watcher has the rows of the database.
    pub(super) fn check_replicas(&self) {
        let rows = self.rows();
        for (session, replica) in &self.replicas {
            assert_eq!(*replica, rows, "of {session:?}");
        }
    }

    /// Undoes everything that is not stored; then nothing is left, and the same rows may come again.
    pub(super) fn undo_all(&mut self) {
        let database = self.server.database(&self.name).expect("it is served").clone();
        let before = self.rows();
        let operations: Vec<Value> = self
            .schema
            .tables()
            .iter()
            .map(|table| json!({"op": "delete", "table": table.name.as_str(), "where": []}))
            .collect();
        let mut params = vec![json!(self.name)];
        params.extend(operations);
        let sequence = self.newest + 1;
        self.message(CLIENT, json!({"id": "undo", "method": "transact", "params": params}));
        if self.newest < sequence {
            return;
        }
        let reason = "it is full".into();
        self.event(Event::Unstored {
            database: self.name.as_str().into(),
            sequence,
            reason,
        });
        assert_eq!(self.rows(), before);
        for (at, table) in self.schema.tables().iter().enumerate() {
            let (was, is) = (
                database.table(TableIndex(at)),
                self.server.database(&self.name).map(|it| it.table(TableIndex(at))),
            );
            let is = is.expect("it is served");
            for row in was.rows() {
                for (index, columns) in table.indexes.iter().enumerate() {
                    let key: Vec<_> = columns.iter().map(|column| row.get(*column).clone()).collect();
                    assert_eq!(is.row_by_index(index, &key).map(|row| row.uuid()), Some(row.uuid()));
                }
            }
        }
    }

    fn stored(&mut self) {
        self.event(Event::Stored {
            database: self.name.as_str().into(),
            sequence: self.newest,
        });
    }

    fn event(&mut self, event: Event) {
        for command in self.server.handle(event, self.now) {
            match command {
                Command::Send { session, payload } => self.sent(session, &payload.into_text()),
                Command::Append { record, .. } => {
                    record.decode_body().expect("a record says what it holds");
                    self.newest = record.head().seq;
                }
                Command::Finished { session } => self.finished += usize::from(session == CLIENT),
                _ => {}
            }
        }
    }

    fn sent(&mut self, session: SessionId, text: &str) {
        if text.is_empty() {
            return;
        }
        let message = parse_any_depth(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: sent {text}"));
        if message.get("method").is_none() {
            let results = message["result"].as_array().map_or(0, Vec::len);
            let id = notation::to_text(&message["id"]);
            if !message["result"].is_null() {
                self.replies.insert(id, results);
            }
        } else if let Some(rows) = self.replicas.get_mut(&session) {
            take_update(rows, &self.schema, &message);
        }
    }

    fn rows(&self) -> Rows {
        let database = self.server.database(&self.name).expect("it is served");
        let mut all = Rows::new();
        for (at, table) in self.schema.tables().iter().enumerate() {
            for row in database.table(TableIndex(at)).rows() {
                let columns = table
                    .declared_columns()
                    .map(|(at, column)| (column.name.to_string(), elements(&row.get(at).to_json())));
                all.insert(
                    (table.name.to_string(), Atom::Uuid(row.uuid()).to_message()),
                    columns.collect(),
                );
            }
        }
        all
    }
}

/// Does to a replica what an update says.
fn take_update(rows: &mut Rows, schema: &DatabaseSchema, message: &Value) {
    let is_first_notation = message["method"] == "update";
    for (name, updates) in members(&message["params"][1]) {
        let table = schema.table(schema.table_index(name).expect("a table of the schema"));
        for (uuid, update) in members(updates) {
            let key = (name.clone(), uuid.clone());
            if is_first_notation {
                match update.get("new") {
                    Some(new) => drop(rows.insert(key, row_of(new))),
                    None => assert!(rows.remove(&key).is_some(), "deleted, never seen: {message}"),
                }
                continue;
            }
            match members(update).next().map(|(kind, row)| (kind.as_str(), row)) {
                Some(("insert", row)) => {
                    let mut columns = defaults(table);
                    columns.extend(row_of(row));
                    assert!(rows.insert(key, columns).is_none(), "inserted twice: {message}");
                }
                Some(("modify", row)) => {
                    let known = rows
                        .get_mut(&key)
                        .unwrap_or_else(|| panic!("modified, never seen: {message}"));
                    modify(known, table, row_of(row));
                }
                Some(("delete", _)) => assert!(rows.remove(&key).is_some(), "deleted, never seen: {message}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// `update2`: the difference where a column may hold several elements, the new value elsewhere.
fn modify(row: &mut BTreeMap<String, Elements>, table: &TableSchema, changes: BTreeMap<String, Elements>) {
    for (name, changed) in changes {
        let column = table.column(table.column_index(&name).expect("a column of the table"));
        if !column.type_.is_composite() {
            row.insert(name, changed);
            continue;
        }
        let known = row.entry(name).or_default();
        for (key, value) in changed {
            if known.get(&key) == Some(&value) {
                known.remove(&key);
            } else {
                known.insert(key, value);
            }
        }
    }
}

fn defaults(table: &TableSchema) -> BTreeMap<String, Elements> {
    let default = |column: &nonnet_schema::ColumnSchema| elements(&Datum::default_for(&column.type_).to_json());
    table
        .declared_columns()
        .map(|(_, column)| (column.name.to_string(), default(column)))
        .collect()
}

fn row_of(row: &Value) -> BTreeMap<String, Elements> {
    let columns = members(row).filter(|(name, _)| *name != "_version");
    columns.map(|(name, value)| (name.clone(), elements(value))).collect()
}

fn elements(value: &Value) -> Elements {
    let text = |value: &Value| notation::to_text(value);
    match value.as_array().map(Vec::as_slice) {
        Some([kind, Value::Array(atoms)]) if kind == "set" => atoms.iter().map(|atom| (text(atom), None)).collect(),
        Some([kind, Value::Array(pairs)]) if kind == "map" => pairs
            .iter()
            .map(|pair| (text(&pair[0]), Some(text(&pair[1]))))
            .collect(),
        _ => Elements::from([(text(value), None)]),
    }
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}
