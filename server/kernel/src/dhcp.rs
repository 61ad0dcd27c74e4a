//! DHCP clients on the links of ports: their sockets and their thread.
//!
//! A client's socket is opened by the kernel thread inside the port's namespace and stays there; what is heard and what is due is done by a
//! thread of its own, which tells of it as observations. The protocol itself is a state machine elsewhere: [`nonnet_hooks::dhcp::Client`].

mod arp;
mod message;
mod packet;
mod socket;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nonnet_hooks::dhcp::client::Holding;
use nonnet_hooks::dhcp::{Client, Lease, Progress, Query};
use nonnet_hooks::mirror::{Change, DhcpClient, NamespaceId, Observation};
use nonnet_hooks::name::{LinkName, Mac};
use nonnet_hooks::plan::DhcpStart;
use nonnet_hooks::reconcile::Input;
use tokio::sync::mpsc::Sender;

use self::socket::{BROADCAST, Socket};
use crate::command::Wake;
use crate::netns::Netns;

/// Milliseconds between looks for what is due at most.
const LOOK_MS_MAX: u64 = 60_000;

/// The clients. A copy is another handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    shared: Arc<Mutex<Shared>>,
    wake: Wake,
}

#[derive(Debug)]
struct Shared {
    clients: BTreeMap<LinkName, Running>,
    start: Instant,
    is_over: bool,
}

/// A client at work.
#[derive(Debug)]
struct Running {
    client: Client,
    /// What the mirror knows of it.
    told: DhcpClient,
    /// The lease and its end in milliseconds as last told.
    bound: Option<(Lease, Option<u64>)>,
    socket: Arc<Socket>,
    /// Where it is heard whether somebody has an address that is about to be taken.
    arp: Arc<Socket>,
    /// The address that is listened for.
    probed: Option<Ipv4Addr>,
    /// Who sent the lease: the server, or the router on the way to it.
    server: Mac,
}

/// What happened to clients.
type Changes = Vec<(LinkName, DhcpClient)>;

impl Clients {
    /// No clients, and a thread that waits for some. It ends with [`Clients::end`], or when nobody takes the inputs any more.
    pub(crate) fn start(inputs: Sender<Input>) -> io::Result<Self> {
        let shared = Shared {
            clients: BTreeMap::new(),
            start: Instant::now(),
            is_over: false,
        };
        let clients = Self {
            shared: Arc::new(Mutex::new(shared)),
            wake: Wake::new()?,
        };
        let theirs = clients.clone();
        std::thread::Builder::new()
            .name("dhcp".into())
            .spawn(move || theirs.run(&inputs))?;
        Ok(clients)
    }

    /// Starts a client on a link of a namespace, in the place of the one that the port may have. Gives what it is then.
    pub(crate) fn add(&self, start: &DhcpStart, index: u32, netns: &Netns, home: &Netns) -> io::Result<Observation> {
        let open = |protocol: i32, filter: &[libc::sock_filter]| {
            let protocol = u16::try_from(protocol).map_err(io::Error::other)?;
            Socket::open(index, protocol, filter)
        };
        let (socket, arp) = netns.within(home, || {
            Ok((
                open(libc::ETH_P_IP, &packet::FILTER)?,
                open(libc::ETH_P_ARP, &arp::NOTHING)?,
            ))
        })?;
        let mut shared = self.lock();
        let now_ms = shared.now_ms();
        let former = start.former.clone().map(|lease| {
            let left = lease
                .expires
                .map(|expires| expires.saturating_sub(seconds_since_1970()));
            (lease, left.map(|left| left.saturating_mul(1_000)))
        });
        let told = DhcpClient {
            namespace: start.link.namespace,
            index,
            mac: start.mac,
            request: start.request.clone(),
            progress: Progress::Asking,
        };
        let mut running = Running {
            client: Client::new(
                start.request.clone(),
                former,
                now_ms,
                RandomState::new().build_hasher().finish(),
            ),
            told,
            bound: None,
            socket: Arc::new(socket),
            arp: Arc::new(arp),
            probed: None,
            server: BROADCAST,
        };
        running.look(now_ms);
        let told = running.told.clone();
        shared.clients.insert(start.port.clone(), running);
        drop(shared);
        self.wake.wake();
        Ok(Observation {
            namespace: told.namespace,
            change: Change::Dhcp(start.port.clone(), Some(told)),
        })
    }

    /// Ends the client of a port, and gives its address back as far as that can be said.
    pub(crate) fn remove(&self, port: &LinkName) -> Option<Observation> {
        let running = self.lock().clients.remove(port)?;
        let Running {
            client,
            told,
            socket,
            server,
            ..
        } = running;
        if let Some(query) = client.release() {
            send(&socket, &query, &told, server);
        }
        Some(Observation {
            namespace: told.namespace,
            change: Change::Dhcp(port.clone(), None),
        })
    }

    /// Forgets the clients in a namespace that is gone, whose sockets would keep it.
    pub(crate) fn forget(&self, namespace: NamespaceId) -> Vec<Observation> {
        let mut shared = self.lock();
        let gone = shared
            .clients
            .extract_if(.., |_, running| running.told.namespace == namespace);
        let gone = gone.map(|(port, _)| Observation {
            namespace,
            change: Change::Dhcp(port, None),
        });
        gone.collect()
    }

