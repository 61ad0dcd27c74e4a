//! Netmaker: containers join and leave its networks through `netclient`, which runs in the container's network namespace.
//!
//! `netclient join` ends with status 0 whether it worked or not, so that only `netclient list` counts. The token comes from a file that only root can read;
//! it goes to `netclient` in the environment (`TOKEN`), never in an argument, and is struck out of all that is said.

mod token;

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ecow::{EcoString, eco_format};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nonnet_hooks::mirror::{ContainerChange, MeshState, NamespaceId, Observation};
use nonnet_hooks::object::ObjectKey;
use nonnet_hooks::object::container::{Mesh, MeshOperation};
use nonnet_hooks::plan::Outcome;
use nonnet_hooks::reconcile::Input;
use serde_json::Value;
use tokio::sync::mpsc::Sender;

use self::token::TokenFile;
use crate::containers::{observation, refusal};
use crate::limits::MESHES_AT_ONCE_MAX;
use crate::netns::{Netns, has_ended};
use crate::process::{Job, Printed};

/// Where netclient keeps what it is: each container has a directory of its own there.
const STATE: &str = "/etc/netclient";

/// The directory for that in a container's own, and for containers without one.
const STATE_INSIDE: &str = "netclient";
const STATE_ELSEWHERE: &str = "/run/nonnet/netclient";

/// How long a join may take to show in the list.
const CONFIRMATION: Duration = Duration::from_secs(5);

/// Between looks at the list meanwhile.
const CONFIRMATION_INTERVAL: Duration = Duration::from_millis(250);

/// What is needed to join.
#[derive(Clone, Debug)]
pub(crate) struct MeshSettings {
    /// The program.
    pub(crate) netclient: PathBuf,
    /// The file with the tokens.
    pub(crate) token_file: PathBuf,
    /// The time that each run of the program has.
    pub(crate) deadline: Duration,
    /// The lxcpath.
    pub(crate) containers: PathBuf,
}

/// The threads that join and leave. They end with this value.
#[derive(Debug)]
pub(crate) struct Meshes {
    tasks: mpsc::Sender<Task>,
    shared: Arc<Shared>,
}

/// Where a container is.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) netns: Netns,
    /// The server's own namespace, from which a thread goes there.
    pub(crate) home: Netns,
    /// The process by which it was found.
    pub(crate) process: Option<OwnedFd>,
}

#[derive(Debug)]
enum Task {
    Join(Mesh, NamespaceId, Place),
    Leave(EcoString),
    Check(EcoString),
}

#[derive(Debug)]
struct Shared {
    settings: MeshSettings,
    tokens: TokenFile,
    joined: Mutex<HashMap<EcoString, Joined>>,
    inputs: Sender<Input>,
}

#[derive(Clone, Debug)]
struct Joined {
    state: MeshState,
    place: Arc<Place>,
}

/// A network in the answer of `netclient list`.
#[derive(Debug, PartialEq, Eq)]
struct Network {
    name: EcoString,
    connected: bool,
    addresses: Vec<EcoString>,
}

impl Meshes {
    /// Starts the threads.
    pub(crate) fn start(settings: MeshSettings, inputs: Sender<Input>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            tokens: TokenFile::new(settings.token_file.clone()),
            settings,
            joined: Mutex::new(HashMap::new()),
            inputs,
        });
        let (tasks, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..MESHES_AT_ONCE_MAX {
            let (shared, queue) = (Arc::clone(&shared), Arc::clone(&queue));
            let name = format!("mesh-{number}");
            thread::Builder::new().name(name).spawn(move || shared.work(&queue))?;
        }
        Ok(Self { tasks, shared })
    }

    /// Starts an operation; [`Input::Finished`] tells of its end. To join, the container's place must be known.
    pub(crate) fn begin(&self, operation: &MeshOperation, place: Option<Place>) -> Outcome {
        let task = match (operation, place) {
            (MeshOperation::Join { mesh, namespace }, Some(place)) => Task::Join(mesh.clone(), *namespace, place),
            (MeshOperation::Join { mesh, .. }, None) => {
                return Outcome::Failed(refusal(eco_format!("{} is gone", mesh.netns)));
            }
            (MeshOperation::Leave { id }, _) => Task::Leave(id.clone()),
        };
        match self.tasks.send(task) {
            Ok(()) => Outcome::Started,
            Err(_) => Outcome::Failed(refusal("nobody works on meshes any more".into())),
        }
    }

    /// Asks of every container that has joined whether it still is where it was.
    pub(crate) fn check(&self) {
        for id in self.shared.joined().keys() {
            let _ = self.tasks.send(Task::Check(id.clone()));
        }
    }

    /// Takes in that the container's namespace is now `netns`, or gone: one that is gone has left its networks, and must not be held.
    pub(crate) fn moved(&self, id: &str, netns: Option<u64>) -> Option<Observation> {
        let mut joined = self.shared.joined();
        let left = joined
            .get(id)
            .is_some_and(|joined| Some(joined.place.netns.inode()) != netns);
        left.then(|| {
            joined.remove(id);
            observation(ContainerChange::Left(id.into()))
        })
    }
}

