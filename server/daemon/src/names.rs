//! Names between the rows, the kernel's side and the resolver: the first says who has which, the second opens the sockets, the third answers.

use nonnet_hooks::directory::Directory;
use nonnet_kernel::Listening;
use nonnet_resolver::{Order, Resolver};
use tokio::sync::mpsc::UnboundedReceiver;

/// The resolver with where its sockets come from.
#[derive(Debug)]
pub(crate) struct Names {
    resolver: Resolver,
    listening: Option<UnboundedReceiver<Listening>>,
}

impl Names {
    /// Starts a resolver that serves the sockets that the kernel's side opens.
    pub(crate) fn start(listening: Option<UnboundedReceiver<Listening>>) -> std::io::Result<Self> {
        Ok(Self {
            resolver: Resolver::start()?,
            listening,
        })
    }

    /// From now on these are the names.
    pub(crate) fn publish(&self, directory: &Directory) {
        self.resolver.publish(directory.clone());
    }

    /// Hands the next sockets over.
    pub(crate) async fn serve(&mut self) {
        let next = match &mut self.listening {
            Some(listening) => listening.recv().await,
            None => std::future::pending().await,
        };
        match next {
            Some(Listening::Open { address, udp, tcp }) => self.resolver.order(Order::Open { address, udp, tcp }),
            Some(Listening::Close(address)) => self.resolver.order(Order::Close(address)),
            None => self.listening = None,
        }
    }
}
