//! What the reconciler reports becomes columns of rows.
//!
//! Takes reports and the rows as they are, gives the ephemeral columns to write. It must never touch a column that clients want something by.

use ecow::{EcoString, eco_format};
use nonnet_engine::{Row, Transaction};
use nonnet_schema::{Atom, ColumnIndex, Datum, TableIndex, Uuid};

use crate::report::{Notes, Report, State};
use crate::tables::{Rows, Tables, bridges, host, lxc, networks, peers, ports, reference, references, text_set};

/// One column of one row, and what it is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnWrite {
    /// The row's table.
    pub table: TableIndex,
    /// The row.
    pub uuid: Uuid,
    /// The column.
    pub column: ColumnIndex,
    /// What it is to hold.
    pub datum: Datum,
}

impl ColumnWrite {
    /// Writes the column, where the row exists.
    pub fn apply(self, transaction: &mut Transaction<'_>) {
        transaction.set(self.table, self.uuid, self.column, self.datum);
    }
}

/// The columns that tell of a row's state, at `time_ms` since 1970. A port of a container tells its container's row, too.
pub fn report_columns(tables: &Tables, rows: &dyn Rows, report: &Report, time_ms: u64) -> Vec<ColumnWrite> {
    let uuid = Uuid::from_u128(report.owner.uuid);
    let (table, status, error) = match report.owner.table.as_str() {
        bridges::Columns::NAME => (tables.bridges.this, tables.bridges.status, tables.bridges.error),
        networks::Columns::NAME => (tables.networks.this, tables.networks.status, tables.networks.error),
        ports::Columns::NAME => (tables.ports.this, tables.ports.status, tables.ports.error),
        host::Columns::NAME => (tables.host.this, tables.host.status, tables.host.error),
        lxc::Columns::NAME => (tables.lxc.this, tables.lxc.status, tables.lxc.error),
        _ => return Vec::new(),
    };
    let mut writes = Vec::new();
    let Some(row) = rows.row(table, uuid) else {
        return writes;
    };
    let place = Place {
        table,
        row,
        status,
        error,
    };
    let mut told = Told::of(report);
    if table == tables.lxc.this && lxc::speaks(&tables.lxc, row) {
        told = told.with_network(&of_lxc(tables, row));
    }
    state_columns(tables, &place, &told, time_ms, &mut writes);
    if table == tables.ports.this {
        facts_columns(tables, uuid, report, &mut writes);
        let port = rows.row(table, uuid);
        let forwards = port.into_iter().flat_map(|row| references(row, tables.ports.forwards));
        for row in forwards.filter_map(|uuid| rows.row(tables.forwards.this, uuid)) {
            let place = Place {
                table: tables.forwards.this,
                row,
                status: tables.forwards.status,
                error: tables.forwards.error,
            };
            let told = Told::of(report);
            if !place.says_already(&told) {
                state_columns(tables, &place, &told, time_ms, &mut writes);
            }
        }
        for (row, notes) in peers_of(tables, rows, row, report) {
            let place = Place {
                table: tables.peers.this,
                row,
                status: tables.peers.status,
                error: tables.peers.error,
            };
            let told = Told {
                notes,
                ..Told::of(report)
            };
            state_columns(tables, &place, &told, time_ms, &mut writes);
        }
        let lxc = reference(row, tables.ports.lxc).and_then(|uuid| rows.row(tables.lxc.this, uuid));
        if let Some(row) = lxc {
            let place = Place {
                table: tables.lxc.this,
                row,
                status: tables.lxc.status,
                error: tables.lxc.error,
            };
            let mut told = Told::of(report);
            if lxc::speaks(&tables.lxc, row) {
                told = told.with_lifecycle(&of_lxc(tables, row));
            }
            state_columns(tables, &place, &told, time_ms, &mut writes);
        }
    }
    writes
}

