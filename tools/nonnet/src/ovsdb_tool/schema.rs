//! Schemas, in files of their own and in databases.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, anyhow};
use nonnet_schema::DatabaseSchema;
use serde_json::Value;

use super::file;

/// What is told of a schema.
#[derive(Clone, Copy, Debug)]
pub(super) enum Member {
    Name,
    Version,
    Cksum,
}

impl Member {
    /// That which the command of this name tells.
    pub(super) fn of_command(name: &str) -> Self {
        match name.rsplit('-').next() {
            Some("version") => Self::Version,
            Some("cksum") => Self::Cksum,
            _ => Self::Name,
        }
    }

    fn print(self, schema: &DatabaseSchema, out: &mut impl Write) -> Result<()> {
        let text = match self {
            Self::Name => &schema.name,
            Self::Version => &schema.version,
            Self::Cksum => &schema.cksum,
        };
        Ok(writeln!(out, "{text}")?)
    }
}

/// The schema in an `.ovsschema` file.
pub(super) fn read(path: &Path) -> Result<DatabaseSchema> {
    let shown = path.display();
    let unreadable = |words: String| anyhow!("failed to read schema: \"{shown}\" could not be read as JSON ({words})");
    let text = std::fs::read_to_string(path)
        .map_err(|cause| unreadable(format!("error opening \"{shown}\": {}", file::plain(&cause))))?;
    let json: Value = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    DatabaseSchema::parse(&json).map_err(|error| {
        let context = format!("failed to parse \"{shown}\" as ovsdb schema: ");
        anyhow!(file::as_ovsdb_error(&error, &context))
    })
}

/// `db-name`, `db-version`, `db-cksum`.
pub(super) fn of_database(db: &Path, member: Member, out: &mut impl Write) -> Result<()> {
    member.print(&file::schema(db)?, out)
}

/// `schema-name`, `schema-version`, `schema-cksum`.
pub(super) fn of_file(path: &Path, member: Member, out: &mut impl Write) -> Result<()> {
    member.print(&read(path)?, out)
}

/// `needs-conversion`.
pub(super) fn needs_conversion(db: &Path, path: &Path, out: &mut impl Write) -> Result<()> {
    let (current, wanted) = (file::schema(db)?, read(path)?);
    let answer = if current.to_text() == wanted.to_text() {
        "no"
    } else {
        "yes"
    };
    Ok(writeln!(out, "{answer}")?)
}
