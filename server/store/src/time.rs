//! Which record was the newest at a time.

use nonnet_chain::Header;
use rusqlite::OptionalExtension;

use crate::layout::OpenError;
use crate::read::Reader;

impl Reader {
    /// The record that was the newest at that time, in microseconds since 1970; None where the log begins later.
    ///
    /// Records are in the order of their times as long as the clock is not set back. Where it was (the first record after that has the flag
    /// `CLOCK_STEPPED_BACK`), a time may have been now more than once: then any record is given that is not later than the time and whose
    /// next one is.
    pub fn seq_at(&self, time_us: u64) -> Result<Option<u64>, OpenError> {
        let Some(newest) = self.head()? else { return Ok(None) };
        // The newest comes first: a time that is not yet over is asked for most.
        if self.time_of(newest.seq)?.is_some_and(|time| time <= time_us) {
            return Ok(Some(newest.seq));
        }
        let (mut low, mut high) = (0, newest.seq);
        while low < high {
            let middle = low + (high - low) / 2;
            // A record that is not there is one that was removed, as old ones are.
            if self.time_of(middle)?.is_none_or(|time| time <= time_us) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.checked_sub(1))
    }

    /// The time of a record, in microseconds since 1970; None where there is no such record.
    pub fn time_of(&self, seq: u64) -> Result<Option<u64>, OpenError> {
        Ok(self.header(seq)?.map(|header| header.time_us))
    }

    /// The header of a record; None where there is no such record.
    pub fn header(&self, seq: u64) -> Result<Option<Header>, OpenError> {
        let Ok(number) = i64::try_from(seq) else {
            return Ok(None);
        };
        let read = || -> rusqlite::Result<Option<Vec<u8>>> {
            let mut statement = self
                .connection()
                .prepare_cached("SELECT header FROM log WHERE seq = ?")?;
            statement.query_row((number,), |row| row.get(0)).optional()
        };
        let bytes = read().map_err(OpenError::sqlite(self.path(), "read"))?;
        let header = bytes.map(|bytes| Header::decode(&bytes)).transpose();
        header.map_err(|error| self.undecodable(seq, error))
    }
}
