//! `WireGuard`: keys and peers of links, and the programs that make links where the kernel has none.
//!
//! A thread of its own does all of it through `wg`, which speaks to kernels and programs alike. Keys go to `wg` by its standard input and come
//! from files; what is read back says whether they are those of the files and not what they are. No event tells of keys and peers, so that they
//! are read again after each change, at each full comparison, and at a calm interval, which also tells of what passes.

mod key;
mod program;
mod wg;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Child;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use ecow::{EcoString, eco_format};
use nonnet_hooks::mirror::{Change, NamespaceId, Observation};
use nonnet_hooks::name::LinkName;
use nonnet_hooks::object::ObjectKey;
use nonnet_hooks::object::wireguard::{Peer, PublicKey, Secret, Settings, WireguardSet, WireguardState};
use nonnet_hooks::plan::Outcome;
use nonnet_hooks::reconcile::Input;

use self::key::Key;
use self::wg::{Found, Keys};
use crate::containers::refusal;
use crate::limits::{WIREGUARD_DUMP_BYTES_MAX, WIREGUARD_PATIENCE, WIREGUARD_READ_INTERVAL};
use crate::netns::Netns;
use crate::ovs::Tell;
use crate::process::Job;

/// The thread. It ends with this value; the programs go on.
#[derive(Debug)]
pub(crate) struct Wireguards(mpsc::Sender<Task>);

/// Where a link of the kernel's is.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) netns: Netns,
    /// The server's own namespace, from which a thread goes there.
    pub(crate) home: Netns,
}

#[derive(Debug)]
enum Task {
    Start(ObjectKey, LinkName, u32),
    Set(Box<WireguardSet>, Option<Place>),
    Read,
    Forget(LinkName),
    Leave(NamespaceId),
}

#[derive(Debug)]
struct Worker {
    tell: Tell,
    links: BTreeMap<LinkName, Known>,
    programs: Vec<Child>,
}

/// A link whose settings are known.
#[derive(Debug)]
struct Known {
    set: WireguardSet,
    /// None where a program of the host does what the kernel does elsewhere.
    place: Option<Place>,
    /// Where peers were said to be since the server runs. They may have moved since.
    said: BTreeMap<PublicKey, SocketAddr>,
    told: Option<WireguardState>,
}

impl Wireguards {
    /// Starts the thread.
    pub(crate) fn start(tell: Tell) -> std::io::Result<Self> {
        let (tasks, queue) = mpsc::channel();
        let worker = Worker {
            tell,
            links: BTreeMap::new(),
            programs: Vec::new(),
        };
        thread::Builder::new()
            .name("wireguard".into())
            .spawn(move || worker.run(&queue))?;
        Ok(Self(tasks))
    }

    /// Makes a device of that name and group for an object, and starts its program; [`Input::Finished`] tells of the end of that.
    pub(crate) fn begin(&self, object: ObjectKey, name: LinkName, group: u32) {
        let _ = self.0.send(Task::Start(object, name, group));
    }

    /// Sets keys and peers; [`Input::Finished`] tells of the end of that.
    pub(crate) fn set(&self, set: &WireguardSet, place: Option<Place>) {
        let _ = self.0.send(Task::Set(Box::new(set.clone()), place));
    }

    /// Reads all links again.
    pub(crate) fn read(&self) {
        let _ = self.0.send(Task::Read);
    }

    /// Reads the link of a port no more.
    pub(crate) fn forget(&self, port: &LinkName) {
        let _ = self.0.send(Task::Forget(port.clone()));
    }

    /// Lets go of a namespace that is gone.
    pub(crate) fn leave(&self, namespace: NamespaceId) {
        let _ = self.0.send(Task::Leave(namespace));
    }
}

