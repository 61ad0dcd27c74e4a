//! Opening the files that the server serves.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use nonnet_chain::{Author, Chain, Request};
use nonnet_engine::{Database, Entropy};
use nonnet_schema::{DatabaseSchema, NONNET_SCHEMA};
use nonnet_store::ovsdb_file::{self, Converted, Origin};
use nonnet_store::{Keys, Log as _, OpenError, Opened, SqliteLog};
use tracing::{info, warn};

use crate::clock::Clock;
use crate::source::RelayArgument;
use crate::upgrade;

/// A database that has been read and is ready to be served.
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    pub(crate) database: Database,
    pub(crate) chain: Chain,
    pub(crate) log: SqliteLog,
}

/// All databases to serve.
#[derive(Default)]
pub(crate) struct Databases {
    pub(crate) files: Vec<Loaded>,
    pub(crate) relays: Vec<RelayArgument>,
}

impl fmt::Display for Databases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.files.iter().map(Loaded::to_string);
        let all: Vec<String> = files.chain(self.relays.iter().map(RelayArgument::to_string)).collect();
        f.write_str(&all.join(", "))
    }
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.database.schema().name, self.path.display())
    }
}

/// Opens the file, converting one of ovsdb-server first, or makes it with the schema in `schema_path`, else that of `OpNonNet`.
pub(crate) fn load(
    path: &Path,
    schema_path: Option<&Path>,
    clock: Clock,
    entropy: &mut Entropy,
) -> anyhow::Result<Loaded> {
    match load_existing(path, clock, entropy) {
        Err(error) if is_missing(&error) => {
            create(path, schema_path, clock, entropy)?;
            load_existing(path, clock, entropy)
        }
        loaded => loaded,
    }
}

/// True where an error says that there is no file, or that it is empty.
pub(crate) fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(OpenError::Missing { .. }))
}

/// As [`load_existing`]; what is wrong is said in the words of ovsdb-server.
pub(crate) fn load_as_ovsdb_server(path: &Path, clock: Clock, entropy: &mut Entropy) -> Result<Loaded, String> {
    let shown = path.display();
    if let Err(cause) = std::fs::File::open(path) {
        return Err(format!("I/O error: {shown}: open failed ({})", plain(&cause)));
    }
    load_existing(path, clock, entropy).map_err(|error| match error.downcast_ref() {
        Some(OpenError::Missing { .. }) => format!("ovsdb error: {shown}: cannot identify file type"),
        Some(OpenError::NotOurs { .. }) => format!("ovsdb error: {shown}: unexpected file format"),
        _ => format!("ovsdb error: {error:#}"),
    })
}

/// The system's words without Rust's number behind them.
fn plain(cause: &io::Error) -> String {
    let text = cause.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Opens the file, converting one of ovsdb-server first.
pub(crate) fn load_existing(path: &Path, clock: Clock, entropy: &mut Entropy) -> anyhow::Result<Loaded> {
    let started = Instant::now();
    if let Ok(metadata) = std::fs::metadata(path) {
        info!("{}: reading and checking {} KiB", path.display(), metadata.len() / 1024);
    }
    if ovsdb_file::is_ovsdb_file(path).unwrap_or(false) {
        convert(path, clock, entropy)?;
    }
    let mut opened = nonnet_store::open(path)?;
    if upgrade::is_due(&opened.schema) {
        let schema = opened.schema.clone();
        drop(opened);
        upgrade::upgrade(path, &schema, author("upgrade"), clock, entropy)?;
        opened = nonnet_store::open(path)?;
    }
    let Opened {
        mut log,
        schema,
        rows,
        mut chain,
        verified,
        replayed,
    } = opened;
    enrol(path, &mut log, &mut chain, clock)?;
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

/// Gives a log a key for its checkpoints where it has none, or where that one is not beside it any more.
fn enrol(path: &Path, log: &mut SqliteLog, chain: &mut Chain, clock: Clock) -> anyhow::Result<()> {
    let keys = log.keys();
    let new = {
        let mut keys = keys.lock();
        if keys.current().is_some() {
            return Ok(());
        }
        keys.prepare()?
    };
    let expected = chain.head();
    let record = chain.rotate(&author("key"), &Request::default(), clock.now().moment, (None, new))?;
    warn!(
        "{}: the log gets a new key for its checkpoints, since the one that it names is not there",
        path.display()
    );
    log.append(&[record], expected, true)?;
    Ok(())
}

/// Puts a file of ours in the place of one of ovsdb-server, which is kept beside it.
fn convert(path: &Path, clock: Clock, entropy: &mut Entropy) -> anyhow::Result<()> {
    let origin = Origin {
        author: author("import"),
        moment: clock.now().moment,
        db_id: entropy.uuid(),
        txn_uid: entropy.uuid(),
    };
    let Converted { source, kept, .. } = ovsdb_file::convert_in_place(path, &origin)?;
    if let Some(damage) = &source.damage {
        // Scripts look for the words of ovsdb-server.
        warn!("{}", damage.as_ovsdb_server_says(path));
        warn!(
            "{}: damaged in {damage}; what comes from there on is in {} only",
            path.display(),
            kept.display()
        );
    }
    info!(
        "{}: converted from ovsdb-server's format with {} rows of {} records; the original is kept as {}",
        path.display(),
        source.rows.len(),
        source.records,
        kept.display()
    );
    Ok(())
}

/// The server itself.
pub(crate) fn author(doing: &str) -> Author {
    Author {
        comm: "nonnetd".into(),
        remote: doing.into(),
        ..Author::default()
    }
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
    let (uuid, moment, key) = (entropy.uuid(), clock.now().moment, Keys::make(path)?);
    let (_, genesis) = Chain::begin_signed(uuid, &schema, &author("create"), moment, Some(key))?;
    info!("{}: making the database {}", path.display(), schema.name);
    nonnet_store::create(path, &schema, &genesis)?;
    Ok(())
}
