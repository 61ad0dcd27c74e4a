//! What a port's row says about its traffic: rates, and a copy of it on another port.
//!
//! Takes rows, gives the wanted object or what is wrong. Rates are seen from inside: `ingress_rate` is of what the port receives.

use nonnet_engine::Row;
use nonnet_schema::ColumnIndex;

use crate::fault::Fault;
use crate::limits::MIRRORS_MAX;
use crate::link::check_name;
use crate::object::{self, Shape, Traffic};
use crate::tables::ports::Blame;
use crate::tables::ports::kind::Source;
use crate::tables::{Rows, Tables, View, reference, text};

/// The rates and the copy that the row asks for.
pub(super) fn wanted(view: &View<'_>, row: &Row, port: &object::Port) -> Option<Traffic> {
    let columns = &view.tables.ports;
    let shape = |column| rate(row, column).map(Shape::of_rate);
    let (to_port, from_port) = (shape(columns.ingress_rate), shape(columns.egress_rate));
    let target = reference(row, columns.mirror).and_then(|uuid| view.rows.row(columns.this, uuid));
    let mirror = target.and_then(|row| check_name(text(row, columns.name)).ok());
    if to_port.is_none() && from_port.is_none() && mirror.is_none() {
        return None;
    }
    Some(Traffic {
        link: port.name.clone(),
        netns: port.netns.clone(),
        ifname: port.ifname.clone(),
        to_port,
        from_port,
        mirror,
    })
}

/// Bits per second; 0 is no limit.
fn rate(row: &Row, column: ColumnIndex) -> Option<u64> {
    let rate = row.get(column).as_integer().and_then(|rate| u64::try_from(rate).ok());
    rate.filter(|rate| *rate > 0)
}

/// The kind of a port, as its network may say it.
fn kind<'a>(tables: &'a Tables, rows: &'a dyn Rows, row: &'a Row) -> &'a str {
    let network = reference(row, tables.ports.network).and_then(|uuid| rows.row(tables.networks.this, uuid));
    let on_bridge = reference(row, tables.ports.bridge)
        .or_else(|| reference(network?, tables.networks.bridge))
        .is_some();
    let source = Source {
        tables,
        row,
        network,
        on_bridge,
    };
    source.word()
}

/// Checks what a row says about traffic. It is done at the end of a pair on the host, which other kinds of ports do not have; a copy of a copy
/// might go on for ever.
///
/// # Errors
/// The first column that is wrong.
pub(super) fn check(
    tables: &Tables,
    rows: &dyn Rows,
    row: &Row,
    blame: &Blame<'_>,
) -> Result<(), Fault> {
    let columns = &tables.ports;
    let kind = kind(tables, rows, row);
    let target = reference(row, columns.mirror);
    let asked = [
        ("ingress_rate", rate(row, columns.ingress_rate).is_some()),
        ("mirror", target.is_some()),
        ("egress_rate", rate(row, columns.egress_rate).is_some()),
    ];
    let mut columns_asked = asked.iter().filter(|(_, asked)| *asked).map(|(column, _)| *column);
    if let Some(column) = columns_asked.next().filter(|_| kind != "veth") {
        let why = format!("a port of kind {kind} has no end on the host where this could be done; a veth has");
        return Err(blame.fault(column, why));
    }
    let Some(target) = target else { return Ok(()) };
    if target == row.uuid() {
        return Err(blame.fault("mirror", "a port cannot be copied to itself"));
    }
    if let Some(to) = rows.row(columns.this, target).filter(|to| self::kind(tables, rows, to) != "veth") {
        let name = text(to, columns.name);
        let why = format!("port \"{name}\" is no veth, and so has no end on the host through which a copy could go");
        return Err(blame.fault("mirror", why));
    }
    let mut next = Some(target);
    for _ in 0..MIRRORS_MAX {
        next = next.and_then(|uuid| reference(rows.row(columns.this, uuid)?, columns.mirror));
        if next == Some(row.uuid()) {
            return Err(blame.fault("mirror", "the copy would come back to the port itself"));
        }
    }
    if next.is_some() {
        return Err(blame.fault("mirror", format!("there can be {MIRRORS_MAX} copies of copies")));
    }
    Ok(())
}
