//! Counters of links become columns of rows: of ports, of networks, of the host.
//!
//! Takes counters by the index of a link and the rows as they are, gives the columns that differ. What a port received is what its end inside received, so
//! what the end on the host sent. A network has the sums of its ports, the host those of all.

use std::collections::BTreeMap;

use nonnet_engine::Transaction;
use nonnet_schema::{Atom, ColumnIndex, Datum, TableIndex, Uuid};

use crate::status::ColumnWrite;
use crate::tables::{Rows, Tables, number, reference};

/// The key of the host's `other_config` that says how often counters are read.
const INTERVAL: &str = "statistics_interval";

/// Seconds between two looks, where nobody says otherwise.
const INTERVAL_SECONDS: u64 = 5;

/// Seconds between two looks at most.
const INTERVAL_SECONDS_MAX: u64 = 3_600;

/// Counters of a link since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets that came damaged.
    pub rx_errors: u64,
    /// Packets that came and were dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets that were dropped in place of being sent.
    pub tx_dropped: u64,
}

impl Counters {
    /// The counters of the other end of a pair.
    fn other_end(self) -> Self {
        Self {
            rx_bytes: self.tx_bytes,
            rx_packets: self.tx_packets,
            rx_errors: self.tx_errors,
            rx_dropped: self.tx_dropped,
            tx_bytes: self.rx_bytes,
            tx_packets: self.rx_packets,
            tx_errors: self.rx_errors,
            tx_dropped: self.rx_dropped,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            rx_bytes: self.rx_bytes.wrapping_add(other.rx_bytes),
            rx_packets: self.rx_packets.wrapping_add(other.rx_packets),
            rx_errors: self.rx_errors.wrapping_add(other.rx_errors),
            rx_dropped: self.rx_dropped.wrapping_add(other.rx_dropped),
            tx_bytes: self.tx_bytes.wrapping_add(other.tx_bytes),
            tx_packets: self.tx_packets.wrapping_add(other.tx_packets),
            tx_errors: self.tx_errors.wrapping_add(other.tx_errors),
            tx_dropped: self.tx_dropped.wrapping_add(other.tx_dropped),
        }
    }

    fn datum(self) -> Datum {
        let pairs = [
            ("rx_bytes", self.rx_bytes),
            ("rx_packets", self.rx_packets),
            ("rx_errors", self.rx_errors),
            ("rx_dropped", self.rx_dropped),
            ("tx_bytes", self.tx_bytes),
            ("tx_packets", self.tx_packets),
            ("tx_errors", self.tx_errors),
            ("tx_dropped", self.tx_dropped),
        ];
        let pairs = pairs.map(|(key, count)| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            (Atom::from(key), Atom::from(count))
        });
        // The keys are distinct, which is all that could be wrong.
        Datum::map(pairs.to_vec()).unwrap_or_else(|_| Datum::empty_map())
    }
}

/// The columns that tell what the links of these indexes have counted, as far as they say something else now.
pub fn columns(tables: &Tables, rows: &Transaction<'_>, counters: &BTreeMap<u32, Counters>) -> Vec<ColumnWrite> {
    let mut found = Vec::new();
    let mut networks: BTreeMap<Uuid, Counters> = BTreeMap::new();
    let mut host = Counters::default();
    for port in rows.rows(tables.ports.this) {
        let index = number(port, tables.ports.ifindex);
        let Some(of) = index.and_then(|index| counters.get(&index)).map(|of| of.other_end()) else {
            continue;
        };
        host = host.plus(of);
        if let Some(network) = reference(port, tables.ports.network) {
            let sum = networks.entry(network).or_default();
            *sum = sum.plus(of);
        }
        found.push((tables.ports.this, port.uuid(), tables.ports.statistics, of));
    }
    for (network, sum) in networks {
        found.push((tables.networks.this, network, tables.networks.statistics, sum));
    }
    if let Some(row) = rows.rows(tables.host.this).next() {
        found.push((tables.host.this, row.uuid(), tables.host.statistics, host));
    }
    found.into_iter().filter_map(|found| differing(rows, found)).collect()
}

fn differing(
    rows: &Transaction<'_>,
    (table, uuid, column, counters): (TableIndex, Uuid, ColumnIndex, Counters),
) -> Option<ColumnWrite> {
    let datum = counters.datum();
    let row = Rows::row(rows, table, uuid)?;
    (*row.get(column) != datum).then_some(ColumnWrite {
        table,
        uuid,
        column,
        datum,
    })
}

/// Seconds between two looks as the host's row says (`other_config:statistics_interval`); none where it says 0.
pub fn interval_seconds(tables: &Tables, database: &nonnet_engine::Database) -> Option<u64> {
    let row = database.table(tables.host.this).rows().next();
    let said = row.and_then(|row| row.get(tables.host.other_config).get_str(INTERVAL)?.parse().ok());
    Some(said.unwrap_or(INTERVAL_SECONDS).min(INTERVAL_SECONDS_MAX)).filter(|seconds| *seconds > 0)
}