impl Shared {
    fn joined(&self) -> MutexGuard<'_, HashMap<EcoString, Joined>> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, queue: &Mutex<mpsc::Receiver<Task>>) {
        loop {
            let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(task) = task else { return };
            let input = match task {
                Task::Join(mesh, namespace, place) => Some(self.join(mesh, namespace, place)),
                Task::Leave(id) => Some(self.leave(&id)),
                Task::Check(id) => self.check(&id),
            };
            if let Some(input) = input
                && self.inputs.blocking_send(input).is_err()
            {
                return;
            }
        }
    }

    fn join(&self, mesh: Mesh, namespace: NamespaceId, place: Place) -> Input {
        let id = mesh.id.clone();
        let tried = self.try_join(&mesh, &place);
        let (outcome, observed) = match tried {
            Ok(networks) => {
                let names = networks.iter().map(|network| network.name.clone()).collect();
                let state = MeshState {
                    mesh,
                    namespace,
                    networks: names,
                    addresses: networks.into_iter().flat_map(|network| network.addresses).collect(),
                };
                let place = Arc::new(place);
                self.joined().insert(
                    id.clone(),
                    Joined {
                        state: state.clone(),
                        place,
                    },
                );
                (Outcome::Done, vec![observation(ContainerChange::Joined(state))])
            }
            Err(words) => {
                let text = eco_format!("join with {}: {words}", mesh.token);
                (Outcome::Failed(refusal(text)), Vec::new())
            }
        };
        finished(id, outcome, observed)
    }

    /// Gives the networks that the container is connected to.
    fn try_join(&self, mesh: &Mesh, place: &Place) -> Result<Vec<Network>, EcoString> {
        // The server may have been started anew since it joined.
        let before = self.connected(&mesh.id, place);
        if let Ok(networks) = &before
            && !networks.is_empty()
        {
            return before;
        }
        let token = self.tokens.token(&mesh.token)?;
        let job = self.netclient().arg("join").secret_variable("TOKEN", &token);
        let printed = self.run(&mesh.id, place, &job)?;
        let from = Instant::now();
        loop {
            let networks = self.connected(&mesh.id, place)?;
            if !networks.is_empty() {
                return Ok(networks);
            }
            if from.elapsed() >= CONFIRMATION {
                let Printed { output, errors } = printed;
                let said = format!("{output}{errors}");
                let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
                let last = last.map(|line| format!("; it had said: {line}")).unwrap_or_default();
                return Err(eco_format!(
                    "netclient join did not fail, but netclient list shows no connected network{last}"
                ));
            }
            thread::sleep(CONFIRMATION_INTERVAL);
        }
    }

    fn leave(&self, id: &EcoString) -> Input {
        let joined = self.joined().get(id).cloned();
        let left = match joined {
            // With its last process a container's membership ends, and there is nowhere to go to leave it.
            Some(Joined { state, place }) if !place.process.as_ref().is_some_and(has_ended) => {
                self.try_leave(id, &state, &place)
            }
            _ => Ok(()),
        };
        match left {
            Ok(()) => {
                self.joined().remove(id);
                finished(
                    id.clone(),
                    Outcome::Done,
                    vec![observation(ContainerChange::Left(id.clone()))],
                )
            }
            Err(words) => {
                let text = eco_format!("leave: {words}");
                finished(id.clone(), Outcome::Failed(refusal(text)), Vec::new())
            }
        }
    }

    fn try_leave(&self, id: &str, state: &MeshState, place: &Place) -> Result<(), EcoString> {
        for network in &state.networks {
            self.run(id, place, &self.netclient().args(["leave", network.as_str()]))?;
        }
        let still = self.connected(id, place)?;
        match still.first() {
            Some(network) => Err(eco_format!(
                "netclient leave did not fail, but netclient list still shows {}",
                network.name
            )),
            None => Ok(()),
        }
    }

    /// Tells if a container is out of its networks by somebody else's hand.
    fn check(&self, id: &EcoString) -> Option<Input> {
        let place = Arc::clone(&self.joined().get(id)?.place);
        // No answer is no proof.
        let networks = self.connected(id, &place).ok()?;
        if !networks.is_empty() {
            return None;
        }
        self.joined().remove(id);
        Some(Input::Observed(vec![observation(ContainerChange::Left(id.clone()))]))
    }

    fn connected(&self, id: &str, place: &Place) -> Result<Vec<Network>, EcoString> {
        let printed = self.run(id, place, &self.netclient().arg("list"))?;
        let mut networks = networks_in(&printed.output)?;
        networks.retain(|network| network.connected);
        Ok(networks)
    }

    fn netclient(&self) -> Job {
        Job::new(&self.settings.netclient, self.settings.deadline)
    }

    /// Runs a program where the container is, on a thread that ends there, with the container's own state of netclient.
    fn run(&self, id: &str, place: &Place, job: &Job) -> Result<Printed, EcoString> {
        let own = self.settings.containers.join(id);
        let state = if own.is_dir() {
            own.join(STATE_INSIDE)
        } else {
            Path::new(STATE_ELSEWHERE).join(id)
        };
        let run = || {
            show_state(&state)?;
            place.netns.within(&place.home, || Ok(job.run()))
        };
        let ran = thread::scope(|scope| scope.spawn(run).join());
        match ran {
            Ok(Ok(Ok(printed))) => Ok(printed),
            Ok(Ok(Err(error))) if error.is_missing() => Err(eco_format!(
                "{error}; network_type netmaker needs netclient on this host"
            )),
            Ok(Ok(Err(error))) => Err(eco_format!("{error}")),
            Ok(Err(error)) => Err(eco_format!("the container cannot be entered: {error}")),
            Err(_) => Err("the thread in the container has failed".into()),
        }
    }
}

