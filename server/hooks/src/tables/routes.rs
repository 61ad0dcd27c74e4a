//! Routes inside a port's namespace, owned by the port or its network.

use std::net::IpAddr;

use ipnet::IpNet;
use nonnet_engine::Row;

use crate::address;
use crate::fault::Fault;
use crate::limits::{ROUTE_TABLE_LOCAL, ROUTE_TABLE_MAIN};
use crate::object::{Route, RouteKind};
use crate::tables::{number, text};

super::columns!("routes"; destination, gateway, metric, table, source, kind);

pub(crate) const READ_BY_REFERRERS: &[&str] = &["destination", "gateway", "metric", "table", "source", "kind"];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

/// The route that a row describes.
///
/// # Errors
/// The first column that is wrong.
pub(crate) fn route(columns: &Columns, row: &Row) -> Result<Route, Fault> {
    let name = text(row, columns.destination);
    let fault = |column: &str, why: String| Fault::new(Columns::NAME, name, column, why);
    let destination = address::destination(name).map_err(|error| fault("destination", error.to_string()))?;
    let mut route = Route::to(
        destination,
        of_family(columns.gateway, "gateway", row, destination).map_err(|(c, e)| fault(c, e))?,
    );
    route.source = of_family(columns.source, "source", row, destination).map_err(|(c, e)| fault(c, e))?;
    route.kind = match text(row, columns.kind) {
        "blackhole" => RouteKind::Blackhole,
        "unreachable" => RouteKind::Unreachable,
        "prohibit" => RouteKind::Prohibit,
        _ => RouteKind::Unicast,
    };
    for (column, address) in [("gateway", route.gateway), ("source", route.source)] {
        if address.is_some() && route.kind != RouteKind::Unicast {
            return Err(fault(column, format!("a route of kind {} leads nowhere", text(row, columns.kind))));
        }
    }
    route.metric = number(row, columns.metric).unwrap_or(0);
    route.table = number(row, columns.table).unwrap_or(ROUTE_TABLE_MAIN);
    if route.table == ROUTE_TABLE_LOCAL {
        return Err(fault("table", format!("table {ROUTE_TABLE_LOCAL} is the kernel's own")));
    }
    Ok(route)
}

fn of_family(
    column: nonnet_schema::ColumnIndex,
    name: &'static str,
    row: &Row,
    destination: IpNet,
) -> Result<Option<IpAddr>, (&'static str, String)> {
    let Some(text) = row.get(column).as_str() else {
        return Ok(None);
    };
    let address = address::host(text).map_err(|error| (name, error.to_string()))?;
    if address.is_ipv4() != destination.addr().is_ipv4() {
        return Err((name, format!("{address} is not of the address family of {destination}")));
    }
    Ok(Some(address))
}
