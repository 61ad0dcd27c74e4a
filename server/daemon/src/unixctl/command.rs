//! The commands of the control socket: their names, their arguments, and the words for what is wrong with those (ovs-appctl(8)).

use std::fmt::Write as _;
use std::path::PathBuf;

/// Each command with its arguments as shown, and how few and how many it takes.
const COMMANDS: &[(&str, &str, usize, usize)] = &[
    ("coverage/read-counter", "COUNTER", 1, 1),
    ("coverage/show", "", 0, 0),
    ("exit", "", 0, 0),
    ("list-commands", "", 0, 0),
    ("memory/show", "", 0, 0),
    ("ovsdb-server/add-db", "DB", 1, 1),
    ("ovsdb-server/add-remote", "REMOTE", 1, 1),
    ("ovsdb-server/compact", "[DB]", 0, 1),
    ("ovsdb-server/connect-active-ovsdb-server", "", 0, 0),
    ("ovsdb-server/disable-monitor-cond", "", 0, 0),
    ("ovsdb-server/disconnect-active-ovsdb-server", "", 0, 0),
    ("ovsdb-server/get-active-ovsdb-server", "", 0, 0),
    ("ovsdb-server/get-db-storage-status", "DB", 1, 1),
    ("ovsdb-server/get-sync-exclude-tables", "", 0, 0),
    ("ovsdb-server/list-dbs", "", 0, 0),
    ("ovsdb-server/list-remotes", "", 0, 0),
    ("ovsdb-server/memory-trim-on-compaction", "on|off", 1, 1),
    ("ovsdb-server/perf-counters-clear", "", 0, 0),
    ("ovsdb-server/perf-counters-show", "", 0, 0),
    ("ovsdb-server/reconnect", "", 0, 0),
    ("ovsdb-server/reload", "", 0, 0),
    ("ovsdb-server/remove-db", "DB", 1, 1),
    ("ovsdb-server/remove-remote", "REMOTE", 1, 1),
    ("ovsdb-server/set-active-ovsdb-server", "", 1, 1),
    ("ovsdb-server/set-active-ovsdb-server-probe-interval", "", 1, 1),
    ("ovsdb-server/set-relay-source-probe-interval", "", 1, 1),
    ("ovsdb-server/set-sync-exclude-tables", "", 1, 1),
    ("ovsdb-server/sync-status", "", 0, 0),
    ("ovsdb-server/tlog-list", "", 0, 0),
    ("ovsdb-server/tlog-set", "DB:TABLE on|off", 2, 2),
    (SET_OPTIONS, "[--format text|json]", 1, 2),
    ("version", "", 0, 0),
    ("vlog/close", "", 0, 0),
    ("vlog/disable-rate-limit", "[module]...", 0, usize::MAX),
    ("vlog/enable-rate-limit", "[module]...", 0, usize::MAX),
    ("vlog/list", "", 0, 0),
    ("vlog/list-pattern", "", 0, 0),
    ("vlog/reopen", "", 0, 0),
    ("vlog/set", "{spec | PATTERN:destination:pattern}", 0, usize::MAX),
];

/// The command that is about the connection it comes on.
pub(crate) const SET_OPTIONS: &str = "set-options";

/// Something the operator wants, with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    CoverageRead,
    CoverageShow,
    DisableMonitorCond,
    Exit,
    ListCommands,
    MemoryShow,
    AddDatabase(PathBuf),
    AddRemote(String),
    Compact(Option<String>),
    StorageStatus(String),
    ListDatabases,
    ListRemotes,
    MemoryTrim(String),
    PerfCountersClear,
    PerfCountersShow,
    Reconnect,
    Reload,
    RemoveDatabase(String),
    RemoveRemote(String),
    SetRelayProbe(String),
    ActiveServer,
    ConnectActive,
    DisconnectActive,
    ExcludedTables,
    SetActiveProbe(String),
    SetActiveServer(String),
    SetExcludedTables(String),
    SyncStatus,
    TlogList,
    /// A table as `DB:TABLE`, and `on` or `off`.
    TlogSet(String, String),
    Version,
    VlogClose,
    VlogList,
    VlogListPattern,
    /// Whether lines are limited, for these modules.
    VlogRateLimit(bool, Vec<String>),
    VlogReopen,
    VlogSet(Vec<String>),
}

