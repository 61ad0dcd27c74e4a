//! The configuration file: remotes with their options, and databases (`--config-file`, ovsdb-server(1) of Open vSwitch 3.3 and later).
//!
//! `{"remotes": {TARGET: {"max-backoff", "inactivity-probe", "dscp", "read-only", "role"} or null},
//! "databases": {FILE or NAME: {"service-model", "source", "backup", "exclude-tables"} or null}}`. A file is taken as a whole or not at all.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nonnet_rpc::RemoteOptions;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::remotes::{DbColumn, Named};

/// Bytes of a configuration file at most: it is read at once, and a thousand remotes take a tenth of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The largest differentiated services code point.
const DSCP_MAX: u64 = 63;

/// What a file asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) remotes: Named,
    /// By file, or by name where the rows come from elsewhere.
    pub(crate) databases: BTreeMap<String, Service>,
}

/// How a database is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// From its file.
    Standalone,
    /// From another server.
    Relay(Source),
    /// From its file, which follows another server's where `backup` is set.
    ActiveBackup {
        source: Option<Source>,
        backup: bool,
        exclude_tables: Vec<String>,
    },
}

/// The server that rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) remote: String,
    pub(crate) options: RemoteOptions,
}

/// What is wrong in which file.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub(crate) struct ConfigurationError {
    path: PathBuf,
    problem: Problem,
}

/// What is wrong.
#[derive(Debug, Error)]
enum Problem {
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("it has {0} bytes, and may have {FILE_BYTES_MAX}")]
    TooLong(u64),
    /// It names line and column.
    #[error("no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0} {1}")]
    At(Place, String),
}

/// A place in the file: the members on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place(Vec<String>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the configuration");
        }
        let members: Vec<String> = self.0.iter().map(|member| format!("\"{member}\"")).collect();
        f.write_str(&members.join(" > "))
    }
}

impl Place {
    fn member(&self, name: &str) -> Self {
        let mut members = self.0.clone();
        members.push(name.to_owned());
        Self(members)
    }

    fn wrong(&self, what: impl Into<String>) -> Problem {
        Problem::At(self.clone(), what.into())
    }
}

impl Configuration {
    /// Reads a file.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigurationError> {
        let read = || {
            let bytes = std::fs::metadata(path)?.len();
            if bytes > FILE_BYTES_MAX {
                return Err(Problem::TooLong(bytes));
            }
            Self::parse(&std::fs::read_to_string(path)?)
        };
        read().map_err(|problem| ConfigurationError {
            path: path.to_owned(),
            problem,
        })
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let json: Value = serde_json::from_str(text)?;
        let top = Place(Vec::new());
        let mut members = Members::of(&json, &top)?;
        let mut configuration = Self::default();
        if let Some(remotes) = members.take_object("remotes")? {
            for (target, options) in remotes.members {
                let place = remotes.place.member(target);
                configuration
                    .remotes
                    .insert(target.clone(), parse_remote(target, options, &place)?);
            }
        }
        if let Some(databases) = members.take_object("databases")? {
            for (name, service) in databases.members {
                let place = databases.place.member(name);
                configuration
                    .databases
                    .insert(name.clone(), parse_service(service, &place)?);
            }
        }
        members.finish()?;
        Ok(configuration)
    }
}

fn parse_remote(target: &str, options: &Value, place: &Place) -> Result<RemoteOptions, Problem> {
    let checked = if DbColumn::is_named_by(target) {
        target.parse::<DbColumn>().map(drop).map_err(|error| error.to_string())
    } else if target.starts_with("pfd:") {
        Err("pfd: remotes can only be specified on the command line".to_owned())
    } else {
        let parsed = target.parse::<nonnet_rpc::Remote>();
        parsed.map(drop).map_err(|error| error.to_string())
    };
    checked.map_err(|error| place.wrong(format!("is no remote: {error}")))?;
    parse_options(options, place, true)
}

