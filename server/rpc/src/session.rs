//! One session from accept to close: its two halves, and the events that frame them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use nonnet_schema::Scanner;
use nonnet_sessions::{Peer, SessionId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, warn};

use crate::{
    endpoint::{Endpoint, Probing},
    inbound::{Inbound, InboundSender, Scale},
    large::LargeReplies,
    limits::{HANDSHAKES_MAX, JOBS_PARALLEL_MAX, LINGER},
    outbox::{End, Outbox},
    peer::identify,
    reader::{Opening, Reader, linger},
    stream::Stream,
    tls::TlsKeeper,
    unfinished::Unfinished,
    writer::Writer,
};

/// What all sessions share.
pub(crate) struct Common {
    /// Set once no session comes any more.
    pub(crate) stopping: AtomicBool,
    pub(crate) tls: Arc<TlsKeeper>,
    /// Bounds the handshakes of clients.
    pub(crate) handshakes: Arc<Semaphore>,
    inbound: InboundSender,
    next_id: AtomicU64,
    scale: Scale,
    unfinished: Unfinished,
    replies: LargeReplies,
    /// Bounds the encoders and the parsers that run apart from their session.
    jobs: Semaphore,
    /// The sessions that are open.
    open: Mutex<HashMap<SessionId, Outbox>>,
}

impl Common {
    pub(crate) fn new(inbound: InboundSender) -> Self {
        Self {
            inbound,
            stopping: AtomicBool::new(false),
            tls: Arc::default(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            next_id: AtomicU64::new(1),
            scale: Scale::new(),
            unfinished: Unfinished::default(),
            replies: LargeReplies::new(),
            jobs: Semaphore::new(JOBS_PARALLEL_MAX),
            open: Mutex::default(),
        }
    }

    /// The outboxes of all open sessions.
    pub(crate) fn outboxes(&self) -> Vec<Outbox> {
        self.open().values().cloned().collect()
    }

    /// The name and the outbox of a new session.
    fn admit(&self) -> (SessionId, Outbox) {
        (SessionId(self.next_id.fetch_add(1, Ordering::Relaxed)), Outbox::new())
    }

    fn open(&self) -> MutexGuard<'_, HashMap<SessionId, Outbox>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one session of a remote; the permit is its place among [`SESSIONS_MAX`](crate::limits::SESSIONS_MAX). Gives why it ended, once
/// nothing of it is left.
pub(crate) async fn serve(stream: Stream, endpoint: &Endpoint, common: &Common, permit: OwnedSemaphorePermit) -> End {
    let mut peer = identify(&stream, endpoint.name.clone());
    let (session, outbox) = common.admit();
    if !endpoint.enter(session, &outbox, &mut peer) {
        return End::Aborted;
    }
    let probing = Some(endpoint.probing());
    let end = run(session, &stream, peer, common, &outbox, probing).await;
    endpoint.leave(session);
    close(&stream, common, end, permit).await;
    end
}

/// Serves one session of a peer that is known already.
pub(crate) async fn serve_peer(stream: Stream, peer: Peer, common: Arc<Common>, permit: OwnedSemaphorePermit) {
    let (session, outbox) = common.admit();
    let end = run(session, &stream, peer, &common, &outbox, None).await;
    close(&stream, &common, end, permit).await;
}

/// Runs a session to its end, and tells the state thread.
async fn run(
    session: SessionId,
    stream: &Stream,
    peer: Peer,
    common: &Common,
    outbox: &Outbox,
    probing: Option<Probing<'_>>,
) -> End {
    common.open().insert(session, outbox.clone());
    let end = exchange(session, stream, peer, common, outbox, probing).await;
    outbox.end(end);
    common.open().remove(&session);
    match end {
        End::Overflowed | End::Stalled | End::JobFailed => warn!(session = session.0, ?end, "session closed"),
        _ => debug!(session = session.0, ?end, "session closed"),
    }
    // Without a state thread there is nobody to tell.
    let _ = common.inbound.send(Inbound::Closed { session }).await;
    end
}

/// Closes the connection so that what was written last arrives.
async fn close(stream: &Stream, common: &Common, end: End, permit: OwnedSemaphorePermit) {
    // Who still sends when the server stops loses that anyway.
    let stopping = common.stopping.load(Ordering::Relaxed);
    if end == End::Flushed && stream.end_output().is_ok() && !stopping {
        linger(stream, LINGER).await;
    }
    drop(permit);
}

/// Reads and writes until either half is at its end.
async fn exchange(
    session: SessionId,
    stream: &Stream,
    peer: Peer,
    common: &Common,
    outbox: &Outbox,
    probing: Option<Probing<'_>>,
) -> End {
    let inbound = &common.inbound;
    let remote = peer.remote.clone();
    if inbound
        .send(Inbound::Opened {
            session,
            peer,
            outbox: outbox.clone(),
        })
        .await
        .is_err()
    {
        return End::StateGone;
    }
    let writer = Writer {
        session,
        stream,
        outbox,
        inbound,
        jobs: &common.jobs,
        replies: &common.replies,
    };
    let reader = Reader {
        session,
        remote: &remote,
        stream,
        outbox,
        inbound,
        scale: &common.scale,
        unfinished: common.unfinished.share(),
        jobs: &common.jobs,
        scanner: Scanner::new(),
        opening: Opening::Held(Vec::new()),
        probing,
    };
    tokio::select! {
        biased;
        end = outbox.ended() => end,
        end = writer.run() => end,
        end = reader.run() => end,
    }
}
