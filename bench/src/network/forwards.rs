//! One published port more, where there are thousands already.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::comparison::{Comparison, SideRounds};
use super::nonnet::Nonnet;
use super::side::{Side, container};
use crate::measure::{Clock, Round};
use crate::namespace;
use crate::options::Options;
use crate::program::Program;

/// The name of the workload.
pub(super) const NAME: &str = "forwards/add-one";

/// Forwards that are there already [quick: so many].
const FORWARDS: usize = 5_000;
const FORWARDS_QUICK: usize = 50;

/// The first of them; the container has published one already.
const FIRST_PORT: usize = 20_000;

/// Adds one forward to a port that has none, then to one that has thousands; each round takes it away again.
pub(super) fn run(program: &Program, options: &Options) -> Result<Comparison> {
    let many = if options.quick { FORWARDS_QUICK } else { FORWARDS };
    eprintln!("{NAME}: beside none, and beside {many}");
    namespace::run_inside(|| {
        namespace::add(&container(0))?;
        let mut nonnet = Nonnet::start(program, options)?;
        nonnet.attach(0..1)?;
        let mut sides = Vec::new();
        for (name, more) in [("beside none", 0), ("beside many", many)] {
            for first in (0..more).step_by(1_000) {
                let numbers = first..more.min(first + 1_000);
                nonnet.commit(&add(numbers.clone()))?;
            }
            let rounds = (0..options.rounds())
                .map(|_| one(&mut nonnet, many))
                .collect::<Result<Vec<Round>>>();
            sides.push(SideRounds {
                side: format!("{name} ({more})"),
                rounds: rounds.with_context(|| nonnet.log())?,
            });
        }
        Ok(Comparison {
            name: NAME.to_owned(),
            sides,
        })
    })
}

fn one(nonnet: &mut Nonnet, number: usize) -> Result<Round> {
    nonnet.rest()?;
    let clock = Clock::start(nonnet.server())?;
    nonnet.commit(&add(number..number + 1))?;
    let wall = clock.elapsed();
    let round = clock.stop(nonnet.server(), 1, vec![wall])?;
    let take_away =
        json!({"op": "mutate", "table": "ports", "where": [], "mutations": [["forwards", "delete", uuid(number)]]});
    nonnet.commit(&[take_away])?;
    Ok(Round { wall, ..round })
}

fn add(numbers: std::ops::Range<usize>) -> Vec<Value> {
    let rows = numbers.clone().map(|number| {
        json!({"op": "insert", "table": "forwards", "uuid": uuid(number)[1],
            "row": {"protocol": "tcp", "port": FIRST_PORT + number, "target": 80}})
    });
    let references: Vec<Value> = numbers.map(uuid).collect();
    let refer = json!({"op": "mutate", "table": "ports", "where": [],
        "mutations": [["forwards", "insert", ["set", references]]]});
    rows.chain([refer]).collect()
}

fn uuid(number: usize) -> Value {
    json!(["uuid", format!("f0a2d3ee-0a3f-4a6c-9a51-{number:012x}")])
}
