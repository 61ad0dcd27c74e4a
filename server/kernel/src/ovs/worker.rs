//! The loop beside Open vSwitch's database: it follows the rows, carries operations out, and waits for `ovs-vswitchd`.
//!
//! One transaction is on its way at a time; what comes meanwhile is one transaction after it. An operation is over when `ovs-vswitchd` has
//! followed (`cur_cfg`), or has had its time: what then is shown by the rows.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use ecow::{EcoString, eco_format};
use nonnet_client::{Address, Committed, OperationResult, Replica, ReplicaEvent, TransactError};
use nonnet_hooks::mirror::{Change, NamespaceId, Observation, OvsChange};
use nonnet_hooks::name::LinkName;
use nonnet_hooks::object::{ObjectKey, OvsGuard, OvsOperation};
use nonnet_hooks::plan::{Outcome, Refusal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::flowing::{Flowed, Flowing, Guarding};
use super::flows::{Bridges, Guards, PortNumber};
use super::rows::Rows;
use super::transaction::{self, Composed};
use super::{Order, Tell};
use crate::limits::{OVS_BACKOFF_MAX, OVS_BACKOFF_MIN, OVS_ERROR_GRACE, OVS_FOLLOW_PATIENCE, OVS_REPLY_PATIENCE};

/// Operations that make one transaction.
type Batch = Vec<(ObjectKey, OvsOperation)>;

/// The loop's state while there is a database.
struct Following<'a> {
    replica: Replica,
    rows: Rows,
    mark: &'a str,
    tell: &'a Tell,
    queue: VecDeque<Batch>,
    flight: Option<Flight>,
    flows: Flowing,
    /// What `ovs-vswitchd` is to follow: the `next_cfg`, and until when it is waited for.
    waits: BTreeMap<ObjectKey, Wait>,
}

/// A transaction on its way.
struct Flight {
    batch: Batch,
    must_match: Vec<Vec<usize>>,
    reply: JoinHandle<Result<Committed, TransactError>>,
    /// When the answer is overdue.
    until: Instant,
}

#[derive(Debug)]
struct Wait {
    name: LinkName,
    cfg: i64,
    until: Instant,
    is_followed: bool,
    /// What a port is to be held to as soon as it is there.
    guard: Option<OvsGuard>,
}

/// Nobody gives orders or listens any more.
struct Over;