impl Worker {
    fn run(mut self, queue: &mpsc::Receiver<Task>) {
        let mut due = Instant::now() + WIREGUARD_READ_INTERVAL;
        loop {
            let task = match queue.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(task) => task,
                Err(RecvTimeoutError::Timeout) => Task::Read,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let input = match task {
                Task::Start(object, name, group) => {
                    let outcome = self.begin(&name, group);
                    let _ = self.tell.finished(object, outcome);
                    None
                }
                Task::Set(set, place) => Some(self.set(*set, place)),
                Task::Read => {
                    let observed = self.read_all();
                    due = Instant::now() + WIREGUARD_READ_INTERVAL;
                    (!observed.is_empty()).then_some(Input::Observed(observed))
                }
                Task::Forget(port) => {
                    self.links.remove(&port);
                    Some(Input::Observed(vec![observation(NamespaceId::Host, port, None)]))
                }
                Task::Leave(namespace) => {
                    self.links.retain(|_, known| known.set.link.namespace != namespace);
                    None
                }
            };
            // Programs that have ended are not to be kept waiting.
            self.programs
                .retain_mut(|program| matches!(program.try_wait(), Ok(None)));
            if let Some(input) = input
                && self.tell.inputs.blocking_send(input).is_err()
            {
                return;
            }
        }
    }

    fn begin(&mut self, name: &LinkName, group: u32) -> Outcome {
        match program::start(name.as_str(), group) {
            Ok(child) => {
                self.programs.push(child);
                Outcome::Done
            }
            Err(words) => Outcome::Failed(refusal(eco_format!("add link {name} type tun: {words}"))),
        }
    }

    fn set(&mut self, set: WireguardSet, place: Option<Place>) -> Input {
        let port = set.port.clone();
        let said = self.links.remove(&port).filter(|known| known.set.link == set.link);
        let mut known = Known {
            said: said.map(|known| known.said).unwrap_or_default(),
            set,
            place,
            told: None,
        };
        let link = known.set.link.clone();
        let (outcome, observed) = match known.apply() {
            Ok(state) => {
                known.told = Some(state.clone());
                let observed = observation(link.namespace, port.clone(), Some(state));
                self.links.insert(port.clone(), known);
                (Outcome::Done, vec![observed])
            }
            Err(words) => {
                let text = eco_format!("set wireguard {link}: {words}");
                (Outcome::Failed(refusal(text)), Vec::new())
            }
        };
        Input::Finished {
            object: ObjectKey::Wireguard(port),
            outcome,
            observed,
        }
    }

    fn read_all(&mut self) -> Vec<Observation> {
        let mut observed = Vec::new();
        for (port, known) in &mut self.links {
            let state = known.keys().and_then(|keys| known.read(&keys));
            let state = state
                .inspect_err(|why| tracing::debug!(%port, %why, "a wireguard cannot be read"))
                .ok();
            if state != known.told {
                known.told.clone_from(&state);
                observed.push(observation(known.set.link.namespace, port.clone(), state));
            }
        }
        observed
    }
}

impl Known {
    /// Makes the link be as it is to be, if it is not yet. Gives what it is then.
    fn apply(&mut self) -> Result<WireguardState, EcoString> {
        if let Secret::File(path) = &self.set.settings.private_key {
            Key::read_or_make(path).map_err(|why| eco_format!("private_key_file: {why}"))?;
        }
        let keys = self.keys()?;
        let before = self.read(&keys)?;
        if self.set.settings.is_met_by(&before.settings) {
            return Ok(before);
        }
        let wanted = self.set.settings.peers.iter();
        let wanted: BTreeMap<PublicKey, SocketAddr> =
            wanted.filter_map(|(key, peer)| Some((*key, peer.endpoint?))).collect();
        let is_there = |key: &PublicKey| before.traffic.get(key).is_some_and(|peer| peer.endpoint.is_some());
        let mut places = wanted.clone();
        // A peer that was said to be there, and moved on since, is not called back.
        places.retain(|key, place| self.said.get(key) != Some(place) || !is_there(key));
        let text = wg::configuration(&self.set.settings, &keys, &places);
        let job = self.wg("syncconf").arg("/dev/stdin").input(text);
        let job = job.secret(keys.private.text());
        self.run(&keys.shared.values().fold(job, |job, key| job.secret(key.text())))?;
        self.said = wanted;
        self.read(&keys)
    }

