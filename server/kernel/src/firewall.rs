//! The packet filter (nftables) of the server's own namespace, by nfnetlink from this process.
//!
//! Takes changes of sets, gives what the kernel has. There is one table of family `inet` and one of family `bridge`, owned by this process's
//! socket, so that nobody else can change them, and persistent, so that they outlive it. Chains and rules are always the same.

mod element;
mod expression;
mod flows;
mod foreign;
mod message;
mod rules;
mod setting;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use ecow::{EcoString, eco_format};
use netlink_packet_netfilter::nftables::TableFlags;
use netlink_sys::Socket;
use nix::ifaddrs::getifaddrs;
use nonnet_hooks::mirror::{Change, NamespaceId, Observation};
use nonnet_hooks::object::Owner;
use nonnet_hooks::object::firewall::{Borrow, Element, ElementChange, Installed, Set};
use nonnet_hooks::plan::Refusal;
use nonnet_hooks::want::Mark;

use self::flows::{Flow, Moved};
use self::rules::{Chain, chains};
use self::setting::Settings;
use self::wire::{Told, Wire, number};
use crate::limits::{ELEMENTS_PER_BATCH, FOREIGN_RULES_REST};

/// `NFTA_TABLE_FLAGS` and `NFTA_TABLE_OWNER`.
const TABLE_FLAGS: u16 = 2;
const TABLE_OWNER: u16 = 7;

/// The attribute that names the table in every message, and others that are read.
const TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const RULE_CHAIN: u16 = 2;
const RULE_USERDATA: u16 = 7;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;

/// Types of messages (`NFT_MSG_NEWSETELEM` and so on).
const NEW_ELEMENTS: u8 = 12;
const DELETE_ELEMENTS: u8 = 14;
const NEW_GENERATION: u8 = 15;

/// The first and the last type of messages about tables, chains and rules (`NFT_MSG_NEWTABLE` to `NFT_MSG_DELRULE`).
const TABLES: u8 = 0;
const RULES_END: u8 = 8;

/// The settings whose values are read along with the packet filter.
const SETTINGS: [&str; 2] = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];

/// The packet filter of the server's own namespace.
#[derive(Debug)]
pub(crate) struct Ruleset {
    wire: Wire,
    pub(crate) events: Socket,
    table: String,
    chains: Vec<Chain>,
    settings: Settings,
    /// Whether the kernel knows tables that persist when their owner ends (Linux 6.9).
    persists: bool,
    others: Others,
}

/// How often others' rules are looked at.
#[derive(Debug, Default)]
struct Others {
    /// The bridges of networks, as last read: rules that name them are of interest.
    bridges: BTreeSet<String>,
    /// Whether there is a packet filter of ours that others could stand in the way of.
    matter: bool,
    looked: Option<Instant>,
    /// When to look again.
    due: Option<Instant>,
}

/// What a batch did.
pub(crate) type Answers = Vec<(usize, Result<(), Refusal>)>;

impl Ruleset {
    /// Opens the sockets in the namespace of the calling thread, whose inode is `namespace`. What settings were is remembered in `memory`.
    pub(crate) fn open(mark: Mark, namespace: u64, memory: Option<&Path>) -> io::Result<Self> {
        let mut ruleset = Self {
            wire: Wire::open()?,
            events: wire::listen()?,
            table: format!("nonnet_{:08x}", mark.group),
            chains: chains(),
            settings: Settings::open(memory, namespace),
            persists: false,
            others: Others::default(),
        };
        ruleset.persists = ruleset.try_persistence()?;
        Ok(ruleset)
    }

    /// Whether a table can be owned and persist: one is made for a moment.
    fn try_persistence(&mut self) -> io::Result<bool> {
        let name = format!("{}_probe", self.table);
        let flags = TableFlags::Owner | TableFlags::Persisent;
        let requests = vec![message::table(false, &name, flags), message::table_delete(false, &name)];
        let done = self.wire.batch(requests)?;
        Ok(done.is_ok())
    }

    /// Whether tables outlive the server while nobody else can change them meanwhile.
    pub(crate) fn persists(&self) -> bool {
        self.persists
    }

