//! The server's log: standard error and, where asked for, a file that other programs read (ovsdb-server(1), "Logging Options").
//!
//! Each destination has a level, and each module may have its own. A log that cannot be written, on a full disk say, stops nothing.

mod file;
mod levels;

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, reload};

use crate::logging::file::{FileLayer, LogFile};
use crate::logging::levels::{Destination, Levels};

pub(crate) use crate::logging::levels::{Spec, TRANSACTION, is_module};

/// What is said, where.
pub(crate) struct Logging {
    levels: Mutex<Levels>,
    set_console: SetFilter,
    set_file: SetFilter,
    file: LogFile,
}

type SetFilter = Box<dyn Fn(EnvFilter) + Send + Sync>;

impl Logging {
    /// Starts to log; `verbose` is how often `-v` was given. The environment variable `NONNET_LOG` goes before it on standard error.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub(crate) fn start(verbose: u8, specs: &[Spec], path: Option<&Path>) -> anyhow::Result<Self> {
        let mut levels = Levels::new(verbose);
        for spec in specs {
            levels.set(spec);
        }
        let file = LogFile::open(path).with_context(|| path.unwrap_or(Path::new("")).display().to_string())?;
        let console =
            EnvFilter::try_from_env("NONNET_LOG").unwrap_or_else(|_| filter(&levels.directives(Destination::Console)));
        let (console, console_handle) = reload::Layer::new(console);
        let (in_file, file_handle) = reload::Layer::new(file_filter(&levels, &file));
        let console = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            // The default would panic where standard error is a full disk.
            .log_internal_errors(false)
            .with_filter(console);
        let in_file = FileLayer::new(file.clone()).with_filter(in_file);
        tracing_subscriber::registry().with(console).with(in_file).init();
        // Either handle lives as long as the process.
        let set_console: SetFilter = Box::new(move |filter| drop(console_handle.reload(filter)));
        let set_file: SetFilter = Box::new(move |filter| drop(file_handle.reload(filter)));
        Ok(Self {
            levels: Mutex::new(levels),
            set_console,
            set_file,
            file,
        })
    }

    /// Changes levels.
    pub(crate) fn set(&self, specs: &[Spec]) {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        for spec in specs {
            levels.set(spec);
        }
        if specs.iter().any(|spec| spec.concerns(Destination::Console)) {
            (self.set_console)(filter(&levels.directives(Destination::Console)));
        }
        (self.set_file)(file_filter(&levels, &self.file));
    }

    /// The levels as a table.
    pub(crate) fn list(&self) -> String {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner).to_string()
    }

    /// Opens the file anew, after somebody has moved it away. False where there is none.
    ///
    /// # Errors
    /// The system's; the file opened before stays in use then.
    pub(crate) fn reopen(&self) -> std::io::Result<bool> {
        self.file.reopen()
    }

    /// Closes the file; it can be opened anew.
    pub(crate) fn close(&self) {
        self.file.close();
    }

    /// Says nothing on standard error any more.
    pub(crate) fn leave_console(&self) {
        (self.set_console)(filter("off"));
    }
}

/// The forms of lines, as `vlog/list-pattern` shows them; they cannot be changed.
pub(crate) fn patterns() -> String {
    format!(
        "         prefix                            format\n         ------                            ------\n\
         {:9}{:34}{}\n{:9}{:34}{}\n{:9}{:34}{}\n",
        "SYSLOG",
        "none",
        "none",
        "CONSOLE",
        "none",
        "%D{%Y-%m-%dT%H:%M:%S.######Z} %p %m",
        "FILE",
        "none",
        file::PATTERN
    )
}

fn filter(directives: &str) -> EnvFilter {
    EnvFilter::new(directives)
}

fn file_filter(levels: &Levels, file: &LogFile) -> EnvFilter {
    if file.is_configured() {
        filter(&levels.directives(Destination::File))
    } else {
        filter("off")
    }
}
