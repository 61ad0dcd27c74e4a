//! The kernel thread: one loop over commands, events of all namespaces, and namespaces that come and go.
//!
//! Takes commands, gives the reconciler's inputs. What a plan did is read from the events that it caused: the kernel queues them before it
//! acknowledges, so that after the last acknowledgement they are all there, and the mirror is what the kernel said, not what was asked for.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nonnet_hooks::mirror::{Change, NamespaceId, Observation};
use nonnet_hooks::object::container::MeshOperation;
use nonnet_hooks::object::wireguard::WireguardOperation;
use nonnet_hooks::object::{NetnsRef, ObjectKey, OvsOperation};
use nonnet_hooks::plan::{NewLink, Operation, Outcome, Plan, Refusal};
use nonnet_hooks::reconcile::Input;
use nonnet_hooks::want::{Mark, Resolution};
use tokio::sync::mpsc::{Sender, UnboundedSender};

use crate::command::{Command, Wake};
use crate::containers::{self, Containers};
use crate::dhcp::Clients;
use crate::files::Files;
use crate::finder::{Finder, Found};
use crate::firewall::Ruleset;
use crate::limits::RESOLV_CONF_BYTES_MAX;
use crate::listen::Listening;
use crate::mesh::{self, Meshes};
use crate::ovs::{End, OpenVswitch};
use crate::runner::Runner;
use crate::spaces::Spaces;
use crate::wireguard::{self, Wireguards};

/// Events taken from epoll at once.
const READY_MAX: usize = 64;

/// Tokens of the descriptors that are no namespaces' sockets.
const TOKEN_WAKE: u64 = 0;
const TOKEN_NAMES: u64 = 1;
const TOKEN_PROCESS: u64 = 2;
/// The token of the server's own namespace, and that of all others together. Where each has a socket, it has its inode number, which nsfs
/// counts from far above.
const TOKEN_HOST: u64 = 3;
const TOKEN_HUB: u64 = 4;

/// The loop's state.
pub(crate) struct Live {
    spaces: Spaces,
    dhcp: Clients,
    finder: Finder,
    epoll: Epoll,
    polled: HashMap<RawFd, u64>,
    wake: Wake,
    commands: Receiver<Command>,
    inputs: Sender<Input>,
    mark: Mark,
    ipv6: bool,
    slow: Slow,
}

/// Who works on what takes long.
#[derive(Debug)]
pub(crate) struct Slow {
    pub(crate) containers: Containers,
    pub(crate) meshes: Meshes,
    pub(crate) wireguards: Wireguards,
    pub(crate) ovs: Option<OpenVswitch>,
    /// What of Open vSwitch's has ended.
    pub(crate) ended: Receiver<End>,
    pub(crate) files: Files,
    /// Where sockets go on which names are to be answered.
    pub(crate) listening: UnboundedSender<Listening>,
}

/// The loop is over: nobody gives commands or takes inputs any more.
struct Over;