    fn flags(&self) -> TableFlags {
        if self.persists {
            TableFlags::Owner | TableFlags::Persisent
        } else {
            TableFlags::empty()
        }
    }

    /// Carries out changes: together if they work together, else each by itself, so that each has its own answer.
    pub(crate) fn change(&mut self, changes: &[(usize, &ElementChange)]) -> Answers {
        let mut answers = Vec::new();
        let mut rest = changes;
        while !rest.is_empty() {
            let mut elements = 0;
            let fits = rest.iter().take_while(|(_, change)| {
                elements += change.add.len() + change.delete.len();
                elements <= ELEMENTS_PER_BATCH
            });
            let count = fits.count().max(1);
            let (some, later) = rest.split_at(count);
            rest = later;
            match self.together(some) {
                Ok(()) => {
                    answers.extend(some.iter().map(|(at, _)| (*at, Ok(()))));
                    self.forget_flows(some);
                }
                Err(refused) if some.len() == 1 => {
                    answers.extend(some.iter().map(|(at, _)| (*at, Err(refused.clone()))));
                }
                Err(_) => answers.extend(some.iter().map(|one| (one.0, self.together(std::slice::from_ref(one))))),
            }
        }
        answers
    }

    /// Has the kernel forget the flows that would go on to where a forward led before.
    fn forget_flows(&mut self, changes: &[(usize, &ElementChange)]) {
        // To look at all that there are, the kernel walks over a table which is as large when it is empty.
        if setting::read("netfilter/nf_conntrack_count").is_ok_and(|count| count == "0") {
            return;
        }
        let moved = Moved::by(changes.iter().map(|(_, change)| *change));
        for ipv4 in [true, false].into_iter().filter(|ipv4| moved.concerns(*ipv4)) {
            if let Err(error) = self.try_forget_flows(&moved, ipv4) {
                tracing::warn!(%error, "flows of forwards that are gone cannot be forgotten");
            }
        }
    }

    fn try_forget_flows(&mut self, moved: &Moved, ipv4: bool) -> io::Result<()> {
        let family = message::family_of(ipv4);
        let Ok(flows) = self.wire.get(family, message::flows_get(), true)? else {
            return Ok(());
        };
        let addresses = getifaddrs()?.filter_map(|link| link.address);
        let own = addresses.filter_map(|address| {
            let four = address.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
            four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
        });
        let own: BTreeSet<IpAddr> = own.collect();
        for told in &flows {
            if Flow::of(told).is_some_and(|flow| moved.is_stale(&flow, &own)) {
                // One that has ended meanwhile is refused.
                self.wire.get(family, message::flow_delete(told), false)?.ok();
            }
        }
        Ok(())
    }

    fn together(&mut self, changes: &[(usize, &ElementChange)]) -> Result<(), Refusal> {
        let mut requests = Vec::new();
        if changes.iter().any(|(_, change)| change.remove) {
            for bridge in [false, true] {
                requests.push(message::table(bridge, &self.table, self.flags()));
                requests.push(message::table_delete(bridge, &self.table));
            }
        }
        if changes.iter().any(|(_, change)| change.build) {
            requests.extend(self.building().map_err(|error| of_io(&error))?);
        }
        let deleted: Vec<Element> = changes
            .iter()
            .flat_map(|(_, change)| change.delete.iter().cloned())
            .collect();
        requests.extend(message::elements_delete(&self.table, &deleted));
        let added = changes
            .iter()
            .flat_map(|(_, change)| change.add.iter().map(|element| (element, change.owner.as_ref())));
        requests.extend(message::elements_add(&self.table, added));
        if requests.is_empty() {
            return Ok(());
        }
        self.wire.batch(requests).map_err(|error| of_io(&error))?
    }

