//! The ways to put requests on a server: one after the other, many outstanding, many clients. Each checks every reply.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::connection::{Connection, check};
use crate::measure::{Clock, Round};
use crate::request::Requests;
use crate::server::Server;

/// One connection that waits for each reply; ends early after `time_max`.
pub fn one_by_one(server: &Server, requests: &Requests, time_max: Duration) -> Result<Round> {
    let mut connection = server.connect()?;
    let clock = Clock::start(server)?;
    let latencies = converse(&mut connection, requests, time_max)?;
    clock.stop(server, latencies.len(), latencies)
}

/// One connection on which so many requests are always outstanding.
pub fn outstanding(server: &Server, requests: &Requests, outstanding: usize) -> Result<Round> {
    let mut connection = server.connect()?;
    let (mut sent, mut answered) = (0, 0);
    let clock = Clock::start(server)?;
    while answered < requests.count() {
        let due = requests.count().min(answered + outstanding.max(1));
        if sent < due {
            connection.send(requests.bytes(sent..due))?;
            sent = due;
        }
        connection.fill()?;
        while let Some(reply) = connection.take() {
            check(connection.message(reply), requests.expected(answered))?;
            answered += 1;
        }
    }
    clock.stop(server, answered, Vec::new())
}

/// A client with a thread and a connection of its own per list of requests; each waits for each of its replies.
pub fn clients(server: &Server, lists: &[Requests]) -> Result<Round> {
    let ready = Barrier::new(lists.len() + 1);
    let mut connections = lists.iter().map(|_| server.connect()).collect::<Result<Vec<_>>>()?;
    let (clock, latencies) = thread::scope(|scope| {
        let threads: Vec<_> = connections
            .iter_mut()
            .zip(lists)
            .map(|(connection, requests)| {
                let ready = &ready;
                scope.spawn(move || {
                    ready.wait();
                    converse(connection, requests, Duration::MAX)
                })
            })
            .collect();
        let clock = Clock::start(server);
        ready.wait();
        let latencies: Result<Vec<_>> = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a client panicked"))?)
            .collect();
        anyhow::Ok((clock?, latencies?.concat()))
    })?;
    clock.stop(server, latencies.len(), latencies)
}

/// Sends each request when the one before is answered; the time from each to its reply.
fn converse(connection: &mut Connection, requests: &Requests, time_max: Duration) -> Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(requests.count());
    let started = Instant::now();
    for request in 0..requests.count() {
        let sent = Instant::now();
        connection.send(requests.bytes(request..request + 1))?;
        let reply = connection.receive()?;
        latencies.push(sent.elapsed());
        check(reply, requests.expected(request))?;
        if started.elapsed() >= time_max {
            break;
        }
    }
    Ok(latencies)
}
