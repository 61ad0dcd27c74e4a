//! The checkpoints of `OpNonNet` in the state: commits and reports go in, confirmations and rollbacks are committed.
//!
//! What the rows were before a checkpoint that this process has not seen begin is read from the log: at the start before anything else is
//! done, later on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ecow::{EcoString, eco_format};
use nonnet_chain::{Author, Header, Moment, Past};
use nonnet_engine::{ChangeSet, Database, Row, RowChange, Transaction};
use nonnet_hooks::checkpoint::{Before, Checkpoints, Step, Time};
use nonnet_hooks::report::Report;
use nonnet_hooks::tables::Tables;
use nonnet_schema::{OvsdbError, Uuid};
use nonnet_sessions::{Command, Now, Server};
use nonnet_store::{OpenError, Reader};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tracing::{info, warn};

use crate::network::NetworkLink;

/// How often the log is looked at for a record that is still on its way to it.
const RECORD_LOOKS_MAX: u32 = 100;

/// How long to wait in between.
const RECORD_LOOK_DELAY: Duration = Duration::from_millis(20);

/// What the log tells of rows no more.
const FORGOTTEN: &str = "the log does not tell what the rows were: the schema is another now, or too much has changed";

/// The checkpoints of one database.
pub(crate) struct CheckpointKeeper {
    database: EcoString,
    file: PathBuf,
    checkpoints: Checkpoints,
    sender: UnboundedSender<Learnt>,
    receiver: UnboundedReceiver<Learnt>,
}

/// The rows before a checkpoint.
pub(crate) struct Learnt {
    checkpoint: Uuid,
    before: Before,
}

