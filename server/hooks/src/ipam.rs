//! Which address a port gets.
//!
//! A pure function of the network, the port's name and what is taken. It must never give an address twice, nor one outside the ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::address::Range;
use crate::limits::DERIVED_ADDRESSES_MAX;

/// How addresses are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Derived from the names of network and port, so that every machine comes to the same answer.
    Deterministic,
    /// The lowest free one.
    Sequential,
}

/// The addresses of one subnet that ports may get, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    ipv4: bool,
    /// First and last of each range: ascending, apart from each other.
    ranges: Vec<(u128, u128)>,
}

impl Method {
    /// The word that stands in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deterministic => "deterministic",
            Self::Sequential => "sequential",
        }
    }
}

impl Pool {
    /// The addresses of `subnet` that hosts can have; where `ranges` has some of this subnet, only those; none that is `excluded`.
    pub fn new(subnet: IpNet, ranges: &[Range], excluded: &[Range]) -> Self {
        let (mut first, mut last) = (number(subnet.network()), number(subnet.broadcast()));
        if subnet.prefix_len() + 1 < subnet.max_prefix_len() {
            first += 1;
            last -= u128::from(subnet.addr().is_ipv4());
        }
        let inside = |range: &&Range| subnet.contains(&range.first) && subnet.contains(&range.last);
        let mut wanted: Vec<(u128, u128)> = ranges
            .iter()
            .filter(inside)
            .map(|range| (number(range.first).max(first), number(range.last).min(last)))
            .filter(|(first, last)| first <= last)
            .collect();
        if !ranges.iter().any(|range| inside(&range)) {
            wanted.push((first, last));
        }
        wanted.sort_unstable();
        let mut apart: Vec<(u128, u128)> = Vec::with_capacity(wanted.len());
        for (first, last) in wanted {
            match apart.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => apart.push((first, last)),
            }
        }
        for hole in excluded.iter().filter(inside) {
            apart = without(&apart, number(hole.first), number(hole.last));
        }
        Self {
            ipv4: subnet.addr().is_ipv4(),
            ranges: apart,
        }
    }

    /// How many addresses it has.
    pub fn len(&self) -> u128 {
        self.ranges.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// True where the ranges leave nothing.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether it has that address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let place = number(address);
        address.is_ipv4() == self.ipv4
            && self
                .ranges
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&place))
    }

    /// The address at that place.
    pub fn nth(&self, mut place: u128) -> Option<IpAddr> {
        for (first, last) in &self.ranges {
            let size = last - first + 1;
            if place < size {
                return Some(self.address(first + place));
            }
            place -= size;
        }
        None
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.ipv4 {
            Ipv4Addr::from(number as u32).into()
        } else {
            Ipv6Addr::from(number).into()
        }
    }
}

/// The address for a port, or none where all are taken.
///
/// `from` is where a sequential search begins; it is moved past what was found taken. The number of addresses looked at is at most that
/// of those taken, plus a few.
pub fn allocate(
    pool: &Pool,
    method: Method,
    (network, port): (&str, &str),
    from: &mut u128,
    mut taken: impl FnMut(IpAddr) -> bool,
) -> Option<IpAddr> {
    let size = pool.len();
    if size == 0 {
        return None;
    }
    let mut start = *from;
    if method == Method::Deterministic {
        for attempt in 0..DERIVED_ADDRESSES_MAX {
            start = derived(network, port, attempt) % size;
            if let Some(address) = pool.nth(start).filter(|address| !taken(*address)) {
                return Some(address);
            }
        }
    }
    let mut steps = 0;
    let end = if method == Method::Deterministic {
        size
    } else {
        size.saturating_sub(start)
    };
    while steps < end {
        let place = (start + steps) % size;
        steps += 1;
        if method == Method::Sequential {
            *from = place + 1;
        }
        if let Some(address) = pool.nth(place).filter(|address| !taken(*address)) {
            return Some(address);
        }
    }
    None
}

/// Ranges without the numbers from `first` to `last`.
fn without(ranges: &[(u128, u128)], first: u128, last: u128) -> Vec<(u128, u128)> {
    let parts = ranges.iter().flat_map(|&(from, to)| {
        let below = (from < first).then(|| (from, to.min(first - 1)));
        let above = (to > last).then(|| (from.max(last + 1), to));
        [below, above]
    });
    parts.flatten().collect()
}

