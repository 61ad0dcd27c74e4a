//! The one thread that owns all state: it takes events in batches, and carries out what the sessions ask for.

mod start;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ecow::EcoString;
use nonnet_chain::Record;
use nonnet_engine::{ChangeSet, Transaction};
use nonnet_hooks::dhcp::Lease;
use nonnet_hooks::object::Owner;
use nonnet_rpc::{Inbound, InboundReceiver, Outbox, Payload, Weight};
use nonnet_sessions::{Command, Event, Outgoing, Server, SessionId};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::oneshot;
use tracing::{error, warn};

use crate::checkpoints::{CheckpointKeeper, Learnt};
use crate::clock::Clock;
use crate::databases::author;
use crate::network::NetworkLink;
use crate::past::PastReads;
use crate::plan::PlanRequest;
use crate::remotes::Followed;
use crate::report::Reports;
use crate::roster::{Roster, StateOrder};
use crate::source::{Relays, Replication, SourceEvent};
use crate::storage::{Completed, Storage, Verdict};
use crate::transaction_log::TransactionLog;

pub(crate) use crate::state::start::{Surroundings, start};

/// Events taken at once; what they commit is stored as one group.
const BATCH_EVENTS_MAX: usize = 256;

/// How long a stop waits for records that are on their way to the disk.
const STOP_STORE_DELAY: Duration = Duration::from_secs(10);

/// The exit status where the outcome of a write is unknown (`EX_IOERR`, sysexits.h).
const EXIT_WRITE_UNKNOWN: i32 = 74;

/// Everything the state thread holds.
pub(crate) struct State {
    pub(crate) server: Server,
    pub(crate) clock: Clock,
    pub(crate) storages: BTreeMap<usize, Storage>,
    /// The databases by name, as places in `storages`.
    pub(crate) places: HashMap<EcoString, usize>,
    pub(crate) roster: Roster,
    pub(crate) network: Option<NetworkLink>,
    pub(crate) checkpoints: Option<CheckpointKeeper>,
    pub(crate) sessions: HashMap<SessionId, Outbox>,
    pub(crate) past_reads: PastReads,
    pub(crate) transaction_log: TransactionLog,
    /// The columns that remotes and files are read from.
    pub(crate) followed: Followed,
    pub(crate) relays: Relays,
    pub(crate) replication: Replication,
    /// Records that the current batch of events brought, by database.
    pub(crate) fresh: HashMap<usize, Fresh>,
}

/// Records of one batch of events.
#[derive(Default)]
pub(crate) struct Fresh {
    records: Vec<Record>,
    durable: bool,
}

/// Where the state thread's events come from.
pub(crate) struct Sources {
    pub(crate) inbound: InboundReceiver,
    pub(crate) completions: UnboundedReceiver<Completed>,
    /// What was read from the logs.
    pub(crate) past: UnboundedReceiver<Event>,
    /// What the servers say from which databases come.
    pub(crate) news: mpsc::Receiver<SourceEvent>,
    pub(crate) orders: mpsc::Receiver<StateOrder>,
    pub(crate) stop: oneshot::Receiver<()>,
}

impl State {
    /// Runs until it is told to stop; what was accepted by then is stored and answered.
    pub(crate) async fn run(mut self, mut sources: Sources) {
        let mut events = Vec::with_capacity(BATCH_EVENTS_MAX);
        loop {
            let deadline = self.deadline_ms();
            let until_deadline = sleep_until(deadline, self.clock);
            tokio::select! {
                count = sources.inbound.recv_many(&mut events, BATCH_EVENTS_MAX) => {
                    if count == 0 {
                        break;
                    }
                    for event in events.drain(..) {
                        self.inbound(event);
                    }
                }
                Some(completed) = sources.completions.recv() => self.completed(completed),
                Some(event) = sources.past.recv() => self.handle(event),
                Some(event) = sources.news.recv() => self.source(event),
                Some(reports) = next_reports(self.network.as_mut()) => self.report(reports),
                Some(learnt) = next_learnt(self.checkpoints.as_mut()) => self.learn(learnt),
                Some(order) = sources.orders.recv() => self.obey(order, &mut sources.completions).await,
                () = until_deadline, if deadline.is_some() => self.handle(Event::Tick),
                _ = &mut sources.stop => break,
            }
            self.settle_checkpoints();
            self.append_fresh();
        }
        self.stop(sources.completions).await;
    }

    fn inbound(&mut self, inbound: Inbound) {
        // What a long message weighs is held until it has been looked at.
        let (event, _weight): (Event, Option<Weight>) = match inbound {
            Inbound::Opened { session, peer, outbox } => {
                self.sessions.insert(session, outbox);
                (Event::Opened { session, peer }, None)
            }
            Inbound::Message {
                session,
                message,
                newline,
                weight,
            } => (
                Event::Message {
                    session,
                    message,
                    newline,
                },
                Some(weight),
            ),
            Inbound::Malformed { session, details } => (Event::Malformed { session, details }, None),
            Inbound::HalfClosed { session } => (Event::HalfClosed { session }, None),
            Inbound::Drained { session } => (Event::Drained { session }, None),
            Inbound::Closed { session } => {
                self.sessions.remove(&session);
                (Event::Closed { session }, None)
            }
        };
        self.handle(event);
    }