/// The rows of the peers of a port, its own and its network's, with what is known of each.
fn peers_of<'a>(tables: &Tables, rows: &'a dyn Rows, port: &Row, report: &Report) -> Vec<(&'a Row, Notes)> {
    let columns = &tables.peers;
    let network = reference(port, tables.ports.network).and_then(|uuid| rows.row(tables.networks.this, uuid));
    let shared = network
        .into_iter()
        .flat_map(|row| references(row, tables.networks.peers));
    let own = references(port, tables.ports.peers).map(|uuid| (uuid, true));
    let all = own.chain(shared.map(|uuid| (uuid, false)));
    let told = all.filter_map(|(uuid, is_own)| {
        let row = rows.row(columns.this, uuid)?;
        let name = peers::name(columns, row);
        let notes = report.facts.peers.iter().find(|(peer, _)| peer == name);
        // What is the network's may be of no concern to this port.
        let notes = notes.map(|(_, notes)| notes.clone());
        notes.or_else(|| is_own.then(Notes::new)).map(|notes| (row, notes))
    });
    told.collect()
}

fn of_lxc<'a>(tables: &Tables, row: &'a Row) -> Lxc<'a> {
    Lxc {
        row,
        before: row.get(tables.lxc.status),
        error: tables.lxc.error,
    }
}

/// The columns of the host row that tell how far the kernel has followed: of all commits up to `cur_cfg`, `failed` rows are not as wanted.
pub fn progress_columns(tables: &Tables, host: Uuid, cur_cfg: u64, failed: usize) -> Vec<ColumnWrite> {
    let integer = |number: u64| Datum::scalar(i64::try_from(number).unwrap_or(i64::MAX));
    let columns = &tables.host;
    let values = [
        (columns.cur_cfg, integer(cur_cfg)),
        (columns.failed, integer(failed as u64)),
    ];
    let write = |(column, datum)| ColumnWrite {
        table: columns.this,
        uuid: host,
        column,
        datum,
    };
    values.into_iter().map(write).collect()
}

/// The column of the host row that tells what this kernel can do.
pub fn capabilities_column(
    tables: &Tables,
    host: Uuid,
    capabilities: impl IntoIterator<Item = EcoString>,
) -> ColumnWrite {
    ColumnWrite {
        table: tables.host.this,
        uuid: host,
        column: tables.host.capabilities,
        datum: text_set(capabilities),
    }
}

/// One row's columns for its state, and what stands there now.
struct Place<'a> {
    table: TableIndex,
    row: &'a Row,
    status: ColumnIndex,
    error: ColumnIndex,
}

impl Place<'_> {
    /// Whether a part of a row that has thousands of them says so already, though of an earlier commit, or said something more than "pending".
    fn says_already(&self, told: &Told) -> bool {
        let state = self.row.get(self.status).get_str("state");
        if told.state == State::Pending {
            return state.is_some();
        }
        let because = told.error.as_deref().filter(|_| told.state != State::Converged);
        state == Some(told.state.as_str()) && self.row.get(self.error).as_str() == because
    }
}

fn state_columns(tables: &Tables, place: &Place<'_>, told: &Told, time_ms: u64, writes: &mut Vec<ColumnWrite>) {
    let before = place.row.get(place.status);
    let state = told.state.as_str();
    let since = before
        .get_str("since")
        .filter(|_| before.get_str("state") == Some(state));
    let since = since.map_or_else(|| rfc3339(time_ms), Into::into);
    let mut pairs: Vec<(EcoString, EcoString)> = vec![
        ("state".into(), state.into()),
        ("cfg".into(), eco_format!("{}", told.cfg)),
        ("since".into(), since),
        ("attempts".into(), eco_format!("{}", told.attempts)),
    ];
    pairs.extend(told.notes.iter().cloned());
    if place.table == tables.lxc.this {
        let ignored = lxc::ignored(&tables.lxc, place.row);
        if !ignored.is_empty() {
            pairs.push(("ignored".into(), ignored.join(",").into()));
        }
    }
    let because = told.error.clone().filter(|_| told.state != State::Converged);
    let pairs = pairs.iter().map(|(key, value)| (key.as_str(), value.clone()));
    let values = [
        (place.status, Datum::string_map(pairs)),
        (place.error, Datum::optional(because)),
    ];
    let write = |(column, datum)| ColumnWrite {
        table: place.table,
        uuid: place.row.uuid(),
        column,
        datum,
    };
    writes.extend(values.into_iter().map(write));
}

