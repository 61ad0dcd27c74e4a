//! The data model and notation of OVSDB (RFC 7047): atoms, datums, types, schemas, conditions, mutations, operations, messages and the
//! errors that go over the wire.
//!
//! JSON goes in as [`serde_json::Value`] and comes out as text in the form that ovsdb-server prints. This crate performs no I/O, reads no
//! clock and draws no random number.

mod atom;
mod condition;
mod datum;
mod embedded;
mod error;
mod fault;
mod framing;
pub mod json;
mod message;
mod monitor;
mod mutation;
mod operation;
mod reader;
mod schema;
mod table_updates;
mod types;

pub use atom::{Atom, AtomicType, NamedUuids, Real, parse_uuid};
pub use condition::{Clause, Condition, Function};
pub use datum::{Datum, Elements};
pub use embedded::{AUDIT_SCHEMA, NONNET_SCHEMA, SERVER_SCHEMA};
pub use error::{ErrorKind, OvsdbError, ParseFault};
pub use fault::SchemaFault;
pub use framing::{DEPTH_MAX, Frame, FramingError, MESSAGE_BYTES_MAX, PARSED_BYTES_MAX, Scanner};
pub use message::{
    Message, MessageError, REPLY_TAIL, ReplyError, error_reply_text, malformed_text, notification_text, reply_head,
    reply_text,
};
pub use monitor::{MonitorRequest, MonitoredTable, Select};
pub use mutation::{Mutation, Mutator};
pub use operation::{Operation, row_members};
pub use reader::{Kinds, ObjectReader};
pub use schema::{
    ColumnIndex, ColumnSchema, DatabaseSchema, SchemaTextError, TableIndex, TableSchema, UUID_COLUMN, VERSION_COLUMN,
};
pub use table_updates::{RowNews, RowUpdate, TableUpdatesError};
pub use types::{BaseType, ColumnType, Constraint, Strength, UNLIMITED};
pub use uuid::Uuid;

/// The version of ovsdb-server whose wire, files and words are followed. Programs that are called by its name say it.
pub const OVSDB_SERVER_VERSION: &str = "3.1.0";
