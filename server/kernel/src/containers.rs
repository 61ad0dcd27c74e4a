//! Containers: a thread that watches them, and threads that change them.
//!
//! Takes operations, which start at once and end whenever they do; gives observations and how each operation ended. Several containers are worked on side
//! by side, one never by two operations. A container that is worked on is not watched, so that nobody sees it half done. A container counts as ours only
//! by the mark in its directory; a container's first process is found by its monitor, so that a start by hand is seen like any other.

mod driver;
mod idmap;
mod marker;
mod pct;
mod rootfs;
mod settings;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ecow::{EcoString, eco_format};
use nonnet_hooks::mirror::{Change, ContainerChange, ContainerState, Ended, NamespaceId, Observation};
use nonnet_hooks::object::ObjectKey;
use nonnet_hooks::object::container::ContainerOperation;
use nonnet_hooks::plan::{Outcome, Refusal};
use nonnet_hooks::reconcile::Input;
use tokio::sync::mpsc::Sender;

pub(crate) use self::driver::Driver;
use self::marker::Marker;
use crate::limits::{CONTAINERS_AT_ONCE_MAX, LOOK_MS, REST_MS_MAX, REST_MS_MIN, STEADY_MS};
use crate::lxc;

/// The threads. They end with this value; what is under way comes to its end first.
#[derive(Debug)]
pub(crate) struct Containers {
    tasks: mpsc::Sender<ContainerOperation>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    driver: Driver,
    book: Mutex<Book>,
    inputs: Sender<Input>,
    over: AtomicBool,
}

/// What is known and was told.
#[derive(Debug)]
struct Book {
    processes: lxc::Containers,
    told: Option<BTreeMap<EcoString, ContainerState>>,
    /// Those that are worked on.
    busy: BTreeSet<EcoString>,
    lives: HashMap<EcoString, Life>,
}

/// What a container did since the server runs.
#[derive(Debug)]
struct Life {
    /// Its first process; `None` while it does not run.
    init: Option<u32>,
    since: Instant,
    /// Lives in a row that ended soon.
    short: u32,
    /// How the last one ended, if nonnet did not end it, and until when it rests.
    ended: Option<(EcoString, bool, Instant)>,
}

