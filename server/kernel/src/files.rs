//! Threads that read and write `resolv.conf`, since a container's file system may take as long as it likes to answer.
//!
//! Takes jobs, gives the reconciler's inputs. A file system that never answers holds up one thread of these, never the kernel thread.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use ecow::EcoString;
use nonnet_hooks::mirror::{Change, NamespaceId, Observation};
use nonnet_hooks::object::{NetnsRef, ObjectKey, ResolvConfSet};
use nonnet_hooks::plan::{Outcome, Refusal};
use nonnet_hooks::reconcile::Input;
use tokio::sync::mpsc::Sender;

use crate::limits::FILE_THREADS;
use crate::resolv_conf::{Place, give_back, read, write};

/// The threads, and the namespaces that have a file of ours.
#[derive(Debug)]
pub(crate) struct Files {
    jobs: mpsc::Sender<Job>,
    known: BTreeSet<NetnsRef>,
}

/// A change of one file.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) place: Result<Place, Refusal>,
    pub(crate) netns: NetnsRef,
    pub(crate) work: Work,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Work {
    /// Write, or give back, for an object.
    Set(ObjectKey, Option<EcoString>),
    /// Only read.
    Read,
}

impl Files {
    /// Starts the threads.
    pub(crate) fn start(inputs: &Sender<Input>) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..FILE_THREADS {
            let (queue, inputs) = (Arc::clone(&queue), inputs.clone());
            thread::Builder::new()
                .name("files".into())
                .spawn(move || work(&queue, &inputs))?;
        }
        Ok(Self {
            jobs,
            known: BTreeSet::new(),
        })
    }

    /// Gives a job to the threads.
    pub(crate) fn set(&mut self, object: ObjectKey, set: &ResolvConfSet, place: Result<Place, Refusal>) {
        if set.text.is_some() {
            self.known.insert(set.netns.clone());
        } else {
            self.known.remove(&set.netns);
        }
        self.give(Job {
            place,
            netns: set.netns.clone(),
            work: Work::Set(object, set.text.clone()),
        });
    }

    /// Has every known file read again.
    pub(crate) fn reread(&self, place: impl Fn(&NetnsRef) -> Result<Place, Refusal>) {
        for netns in &self.known {
            self.give(Job {
                place: place(netns),
                netns: netns.clone(),
                work: Work::Read,
            });
        }
    }

    fn give(&self, job: Job) {
        // The threads end only after this value.
        let _ = self.jobs.send(job);
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>, inputs: &Sender<Input>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if inputs.blocking_send(carry_out(job)).is_err() {
            return;
        }
    }
}

fn carry_out(job: Job) -> Input {
    let Job { place, netns, work } = job;
    let seen = |text: Option<EcoString>| {
        vec![Observation {
            namespace: NamespaceId::Host,
            change: Change::ResolvConf(netns.clone(), text.unwrap_or_default()),
        }]
    };
    match (work, place) {
        (Work::Read, Ok(place)) => Input::Observed(read(&place).map(seen).unwrap_or_default()),
        (Work::Read, Err(_)) => Input::Observed(vec![]),
        (Work::Set(object, _), Err(refusal)) => Input::Finished {
            object,
            outcome: Outcome::Failed(refusal),
            observed: vec![],
        },
        (Work::Set(object, text), Ok(place)) => {
            let done = match &text {
                Some(text) => write(&place, text),
                None => give_back(&place),
            };
            let read = done.and_then(|()| read(&place));
            let (outcome, observed) = match read {
                Ok(text) => (Outcome::Done, seen(text)),
                Err(refusal) => (Outcome::Failed(refusal), vec![]),
            };
            Input::Finished {
                object,
                outcome,
                observed,
            }
        }
    }
}
