//! What the kernel's side has to say about rows, put into their ephemeral columns.

use std::collections::{BTreeMap, VecDeque};

use nonnet_engine::Transaction;
use nonnet_hooks::dhcp::Lease;
use nonnet_hooks::limits::EVENTS_MAX;
use nonnet_hooks::object::Owner;
use nonnet_hooks::reconcile::Output;
use nonnet_hooks::report::{Event, Report};
use nonnet_hooks::statistics::{self, Counters};
use nonnet_hooks::status::{progress_columns, report_columns};
use nonnet_hooks::tables::Tables;
use nonnet_hooks::tables::events::EventLog;
use serde_json::Value;

/// News of rows, the newest of each; never more than there are rows.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    rows: BTreeMap<Owner, Report>,
    /// `cur_cfg` and `failed` of the host row.
    progress: Option<(u64, usize)>,
    events: VecDeque<Event>,
    /// Plans that were asked for, by number.
    plans: Vec<(u64, Value)>,
    /// What DHCP servers gave ports, or nothing any more.
    leases: BTreeMap<Owner, Option<Lease>>,
    /// What links have counted, by index.
    counters: BTreeMap<u32, Counters>,
}

impl Reports {
    /// Adds what a reconciler says; commands for the kernel are none of it.
    pub(crate) fn add(&mut self, output: Output) {
        match output {
            Output::Report(report) => {
                self.rows.insert(report.owner.clone(), report);
            }
            Output::Progress { cur_cfg, failed } => self.progress = Some((cur_cfg, failed)),
            Output::Event(event) => {
                if self.events.len() >= EVENTS_MAX {
                    self.events.pop_front();
                }
                self.events.push_back(event);
            }
            Output::Lease(port, lease) => {
                self.leases.insert(port, lease);
            }
            Output::Run { .. } | Output::Watch(_) | Output::Unwatch(_) | Output::Dump => {}
        }
    }

    /// Adds a plan that was asked for.
    pub(crate) fn add_plan(&mut self, plan: (u64, Value)) {
        self.plans.push(plan);
    }

    /// Takes out the plans that were asked for.
    pub(crate) fn take_plans(&mut self) -> Vec<(u64, Value)> {
        std::mem::take(&mut self.plans)
    }

    /// What links have counted.
    pub(crate) fn of_counters(counters: BTreeMap<u32, Counters>) -> Self {
        Self {
            counters,
            ..Self::default()
        }
    }

    /// True where there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.progress.is_none()
            && self.events.is_empty()
            && self.plans.is_empty()
            && self.leases.is_empty()
            && self.counters.is_empty()
    }

    /// What became of rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Report> {
        self.rows.values()
    }

    /// How far the kernel has followed, where that is news.
    pub(crate) fn cur_cfg(&self) -> Option<u64> {
        self.progress.map(|(cur_cfg, _)| cur_cfg)
    }

    /// Takes out the leases, each with the port that it is for.
    pub(crate) fn take_leases(&mut self) -> BTreeMap<Owner, Option<Lease>> {
        std::mem::take(&mut self.leases)
    }

    /// Puts everything else into the rows that still exist; `time_ms` is since 1970.
    pub(crate) fn write(self, tables: &Tables, events: &mut EventLog, transaction: &mut Transaction<'_>, time_ms: u64) {
        for event in &self.events {
            let cfg = event
                .owner
                .as_ref()
                .and_then(|owner| self.rows.get(owner))
                .map_or(0, |report| report.cfg);
            events.record(tables, transaction, event, cfg, time_ms);
        }
        for report in self.rows.values() {
            for write in report_columns(tables, transaction, report, time_ms) {
                write.apply(transaction);
            }
        }
        if !self.counters.is_empty() {
            for write in statistics::columns(tables, transaction, &self.counters) {
                write.apply(transaction);
            }
        }
        let host = transaction.rows(tables.host.this).next().map(|row| row.uuid());
        if let (Some((cur_cfg, failed)), Some(host)) = (self.progress, host) {
            for write in progress_columns(tables, host, cur_cfg, failed) {
                write.apply(transaction);
            }
        }
    }
}
