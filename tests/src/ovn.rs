//! The control plane of OVN: the real `ovn-northd`, with both its databases in one server under test, and what it wrote there.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::program;
use crate::server::{Kind, Server};
use crate::transcript::{self, Transcript};
use crate::wire::Client;

/// The schema of the northbound database.
pub const NORTHBOUND_SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";

/// The schema of the southbound database.
pub const SOUTHBOUND_SCHEMA: &str = "/usr/share/ovn/ovn-sb.ovsschema";

const SOUTHBOUND: &str = "OVN_Southbound";

/// What `ovn-northd` would choose at random.
const OPTIONS: &str = "options:mac_prefix=02:00:01 options:svc_monitor_mac=02:00:00:00:ee:ee";

/// A server with both databases, and `ovn-northd`.
#[derive(Debug)]
pub struct ControlPlane {
    northd: Child,
    transcript: Transcript,
    /// The server with both databases.
    pub server: Server,
}

impl ControlPlane {
    /// Starts a server with empty databases and `ovn-northd`.
    pub fn start(kind: Kind) -> Result<Self> {
        Self::start_with(kind, &[])
    }

    /// As [`ControlPlane::start`], with arguments more for the server.
    pub fn start_with(kind: Kind, arguments: &[&str]) -> Result<Self> {
        let mut server = Server::prepare(kind, &program::system_schema(NORTHBOUND_SCHEMA)?)?;
        server.add_arguments(arguments);
        server.add_database(SOUTHBOUND_SCHEMA.as_ref())?;
        server.run()?;
        let prepare = format!("ovn-nbctl init && ovn-nbctl set NB_Global . {OPTIONS} && ovn-sbctl init");
        let mut shell = shell(&server, &prepare)?;
        let output = program::run_command(&mut shell, b"")?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{prepare}: {words}");
        let directory = server.directory().display();
        let mut northd = program::tied(&program::system("ovn-northd")?)?;
        northd
            .arg(format!("--ovnnb-db={}", server.remote()))
            .arg(format!("--ovnsb-db={}", server.remote()))
            .arg(format!("--unixctl={directory}/northd.ctl"))
            .arg(format!("--log-file={directory}/northd.log"))
            .args(["-vconsole:off", "-vsyslog:off"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let northd = northd.spawn().context("start ovn-northd")?;
        Ok(Self {
            northd,
            transcript: Transcript::default(),
            server,
        })
    }

    /// Plays a session of `tests/cases/sessions`.
    pub fn play(&mut self, session: &str) -> Result<()> {
        for step in transcript::session(session)? {
            let mut shell = shell(&self.server, &step.command)?;
            self.transcript.run(&mut shell, &step)?;
        }
        Ok(())
    }

    /// A shell for this script, in the server's directory, whose `ovn-nbctl` and `ovn-sbctl` find the databases.
    pub fn shell(&self, script: &str) -> Result<Command> {
        shell(&self.server, script)
    }

    /// Ends `ovn-northd`: nothing changes any more but by the test.
    pub fn stop_northd(&mut self) -> Result<()> {
        self.northd.kill()?;
        self.northd.wait()?;
        Ok(())
    }

    /// What the sessions printed.
    pub fn printed(&self) -> &[String] {
        self.transcript.lines()
    }

    /// Whether the `ovn-northd` that was started still runs.
    pub fn northd_runs(&mut self) -> Result<bool> {
        Ok(self.northd.try_wait()?.is_none())
    }

    /// What `ovn-northd` logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.server.directory().join("northd.log")).unwrap_or_default()
    }

    /// The logical flows, sorted: datapaths, pipeline, table, priority, match and actions of each.
    pub fn flows(&self) -> Result<Vec<String>> {
        let southbound = Southbound::read(self.server.connect()?)?;
        let mut flows = Vec::new();
        for flow in southbound.rows("Logical_Flow") {
            let datapaths = southbound.datapaths(flow)?;
            let stage = ["pipeline", "table_id", "priority", "match", "actions"].map(|column| &flow[column]);
            flows.push(format!("{datapaths:?} {}", json!(stage)));
        }
        flows.sort();
        Ok(flows)
    }

    /// The datapaths and ports, sorted, without the keys that `ovn-northd` hands out in the order of random UUIDs.
    pub fn bindings(&self) -> Result<Vec<String>> {
        let southbound = Southbound::read(self.server.connect()?)?;
        let mut bindings: Vec<String> = southbound.names.values().cloned().collect();
        for port in southbound.rows("Port_Binding") {
            let datapaths = southbound.datapaths(port)?;
            let columns = ["logical_port", "type", "mac", "options", "nat_addresses", "up"].map(|column| &port[column]);
            bindings.push(format!("{datapaths:?} {}", json!(columns)));
        }
        for group in southbound.rows("Multicast_Group") {
            let datapaths = southbound.datapaths(group)?;
            let ports = members(&group["ports"]).len();
            bindings.push(format!("{datapaths:?} {} of {ports} ports", group["name"]));
        }
        bindings.sort();
        Ok(bindings)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let _ = self.northd.kill();
        let _ = self.northd.wait();
    }
}

/// A shell that finds both databases.
fn shell(server: &Server, script: &str) -> Result<Command> {
    let mut command = program::tied(&program::system("sh")?)?;
    command
        .args(["-c", script])
        .current_dir(server.directory())
        .env("OVS_RUNDIR", server.directory())
        .env("OVN_NB_DB", server.remote())
        .env("OVN_SB_DB", server.remote())
        .env_remove("OVN_NB_DAEMON");
    Ok(command)
}

/// Some tables of the southbound database.
struct Southbound {
    tables: BTreeMap<&'static str, Vec<Value>>,
    /// Datapath UUID to name.
    names: BTreeMap<String, String>,
    /// Datapath group UUID to the UUIDs of its datapaths.
    groups: BTreeMap<String, Vec<String>>,
}

impl Southbound {
    fn read(mut client: Client) -> Result<Self> {
        let mut tables = BTreeMap::new();
        for table in [
            "Datapath_Binding",
            "Logical_DP_Group",
            "Logical_Flow",
            "Port_Binding",
            "Multicast_Group",
        ] {
            let select = json!({"op": "select", "table": table, "where": []});
            let results = client.transact(SOUTHBOUND, &[select])?;
            let rows = results[0]["rows"].as_array().context("no rows")?.clone();
            ensure!(!rows.is_empty() || table == "Logical_DP_Group", "{table} is empty");
            tables.insert(table, rows);
        }
        let mut southbound = Self {
            tables,
            names: BTreeMap::new(),
            groups: BTreeMap::new(),
        };
        for datapath in southbound.rows("Datapath_Binding").to_vec() {
            let ids = &datapath["external_ids"][1];
            let name = ids.as_array().into_iter().flatten().find(|pair| pair[0] == "name");
            let name = name
                .and_then(|pair| pair[1].as_str())
                .context("a datapath has a name")?;
            southbound.names.insert(uuid(&datapath["_uuid"])?, name.to_owned());
        }
        for group in southbound.rows("Logical_DP_Group").to_vec() {
            southbound
                .groups
                .insert(uuid(&group["_uuid"])?, members(&group["datapaths"]));
        }
        Ok(southbound)
    }

