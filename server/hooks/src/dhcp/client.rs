//! The client of RFC 2131 as a state machine: init, selecting, requesting, probing, rebooting, bound, renewing, rebinding.
//!
//! Takes what was heard and the time in milliseconds, gives what to send. Time never goes back. Leases are told apart from the moments at which
//! they end: those are the machine's own milliseconds, and who drives it turns them into the time of day.

use std::net::Ipv4Addr;

use ecow::{EcoString, eco_format};

use super::{FOREVER, Lease, Query, QueryKind, Reply, ReplyKind, Request};
use crate::limits::{
    DHCP_ANSWER_MS, DHCP_DECLINED_MS, DHCP_PROBE_MS, DHCP_RENEW_MS_MIN, DHCP_RETRY_MS_MAX, DHCP_RETRY_MS_MIN,
};
use crate::name::Mac;

/// Requests for an offered address before the client looks for another (RFC 2131 3.1, item 5).
const REQUESTS_MAX: u32 = 4;

/// Requests for the former address before any address will do.
const REBOOTS_MAX: u32 = 3;

/// A client for one link.
#[derive(Clone, Debug)]
pub struct Client {
    request: Request,
    state: State,
    /// The lease in use and when it is over.
    lease: Option<Held>,
    /// Since when there is no lease and it asks.
    since_ms: u64,
    /// When to act next.
    due_ms: u64,
    /// Messages sent in this state without an answer.
    sent: u32,
    xid: u32,
    /// Addresses in a row that were somebody else's.
    declined: u32,
    /// Why the last attempt came to nothing.
    trouble: Option<EcoString>,
    random: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is asked for until it is due.
    Init,
    /// A `DISCOVER` is out.
    Selecting,
    /// A `REQUEST` for an offer is out.
    Requesting(Box<Lease>),
    /// Whether somebody else on the link has the address is being found out (RFC 2131 4.4.1, RFC 5227).
    Probing(Box<Held>),
    /// A `REQUEST` for the lease of a former run is out.
    Rebooting,
    /// There is a lease, and nothing to do.
    Bound,
    /// The server is asked to go on.
    Renewing,
    /// Any server is asked to go on.
    Rebinding,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    lease: Lease,
    renew_ms: u64,
    rebind_ms: u64,
    /// `u64::MAX` for one without end.
    end_ms: u64,
}

/// What a lease is to its user, after something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holding<'a> {
    /// There is none yet, and it may come at any moment.
    Asking,
    /// There is none for this reason.
    Without(EcoString),
    /// This one, until that millisecond; `None`: for ever.
    Bound(&'a Lease, Option<u64>),
}

impl Client {
    /// A client that begins to ask at once: for `former`, with the milliseconds that are left of it (`None`: no end), if there is one.
    pub fn new(request: Request, former: Option<(Lease, Option<u64>)>, now_ms: u64, seed: u64) -> Self {
        let held = former
            .filter(|(_, left_ms)| *left_ms != Some(0))
            .map(|(lease, left_ms)| {
                let end_ms = left_ms.map_or(u64::MAX, |left_ms| now_ms.saturating_add(left_ms));
                Held {
                    lease,
                    renew_ms: end_ms,
                    rebind_ms: end_ms,
                    end_ms,
                }
            });
        let state = if held.is_some() { State::Rebooting } else { State::Init };
        Self {
            request,
            state,
            lease: held,
            since_ms: now_ms,
            due_ms: now_ms,
            sent: 0,
            xid: 0,
            declined: 0,
            trouble: None,
            random: seed,
        }
    }

    /// What it tells servers and asks them for.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// When [`Client::tick`] is to be called, in milliseconds.
    pub fn deadline_ms(&self) -> u64 {
        let end_ms = self.lease.as_ref().map_or(u64::MAX, |held| held.end_ms);
        let patience_ms = match (&self.lease, &self.trouble) {
            (None, None) => self.since_ms + DHCP_ANSWER_MS,
            _ => u64::MAX,
        };
        self.due_ms.min(end_ms).min(patience_ms)
    }

