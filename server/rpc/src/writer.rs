//! Writes what a session's outbox holds to its socket, many messages at a time.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
};

use bytes::{Buf, Bytes};
use nonnet_sessions::SessionId;
use tokio::{sync::Semaphore, task::spawn_blocking};
use tracing::{debug, error};

use crate::{
    inbound::{Inbound, InboundSender},
    limits::WRITE_SLICES_MAX,
    outbox::{End, Job, Outbox, Taken},
    stream::Stream,
};

/// The writing half of a session.
pub(crate) struct Writer<'a> {
    pub(crate) session: SessionId,
    pub(crate) stream: &'a Stream,
    pub(crate) outbox: &'a Outbox,
    pub(crate) inbound: &'a InboundSender,
    /// Bounds the jobs that run at the same time.
    pub(crate) jobs: &'a Semaphore,
}

impl Writer<'_> {
    /// Writes until the session is closed and flushed, or cannot be written to.
    pub(crate) async fn run(self) -> End {
        let mut batch = VecDeque::new();
        loop {
            let done = match self.outbox.take(&mut batch) {
                Taken::Batch => self.write(&mut batch).await,
                Taken::Job(job) => self.encode(job, &mut batch).await,
                Taken::Drained => self.tell_drained().await,
                Taken::Finished => Err(End::Flushed),
                Taken::Nothing => {
                    self.outbox.work().await;
                    Ok(())
                }
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn encode(&self, job: Job, batch: &mut VecDeque<Bytes>) -> Result<(), End> {
        let encoded = {
            let _permit = self.jobs.acquire().await;
            spawn_blocking(job).await
        };
        let pieces = encoded.map_err(|cause| {
            error!(session = self.session.0, %cause, "encoding a reply failed");
            End::JobFailed
        })?;
        self.outbox.encoded(pieces.iter().map(Bytes::len).sum());
        batch.extend(pieces);
        self.write(batch).await
    }

    async fn tell_drained(&self) -> Result<(), End> {
        let event = Inbound::Drained { session: self.session };
        self.inbound.send(event).await.map_err(|_| End::StateGone)
    }

    /// Writes all of the batch.
    async fn write(&self, batch: &mut VecDeque<Bytes>) -> Result<(), End> {
        loop {
            while batch.front().is_some_and(Bytes::is_empty) {
                batch.pop_front();
            }
            if batch.is_empty() {
                return Ok(());
            }
            match self.write_some(batch) {
                Ok(bytes) => {
                    advance(batch, bytes);
                    self.outbox.written(bytes);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.outbox.blocked();
                    self.stream.writable().await.map_err(|error| self.gone(&error))?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.gone(&error)),
            }
        }
    }

    fn write_some(&self, batch: &VecDeque<Bytes>) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
        let mut used = 0;
        for (slice, buffer) in slices.iter_mut().zip(batch) {
            *slice = IoSlice::new(buffer);
            used += 1;
        }
        self.stream.try_write(&slices[..used])
    }

    fn gone(&self, error: &io::Error) -> End {
        debug!(session = self.session.0, %error, "writing failed");
        End::PeerGone
    }
}

/// Drops the first bytes of the batch.
fn advance(batch: &mut VecDeque<Bytes>, mut bytes: usize) {
    while let Some(front) = batch.front_mut() {
        if front.len() > bytes {
            front.advance(bytes);
            return;
        }
        bytes -= front.len();
        batch.pop_front();
    }
}
