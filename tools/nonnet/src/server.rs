//! The server that the commands talk to, and the file that its log is in.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nonnet_client::{Address, Connection};
use nonnet_schema::DatabaseSchema;
use nonnet_store::Reader;

use crate::arguments::Common;

/// The socket and the file that nonnetd makes without arguments, in its directory.
const SOCKET_HERE: &str = "nonnet.db.sock";
pub(crate) const FILE_HERE: &str = "nonnet.db";

/// The socket of the system's server.
const SOCKET_OF_SYSTEM: &str = "/run/nonnet/nonnet.db.sock";

/// A connection to a server, and the schema of the database that is talked about.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) connection: Connection,
    pub(crate) address: Address,
    pub(crate) schema: DatabaseSchema,
}

impl Server {
    /// Connects and fetches the schema.
    pub(crate) async fn open(common: &Common) -> Result<Self> {
        let address = address(common)?;
        let connection = Connection::connect(&address).await?;
        let schema = match connection.get_schema(&common.db).await {
            Ok(schema) => schema,
            Err(error) if error.is_lost() => return Err(error.into()),
            Err(error) => {
                let known = connection.list_dbs().await?;
                if known.contains(&common.db) {
                    return Err(error.into());
                }
                bail!(
                    "{address}: serves no database \"{}\"; it serves {}",
                    common.db,
                    known.join(", ")
                );
            }
        };
        Ok(Self {
            connection,
            address,
            schema,
        })
    }

    /// The hash of a record of the log, where its file lies beside the socket and may be read.
    pub(crate) fn record_hash(&self, sequence: u64) -> Option<String> {
        let reader = Reader::open(&file_beside(&self.address)?).ok()?;
        let is_same = DatabaseSchema::from_text(&reader.schema_text().ok()?).ok()?.name == self.schema.name;
        let record = reader.records(sequence..=sequence).next().filter(|_| is_same)?.ok()?;
        let hash = <[u8; 32]>::try_from(record.hash.as_slice()).ok()?;
        Some(nonnet_chain::RecordHash(hash).to_string())
    }
}

/// The address given, or the socket that is there.
pub(crate) fn address(common: &Common) -> Result<Address> {
    let Some(text) = &common.socket else {
        for path in [SOCKET_HERE, SOCKET_OF_SYSTEM] {
            if Path::new(path).exists() {
                return Ok(Address::Unix(path.into()));
            }
        }
        bail!(
            "no server found: there is neither {SOCKET_HERE} in the current directory nor {SOCKET_OF_SYSTEM}; \
             start nonnetd, or say where its socket is with --socket or NONNET_SOCKET"
        );
    };
    text.parse().with_context(|| "--socket".to_owned())
}

/// The database file given, or the one beside the socket given, or the one in the current directory.
pub(crate) fn database_file(file: Option<&Path>, common: &Common) -> Result<PathBuf> {
    if let Some(file) = file {
        return Ok(file.to_owned());
    }
    let beside = match &common.socket {
        Some(_) => file_beside(&address(common)?),
        None => None,
    };
    Ok(beside.unwrap_or_else(|| FILE_HERE.into()))
}

/// The file that a socket's name tells, where it exists.
fn file_beside(address: &Address) -> Option<PathBuf> {
    let Address::Unix(path) = address else { return None };
    let name = path.file_name()?.to_str()?.strip_suffix(".sock")?;
    Some(path.with_file_name(name)).filter(|file| file.is_file())
}
