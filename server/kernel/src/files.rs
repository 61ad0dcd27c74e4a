//! Threads that read and write `resolv.conf`, since a container's file system may take as long as it likes to answer.
//!
//! Takes jobs, gives the reconciler's inputs. A file system that never answers holds up one thread of these, never the kernel thread. What a
//! former run of the server wrote is looked for where it may be: for namespaces with a name, and below the roots of containers, running or not.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use ecow::{EcoString, eco_format};
use nonnet_hooks::mirror::{Change, NamespaceId, Observation};
use nonnet_hooks::object::{NetnsRef, ObjectKey, ResolvConfSet};
use nonnet_hooks::plan::{Outcome, Refusal};
use nonnet_hooks::reconcile::Input;
use nonnet_hooks::want::Mark;
use tokio::sync::mpsc::Sender;

use crate::finder::Finder;
use crate::limits::{FILE_THREADS, FILES_FOUND_MAX};
use crate::resolv_conf::{NETNS_DIRECTORY, Place, give_back, read, write};

/// The threads, and the namespaces that have a file of ours.
#[derive(Debug)]
pub(crate) struct Files {
    jobs: mpsc::Sender<Job>,
    known: Known,
    lxc_path: PathBuf,
}

type Known = Arc<Mutex<BTreeSet<NetnsRef>>>;

/// What is to be done.
#[derive(Debug)]
enum Job {
    /// Write a text for an object; without one, give back what was there.
    Set(ObjectKey, Result<Place, Refusal>, EcoString, NetnsRef),
    /// Give back for an object what was there, in each place.
    GiveBack(ObjectKey, Result<Vec<Place>, Refusal>, NetnsRef),
    /// Read.
    Read(Vec<Place>, NetnsRef),
    /// Look for what is ours.
    Find(PathBuf),
}

/// What each thread has.
struct Worker {
    queue: Arc<Mutex<mpsc::Receiver<Job>>>,
    inputs: Sender<Input>,
    known: Known,
    mark: Mark,
}

impl Files {
    /// Starts the threads.
    pub(crate) fn start(inputs: &Sender<Input>, lxc_path: PathBuf, mark: Mark) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let known = Known::default();
        for _ in 0..FILE_THREADS {
            let worker = Worker {
                queue: Arc::clone(&queue),
                inputs: inputs.clone(),
                known: Arc::clone(&known),
                mark,
            };
            thread::Builder::new()
                .name("files".into())
                .spawn(move || worker.run())?;
        }
        Ok(Self { jobs, known, lxc_path })
    }

    /// Writes or gives back.
    pub(crate) fn set(&mut self, object: ObjectKey, set: &ResolvConfSet, finder: &Finder) {
        let netns = set.netns.clone();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = &set.text {
            known.insert(netns.clone());
            self.give(Job::Set(object, place(&netns, finder), text.clone(), netns));
        } else {
            known.remove(&netns);
            self.give(Job::GiveBack(object, self.places(&netns, finder), netns));
        }
    }

    /// Has every file read again that is known to be ours, and looks for others.
    pub(crate) fn reread(&self, finder: &Finder) {
        self.give(Job::Find(self.lxc_path.clone()));
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for netns in known {
            if let Ok(places) = self.places(&netns, finder) {
                self.give(Job::Read(places, netns));
            }
        }
    }

    /// Where the file of a namespace may be, there or not.
    fn places(&self, netns: &NetnsRef, finder: &Finder) -> Result<Vec<Place>, Refusal> {
        Ok(match netns {
            NetnsRef::Lxc { id } if finder.init(id).is_none() => {
                let root = root_of(&self.lxc_path, id).map(|root| Place::Root(id.clone(), root));
                root.into_iter().chain([Place::Named(id.clone())]).collect()
            }
            _ => vec![place(netns, finder)?],
        })
    }

    fn give(&self, job: Job) {
        // The threads end only after this value.
        let _ = self.jobs.send(job);
    }
}

/// Where the file of a namespace is to be that is there.
fn place(netns: &NetnsRef, finder: &Finder) -> Result<Place, Refusal> {
    match netns {
        NetnsRef::Name(name) => Ok(Place::Named(name.clone())),
        NetnsRef::Pid(pid) => Ok(Place::Process(*pid, finder.process(netns))),
        NetnsRef::Lxc { id } => Ok(match finder.init(id) {
            Some(init) => Place::Process(init, finder.process(netns)),
            // The namespace of that name stands in.
            None => Place::Named(id.clone()),
        }),
        NetnsRef::Host | NetnsRef::Path(_) => Err(Refusal {
            errno: 0,
            text: eco_format!("{netns} has no resolv.conf of its own"),
        }),
    }
}

/// The root directory of a container, if it is a plain directory.
fn root_of(lxc_path: &Path, id: &str) -> Option<PathBuf> {
    let root = lxc_path.join(id).join("rootfs");
    let found = fs::symlink_metadata(&root).ok()?;
    (!id.contains('/') && found.is_dir()).then_some(root)
}

impl Worker {
    fn run(self) {
        loop {
            let job = self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            if self.inputs.blocking_send(self.carry_out(job)).is_err() {
                return;
            }
        }
    }

    fn carry_out(&self, job: Job) -> Input {
        match job {
            Job::Find(lxc_path) => Input::Observed(self.find(&lxc_path)),
            Job::Read(places, netns) => {
                let text = self.read(&places);
                Input::Observed(text.map(|text| seen(netns, text)).into_iter().collect())
            }
            Job::Set(object, place, text, netns) => {
                let done = place.and_then(|place| {
                    write(&place, &text, self.mark)?;
                    self.read(&[place])
                });
                finished(object, netns, done)
            }
            Job::GiveBack(object, places, netns) => {
                let done = places.and_then(|places| {
                    places.iter().try_for_each(|place| give_back(place, self.mark))?;
                    self.read(&places)
                });
                finished(object, netns, done)
            }
        }
    }

    /// The text of ours in the first place that has one; empty where none has.
    fn read(&self, places: &[Place]) -> Result<EcoString, Refusal> {
        for place in places {
            if let Some(text) = read(place, self.mark)? {
                return Ok(text);
            }
        }
        Ok(EcoString::new())
    }

    /// What is ours.
    fn find(&self, lxc_path: &Path) -> Vec<Observation> {
        let named = names_in(Path::new(NETNS_DIRECTORY)).map(|name| (NetnsRef::Name(name.clone()), Place::Named(name)));
        let below = names_in(lxc_path).filter_map(|id| {
            let root = root_of(lxc_path, &id)?;
            Some((NetnsRef::Lxc { id: id.clone() }, Place::Root(id, root)))
        });
        let mut found = Vec::new();
        for (netns, place) in named.chain(below).take(FILES_FOUND_MAX) {
            if let Ok(Some(text)) = read(&place, self.mark) {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(netns.clone());
                found.push(seen(netns, text));
            }
        }
        found
    }
}

fn names_in(directory: &Path) -> impl Iterator<Item = EcoString> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str().map(Into::into))
}

fn seen(netns: NetnsRef, text: EcoString) -> Observation {
    Observation {
        namespace: NamespaceId::Host,
        change: Change::ResolvConf(netns, text),
    }
}

fn finished(object: ObjectKey, netns: NetnsRef, done: Result<EcoString, Refusal>) -> Input {
    let (outcome, observed) = match done {
        Ok(text) => (Outcome::Done, vec![seen(netns, text)]),
        Err(refusal) => (Outcome::Failed(refusal), vec![]),
    };
    Input::Finished {
        object,
        outcome,
        observed,
    }
}
