//! The rules of `OpNonNet` inside a transaction: what follows from rows is derived, what cannot be is refused.
//!
//! Order: checkpoints, ports of containers, networks, names, addresses; then the engine's own checks. A rule reads and writes rows through the transaction.
//! It must never look at the kernel: what the kernel has may change, what a commit does may not.

mod addresses;
mod checkpoints;
mod containers;
mod forwards;
mod names;
mod parents;
mod subnets;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use ecow::EcoString;
use nonnet_engine::{CommitHook, Row, RowChange, Transaction};
use nonnet_schema::{BaseType, ColumnSchema, DatabaseSchema, ErrorKind, NONNET_SCHEMA, OvsdbError, TableIndex, Uuid};

use crate::compile::is_read;
use crate::fault::Fault;
use crate::healing;
use crate::tables::{SchemaMismatch, Tables, bridges, host, networks, peers, reference, references, routes, switched};

/// The rules of `OpNonNet`.
#[derive(Debug)]
pub struct NonnetHook {
    tables: Tables,
    /// The number that the transaction under way would get: a host row that it deletes comes back with it.
    sequence: AtomicU64,
}

impl NonnetHook {
    /// The rules for a database of this schema.
    ///
    /// # Errors
    /// When the schema is not that of `OpNonNet`.
    pub fn new(schema: &DatabaseSchema) -> Result<Self, SchemaMismatch> {
        Ok(Self {
            tables: Tables::find(schema)?,
            sequence: AtomicU64::new(0),
        })
    }

    fn check(&self, transaction: &mut Transaction<'_>) -> Result<(), Fault> {
        let tables = &self.tables;
        checkpoints::settle(tables, transaction, self.sequence.load(Ordering::Relaxed))?;
        containers::derive(tables, transaction)?;
        let changes: Vec<RowChange> = transaction
            .changes()
            .filter(|change| is_read(transaction.schema().table(change.table), change))
            .collect();
        check_rows(tables, transaction, &changes)?;
        subnets::check(tables, transaction, &changes)?;
        names::check(tables, transaction, &changes)?;
        parents::check(tables, transaction, &changes)?;
        let ports = concerned_ports(tables, transaction, &changes);
        addresses::settle(tables, transaction, &changes, &ports)?;
        subnets::check_gateways(tables, transaction, &changes)?;
        forwards::check(tables, transaction, &changes, &ports)
    }
}

impl CommitHook for NonnetHook {
    fn volatile_tables(&self, _schema: &DatabaseSchema) -> Vec<TableIndex> {
        vec![self.tables.events.this]
    }

    fn rebound(&self, schema: &DatabaseSchema) -> Result<Box<dyn CommitHook>, OvsdbError> {
        let refuse = |text: String| ErrorKind::Hook(format!("the networks of this host need {text}"));
        let hook = Self::new(schema).map_err(|SchemaMismatch { table, column }| {
            refuse(match column {
                "_uuid" => format!("table {table}, which the new schema does not have"),
                _ => format!("column {column} of table {table}, which the new schema does not have"),
            })
        })?;
        match reshaped_column(schema) {
            Some((table, column)) => Err(refuse(format!(
                "column {column} of table {table} as it is; the new schema has it with another type"
            ))
            .into()),
            None => Ok(Box::new(hook)),
        }
    }

    fn begin(&self, transaction: &mut Transaction<'_>, sequence: u64) {
        self.sequence.store(sequence, Ordering::Relaxed);
        host::show_next(&self.tables, transaction, sequence);
    }

    fn prepare(&self, transaction: &mut Transaction<'_>) -> Result<(), OvsdbError> {
        let schema = transaction.schema();
        let persistent = transaction
            .changes()
            .any(|change| change.is_persistent(schema.table(change.table)));
        if !persistent {
            host::show_last(&self.tables, transaction);
            return Ok(());
        }
        if transaction.row_count(self.tables.host.this) == 0 {
            host::show_next(&self.tables, transaction, self.sequence.load(Ordering::Relaxed));
        }
        Ok(self.check(transaction)?)
    }
}