    /// What the user of the lease has.
    pub fn holding(&self) -> Holding<'_> {
        match (&self.lease, &self.trouble) {
            (Some(held), _) => Holding::Bound(&held.lease, Some(held.end_ms).filter(|end_ms| *end_ms != u64::MAX)),
            (None, Some(trouble)) => Holding::Without(trouble.clone()),
            (None, None) => Holding::Asking,
        }
    }

    /// The address of which it is to be found out whether somebody on the link has it, by a probe (RFC 5227 2.1.1), and of which is listened for
    /// as long as this says it.
    pub fn probing(&self) -> Option<Ipv4Addr> {
        match &self.state {
            State::Probing(held) => Some(held.lease.address.addr()),
            _ => None,
        }
    }

    /// Somebody else has an address, or is about to take it: the message that declines it, if it is the one that was to be had.
    pub fn taken(&mut self, now_ms: u64, address: Ipv4Addr, by: Mac) -> Option<Query> {
        let State::Probing(held) = &self.state else { return None };
        if held.lease.address.addr() != address {
            return None;
        }
        let server = held.lease.server;
        self.declined += 1;
        let wait_ms = if self.declined > 1 {
            DHCP_DECLINED_MS
        } else {
            DHCP_RETRY_MS_MIN
        };
        let trouble = eco_format!("{address}, which {server} leased, is in use by {by} on the link: it was declined");
        self.restart(now_ms, now_ms + wait_ms, Some(trouble));
        Some(Query {
            kind: QueryKind::Decline,
            xid: self.next_xid(),
            secs: 0,
            ciaddr: None,
            requested: Some(address),
            server: Some(server),
            to: None,
        })
    }

    /// Does what is due.
    pub fn tick(&mut self, now_ms: u64) -> Option<Query> {
        if self.lease.as_ref().is_some_and(|held| held.end_ms <= now_ms) {
            let server = self.lease.take().map(|held| held.lease.server);
            let server = server.map_or_else(EcoString::new, |server| eco_format!(" by {server}"));
            self.restart(
                now_ms,
                now_ms,
                Some(eco_format!("the lease ended and was not renewed{server}")),
            );
        }
        if self.lease.is_none() && self.trouble.is_none() && now_ms >= self.since_ms + DHCP_ANSWER_MS {
            self.trouble = Some("no answer from a DHCP server; it is asked again".into());
        }
        if self.due_ms > now_ms {
            return None;
        }
        match &self.state {
            State::Init => {
                self.enter(State::Selecting);
                Some(self.discover(now_ms))
            }
            State::Selecting => Some(self.discover(now_ms)),
            State::Requesting(_) if self.sent >= REQUESTS_MAX => {
                self.restart(
                    now_ms,
                    now_ms,
                    Some("the DHCP server made an offer and does not confirm it".into()),
                );
                self.tick(now_ms)
            }
            State::Requesting(offer) => {
                let (requested, server) = (offer.address.addr(), offer.server);
                Some(self.ask(now_ms, None, Some(requested), Some(server), None))
            }
            State::Probing(held) => {
                let held = Held::clone(held);
                self.hold(held);
                None
            }
            // Nobody confirms what was had: it stays until it ends (RFC 2131 3.2, item 3), and any server may prolong it.
            State::Rebooting if self.sent >= REBOOTS_MAX => {
                self.enter(State::Rebinding);
                self.due_ms = now_ms + DHCP_RENEW_MS_MIN;
                None
            }
            State::Rebooting => {
                let former = self.lease.as_ref().map(|held| held.lease.address.addr());
                Some(self.ask(now_ms, None, former, None, None))
            }
            State::Bound => {
                self.enter(State::Renewing);
                self.tick(now_ms)
            }
            State::Renewing | State::Rebinding => self.prolong(now_ms),
        }
    }

    /// Takes in what a server said.
    pub fn heard(&mut self, now_ms: u64, reply: Reply) -> Option<Query> {
        if reply.xid != self.xid {
            return None;
        }
        match (&self.state, reply.kind, reply.lease.clone()) {
            (State::Selecting, ReplyKind::Offer, Some(offer)) => {
                self.enter(State::Requesting(Box::new(offer)));
                // The request has the number of the offer (RFC 2131 4.4.1).
                self.xid = reply.xid;
                self.due_ms = now_ms;
                self.tick(now_ms)
            }
            (State::Requesting(_), ReplyKind::Ack, Some(lease)) => {
                self.enter(State::Probing(Box::new(held(now_ms, lease, &reply))));
                self.due_ms = now_ms + DHCP_PROBE_MS;
                None
            }
            // It is on the link already.
            (State::Rebooting | State::Renewing | State::Rebinding, ReplyKind::Ack, Some(lease)) => {
                self.hold(held(now_ms, lease, &reply));
                None
            }
            (State::Requesting(_), ReplyKind::Nak, _) => {
                self.refused(now_ms, now_ms + DHCP_RETRY_MS_MIN, reply.words);
                None
            }
            // The address is not ours any more, from now on (RFC 2131 3.2, 4.4.5).
            (State::Rebooting | State::Renewing | State::Rebinding, ReplyKind::Nak, _) => {
                self.lease = None;
                self.refused(now_ms, now_ms, reply.words);
                self.tick(now_ms)
            }
            _ => None,
        }
    }

    /// Ends it: the message that gives the address back, if there is one.
    pub fn release(mut self) -> Option<Query> {
        let held = self.lease.take()?;
        Some(Query {
            kind: QueryKind::Release,
            xid: self.next_xid(),
            secs: 0,
            ciaddr: Some(held.lease.address.addr()),
            requested: None,
            server: Some(held.lease.server),
            to: Some(held.lease.server),
        })
    }

    fn hold(&mut self, held: Held) {
        self.enter(State::Bound);
        self.due_ms = held.renew_ms;
        self.trouble = None;
        self.declined = 0;
        self.lease = Some(held);
    }

    fn refused(&mut self, now_ms: u64, due_ms: u64, words: Option<EcoString>) {
        let words = words.map_or_else(EcoString::new, |words| eco_format!(": {words}"));
        self.restart(
            now_ms,
            due_ms,
            Some(eco_format!("the DHCP server refused the address{words}")),
        );
    }

    fn restart(&mut self, now_ms: u64, due_ms: u64, trouble: Option<EcoString>) {
        self.enter(State::Init);
        self.since_ms = now_ms;
        self.due_ms = due_ms;
        self.trouble = trouble;
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.sent = 0;
        self.xid = 0;
    }

    fn discover(&mut self, now_ms: u64) -> Query {
        let mut query = self.ask(now_ms, None, None, None, None);
        query.kind = QueryKind::Discover;
        query
    }

    /// Asks for more time: the server first, then any.
    fn prolong(&mut self, now_ms: u64) -> Option<Query> {
        let held = self.lease.clone()?;
        if self.state == State::Renewing && now_ms >= held.rebind_ms {
            self.enter(State::Rebinding);
        }
        let (server, until_ms) = match self.state {
            State::Renewing => (Some(held.lease.server), held.rebind_ms),
            _ => (None, held.end_ms),
        };
        let query = self.ask(now_ms, Some(held.lease.address.addr()), None, None, server);
        // Half of what is left, and not too often (RFC 2131 4.4.5).
        let left_ms = until_ms.saturating_sub(now_ms);
        self.due_ms = (now_ms + (left_ms / 2).clamp(DHCP_RENEW_MS_MIN, DHCP_RETRY_MS_MAX * 60)).min(until_ms);
        Some(query)
    }

    /// A `REQUEST`, and when the next one is due: each wait is twice the last, give or take a quarter.
    fn ask(
        &mut self,
        now_ms: u64,
        ciaddr: Option<Ipv4Addr>,
        requested: Option<Ipv4Addr>,
        server: Option<Ipv4Addr>,
        to: Option<Ipv4Addr>,
    ) -> Query {
        if self.xid == 0 {
            self.xid = self.next_xid();
        }
        let wait_ms = (DHCP_RETRY_MS_MIN << self.sent.min(16)).min(DHCP_RETRY_MS_MAX);
        self.due_ms = now_ms + wait_ms - wait_ms / 4 + self.draw() % (wait_ms / 2 + 1);
        self.sent = self.sent.saturating_add(1);
        Query {
            kind: QueryKind::Request,
            xid: self.xid,
            secs: u16::try_from(now_ms.saturating_sub(self.since_ms) / 1_000).unwrap_or(u16::MAX),
            ciaddr,
            requested,
            server,
            to,
        }
    }

    fn next_xid(&mut self) -> u32 {
        // 0 stands for none.
        (self.draw() as u32).max(1)
    }

    /// The next number of a splitmix64 sequence.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A lease that begins now.