impl CheckpointKeeper {
    /// The checkpoints of a database that is served, whose log is in `file`. Those that are open go on.
    pub(crate) fn new(
        database: &Database,
        tables: &Tables,
        file: &Path,
        sequence: u64,
        is_followed: bool,
        now: Now,
    ) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut checkpoints = Checkpoints::new(tables, sequence, is_followed);
        for (checkpoint, base) in checkpoints.left_open(database) {
            let age_ms = opened(file, base).map_or(0, |opened| age_ms(opened, now.moment));
            let before = read_before(file, base, sequence, database);
            checkpoints.resume(database, checkpoint, age_ms, before, now.monotonic_ms);
        }
        Self {
            database: database.schema().name.clone(),
            file: file.to_owned(),
            checkpoints,
            sender,
            receiver,
        }
    }

    /// Takes in what `commands` say was committed; `server` has all of it.
    pub(crate) fn changed(&mut self, commands: &[Command], server: &Server, now: Now) {
        if commands
            .iter()
            .any(|command| matches!(command, Command::Converted { .. }))
        {
            // Whoever follows the rows begins anew.
            return;
        }
        let commits: Vec<(Arc<ChangeSet>, u64)> = commands
            .iter()
            .filter_map(|command| match command {
                Command::Changed {
                    database,
                    changes,
                    sequence,
                } if *database == self.database => Some((Arc::clone(changes), *sequence)),
                _ => None,
            })
            .collect();
        if let Some(rows) = server.database(&self.database).filter(|_| !commits.is_empty()) {
            self.checkpoints.changed(rows, &commits, now.monotonic_ms);
        }
    }

    /// Takes in what became of rows in the kernel, and how far it has followed.
    pub(crate) fn reported<'a>(
        &mut self,
        reports: impl Iterator<Item = &'a Report>,
        cur_cfg: Option<u64>,
        server: &Server,
    ) {
        if let Some(rows) = server.database(&self.database) {
            reports.for_each(|report| self.checkpoints.reported(report, rows));
        }
        if let Some(cur_cfg) = cur_cfg {
            self.checkpoints.progress(cur_cfg);
        }
    }

    /// Takes in that the records of a database are stored up to `sequence`.
    pub(crate) fn stored(&mut self, database: &str, sequence: u64) {
        if self.database == database {
            self.checkpoints.stored(sequence);
        }
    }

    /// Takes in what the log told.
    pub(crate) fn learn(&mut self, learnt: Learnt) {
        self.checkpoints.learn(learnt.checkpoint, learnt.before);
    }

    /// What the log tells next.
    pub(crate) async fn next_learnt(&mut self) -> Option<Learnt> {
        self.receiver.recv().await
    }

    /// When something is due by itself, on the monotonic clock.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.checkpoints.deadline_ms()
    }

    /// Commits what is due; gives what the commits ask for.
    pub(crate) fn settle(
        &mut self,
        server: &mut Server,
        mut network: Option<&mut NetworkLink>,
        now: Now,
    ) -> Vec<Command> {
        let mut commands = Vec::new();
        let time = Time {
            monotonic_ms: now.monotonic_ms,
            time_ms: now.moment.time_us / 1_000,
        };
        while let Some(step) = self.checkpoints.next(time) {
            let done = match step {
                Step::Tell => {
                    let checkpoints = &mut self.checkpoints;
                    let write = |transaction: &mut Transaction<'_>| checkpoints.tell(transaction, time);
                    server.transact(&self.database, &author(None), now, write)
                }
                Step::Confirm(checkpoint) => self.confirm(server, checkpoint, now),
                Step::RollBack {
                    checkpoint,
                    name,
                    base,
                    reason,
                } => {
                    let done = self.roll_back(server, network.as_deref_mut(), checkpoint, (&name, base, &reason), now);
                    if let Err(error) = &done {
                        warn!("{}: checkpoint {name} could not be rolled back: {error}", self.database);
                        self.checkpoints.failed(checkpoint, now.monotonic_ms);
                    }
                    done
                }
                Step::Read { checkpoint, base } => {
                    self.read(server, checkpoint, base);
                    continue;
                }
            };
            match done {
                Ok(done) => {
                    self.changed(&done, server, now);
                    commands.extend(done);
                }
                Err(error) => warn!("{}: checkpoints: {error}", self.database),
            }
        }
        commands
    }

    fn confirm(&mut self, server: &mut Server, checkpoint: Uuid, now: Now) -> Result<Vec<Command>, OvsdbError> {
        let checkpoints = &self.checkpoints;
        let reason = "everything is as wanted".into();
        let write = |transaction: &mut Transaction<'_>| checkpoints.confirm(checkpoint, transaction);
        let done = server.restore(&self.database, &author(None), reason, now, write);
        if done.is_err() {
            self.checkpoints.failed(checkpoint, now.monotonic_ms);
        }
        done
    }

    fn roll_back(
        &self,
        server: &mut Server,
        mut network: Option<&mut NetworkLink>,
        checkpoint: Uuid,
        (name, base, reason): (&EcoString, u64, &EcoString),
        now: Now,
    ) -> Result<Vec<Command>, OvsdbError> {
        let comment = eco_format!("rollback of checkpoint {name} to commit {base}: {reason}");
        let sequence = server.sequence(&self.database).unwrap_or(0) + 1;
        let checkpoints = &self.checkpoints;
        let write = |transaction: &mut Transaction<'_>| {
            checkpoints.roll_back(checkpoint, transaction);
            if let Some(network) = network.as_deref_mut() {
                network.tell_rolled_back(name, &comment, sequence, transaction, now);
            }
        };
        let done = server.restore(&self.database, &author(Some(name)), comment.clone(), now, write);
        match (&done, network) {
            (Ok(_), _) => info!("{}: {comment}", self.database),
            (Err(_), Some(network)) => {
                if let Some(rows) = server.database(&self.database) {
                    network.forget_events(rows);
                }
            }
            (Err(_), None) => {}
        }
        done
    }

    /// Has the log read for a checkpoint.
    fn read(&mut self, server: &Server, checkpoint: Uuid, base: u64) {
        self.checkpoints.reading(checkpoint);
        let (Some(rows), Some(sequence)) = (server.database(&self.database), server.sequence(&self.database)) else {
            return;
        };
        let (rows, file, sender) = (rows.clone(), self.file.clone(), self.sender.clone());
        tokio::task::spawn_blocking(move || {
            let before = read_before(&file, base, sequence, &rows);
            // A keeper that is gone asks no more.
            let _ = sender.send(Learnt { checkpoint, before });
        });
    }
}

