//! Writes what a session's outbox holds to its socket, many messages at a time.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
    time::Duration,
};

use bytes::{Buf, Bytes};
use nonnet_sessions::SessionId;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use tracing::{debug, error};

use crate::{
    inbound::{Inbound, InboundSender},
    large::LargeReplies,
    limits::{REPLY_STALL, WRITE_SLICES_MAX},
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
    /// Bounds what they have made.
    pub(crate) replies: &'a LargeReplies,
}

impl Writer<'_> {
    /// Writes until the session is closed and flushed, or cannot be written to.
    pub(crate) async fn run(self) -> End {
        let mut batch = VecDeque::new();
        loop {
            let done = match self.outbox.take(&mut batch) {
                Taken::Batch => self.write(&mut batch, None).await,
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
        let permit = self.jobs.acquire().await;
        let encoded = spawn_blocking(job).await;
        let pieces = encoded.map_err(|cause| {
            error!(session = self.session.0, %cause, "encoding a reply failed");
            End::JobFailed
        })?;
        let bytes = pieces.iter().map(Bytes::len).sum();
        self.outbox.encoded(bytes);
        batch.extend(pieces);
        let room = self.replies.room(bytes).await;
        drop(permit);
        let stall = room.as_ref().map(|_| REPLY_STALL);
        self.write(batch, stall).await
    }

    async fn tell_drained(&self) -> Result<(), End> {
        let event = Inbound::Drained { session: self.session };
        self.inbound.send(event).await.map_err(|_| End::StateGone)
    }

    /// Writes all of the batch. A peer that takes nothing of it for as long as `stall` while others wait for its room loses its session.
    async fn write(&self, batch: &mut VecDeque<Bytes>, stall: Option<Duration>) -> Result<(), End> {
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
                    self.writable(stall).await?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.gone(&error)),
            }
        }
    }

    async fn writable(&self, stall: Option<Duration>) -> Result<(), End> {
        let Some(stall) = stall else {
            return self.stream.writable().await.map_err(|error| self.gone(&error));
        };
        loop {
            match timeout(stall, self.stream.writable()).await {
                Ok(writable) => return writable.map_err(|error| self.gone(&error)),
                Err(_) if self.replies.is_wanted() => return Err(End::Stalled),
                Err(_) => {}
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
