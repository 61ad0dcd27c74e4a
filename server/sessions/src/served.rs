//! A database as it is served: its rows, its chain, its monitors, and the commits that are not stored yet.

mod conversion;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use ecow::{EcoString, EcoVec};
use nonnet_chain::{Author, Chain, PublicKey, Record, RecordTooLarge, Request, SecretKey};
use nonnet_engine::{ChangeSet, CommitHook, Database};
use nonnet_schema::{MonitorRequest, TableIndex, Uuid};
use serde_json::Value;

use crate::history::{History, Logged, Position, Since};
use crate::limits::PARKED_BYTES_MIN;
use crate::monitor::{Groups, Monitor};
use crate::now::Now;
use crate::peer::SessionId;
use crate::session::Gate;

use conversion::Previous;

/// One database.
pub(crate) struct Served {
    pub(crate) database: Database,
    /// None for a database that is made of other state, such as `_Server`.
    pub(crate) chain: Option<Chain>,
    /// Set where the rows are those of another server: the newest transaction that it told of.
    relayed: Option<Position>,
    /// Whether only the server itself writes, since the rows follow those of another server.
    pub(crate) is_backup: bool,
    pub(crate) hook: Option<Box<dyn CommitHook>>,
    pub(crate) groups: Groups,
    /// Transactions that wait for a condition, in the order they came.
    pub(crate) parked: VecDeque<Parked>,
    /// Set while those are to be tried once more, after others have had their turn.
    pub(crate) is_retry_due: bool,
    /// Tables whose rows are not stored.
    volatile: Vec<TableIndex>,
    /// Goes up with every change of any row, stored or not.
    pub(crate) generation: u64,
    /// Commits and conversions that are not stored, oldest first, each with the chain as it was before.
    in_flight: VecDeque<InFlight>,
    /// The newest sequence number that is stored.
    stored: u64,
    history: History,
}

struct InFlight {
    sequence: u64,
    chain_before: Chain,
    undo: Undo,
}

/// How to go back.
enum Undo {
    /// By the inverse of these changes.
    Changes(Arc<ChangeSet>),
    /// To the database under its schema before.
    Conversion(Box<Previous>),
}

/// What undoing did.
#[derive(Default)]
pub(crate) struct Undone {
    /// The change sets that did it, newest first; those of rows under a schema that is undone as well are left out.
    pub(crate) changes: Vec<Arc<ChangeSet>>,
    /// The monitors, with their sessions, of the schema that is back.
    pub(crate) monitors: Option<Vec<(SessionId, Monitor)>>,
}

/// A transaction that waits.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) session: SessionId,
    pub(crate) id: Value,
    pub(crate) operations: EcoVec<Value>,
    /// When the request came.
    pub(crate) since_ms: u64,
    /// When it fails; None for never.
    pub(crate) deadline_ms: Option<u64>,
    /// Bytes of id and operations in memory; 0 where it has not had to wait.
    pub(crate) weight_bytes: usize,
}

impl Parked {
    /// What it is taken to cost while it waits, in bytes.
    pub(crate) fn kept_bytes(&self) -> usize {
        PARKED_BYTES_MIN + self.weight_bytes
    }
}

impl Served {
    pub(crate) fn new(database: Database, chain: Option<Chain>, hook: Option<Box<dyn CommitHook>>) -> Self {
        let volatile = hook
            .as_ref()
            .map_or(Vec::new(), |hook| hook.volatile_tables(database.schema()));
        let history = History::new(database.schema(), chain.as_ref(), volatile.clone());
        Self {
            database,
            volatile,
            stored: chain.as_ref().map_or(0, |chain| chain.head().seq),
            chain,
            relayed: None,
            is_backup: false,
            hook,
            groups: Groups::default(),
            parked: VecDeque::new(),
            is_retry_due: false,
            generation: 0,
            in_flight: VecDeque::new(),
            history,
        }
    }

    /// A database whose rows are those that another server had after the transaction of that id, which is zeros where it tells none.
    pub(crate) fn relayed(database: Database, id: Uuid) -> Self {
        let begin = Position { sequence: 1, id };
        let history = History::of_relay(database.schema(), begin);
        Self {
            relayed: Some(begin),
            stored: begin.sequence,
            history,
            ..Self::new(database, None, None)
        }
    }

    /// Whether the rows are those of another server.
    pub(crate) fn is_relayed(&self) -> bool {
        self.relayed.is_some()
    }

    pub(crate) fn name(&self) -> &EcoString {
        &self.database.schema().name
    }

    /// The sequence number of the newest commit.
    pub(crate) fn sequence(&self) -> u64 {
        self.position().map_or(0, |position| position.sequence)
    }

    /// The id of the newest commit; zeros for a database without a chain.
    pub(crate) fn transaction_id(&self) -> Uuid {
        self.position().map_or(Uuid::nil(), |position| position.id)
    }

    fn position(&self) -> Option<Position> {
        self.relayed.or_else(|| self.chain.as_ref().map(Position::of))
    }

