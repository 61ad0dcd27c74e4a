//! A laboratory: a network and mount namespace of the test's own thread, a reconciler and the real kernel.
//!
//! All is gone with the thread that made it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test panics"
)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command as Process;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nonnet_hooks::name::{LinkName, Mac};
use nonnet_hooks::object::{Addresses, Bridge, BridgeSettings, NetnsRef, Object, Owner, Port, Route};
use nonnet_hooks::reconcile::{Desired, Heal, Input, Options, Output, Reconciler};
use nonnet_hooks::report::{Event, EventKind, Report, State};
use nonnet_hooks::want::Mark;
use nonnet_kernel::{Command, Inputs, Kernel};

/// The patience of a test: the kernel takes down the namespaces of other tests with its one lock held, for seconds.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A reconciler over the kernel.
pub(crate) struct Lab {
    pub(crate) reconciler: Reconciler,
    pub(crate) reports: BTreeMap<Owner, Report>,
    pub(crate) events: Vec<Event>,
    pub(crate) progress: (u64, usize),
    pub(crate) operations: Vec<String>,
    kernel: Kernel,
    inputs: Inputs,
    runtime: tokio::runtime::Runtime,
    start: Instant,
    cfg: u64,
}

/// Gives the calling thread a network of its own and a `/run/netns` of its own.
pub(crate) fn isolate() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests run as root");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).unwrap();
    sh("ip link set lo up");
}

/// Runs a command in the thread's namespaces; it must succeed. Gives what it printed.
pub(crate) fn sh(command: &str) -> String {
    let (ok, text) = try_sh(command);
    assert!(ok, "{command}: {text}");
    text
}

/// Runs a command in the thread's namespaces. Gives whether it succeeded, and what it printed.
pub(crate) fn try_sh(command: &str) -> (bool, String) {
    let output = Process::new("sh").args(["-c", command]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

pub(crate) fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

pub(crate) fn owner(table: &str, uuid: u128) -> Owner {
    Owner {
        table: table.into(),
        uuid,
    }
}

pub(crate) fn bridge(text: &str) -> Desired {
    let mac = Some(Mac::derived(text.as_bytes()));
    let bridge = Bridge {
        name: name(text),
        mac,
        mtu: None,
        settings: BridgeSettings::NEW,
        ipv6: false,
        adopt: false,
    };
    Desired::Objects(vec![Object::Bridge(bridge)])
}

pub(crate) fn gateway(link: &str, address: &str) -> Desired {
    let addresses = vec![address.parse().unwrap()];
    Desired::Objects(vec![Object::Addresses(Addresses {
        link: name(link),
        addresses,
    })])
}

/// A veth `vi{at}` on `br0` whose `eth0` is in the namespace, with an address of 10.9.0.0/16 and the gateway 10.9.0.1.
pub(crate) fn veth(at: u32, netns: NetnsRef) -> Port {
    let at_host = u16::try_from(at).unwrap() + 10;
    let [high, low] = at_host.to_be_bytes();
    Port {
        mac: Some(Mac([2, 0, 0, 9, high, low])),
        mtu: Some(1450),
        bridge: Some(name("br0")),
        addresses: vec![format!("10.9.{high}.{low}/16").parse().unwrap()],
        defaults: vec![Route::default_via(IpAddr::from([10, 9, 0, 1]))],
        sysctls: [("ipv4/conf/eth0/rp_filter".into(), "0".into())].into(),
        ..Port::new(name(&format!("vi{at}")), name("eth0"), netns)
    }
}

pub(crate) fn port(at: u32, netns: NetnsRef) -> Desired {
    Desired::Objects(vec![Object::Port(veth(at, netns))])
}

pub(crate) fn named(text: &str) -> NetnsRef {
    NetnsRef::Name(text.into())
}

impl Lab {
    /// A laboratory in the thread's namespaces that starts with these rows.
    pub(crate) fn new(rows: Vec<(Owner, Desired)>) -> Self {
        let mark = Mark::of(b"laboratory");
        let (kernel, inputs) = Kernel::live(mark).unwrap();
        assert_eq!(kernel.capabilities().obstacle(), None);
        let options = Options {
            mark,
            heal: Heal::On,
            observe_only: false,
            seed: 1,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let mut lab = Self {
            reconciler: Reconciler::new(options),
            reports: BTreeMap::new(),
            events: Vec::new(),
            progress: (0, 0),
            operations: Vec::new(),
            kernel,
            inputs,
            runtime,
            start: Instant::now(),
            cfg: 0,
        };
        lab.commit(rows);
        lab
    }

    /// Changes rows in one commit. Gives its sequence.
    pub(crate) fn commit(&mut self, changes: Vec<(Owner, Desired)>) -> u64 {
        self.cfg += 1;
        self.feed(Input::Wanted {
            cfg: self.cfg,
            changes,
            heals: vec![],
        });
        self.cfg
    }

    pub(crate) fn feed(&mut self, input: Input) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap();
        for output in self.reconciler.handle(now, input) {
            if let Output::Run { plan, .. } = &output {
                self.operations
                    .extend(plan.steps.iter().map(|step| step.operation.to_string()));
            }
            match Command::from_output(output) {
                Ok(command) => self.kernel.send(command),
                Err(Output::Report(report)) => {
                    self.reports.insert(report.owner.clone(), report);
                }
                Err(Output::Progress { cur_cfg, failed }) => self.progress = (cur_cfg, failed),
                Err(Output::Event(event)) => self.events.push(event),
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    /// Goes on until `done`, and gives how long that took.
    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Duration {
        let from = Instant::now();
        while !done(self) {
            assert!(
                from.elapsed() < PATIENCE,
                "{what}: {:?}\n{:?}\n{:#?}\n{:?}",
                self.reports,
                self.events,
                self.operations,
                self.progress
            );
            self.step();
        }
        from.elapsed()
    }

    /// Goes on for a while.
    pub(crate) fn during(&mut self, time: Duration) {
        let from = Instant::now();
        while from.elapsed() < time {
            self.step();
        }
    }

    fn step(&mut self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap();
        let wait = Duration::from_millis(self.reconciler.deadline_ms().saturating_sub(now).clamp(1, 20));
        let inputs = &mut self.inputs;
        match self
            .runtime
            .block_on(async { tokio::time::timeout(wait, inputs.recv()).await })
        {
            Ok(Some(input)) => self.feed(input),
            Ok(None) => panic!("the kernel thread ended"),
            Err(_) => self.feed(Input::Tick),
        }
    }

    /// Goes on until the commit is in the kernel and everything works.
    pub(crate) fn converged(&mut self, cfg: u64) -> Duration {
        self.until("converged", |lab| lab.progress.0 >= cfg && lab.progress.1 == 0)
    }

    pub(crate) fn state(&self, owner: &Owner) -> Option<State> {
        self.reports.get(owner).map(|report| report.state)
    }

    pub(crate) fn count(&self, kind: EventKind) -> usize {
        self.events.iter().filter(|event| event.kind == kind).count()
    }
}