impl Order {
    /// Reads a command and its arguments.
    ///
    /// # Errors
    /// ovsdb-server's words for a command that does not exist, or has too few or too many arguments.
    pub(crate) fn parse(command: &str, arguments: Vec<String>) -> Result<Self, String> {
        check_count(command, &arguments)?;
        match command {
            "vlog/set" => return Ok(Self::VlogSet(arguments)),
            "vlog/enable-rate-limit" => return Ok(Self::VlogRateLimit(true, arguments)),
            "vlog/disable-rate-limit" => return Ok(Self::VlogRateLimit(false, arguments)),
            _ => {}
        }
        let mut arguments = arguments.into_iter();
        Ok(Self::with_arguments(command, arguments.next(), arguments.next()))
    }

    /// Whether it changes what a configuration file says, where there is one.
    pub(crate) fn changes_configuration(&self) -> bool {
        matches!(
            self,
            Self::AddDatabase(_)
                | Self::AddRemote(_)
                | Self::ConnectActive
                | Self::DisconnectActive
                | Self::RemoveDatabase(_)
                | Self::RemoveRemote(_)
                | Self::SetActiveProbe(_)
                | Self::SetActiveServer(_)
                | Self::SetExcludedTables(_)
                | Self::SetRelayProbe(_)
        )
    }

    /// A command that takes at most two arguments, which are there where they must be.
    fn with_arguments(command: &str, first: Option<String>, second: Option<String>) -> Self {
        if command == "ovsdb-server/compact" {
            return Self::Compact(first);
        }
        let argument = first.unwrap_or_default();
        match command {
            "coverage/read-counter" => Self::CoverageRead,
            "coverage/show" => Self::CoverageShow,
            "exit" => Self::Exit,
            "memory/show" => Self::MemoryShow,
            "ovsdb-server/add-db" => Self::AddDatabase(PathBuf::from(argument)),
            "ovsdb-server/add-remote" => Self::AddRemote(argument),
            "ovsdb-server/disable-monitor-cond" => Self::DisableMonitorCond,
            "ovsdb-server/get-db-storage-status" => Self::StorageStatus(argument),
            "ovsdb-server/list-dbs" => Self::ListDatabases,
            "ovsdb-server/list-remotes" => Self::ListRemotes,
            "ovsdb-server/memory-trim-on-compaction" => Self::MemoryTrim(argument),
            "ovsdb-server/perf-counters-clear" => Self::PerfCountersClear,
            "ovsdb-server/perf-counters-show" => Self::PerfCountersShow,
            "ovsdb-server/reconnect" => Self::Reconnect,
            "ovsdb-server/reload" => Self::Reload,
            "ovsdb-server/remove-db" => Self::RemoveDatabase(argument),
            "ovsdb-server/remove-remote" => Self::RemoveRemote(argument),
            "ovsdb-server/connect-active-ovsdb-server" => Self::ConnectActive,
            "ovsdb-server/disconnect-active-ovsdb-server" => Self::DisconnectActive,
            "ovsdb-server/get-active-ovsdb-server" => Self::ActiveServer,
            "ovsdb-server/get-sync-exclude-tables" => Self::ExcludedTables,
            "ovsdb-server/set-active-ovsdb-server" => Self::SetActiveServer(argument),
            "ovsdb-server/set-active-ovsdb-server-probe-interval" => Self::SetActiveProbe(argument),
            "ovsdb-server/set-sync-exclude-tables" => Self::SetExcludedTables(argument),
            "ovsdb-server/set-relay-source-probe-interval" => Self::SetRelayProbe(argument),
            "ovsdb-server/sync-status" => Self::SyncStatus,
            "ovsdb-server/tlog-list" => Self::TlogList,
            "ovsdb-server/tlog-set" => Self::TlogSet(argument, second.unwrap_or_default()),
            "version" => Self::Version,
            "vlog/close" => Self::VlogClose,
            "vlog/list-pattern" => Self::VlogListPattern,
            "vlog/list" => Self::VlogList,
            "vlog/reopen" => Self::VlogReopen,
            _ => Self::ListCommands,
        }
    }
}

/// Refuses a command that does not exist, and too few or too many arguments.
///
/// # Errors
/// ovsdb-server's words.
pub(crate) fn check_count(command: &str, arguments: &[String]) -> Result<(), String> {
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
    Ok(())
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
        for (name, _, min, _) in COMMANDS.iter().filter(|(name, ..)| *name != SET_OPTIONS) {
            let order = Order::parse(name, vec![String::from("x"); *min]).unwrap();
            assert_eq!(order == Order::ListCommands, *name == "list-commands", "{name}");
        }
    }
}
