//! Reads a session's socket, cuts and parses messages, and passes them to the state thread.
//!
//! It stops reading while the session has too much unanswered or unsent; it never looks into a message.

use std::{
    io::{self, ErrorKind},
    time::Duration,
};

use bytes::Bytes;
use nonnet_schema::Scanner;
use nonnet_sessions::SessionId;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tracing::debug;

use crate::{
    endpoint::Probing,
    http::{Sniffed, refusal, sniff},
    inbound::{Inbound, InboundSender, Scale},
    limits::{HANGUP_POLL, READ_BYTES_MAX},
    outbox::{End, Outbox},
    parse::{Parsed, parse},
    stream::Stream,
    unfinished::{self, Share},
};

/// What asks a silent peer for a sign of life; a client answers with a reply of the same id (`ovsdb-server(7)` 4.1.11).
const PROBE: &[u8] = br#"{"id":"echo","method":"echo","params":[]}"#;

/// The reading half of a session.
pub(crate) struct Reader<'a> {
    pub(crate) session: SessionId,
    pub(crate) remote: &'a str,
    pub(crate) stream: &'a Stream,
    pub(crate) outbox: &'a Outbox,
    pub(crate) inbound: &'a InboundSender,
    pub(crate) scale: &'a Scale,
    pub(crate) unfinished: Share<'a>,
    /// Bounds the parsers that run at the same time.
    pub(crate) jobs: &'a Semaphore,
    pub(crate) scanner: Scanner,
    pub(crate) opening: Opening,
    /// What is done about silence; None where the kernel always tells when the peer goes.
    pub(crate) probing: Option<Probing<'a>>,
}

/// The first bytes of a session, held until they are known not to be HTTP.
///
/// `Held` -> `Passed`, for good, with the first byte that no HTTP method has there.
#[derive(Debug)]
pub(crate) enum Opening {
    /// Not decided; these have come.
    Held(Vec<u8>),
    /// Everything goes to the scanner.
    Passed,
}

/// Why no more messages come while the session goes on.
enum Stop {
    /// Input ended between messages.
    EndOfInput,
    Malformed(String),
    Http {
        is_head: bool,
    },
    /// The session is over.
    End(End),
}

impl From<End> for Stop {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl Reader<'_> {
    /// Reads until the peer sends nothing more that can be understood, then waits for it to go.
    pub(crate) async fn run(mut self) -> End {
        let session = self.session;
        let event = match self.read().await {
            Stop::EndOfInput => Some(Inbound::HalfClosed { session }),
            Stop::Malformed(details) => Some(Inbound::Malformed { session, details }),
            Stop::Http { is_head } => {
                let local = self.stream.local_address();
                self.outbox.send(refusal(self.remote, local, is_head));
                self.outbox.close_after_flush();
                None
            }
            Stop::End(End::GaveWay) => {
                self.scanner = Scanner::new();
                self.outbox.send(unfinished::refusal());
                self.outbox.close_after_flush();
                None
            }
            Stop::End(end) => return end,
        };
        if let Some(event) = event
            && self.inbound.send(event).await.is_err()
        {
            return End::StateGone;
        }
        self.wait_for_hangup().await
    }

    /// Passes on messages until there is a reason to stop.
    async fn read(&mut self) -> Stop {
        loop {
            if let Err(stop) = self.pass_on().await {
                return stop;
            }
            match self.fill().await {
                Ok(0) => return self.at_end_of_input(),
                Ok(_) => {}
                Err(end) => return end.into(),
            }
            if let Opening::Held(first) = &self.opening {
                match sniff(first) {
                    Sniffed::Unsure => {}
                    Sniffed::Http { is_head } => return Stop::Http { is_head },
                    Sniffed::Other => self.open(),
                }
            }
        }
    }

    /// Gives the scanner what was held.
    fn open(&mut self) {
        if let Opening::Held(first) = std::mem::replace(&mut self.opening, Opening::Passed) {
            self.scanner.push(&first);
        }
    }

