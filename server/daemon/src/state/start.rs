//! The state at the start: the databases are put under the server, their writers, sources and the network controller started.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use nonnet_engine::Entropy;
use nonnet_rpc::TlsDialler;
use nonnet_sessions::{Event, Server};
use nonnet_store::Durability;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::arguments::{Arguments, DurabilityArgument};
use crate::clock::Clock;
use crate::databases::Databases;
use crate::past::PastReads;
use crate::remotes::Followed;
use crate::roster::Roster;
use crate::source::{Relays, Replication, SourceEvent, source_channel};
use crate::state::State;
use crate::storage::{Completed, Storage};
use crate::transaction_log::TransactionLog;
use crate::{controller, roster};

/// The state, with where the reports of writers, of reads of the logs, and of sources come from.
pub(crate) type StartedState = (
    State,
    UnboundedReceiver<Completed>,
    UnboundedReceiver<Event>,
    mpsc::Receiver<SourceEvent>,
);

/// What the state shares with those who bring sessions.
pub(crate) struct Surroundings {
    /// Woken when rows change that remotes or files are read from.
    pub(crate) rows_changed: Arc<Notify>,
    /// For sources.
    pub(crate) tls: TlsDialler,
}

/// Puts the databases under the server, starts their writers and the network controller.
pub(crate) fn start(
    arguments: &Arguments,
    clock: Clock,
    loaded: Databases,
    mut server: Server,
    mut entropy: Entropy,
    surroundings: Surroundings,
) -> anyhow::Result<StartedState> {
    let durability = match arguments.durability {
        DurabilityArgument::EveryCommit => Durability::EveryCommit,
        DurabilityArgument::OnRequest => Durability::OnRequest,
    };
    let (completion_sender, completions) = mpsc::unbounded_channel();
    let (mut storages, mut places, mut ids) = (BTreeMap::new(), HashMap::new(), HashMap::new());
    let mut files = HashMap::new();
    server.serve_audit(!arguments.hides_audit(), clock.now())?;
    let (mut past_reads, past) = PastReads::new();
    for (place, loaded) in loaded.files.into_iter().enumerate() {
        let name = loaded.database.schema().name.clone();
        ids.insert(name.clone(), loaded.chain.db_id());
        past_reads.add(name.clone(), loaded.log.path().to_owned());
        past_reads.load_newest(&name, &mut server);
        let hook = controller::hook_for(loaded.database.schema());
        server.add_database(loaded.database, loaded.chain, hook, clock.now())?;
        files.insert(name.clone(), roster::resolved(&loaded.path));
        let storage = Storage::start(place, loaded.log, durability, completion_sender.clone())?;
        storages.insert(place, storage);
        places.insert(name, place);
    }
    let (source_sender, source_events) = source_channel();
    let mut relays = Relays::new(surroundings.tls.clone(), source_sender.clone());
    for relay in loaded.relays {
        server.add_relay(&relay.database, clock.now())?;
        relays.start(relay);
    }
    let (remote, exclusion) = arguments.replication()?;
    let mut replication = Replication::new(remote, exclusion, surroundings.tls, source_sender);
    if let Some(plan) = arguments.backup_plan.clone() {
        replication.set_plan(plan);
    }
    let is_backup = replication.remote.is_some() && !arguments.active;
    if is_backup {
        // Its rows are those of another host until it becomes active.
        ids.retain(|name, _| files.get(name).is_none_or(|file| !replication.covers(file)));
    }
    let started = controller::start(
        arguments,
        &mut server,
        &ids,
        past_reads.path(controller::DATABASE),
        clock,
        &mut entropy,
    )?;
    let (sessions, fresh) = (HashMap::new(), HashMap::new());
    let roster = Roster {
        arguments: arguments.clone(),
        durability,
        completions: completion_sender,
        files,
        next_place: storages.len(),
        saved: None,
    };
    let mut state = State {
        server,
        clock,
        storages,
        places,
        roster,
        network: started.link,
        checkpoints: started.checkpoints,
        sessions,
        past_reads,
        relays,
        replication,
        transaction_log: TransactionLog::new(),
        followed: Followed::new(surroundings.rows_changed),
        fresh,
    };
    state.carry_out(started.commands);
    state.append_fresh();
    if is_backup {
        state.become_backup();
    }
    Ok((state, completions, past, source_events))
}