fn held(now_ms: u64, lease: Lease, reply: &Reply) -> Held {
    let after = |seconds: u32| now_ms + u64::from(seconds) * 1_000;
    let seconds = reply.seconds;
    if seconds == FOREVER {
        return Held {
            lease,
            renew_ms: u64::MAX,
            rebind_ms: u64::MAX,
            end_ms: u64::MAX,
        };
    }
    let rebind = reply.rebind.filter(|rebind| *rebind < seconds);
    let rebind = rebind.unwrap_or((u64::from(seconds) * 7 / 8) as u32);
    let renew = reply.renew.filter(|renew| *renew <= rebind);
    Held {
        lease,
        renew_ms: after(renew.unwrap_or(rebind.min(seconds / 2))),
        rebind_ms: after(rebind),
        end_ms: after(seconds),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]
mod tests {
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn lease(address: &str) -> Lease {
        Lease {
            address: address.parse().unwrap(),
            server: SERVER,
            expires: None,
            routers: vec![SERVER],
            routes: vec![],
            dns: vec![],
            domain: None,
            mtu: None,
        }
    }

    fn reply(kind: ReplyKind, xid: u32, address: &str, seconds: u32) -> Reply {
        Reply {
            kind,
            xid,
            seconds,
            renew: None,
            rebind: None,
            lease: (kind != ReplyKind::Nak).then(|| lease(address)),
            words: None,
        }
    }

    fn new(former: Option<(Lease, Option<u64>)>) -> Client {
        Client::new(Request::default(), former, 0, 7)
    }

    /// A client with a lease of so many seconds since moment 0.
    fn bound(seconds: u32) -> Client {
        let mut client = new(None);
        let discover = client.tick(0).unwrap();
        assert_eq!((discover.kind, discover.to), (QueryKind::Discover, None));
        let request = client.heard(0, reply(ReplyKind::Offer, discover.xid, "10.0.0.9/24", seconds));
        let request = request.unwrap();
        assert_eq!(
            (request.kind, request.requested, request.server, request.ciaddr),
            (QueryKind::Request, Some(Ipv4Addr::new(10, 0, 0, 9)), Some(SERVER), None)
        );
        assert_eq!(
            client.heard(0, reply(ReplyKind::Ack, request.xid, "10.0.0.9/24", seconds)),
            None
        );
        assert_eq!(
            (client.probing(), client.holding(), client.deadline_ms()),
            (Some(Ipv4Addr::new(10, 0, 0, 9)), Holding::Asking, DHCP_PROBE_MS)
        );
        assert_eq!((client.tick(DHCP_PROBE_MS), client.probing()), (None, None));
        assert!(matches!(client.holding(), Holding::Bound(..)));
        client
    }

    /// Lets time pass until something is sent.
    fn next(client: &mut Client) -> (u64, Query) {
        loop {
            let now_ms = client.deadline_ms();
            assert!(now_ms < u64::MAX, "nothing will ever be sent");
            if let Some(query) = client.tick(now_ms) {
                return (now_ms, query);
            }
        }
    }

    #[test]
    fn lease_is_renewed_at_half_and_rebound_at_seven_eighths() {
        let mut client = bound(800);
        let (at, renew) = next(&mut client);
        assert_eq!(
            (at, renew.to, renew.ciaddr),
            (400_000, Some(SERVER), Some(Ipv4Addr::new(10, 0, 0, 9)))
        );
        assert_eq!((renew.requested, renew.server), (None, None));
        let rebind = loop {
            let (at, query) = next(&mut client);
            if query.to.is_none() {
                break (at, query);
            }
            assert!(at < 700_000);
        };
        assert_eq!(rebind.0, 700_000);
        client.heard(710_000, reply(ReplyKind::Ack, rebind.1.xid, "10.0.0.9/24", 800));
        assert_eq!(client.holding(), Holding::Bound(&lease("10.0.0.9/24"), Some(1_510_000)));
        assert_eq!(next(&mut client).0, 1_110_000);
    }

    #[test]
    fn times_of_the_server_count_where_they_make_sense() {
        let mut client = new(None);
        let xid = client.tick(0).unwrap().xid;
        let xid = client
            .heard(0, reply(ReplyKind::Offer, xid, "10.0.0.9/24", 100))
            .unwrap()
            .xid;
        let ack = Reply {
            renew: Some(5),
            rebind: Some(9_999),
            ..reply(ReplyKind::Ack, xid, "10.0.0.9/24", 100)
        };
        client.heard(0, ack);
        assert_eq!(next(&mut client).0, 5_000);
    }

    #[test]
    fn lease_that_nobody_prolongs_ends() {
        let mut client = bound(800);
        let discover = loop {
            let (at, query) = next(&mut client);
            if query.kind == QueryKind::Discover {
                break at;
            }
            assert!(at < 800_000 && matches!(client.holding(), Holding::Bound(..)));
        };
        assert_eq!(discover, 800_000);
        let Holding::Without(why) = client.holding() else {
            panic!()
        };
        assert_eq!(why, "the lease ended and was not renewed by 10.0.0.1");
    }

    #[test]
    fn lease_without_end_is_never_asked_for_again() {
        let mut client = bound(FOREVER);
        assert_eq!((client.deadline_ms(), client.tick(u64::MAX - 1)), (u64::MAX, None));
        assert_eq!(client.holding(), Holding::Bound(&lease("10.0.0.9/24"), None));
    }

    #[test]
    fn waits_grow_and_silence_is_told() {
        let mut client = new(None);
        let mut sent = Vec::new();
        while sent.len() < 12 {
            let (at, query) = next(&mut client);
            assert_eq!(query.kind, QueryKind::Discover);
            sent.push(at);
        }
        let waits: Vec<u64> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waits[0] <= 1_250 && waits[3] >= 6_000, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= DHCP_RETRY_MS_MAX * 5 / 4), "{waits:?}");
        assert!(matches!(client.holding(), Holding::Without(_)));
        let mut young = new(None);
        young.tick(0);
        assert_eq!(young.holding(), Holding::Asking);
    }

    #[test]
    fn former_address_is_asked_for_first_and_kept_meanwhile() {
        let mut client = new(Some((lease("10.0.0.9/24"), Some(60_000))));
        let request = client.tick(0).unwrap();
        assert_eq!(
            (request.kind, request.requested, request.server, request.ciaddr),
            (QueryKind::Request, Some(Ipv4Addr::new(10, 0, 0, 9)), None, None)
        );
        assert!(matches!(client.holding(), Holding::Bound(..)));
        client.heard(10, reply(ReplyKind::Ack, request.xid, "10.0.0.9/24", 100));
        assert_eq!(client.holding(), Holding::Bound(&lease("10.0.0.9/24"), Some(100_010)));
    }

    #[test]
    fn former_address_that_is_refused_is_given_up_at_once() {
        let mut client = new(Some((lease("10.0.0.9/24"), Some(60_000))));
        let request = client.tick(0).unwrap();
        let nak = Reply {
            words: Some("wrong network".into()),
            ..reply(ReplyKind::Nak, request.xid, "", 0)
        };
        let discover = client.heard(10, nak).unwrap();
        assert_eq!(discover.kind, QueryKind::Discover);
        let Holding::Without(why) = client.holding() else {
            panic!()
        };
        assert_eq!(why, "the DHCP server refused the address: wrong network");
    }

    #[test]
    fn former_address_that_nobody_knows_of_lasts_until_its_end() {
        let mut client = new(Some((lease("10.0.0.9/24"), Some(60_000))));
        loop {
            let (at, query) = next(&mut client);
            if query.kind == QueryKind::Discover {
                assert_eq!(at, 60_000);
                break;
            }
            assert!(matches!(client.holding(), Holding::Bound(..)));
        }
        let over = new(Some((lease("10.0.0.9/24"), Some(0))));
        assert_eq!(over.holding(), Holding::Asking);
    }

    #[test]
    fn refusal_of_an_offer_starts_over() {
        let mut client = new(None);
        let discover = client.tick(0).unwrap();
        let request = client
            .heard(0, reply(ReplyKind::Offer, discover.xid, "10.0.0.9/24", 60))
            .unwrap();
        assert_eq!(client.heard(0, reply(ReplyKind::Nak, request.xid, "", 0)), None);
        let (at, query) = next(&mut client);
        assert_eq!((at, query.kind), (DHCP_RETRY_MS_MIN, QueryKind::Discover));
    }

    #[test]
    fn offer_that_is_never_confirmed_is_told_and_left() {
        let mut client = new(None);
        let discover = client.tick(0).unwrap();
        client.heard(0, reply(ReplyKind::Offer, discover.xid, "10.0.0.9/24", 60));
        let again = loop {
            let (_, query) = next(&mut client);
            if query.kind == QueryKind::Discover {
                break query;
            }
        };
        assert_ne!(again.xid, discover.xid);
        let Holding::Without(why) = client.holding() else {
            panic!()
        };
        assert!(why.contains("does not confirm"), "{why}");
    }

    #[test]
    fn what_answers_another_question_is_not_heard() {
        let mut client = new(None);
        let discover = client.tick(0).unwrap();
        assert_eq!(
            client.heard(0, reply(ReplyKind::Offer, discover.xid ^ 1, "10.0.0.9/24", 60)),
            None
        );
        assert_eq!(
            client.heard(0, reply(ReplyKind::Ack, discover.xid, "10.0.0.9/24", 60)),
            None
        );
        assert_eq!(client.holding(), Holding::Asking);
    }

    #[test]
    fn address_that_somebody_has_is_declined_and_another_is_asked_for() {
        let (mut client, by) = (new(None), Mac([2, 0, 0, 0, 0, 9]));
        for (round, wait_ms) in [(0, DHCP_RETRY_MS_MIN), (1, DHCP_DECLINED_MS)] {
            let (at, discover) = next(&mut client);
            assert_eq!((round, discover.kind), (client.declined, QueryKind::Discover));
            let request = client.heard(at, reply(ReplyKind::Offer, discover.xid, "10.0.0.9/24", 60));
            client.heard(at, reply(ReplyKind::Ack, request.unwrap().xid, "10.0.0.9/24", 60));
            assert_eq!(client.taken(at + 1, Ipv4Addr::new(10, 0, 0, 8), by), None);
            let decline = client.taken(at + 1, Ipv4Addr::new(10, 0, 0, 9), by).unwrap();
            assert_eq!(
                (
                    decline.kind,
                    decline.requested,
                    decline.server,
                    decline.ciaddr,
                    decline.to
                ),
                (
                    QueryKind::Decline,
                    Some(Ipv4Addr::new(10, 0, 0, 9)),
                    Some(SERVER),
                    None,
                    None
                )
            );
            let Holding::Without(why) = client.holding() else {
                panic!()
            };
            assert_eq!(
                why,
                "10.0.0.9, which 10.0.0.1 leased, is in use by 02:00:00:00:00:09 on the link: it was declined"
            );
            assert_eq!((client.deadline_ms(), client.probing()), (at + 1 + wait_ms, None));
        }
        assert_eq!(client.taken(0, Ipv4Addr::new(10, 0, 0, 9), by), None);
    }

    #[test]
    fn release_names_server_and_address() {
        let release = bound(60).release().unwrap();
        assert_eq!(
            (release.kind, release.to, release.ciaddr, release.server),
            (
                QueryKind::Release,
                Some(SERVER),
                Some(Ipv4Addr::new(10, 0, 0, 9)),
                Some(SERVER)
            )
        );
        assert_eq!(new(None).release(), None);
    }
}
