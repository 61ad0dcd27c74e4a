//! Runs other programs: lxc's, netclient, a userspace `WireGuard`.
//!
//! Takes a [`Job`], gives what the program printed or why it did not work. Every job has a deadline, after which the program and its children are
//! killed; only the end of its output is kept. It starts with a clean environment, and what is secret goes in by standard input or the environment, never
//! in arguments, and is struck out of all that is said about it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::limits::{PROCESS_INPUT_BYTES_MAX, PROCESS_OUTPUT_BYTES_MAX, PROCESS_WORDS_BYTES_MAX};
use crate::netns::pidfd_open;

/// Where programs are looked for if the server itself has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What stands in place of a secret.
const STRUCK_OUT: &str = "***";

/// A program to run.
pub struct Job {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    secrets: Vec<String>,
    input: Vec<u8>,
    deadline: Duration,
    output_bytes: usize,
    is_quoted: bool,
}

/// What a program that succeeded has printed: of each the end, at most [`PROCESS_OUTPUT_BYTES_MAX`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    /// On standard output.
    pub output: String,
    /// On standard error.
    pub errors: String,
}

/// Why a program did not do what it was started for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// It is not there, or cannot be run.
    #[error("{program} cannot be run: {cause}")]
    Start {
        /// The program.
        program: String,
        /// The error number's words.
        cause: String,
        /// Whether there is no such program.
        is_missing: bool,
    },
    /// It ended with an error.
    #[error("{program} {how}{}", said(.words))]
    Failed {
        /// The program.
        program: String,
        /// How it ended: `ended with status 1`.
        how: String,
        /// What it said last.
        words: String,
    },
    /// It did not end in time and was killed.
    #[error("{program} did not end within {seconds} s and was killed{}", said(.words))]
    Hung {
        /// The program.
        program: String,
        /// The time it had, in seconds.
        seconds: u64,
        /// What it said last.
        words: String,
    },
}

impl Job {
    /// A program, found by `PATH` unless it is a path, and the time it has.
    pub fn new(program: impl AsRef<OsStr>, deadline: Duration) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            secrets: Vec::new(),
            input: Vec::new(),
            deadline,
            output_bytes: PROCESS_OUTPUT_BYTES_MAX,
            is_quoted: true,
        }
    }

    /// Adds an argument, which anybody on the machine can read.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments, which anybody on the machine can read.
    #[must_use]
    pub fn args<T: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Adds a variable whose value nobody else may learn: it is struck out of what the program says.
    #[must_use]
    pub fn secret_variable(self, name: &str, value: &str) -> Self {
        self.secret(value).variable(name, value)
    }

    /// Strikes a text out of what the program says.
    #[must_use]
    pub fn secret(mut self, text: &str) -> Self {
        if !text.is_empty() {
            self.secrets.push(text.to_owned());
        }
        self
    }

    /// What the program reads, at most [`PROCESS_INPUT_BYTES_MAX`] bytes.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// How much of its output is kept, instead of [`PROCESS_OUTPUT_BYTES_MAX`] bytes.
    #[must_use]
    pub fn output_max(mut self, bytes: usize) -> Self {
        self.output_bytes = bytes;
        self
    }

    /// What it prints on standard output is never quoted in errors, since it may be secret.
    #[must_use]
    pub fn unquoted(mut self) -> Self {
        self.is_quoted = false;
        self
    }

    /// Runs it in the network namespace of the calling thread, which waits.
    ///
    /// # Errors
    /// [`ProcessError`]
    pub fn run(&self) -> Result<Printed, ProcessError> {
        let mut child = self.start().map_err(|cause| ProcessError::Start {
            program: self.name(),
            is_missing: cause.kind() == io::ErrorKind::NotFound,
            cause: cause.to_string(),
        })?;
        let mut streams = [
            Stream::new(child.stdout.take().map(OwnedFd::from), self.output_bytes),
            Stream::new(child.stderr.take().map(OwnedFd::from), PROCESS_OUTPUT_BYTES_MAX),
        ];
        let ended = wait(&mut child, &mut streams, self.deadline);
        let [output, errors] = streams.map(|stream| self.without_secrets(&stream.text()));
        let words = || last_words(if self.is_quoted { &output } else { "" }, &errors);
        match ended {
            Ok(Some(status)) if status.success() => Ok(Printed { output, errors }),
            Ok(Some(status)) => Err(ProcessError::Failed {
                program: self.name(),
                how: how(status),
                words: words(),
            }),
            Ok(None) => Err(ProcessError::Hung {
                program: self.name(),
                seconds: self.deadline.as_secs(),
                words: words(),
            }),
            Err(cause) => Err(ProcessError::Start {
                program: self.name(),
                cause: cause.to_string(),
                is_missing: false,
            }),
        }
    }

    fn start(&self) -> io::Result<Child> {
        if self.input.len() > PROCESS_INPUT_BYTES_MAX {
            return Err(io::Error::other("its input is too long"));
        }
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", search_path())
            .env("LANG", "C")
            .env("HOME", "/root")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .process_group(0)
            .stdin(self.standard_input()?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn()
    }

    /// A piece of memory that the program reads, so that nobody waits for it to read.
    fn standard_input(&self) -> io::Result<Stdio> {
        if self.input.is_empty() {
            return Ok(Stdio::null());
        }
        let mut memory = File::from(memfd_create(c"input", MFdFlags::MFD_CLOEXEC)?);
        memory.write_all(&self.input)?;
        memory.rewind()?;
        Ok(memory.into())
    }

    /// The program's name without its directory.
    fn name(&self) -> String {
        let program = self.program.to_string_lossy();
        program.rsplit('/').next().unwrap_or(&program).to_owned()
    }

    fn without_secrets(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), STRUCK_OUT)
        })
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, arguments, .. } = self;
        f.debug_struct("Job")
            .field("program", program)
            .field("arguments", arguments)
            .finish_non_exhaustive()
    }
}

