//! The engine without the database: reconciler and kernel thread in this process, in namespaces of their own.
//!
//! What a container costs from wanted objects to converged, what the kernel thread does of that, and how long it takes to read everything back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nonnet_hooks::mirror::{Change, Observation};
use nonnet_hooks::name::LinkName;

use nonnet_hooks::object::{NetnsRef, Object, Owner, Port, Route};
use nonnet_hooks::reconcile::{Desired, Heal, Input, Options as Behaviour, Output, Reconciler};
use nonnet_hooks::want::Mark;
use nonnet_kernel::{Command, Inputs, Kernel};
use nonnet_tests::program;

use super::comparison::Comparison;
use super::side::{container, succeed};
use crate::measure::Round;
use crate::namespace;
use crate::options::Options;

/// The workloads: all of one container's way through the engine, the part that plans take to run, reading everything.
pub(super) const NAMES: [&str; 3] = ["engine/attach/1", "engine/run/1", "engine/read-back"];

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures all of [`NAMES`]; everything is read back with as many containers as the largest workload has.
pub(super) fn run(options: &Options) -> Result<Vec<Comparison>> {
    let many = options.containers().into_iter().max().unwrap_or(1);
    let rounds = options.rounds();
    eprintln!("engine: {rounds} rounds with {many} containers");
    namespace::run_inside(|| {
        (0..=many).try_for_each(|number| namespace::add(&container(number)))?;
        let mut engine = Engine::start()?;
        let mut measured = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..rounds {
            let (all, ran) = engine.converge(vec![port(many)?])?;
            measured[0].push(round(1, all));
            measured[1].push(round(1, ran));
            engine.converge(vec![(owner("ports", many), Desired::Gone)])?;
        }
        engine.converge((0..many).map(port).collect::<Result<_>>()?)?;
        for _ in 0..rounds {
            measured[2].push(round(many, engine.read_back()?));
        }
        Ok(NAMES
            .into_iter()
            .zip(measured)
            .map(|(name, rounds)| Comparison::alone(name, rounds))
            .collect())
    })
}

fn round(operations: usize, wall: Duration) -> Round {
    Round {
        operations,
        wall,
        cpu: Duration::ZERO,
        latencies: Vec::new(),
    }
}

struct Engine {
    reconciler: Reconciler,
    kernel: Kernel,
    inputs: Inputs,
    runtime: tokio::runtime::Runtime,
    start: Instant,
    cfg: u64,
    progress: (u64, usize),
    /// When the plan began that runs.
    running: Option<Instant>,
    /// How long plans ran so far.
    ran: Duration,
    runs: usize,
}

impl Engine {
    fn start() -> Result<Self> {
        // A port may join a bridge that no row describes.
        let bridge = "link add engine0 type bridge\nlink set engine0 up\n";
        succeed(&program::system("ip")?, &["-batch", "-"], &[], bridge)?;
        let mark = Mark::of(b"bench");
        let (kernel, inputs) = Kernel::live(mark)?;
        let behaviour = Behaviour {
            mark,
            heal: Heal::On,
            observe_only: false,
            seed: 1,
        };
        let mut engine = Self {
            reconciler: Reconciler::new(behaviour),
            kernel,
            inputs,
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build()?,
            start: Instant::now(),
            cfg: 0,
            progress: (0, 0),
            running: None,
            ran: Duration::ZERO,
            runs: 0,
        };
        engine.converge(Vec::new())?;
        Ok(engine)
    }

    /// Wants something and goes on until it is there. Gives how long that took, and how long plans ran of it.
    fn converge(&mut self, changes: Vec<(Owner, Desired)>) -> Result<(Duration, Duration)> {
        self.cfg += 1;
        let (from, ran) = (Instant::now(), self.ran);
        self.handle(Input::Wanted {
            cfg: self.cfg,
            changes,
            heals: vec![],
        });
        while self.progress.0 < self.cfg {
            ensure!(from.elapsed() < PATIENCE, "it does not converge");
            let input = self.next()?;
            self.handle(input);
        }
        ensure!(self.progress.1 == 0, "{} rows failed", self.progress.1);
        Ok((from.elapsed(), self.ran.saturating_sub(ran)))
    }

    /// Reads everything and compares it, which must find nothing to do.
    fn read_back(&mut self) -> Result<Duration> {
        let runs = self.runs;
        // What the kernel had to say of its own accord comes first.
        while let Some(input) = self.inputs.try_recv() {
            self.handle(input);
        }
        let from = Instant::now();
        self.kernel.send(Command::Dump);
        // What else is read at such a time may be told before.
        loop {
            let input = self.next()?;
            let dumps = |observed: &[Observation]| {
                let is_dump = |one: &&Observation| matches!(one.change, Change::Replaced(_));
                observed.iter().filter(is_dump).count()
            };
            let namespaces = match &input {
                Input::Observed(observed) => dumps(observed),
                _ => 0,
            };
            self.handle(input);
            if namespaces > 1 {
                break;
            }
        }
        let took = from.elapsed();
        ensure!(self.runs == runs, "reading back changed something");
        Ok(took)
    }

    fn next(&mut self) -> Result<Input> {
        let inputs = &mut self.inputs;
        let next = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, inputs.recv()).await });
        next.context("the kernel says nothing")?
            .context("the kernel thread ended")
    }

    fn handle(&mut self, input: Input) {
        if matches!(input, Input::Ran { .. }) {
            self.ran += self.running.take().map_or(Duration::ZERO, |from| from.elapsed());
        }
        let now = self.start.elapsed().as_millis() as u64;
        for output in self.reconciler.handle(now, input) {
            match output {
                Output::Progress { cur_cfg, failed } => self.progress = (cur_cfg, failed),
                Output::Run { .. } => {
                    self.runs += 1;
                    self.running = Some(Instant::now());
                    self.send(output);
                }
                output => self.send(output),
            }
        }
    }

    fn send(&self, output: Output) {
        if let Ok(command) = Command::from_output(output) {
            self.kernel.send(command);
        }
    }
}

fn owner(table: &str, number: usize) -> Owner {
    Owner {
        table: table.into(),
        uuid: number as u128,
    }
}

/// A port of the bridge: what the rows of a container on a network want.
fn port(number: usize) -> Result<(Owner, Desired)> {
    let name = container(number);
    let host = u16::try_from(number + 2)?;
    let [high, low] = host.to_be_bytes();
    let port = Port {
        bridge: Some(LinkName::new("engine0")?),
        addresses: vec![format!("10.86.{high}.{low}/16").parse()?],
        routes: vec![Route::default_via("10.86.0.1".parse()?)],
        ..Port::new(
            LinkName::new(&name)?,
            LinkName::new("eth0")?,
            NetnsRef::Name(name.as_str().into()),
        )
    };
    Ok((owner("ports", number), Desired::Objects(vec![Object::Port(port)])))
}
