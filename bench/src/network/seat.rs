//! A thread in namespaces of its own, with containers in it, where one side works when it is asked to.

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use super::side::{Side, container};
use crate::measure::Round;
use crate::namespace;

/// A side in its place.
pub(super) struct Seat {
    name: &'static str,
    containers: usize,
    asks: Option<Sender<Ask>>,
    answers: Receiver<Result<Answer>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Ask {
    Attach(Range<usize>),
    Detach(Range<usize>),
    Links,
}

#[derive(Debug)]
enum Answer {
    Ready,
    Round(Round),
    Links(usize),
}

impl Seat {
    /// Makes the namespaces, `containers` in number and one more whose container is attached for good, so that the network exists.
    pub(super) fn take<S: Side>(
        name: &'static str,
        containers: usize,
        start: impl FnOnce() -> Result<S> + Send + 'static,
    ) -> Result<Self> {
        eprintln!("{name}: making {containers} containers");
        let (asks, asked) = channel();
        let (answer, answers) = channel();
        let thread = std::thread::spawn(move || {
            let failed = answer.clone();
            let sit = move || {
                (0..=containers).try_for_each(|number| namespace::add(&container(number)))?;
                let mut side = start()?;
                side.attach(containers..containers + 1).with_context(|| side.log())?;
                let _ = answer.send(Ok(Answer::Ready));
                while let Ok(ask) = asked.recv() {
                    let done = serve(&mut side, ask);
                    let _ = answer.send(done.with_context(|| side.log()));
                }
                Ok(())
            };
            if let Err(error) = namespace::run_inside(sit) {
                let _ = failed.send(Err(error));
            }
        });
        let mut seat = Self {
            name,
            containers,
            asks: Some(asks),
            answers,
            thread: Some(thread),
        };
        seat.answer().with_context(|| name)?;
        Ok(seat)
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// How many containers wait for their network.
    pub(super) fn containers(&self) -> usize {
        self.containers
    }

    pub(super) fn attach(&mut self, containers: Range<usize>) -> Result<Round> {
        self.round(Ask::Attach(containers))
    }

    pub(super) fn detach(&mut self, containers: Range<usize>) -> Result<Round> {
        self.round(Ask::Detach(containers))
    }

    /// How many links there are on the side's host.
    pub(super) fn links(&mut self) -> Result<usize> {
        match self.ask(Ask::Links)? {
            Answer::Links(count) => Ok(count),
            other => Err(anyhow!("it answered {other:?}")),
        }
    }

    fn round(&mut self, ask: Ask) -> Result<Round> {
        match self.ask(ask)? {
            Answer::Round(round) => Ok(round),
            other => Err(anyhow!("it answered {other:?}")),
        }
    }

    fn ask(&mut self, ask: Ask) -> Result<Answer> {
        let asks = self.asks.as_ref().context("the side is at work")?;
        asks.send(ask).map_err(|_| anyhow!("the side has ended"))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        self.answers.recv().context("the side has ended")?
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(side: &mut impl Side, ask: Ask) -> Result<Answer> {
    let (containers, attach) = match ask {
        Ask::Links => return Ok(Answer::Links(namespace::count_links()?)),
        Ask::Attach(containers) => (containers, true),
        Ask::Detach(containers) => (containers, false),
    };
    let (operations, checked) = (containers.len(), containers.clone());
    let (cpu, started) = (side.cpu()?, Instant::now());
    if attach {
        side.attach(containers)?;
    } else {
        side.detach(containers)?;
    }
    let wall = started.elapsed();
    side.rest()?;
    let cpu = side.cpu()?.saturating_sub(cpu);
    if attach {
        side.check(checked)?;
    }
    Ok(Answer::Round(Round {
        operations,
        wall,
        cpu,
        latencies: Vec::new(),
    }))
}
