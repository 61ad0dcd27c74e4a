//! `relay:DATABASE:REMOTE[,REMOTE]...`, which stands in the place of a file (ovsdb-server(1)).

use std::fmt;
use std::path::Path;

use ecow::EcoString;
use nonnet_schema::json;

use crate::source::SourceRemote;

/// A database that is relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelayArgument {
    pub(crate) database: EcoString,
    /// Tried in turn.
    pub(crate) remotes: Vec<SourceRemote>,
}

impl RelayArgument {
    /// Reads the argument; None for the path of a file. Remotes with a path are found from `directory`.
    ///
    /// # Errors
    /// In words that begin with the argument.
    pub(crate) fn parse(argument: &Path, directory: &Path) -> Option<Result<Self, String>> {
        let text = argument.to_str()?;
        let relay = text.strip_prefix("relay:")?;
        let parse = || -> Result<Self, String> {
            let (database, remotes) = relay.split_once(':').ok_or_else(|| format!("{text}: invalid syntax"))?;
            if !json::is_id(database) || database.starts_with('_') {
                return Err(format!("{text}: \"{database}\" is no name of a database"));
            }
            let mut remotes = SourceRemote::parse_list(remotes).map_err(|error| format!("{text}: {error}"))?;
            for remote in &mut remotes {
                remote.settle(directory);
            }
            Ok(Self {
                database: database.into(),
                remotes,
            })
        };
        Some(parse())
    }

    /// The argument again, with every path in full.
    pub(crate) fn to_argument(&self) -> String {
        let remotes: Vec<String> = self.remotes.iter().map(ToString::to_string).collect();
        format!("relay:{}:{}", self.database, remotes.join(","))
    }
}

impl fmt::Display for RelayArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remotes: Vec<String> = self.remotes.iter().map(ToString::to_string).collect();
        write!(f, "{} relayed from {}", self.database, remotes.join(" or "))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Result<RelayArgument, String>> {
        RelayArgument::parse(Path::new(text), Path::new("/here"))
    }

    #[test]
    fn a_relay_is_told_from_a_file() {
        let relay = parse("relay:db:unix:a.sock,tcp:127.0.0.1").unwrap().unwrap();
        assert_eq!(
            relay.to_string(),
            "db relayed from unix:/here/a.sock or tcp:127.0.0.1:6640"
        );
        assert_eq!(parse(&relay.to_argument()), Some(Ok(relay)));
        assert_eq!(parse("dir/relay:db:unix:a"), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parse("relay:db").unwrap().unwrap_err(), "relay:db: invalid syntax");
        assert!(parse("relay:_Server:unix:a").unwrap().unwrap_err().contains("_Server"));
        assert!(parse("relay:db:bogus:x").unwrap().unwrap_err().contains("bogus:x"));
    }
}
