//! What is said where: a level for each destination and module (ovs-appctl(8), "vlog/set").

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

/// The module that logs the rows which transactions change; ovsdb-server has it by the same name.
pub(crate) const TRANSACTION: &str = "transaction";

/// The modules by the names that operators use, each with the crate that speaks under it. The second half are ovsdb-server's names for
/// what is one of ours.
const MODULES: [(&str, &str); 14] = [
    ("chain", "nonnet_chain"),
    ("daemon", "nonnetd"),
    ("gateway", "nonnet_gateway"),
    ("hooks", "nonnet_hooks"),
    ("kernel", "nonnet_kernel"),
    ("rpc", "nonnet_rpc"),
    ("sessions", "nonnet_sessions"),
    ("socket_util", "socket_util"),
    ("store", "nonnet_store"),
    (TRANSACTION, TRANSACTION),
    ("jsonrpc", "nonnet_rpc"),
    ("ovsdb_jsonrpc_server", "nonnet_rpc"),
    ("ovsdb_log", "nonnet_store"),
    ("ovsdb_server", "nonnetd"),
];

/// How many of [`MODULES`] are our own names.
const OWN_MODULES: usize = 10;

/// ovsdb-server's names of levels, each with ours.
const LEVELS: [(&str, &str); 6] = [
    ("off", "off"),
    ("emer", "error"),
    ("err", "error"),
    ("warn", "warn"),
    ("info", "info"),
    ("dbg", "debug"),
];

/// The facilities of syslog (ovsdb-server(1), "--verbose=FACILITY").
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "clock", "ftp", "ntp", "audit", "alert",
    "clock2", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7", "authpriv",
];

/// Where a log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Console,
    /// Accepted and without effect: whoever starts the server sends its standard error there.
    Syslog,
    File,
}

/// One change of levels: `[MODULE:][DESTINATION:][LEVEL]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// The crate; None for all.
    module: Option<&'static str>,
    /// None for all.
    destination: Option<Destination>,
    /// ovsdb-server's name.
    level: &'static str,
}

/// Why a text is no [`Spec`]; the words are ovsdb-server's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum SpecError {
    #[error("no destination, level, or module \"{0}\"")]
    Unknown(String),
    #[error("cannot specify multiple {0}")]
    Repeated(&'static str),
    #[error("invalid facility")]
    Facility,
    /// Scripts read the lines in the form that they have.
    #[error("the form of log lines cannot be changed; vlog/list-pattern shows it")]
    Pattern,
}

/// All levels.
pub(crate) struct Levels {
    console: Level,
    syslog: Level,
    file: Level,
}

struct Level {
    all: &'static str,
    modules: BTreeMap<&'static str, &'static str>,
}

impl Spec {
    /// Reads the arguments of `vlog/set`; none means `dbg` for everything. A facility is taken note of by nobody, since nothing is sent to
    /// syslog.
    ///
    /// # Errors
    /// [`SpecError`]
    pub(crate) fn parse_all(texts: &[String]) -> Result<Vec<Self>, SpecError> {
        let mut specs = Vec::new();
        if texts.is_empty() {
            specs.push(Self::parse("")?);
        }
        for text in texts {
            let lower = text.to_ascii_lowercase();
            match lower.split_once(':') {
                Some(("pattern", _)) => return Err(SpecError::Pattern),
                Some(("facility", name)) if FACILITIES.contains(&name) => {}
                Some(("facility", _)) => return Err(SpecError::Facility),
                _ => specs.push(Self::parse(text)?),
            }
        }
        Ok(specs)
    }

    /// Reads a change of levels in ovsdb-server's notation; an empty one means `dbg` for everything.
    ///
    /// # Errors
    /// [`SpecError`]
    pub(crate) fn parse(text: &str) -> Result<Self, SpecError> {
        let (mut module, mut destination, mut level) = (None, None, None);
        for word in text.split([' ', ',', ':']).filter(|word| !word.is_empty()) {
            let lower = word.to_ascii_lowercase();
            if let Some(found) = destination_named(&lower) {
                put(&mut destination, found, "destinations")?;
            } else if let Some((name, _)) = LEVELS.iter().find(|(name, _)| *name == lower) {
                put(&mut level, *name, "levels")?;
            } else if let Some((_, target)) = MODULES.iter().find(|(name, _)| *name == lower.replace('-', "_")) {
                put(&mut module, *target, "modules")?;
            } else if lower != "any" {
                return Err(SpecError::Unknown(word.to_owned()));
            }
        }
        Ok(Self {
            module,
            destination,
            level: level.unwrap_or("dbg"),
        })
    }

