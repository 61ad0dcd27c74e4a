//! The commands of the control socket: their names, their arguments, and the words for what is wrong with those (ovs-appctl(8)).

use std::fmt::Write as _;
use std::path::PathBuf;

/// Each command with its arguments as shown, and how few and how many it takes.
const COMMANDS: [(&str, &str, usize, usize); 18] = [
    ("coverage/show", "", 0, 0),
    ("exit", "", 0, 0),
    ("list-commands", "", 0, 0),
    ("memory/show", "", 0, 0),
    ("ovsdb-server/add-db", "DB", 1, 1),
    ("ovsdb-server/add-remote", "REMOTE", 1, 1),
    ("ovsdb-server/compact", "[DB]", 0, 1),
    ("ovsdb-server/get-db-storage-status", "DB", 1, 1),
    ("ovsdb-server/list-dbs", "", 0, 0),
    ("ovsdb-server/list-remotes", "", 0, 0),
    ("ovsdb-server/reconnect", "", 0, 0),
    ("ovsdb-server/remove-db", "DB", 1, 1),
    ("ovsdb-server/remove-remote", "REMOTE", 1, 1),
    ("ovsdb-server/sync-status", "", 0, 0),
    ("version", "", 0, 0),
    ("vlog/list", "", 0, 0),
    ("vlog/reopen", "", 0, 0),
    ("vlog/set", "[SPEC]...", 0, usize::MAX),
];

/// Something the operator wants, with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    CoverageShow,
    Exit,
    ListCommands,
    MemoryShow,
    AddDatabase(PathBuf),
    AddRemote(String),
    Compact(Option<String>),
    StorageStatus(String),
    ListDatabases,
    ListRemotes,
    Reconnect,
    RemoveDatabase(String),
    RemoveRemote(String),
    SyncStatus,
    Version,
    VlogList,
    VlogReopen,
    VlogSet(Vec<String>),
}

impl Order {
    /// Reads a command and its arguments.
    ///
    /// # Errors
    /// ovsdb-server's words for a command that does not exist, or has too few or too many arguments.
    pub(crate) fn parse(command: &str, arguments: Vec<String>) -> Result<Self, String> {
        let Some((_, _, min, max)) = COMMANDS.iter().find(|(name, ..)| *name == command) else {
            return Err(format!(
                "\"{command}\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
            ));
        };
        if arguments.len() < *min {
            return Err(format!("\"{command}\" command requires at least {min} arguments"));
        }
        if arguments.len() > *max {
            return Err(format!("\"{command}\" command takes at most {max} arguments"));
        }
        if command == "vlog/set" {
            return Ok(Self::VlogSet(arguments));
        }
        let first = arguments.into_iter().next();
        Ok(Self::with_argument(command, first))
    }

    /// A command that takes at most one argument, which is there where it must be.
    fn with_argument(command: &str, argument: Option<String>) -> Self {
        if command == "ovsdb-server/compact" {
            return Self::Compact(argument);
        }
        let argument = argument.unwrap_or_default();
        match command {
            "coverage/show" => Self::CoverageShow,
            "exit" => Self::Exit,
            "memory/show" => Self::MemoryShow,
            "ovsdb-server/add-db" => Self::AddDatabase(PathBuf::from(argument)),
            "ovsdb-server/add-remote" => Self::AddRemote(argument),
            "ovsdb-server/get-db-storage-status" => Self::StorageStatus(argument),
            "ovsdb-server/list-dbs" => Self::ListDatabases,
            "ovsdb-server/list-remotes" => Self::ListRemotes,
            "ovsdb-server/reconnect" => Self::Reconnect,
            "ovsdb-server/remove-db" => Self::RemoveDatabase(argument),
            "ovsdb-server/remove-remote" => Self::RemoveRemote(argument),
            "ovsdb-server/sync-status" => Self::SyncStatus,
            "version" => Self::Version,
            "vlog/list" => Self::VlogList,
            "vlog/reopen" => Self::VlogReopen,
            _ => Self::ListCommands,
        }
    }
}

/// The answer to `list-commands`.
pub(crate) fn list() -> String {
    let mut text = String::from("The available commands are:\n");
    for (name, arguments, ..) in COMMANDS {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:23} {arguments}");
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn every_listed_command_is_understood_as_itself() {
        for (name, _, min, _) in COMMANDS {
            let order = Order::parse(name, vec![String::from("x"); min]).unwrap();
            assert_eq!(order == Order::ListCommands, name == "list-commands", "{name}");
        }
    }
}
