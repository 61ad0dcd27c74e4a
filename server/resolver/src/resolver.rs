//! The thread that serves names.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::thread;

use nonnet_hooks::directory::Directory;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::client::Places;
use crate::forward::Forwarder;
use crate::limits::{CONNECTIONS_MAX, CONNECTIONS_PER_CLIENT_MAX};
use crate::{tcp, udp};

/// What is to be served.
#[derive(Debug)]
pub enum Order {
    /// An address by these sockets, which listen there.
    Open {
        /// The address.
        address: IpAddr,
        /// For datagrams.
        udp: UdpSocket,
        /// For connections.
        tcp: TcpListener,
    },
    /// An address no longer.
    Close(IpAddr),
}

/// The resolver. Its thread ends when nobody gives orders any more.
#[derive(Debug)]
pub struct Resolver {
    orders: mpsc::UnboundedSender<Order>,
    directory: watch::Sender<Directory>,
}

impl Resolver {
    /// Starts the thread, which serves nothing yet.
    ///
    /// # Errors
    /// When there is no thread or no epoll to be had.
    pub fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (orders, queue) = mpsc::unbounded_channel();
        let (directory, names) = watch::channel(Directory::default());
        thread::Builder::new()
            .name("resolver".into())
            .spawn(move || runtime.block_on(run(queue, names)))?;
        Ok(Self { orders, directory })
    }

    /// Gives an order; it never blocks.
    pub fn order(&self, order: Order) {
        // The thread ends only after this value.
        let _ = self.orders.send(order);
    }

    /// From now on these are the names.
    pub fn publish(&self, directory: Directory) {
        self.directory.send_replace(directory);
    }
}

async fn run(mut orders: mpsc::UnboundedReceiver<Order>, directory: watch::Receiver<Directory>) {
    let forwarder = Forwarder::new();
    let places = Places::new(CONNECTIONS_MAX, CONNECTIONS_PER_CLIENT_MAX);
    let mut open: HashMap<IpAddr, JoinSet<()>> = HashMap::new();
    while let Some(order) = orders.recv().await {
        match order {
            // What is dropped is served no longer, and its sockets are closed.
            Order::Close(address) => drop(open.remove(&address)),
            Order::Open { address, udp, tcp } => {
                let serving = serve(udp, tcp, &directory, &forwarder, &places);
                match serving {
                    Ok(serving) => drop(open.insert(address, serving)),
                    Err(error) => tracing::error!(%error, %address, "names cannot be served"),
                }
            }
        }
    }
}

fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    directory: &watch::Receiver<Directory>,
    forwarder: &Forwarder,
    places: &Places,
) -> io::Result<JoinSet<()>> {
    let udp = tokio::net::UdpSocket::from_std(udp)?;
    let tcp = tokio::net::TcpListener::from_std(tcp)?;
    let mut serving = JoinSet::new();
    serving.spawn(udp::serve(udp, directory.clone(), forwarder.clone()));
    serving.spawn(tcp::serve(tcp, directory.clone(), forwarder.clone(), places.clone()));
    Ok(serving)
}
