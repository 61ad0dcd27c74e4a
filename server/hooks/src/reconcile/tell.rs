//! What the reconciler tells: events, the state of rows, the progress of commits.

use ecow::{EcoString, eco_format};

use super::{Item, Output, Reconciler, Row};
use crate::object::{ObjectKey, Owner};
use crate::report::{Event, EventKind, Facts, Report, State};

impl Reconciler {
    pub(super) fn event(&mut self, now_ms: u64, kind: EventKind, key: &ObjectKey, item: &Item, text: EcoString) {
        let owner = item.owner.clone();
        let ms = now_ms.saturating_sub(item.since_ms);
        self.out.push(Output::Event(Event {
            kind,
            object: key.clone(),
            owner,
            ms,
            text,
        }));
    }

    /// Reports the rows whose objects were looked at, if anything about them changed, and the progress.
    pub(super) fn tell(&mut self) {
        for owner in std::mem::take(&mut self.stale_rows) {
            let Some(row) = self.rows.get(&owner) else { continue };
            let report = self.report(&owner, row);
            let unsettled = |key: &ObjectKey| self.items.get(key).is_some_and(|item| item.unsettled.is_some());
            let under_way = report.state == State::Pending && row.keys.iter().any(unsettled);
            let bad = report.state != State::Converged && !under_way;
            let Some(row) = self.rows.get_mut(&owner) else { continue };
            self.bad_rows = self.bad_rows + usize::from(bad) - usize::from(std::mem::replace(&mut row.bad, bad));
            if row.reported.as_ref() == Some(&report) {
                continue;
            }
            row.reported = Some(report.clone());
            self.out.push(Output::Report(report));
        }
        let cur_cfg = self
            .unsettled
            .first_key_value()
            .map_or(self.cfg, |(cfg, _)| cfg.saturating_sub(1));
        let progress = (cur_cfg, self.bad_rows + self.bad_removals);
        if self.loaded && self.have.host().is_some() && self.progress != Some(progress) {
            self.progress = Some(progress);
            self.out.push(Output::Progress {
                cur_cfg,
                failed: progress.1,
            });
        }
    }

    pub(super) fn report(&self, owner: &Owner, row: &Row) -> Report {
        let (mut state, mut error) = match &row.says {
            Some((state, reason)) => (*state, Some(reason.clone())),
            None => (State::Converged, None),
        };
        let mut attempts = 0;
        let mut facts = Facts::default();
        let mut notes = Vec::new();
        let mut peers = Vec::new();
        for key in &row.keys {
            let Some(wanted) = self.want.get(key) else { continue };
            let (of, why) = if wanted.owner == *owner {
                let item = self.items.get(key);
                attempts = attempts.max(item.map_or(0, |item| item.attempts));
                item.map_or((State::Pending, None), |item| (item.state, item.error.clone()))
            } else {
                (
                    State::Conflict,
                    Some(eco_format!("{key} is already wanted by {}", wanted.owner)),
                )
            };
            if of > state || (of == state && error.is_none()) {
                state = of;
                error = why;
            }
            if wanted.owner == *owner {
                let mut more = Facts::of(wanted, &self.want, &self.have);
                notes.append(&mut more.notes);
                peers.append(&mut more.peers);
                if facts.ifindex.is_none() {
                    facts = more;
                }
            }
        }
        (facts.notes, facts.peers) = (notes, peers);
        Report {
            owner: owner.clone(),
            state,
            cfg: row.cfg,
            attempts,
            error,
            facts,
        }
    }
}