fn derived(network: &str, port: &str, attempt: u8) -> u128 {
    let mut hasher = blake3::Hasher::new_derive_key("nonnet 2026 port address");
    for name in [network, port] {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
    }
    hasher.update(&[attempt]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(bytes)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => u32::from(four).into(),
        IpAddr::V6(six) => six.into(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn pool(subnet: &str, ranges: &[&str]) -> Pool {
        let ranges: Vec<Range> = ranges.iter().map(|text| crate::address::range(text).unwrap()).collect();
        Pool::new(subnet.parse().unwrap(), &ranges, &[])
    }

    #[test]
    fn pool_leaves_out_what_no_host_can_have() {
        let four = pool("10.0.0.0/29", &[]);
        assert_eq!(four.len(), 6);
        assert_eq!(four.nth(0), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(four.nth(6), None);
        assert_eq!(pool("10.0.0.0/31", &[]).len(), 2);
        assert_eq!(pool("fd00::/64", &[]).nth(0), Some("fd00::1".parse().unwrap()));
    }

    #[test]
    fn ranges_of_another_subnet_do_not_count() {
        assert_eq!(pool("10.0.0.0/29", &["10.1.0.1-10.1.0.2"]).len(), 6);
        assert_eq!(
            pool("10.0.0.0/29", &["10.0.0.2-10.0.0.3", "10.0.0.3-10.0.0.4"]).len(),
            3
        );
        assert!(pool("10.0.0.0/29", &["10.0.0.7"]).is_empty());
    }

    #[test]
    fn excluded_addresses_are_given_to_nobody() {
        let hole = |text: &str| crate::address::range(text).unwrap();
        let subnet: IpNet = "10.0.0.0/29".parse().unwrap();
        let all = |pool: &Pool| -> Vec<String> {
            let places = (0..pool.len()).filter_map(|place| pool.nth(place));
            places.map(|address| address.to_string()).collect()
        };
        let pool = Pool::new(subnet, &[], &[hole("10.0.0.2-10.0.0.3"), hole("10.0.0.6")]);
        assert_eq!(all(&pool), ["10.0.0.1", "10.0.0.4", "10.0.0.5"]);
        let pool = Pool::new(subnet, &[hole("10.0.0.2-10.0.0.4")], &[hole("10.0.0.3-10.0.0.5")]);
        assert_eq!(all(&pool), ["10.0.0.2"]);
        assert!(Pool::new(subnet, &[], &[hole("10.0.0.0/29")]).is_empty());
    }

    #[test]
    fn derived_address_is_this_one_for_ever() {
        let pool = pool("10.88.0.0/16", &[]);
        let address = allocate(&pool, Method::Deterministic, ("blue", "web"), &mut 0, |_| false);
        assert_eq!(address, Some("10.88.207.137".parse().unwrap()));
    }

    #[test]
    fn sequential_takes_the_lowest_free() {
        let pool = pool("10.0.0.0/29", &[]);
        let taken: IpAddr = "10.0.0.1".parse().unwrap();
        let mut from = 0;
        let mut next = || {
            allocate(&pool, Method::Sequential, ("n", "p"), &mut from, |address| {
                address == taken
            })
        };
        assert_eq!(next(), Some("10.0.0.2".parse().unwrap()));
        assert_eq!(next(), Some("10.0.0.3".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice_and_all_are_given(
            names in prop::collection::btree_set("[a-z]{1,6}", 1..40),
            ranges in prop::collection::vec((1_u8..60, 0_u8..4), 0..4),
            method in prop_oneof![Just(Method::Deterministic), Just(Method::Sequential)],
        ) {
            let ranges: Vec<String> = ranges.iter().map(|(at, more)| format!("10.0.0.{at}-10.0.0.{}", (at + more).min(62))).collect();
            let texts: Vec<&str> = ranges.iter().map(String::as_str).collect();
            let pool = pool("10.0.0.0/26", &texts);
            let allowed: BTreeSet<IpAddr> = (0..pool.len()).filter_map(|place| pool.nth(place)).collect();
            prop_assert_eq!(allowed.len() as u128, pool.len());
            let mut given: BTreeMap<IpAddr, &String> = BTreeMap::new();
            for name in &names {
                let address = allocate(&pool, method, ("net", name), &mut 0, |address| given.contains_key(&address));
                if let Some(address) = address {
                    prop_assert!(allowed.contains(&address));
                    prop_assert!(given.insert(address, name).is_none());
                } else {
                    prop_assert_eq!(given.len(), allowed.len());
                }
            }
        }
    }
}