    /// Only warnings and errors on standard error.
    pub(crate) fn warnings_on_console() -> Self {
        Self {
            module: None,
            destination: Some(Destination::Console),
            level: "warn",
        }
    }

    /// Whether it changes that destination.
    pub(crate) fn concerns(&self, destination: Destination) -> bool {
        self.destination.is_none_or(|own| own == destination)
    }
}

impl Levels {
    /// `info`, or `dbg` where the command line has `-v`.
    pub(crate) fn new(verbose: u8) -> Self {
        let level = |all| Level {
            all,
            modules: BTreeMap::new(),
        };
        let chosen = if verbose == 0 { "info" } else { "dbg" };
        let mut levels = Self {
            console: level(chosen),
            syslog: level("off"),
            file: level(chosen),
        };
        if verbose > 1 {
            levels.console.all = "trace";
            levels.file.all = "trace";
        }
        levels
    }

    pub(crate) fn set(&mut self, spec: &Spec) {
        for destination in [Destination::Console, Destination::Syslog, Destination::File] {
            if !spec.concerns(destination) {
                continue;
            }
            let level = match destination {
                Destination::Console => &mut self.console,
                Destination::Syslog => &mut self.syslog,
                Destination::File => &mut self.file,
            };
            if let Some(module) = spec.module {
                level.modules.insert(module, spec.level);
            } else {
                level.all = spec.level;
                level.modules.clear();
            }
        }
    }

    /// A destination's levels in `tracing`'s notation.
    pub(crate) fn directives(&self, destination: Destination) -> String {
        let level = match destination {
            Destination::Console => &self.console,
            Destination::Syslog => &self.syslog,
            Destination::File => &self.file,
        };
        let mut text = our_name(level.all).to_owned();
        for (module, level) in &level.modules {
            text = format!("{text},{module}={}", our_name(level));
        }
        text
    }
}

impl fmt::Display for Levels {
    /// The table of `vlog/list`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "                 console    syslog    file")?;
        writeln!(f, "                 -------    ------    ------")?;
        for (name, target) in MODULES.iter().take(OWN_MODULES) {
            let of = |level: &Level| level.modules.get(target).unwrap_or(&level.all).to_ascii_uppercase();
            let (console, syslog, file) = (of(&self.console), of(&self.syslog), of(&self.file));
            writeln!(f, "{name:16}  {console:>4}       {syslog:>4}       {file:>4}")?;
        }
        Ok(())
    }
}

/// Whether operators know a module of that name.
pub(crate) fn is_module(name: &str) -> bool {
    MODULES.iter().any(|(module, _)| *module == name)
}

/// The name of the module that a crate speaks under.
pub(crate) fn module_of(target: &str) -> &str {
    let top = target.split("::").next().unwrap_or(target);
    MODULES
        .iter()
        .find(|(_, name)| *name == top)
        .map_or(top, |(module, _)| module)
}

fn destination_named(word: &str) -> Option<Destination> {
    match word {
        "console" => Some(Destination::Console),
        "syslog" => Some(Destination::Syslog),
        "file" => Some(Destination::File),
        _ => None,
    }
}

fn put<T>(place: &mut Option<T>, value: T, what: &'static str) -> Result<(), SpecError> {
    match place.replace(value) {
        Some(_) => Err(SpecError::Repeated(what)),
        None => Ok(()),
    }
}

/// `tracing`'s name of a level; those that ovsdb-server does not have are its own.
fn our_name(level: &'static str) -> &'static str {
    LEVELS
        .iter()
        .find(|(name, _)| *name == level)
        .map_or(level, |(_, ours)| ours)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn words_come_in_any_order_and_change_only_what_they_name() {
        let mut levels = Levels::new(0);
        levels.set(&Spec::parse("dbg:file:jsonrpc").unwrap());
        levels.set(&Spec::parse("console:off").unwrap());
        assert_eq!(levels.directives(Destination::File), "info,nonnet_rpc=debug");
        assert_eq!(levels.directives(Destination::Console), "off");
        levels.set(&Spec::parse("ANY:ANY:warn").unwrap());
        assert_eq!(levels.directives(Destination::File), "warn");
    }

    #[test]
    fn unknown_words_are_named() {
        let error = Spec::parse("bogus").unwrap_err();
        assert_eq!(error.to_string(), "no destination, level, or module \"bogus\"");
        assert_eq!(Spec::parse("dbg:info").unwrap_err(), SpecError::Repeated("levels"));
    }
}
