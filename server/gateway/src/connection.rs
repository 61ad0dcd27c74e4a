//! One HTTP connection: who is at its other end, and its session, opened by the first call.

use std::sync::{Arc, Mutex, PoisonError};

use jsonrpsee::server::ServerHandle;
use nonnet_rpc::Attacher;
use nonnet_sessions::Peer;
use tokio::net::UnixStream;
use tracing::warn;

use crate::{failure::Failure, link::Link};

/// What the calls of one HTTP connection share.
pub(crate) struct Connection {
    /// As the kernel told at accept.
    pub(crate) peer: Peer,
    attacher: Attacher,
    /// Ends the connection.
    stop: ServerHandle,
    link: Mutex<Option<Arc<Link>>>,
}

impl Connection {
    pub(crate) fn new(peer: Peer, attacher: Attacher, stop: ServerHandle) -> Self {
        Self {
            peer,
            attacher,
            stop,
            link: Mutex::default(),
        }
    }

    /// The session.
    pub(crate) fn link(&self) -> Result<Arc<Link>, Failure> {
        // No code that holds the lock can panic half way through a change.
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = &*link {
            return Ok(Arc::clone(link));
        }
        let opened = Arc::new(self.open()?);
        *link = Some(Arc::clone(&opened));
        Ok(opened)
    }

    fn open(&self) -> Result<Link, Failure> {
        let (ours, servers) = UnixStream::pair().map_err(|cause| {
            warn!("no session for an HTTP connection: {cause}");
            Failure::NoPlace
        })?;
        if !self.attacher.attach(servers, self.peer.clone()) {
            return Err(Failure::NoPlace);
        }
        Ok(Link::start(ours, self.stop.clone()))
    }
}