/// Puts a container's own state in the place of the host's, for the calling thread alone.
fn show_state(state: &Path) -> std::io::Result<()> {
    if !Path::new(STATE).is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state)?;
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    Ok(mount(Some(state), STATE, nothing, MsFlags::MS_BIND, nothing)?)
}

/// The networks in the answer of `netclient list`: an array of objects, or a line that there are none.
fn networks_in(answer: &str) -> Result<Vec<Network>, EcoString> {
    let answer = answer.trim();
    if answer.is_empty() || answer == "no such network" {
        return Ok(Vec::new());
    }
    let wrong = || {
        let begin: String = answer.chars().filter(|c| !c.is_control()).take(60).collect();
        eco_format!("netclient list gave no list of networks: {begin}")
    };
    let networks: Value = serde_json::from_str(answer).map_err(|_| wrong())?;
    let network = |network: &Value| {
        let text = |key: &str| network.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        Some(Network {
            name: text("network")?.into(),
            connected: network.get("connected").and_then(Value::as_bool)?,
            addresses: ["ipv4_addr", "ipv6_addr"]
                .into_iter()
                .filter_map(text)
                .map(Into::into)
                .collect(),
        })
    };
    let networks = networks.as_array().ok_or_else(wrong)?;
    networks.iter().map(|found| network(found).ok_or_else(wrong)).collect()
}

fn finished(id: EcoString, outcome: Outcome, observed: Vec<Observation>) -> Input {
    Input::Finished {
        object: ObjectKey::Mesh(id),
        outcome,
        observed,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_netclient_is_read() {
        let answer = r#"[{"network": "prod", "node_id": "1", "connected": true, "ipv4_addr": "100.64.0.5/32", "ipv6_addr": "", "peers": []}]"#;
        let networks = networks_in(answer).unwrap();
        assert_eq!(networks.len(), 1);
        assert_eq!(
            (networks[0].connected, networks[0].addresses.as_slice()),
            (true, &["100.64.0.5/32".into()][..])
        );
        assert_eq!(networks_in("\nno such network\n"), Ok(vec![]));
        for bad in [
            "Connected networks: prod",
            "{}",
            "[{}]",
            "[1]",
            r#"[{"network": "x"}]"#,
            "\u{1b}[0m",
        ] {
            assert!(networks_in(bad).is_err(), "{bad}");
        }
    }
}
