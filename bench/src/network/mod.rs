//! Containers on a network: nonnet beside `ip -batch`, netavark and the CNI plugins, each in namespaces of its own.
//!
//! A container is a named network namespace; to attach it is to give it a veth pair into a bridge, an address, a default route and one
//! published port. Every side does that by its own means: nonnetd in one commit, the others by as many processes as their users start.
//! The rounds of the sides alternate. Where a side cannot follow (a process per container is slow), the workload leaves it out.
//!
//! What has no peer is measured alone: the engine without the database, the reading of everything, the return of a deleted link.

mod cni;
mod comparison;
mod engine;
mod forwards;
mod heal;
mod ip;
mod netavark;
mod nonnet;
mod seat;
mod side;

use std::ops::Range;

use anyhow::{Context, Result, ensure};

pub use self::comparison::{Comparison, SideRounds, json, render};
use self::seat::Seat;
use crate::measure::Round;
use crate::options::Options;
use crate::program::{Kind, Program};

/// Containers in one commit up to which sides take part that start processes for each.
const PROCESSES_MAX: usize = 100;

/// A single container is attached so many times more often than many are.
const SINGLES: usize = 8;

/// The names of the workloads.
pub fn names(options: &Options) -> Vec<String> {
    let sizes = options.containers();
    let attached = sizes
        .iter()
        .flat_map(|count| [attach_name(*count), detach_name(*count)]);
    let alone = [engine::NAMES.as_slice(), &[heal::NAME, forwards::NAME]].concat();
    attached
        .chain(alone.into_iter().map(str::to_owned))
        .filter(|name| options.wants(name))
        .collect()
}

/// Runs the workloads that the options ask for, with the first nonnetd among the programs.
///
/// # Errors
/// When a side fails, or the kernel does not have what it claims to have done.
pub fn run(programs: &[Program], options: &Options) -> Result<Vec<Comparison>> {
    let wanted = names(options);
    let wants = |name: &str| wanted.iter().any(|wanted| wanted == name);
    let Some(program) = programs.iter().find(|program| program.kind == Kind::Nonnetd) else {
        return Ok(Vec::new());
    };
    let mut comparisons = Vec::new();
    let sizes: Vec<usize> = options.containers();
    let sizes: Vec<usize> = sizes
        .into_iter()
        .filter(|count| wants(&attach_name(*count)) || wants(&detach_name(*count)))
        .collect();
    if let Some(most) = sizes.iter().max() {
        let mut seats = seats(program, options, *most)?;
        for count in sizes {
            comparisons.extend(attach_and_detach(&mut seats, count, options)?);
        }
    }
    if engine::NAMES.iter().any(|name| wants(name)) {
        comparisons.extend(engine::run(options).context("the engine without the database")?);
    }
    if wants(heal::NAME) {
        comparisons.push(heal::run(program, options).context(heal::NAME)?);
    }
    if wants(forwards::NAME) {
        comparisons.push(forwards::run(program, options).context(forwards::NAME)?);
    }
    comparisons.retain(|comparison| wants(&comparison.name));
    Ok(comparisons)
}

fn seats(program: &Program, options: &Options, most: usize) -> Result<Vec<Seat>> {
    let (program, with) = (program.clone(), options.clone());
    let directory = options.directory.clone().context("the run has a directory")?;
    let few = most.min(PROCESSES_MAX);
    Ok(vec![
        Seat::take("nonnet", most, move || nonnet::Nonnet::start(&program, &with))?,
        Seat::take("ip -batch", most, ip::Ip::start)?,
        Seat::take("netavark", few, netavark::Netavark::start)?,
        Seat::take("CNI", few, move || cni::Cni::start(&directory))?,
    ])
}

fn attach_and_detach(seats: &mut [Seat], count: usize, options: &Options) -> Result<Vec<Comparison>> {
    let rounds = if count == 1 && !options.quick {
        options.rounds() * SINGLES
    } else {
        options.rounds()
    };
    let mut sides: Vec<(&'static str, Vec<Round>, Vec<Round>)> = Vec::new();
    for round in 0..rounds {
        eprintln!("{}: round {} of {rounds}", attach_name(count), round + 1);
        for seat in seats.iter_mut().filter(|seat| seat.containers() >= count) {
            let (attached, detached) = one_round(seat, 0..count)
                .with_context(|| format!("{} with {count} containers, round {}", seat.name(), round + 1))?;
            match sides.iter_mut().find(|(name, ..)| *name == seat.name()) {
                Some((_, attach, detach)) => {
                    attach.push(attached);
                    detach.push(detached);
                }
                None => sides.push((seat.name(), vec![attached], vec![detached])),
            }
        }
    }
    let of = |name: String, second: bool| Comparison {
        name,
        sides: sides
            .iter()
            .map(|(side, attach, detach)| SideRounds {
                side: (*side).to_owned(),
                rounds: if second { detach.clone() } else { attach.clone() },
            })
            .collect(),
    };
    Ok(vec![of(attach_name(count), false), of(detach_name(count), true)])
}

fn one_round(seat: &mut Seat, containers: Range<usize>) -> Result<(Round, Round)> {
    let count = containers.len();
    let before = seat.links()?;
    let attached = seat.attach(containers.clone())?;
    let links = seat.links()?;
    ensure!(
        links == before + count,
        "{links} links after {count} containers were attached to {before} links"
    );
    let detached = seat.detach(containers)?;
    let links = seat.links()?;
    ensure!(
        links == before,
        "{links} links after all containers were detached, {before} before they came"
    );
    Ok((attached, detached))
}

fn attach_name(count: usize) -> String {
    format!("containers/attach/{count}")
}

fn detach_name(count: usize) -> String {
    format!("containers/detach/{count}")
}
