//! What is not known here, from other nameservers.
//!
//! Takes a question, gives the octets of its answer. Each question has a socket and an id of its own, so that an answer that nobody asked for is hard to
//! forge. A nameserver that is this server itself is never asked, nor is a question that came back from one of them.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::base::iana::OptRcode;
use nonnet_hooks::directory::{Directory, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::answer::{Reply, is_answer, is_denial};
use crate::client::Places;
use crate::limits::{ANSWER_MS, FORWARDED_MAX, FORWARDED_MS, FORWARDED_PER_CLIENT_MAX, MESSAGE_BYTES_MAX, ROUNDS_MAX};
use crate::upstream::HostServers;

/// Where nameservers listen.
const PORT: u16 = 53;

/// Forwards questions, within limits.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder {
    places: Places,
    host: Arc<Mutex<HostServers>>,
    /// Questions that the host itself has asked and that are out now.
    from_host: Arc<Mutex<HashSet<Vec<u8>>>>,
}

/// Takes a question of the host off the list when it is answered.
struct Outstanding<'a> {
    list: &'a Mutex<HashSet<Vec<u8>>>,
    question: Vec<u8>,
}

impl Forwarder {
    pub(crate) fn new() -> Self {
        Self {
            places: Places::new(FORWARDED_MAX, FORWARDED_PER_CLIENT_MAX),
            host: Arc::default(),
            from_host: Arc::default(),
        }
    }

    /// Forwards a question from `client` to `listener`. Gives an answer in every case: that of a nameserver, or why there is none.
    pub(crate) async fn forward(
        &self,
        directory: &Directory,
        listener: IpAddr,
        client: IpAddr,
        question: &[u8],
        over_tcp: bool,
    ) -> Vec<u8> {
        let refused = |rcode| Reply::of(rcode).encode(question, None).unwrap_or_default();
        let Some(_place) = self.places.take(client) else {
            return refused(OptRcode::REFUSED);
        };
        // A nameserver of the host that asks us what we ask it would go on for ever.
        let own = client == listener || client.is_loopback();
        let outstanding = own.then(|| Outstanding::enter(&self.from_host, question));
        if matches!(outstanding, Some(None)) {
            return refused(OptRcode::SERVFAIL);
        }
        let Some(servers) = self.servers(directory, listener) else {
            return refused(OptRcode::REFUSED);
        };
        let mut best = None;
        let all = Duration::from_millis(FORWARDED_MS);
        // What is not answered by then nobody waits for any more.
        let asked = timeout(all, ask_in_turn(&servers, question, over_tcp, &mut best)).await;
        let answer = asked.ok().flatten().or(best);
        answer.unwrap_or_else(|| refused(OptRcode::SERVFAIL))
    }

    /// The nameservers to ask, without ourselves; None where nobody is to be asked.
    fn servers(&self, directory: &Directory, listener: IpAddr) -> Option<Vec<IpAddr>> {
        let network = directory.network_at(listener)?;
        let mut servers = match &directory.zone(network)?.upstream {
            Upstream::Nowhere => return None,
            Upstream::Servers(servers) => servers.clone(),
            Upstream::Host => self.host.lock().unwrap_or_else(PoisonError::into_inner).now(),
        };
        servers.retain(|server| !directory.is_listener(*server));
        Some(servers)
    }
}

impl<'a> Outstanding<'a> {
    /// None where the same question, whatever its id, is out already.
    fn enter(list: &'a Mutex<HashSet<Vec<u8>>>, question: &[u8]) -> Option<Self> {
        let question = question.get(2..).unwrap_or_default().to_ascii_lowercase();
        let mut out = list.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = out.insert(question.clone());
        fresh.then_some(Self { list, question })
    }
}

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.remove(&self.question);
    }
}

/// Asks nameservers in turn, some rounds. Gives the first answer that says something; one that only says that this nameserver cannot or will not
/// answer is kept as `best`.
async fn ask_in_turn(
    servers: &[IpAddr],
    question: &[u8],
    over_tcp: bool,
    best: &mut Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    for server in servers.iter().cycle().take(servers.len() * ROUNDS_MAX) {
        let asked = timeout(Duration::from_millis(ANSWER_MS), ask(*server, question, over_tcp)).await;
        match asked {
            Ok(Ok(answer)) if is_denial(&answer) => *best = Some(answer),
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "a nameserver does not answer"),
            Err(_) => tracing::debug!(%server, "a nameserver does not answer in time"),
        }
        // A second round would hear the same from all of them.
        if servers.len() == 1 && best.is_some() {
            break;
        }
    }
    None
}

/// Asks one nameserver, and gives its answer under the id of the question.
async fn ask(server: IpAddr, question: &[u8], over_tcp: bool) -> io::Result<Vec<u8>> {
    let mut ours = question.to_vec();
    set_id(&mut ours, random_id().to_be_bytes());
    let server = SocketAddr::new(server, PORT);
    let mut answer = if over_tcp {
        over_stream(server, &ours).await?
    } else {
        over_datagram(server, &ours).await?
    };
    if let Some(&[high, low]) = question.get(..2) {
        set_id(&mut answer, [high, low]);
    }
    Ok(answer)
}

fn set_id(message: &mut [u8], id: [u8; 2]) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&id);
    }
}

async fn over_datagram(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        // What does not fit may be somebody's guess: the real answer may still come.
        if is_answer(answer, question) {
            return Ok(answer.to_vec());
        }
    }
}

async fn over_stream(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if !is_answer(&answer, question) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the answer is to another question",
        ));
    }
    Ok(answer)
}

/// An id that an outsider cannot know: the keys of the standard library's hash maps are random.
fn random_id() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    u16::try_from(RandomState::new().hash_one(0_u8) & 0xffff).unwrap_or(0)
}
