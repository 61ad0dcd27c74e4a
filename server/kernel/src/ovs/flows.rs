//! Flows of bridges of Open vSwitch, by `ovs-ofctl`: what guards ports is written and read here.
//!
//! Flows are nonnet's by their cookie, whose other bits say what is in them. What changes at once changes in one bundle of `OpenFlow` 1.4; what carries
//! another cookie is never touched. A process takes some milliseconds, in which the calling thread waits.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use ecow::{EcoString, eco_format};
use nonnet_client::Address;
use nonnet_hooks::name::LinkName;
use nonnet_hooks::object::{ANEW, COOKIE, DROP, OvsGuard, OvsGuardTrace};

use crate::limits::{OVS_FLOWS_BYTES, OVS_REPLY_PATIENCE};
use crate::process::Job;

/// The program, which comes with Open vSwitch.
const PROGRAM: &str = "ovs-ofctl";

/// The number of a port in `OpenFlow`.
pub(super) type PortNumber = i64;

/// What the flows of a bridge say of its ports.
pub(super) type Guards = HashMap<PortNumber, OvsGuardTrace>;

/// How bridges are reached.
#[derive(Clone, Debug)]
pub(super) struct Bridges {
    /// Where `ovs-vswitchd` has its sockets: beside that of its database.
    sockets: Option<PathBuf>,
}

impl Bridges {
    /// For the switch with its database there.
    pub(super) fn beside(database: &Address) -> Self {
        let sockets = match database {
            Address::Unix(path) => path.parent().map(PathBuf::from),
            Address::Tcp(_) => None,
        };
        Self { sockets }
    }

    /// Gives ports of a bridge the flows of their guards and no others of ours; without a guard none.
    ///
    /// # Errors
    /// What kept `ovs-ofctl` from it.
    pub(super) fn set(&self, bridge: &LinkName, guards: &[(PortNumber, Option<OvsGuard>)]) -> Result<(), EcoString> {
        let bundle: String = guards
            .iter()
            .map(|(port, guard)| changes(*port, guard.as_ref()))
            .collect();
        let job = self.job(&["--bundle", "add-flows"], bridge, "-").input(bundle);
        job.run().map(drop).map_err(|error| eco_format!("{error}"))
    }

    /// What our flows on a bridge say of its ports.
    ///
    /// # Errors
    /// What kept `ovs-ofctl` from it.
    pub(super) fn read(&self, bridge: &LinkName) -> Result<Guards, EcoString> {
        let (ours, mask) = COOKIE;
        let which = format!("cookie={ours:#x}/{mask:#x}");
        let job = self.job(&["--no-stats", "--no-names", "dump-flows"], bridge, &which);
        let printed = job.output_max(OVS_FLOWS_BYTES).run();
        printed
            .map(|printed| guards(&printed.output))
            .map_err(|error| eco_format!("{error}"))
    }

    fn job(&self, command: &[&str], bridge: &LinkName, last: &str) -> Job {
        let socket = self.sockets.as_ref().map(|directory| {
            let mut socket = OsString::from("unix:");
            socket.push(directory.join(format!("{bridge}.mgmt")));
            socket
        });
        let job = Job::new(PROGRAM, OVS_REPLY_PATIENCE).args(command);
        job.arg(socket.unwrap_or_else(|| bridge.as_str().into())).arg(last)
    }
}

/// The changes that leave a port with the flows of a guard.
fn changes(port: PortNumber, guard: Option<&OvsGuard>) -> String {
    let (ours, mask) = COOKIE;
    let mut text = format!("delete cookie={ours:#x}/{mask:#x},in_port={port}\n");
    let Some(guard) = guard else { return text };
    let cookie = guard.trace().cookie;
    for flow in guard.flows() {
        let (priority, conditions, actions) = (flow.priority, &flow.conditions, flow.actions);
        let _ = writeln!(
            text,
            "add cookie={cookie:#x},priority={priority},in_port={port},{conditions},actions={actions}"
        );
    }
    text
}

/// What flows say, as `ovs-ofctl` tells them.
fn guards(text: &str) -> Guards {
    let mut guards: Guards = HashMap::new();
    for line in text.lines() {
        let Some((matching, actions)) = line.split_once(" actions=") else {
            continue;
        };
        let value = |key: &str| matching.split([',', ' ']).find_map(|part| part.strip_prefix(key));
        let cookie = value("cookie=0x").and_then(|cookie| u64::from_str_radix(cookie, 16).ok());
        // Nobody else has a flow of ours without a port.
        let (Some(cookie), Some(port)) = (cookie, value("in_port=").and_then(|port| port.parse().ok())) else {
            continue;
        };
        let nothing = OvsGuardTrace {
            cookie,
            drops: 0,
            passes: 0,
        };
        let guard = guards.entry(port).or_insert(nothing);
        if guard.cookie != cookie {
            // Of different guards: neither is whole.
            guard.cookie = COOKIE.0;
        }
        guard.drops += usize::from(actions == DROP);
        guard.passes += usize::from(actions.ends_with(ANEW));
    }
    guards
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `ovs-ofctl` of Open vSwitch 3.1 prints for a bundle that it has taken in.
    fn printed(bundle: &str) -> String {
        let adds = bundle.lines().filter_map(|line| line.strip_prefix("add "));
        let lines = adds.map(|line| format!(" {}", line.replace(",actions=", " actions=")));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let guard = OvsGuard {
            mac: "02:00:00:00:00:01".parse().ok(),
            addresses: ["10.0.0.1", "fd00::1"]
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
        };
        let text = printed(&changes(7, Some(&guard)));
        assert_eq!(guards(&text).get(&7), Some(&guard.trace()));
        let one_less: Vec<&str> = text.lines().skip(1).collect();
        assert_ne!(guards(&one_less.join("\n")).get(&7), Some(&guard.trace()));
        let changed = text.replacen("actions=drop", "actions=NORMAL", 1);
        assert_ne!(guards(&changed).get(&7), Some(&guard.trace()));
        assert_eq!(guards("NXST_FLOW reply (xid=0x4):\n"), Guards::new());
    }
}
