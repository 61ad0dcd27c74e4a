//! Names of links: on the host, and inside each namespace, one link has a name.

use std::sync::Arc;

use nonnet_engine::{Row, RowChange, Transaction};
use nonnet_schema::{Atom, Datum, Uuid};

use crate::fault::Fault;
use crate::tables::ports::{Blame, IFNAME};
use crate::tables::{Tables, bridges, switched, text};

/// Number of the index over `name` in tables `bridges` and `ports`.
const BY_NAME: usize = 0;

/// Number of the index over `lxc`, `netns` and `ifname` in table `ports`.
pub(super) const BY_PLACE: usize = 1;

/// Where `ip netns` keeps named namespaces; the first is the usual one.
const NETNS_DIRECTORIES: [&str; 2] = ["/run/netns/", "/var/run/netns/"];

/// Checks the names of new bridges and ports, and the places of changed ports.
pub(super) fn check(tables: &Tables, transaction: &mut Transaction<'_>, changes: &[RowChange]) -> Result<(), Fault> {
    for change in changes {
        let Some(row) = &change.new else { continue };
        if change.table == tables.ports.this {
            if switched::is_on_host(tables, row) && row.get(tables.ports.ifname).is_empty() {
                // What stays on the host is at its own name; the index over places tells it from others by that.
                let name = row.get(tables.ports.name).clone();
                transaction.set(tables.ports.this, row.uuid(), tables.ports.ifname, name);
            }
            let taken = name_holder(tables, transaction, row).or_else(|| place_holder(tables, transaction, row));
            if let Some((column, why)) = taken {
                return Err(Blame::new(tables, transaction, row).fault(column, why));
            }
        } else if change.table == tables.bridges.this {
            let name = row.get(tables.bridges.name).clone();
            let ports = transaction.rows_by_index(tables.ports.this, BY_NAME, &[name]);
            if let Some(port) = ports.first() {
                let (name, who) = (
                    text(row, tables.bridges.name),
                    Blame::new(tables, transaction, port).subject(),
                );
                let why = format!("link name \"{name}\" is taken by {who}");
                return Err(Fault::new(bridges::Columns::NAME, name, "name", why));
            }
        }
    }
    Ok(())
}

/// The row of that name.
pub(super) fn by_name(transaction: &mut Transaction<'_>, table: nonnet_schema::TableIndex, name: &str) -> Option<Uuid> {
    let rows = transaction.rows_by_index(table, BY_NAME, &[Datum::scalar(Atom::from(name))]);
    rows.first().map(|row| row.uuid())
}

fn name_holder(tables: &Tables, transaction: &mut Transaction<'_>, row: &Row) -> Option<(&'static str, String)> {
    let key = [row.get(tables.ports.name).clone()];
    let name = text(row, tables.ports.name);
    let ports = transaction.rows_by_index(tables.ports.this, BY_NAME, &key);
    let who = match ports.iter().find(|other| other.uuid() != row.uuid()) {
        Some(other) => Blame::new(tables, transaction, other).subject(),
        None if transaction.rows_by_index(tables.bridges.this, BY_NAME, &key).is_empty() => return None,
        None => format!("bridge \"{name}\""),
    };
    Some(("name", format!("link name \"{name}\" is taken by {who}")))
}

/// Another port that has the same name in the same namespace, however the two write that.
fn place_holder(tables: &Tables, transaction: &mut Transaction<'_>, row: &Row) -> Option<(&'static str, String)> {
    let columns = &tables.ports;
    let netns = text(row, columns.netns);
    if netns.is_empty() {
        return None;
    }
    let ifname = match text(row, columns.ifname) {
        "" => IFNAME,
        other => other,
    };
    let mut names = vec![Datum::scalar(Atom::from(ifname))];
    if ifname == IFNAME {
        names.push(Datum::empty_set());
    }
    for netns in spellings(netns) {
        for name in &names {
            let netns = Datum::scalar(Atom::from(netns.as_str()));
            let key = [row.get(columns.lxc).clone(), netns, name.clone()];
            let others: Vec<Arc<Row>> = transaction.rows_by_index(columns.this, BY_PLACE, &key);
            if let Some(other) = others.iter().find(|other| other.uuid() != row.uuid()) {
                let who = Blame::new(tables, transaction, other).subject();
                let why = format!(
                    "link name \"{ifname}\" is taken in namespace {} by {who}",
                    text(row, columns.netns)
                );
                return Some(("ifname", why));
            }
        }
    }
    None
}

/// The ways to write a namespace: a name, or its path.
fn spellings(netns: &str) -> Vec<String> {
    let name = NETNS_DIRECTORIES
        .iter()
        .find_map(|directory| netns.strip_prefix(directory));
    let name = name.filter(|name| !name.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.or((!netns.starts_with('/') && !is_process(netns)).then_some(netns));
    let Some(name) = name.filter(|name| !name.contains('/')) else {
        let process = netns.strip_prefix("pid:").unwrap_or(netns);
        return if is_process(netns) {
            vec![process.to_owned(), format!("pid:{process}")]
        } else {
            vec![netns.to_owned()]
        };
    };
    let paths = NETNS_DIRECTORIES.iter().map(|directory| format!("{directory}{name}"));
    paths.chain([name.to_owned()]).collect()
}

fn is_process(netns: &str) -> bool {
    let digits = netns.strip_prefix("pid:").unwrap_or(netns);
    digits.bytes().all(|byte| byte.is_ascii_digit())
}