/// Runs until nobody gives orders or listens any more.
pub(super) async fn run(address: Address, mark: EcoString, mut orders: UnboundedReceiver<Order>, tell: Tell) {
    let mut backoff = OVS_BACKOFF_MIN;
    loop {
        let opened = open(&address, &mut orders, &tell, backoff).await;
        let Ok(opened) = opened else { return };
        let Some(replica) = opened else {
            backoff = (backoff * 2).min(OVS_BACKOFF_MAX);
            continue;
        };
        backoff = OVS_BACKOFF_MIN;
        tracing::info!(%address, "Open vSwitch is there");
        let mut following = Following {
            replica,
            rows: Rows::new(mark.clone()),
            mark: &mark,
            tell: &tell,
            queue: VecDeque::new(),
            flows: Flowing::new(Bridges::beside(&address)),
            flight: None,
            waits: BTreeMap::new(),
        };
        match following.run(&mut orders).await {
            Err(Over) => return,
            Ok(reason) => {
                tracing::warn!(%address, %reason, "Open vSwitch is gone");
                if following.give_up(&reason).is_err() || absent(&tell, reason).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Connects once. Without success it says why, and gives nothing after a pause in which orders are refused.
async fn open(
    address: &Address,
    orders: &mut UnboundedReceiver<Order>,
    tell: &Tell,
    pause: Duration,
) -> Result<Option<Replica>, Over> {
    let selection = super::table::selection();
    let opening = Replica::open(address, super::table::DATABASE, selection);
    let reason: EcoString = match timeout(OVS_REPLY_PATIENCE, opening).await {
        Ok(Ok(replica)) => return Ok(Some(replica)),
        Ok(Err(error)) => eco_format!("{error}"),
        Err(_) => eco_format!("{address} does not answer"),
    };
    tracing::debug!(%address, %reason, "Open vSwitch is not there");
    absent(tell, reason.clone()).await?;
    let until = Instant::now() + pause;
    loop {
        let order = tokio::select! {
            () = sleep_until(until) => return Ok(None),
            order = orders.recv() => order.ok_or(Over)?,
        };
        match order {
            Order::Apply(batch) => refuse(tell, batch, &reason)?,
            Order::Tell => absent(tell, reason.clone()).await?,
        }
    }
}

async fn absent(tell: &Tell, reason: EcoString) -> Result<(), Over> {
    observed(tell, vec![OvsChange::Absent(reason)]).await
}

fn refuse(tell: &Tell, batch: Batch, reason: &EcoString) -> Result<(), Over> {
    for (key, _) in batch {
        tell.finished(key, refused(reason.clone())).map_err(|()| Over)?;
    }
    Ok(())
}

fn refused(text: EcoString) -> Outcome {
    Outcome::Failed(Refusal { errno: 0, text })
}

async fn observed(tell: &Tell, changes: Vec<OvsChange>) -> Result<(), Over> {
    if changes.is_empty() {
        return Ok(());
    }
    let observe = |change| Observation {
        namespace: NamespaceId::Host,
        change: Change::Ovs(change),
    };
    tell.observed(changes.into_iter().map(observe).collect())
        .await
        .map_err(|()| Over)
}

impl Following<'_> {
    /// Follows until the database is gone; gives the reason.
    async fn run(&mut self, orders: &mut UnboundedReceiver<Order>) -> Result<EcoString, Over> {
        self.begin().await?;
        loop {
            self.launch();
            self.launch_flows()?;
            let look = self.flows.due();
            let due = self.waits.values().map(|wait| wait.until).min();
            tokio::select! {
                event = self.replica.next() => match event {
                    ReplicaEvent::Changed(changes) => {
                        let told = self.rows.change(&self.replica, &changes);
                        if !told.is_empty() {
                            self.flows.hurry();
                        }
                        observed(self.tell, told).await?;
                        self.follow()?;
                    }
                    ReplicaEvent::Synced(_) => self.tell_all().await?,
                    ReplicaEvent::Lost(error) => return Ok(eco_format!("{error}")),
                },
                order = orders.recv() => match order.ok_or(Over)? {
                    Order::Apply(batch) => self.enqueue(batch),
                    Order::Tell => {
                        self.tell_all().await?;
                        self.flows.look_at_all(&self.rows);
                    }
                },
                reply = landed(&mut self.flight) => self.landed(reply).await?,
                () = until(due) => self.follow()?,
                done = self.flows.done() => self.flowed(done).await?,
                () = until(look) => self.flows.look(&self.rows),
            }
        }
    }

    /// Tells everything for the first time, of ports also what holds them.
    async fn begin(&mut self) -> Result<(), Over> {
        self.rows.replace(&self.replica);
        self.flows.look_at_all(&self.rows);
        let nowhere = |_: &LinkName| None;
        loop {
            self.flows.launch(nowhere);
            if !self.flows.is_busy() {
                break;
            }
            let Flowed { bridge, set, read, .. } = self.flows.done().await;
            self.take_in(bridge, read, set.is_ok());
        }
        self.tell_all().await
    }

    async fn tell_all(&mut self) -> Result<(), Over> {
        let all = self.rows.replace(&self.replica);
        observed(self.tell, vec![all]).await
    }

    fn enqueue(&mut self, batch: Batch) {
        for (key, _) in &batch {
            self.waits.remove(key);
            self.flows.forget(key);
        }
        let is_of_flows =
            |(_, operation): &(ObjectKey, OvsOperation)| matches!(operation, OvsOperation::GuardSet { .. });
        let (of_flows, batch): (Batch, Batch) = batch.into_iter().partition(is_of_flows);
        self.flows.queue.extend(of_flows.into_iter().filter_map(Guarding::of));
        if !batch.is_empty() {
            self.queue.push_back(batch);
        }
    }

    /// Changes the flows of one bridge next, or looks at them, if nothing is under way with flows.
    fn launch_flows(&mut self) -> Result<(), Over> {
        let places = |port: &LinkName| self.rows.place(&self.replica, port);
        for key in self.flows.launch(places) {
            let reason = "ovs-vswitchd has given the port no number";
            self.tell.finished(key, refused(reason.into())).map_err(|()| Over)?;
        }
        Ok(())
    }

    /// Takes in what flows there are; where `sweeps`, those of ports that are gone are to go.
    fn take_in(&mut self, bridge: LinkName, read: Result<Guards, EcoString>, sweeps: bool) -> Vec<OvsChange> {
        let guards = match read {
            Ok(guards) => guards,
            // What was there last is taken to be there: only `ovs-vswitchd` can lose it, and is not there.
            Err(reason) => {
                tracing::debug!(%bridge, %reason, "flows cannot be read");
                return Vec::new();
            }
        };
        let numbers = self.rows.numbers(&self.replica, &bridge);
        // Flows of a port that is gone mean nothing, until another one gets its number.
        let gone: Vec<PortNumber> = guards
            .keys()
            .filter(|port| sweeps && !numbers.contains(port))
            .copied()
            .collect();
        if !guards.is_empty() {
            self.flows.seen(&bridge, gone);
        }
        self.rows.guarded(&self.replica, bridge, guards)
    }

    /// Takes in what was done with flows, and what they say since.
    async fn flowed(
        &mut self,
        Flowed {
            bridge,
            keys,
            set,
            read,
        }: Flowed,
    ) -> Result<(), Over> {
        let told = self.take_in(bridge, read, set.is_ok());
        observed(self.tell, told).await?;
        let outcome = set.map_or_else(refused, |()| Outcome::Done);
        for key in keys {
            self.tell.finished(key, outcome.clone()).map_err(|()| Over)?;
        }
        Ok(())
    }

    /// Sends the next transaction, if none is on its way.
    fn launch(&mut self) {
        let (None, Some(connection)) = (&self.flight, self.replica.connection()) else {
            return;
        };
        let Some(batch) = self.queue.pop_front() else { return };
        let operations = batch.iter().map(|(_, operation)| operation);
        let Composed {
            transaction,
            must_match,
        } = transaction::compose(&self.replica, self.mark, operations);
        let connection = connection.clone();
        let reply = tokio::spawn(async move { transaction.commit(&connection).await });
        self.flight = Some(Flight {
            batch,
            must_match,
            reply,
            until: Instant::now() + OVS_REPLY_PATIENCE,
        });
    }

    /// Takes the answer to a transaction.
    async fn landed(&mut self, reply: Result<Committed, EcoString>) -> Result<(), Over> {
        let Some(Flight { batch, must_match, .. }) = self.flight.take() else {
            return Ok(());
        };
        let committed = match reply {
            Ok(committed) => committed,
            Err(reason) if batch.len() == 1 => return refuse(self.tell, batch, &reason),
            // What is wrong with one operation is no reason to leave the others out.
            Err(_) => {
                batch.into_iter().rev().for_each(|one| self.queue.push_front(vec![one]));
                return Ok(());
            }
        };
        let rows = committed.results.last().map(OperationResult::rows).unwrap_or_default();
        let cfg = rows.first().and_then(|row| row.get("next_cfg")?.as_i64()).unwrap_or(0);
        let until = Instant::now() + OVS_FOLLOW_PATIENCE;
        let mut names = HashSet::new();
        for ((key, operation), must_match) in batch.into_iter().zip(must_match) {
            let count = |at: &usize| committed.results.get(*at).and_then(OperationResult::count);
            if must_match.iter().any(|at| count(at) == Some(0)) {
                let reason = "a row of Open vSwitch that it is about is gone, or not nonnet's any more";
                self.tell.finished(key, refused(reason.into())).map_err(|()| Over)?;
                continue;
            }
            let name = operation.name().clone();
            names.insert(name.clone());
            let guard = match operation {
                OvsOperation::PortSet { port, .. } => port.guard,
                _ => None,
            };
            let wait = Wait {
                name,
                cfg,
                until,
                is_followed: false,
                guard,
            };
            self.waits.insert(key, wait);
        }
        let told = self.rows.committed(&self.replica, &names, cfg);
        observed(self.tell, told).await?;
        self.follow()
    }

    /// Ends the waits of what `ovs-vswitchd` has followed, or has had its time for.
    fn follow(&mut self) -> Result<(), Over> {
        let now = Instant::now();
        let cur_cfg = self.rows.cur_cfg();
        let faulty = self.rows.faulty();
        let mut over = Vec::new();
        for (key, wait) in &mut self.waits {
            if wait.cfg <= cur_cfg && !wait.is_followed {
                wait.is_followed = true;
                // An error that comes of the order of things (the other end of a patch, a link that is just coming) goes by itself.
                if faulty.contains(&wait.name) {
                    wait.until = now + OVS_ERROR_GRACE;
                }
            }
            if (wait.is_followed && !faulty.contains(&wait.name)) || wait.until <= now {
                over.push(key.clone());
            }
        }
        for key in over {
            let wait = self.waits.remove(&key);
            let guarded = wait.and_then(|wait| Some((wait.guard?, wait.name)));
            if let Some((guard, port)) =
                guarded.filter(|(guard, port)| self.rows.lacks_guard(&self.replica, port, guard))
            {
                // It is not ready before it is held.
                self.flows.hold(key, port, guard);
                continue;
            }
            self.tell.finished(key, Outcome::Done).map_err(|()| Over)?;
        }
        Ok(())
    }

    /// Ends everything that is under way, for this reason.
    fn give_up(&mut self, reason: &EcoString) -> Result<(), Over> {
        let flight = self.flight.take();
        if let Some(flight) = &flight {
            flight.reply.abort();
        }
        let batches = flight
            .map(|flight| flight.batch)
            .into_iter()
            .chain(self.queue.drain(..));
        let mut keys: Vec<ObjectKey> = batches.flatten().map(|(key, _)| key).collect();
        keys.extend(self.flows.give_up());
        let waiting = std::mem::take(&mut self.waits).into_keys();
        for key in keys.into_iter().chain(waiting) {
            self.tell.finished(key, refused(reason.clone())).map_err(|()| Over)?;
        }
        Ok(())
    }
}

/// Waits for the answer to the transaction that is on its way, if one is.
async fn landed(flight: &mut Option<Flight>) -> Result<Committed, EcoString> {
    let Some(flight) = flight else {
        return std::future::pending().await;
    };
    match timeout_at(flight.until, &mut flight.reply).await {
        Ok(Ok(Ok(committed))) => Ok(committed),
        Ok(Ok(Err(error))) => Err(eco_format!("{error}")),
        Ok(Err(error)) => Err(eco_format!("{error}")),
        Err(_) => Err("ovsdb-server does not answer".into()),
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
