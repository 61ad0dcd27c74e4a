//! An asynchronous OVSDB client (RFC 7047 and `ovsdb-server(7)`).
//!
//! [`Connection`] calls methods, any number at a time; [`Transaction`] puts operations together; [`Monitor`] tells of changes;
//! [`Replica`] keeps a copy of tables up to date across lost connections; [`Lock`] is a lock; [`Link`] gives the messages of a connection one by
//! one. It works with every OVSDB server.
//!
//! This crate never reads a server's files and knows nothing of what the tables mean.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use nonnet_client::{Address, Connection, Transaction};
//! use serde_json::json;
//!
//! let address: Address = "unix:nonnet.db.sock".parse()?;
//! let connection = Connection::connect(&address).await?;
//! let mut transaction = Transaction::new("OpNonNet");
//! transaction.select("bridges", json!([]), Some(&["name"]));
//! let committed = transaction.commit(&connection).await?;
//! println!("{:?}", committed.results[0].rows());
//! # Ok(())
//! # }
//! ```

mod address;
mod connection;
mod content;
mod error;
pub mod limits;
mod link;
mod lock;
mod method;
mod monitor;
mod replica;
mod result;
mod stream;
mod transaction;
pub mod value;

pub use address::{Address, AddressError};
pub use connection::{Connection, Notification, Notifications};
pub use content::{Row, Table};
pub use error::{CallError, ConnectError, Lost, TransactError, WireError};
pub use link::{Incoming, Link, dial};
pub use lock::Lock;
pub use monitor::{Monitor, MonitorError, MonitorVersion, Update};
pub use replica::{Replica, ReplicaError, ReplicaEvent, RowChange, Selection, UpdateFault};
pub use result::OperationResult;
pub use stream::{Input, Output};
pub use transaction::{Committed, NewRow, Transaction};
