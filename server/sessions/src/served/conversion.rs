//! A new schema for a database that is served.
//!
//! What belongs to the old one is kept until the record of the new one is stored, so that nothing has happened where it cannot be: rows,
//! rules, the recent past, monitors and waiting transactions.

use std::collections::VecDeque;
use std::sync::Arc;

use nonnet_chain::{Author, Record, RecordTooLarge, Request, StoredSide};
use nonnet_engine::{CommitHook, Database, Entropy, convert};
use nonnet_schema::{DatabaseSchema, OvsdbError, TableIndex};

use super::{InFlight, Parked, Served, Undo};
use crate::history::History;
use crate::monitor::{Groups, Monitor};
use crate::now::Now;
use crate::peer::SessionId;
use crate::session::Gate;

/// A database under a new schema, not yet in force.
pub(crate) struct Conversion {
    database: Database,
    hook: Option<Box<dyn CommitHook>>,
}

/// What was in force before a conversion.
pub(super) struct Previous {
    database: Database,
    hook: Option<Box<dyn CommitHook>>,
    volatile: Vec<TableIndex>,
    history: History,
    groups: Groups,
    parked: VecDeque<Parked>,
    monitors: Vec<(SessionId, Monitor)>,
}

impl Served {
    /// What the database is under `schema`; it stays as it is.
    ///
    /// # Errors
    /// What its rules or its rows need and the schema does not have.
    pub(crate) fn under(&self, schema: DatabaseSchema, entropy: &mut Entropy) -> Result<Conversion, OvsdbError> {
        let hook = self.hook.as_ref().map(|hook| hook.rebound(&schema)).transpose()?;
        let (schema, sequence) = (Arc::new(schema), self.sequence() + 1);
        let database = convert(&self.database, schema, sequence, hook.as_deref(), entropy)?;
        Ok(Conversion { database, hook })
    }

    /// Puts a new schema in force; gives the record to store. The waiting transactions of the old one wait no more, its monitors see nothing
    /// more.
    ///
    /// # Errors
    /// [`RecordTooLarge`]; nothing has changed then.
    pub(crate) fn convert(
        &mut self,
        conversion: Conversion,
        author: &Author,
        request: &Request,
        now: Now,
    ) -> Result<Option<Record>, RecordTooLarge> {
        let Conversion { database, hook } = conversion;
        let volatile = hook
            .as_ref()
            .map_or(Vec::new(), |hook| hook.volatile_tables(database.schema()));
        let Some(chain) = &mut self.chain else {
            return Ok(None);
        };
        let chain_before = chain.clone();
        let (before, after) = (
            StoredSide {
                database: &self.database,
                volatile: &self.volatile,
            },
            StoredSide {
                database: &database,
                volatile: &volatile,
            },
        );
        let record = chain.convert(author, request, now.moment, (before, after))?;
        let history = History::new(database.schema(), Some(&*chain), volatile.clone());
        let previous = Previous {
            database: std::mem::replace(&mut self.database, database),
            hook: std::mem::replace(&mut self.hook, hook),
            volatile: std::mem::replace(&mut self.volatile, volatile),
            history: std::mem::replace(&mut self.history, history),
            groups: std::mem::take(&mut self.groups),
            parked: std::mem::take(&mut self.parked),
            monitors: Vec::new(),
        };
        self.in_flight.push_back(InFlight {
            sequence: record.header.seq,
            chain_before,
            undo: Undo::Conversion(Box::new(previous)),
        });
        self.generation += 1;
        Ok(Some(record))
    }

    /// The transactions that waited under the schema before, while that one can still come back.
    pub(crate) fn previously_parked(&self) -> impl Iterator<Item = &Parked> {
        let newest = self.in_flight.back().into_iter();
        newest.flat_map(|newest| match &newest.undo {
            Undo::Conversion(previous) => Some(&previous.parked).into_iter().flatten(),
            Undo::Changes(_) => None.into_iter().flatten(),
        })
    }

    /// Keeps the monitors of the schema before, should that one come back.
    pub(crate) fn keep_monitors(&mut self, monitors: Vec<(SessionId, Monitor)>) {
        if let Some(InFlight {
            undo: Undo::Conversion(previous),
            ..
        }) = self.in_flight.back_mut()
        {
            previous.monitors = monitors;
        }
    }

    /// What a text that shows the schema waits for; None where the schema is stored.
    pub(crate) fn schema_gate(&self) -> Option<Gate> {
        let mut commits = self.in_flight.iter().rev();
        let conversion = commits.find(|commit| matches!(commit.undo, Undo::Conversion(_)))?;
        Some(Gate {
            database: self.name().clone(),
            sequence: conversion.sequence,
        })
    }

    /// Puts the schema before in force again; gives its monitors.
    pub(super) fn go_back(&mut self, previous: Previous) -> Vec<(SessionId, Monitor)> {
        let Previous {
            database,
            hook,
            volatile,
            history,
            groups,
            parked,
            monitors,
        } = previous;
        self.database = database;
        self.hook = hook;
        self.volatile = volatile;
        self.history = history;
        self.groups = groups;
        let later = std::mem::replace(&mut self.parked, parked);
        self.parked.extend(later);
        monitors
    }
}
