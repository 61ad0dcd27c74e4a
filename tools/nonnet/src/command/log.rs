//! `nonnet log`: the commits of a database file, with who made them and what they changed.

use anyhow::{Context, Result, bail};
use nix::unistd::User;
use nonnet_chain::StoredRecord;
use nonnet_store::Reader;

use crate::arguments::{Common, Log};
use crate::catalog;
use crate::history::{Entry, Filter, History, Printer, Style, find_row};
use crate::limits::{FOLLOW_INTERVAL, FOLLOWED_FIRST, LOG_STEP_RECORDS};
use crate::output::Output;
use crate::state::RowName;

/// Prints the log.
pub(crate) fn run(common: &Common, options: &Log, output: &mut Output) -> Result<u8> {
    let history = History::open(options.file.as_deref(), common)?;
    let filter = filter(&history, options)?;
    let head = history.reader.head()?.map(|head| head.seq);
    let first = options.since.as_ref().map(|point| history.first_since(point));
    let first = first.transpose()?.unwrap_or(0);
    let last = match &options.until {
        Some(point) => history.last_until(point)?,
        None => head,
    };
    let limit = if options.follow && options.since.is_none() {
        Some(options.limit.unwrap_or(FOLLOWED_FIRST))
    } else {
        options.limit
    };
    let mut log = LogPrinter {
        reader: &history.reader,
        filter,
        left: limit.unwrap_or(u64::MAX),
        printer: Printer::new(&history, Style::Short, output)?,
    };
    match last.filter(|last| first <= *last) {
        None => {}
        Some(last) if options.follow => log.newest_last(first, last)?,
        Some(last) if options.reverse => log.oldest_first(first, last)?,
        Some(last) => log.newest_first(first, last)?,
    }
    if options.follow {
        log.follow(head.map_or(0, |head| head + 1))?;
    }
    Ok(0)
}

/// Prints what came after a commit, newest first. Gives how many commits that are.
pub(crate) fn since(common: &Common, base: u64, output: &mut Output) -> Result<u64> {
    let history = History::open(None, common)?;
    let Some(head) = history.reader.head()?.filter(|head| head.seq > base) else {
        return Ok(0);
    };
    let mut log = LogPrinter {
        reader: &history.reader,
        filter: Filter::default(),
        left: u64::MAX,
        printer: Printer::new(&history, Style::Short, output)?,
    };
    log.newest_first(base + 1, head.seq)?;
    Ok(head.seq - base)
}

/// What the arguments ask for.
fn filter(history: &History, options: &Log) -> Result<Filter> {
    let uid = options.uid.as_deref().map(uid).transpose()?;
    if let Some(table) = &options.table {
        catalog::known_table(&history.schema, table)?;
    }
    let (table, row) = match &options.row {
        Some(text) => {
            let (table, row) = row(history, options.table.as_deref(), text).with_context(|| format!("--row {text}"))?;
            (table, Some(row))
        }
        None => (options.table.clone(), None),
    };
    Ok(Filter { table, row, uid })
}

/// A row by its UUID, as `TABLE:NAME`, or by its name in `table`.
fn row(history: &History, table: Option<&str>, text: &str) -> Result<(Option<String>, nonnet_schema::Uuid)> {
    let named = text.parse::<RowName>().ok().filter(|_| table.is_none());
    let (table, name) = match &named {
        Some(named) => (Some(named.table()), named.key()),
        None => (table, text),
    };
    let uuid = match (table, nonnet_schema::parse_uuid(name)) {
        (Some(table), _) => find_row(history, catalog::known_table(&history.schema, table)?, name)?,
        (None, Some(uuid)) => uuid,
        (None, None) => bail!("neither a UUID nor TABLE:NAME; or give --table as well"),
    };
    Ok((table.map(str::to_owned), uuid))
}

/// A user by number or by name.
fn uid(text: &str) -> Result<u32> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    let user = User::from_name(text).with_context(|| format!("--uid {text}"))?;
    let user = user.with_context(|| format!("--uid {text}: there is no such user"))?;
    Ok(user.uid.as_raw())
}

/// Prints those records that are asked for.
struct LogPrinter<'a> {
    reader: &'a Reader,
    filter: Filter,
    /// Records that are still to be printed.
    left: u64,
    printer: Printer<'a>,
}

impl LogPrinter<'_> {
    fn oldest_first(&mut self, first: u64, last: u64) -> Result<()> {
        if let Some(mut seqs) = self.seqs_of_row(first, last)? {
            seqs.reverse();
            return self.numbered(&seqs);
        }
        for record in self.reader.records(first..=last) {
            self.print(&record?)?;
            if self.left == 0 {
                break;
            }
        }
        Ok(())
    }

    fn newest_first(&mut self, first: u64, last: u64) -> Result<()> {
        match self.seqs_of_row(first, last)? {
            Some(seqs) => self.numbered(&seqs),
            None => self.back(first, last, |log, record| {
                log.print(record)?;
                Ok(log.left > 0)
            }),
        }
    }

    /// The newest that are to be printed, the oldest of them first.
    fn newest_last(&mut self, first: u64, last: u64) -> Result<()> {
        let mut seqs = Vec::new();
        self.back(first, last, |log, record| {
            if log.filter.rows(&Entry::decode(record)?).is_some() {
                seqs.push(record.seq);
            }
            Ok((seqs.len() as u64) < log.left)
        })?;
        self.left = u64::MAX;
        seqs.reverse();
        self.numbered(&seqs)
    }

    /// Gives the records from `last` back to `first` to `visit`, as long as it says so.
    fn back(
        &mut self,
        first: u64,
        last: u64,
        mut visit: impl FnMut(&mut Self, &StoredRecord) -> Result<bool>,
    ) -> Result<()> {
        let mut end = Some(last).filter(|_| self.left > 0);
        while let Some(last) = end.filter(|last| *last >= first) {
            let start = last.saturating_sub(LOG_STEP_RECORDS - 1).max(first);
            let records: Vec<StoredRecord> = self.reader.records(start..=last).collect::<Result<_, _>>()?;
            for record in records.iter().rev() {
                if !visit(self, record)? {
                    return Ok(());
                }
            }
            end = start.checked_sub(1);
        }
        Ok(())
    }

    /// Prints what comes after `next`, for ever.
    fn follow(&mut self, mut next: u64) -> Result<()> {
        loop {
            for record in self.reader.records(next..=u64::MAX) {
                let record = record?;
                self.print(&record)?;
                next = record.seq + 1;
            }
            self.printer.output.flush()?;
            std::thread::sleep(FOLLOW_INTERVAL);
        }
    }

    /// The records of the row that is asked for, newest first; None where none is.
    fn seqs_of_row(&self, first: u64, last: u64) -> Result<Option<Vec<u64>>> {
        let Some(row) = self.filter.row else { return Ok(None) };
        let mut seqs = Vec::new();
        for seq in self.reader.row_seqs(row)? {
            let seq = seq?;
            if seq < first {
                break;
            }
            if seq <= last {
                seqs.push(seq);
            }
        }
        Ok(Some(seqs))
    }

    fn numbered(&mut self, seqs: &[u64]) -> Result<()> {
        for seq in seqs {
            if self.left == 0 {
                break;
            }
            for record in self.reader.records(*seq..=*seq) {
                self.print(&record?)?;
            }
        }
        Ok(())
    }

    fn print(&mut self, record: &StoredRecord) -> Result<()> {
        let entry = Entry::decode(record)?;
        if let Some(rows) = self.filter.rows(&entry) {
            self.left -= 1;
            self.printer.entry(&entry, &rows)?;
        }
        Ok(())
    }
}