    /// What a monitor that has seen everything up to the transaction of that id has missed, as far as memory tells.
    pub(crate) fn since(&self, id: Uuid, request: &Arc<MonitorRequest>) -> Since {
        if id.is_nil() || self.position().is_none() {
            return Since::Everything;
        }
        match self.history.since(id, &self.database, request) {
            // What another server told is in no log here.
            Since::Log if self.is_relayed() => Since::Everything,
            since => since,
        }
    }

    /// The same with what the log told.
    pub(crate) fn since_logged(&self, logged: &Logged, request: &Arc<MonitorRequest>) -> Since {
        self.history.since_logged(logged, &self.database, request)
    }

    /// What a text that shows the current state waits for; None where that is stored.
    pub(crate) fn gate(&self) -> Option<Gate> {
        let sequence = self.sequence();
        (sequence > self.stored).then(|| Gate {
            database: self.name().clone(),
            sequence,
        })
    }

    /// True where everything up to the gate is stored.
    pub(crate) fn is_stored(&self, gate: &Gate) -> bool {
        gate.sequence <= self.stored
    }

    /// Applies a change set. Gives the record to store where something changed that outlives the process.
    ///
    /// # Errors
    /// [`RecordTooLarge`]; nothing has changed then.
    pub(crate) fn commit(
        &mut self,
        author: &Author,
        request: &Request,
        now: Now,
        changes: &Arc<ChangeSet>,
    ) -> Result<Option<Record>, RecordTooLarge> {
        let mut record = None;
        let kept = if self.volatile.is_empty() {
            Cow::Borrowed(&**changes)
        } else {
            Cow::Owned(changes.without(&self.volatile))
        };
        if let Some(chain) = &mut self.chain
            && kept.is_persistent(self.database.schema())
        {
            let chain_before = chain.clone();
            record = Some(chain.commit(author, request, now.moment, &kept, self.database.schema())?);
            let changes = Arc::clone(changes);
            self.in_flight.push_back(InFlight {
                sequence: chain.head().seq,
                chain_before,
                undo: Undo::Changes(changes),
            });
        } else if let Some(Undo::Changes(newest)) = self.in_flight.back_mut().map(|newest| &mut newest.undo) {
            // What is not stored has no record of its own; it is undone together with the commit before it.
            *newest = Arc::new(newest.then(changes));
        }
        if let Some(chain) = &self.chain {
            self.history
                .add(self.database.schema(), Position::of(chain), record.is_some(), changes);
        }
        self.database.apply(changes);
        self.generation += 1;
        Ok(record)
    }

    /// Brings a new key for checkpoints: the one in force and the public part of the new one. Gives the record to store; None for a database
    /// without a chain.
    pub(crate) fn rotate(
        &mut self,
        author: &Author,
        now: Now,
        keys: (Option<&SecretKey>, PublicKey),
    ) -> Option<Record> {
        let chain = self.chain.as_mut()?;
        let chain_before = chain.clone();
        let record = chain.rotate(author, &Request::default(), now.moment, keys).ok()?;
        let changes = Arc::new(ChangeSet::default());
        self.history
            .add(self.database.schema(), Position::of(chain), true, &changes);
        self.in_flight.push_back(InFlight {
            sequence: record.header.seq,
            chain_before,
            undo: Undo::Changes(changes),
        });
        self.generation += 1;
        Some(record)
    }

    /// Applies what another server's transaction of that id did.
    pub(crate) fn follow(&mut self, id: Uuid, changes: &Arc<ChangeSet>) {
        let Some(newest) = &mut self.relayed else {
            return;
        };
        let is_recorded = !id.is_nil() && id != newest.id;
        // Columns that are not stored change without a transaction id of their own.
        if is_recorded || id.is_nil() || changes.is_persistent(self.database.schema()) {
            newest.sequence += 1;
        }
        newest.id = id;
        self.stored = newest.sequence;
        if !changes.is_empty() {
            self.history.add(self.database.schema(), *newest, is_recorded, changes);
            self.database.apply(changes);
        }
        self.generation += 1;
    }

    /// Notes that everything up to `sequence` is stored; true where there is a new schema among it.
    pub(crate) fn stored(&mut self, sequence: u64) -> bool {
        self.stored = self.stored.max(sequence);
        let mut is_converted = false;
        while let Some(commit) = self.in_flight.pop_front_if(|commit| commit.sequence <= sequence) {
            is_converted |= matches!(commit.undo, Undo::Conversion(_));
        }
        is_converted
    }

    /// Undoes the commits and conversions from `sequence` on, newest first.
    pub(crate) fn undo_from(&mut self, sequence: u64) -> Undone {
        let mut undone = Undone::default();
        while let Some(commit) = self.in_flight.pop_back_if(|commit| commit.sequence >= sequence) {
            self.chain = Some(commit.chain_before);
            match commit.undo {
                Undo::Changes(changes) => {
                    let inverse = Arc::new(changes.inverse());
                    self.database.apply(&inverse);
                    undone.changes.push(inverse);
                }
                Undo::Conversion(previous) => {
                    undone.changes.clear();
                    undone.monitors = Some(self.go_back(*previous));
                }
            }
        }
        self.history.undo_from(sequence);
        self.generation += 1;
        undone
    }
}
