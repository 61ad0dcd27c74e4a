//! Who is blamed for what is wrong with a port: its row, or the container's row that keeps it.

use nonnet_engine::Row;

use super::Columns;
use crate::fault::Fault;
use crate::tables::{Rows, Tables, lxc, reference, text};

/// Makes faults of one port; a port that a container's row keeps is blamed on that row.
pub(crate) struct Blame<'a> {
    tables: &'a Tables,
    port: &'a Row,
    lxc: Option<&'a Row>,
}

impl<'a> Blame<'a> {
    /// For a port's row.
    pub(crate) fn new(tables: &'a Tables, rows: &'a dyn Rows, port: &'a Row) -> Self {
        let lxc = reference(port, tables.ports.lxc).and_then(|uuid| rows.row(tables.lxc.this, uuid));
        Self { tables, port, lxc }
    }

    /// A fault of a column of the port's row.
    pub(crate) fn fault(&self, column: &str, why: impl std::fmt::Display) -> Fault {
        let Some(lxc) = self.lxc else {
            return Fault::new(Columns::NAME, text(self.port, self.tables.ports.name), column, why);
        };
        let column = match column {
            "name" if text(lxc, self.tables.lxc.veth).is_empty() => "id",
            "name" => "veth",
            "bridge" => "bridge",
            "network" => "properties:network",
            "mac" => "properties:mac",
            "mtu" => "properties:mtu",
            "gateways" => "properties:gateway",
            "addresses" if text(self.port, self.tables.ports.addresses).contains(':') => "properties:ipv6",
            "addresses" => "properties:ipv4",
            other => return Fault::new(Columns::NAME, text(self.port, self.tables.ports.name), other, why),
        };
        Fault::new(lxc::Columns::NAME, lxc::id(&self.tables.lxc, lxc), column, why)
    }

    /// What people call the port's row.
    pub(crate) fn subject(&self) -> String {
        match self.lxc {
            Some(lxc) => format!("lxc row \"{}\"", lxc::id(&self.tables.lxc, lxc)),
            None => format!("port \"{}\"", text(self.port, self.tables.ports.name)),
        }
    }
}