impl ProcessError {
    /// Whether there is no such program here.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Start { is_missing: true, .. })
    }
}

/// One of a program's outputs, and the end of what came.
struct Stream {
    source: Option<File>,
    kept: Vec<u8>,
    bytes_max: usize,
}

impl Stream {
    fn new(source: Option<OwnedFd>, bytes_max: usize) -> Self {
        let source = source.filter(|source| {
            let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
            nix::fcntl::fcntl(source.as_fd(), flags).is_ok()
        });
        Self {
            source: source.map(Into::into),
            kept: Vec::new(),
            bytes_max,
        }
    }

    /// Reads what has come.
    fn drain(&mut self) {
        let mut buffer = [0; 8 << 10];
        while let Some(source) = &mut self.source {
            match source.read(&mut buffer) {
                Ok(0) => self.source = None,
                Ok(count) => {
                    self.kept.extend(buffer.iter().take(count));
                    // Half of what is kept goes at once, so that a talkative program costs no more than it says.
                    if self.kept.len() > 2 * self.bytes_max {
                        self.kept.drain(..self.kept.len() - self.bytes_max);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.source = None,
            }
        }
    }

    fn text(mut self) -> String {
        let extra = self.kept.len().saturating_sub(self.bytes_max);
        String::from_utf8_lossy(&self.kept.split_off(extra)).into_owned()
    }
}

/// Waits for the end of a program, not of its children: one that goes on in the background may keep the outputs open. `None`: it was killed.
fn wait(child: &mut Child, streams: &mut [Stream; 2], patience: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + patience;
    let process = pidfd_open(child.id())?;
    loop {
        let mut fds = vec![PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        fds.extend(
            streams
                .iter()
                .filter_map(|stream| stream.source.as_ref())
                .map(|source| PollFd::new(source.as_fd(), PollFlags::POLLIN)),
        );
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = crate::netns::has_ended(&process);
        for stream in streams.iter_mut() {
            stream.drain();
        }
        if ended {
            return child.wait().map(Some);
        }
        if left.is_zero() {
            if let Ok(group) = i32::try_from(child.id()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            child.wait()?;
            return Ok(None);
        }
    }
}

/// Where programs are looked for.
pub(crate) fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| PATH.into())
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("was ended by {signal}"),
            Err(_) => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}

/// The last lines of what a program said, errors before output, on one line.
fn last_words(output: &str, errors: &str) -> String {
    let words = if errors.trim().is_empty() { output } else { errors };
    let mut kept: Vec<&str> = Vec::new();
    let mut bytes = 0;
    for line in words.lines().rev().map(str::trim).filter(|line| !line.is_empty()) {
        bytes += line.len();
        if bytes > PROCESS_WORDS_BYTES_MAX {
            break;
        }
        kept.push(line);
    }
    kept.reverse();
    let words = kept.join("; ");
    words.chars().filter(|c| !c.is_control()).collect()
}

fn said(words: &str) -> String {
    if words.is_empty() {
        String::new()
    } else {
        format!(": {words}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn shell(script: &str, seconds: u64) -> Job {
        Job::new("sh", Duration::from_secs(seconds)).args(["-c", script])
    }

    #[test]
    fn what_a_program_prints_is_given_and_its_input_is_read() {
        let printed = shell("cat; echo wrong >&2", 20).input(*b"hello").run().unwrap();
        assert_eq!((printed.output.as_str(), printed.errors.as_str()), ("hello", "wrong\n"));
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let error = shell("echo first >&2; echo second >&2; exit 3", 20).run().unwrap_err();
        assert_eq!(error.to_string(), "sh ended with status 3: first; second");
        let error = shell("kill -SEGV $$", 20).run().unwrap_err();
        assert_eq!(error.to_string(), "sh was ended by SIGSEGV");
        let error = Job::new("/nowhere/at-all", Duration::from_secs(1)).run().unwrap_err();
        assert!(error.is_missing(), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let error = shell("echo here; sleep 600 & echo $! >&2; wait", 1).run().unwrap_err();
        let ProcessError::Hung { words, seconds: 1, .. } = &error else {
            unreachable!("{error}");
        };
        // The signal is on its way: the child may have to be given the processor to die of it.
        let from = Instant::now();
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{words}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                break;
            }
            assert!(from.elapsed() < Duration::from_secs(10), "its child lives: {stat}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_child_in_the_background_holds_nobody_up() {
        let from = Instant::now();
        let printed = shell("setsid sleep 20 & echo started", 20).run().unwrap();
        assert_eq!(printed.output, "started\n");
        assert!(from.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn only_the_end_of_a_long_output_is_kept() {
        let printed = shell(
            "i=0; while [ $i -lt 20000 ]; do echo 1234567890; i=$((i+1)); done; echo end",
            20,
        )
        .run();
        let output = printed.unwrap().output;
        assert!(output.len() <= PROCESS_OUTPUT_BYTES_MAX && output.ends_with("end\n"));
    }

    #[test]
    fn a_secret_is_struck_out_of_what_is_said_and_no_argument() {
        let job = shell("echo \"bad token $TOKEN\" >&2; exit 1", 20).secret_variable("TOKEN", "abc.def");
        assert_eq!(
            job.run().unwrap_err().to_string(),
            "sh ended with status 1: bad token ***"
        );
        assert!(!format!("{job:?}").contains("abc"));
    }

    #[test]
    fn the_environment_of_the_server_stays_with_it() {
        let printed = shell("env", 20).variable("A", "1").run().unwrap();
        let names: Vec<&str> = printed
            .output
            .lines()
            .filter_map(|line| line.split('=').next())
            .collect();
        let expected = ["PATH", "LANG", "HOME", "A", "PWD", "SHLVL", "_", "OLDPWD"];
        assert!(names.iter().all(|name| expected.contains(name)), "{names:?}");
    }
}
