//! A file with the networks of this host, made by an older nonnetd, gets the schema of this one.
//!
//! Only tables and columns come to it; a file whose schema somebody changed is left as it is.

use std::path::Path;

use anyhow::Context as _;
use nonnet_chain::Author;
use nonnet_engine::Entropy;
use nonnet_hooks::tables::Tables;
use nonnet_schema::{DatabaseSchema, NONNET_SCHEMA};
use nonnet_store::Conversion;
use tracing::info;

use crate::clock::Clock;
use crate::controller;

/// Brings the file at `path`, which nobody has open, from `schema` under the schema that is built in, in one record.
///
/// # Errors
/// When the file cannot be converted; it is as it was.
pub(crate) fn upgrade(
    path: &Path,
    schema: &DatabaseSchema,
    author: Author,
    clock: Clock,
    entropy: &mut Entropy,
) -> anyhow::Result<()> {
    let (from, to) = (&schema.version, DatabaseSchema::from_text(NONNET_SCHEMA)?);
    let conversion = Conversion {
        author,
        moment: clock.now().moment,
        seed: seed(entropy),
    };
    nonnet_store::convert(path, &to, &conversion).with_context(|| {
        format!(
            "{}: from version {from} of the schema to {}",
            path.display(),
            to.version
        )
    })?;
    info!(
        "{}: upgraded from version {from} of its schema to {}",
        path.display(),
        to.version
    );
    Ok(())
}

/// Whether a database of this schema can be upgraded: it is that of an earlier nonnetd.
pub(crate) fn is_due(schema: &DatabaseSchema) -> bool {
    if !controller::is_followed(&schema.name) || Tables::find(schema).is_ok() {
        return false;
    }
    DatabaseSchema::from_text(NONNET_SCHEMA).is_ok_and(|own| has_all_of(&own, schema))
}

fn has_all_of(own: &DatabaseSchema, earlier: &DatabaseSchema) -> bool {
    earlier.tables().iter().all(|table| {
        let found = own.table_index(&table.name).map(|at| own.table(at));
        found.is_some_and(|found| {
            let mut names = table.declared_columns().map(|(_, column)| &column.name);
            names.all(|name| found.column_index(name).is_some())
        })
    })
}

fn seed(entropy: &mut Entropy) -> [u8; 32] {
    let mut seed = [0; 32];
    let (first, second) = seed.split_at_mut(16);
    first.copy_from_slice(entropy.uuid().as_bytes());
    second.copy_from_slice(entropy.uuid().as_bytes());
    seed
}