    /// The messages that make tables, chains and rules as they should be; elements that are there stay.
    fn building(&mut self) -> io::Result<Vec<wire::Request>> {
        let mut requests = Vec::new();
        for bridge in [false, true] {
            requests.push(message::table(bridge, &self.table, self.flags()));
            let there = self.chains_there(bridge)?;
            requests.extend(there.iter().map(|chain| message::flush(bridge, &self.table, chain)));
            requests.extend(
                there
                    .iter()
                    .map(|chain| message::chain_delete(bridge, &self.table, chain)),
            );
        }
        requests.extend(
            (1..)
                .zip(Set::ALL)
                .map(|(number, set)| message::set(&self.table, number, set)),
        );
        for chain in &self.chains {
            requests.push(message::chain(&self.table, chain));
            for (at, rule) in chain.rules.iter().enumerate() {
                requests.push(message::rule(&self.table, chain, at, rule));
            }
        }
        Ok(requests)
    }

    fn chains_there(&mut self, bridge: bool) -> io::Result<Vec<String>> {
        let chains = self.wire.get(message::family(bridge), message::chains_get(), true)?;
        let own = chains.unwrap_or_default();
        let own = own.iter().filter(|chain| chain.text(TABLE) == Some(&self.table));
        Ok(own
            .filter_map(|chain| chain.text(CHAIN_NAME))
            .map(str::to_owned)
            .collect())
    }

    /// Does with a setting what is asked. Gives what there is to tell.
    pub(crate) fn borrow(&mut self, borrow: &Borrow) -> io::Result<Vec<Observation>> {
        let now = match &borrow.value {
            Some(value) => Some(self.settings.borrow(&borrow.path, value)?),
            None => self.settings.give_back(&borrow.path)?,
        };
        let mut changes = vec![Change::Borrowed(self.settings.borrowed())];
        changes.push(Change::Setting(borrow.path.clone(), now.map(Into::into)));
        Ok(changes.into_iter().map(of_host).collect())
    }

    /// Reads everything: what is ours, and what of others' stands in the way.
    pub(crate) fn read(&mut self) -> io::Result<Installed> {
        let mut installed = Installed::borrowed(self.settings.borrowed());
        let (inet, bridge) = (self.claim(false)?, self.claim(true)?);
        installed.present = inet || bridge;
        installed.intact = inet && bridge && self.rules_are_right()?;
        let mut links = BTreeSet::new();
        let mut paths: BTreeSet<EcoString> = SETTINGS.map(EcoString::from).into();
        paths.extend(installed.borrowed.keys().cloned());
        if installed.present {
            for set in Set::ALL {
                let shape = set.shape();
                let family = message::family(shape.bridge);
                let lists = self.wire.get(family, message::elements_get(&self.table, set), true)?;
                let Ok(lists) = lists else {
                    installed.intact = false;
                    continue;
                };
                for (element, owner) in lists.iter().flat_map(|list| elements(set, list)) {
                    let link = element.key.key.first().map(ToString::to_string);
                    match set {
                        Set::Within => links.extend(link),
                        Set::Localnet => paths.extend(link.map(|link| eco_format!("ipv4/conf/{link}/route_localnet"))),
                        _ => {}
                    }
                    installed.insert(element, owner);
                }
            }
        }
        self.others.bridges = links;
        self.others.matter = installed.present;
        installed.obstacles = self.obstacles()?;
        installed.settings = paths
            .into_iter()
            .filter_map(|path| {
                let value = setting::read(&path).ok()?;
                Some((path, value.into()))
            })
            .collect();
        Ok(installed)
    }

    /// What of others' stands in the way.
    fn obstacles(&mut self) -> io::Result<BTreeSet<EcoString>> {
        self.others.looked = Some(Instant::now());
        self.others.due = None;
        foreign::obstacles(&mut self.wire, &self.table, &self.others.bridges)
    }