impl Live {
    /// Opens the sockets of the server's own namespace, which is that of the calling thread.
    pub(crate) fn new(
        mark: Mark,
        ipv6: bool,
        memory: Option<&Path>,
        wake: Wake,
        commands: Receiver<Command>,
        inputs: Sender<Input>,
        slow: Slow,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut spaces = Spaces::new(ipv6)?;
        let namespace = spaces.home().map_or(0, |home| home.netns.inode());
        match Ruleset::open(mark, namespace, memory) {
            Ok(firewall) => {
                if !firewall.persists() {
                    tracing::info!(
                        "this kernel's packet filter has no tables that persist: others can change what is ours"
                    );
                }
                spaces.firewall = Some(firewall);
            }
            Err(error) => tracing::warn!(%error, "this kernel has no packet filter (nf_tables)"),
        }
        let finder = Finder::new(Instant::now());
        let dhcp = Clients::start(inputs.clone())?;
        let mut live = Self {
            spaces,
            dhcp,
            finder,
            epoll,
            polled: HashMap::new(),
            wake,
            commands,
            inputs,
            mark,
            ipv6,
            slow,
        };
        live.epoll
            .add(live.wake.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TOKEN_WAKE))?;
        if let Some(events) = live.spaces.home().and_then(|home| home.sockets.events.as_ref()) {
            live.epoll
                .add(events, EpollEvent::new(EpollFlags::EPOLLIN, TOKEN_HOST))?;
        }
        if let Some(hub) = live.spaces.hub() {
            live.epoll.add(hub, EpollEvent::new(EpollFlags::EPOLLIN, TOKEN_HUB))?;
        }
        if let Some(firewall) = &live.spaces.firewall {
            live.epoll
                .add(&firewall.events, EpollEvent::new(EpollFlags::EPOLLIN, TOKEN_HOST))?;
        }
        live.listen_for_names();
        Ok(live)
    }

    /// Runs until nobody is interested any more.
    pub(crate) fn run(mut self) {
        let first = self.dump_all();
        let result = self.send(Input::Observed(first)).and_then(|()| self.turn_until_over());
        self.dhcp.end();
        let Err(Over) = result else { return };
        tracing::debug!("the kernel thread ends");
    }

    fn turn_until_over(&mut self) -> Result<(), Over> {
        loop {
            self.turn()?;
        }
    }

    fn turn(&mut self) -> Result<(), Over> {
        let mut ready = [EpollEvent::empty(); READY_MAX];
        let count = match self.epoll.wait(&mut ready, self.timeout()) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => {
                tracing::error!(%error, "the kernel thread cannot wait");
                return Err(Over);
            }
        };
        let mut events = Vec::new();
        for event in ready.iter().take(count) {
            match event.data() {
                TOKEN_WAKE => self.wake.clear(),
                TOKEN_NAMES => self.names_changed(),
                TOKEN_PROCESS => {}
                TOKEN_HOST => events.push(NamespaceId::Host),
                // Whichever other namespace is asked for, all of them answer.
                TOKEN_HUB => events.push(NamespaceId::Inode(TOKEN_HUB)),
                inode => events.push(NamespaceId::Inode(inode)),
            }
        }
        let firewall = self.spaces.firewall.as_ref().and_then(Ruleset::deadline);
        if firewall.is_some_and(|due| due <= Instant::now()) {
            events.push(NamespaceId::Host);
        }
        // A container that died is let go before the events of its dying links are told: that it is gone explains them.
        self.look()?;
        self.drain(&events)?;
        self.obey()
    }

    fn timeout(&self) -> EpollTimeout {
        let firewall = self.spaces.firewall.as_ref().and_then(Ruleset::deadline);
        let Some(deadline) = self.finder.deadline().into_iter().chain(firewall).min() else {
            return EpollTimeout::NONE;
        };
        let wait = deadline.saturating_duration_since(Instant::now());
        EpollTimeout::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(EpollTimeout::ZERO)
    }

    fn send(&self, input: Input) -> Result<(), Over> {
        self.inputs.blocking_send(input).map_err(|_| Over)
    }

    fn obey(&mut self) -> Result<(), Over> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Run { run, plan }) => self.carry_out(run, &plan)?,
                // Many are watched at once when a thousand rows come: one look answers for all.
                Ok(Command::Watch(netns)) => self.finder.watch(netns, Instant::now()),
                Ok(Command::Unwatch(netns)) => self.unwatch(&netns)?,
                Ok(Command::Dump) => {
                    self.finder.doubt(Instant::now());
                    self.slow.meshes.check();
                    self.slow.wireguards.read();
                    self.slow.ovs.iter().for_each(OpenVswitch::tell);
                    let dump = self.dump_all();
                    self.send(Input::Observed(dump))?;
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(Over),
            }
        }
        self.pass_ends_on()?;
        self.look()
    }

    /// Tells of the ends of what takes long, after what the kernel said until then.
    fn pass_ends_on(&mut self) -> Result<(), Over> {
        while let Ok((object, outcome)) = self.slow.ended.try_recv() {
            let drained = self.spaces.drain(&[NamespaceId::Host]);
            self.send(Input::Finished {
                object,
                outcome,
                observed: drained.observations,
            })?;
            if drained.overrun {
                self.send(Input::Overrun)?;
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, run: u64, plan: &Plan) -> Result<(), Over> {
        let mut runner = Runner::new(&mut self.spaces, &self.dhcp, self.mark, self.ipv6);
        let mut outcomes = runner.run(plan);
        let sysctls = std::mem::take(&mut runner.sysctls);
        let switch = std::mem::take(&mut runner.switch);
        let offloads = std::mem::take(&mut runner.offloads);
        let told = std::mem::take(&mut runner.told);
        let (listening, files) = (std::mem::take(&mut runner.listening), std::mem::take(&mut runner.files));
        let programs = std::mem::take(&mut runner.programs);
        Self::note_slow(plan, &mut outcomes);
        let concerned: Vec<NamespaceId> = concerned(plan).into_iter().collect();
        let drained = self.spaces.drain(&concerned);
        let mut observed = drained.observations;
        observed.extend(told);
        observed.extend(sysctls.into_iter().map(|(namespace, path, value)| Observation {
            namespace,
            change: Change::Sysctl(path.into(), value.into()),
        }));
        observed.extend(offloads.into_iter().map(|(namespace, index, on)| Observation {
            namespace,
            change: Change::Offload(index, on),
        }));
        observed.extend(listening.iter().map(|change| {
            let (address, on) = match change {
                Listening::Open { address, .. } => (*address, true),
                Listening::Close(address) => (*address, false),
            };
            of_host(Change::Listening(address, on))
        }));
        for change in listening {
            // Where nobody serves names any more, the server is about to end.
            let _ = self.slow.listening.send(change);
        }
        observed.extend(self.vlans(plan));
        self.send(Input::Ran {
            run,
            outcomes,
            observed,
        })?;
        self.begin_slow(plan)?;
        for (object, name, group) in programs {
            self.slow.wireguards.begin(object, name, group);
        }
        self.ask_ovs(switch)?;
        // What has started ends after it was told that it has.
        for (object, set) in files {
            self.slow.files.set(object, &set, &self.finder);
        }
        if drained.overrun {
            self.send(Input::Overrun)
        } else {
            Ok(())
        }
    }

    /// The VLANs that ports are in after a plan that changed some: of what was so already the kernel tells nothing.
    fn vlans(&mut self, plan: &Plan) -> Vec<Observation> {
        let changes = |step: &nonnet_hooks::plan::Step| {
            matches!(step.operation, Operation::VlanAdd { .. } | Operation::VlanDel { .. })
        };
        if !plan.steps.iter().any(changes) {
            return Vec::new();
        }
        let vlans = self.spaces.vlans(NamespaceId::Host).unwrap_or_default();
        let observation = |(index, vlans)| Observation {
            namespace: NamespaceId::Host,
            change: Change::Vlans(index, vlans),
        };
        vlans.into_iter().map(observation).collect()
    }

    /// Notes what takes long as started; it is of the last phase, and needs no other step.
    fn note_slow(plan: &Plan, outcomes: &mut [Outcome]) {
        for (step, outcome) in plan.steps.iter().zip(outcomes) {
            if let Operation::Container(_) | Operation::Mesh(_) | Operation::Wireguard(WireguardOperation::Set(_)) =
                step.operation
            {
                *outcome = Outcome::Started;
            }
        }
    }

    /// Starts what takes long, once it was told that it is: its end may come at once.
    fn begin_slow(&self, plan: &Plan) -> Result<(), Over> {
        for step in &plan.steps {
            let outcome = match &step.operation {
                Operation::Container(operation) => self.slow.containers.begin(operation),
                Operation::Mesh(operation) => self.slow.meshes.begin(operation, self.place(operation)),
                Operation::Wireguard(operation) => self.begin_wireguard(operation),
                _ => continue,
            };
            if let Outcome::Failed(_) = outcome {
                self.send(Input::Finished {
                    object: step.object.clone(),
                    outcome,
                    observed: Vec::new(),
                })?;
            }
        }
        Ok(())
    }

    /// Starts to set keys and peers; gives why not, if that cannot be.
    fn begin_wireguard(&self, operation: &WireguardOperation) -> Outcome {
        let set = match operation {
            WireguardOperation::Set(set) => set,
            WireguardOperation::Forget { port } => {
                self.slow.wireguards.forget(port);
                return Outcome::Done;
            }
        };
        let place = || {
            Some(wireguard::Place {
                netns: self.spaces.get(set.link.namespace)?.netns.try_clone().ok()?,
                home: self.spaces.home()?.netns.try_clone().ok()?,
            })
        };
        let place = if set.userspace { None } else { place() };
        if place.is_none() && !set.userspace {
            return Outcome::Failed(containers::refusal(ecow::eco_format!(
                "set wireguard {}: its namespace is gone",
                set.link
            )));
        }
        self.slow.wireguards.set(set, place);
        Outcome::Started
    }

    /// Where the container is that is to join a network.
    fn place(&self, operation: &MeshOperation) -> Option<mesh::Place> {
        let MeshOperation::Join { mesh, namespace } = operation else {
            return None;
        };
        Some(mesh::Place {
            netns: self.spaces.get(*namespace)?.netns.try_clone().ok()?,
            home: self.spaces.home()?.netns.try_clone().ok()?,
            process: self.finder.process(&mesh.netns),
        })
    }

    /// Hands over what takes long, after it was said to have started: its end must not be told before its start.
    fn ask_ovs(&self, switch: Vec<(ObjectKey, OvsOperation)>) -> Result<(), Over> {
        if switch.is_empty() {
            return Ok(());
        }
        let Some(ovs) = &self.slow.ovs else {
            return switch.into_iter().try_for_each(|(object, _)| {
                let text = "this server does not follow Open vSwitch".into();
                let outcome = Outcome::Failed(Refusal { errno: 0, text });
                self.send(Input::Finished {
                    object,
                    outcome,
                    observed: Vec::new(),
                })
            });
        };
        ovs.apply(switch);
        Ok(())
    }

    fn unwatch(&mut self, netns: &NetnsRef) -> Result<(), Over> {
        self.finder.unwatch(netns);
        let gone = self.spaces.close(netns, None);
        self.tell(gone.into_iter().collect())
    }

    fn tell(&self, observations: Vec<Observation>) -> Result<(), Over> {
        if observations.is_empty() {
            Ok(())
        } else {
            self.send(Input::Observed(observations))
        }
    }

    fn drain(&mut self, ids: &[NamespaceId]) -> Result<(), Over> {
        if ids.is_empty() {
            return Ok(());
        }
        let drained = self.spaces.drain(ids);
        self.tell(drained.observations)?;
        if drained.overrun {
            self.send(Input::Overrun)
        } else {
            Ok(())
        }
    }

    fn dump_all(&mut self) -> Vec<Observation> {
        self.slow.files.reread(&self.finder);
        let mut dumps: Vec<Observation> = nameservers().into_iter().collect();
        dumps.extend(self.spaces.dump_all());
        dumps
    }

    /// Looks for namespaces that came or went, and tells of them: what is in a new one, where each is, and last what is observed no longer.
    fn look(&mut self) -> Result<(), Over> {
        if self.finder.listen() {
            self.listen_for_names();
        }
        let found = self.finder.look(Instant::now());
        // Another process may stand for a namespace that is where it was.
        self.poll_processes();
        if found.is_empty() {
            return Ok(());
        }
        let (mut dumps, mut gone) = (Vec::new(), Vec::new());
        let mut resolved = Vec::new();
        for (netns, found) in found {
            let resolution = self.found(&netns, found, &mut dumps, &mut gone);
            resolved.push((netns, resolution));
        }
        self.tell(dumps)?;
        for (netns, resolution) in resolved {
            self.send(Input::Resolved { netns, resolution })?;
        }
        self.tell(gone)
    }

    fn found(
        &mut self,
        netns: &NetnsRef,
        found: Found,
        dumps: &mut Vec<Observation>,
        gone: &mut Vec<Observation>,
    ) -> Resolution {
        if let NetnsRef::Lxc { id } = netns {
            let inode = match &found {
                Found::There(space) => Some(space.inode()),
                Found::Missing(_) => None,
            };
            gone.extend(self.slow.meshes.moved(id, inode));
        }
        let space = match found {
            Found::There(space) => space,
            Found::Missing(reason) => {
                let closed = self.spaces.close(netns, None);
                gone.extend(self.end_clients(closed.as_slice()));
                gone.extend(closed);
                return Resolution::Absent(reason);
            }
        };
        let id = self.spaces.id(&space);
        let closed = self.spaces.close(netns, Some(id));
        gone.extend(self.end_clients(closed.as_slice()));
        gone.extend(closed);
        if id == NamespaceId::Host && matches!(netns, NetnsRef::Lxc { .. }) {
            return Resolution::Absent(ecow::eco_format!(
                "{netns} is the server's own: the container shares it"
            ));
        }
        match self.spaces.open(space, netns.clone()) {
            Ok(dump) => {
                if dump.is_some() {
                    self.poll_events(id);
                }
                dumps.extend(dump);
                Resolution::Present(id)
            }
            Err(error) => Resolution::Absent(ecow::eco_format!("{netns} cannot be entered: {error}")),
        }
    }

    /// Ends the DHCP clients in namespaces that are gone, and lets go of their other links.
    fn end_clients(&self, closed: &[Observation]) -> Vec<Observation> {
        for gone in closed {
            self.slow.wireguards.leave(gone.namespace);
        }
        closed
            .iter()
            .flat_map(|gone| self.dhcp.forget(gone.namespace))
            .collect()
    }

    fn poll_events(&mut self, id: NamespaceId) {
        let (NamespaceId::Inode(token), Some(space)) = (id, self.spaces.get(id)) else {
            return;
        };
        let Some(events) = &space.sockets.events else { return };
        // The kernel takes a closed descriptor out of the set by itself.
        if let Err(error) = self.epoll.add(events, EpollEvent::new(EpollFlags::EPOLLIN, token)) {
            tracing::warn!(%error, namespace = %id, "events cannot be waited for");
        }
    }

    fn poll_processes(&mut self) {
        for process in self.finder.fresh_processes() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, TOKEN_PROCESS);
            if let Err(error) = self.epoll.add(process, event) {
                tracing::warn!(%error, "the end of a process cannot be waited for");
            }
        }
    }

    fn listen_for_names(&mut self) {
        self.finder.listen();
        let Some(names) = self.finder.names() else { return };
        if self.polled.insert(names.as_raw_fd(), TOKEN_NAMES).is_none() {
            let _ = self.epoll.add(names, EpollEvent::new(EpollFlags::EPOLLIN, TOKEN_NAMES));
        }
    }

    fn names_changed(&mut self) {
        let before = self.finder.names().map(|names| names.as_raw_fd());
        if !self.finder.names_changed(Instant::now()) {
            before.and_then(|fd| self.polled.remove(&fd));
        }
    }
}

/// The nameservers of the host.
fn nameservers() -> Option<Observation> {
    let mut bytes = Vec::new();
    let file = File::open("/etc/resolv.conf").ok()?;
    file.take(RESOLV_CONF_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let servers = nonnet_hooks::resolv_conf::nameservers(&String::from_utf8_lossy(&bytes));
    Some(of_host(Change::Nameservers(servers)))
}

fn of_host(change: Change) -> Observation {
    Observation {
        namespace: NamespaceId::Host,
        change,
    }
}

/// The namespaces in which a plan changes something. The inner end of a deleted pair is told by its own event.
fn concerned(plan: &Plan) -> BTreeSet<NamespaceId> {
    let mut ids = BTreeSet::from([NamespaceId::Host]);
    for step in &plan.steps {
        ids.insert(step.operation.namespace());
        if let Operation::LinkAdd {
            new: NewLink::Veth { peer, .. },
            ..
        } = &step.operation
        {
            ids.insert(peer.namespace);
        }
    }
    ids
}
