//! `nonnet schema`: whether a schema is one, what tells two apart, and a new one for a database.

use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nonnet_client::{Address, Connection};
use nonnet_schema::DatabaseSchema;
use nonnet_store::{Conversion, ConvertError, OpenError, Reader, ovsdb_file};
use serde_json::{Value, json};

use crate::arguments::{Common, Schema};
use crate::document::{read_text, source_name};
use crate::origin;
use crate::output::{Colour, Output};
use crate::schema_difference::{Difference, Effect, differences};

/// The exit code where faults or differences were found.
const FOUND: u8 = 1;

/// Runs a subcommand; 1 where a fault or a difference was found.
pub(crate) async fn run(common: &Common, options: &Schema, output: &mut Output) -> Result<u8> {
    match options {
        Schema::Check { file } => check(file, output),
        Schema::Diff { old, new } => {
            let (old, new) = (read_schema(old, common).await?, read_schema(new, common).await?);
            show(&differences(&old, &new), output)
        }
        Schema::Convert { target, file } => {
            let (_, schema) = read_file(file)?;
            match address_of(target) {
                Some(address) => convert_served(&address, &schema, output).await,
                None => convert_file(target.as_ref(), &schema, output),
            }
        }
    }
}

fn check(file: &Path, output: &mut Output) -> Result<u8> {
    let json: Value =
        serde_json::from_str(&read_text(file)?).with_context(|| format!("{}: not JSON", source_name(file)))?;
    let faults = DatabaseSchema::faults(&json);
    if output.is_json() {
        let faults = faults
            .iter()
            .map(|it| json!({"path": it.path, "error": it.error.kind().to_string()}));
        output.json(&json!({"file": source_name(file), "faults": faults.collect::<Vec<_>>()}))?;
    } else {
        for it in &faults {
            let path = if it.path.is_empty() { "/" } else { &it.path };
            output.line(&format!("{}: {path}: {}", source_name(file), it.error.kind()))?;
        }
    }
    Ok(if faults.is_empty() { 0 } else { FOUND })
}

fn show(differences: &[Difference], output: &mut Output) -> Result<u8> {
    if output.is_json() {
        let all = differences
            .iter()
            .map(|it| json!({"effect": it.effect.name(), "table": it.table, "column": it.column, "what": it.what}));
        output.json(&all.collect::<Vec<_>>())?;
    } else {
        for it in differences {
            let (mark, colour) = match it.effect {
                Effect::Drop => ('-', Colour::Red),
                Effect::Add => ('+', Colour::Green),
                Effect::Tighten => ('!', Colour::Yellow),
                Effect::Loosen => ('~', Colour::Green),
            };
            let place = match (&it.table, &it.column) {
                (Some(table), Some(column)) => format!("{table}.{column}"),
                (Some(table), None) => table.clone(),
                (None, _) => "database".to_owned(),
            };
            let line = output.coloured(colour, &format!("{mark} {place}: {}", it.what));
            output.line(&line)?;
        }
    }
    Ok(if differences.is_empty() { 0 } else { FOUND })
}

/// A schema from its file, from a database file of ours or of ovsdb-server, or from a server.
async fn read_schema(source: &str, common: &Common) -> Result<DatabaseSchema> {
    if let Some(address) = address_of(source) {
        let connection = Connection::connect(&address).await?;
        return Ok(connection.get_schema(&common.db).await?);
    }
    let path = Path::new(source);
    let mut start = [0; 16];
    let length = std::fs::File::open(path)
        .and_then(|mut file| file.read(&mut start))
        .with_context(|| source.to_owned())?;
    if start[..length].starts_with(b"SQLite format 3") {
        let text = Reader::open(path)?.schema_text()?;
        return DatabaseSchema::from_text(&text).with_context(|| source.to_owned());
    }
    if ovsdb_file::is_ovsdb_file(path).unwrap_or(false) {
        return Ok(ovsdb_file::open(path)?.schema);
    }
    Ok(read_file(path)?.1)
}

fn read_file(file: &Path) -> Result<(String, DatabaseSchema)> {
    let text = read_text(file)?;
    let schema = DatabaseSchema::from_text(&text)
        .with_context(|| format!("{}: see `nonnet schema check` for every fault", source_name(file)))?;
    Ok((text, schema))
}

/// The server that an argument names; None for a file.
fn address_of(text: &str) -> Option<Address> {
    let is_socket = std::fs::metadata(text).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket {
        return Some(Address::Unix(text.into()));
    }
    let is_remote = ["unix:", "tcp:", "ssl:"].iter().any(|prefix| text.starts_with(prefix));
    text.parse().ok().filter(|_| is_remote)
}

async fn convert_served(address: &Address, schema: &DatabaseSchema, output: &mut Output) -> Result<u8> {
    let connection = Connection::connect(address).await?;
    let old = connection.get_schema(&schema.name).await?;
    // So that the server does not close the connection over it.
    connection.call("set_db_change_aware", vec![true.into()]).await?;
    let params = vec![schema.name.as_str().into(), schema.to_json()];
    connection.call("convert", params).await?;
    report(&old, schema, &address.to_string(), output)
}

fn convert_file(path: &Path, schema: &DatabaseSchema, output: &mut Output) -> Result<u8> {
    let old = Reader::open(path)?.schema_text()?;
    let old = DatabaseSchema::from_text(&old).with_context(|| path.display().to_string())?;
    if old.name != schema.name {
        bail!("{} is {}, the schema is of {}", path.display(), old.name, schema.name);
    }
    let conversion = Conversion {
        author: origin::author("nonnet", "schema convert"),
        moment: origin::moment(),
        seed: origin::seed()?,
    };
    match nonnet_store::convert(path, schema, &conversion) {
        Err(error @ ConvertError::Open(OpenError::InUse { .. })) => {
            Err(error).context("name the server's socket instead of the file, to convert what it serves")
        }
        Err(error) => Err(error.into()),
        Ok(_) => report(&old, schema, &path.display().to_string(), output),
    }
}

fn report(old: &DatabaseSchema, new: &DatabaseSchema, place: &str, output: &mut Output) -> Result<u8> {
    if output.is_json() {
        let versions = json!({"from": old.version.as_str(), "to": new.version.as_str()});
        output.json(&json!({"at": place, "database": new.name.as_str(), "version": versions}))?;
    } else {
        let version = |schema: &DatabaseSchema| match schema.version.as_str() {
            "" => "no version".to_owned(),
            version => format!("version {version}"),
        };
        let line = format!(
            "{place}: {} converted from {} to {}",
            new.name,
            version(old),
            version(new)
        );
        let line = output.coloured(Colour::Green, &line);
        output.line(&line)?;
    }
    Ok(0)
}