    /// Ends the thread. The clients end without a word: what they have leased stays theirs.
    pub(crate) fn end(&self) {
        let mut shared = self.lock();
        shared.is_over = true;
        shared.clients.clear();
        drop(shared);
        self.wake.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(self, inputs: &Sender<Input>) {
        loop {
            let shared = self.lock();
            if shared.is_over {
                return;
            }
            let due_ms = shared
                .clients
                .values()
                .map(|running| running.client.deadline_ms())
                .min();
            let wait_ms = due_ms
                .unwrap_or(u64::MAX)
                .saturating_sub(shared.now_ms())
                .min(LOOK_MS_MAX);
            // The sockets stay open while they are waited for, even if their clients end meanwhile.
            let sockets: Vec<Arc<Socket>> = shared
                .clients
                .values()
                .flat_map(|running| {
                    let arp = running.probed.map(|_| Arc::clone(&running.arp));
                    [Arc::clone(&running.socket)].into_iter().chain(arp)
                })
                .collect();
            drop(shared);
            if let Err(error) = wait(&self.wake, &sockets, Duration::from_millis(wait_ms)) {
                tracing::error!(%error, "the DHCP thread cannot wait");
                return;
            }
            self.wake.clear();
            let changes = self.lock().turn();
            let observations = changes.into_iter().map(|(port, client)| Observation {
                namespace: client.namespace,
                change: Change::Dhcp(port, Some(client)),
            });
            let observations: Vec<Observation> = observations.collect();
            if !observations.is_empty() && inputs.blocking_send(Input::Observed(observations)).is_err() {
                return;
            }
        }
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Does what is due and takes in what was heard.
    fn turn(&mut self) -> Changes {
        let now_ms = self.now_ms();
        let mut changes = Vec::new();
        for (port, running) in &mut self.clients {
            if running.turn(now_ms) {
                changes.push((port.clone(), running.told.clone()));
            }
        }
        changes
    }
}

impl Running {
    /// Gives whether there is something to tell.
    fn turn(&mut self, now_ms: u64) -> bool {
        let socket = Arc::clone(&self.socket);
        while let Some((bytes, from)) = socket.receive() {
            let Some(payload) = packet::payload(&bytes) else {
                continue;
            };
            let Some(reply) = message::reply(payload, self.told.mac, &self.told.request) else {
                continue;
            };
            let query = self.client.heard(now_ms, reply);
            self.server = from;
            self.send(query.as_ref());
            self.probe();
        }
        while let Some((bytes, _)) = self.probed.and_then(|_| self.arp.receive()) {
            self.heard_arp(now_ms, &bytes);
        }
        while self.client.deadline_ms() <= now_ms {
            let before = self.client.deadline_ms();
            let query = self.client.tick(now_ms);
            self.send(query.as_ref());
            if query.is_none() && self.client.deadline_ms() <= before {
                break;
            }
        }
        self.probe();
        self.look(now_ms)
    }

    /// Brings what is told in line with the client; true where that changed.
    fn look(&mut self, now_ms: u64) -> bool {
        let progress = match self.client.holding() {
            Holding::Asking => Progress::Asking,
            Holding::Without(reason) => Progress::Without(reason),
            Holding::Bound(lease, end_ms) => {
                if self
                    .bound
                    .as_ref()
                    .is_some_and(|(told, end)| told == lease && *end == end_ms)
                {
                    return false;
                }
                self.bound = Some((lease.clone(), end_ms));
                let left = end_ms.map(|end_ms| end_ms.saturating_sub(now_ms) / 1_000);
                Progress::Bound(Lease {
                    expires: left.map(|left| seconds_since_1970() + left),
                    ..lease.clone()
                })
            }
        };
        if !matches!(progress, Progress::Bound(_)) {
            self.bound = None;
        }
        let changed = progress != self.told.progress;
        self.told.progress = progress;
        changed
    }

    /// Asks who has the address that is about to be taken, and begins or ends to listen.
    fn probe(&mut self) {
        let address = self.client.probing();
        if address == self.probed {
            return;
        }
        let listening = match address {
            Some(address) => self.arp.filter(&arp::filter(address)),
            None => self.arp.filter(&arp::NOTHING),
        };
        self.probed = address;
        let asked = listening.and_then(|()| match address {
            Some(address) => self.arp.send(&arp::probe(self.told.mac, address), BROADCAST),
            None => Ok(()),
        });
        if let Err(error) = asked {
            // The address is taken as if nobody had it.
            tracing::debug!(%error, index = self.told.index, "it cannot be found out whether an address is somebody's");
        }
    }

    fn heard_arp(&mut self, now_ms: u64, bytes: &[u8]) {
        let owner = self
            .probed
            .and_then(|address| Some((address, arp::owner(bytes, self.told.mac, address)?)));
        let decline = owner.and_then(|(address, mac)| self.client.taken(now_ms, address, mac));
        self.send(decline.as_ref());
    }

    fn send(&self, query: Option<&Query>) {
        if let Some(query) = query {
            send(&self.socket, query, &self.told, self.server);
        }
    }
}

fn send(socket: &Socket, query: &Query, told: &DhcpClient, server: Mac) {
    let (from, to, hardware) = match query.to {
        Some(to) => (query.ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED), to, server),
        None => (
            query.ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED),
            Ipv4Addr::BROADCAST,
            BROADCAST,
        ),
    };
    let sent = message::encode(query, told.mac, &told.request)
        .map(|payload| packet::datagram(from, to, &payload))
        .and_then(|datagram| socket.send(&datagram, hardware));
    if let Err(error) = sent {
        // It is asked again; a link that is gone has no client any more soon.
        tracing::debug!(%error, index = told.index, "a DHCP message could not be sent");
    }
}

fn wait(wake: &Wake, sockets: &[Arc<Socket>], timeout: Duration) -> io::Result<()> {
    let mut fds = vec![PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
    fds.extend(
        sockets
            .iter()
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)),
    );
    let timeout = PollTimeout::try_from(timeout.as_millis().saturating_add(1)).unwrap_or(PollTimeout::NONE);
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