/// Who rolls back: the server, for a checkpoint.
fn author(checkpoint: Option<&EcoString>) -> Author {
    let details = checkpoint.map(|name| ("checkpoint".into(), name.clone()));
    Author {
        remote: "checkpoint".into(),
        comm: "nonnetd".into(),
        details: details.into_iter().collect(),
        ..Author::default()
    }
}

/// All rows as they were after record `base`, from those after record `sequence`.
fn read_before(file: &Path, base: u64, sequence: u64, rows: &Database) -> Before {
    match past(file, base, sequence) {
        Ok(Some(past)) => match undone(rows, &past) {
            Some(before) => Before::Known(Box::new(before)),
            None => Before::Lost("the log does not fit the rows".into()),
        },
        Ok(None) => Before::Lost(FORGOTTEN.into()),
        Err(error) => Before::Lost(eco_format!("{error}")),
    }
}

/// What has changed after record `base`, up to `sequence`, which may not have reached the log yet.
fn past(file: &Path, base: u64, sequence: u64) -> Result<Option<Past>, OpenError> {
    for _ in 0..RECORD_LOOKS_MAX {
        let Some(since) = Reader::open(file)?.since_record(base, sequence)? else {
            return Ok(None);
        };
        if since.to >= sequence {
            return Ok(Some(since.past));
        }
        std::thread::sleep(RECORD_LOOK_DELAY);
    }
    Ok(None)
}

/// The rows without what is past; None where the two do not fit.
fn undone(rows: &Database, past: &Past) -> Option<Database> {
    let schema = rows.schema();
    let mut changes = Vec::with_capacity(past.len());
    for (name, uuid, past) in past.rows() {
        let table = schema.table_index(name)?;
        let now = rows.table(table).row(uuid);
        let mut old = None;
        if past.existed() {
            let mut fields = match now {
                Some(row) => row.fields().to_vec(),
                None => schema.table(table).default_fields(),
            };
            for (column, column_schema) in schema
                .table(table)
                .declared_columns()
                .filter(|(_, column)| column.persistent)
            {
                let after = now.map(|row| row.get(column));
                *fields.get_mut(column.0)? = past.datum(&column_schema.name, after).ok()?;
            }
            old = Some(Arc::new(Row::new(uuid, Uuid::nil(), fields)));
        }
        changes.push(RowChange {
            table,
            uuid,
            old: now.cloned(),
            new: old,
        });
    }
    let mut before = rows.clone();
    before.apply(&ChangeSet::new(changes));
    Some(before)
}

/// When the record after `base` was made.
fn opened(file: &Path, base: u64) -> Option<Moment> {
    let sequence = base.checked_add(1)?;
    let record = Reader::open(file).ok()?.records(sequence..=sequence).next()?.ok()?;
    let header = Header::decode(&record.header).ok()?;
    Some(Moment {
        time_us: header.time_us,
        boot_us: header.boot_us,
        boot_id: header.boot_id,
    })
}

/// Milliseconds from then to now: by the clock that cannot be set, where it is the same.
fn age_ms(then: Moment, now: Moment) -> u64 {
    let us = if then.boot_id == now.boot_id && !now.boot_id.is_nil() {
        now.boot_us.saturating_sub(then.boot_us)
    } else {
        now.time_us.saturating_sub(then.time_us)
    };
    us / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_that_of_the_clock_since_boot_where_nobody_booted() {
        let moment = |time_us, boot_us, boot: u128| Moment {
            time_us,
            boot_us,
            boot_id: Uuid::from_u128(boot),
        };
        assert_eq!(
            age_ms(moment(90_000_000, 1_000_000, 1), moment(10_000_000, 4_000_000, 1)),
            3_000
        );
        assert_eq!(
            age_ms(moment(10_000_000, 9_000_000, 1), moment(90_000_000, 1_000_000, 2)),
            80_000
        );
        assert_eq!(age_ms(moment(10_000_000, 0, 1), moment(5_000_000, 0, 2)), 0);
    }
}