    /// The keys in the files that the settings name.
    fn keys(&self) -> Result<Keys, EcoString> {
        let Secret::File(private) = &self.set.settings.private_key else {
            return Err("it has no private key".into());
        };
        let mut keys = Keys {
            private: Key::read(private).map_err(|why| eco_format!("private_key_file: {why}"))?,
            shared: BTreeMap::new(),
        };
        for (peer, settings) in &self.set.settings.peers {
            if let Secret::File(path) = &settings.secret {
                let key = Key::read(path).map_err(|why| eco_format!("secret of peer {peer}: {why}"))?;
                keys.shared.insert(path.to_string(), key);
            }
        }
        Ok(keys)
    }

    fn read(&self, keys: &Keys) -> Result<WireguardState, EcoString> {
        let job = self
            .wg("show")
            .arg("dump")
            .output_max(WIREGUARD_DUMP_BYTES_MAX)
            .unquoted();
        let found = wg::found_in(&self.run(&job)?);
        let found = found.ok_or("wg show gave what is no dump")?;
        Ok(self.state(found, keys))
    }

    fn state(&self, found: Found, keys: &Keys) -> WireguardState {
        let wanted = &self.set.settings;
        let private_key = match found.private {
            None => Secret::None,
            Some(key) if key == keys.private => wanted.private_key.clone(),
            Some(_) => Secret::Other,
        };
        let mut state = WireguardState {
            namespace: self.set.link.namespace,
            index: self.set.link.index.unwrap_or(0),
            public_key: found.public,
            settings: Settings {
                private_key,
                listen_port: found.listen_port,
                fwmark: found.fwmark,
                peers: BTreeMap::new(),
            },
            traffic: BTreeMap::new(),
        };
        for (key, peer) in found.peers {
            let named = wanted.peers.get(&key).map(|peer| &peer.secret);
            let secret = match (peer.secret, named) {
                (None, _) => Secret::None,
                (Some(key), Some(Secret::File(path))) if keys.shared.get(path.as_str()) == Some(&key) => {
                    Secret::File(path.clone())
                }
                (Some(_), _) => Secret::Other,
            };
            let now = peer.traffic.endpoint;
            let settings = Peer {
                endpoint: now.and_then(|now| self.said.get(&key).copied().or(Some(now))),
                allowed: peer.allowed,
                keepalive: peer.keepalive,
                secret,
            };
            state.settings.peers.insert(key, settings);
            state.traffic.insert(key, peer.traffic);
        }
        state
    }

    fn wg(&self, command: &str) -> Job {
        // A program goes by the name that its device had when it was made.
        let name = if self.set.userspace {
            &self.set.port
        } else {
            &self.set.link.name
        };
        Job::new("wg", WIREGUARD_PATIENCE).args([command, name.as_str()])
    }

    /// Runs `wg` where the link is, on a thread that ends there. Gives what it printed.
    fn run(&self, job: &Job) -> Result<String, EcoString> {
        let ran = match &self.place {
            None => job.run(),
            Some(place) => {
                let run = || place.netns.within(&place.home, || Ok(job.run()));
                match thread::scope(|scope| scope.spawn(run).join()) {
                    Ok(Ok(ran)) => ran,
                    Ok(Err(error)) => return Err(eco_format!("its namespace cannot be entered: {error}")),
                    Err(_) => return Err("the thread in its namespace has failed".into()),
                }
            }
        };
        match ran {
            Ok(printed) => Ok(printed.output),
            Err(error) if error.is_missing() => Err(eco_format!(
                "{error}; ports of kind wireguard need wireguard-tools on this host"
            )),
            Err(error) => Err(eco_format!("{error}")),
        }
    }
}

fn observation(namespace: NamespaceId, port: LinkName, state: Option<WireguardState>) -> Observation {
    Observation {
        namespace,
        change: Change::Wireguard(port, state.map(Box::new)),
    }
}