/// Options of a remote; `read-only` and `role` have a meaning only where sessions come of it.
fn parse_options(options: &Value, place: &Place, has_sessions: bool) -> Result<RemoteOptions, Problem> {
    let mut parsed = RemoteOptions::default();
    if options.is_null() {
        return Ok(parsed);
    }
    let mut members = Members::of(options, place)?;
    if let Some(milliseconds) = members.take_number("max-backoff", u64::MAX)? {
        parsed.max_backoff = Duration::from_millis(milliseconds);
    }
    let probe = members.take_number("inactivity-probe", u64::MAX)?;
    parsed.inactivity_probe = probe.map(Duration::from_millis);
    let dscp = members.take_number("dscp", DSCP_MAX)?;
    parsed.dscp = dscp.and_then(|dscp| u8::try_from(dscp).ok());
    if has_sessions {
        parsed.read_only = members.take_bool("read-only")?.unwrap_or(false);
        parsed.role = members.take_text("role")?.unwrap_or_default().into();
    }
    members.finish()?;
    Ok(parsed)
}

fn parse_service(json: &Value, place: &Place) -> Result<Service, Problem> {
    if json.is_null() {
        return Ok(Service::Standalone);
    }
    let mut members = Members::of(json, place)?;
    let service = match members.take_text("service-model")? {
        None | Some("standalone") => Service::Standalone,
        Some("relay") => Service::Relay(parse_source(&mut members)?.ok_or_else(|| place.wrong("has no \"source\""))?),
        Some("active-backup") => parse_active_backup(&mut members)?,
        Some("clustered") => {
            let place = place.member("service-model");
            return Err(place.wrong("is \"clustered\", which nonnetd does not serve"));
        }
        Some(other) => {
            let place = place.member("service-model");
            return Err(place.wrong(format!("is \"{other}\", not standalone, relay or active-backup")));
        }
    };
    members.finish()?;
    Ok(service)
}

fn parse_active_backup(members: &mut Members<'_>) -> Result<Service, Problem> {
    let place = members.place.clone();
    let backup = members
        .take_bool("backup")?
        .ok_or_else(|| place.wrong("has no \"backup\""))?;
    let source = parse_source(members)?;
    if backup && source.is_none() {
        return Err(place.wrong("is a backup and has no \"source\""));
    }
    let mut exclude_tables = Vec::new();
    if let Some(tables) = members.take("exclude-tables") {
        let wrong = || place.member("exclude-tables").wrong("is not an array of strings");
        for table in tables.as_array().ok_or_else(wrong)? {
            exclude_tables.push(table.as_str().ok_or_else(wrong)?.to_owned());
        }
    }
    Ok(Service::ActiveBackup {
        source,
        backup,
        exclude_tables,
    })
}

/// `{REMOTE: options}` or `{REMOTE: null}`.
fn parse_source(members: &mut Members<'_>) -> Result<Option<Source>, Problem> {
    let Some(source) = members.take_object("source")? else {
        return Ok(None);
    };
    let mut remotes = source.members.into_iter();
    let (Some((remote, options)), None) = (remotes.next(), remotes.next()) else {
        return Err(source.place.wrong("is not an object of exactly one remote"));
    };
    let options = parse_options(options, &source.place.member(remote), false)?;
    let remote = remote.clone();
    Ok(Some(Source { remote, options }))
}

/// The members of an object that nobody has taken yet.
struct Members<'a> {
    place: Place,
    members: BTreeMap<&'a String, &'a Value>,
}

impl<'a> Members<'a> {
    fn of(json: &'a Value, place: &Place) -> Result<Self, Problem> {
        let object: &Map<String, Value> = json.as_object().ok_or_else(|| place.wrong("is not an object"))?;
        Ok(Self {
            place: place.clone(),
            members: object.iter().collect(),
        })
    }

