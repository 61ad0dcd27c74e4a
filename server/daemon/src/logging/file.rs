//! The log in a file, a line per event: `TIME|SEQUENCE|MODULE|LEVEL|TEXT`, as scripts for ovsdb-server read it.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::logging::levels::module_of;

/// The form of its lines in ovsdb-server's notation (ovs-appctl(8), "vlog/set").
pub(crate) const PATTERN: &str = "%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c|%p|%m";

/// A file that can be opened anew under its name.
#[derive(Clone)]
pub(crate) struct LogFile {
    /// None where no file is asked for.
    path: Option<Arc<PathBuf>>,
    file: Arc<Mutex<Option<File>>>,
}

/// Writes events into the file.
pub(crate) struct FileLayer {
    file: LogFile,
    written: AtomicU64,
}

/// The text of an event: its message, then its other fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl LogFile {
    /// Opens the file to append to it; does nothing where `path` is None.
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let file = path.map(append_to).transpose()?;
        Ok(Self {
            path: path.map(|path| Arc::new(path.to_owned())),
            file: Arc::new(Mutex::new(file)),
        })
    }

    pub(crate) fn is_configured(&self) -> bool {
        self.path.is_some()
    }

    /// As [`Logging::reopen`](super::Logging::reopen).
    pub(crate) fn reopen(&self) -> io::Result<bool> {
        let Some(path) = &self.path else {
            return Ok(false);
        };
        let file = append_to(path)?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(true)
    }
}

impl LogFile {
    /// Closes the file, until it is opened anew.
    pub(crate) fn close(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl FileLayer {
    pub(crate) fn new(file: LogFile) -> Self {
        Self {
            file,
            written: AtomicU64::new(0),
        }
    }
}

impl<S: Subscriber> Layer<S> for FileLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let line = format!(
            "{}|{:05}|{}|{}|{}{}\n",
            Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ"),
            self.written.fetch_add(1, Ordering::Relaxed) + 1,
            module_of(metadata.target()),
            level_name(*metadata.level()),
            text.message,
            text.fields
        );
        if let Some(file) = &mut *self.file.file.lock().unwrap_or_else(PoisonError::into_inner) {
            // There is nowhere to say that the log cannot be written.
            let _ = file.write_all(line.as_bytes());
        }
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// ovsdb-server's name of a level.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        _ => "DBG",
    }
}