/// What a row's columns are to tell.
struct Told {
    state: State,
    cfg: u64,
    attempts: u32,
    error: Option<EcoString>,
    notes: Vec<(EcoString, EcoString)>,
}

impl Told {
    fn of(report: &Report) -> Self {
        Self {
            state: report.state,
            cfg: report.cfg,
            attempts: report.attempts,
            error: report.error.clone(),
            notes: report.facts.notes.clone(),
        }
    }

    /// What a container's own report tells, together with what its port told before.
    fn with_network(mut self, lxc: &Lxc<'_>) -> Self {
        self.notes.push((LIFECYCLE.into(), self.state.as_str().into()));
        if let Some(network) = lxc.state(NETWORK) {
            self.notes.push((NETWORK.into(), network.as_str().into()));
            let why = lxc.before.get_str(NETWORK_ERROR).map(EcoString::from);
            self.notes.extend(why.clone().map(|why| (NETWORK_ERROR.into(), why)));
            if self.state == State::Converged && network != State::Converged {
                (self.state, self.error) = (network, why);
            }
        }
        self
    }

    /// What the report of a container's port tells of the container, together with what that told of itself before.
    fn with_lifecycle(mut self, lxc: &Lxc<'_>) -> Self {
        let network = self.state;
        self.notes = vec![(NETWORK.into(), network.as_str().into())];
        let why = self.error.clone().filter(|_| network != State::Converged);
        self.notes.extend(why.map(|why| (NETWORK_ERROR.into(), why)));
        for (key, value) in lxc.pairs().filter(|(key, _)| !GENERAL.contains(key)) {
            self.notes.push((key.into(), value.into()));
        }
        // Until the container has told of itself, it is being looked at.
        let lifecycle = lxc.state(LIFECYCLE).unwrap_or(State::Pending);
        if lifecycle != State::Converged {
            self.state = lifecycle;
            self.error = lxc.row.get(lxc.error).as_str().map(Into::into);
        }
        self
    }
}

/// Keys of a container's `status`: the state of the container itself, that of its port, and what is wrong there.
const LIFECYCLE: &str = "lifecycle";
const NETWORK: &str = "network";
const NETWORK_ERROR: &str = "network_error";

/// Keys that each report writes anew.
const GENERAL: [&str; 7] = ["state", "cfg", "since", "attempts", "ignored", NETWORK, NETWORK_ERROR];

/// A container's row and what its `status` says now.
struct Lxc<'a> {
    row: &'a Row,
    before: &'a Datum,
    error: ColumnIndex,
}

impl<'a> Lxc<'a> {
    fn state(&self, key: &str) -> Option<State> {
        State::from_word(self.before.get_str(key)?)
    }

    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let before = self.before;
        let keys = before.keys().filter_map(Atom::as_str);
        keys.filter_map(move |key| Some((key, before.get_str(key)?)))
    }
}

fn facts_columns(tables: &Tables, uuid: Uuid, report: &Report, writes: &mut Vec<ColumnWrite>) {
    let (columns, facts) = (&tables.ports, &report.facts);
    let mac = facts.mac.map(|mac| EcoString::from(mac.to_string()));
    let link_state = facts.up.map(|up| Atom::from(if up { "up" } else { "down" }));
    let values = [
        (columns.ifindex, Datum::optional(facts.ifindex.map(i64::from))),
        (columns.mac_in_use, Datum::optional(mac)),
        (
            columns.addresses_in_use,
            text_set(facts.addresses.iter().map(ToString::to_string)),
        ),
        (columns.link_state, Datum::optional(link_state)),
    ];
    let write = |(column, datum)| ColumnWrite {
        table: columns.this,
        uuid,
        column,
        datum,
    };
    writes.extend(values.into_iter().map(write));
}

/// A moment in milliseconds since 1970 as `2026-11-21T03:26:25.120Z` (RFC 3339).
pub(crate) fn rfc3339(time_ms: u64) -> EcoString {
    let (days, ms) = (time_ms / 86_400_000, time_ms % 86_400_000);
    // Days in 400-year eras that begin on 1 March, so that a leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    eco_format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        ms % 1_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moment_prints_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_231_585_120), "2026-11-21T03:26:25.120Z");
    }
}