impl Containers {
    /// Starts the threads; the first look is told before anything else about containers.
    pub(crate) fn start(driver: Driver, inputs: Sender<Input>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            driver,
            book: Mutex::new(Book {
                processes: lxc::Containers::new(),
                told: None,
                busy: BTreeSet::new(),
                lives: HashMap::new(),
            }),
            inputs,
            over: AtomicBool::new(false),
        });
        let (tasks, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..CONTAINERS_AT_ONCE_MAX {
            let (shared, queue) = (Arc::clone(&shared), Arc::clone(&queue));
            let name = format!("container-{number}");
            thread::Builder::new().name(name).spawn(move || shared.work(&queue))?;
        }
        let watching = Arc::clone(&shared);
        thread::Builder::new()
            .name("containers".into())
            .spawn(move || watching.watch())?;
        Ok(Self { tasks, shared })
    }

    /// Starts an operation; [`Input::Finished`] tells of its end.
    pub(crate) fn begin(&self, operation: &ContainerOperation) -> Outcome {
        match self.tasks.send(operation.clone()) {
            Ok(()) => Outcome::Started,
            Err(_) => Outcome::Failed(refusal("nobody works on containers any more".into())),
        }
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at all containers again and again, and tells what changed.
    fn watch(&self) {
        while !self.over.load(Ordering::Relaxed) {
            if !self.look_at_all() {
                return;
            }
            thread::sleep(Duration::from_millis(LOOK_MS));
        }
    }

    /// `false`: nobody listens any more.
    fn look_at_all(&self) -> bool {
        let ids = self.driver.ids();
        let mut book = self.book();
        if ids.is_empty() && book.told.as_ref().is_some_and(BTreeMap::is_empty) {
            return true;
        }
        let now = Instant::now();
        book.processes.look(now);
        let states: Vec<ContainerState> = ids
            .iter()
            .filter(|id| !book.busy.contains(*id))
            .cloned()
            .collect::<Vec<_>>()
            .iter()
            .filter_map(|id| self.look(&mut book, id, now))
            .collect();
        let changes = match &mut book.told {
            None => {
                book.told = Some(states.iter().map(|state| (state.id.clone(), state.clone())).collect());
                vec![ContainerChange::Replaced(states)]
            }
            Some(_) => book.differences(states),
        };
        if changes.is_empty() {
            return true;
        }
        // With the book in hand, so that what is told later is seen later.
        let observed = changes.into_iter().map(observation).collect();
        self.inputs.blocking_send(Input::Observed(observed)).is_ok()
    }

    /// What a container is now; `None`: it is not there.
    fn look(&self, book: &mut Book, id: &EcoString, now: Instant) -> Option<ContainerState> {
        let marker = Marker::read(&self.driver.directory(id));
        if marker.is_none() && !self.driver.exists(id) {
            book.lives.remove(id);
            return None;
        }
        let init = book.processes.init_below(self.driver.path(), id);
        let life = book.lives.entry(id.clone()).or_insert_with(|| Life {
            init,
            since: now,
            short: 0,
            ended: None,
        });
        if init.is_some() && life.init != init {
            (life.init, life.since, life.ended) = (init, now, None);
        } else if init.is_none() && life.init.take().is_some() {
            let steady = now.duration_since(life.since) >= Duration::from_millis(STEADY_MS);
            life.short = if steady { 1 } else { life.short.saturating_add(1) };
            let rest = REST_MS_MIN << (life.short - 1).min(16);
            let until = now + Duration::from_millis(rest.min(REST_MS_MAX));
            let (words, by_error) = self.driver.last_end(id);
            life.ended = Some((words, by_error, until));
        }
        let ended = life.ended.as_ref().map(|(words, by_error, until)| Ended {
            words: words.clone(),
            by_error: *by_error,
            rested: now >= *until,
        });
        Some(state(id, marker, init, ended))
    }

    fn work(&self, queue: &Mutex<mpsc::Receiver<ContainerOperation>>) {
        loop {
            let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(operation) = task else { return };
            let id = operation.id().clone();
            let init = {
                let mut book = self.book();
                book.busy.insert(id.clone());
                book.processes.look(Instant::now());
                book.processes.init_below(self.driver.path(), &id)
            };
            let outcome = match self.carry_out(&operation, init) {
                Ok(()) => Outcome::Done,
                Err(words) => Outcome::Failed(refusal(eco_format!("{operation}: {words}"))),
            };
            if !self.finish(&operation, &id, outcome) {
                return;
            }
        }
    }

    fn carry_out(&self, operation: &ContainerOperation, init: Option<u32>) -> Result<(), EcoString> {
        let driver = &self.driver;
        match operation {
            ContainerOperation::Create(container, ownership) => driver.create(container, *ownership),
            ContainerOperation::Adopt(id, ownership) => driver.adopt(id, *ownership),
            ContainerOperation::Configure(container) => driver.configure(container, init),
            ContainerOperation::Start(container) => {
                if init.is_none() {
                    driver.start(&container.id)?;
                }
                driver.first_boot(container)
            }
            ContainerOperation::Stop(_) if init.is_none() => Ok(()),
            ContainerOperation::Stop(id) => driver.stop(id),
            ContainerOperation::Destroy(id) => driver.destroy(id, init.is_some()),
            ContainerOperation::Release(id) => driver.release(id),
        }
    }

    /// Tells how an operation ended and what the container is then. `false`: nobody listens any more.
    fn finish(&self, operation: &ContainerOperation, id: &EcoString, outcome: Outcome) -> bool {
        let mut book = self.book();
        let now = Instant::now();
        book.busy.remove(id);
        book.processes.look(now);
        if let ContainerOperation::Stop(_) | ContainerOperation::Destroy(_) = operation {
            // That was no end of its own.
            if let Some(life) = book.lives.get_mut(id) {
                (life.init, life.ended, life.short) = (None, None, 0);
            }
        }
        let change = if let Some(state) = self.look(&mut book, id, now) {
            book.told.get_or_insert_default().insert(id.clone(), state.clone());
            ContainerChange::Set(state)
        } else {
            book.told.get_or_insert_default().remove(id);
            ContainerChange::Gone(id.clone())
        };
        let finished = Input::Finished {
            object: ObjectKey::Container(id.clone()),
            outcome,
            observed: vec![observation(change)],
        };
        self.inputs.blocking_send(finished).is_ok()
    }
}

impl Book {
    /// What differs from what was told, and notes it as told. Those that are worked on are left out.
    fn differences(&mut self, states: Vec<ContainerState>) -> Vec<ContainerChange> {
        let told = self.told.get_or_insert_default();
        let there: BTreeSet<&EcoString> = states.iter().map(|state| &state.id).collect();
        let gone: Vec<EcoString> = told
            .keys()
            .filter(|id| !there.contains(id) && !self.busy.contains(*id))
            .cloned()
            .collect();
        let mut changes = Vec::new();
        for id in gone {
            told.remove(&id);
            self.lives.remove(&id);
            changes.push(ContainerChange::Gone(id));
        }
        for state in states {
            if told.get(&state.id) != Some(&state) {
                told.insert(state.id.clone(), state.clone());
                changes.push(ContainerChange::Set(state));
            }
        }
        changes
    }
}

fn state(id: &EcoString, marker: Option<Marker>, init: Option<u32>, ended: Option<Ended>) -> ContainerState {
    let bare = ContainerState {
        id: id.clone(),
        ours: None,
        running: init.is_some(),
        ended,
        settings: BTreeMap::new(),
        outdated: BTreeSet::new(),
        firstboot: None,
    };
    let Some(marker) = marker else { return bare };
    let outdated = marker.outdated.filter(|(of, _)| Some(*of) == init);
    ContainerState {
        ours: Some(marker.ownership),
        settings: marker.settings,
        outdated: outdated.map(|(_, names)| names).unwrap_or_default(),
        firstboot: marker.firstboot,
        ..bare
    }
}

/// What was seen of containers, which are the host's.
pub(crate) fn observation(change: ContainerChange) -> Observation {
    Observation {
        namespace: NamespaceId::Host,
        change: Change::Container(change),
    }
}

/// What a program could not do, in its own words.
pub(crate) fn refusal(text: EcoString) -> Refusal {
    Refusal { errno: 0, text }
}