/// The first table and column of `OpNonNet` that `schema` has too, but with other kinds of atoms, other targets of references, as a set
/// instead of a single datum or the other way around, or stored or not stored instead.
fn reshaped_column(schema: &DatabaseSchema) -> Option<(EcoString, EcoString)> {
    let shape = |column: &ColumnSchema| {
        let base = |base: &BaseType| (base.kind, base.reference().map(|(table, _)| table.clone()));
        let type_ = &column.type_;
        (
            base(&type_.key),
            type_.value.as_ref().map(base),
            type_.is_composite(),
            column.persistent,
        )
    };
    let own = DatabaseSchema::from_text(NONNET_SCHEMA).ok()?;
    own.tables().iter().find_map(|table| {
        let found = schema.table(schema.table_index(&table.name)?);
        let is_other = |column: &ColumnSchema| {
            let same = found.column_index(&column.name).map(|at| shape(found.column(at)));
            same.is_some_and(|same| same != shape(column))
        };
        let reshaped = table
            .declared_columns()
            .map(|(_, column)| column)
            .find(|column| is_other(column));
        reshaped.map(|column| (table.name.clone(), column.name.clone()))
    })
}

/// The rules that a row keeps or breaks by itself.
fn check_rows(tables: &Tables, transaction: &Transaction<'_>, changes: &[RowChange]) -> Result<(), Fault> {
    for change in changes {
        let Some(row) = &change.new else { continue };
        healing::said(tables, change.table, row)?;
        if change.table == tables.bridges.this {
            if switched::is_ovs(&tables.bridges, row) {
                switched::bridge(&tables.bridges, row)?;
            } else {
                bridges::bridge(&tables.bridges, row)?;
            }
        } else if change.table == tables.networks.this {
            networks::network(&tables.networks, row)?;
        } else if change.table == tables.host.this {
            host::own_routes(tables, transaction, row)?;
        } else if change.table == tables.peers.this {
            peers::check(&tables.peers, row)?;
        } else if change.table == tables.routes.this {
            routes::route(&tables.routes, row)?;
        }
    }
    Ok(())
}

/// The ports that changed, those on networks that changed, and those whose peers changed.
fn concerned_ports(tables: &Tables, transaction: &Transaction<'_>, changes: &[RowChange]) -> BTreeSet<Uuid> {
    let there = changes.iter().filter(|change| change.new.is_some());
    let ports = there.clone().filter(|change| change.table == tables.ports.this);
    let mut concerned: BTreeSet<Uuid> = ports.map(|change| change.uuid).collect();
    // A network that is new has only ports that changed with it.
    let networks = there.filter(|change| change.table == tables.networks.this && change.old.is_some());
    let mut networks: BTreeSet<Uuid> = networks.map(|change| change.uuid).collect();
    // Who has a peer that is new has changed itself.
    let peers = changes.iter().filter(|change| change.table == tables.peers.this);
    let peers = peers.filter(|change| change.old.is_some() && change.new.is_some());
    let peers: BTreeSet<Uuid> = peers.map(|change| change.uuid).collect();
    if !peers.is_empty() {
        let has = |row: &Row, column| references(row, column).any(|uuid| peers.contains(&uuid));
        let on = transaction
            .rows(tables.networks.this)
            .filter(|row| has(row, tables.networks.peers));
        networks.extend(on.map(|row| row.uuid()));
        let ports = transaction
            .rows(tables.ports.this)
            .filter(|row| has(row, tables.ports.peers));
        concerned.extend(ports.map(|row| row.uuid()));
    }
    if !networks.is_empty() {
        let on_it = |uuid: Option<Uuid>| uuid.is_some_and(|uuid| networks.contains(&uuid));
        let ports = transaction.rows(tables.ports.this);
        let ports = ports.filter(|row| on_it(reference(row, tables.ports.network)));
        concerned.extend(ports.map(|row| row.uuid()));
    }
    concerned
}