    /// When something is due by itself, on the monotonic clock.
    fn deadline_ms(&self) -> Option<u64> {
        let checkpoints = self.checkpoints.as_ref().and_then(CheckpointKeeper::deadline_ms);
        self.server.deadline_ms().into_iter().chain(checkpoints).min()
    }

    fn learn(&mut self, learnt: Learnt) {
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.learn(learnt);
        }
    }

    /// Rolls back, or confirms, the checkpoints of which that is due.
    fn settle_checkpoints(&mut self) {
        if let Some(checkpoints) = &mut self.checkpoints {
            let commands = checkpoints.settle(&mut self.server, self.network.as_mut(), self.clock.now());
            self.carry_out(commands);
        }
    }

    pub(crate) fn handle(&mut self, event: Event) {
        let commands = self.server.handle(event, self.clock.now());
        self.carry_out(commands);
    }

    /// Does what the sessions ask for.
    pub(crate) fn carry_out(&mut self, commands: Vec<Command>) {
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.changed(&commands, &self.server, self.clock.now());
        }
        let mut congested = Vec::new();
        for command in commands {
            match command {
                Command::Send { session, payload } => {
                    if let Some(outbox) = self.sessions.get(&session) {
                        outbox.send(payload_of(payload));
                        if outbox.congested() {
                            congested.push(session);
                        }
                    }
                }
                Command::Finished { session } => {
                    if let Some(outbox) = self.sessions.get(&session) {
                        outbox.finished(1);
                    }
                }
                Command::Close { session } => {
                    if let Some(outbox) = self.sessions.get(&session) {
                        outbox.close_after_flush();
                    }
                }
                Command::Append {
                    database,
                    record,
                    durable,
                } => {
                    if let Some(place) = self.places.get(&database) {
                        let fresh = self.fresh.entry(*place).or_default();
                        fresh.records.push(*record);
                        fresh.durable |= durable;
                    }
                }
                Command::Plan {
                    database,
                    number,
                    changes,
                    rows,
                } => self.plan(&database, PlanRequest { number, changes, rows }),
                Command::ReadSince { database, id } => self.past_reads.start(database, id),
                Command::Look { number, lookups } => self.past_reads.look(number, lookups),
                Command::ReadBacklogs => self.tell_backlogs(),
                Command::Converted { database } => self.converted(&database),
                Command::Forward {
                    database,
                    number,
                    params,
                } => self.relays.forward(&database, number, params),
                Command::Withdraw { database, number } => self.relays.withdraw(&database, number),
                Command::Resync { database, reason } => self.relays.resync(&database, reason),
                Command::Changed {
                    database,
                    changes,
                    sequence,
                } => self.changed(&database, &changes, sequence),
            }
        }
        for session in congested {
            // Only marks the session: no command follows.
            self.server.handle(Event::Congested { session }, self.clock.now());
        }
    }

    /// Tells what each session has not read yet.
    fn tell_backlogs(&mut self) {
        let sessions = self.sessions.iter();
        let bytes = sessions.map(|(id, outbox)| (*id, outbox.backlog_bytes())).collect();
        self.handle(Event::Backlogs { bytes });
    }

    /// Has the kernel's side work a plan out; where there is none, nobody can tell.
    fn plan(&mut self, database: &str, request: PlanRequest) {
        let number = request.number;
        let network = self.network.as_ref().filter(|network| network.follows(database));
        if !network.is_some_and(|network| network.plan(request)) {
            let plan = serde_json::Value::Null;
            self.handle(Event::Planned { number, plan });
        }
    }

    /// Tells those who follow the rows of a database.
    fn changed(&mut self, database: &EcoString, changes: &Arc<ChangeSet>, sequence: u64) {
        let Some(rows) = self.server.database(database) else {
            return;
        };
        self.transaction_log
            .changed(rows, changes, self.clock.now().monotonic_ms);
        self.followed.rows_changed(rows, changes);
        if let Some(network) = &self.network
            && network.follows(database)
        {
            network.changed(changes, rows.clone(), sequence);
        }
    }

    pub(crate) fn append_fresh(&mut self) {
        let key_life = Duration::from_secs(self.roster.arguments.key_life);
        for (place, mut fresh) in self.fresh.drain() {
            if let Some(storage) = self.storages.get_mut(&place) {
                let rotation = storage.rotate_key(key_life, |keys| {
                    let named = self.places.iter().find(|(_, at)| **at == place);
                    self.server.rotate_key(named?.0, &author("key"), keys, self.clock.now())
                });
                fresh.records.extend(rotation);
                storage.append(fresh.records, fresh.durable);
            }
        }
    }

    pub(crate) fn completed(&mut self, completed: Completed) {
        // The records in hand come after those that are reported on; a failure must find all of them on their way.
        self.append_fresh();
        let Completed {
            database: place,
            completion,
        } = completed;
        let Some(verdict) = self
            .storages
            .get_mut(&place)
            .map(|storage| storage.completed(completion))
        else {
            return;
        };
        let Some(database) = self
            .places
            .iter()
            .find(|(_, at)| **at == place)
            .map(|(name, _)| name.clone())
        else {
            return;
        };
        match verdict {
            Verdict::Stored(sequence) => {
                if let Some(checkpoints) = &mut self.checkpoints {
                    checkpoints.stored(&database, sequence);
                }
                self.handle(Event::Stored { database, sequence });
            }
            Verdict::Unstored(sequence, reason) => {
                warn!("{database}: commits from {sequence} on are undone, since they could not be stored: {reason}");
                self.handle(Event::Unstored {
                    database,
                    sequence,
                    reason: reason.into(),
                });
                // A backup has missed what was undone.
                self.follow_anew();
            }
            Verdict::Unknown(reason) => {
                error!("{database}: {reason}; nobody can be answered truthfully, so the server ends");
                std::process::exit(EXIT_WRITE_UNKNOWN);
            }
            Verdict::Nothing => {}
        }
    }

    /// Puts what the kernel's side reports into the rows.
    fn report(&mut self, mut reports: Reports) {
        for (port, lease) in reports.take_leases() {
            self.write_lease(&port, lease.as_ref());
        }
        for (number, plan) in reports.take_plans() {
            self.handle(Event::Planned { number, plan });
        }
        if reports.is_empty() {
            return;
        }
        let Some(network) = &mut self.network else {
            return;
        };
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.reported(reports.rows(), reports.cur_cfg(), &self.server);
        }
        let database = network.database().clone();
        let now = self.clock.now();
        let write = |transaction: &mut Transaction<'_>| network.write(reports, transaction, now);
        match self.server.transact(&database, &NetworkLink::author(), now, write) {
            Ok(commands) => self.carry_out(commands),
            Err(error) => {
                warn!("{database}: the state of the rows could not be written: {error}");
                if let Some(rows) = self.server.database(&database) {
                    network.forget_events(rows);
                }
            }
        }
    }

    /// Commits what a DHCP server gave a port.
    fn write_lease(&mut self, port: &Owner, lease: Option<&Lease>) {
        let Some(network) = &self.network else { return };
        let database = network.database().clone();
        let sequence = self.server.sequence(&database).unwrap_or(0) + 1;
        let write = |transaction: &mut Transaction<'_>| network.write_lease((port, lease), sequence, transaction);
        match self
            .server
            .transact(&database, &NetworkLink::author(), self.clock.now(), write)
        {
            Ok(commands) => self.carry_out(commands),
            Err(error) => warn!("{database}: the lease of {port} could not be written: {error}"),
        }
    }

    /// Waits until what is on its way is stored, answers, and closes every session.
    async fn stop(mut self, mut completions: UnboundedReceiver<Completed>) {
        self.append_fresh();
        let drained = tokio::time::timeout(STOP_STORE_DELAY, async {
            while self.storages.values().any(Storage::is_busy) {
                let Some(completed) = completions.recv().await else {
                    break;
                };
                self.completed(completed);
            }
        });
        if drained.await.is_err() {
            warn!(
                "records were still on their way to the disk after {} s",
                STOP_STORE_DELAY.as_secs()
            );
        }
        for outbox in self.sessions.values() {
            outbox.close_after_flush();
        }
        let storages = self.storages;
        let closed = tokio::task::spawn_blocking(|| storages.into_values().for_each(Storage::stop));
        if closed.await.is_err() {
            error!("the files were not closed cleanly");
        }
    }
}

fn payload_of(outgoing: Outgoing) -> Payload {
    match outgoing {
        Outgoing::Text(text) => Payload::Bytes(Bytes::from(text)),
        Outgoing::Shared(text) => Payload::Bytes(text),
        Outgoing::Job(job) => Payload::Job(job),
    }
}

async fn next_reports(network: Option<&mut NetworkLink>) -> Option<Reports> {
    match network {
        Some(network) => network.next_reports().await,
        None => std::future::pending().await,
    }
}

async fn next_learnt(checkpoints: Option<&mut CheckpointKeeper>) -> Option<Learnt> {
    match checkpoints {
        Some(checkpoints) => checkpoints.next_learnt().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline_ms: Option<u64>, clock: Clock) {
    if let Some(deadline_ms) = deadline_ms {
        let left_ms = deadline_ms.saturating_sub(clock.now().monotonic_ms);
        tokio::time::sleep(Duration::from_millis(left_ms)).await;
    }
}