    /// A member that is there and not null.
    fn take(&mut self, name: &str) -> Option<&'a Value> {
        self.members.remove(&name.to_owned()).filter(|json| !json.is_null())
    }

    fn take_object(&mut self, name: &str) -> Result<Option<Self>, Problem> {
        let place = self.place.member(name);
        self.take(name).map(|json| Self::of(json, &place)).transpose()
    }

    fn take_number(&mut self, name: &str, max: u64) -> Result<Option<u64>, Problem> {
        let Some(json) = self.take(name) else {
            return Ok(None);
        };
        let number = json.as_u64().filter(|number| *number <= max);
        let wrong = || {
            let range = if max == u64::MAX {
                "from 0 on".to_owned()
            } else {
                format!("from 0 to {max}")
            };
            self.place
                .member(name)
                .wrong(format!("is {json}, not an integer {range}"))
        };
        Ok(Some(number.ok_or_else(wrong)?))
    }

    fn take_bool(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        let place = self.place.member(name);
        let as_bool = |json: &Value| {
            json.as_bool()
                .ok_or_else(|| place.wrong(format!("is {json}, not a boolean")))
        };
        self.take(name).map(as_bool).transpose()
    }

    fn take_text(&mut self, name: &str) -> Result<Option<&'a str>, Problem> {
        let place = self.place.member(name);
        let as_text = |json: &'a Value| {
            json.as_str()
                .ok_or_else(|| place.wrong(format!("is {json}, not a string")))
        };
        self.take(name).map(as_text).transpose()
    }

    /// Refuses what nobody has taken.
    fn finish(self) -> Result<(), Problem> {
        match self.members.into_iter().find(|(_, json)| !json.is_null()) {
            Some((name, _)) => Err(self
                .place
                .wrong(format!("has a member \"{name}\", which means nothing there"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn remotes_and_databases_are_read_with_their_options() {
        let text = r#"{"remotes": {"ptcp:0": {"inactivity-probe": 500, "max-backoff": 2000, "dscp": 10, "read-only": true,
            "role": "r"}, "punix:/x": null, "db:D,t,c": {}},
            "databases": {"a.db": null, "b.db": {"service-model": "standalone"},
            "C": {"service-model": "relay", "source": {"unix:/y": {"max-backoff": 1000}}},
            "d.db": {"service-model": "active-backup", "backup": false, "exclude-tables": ["t"]}}}"#;
        let read = Configuration::parse(text).unwrap();
        let options = &read.remotes["ptcp:0"];
        assert_eq!((options.dscp, options.read_only, &*options.role), (Some(10), true, "r"));
        assert_eq!(options.inactivity_probe, Some(Duration::from_millis(500)));
        assert_eq!(read.remotes["punix:/x"], RemoteOptions::default());
        assert_eq!(read.databases["a.db"], Service::Standalone);
        assert!(matches!(&read.databases["C"], Service::Relay(source) if source.remote == "unix:/y"));
        assert_eq!(Configuration::parse("{}").unwrap(), Configuration::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let check = |text: &str, expected: &str| {
            let error = Configuration::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("{\n \"remotes\": }", "line 2 column 13");
        check("[]", "the configuration is not an object");
        check(r#"{"remote": {}}"#, "the configuration has a member \"remote\"");
        check(r#"{"remotes": 3}"#, "\"remotes\" is not an object");
        check(
            r#"{"remotes": {"ptcp:x": {}}}"#,
            "\"remotes\" > \"ptcp:x\" is no remote",
        );
        check(r#"{"remotes": {"db:x": {}}}"#, "invalid syntax");
        check(
            r#"{"remotes": {"ptcp:1": {"dscp": 64}}}"#,
            "\"remotes\" > \"ptcp:1\" > \"dscp\" is 64, not an integer from 0 to 63",
        );
        check(r#"{"remotes": {"ptcp:1": {"role": 1}}}"#, "\"role\" is 1, not a string");
        check(
            r#"{"databases": {"a": {"service-model": "clustered"}}}"#,
            "does not serve",
        );
        check(
            r#"{"databases": {"a": {"service-model": "relay"}}}"#,
            "has no \"source\"",
        );
        check(
            r#"{"databases": {"a": {"service-model": "relay", "source": {}}}}"#,
            "exactly one remote",
        );
        check(
            r#"{"databases": {"a": {"backup": true}}}"#,
            "\"databases\" > \"a\" has a member \"backup\", which means nothing there",
        );
    }
}
