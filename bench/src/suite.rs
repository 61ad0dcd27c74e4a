//! The list of workloads, and running it: rounds in turn on A and B.

use anyhow::{Context, Result};

use crate::network;
use crate::options::Options;
use crate::outcome::{Outcome, Results};
use crate::program::Program;
use crate::server::{Durability, Server};
use crate::workload::Workload;
use crate::workload::insert::{Arrival, Insert};
use crate::workload::lookup::{Action, Key, Lookup};
use crate::workload::snapshot::{Method, Snapshot};

/// Durable inserts are so many times fewer: each waits for the disk.
const DURABLE_SHARE: usize = 4;

/// Workloads that share a pair of servers, and the table those begin with.
struct Group {
    durability: Durability,
    rows: usize,
    workloads: Vec<Box<dyn Workload>>,
}

/// The names of the workloads that the options ask for.
pub fn names(options: &Options) -> Vec<String> {
    let paired = groups(options)
        .into_iter()
        .flat_map(|group| group.workloads)
        .map(|workload| workload.name());
    paired.chain(network::names(options)).collect()
}

/// Runs all workloads that the options ask for.
///
/// # Errors
/// The first failure ends the run: it names the workload, the server and the round.
pub fn run(options: &Options) -> Result<Results> {
    let programs = [Program::find(&options.server_a)?, Program::find(&options.server_b)?];
    let mut outcomes = Vec::new();
    for group in groups(options) {
        outcomes.extend(run_group(&group, &programs, options)?);
    }
    let comparisons = network::run(&programs, options)?;
    Ok(Results {
        programs,
        quick: options.quick,
        outcomes,
        comparisons,
    })
}

fn groups(options: &Options) -> Vec<Group> {
    let mut groups = Vec::new();
    for durability in [Durability::Relaxed, Durability::Durable] {
        for arrival in [
            Arrival::OneByOne,
            Arrival::Outstanding(options.outstanding),
            Arrival::Clients(options.clients),
        ] {
            let share = if durability == Durability::Durable {
                DURABLE_SHARE
            } else {
                1
            };
            let insert = Insert {
                arrival,
                durability,
                rows: options.operations().div_ceil(share),
            };
            groups.push(Group {
                durability,
                rows: 0,
                workloads: vec![Box::new(insert)],
            });
        }
    }
    for rows in options.rows() {
        groups.push(Group {
            durability: Durability::Relaxed,
            rows,
            workloads: on_filled_table(rows, options),
        });
    }
    for group in &mut groups {
        group.workloads.retain(|workload| options.wants(&workload.name()));
    }
    groups.retain(|group| !group.workloads.is_empty());
    groups
}

fn on_filled_table(rows: usize, options: &Options) -> Vec<Box<dyn Workload>> {
    let mut workloads: Vec<Box<dyn Workload>> = Vec::new();
    let (operations, time_max) = (options.operations(), options.time_max());
    for action in [Action::Select, Action::Update] {
        for key in [Key::Uuid, Key::Index] {
            workloads.push(Box::new(Lookup {
                action,
                key,
                rows,
                operations,
                time_max,
            }));
        }
    }
    for method in [Method::Select, Method::Monitor, Method::MonitorCond] {
        workloads.push(Box::new(Snapshot { method, rows }));
    }
    workloads
}

fn run_group(group: &Group, programs: &[Program; 2], options: &Options) -> Result<Vec<Outcome>> {
    let start = |program: &Program| -> Result<Server> {
        let server = Server::start(program, options, group.durability)?;
        if group.rows > 0 {
            eprintln!("{}: filling a table with {} rows", program.label, group.rows);
            server.load(group.rows)?;
        }
        Ok(server)
    };
    let servers = [start(&programs[0])?, start(&programs[1])?];
    let mut outcomes = Vec::new();
    for workload in &group.workloads {
        let mut outcome = Outcome {
            name: workload.name(),
            rounds: [Vec::new(), Vec::new()],
        };
        for round in 0..options.rounds() {
            eprintln!("{}: round {} of {}", outcome.name, round + 1, options.rounds());
            for (server, rounds) in servers.iter().zip(&mut outcome.rounds) {
                let measured = workload.round(server, round);
                rounds.push(measured.with_context(|| {
                    format!(
                        "{} on {}, round {}; its log: {}",
                        workload.name(),
                        server.program().label,
                        round + 1,
                        server.log()
                    )
                })?);
            }
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}
