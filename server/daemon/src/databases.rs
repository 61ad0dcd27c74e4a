//! Opening the files that the server serves.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use nonnet_chain::{Author, Chain};
use nonnet_engine::{Database, Entropy};
use nonnet_schema::{DatabaseSchema, NONNET_SCHEMA};
use nonnet_store::{OpenError, Opened, SqliteLog};
use tracing::info;

use crate::clock::Clock;

/// A database that has been read and is ready to be served.
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    pub(crate) database: Database,
    pub(crate) chain: Chain,
    pub(crate) log: SqliteLog,
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.database.schema().name, self.path.display())
    }
}

/// Opens the file, or makes it with the schema in `schema_path`, else that of `OpNonNet`.
pub(crate) fn load(
    path: &Path,
    schema_path: Option<&Path>,
    clock: Clock,
    entropy: &mut Entropy,
) -> anyhow::Result<Loaded> {
    match load_existing(path, entropy) {
        Err(OpenError::Missing { .. }) => {
            create(path, schema_path, clock, entropy)?;
            Ok(load_existing(path, entropy)?)
        }
        loaded => Ok(loaded?),
    }
}

/// Opens the file.
///
/// # Errors
/// [`OpenError::Missing`] where there is none, or what is wrong with it.
pub(crate) fn load_existing(path: &Path, entropy: &mut Entropy) -> Result<Loaded, OpenError> {
    let started = Instant::now();
    if let Ok(metadata) = std::fs::metadata(path) {
        info!("{}: reading and checking {} KiB", path.display(), metadata.len() / 1024);
    }
    let Opened {
        log,
        schema,
        rows,
        chain,
        verified,
        replayed,
    } = nonnet_store::open(path)?;
    let count = rows.len();
    let mut database = Database::new(Arc::new(schema), entropy.uuid().as_u64_pair().0);
    for row in rows {
        database.load(row.table, row.uuid, row.fields, entropy);
    }
    info!(
        "{}: {} with {count} rows after {} commits, {verified} of them verified, {replayed} replayed, in {} ms",
        path.display(),
        database.schema().name,
        chain.head().seq,
        started.elapsed().as_millis()
    );
    Ok(Loaded {
        path: path.to_owned(),
        database,
        chain,
        log,
    })
}

fn create(path: &Path, schema_path: Option<&Path>, clock: Clock, entropy: &mut Entropy) -> anyhow::Result<()> {
    let schema = match schema_path {
        Some(schema_path) => {
            let text = std::fs::read_to_string(schema_path).with_context(|| schema_path.display().to_string())?;
            DatabaseSchema::from_text(&text).with_context(|| schema_path.display().to_string())?
        }
        None => DatabaseSchema::from_text(NONNET_SCHEMA).context("the built-in schema")?,
    };
    if schema.name.starts_with('_') {
        bail!(
            "a database may not be named {}: names that begin with \"_\" are the server's own",
            schema.name
        );
    }
    let author = Author {
        comm: "nonnetd".into(),
        remote: "create".into(),
        ..Author::default()
    };
    let (_, genesis) = Chain::begin(entropy.uuid(), &schema, &author, clock.now().moment)?;
    info!("{}: making the database {}", path.display(), schema.name);
    nonnet_store::create(path, &schema, &genesis)?;
    Ok(())
}