    fn rows(&self, table: &str) -> &[Value] {
        self.tables.get(table).map_or(&[], Vec::as_slice)
    }

    /// The names of the datapaths that a row is for, sorted.
    fn datapaths(&self, row: &Value) -> Result<Vec<&str>> {
        let one = ["logical_datapath", "datapath"]
            .iter()
            .flat_map(|column| members(&row[*column]));
        let groups = members(&row["logical_dp_group"]);
        let several = groups
            .iter()
            .filter_map(|group| self.groups.get(group))
            .flatten()
            .cloned();
        let mut names: Vec<&str> = one
            .chain(several)
            .map(|datapath| self.names.get(&datapath).map(String::as_str).context("a datapath"))
            .collect::<Result<_>>()?;
        ensure!(!names.is_empty(), "{row} is for no datapath");
        names.sort_unstable();
        Ok(names)
    }
}

fn uuid(value: &Value) -> Result<String> {
    Ok(value[1].as_str().context("a UUID")?.to_owned())
}

/// The UUIDs in a value that is one or a set of them.
fn members(value: &Value) -> Vec<String> {
    match (value[0].as_str(), &value[1]) {
        (Some("uuid"), Value::String(uuid)) => vec![uuid.clone()],
        (Some("set"), Value::Array(items)) => items.iter().flat_map(members).collect(),
        _ => Vec::new(),
    }
}
