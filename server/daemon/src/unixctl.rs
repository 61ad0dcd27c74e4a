//! The control socket that `ovs-appctl` talks to (ovs-appctl(8)): JSON-RPC 1.0, the method a command, the params its arguments.
//!
//! It takes a socket's path; what it gives are [`Asked`] orders, checked, each with the place for its answer. It carries out none itself.

mod command;
mod connection;
mod operator;
mod reload;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nonnet_rpc::{ListenError, SocketFile, listen_unix};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::warn;

pub(crate) use crate::unixctl::command::Order;
pub(crate) use crate::unixctl::operator::{Operator, Verdict};

/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 32;

/// Orders that wait to be carried out.
const ORDERS_QUEUED_MAX: usize = 32;

/// How long the server waits at its end for answers that are being written.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// How long nothing is accepted after accepting has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a command answers: what `ovs-appctl` prints, or why it fails.
pub(crate) type Answer = Result<String, String>;

/// One order.
pub(crate) struct Asked {
    pub(crate) order: Order,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// The socket and its connections.
pub(crate) struct Unixctl {
    orders: mpsc::Receiver<Asked>,
    accepting: JoinHandle<()>,
    /// One permit is taken by each answer on its way.
    busy: Arc<Semaphore>,
    file: SocketFile,
}

impl Unixctl {
    /// Listens.
    ///
    /// # Errors
    /// Where the socket cannot be made.
    pub(crate) fn start(path: &Path) -> Result<Self, ListenError> {
        let (listener, file) = listen_unix(path)?;
        let (sender, orders) = mpsc::channel(ORDERS_QUEUED_MAX);
        let busy = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let accepting = tokio::spawn(accept(listener, sender, Arc::clone(&busy)));
        Ok(Self {
            orders,
            accepting,
            busy,
            file,
        })
    }

    /// The next order.
    pub(crate) async fn next(&mut self) -> Option<Asked> {
        self.orders.recv().await
    }

    /// Removes the socket once the answers given so far are written.
    pub(crate) async fn stop(self) {
        self.accepting.abort();
        drop(self.orders);
        // Who does not read its answer is not waited for.
        let _ = timeout(STOP_GRACE, self.busy.acquire_many(CONNECTIONS_MAX as u32)).await;
        if let Err(cause) = self.file.remove() {
            warn!("the control socket was not removed: {cause}");
        }
    }
}

/// Accepts connections; those that find no place wait in the kernel's queue.
async fn accept(listener: UnixListener, orders: mpsc::Sender<Asked>, busy: Arc<Semaphore>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (orders, busy) = (orders.clone(), Arc::clone(&busy));
                tokio::spawn(async move {
                    connection::converse(stream, orders, busy).await;
                    drop(place);
                });
            }
            Err(cause) => {
                warn!("the control socket cannot accept: {cause}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