    fn at_end_of_input(&mut self) -> Stop {
        self.open();
        let end = match self.scanner.next_frame() {
            Ok(_) => self.scanner.finish(),
            Err(error) => Err(error),
        };
        match end {
            Ok(()) => Stop::EndOfInput,
            Err(error) => Stop::Malformed(error.to_string()),
        }
    }

    /// Passes on all messages that have arrived whole.
    async fn pass_on(&mut self) -> Result<(), Stop> {
        let mut is_new = false;
        loop {
            self.wait_for_room().await?;
            let frame = match self.scanner.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    self.unfinished.hold(self.scanner.held_bytes(), is_new);
                    return Ok(());
                }
                Err(error) => return Err(Stop::Malformed(error.to_string())),
            };
            is_new = true;
            let newline = frame.newline;
            let weight = self.scale.weigh(frame.parsed_bytes).await;
            let message = match parse(frame, self.jobs).await {
                Parsed::Message(message) => message,
                Parsed::Malformed(details) => return Err(Stop::Malformed(details)),
            };
            self.outbox.started();
            let event = Inbound::Message {
                session: self.session,
                message,
                newline,
                weight,
            };
            self.inbound.send(event).await.map_err(|_| End::StateGone)?;
        }
    }

    /// Waits while the session has too much unanswered or unsent.
    async fn wait_for_room(&self) -> Result<(), End> {
        while !self.outbox.has_room() {
            // While it goes on being served, a peer that has gone is still owed what it asked for before.
            if timeout(HANGUP_POLL, self.outbox.room()).await.is_err() && self.stream.is_hung_up() {
                return Err(End::PeerGone);
            }
        }
        Ok(())
    }

    /// Reads what is there, waiting for it; 0 at the end of input.
    async fn fill(&mut self) -> Result<usize, End> {
        let mut silent_since = Instant::now();
        let mut is_probed = false;
        loop {
            if !self.wait_for_input(silent_since).await? {
                if is_probed {
                    return Err(End::PeerSilent);
                }
                is_probed = true;
                silent_since = Instant::now();
                self.outbox.send(Bytes::from_static(PROBE));
                self.tell_idle(true);
                continue;
            }
            match self.read_some() {
                Ok(bytes) => {
                    if is_probed {
                        self.tell_idle(false);
                    }
                    return Ok(bytes);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => {
                    debug!(session = self.session.0, %error, "reading failed");
                    return Err(End::PeerGone);
                }
            }
        }
    }

    fn tell_idle(&self, is_idle: bool) {
        if let Some(probing) = &self.probing {
            probing.idle(is_idle);
        }
    }

    /// Reads once; no future of ours holds the buffer.
    fn read_some(&mut self) -> io::Result<usize> {
        let mut buffer = [0; READ_BYTES_MAX];
        let bytes = self.stream.try_read(&mut buffer)?;
        match &mut self.opening {
            Opening::Held(first) => first.extend_from_slice(&buffer[..bytes]),
            Opening::Passed => self.scanner.push(&buffer[..bytes]),
        }
        Ok(bytes)
    }

    /// Waits until the socket can be read; false when the peer has been silent for too long.
    async fn wait_for_input(&mut self, silent_since: Instant) -> Result<bool, End> {
        let stream = self.stream;
        let silence = async {
            match &mut self.probing {
                Some(probing) => probing.silence_since(silent_since).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            readable = stream.readable() => readable.map(|()| true).map_err(|_| End::PeerGone),
            () = self.unfinished.gives_way() => Err(End::GaveWay),
            () = silence => Ok(false),
        }
    }

    async fn wait_for_hangup(&self) -> End {
        while !self.stream.is_hung_up() {
            tokio::time::sleep(HANGUP_POLL).await;
        }
        End::PeerGone
    }
}

/// Reads and forgets input for a while, so that what was written last is not lost to a reset (`tcp(7)`, `unix(7)`).
pub(crate) async fn linger(stream: &Stream, patience: Duration) {
    let discard = async {
        while stream.readable().await.is_ok() {
            match discard_some(stream) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return,
            }
        }
    };
    let _ = timeout(patience, discard).await;
}

fn discard_some(stream: &Stream) -> io::Result<usize> {
    stream.try_read(&mut [0; READ_BYTES_MAX])
}