    /// When [`Ruleset::drain`] has something to do although no event has come.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.others.due
    }

    /// Whether a table is there. One that has outlived the server that made it is ours again.
    fn claim(&mut self, bridge: bool) -> io::Result<bool> {
        let told = self
            .wire
            .get(message::family(bridge), message::table_get(&self.table), false)?;
        let Ok(told) = told else { return Ok(false) };
        let Some(table) = told.first() else { return Ok(false) };
        let owner = table.attribute(TABLE_OWNER).and_then(number);
        let flags = table.attribute(TABLE_FLAGS).and_then(number).unwrap_or(0);
        if self.persists && owner != Some(self.wire.port) && flags & TableFlags::Persisent.bits() != 0 {
            let claimed = self
                .wire
                .batch(vec![message::table(bridge, &self.table, self.flags())])?;
            if let Err(refused) = claimed {
                tracing::warn!(%refused, table = %self.table, "the tables of the packet filter are not ours");
            }
        }
        Ok(true)
    }

    /// Whether the chains have the rules that they should have, and no others.
    fn rules_are_right(&mut self) -> io::Result<bool> {
        for bridge in [false, true] {
            let rules = self
                .wire
                .get(message::family(bridge), message::rules_get(&self.table, None), true)?;
            let mut there: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for rule in rules.unwrap_or_default() {
                let mark = rule.attribute(RULE_USERDATA).and_then(element::commented);
                let chain = rule.text(RULE_CHAIN).unwrap_or_default().to_owned();
                there
                    .entry(chain)
                    .or_default()
                    .push(mark.unwrap_or_default().to_owned());
            }
            let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for chain in self.chains.iter().filter(|chain| chain.bridge == bridge) {
                let marks = chain.rules.iter().enumerate();
                let marks = marks.map(|(at, rule)| message::mark(chain.name, at, rule));
                wanted.insert(chain.name.to_owned(), marks.collect());
            }
            if there != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads the events, as far as they have come. What cannot be told element by element is read anew, and what others do not too often.
    pub(crate) fn drain(&mut self) -> io::Result<Vec<Observation>> {
        let mut told = Vec::new();
        let mut anew = wire::events(&self.events, &mut told);
        let mut others = false;
        let mut observations = Vec::new();
        for event in &told {
            if event.kind == NEW_GENERATION {
                continue;
            }
            let own = event.text(TABLE) == Some(&self.table);
            match event.kind {
                NEW_ELEMENTS | DELETE_ELEMENTS if !own => {}
                NEW_ELEMENTS | DELETE_ELEMENTS => {
                    let bridge = event.family == u8::from(message::family(true));
                    let named = |set: &Set| {
                        let shape = set.shape();
                        shape.bridge == bridge && event.text(LIST_SET) == Some(shape.name)
                    };
                    let Some(set) = Set::ALL.into_iter().find(named) else {
                        anew = true;
                        continue;
                    };
                    let changed = elements(set, event);
                    if set == Set::Within && event.kind == NEW_ELEMENTS {
                        let bridges = changed.iter().filter_map(|(element, _)| element.key.key.first());
                        self.others.bridges.extend(bridges.map(ToString::to_string));
                        others = true;
                    }
                    observations.extend(changed.into_iter().map(|(element, owner)| {
                        of_host(if event.kind == NEW_ELEMENTS {
                            Change::ElementSet(element, owner)
                        } else {
                            Change::ElementGone(element.key)
                        })
                    }));
                }
                _ if own => anew = true,
                TABLES..=RULES_END => others = true,
                _ => {}
            }
        }
        let now = Instant::now();
        if others && self.others.matter {
            // Some programs write hundreds of rules one by one.
            let rested = self.others.looked.map_or(now, |looked| looked + FOREIGN_RULES_REST);
            self.others.due.get_or_insert(rested);
        }
        if anew {
            observations.push(of_host(Change::FirewallReplaced(self.read()?)));
        } else if self.others.due.is_some_and(|due| due <= now) {
            observations.push(of_host(Change::Obstacles(self.obstacles()?)));
        }
        Ok(observations)
    }
}

fn elements(set: Set, told: &Told) -> Vec<(Element, Owner)> {
    element::decode(set, told.attribute(LIST_ELEMENTS).unwrap_or_default())
}

fn of_host(change: Change) -> Observation {
    Observation {
        namespace: NamespaceId::Host,
        change,
    }
}

fn of_io(error: &io::Error) -> Refusal {
    crate::wire::refusal(error.raw_os_error().unwrap_or(libc::EIO))
}
