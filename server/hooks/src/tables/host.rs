//! The one row about this host: how far the kernel has followed.

use std::collections::BTreeSet;

use nonnet_engine::{Row, Transaction};
use nonnet_schema::Datum;

use crate::address::is_link_local;
use crate::fault::Fault;
use crate::object::{NetnsRef, Object, Route, RouteKind, Routes};
use crate::reconcile::Desired;
use crate::tables::{Rows, Tables, View, references, routes};

super::columns!(
    "host"; next_cfg, cur_cfg, failed, routes, capabilities, statistics, other_config, external_ids, status, error,
);

pub(crate) const READ_BY_REFERRERS: &[&str] = &[];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

pub(crate) fn wanted(view: &View<'_>, row: &Row) -> Desired {
    match own_routes(view.tables, view.rows, row) {
        Ok(routes) if routes.is_empty() => Desired::Gone,
        Ok(routes) => Desired::Objects(vec![Object::Routes(Routes {
            netns: NetnsRef::Host,
            routes,
        })]),
        Err(fault) => Desired::Invalid(fault.to_string().into()),
    }
}

/// The routes of the server's own namespace.
///
/// # Errors
/// The first that has no gateway to tell its link by.
pub(crate) fn own_routes(tables: &Tables, rows: &dyn Rows, row: &Row) -> Result<Vec<Route>, Fault> {
    let mut slots = BTreeSet::new();
    let rows = references(row, tables.host.routes).filter_map(|uuid| rows.row(tables.routes.this, uuid));
    let routes = rows.map(|row| {
        let route = routes::route(&tables.routes, row)?;
        let fault = |why: String| Err(Fault::new(Columns::NAME, "host", "routes", why));
        match route.gateway {
            None if route.kind == RouteKind::Unicast => {
                return fault(format!("route {route} of the host needs a gateway, by which its link is found"));
            }
            Some(gateway) if is_link_local(gateway) => {
                return fault(format!("gateway {gateway} is there on every link; a route of the host needs another"));
            }
            _ => {}
        }
        if !slots.insert(route.settled().slot()) {
            return fault(format!("route {} is there twice", route.destination));
        }
        Ok(route)
    });
    routes.collect()
}

/// Completes the host row at the start of a server whose newest commit is `newest`. A row that is missing is made, which is a commit more.
pub fn start(tables: &Tables, transaction: &mut Transaction<'_>, newest: u64) {
    let is_missing = transaction.row_count(tables.host.this) == 0;
    show_next(tables, transaction, newest + u64::from(is_missing));
}

/// Shows `sequence` as `next_cfg` in the host row, which is made where it is missing.
pub(crate) fn show_next(tables: &Tables, transaction: &mut Transaction<'_>, sequence: u64) {
    let Columns { this, next_cfg, .. } = tables.host;
    let datum = Datum::scalar(i64::try_from(sequence).unwrap_or(i64::MAX));
    let row = transaction.rows(this).next().map(|row| row.uuid());
    if let Some(uuid) = row {
        transaction.set(this, uuid, next_cfg, datum);
    } else {
        let uuid = transaction.new_uuid();
        let mut fields = transaction.schema().table(this).default_fields();
        if let Some(field) = fields.get_mut(next_cfg.0) {
            *field = datum;
        }
        transaction.insert(this, uuid, fields);
    }
}

/// Shows the `next_cfg` from before the transaction again.
pub(crate) fn show_last(tables: &Tables, transaction: &mut Transaction<'_>) {
    let Columns { this, next_cfg, .. } = tables.host;
    let before = transaction.database().table(this).rows().next();
    if let Some(row) = before {
        transaction.set(this, row.uuid(), next_cfg, row.get(next_cfg).clone());
    }
}
