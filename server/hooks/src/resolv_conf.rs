//! The text of `resolv.conf` (resolv.conf(5)).
//!
//! Takes nameservers, domains and options, gives the text that is written for a namespace, and reads that of the host. A text of ours begins with a
//! line that names the row it is for and the database of that row. Pure; who writes it is the kernel's side.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use ecow::EcoString;

use crate::object::{Owner, ResolvConf};
use crate::want::Mark;

/// Nameservers that a C library asks at most (`MAXNS`).
const SERVERS_MAX: usize = 3;

/// The nameservers that a text names, in order; an address with a zone index is left out, since it means nothing elsewhere.
pub fn nameservers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver"))
            .then(|| words.next()?.parse().ok())
            .flatten()
    });
    lines.collect()
}

/// The row that a text is for, if it is one of ours.
pub fn owner_of(text: &str, mark: Mark) -> Option<Owner> {
    let (alias, database) = text.lines().next()?.strip_prefix("# ")?.split_once(' ')?;
    Owner::from_alias(alias).filter(|_| mark.is_our_row(database))
}

/// The text that some ports' wishes for one namespace make together. The first line names the first of them.
///
/// `host` are the host's nameservers, of which those on its loopback do not work elsewhere.
pub fn text(mark: Mark, wishes: &[(&Owner, &ResolvConf)], host: &[IpAddr]) -> EcoString {
    let mut text = String::new();
    if let Some((owner, _)) = wishes.first() {
        let _ = writeln!(text, "# {} {}", owner.alias(), mark.row_mark());
    }
    let mut search = Vec::new();
    let mut options = Vec::new();
    let mut servers: Vec<IpAddr> = Vec::new();
    for (_, wish) in wishes {
        search.extend(wish.search.iter().map(EcoString::as_str));
        options.extend(wish.options.iter().map(EcoString::as_str));
        let usable = host
            .iter()
            .filter(|server| !server.is_loopback() && !server.is_unspecified());
        if wish.servers.is_empty() {
            servers.extend(usable);
        } else {
            servers.extend(&wish.servers);
        }
    }
    for (word, list) in [("search", distinct(search)), ("options", distinct(options))] {
        if !list.is_empty() {
            let _ = writeln!(text, "{word} {}", list.join(" "));
        }
    }
    for server in distinct(servers).iter().take(SERVERS_MAX) {
        let _ = writeln!(text, "nameserver {server}");
    }
    text.into()
}

fn distinct<T: Ord + Copy>(list: Vec<T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    list.into_iter().filter(|item| seen.insert(*item)).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use crate::object::NetnsRef;

    fn wish(servers: &[&str], search: &[&str]) -> ResolvConf {
        ResolvConf {
            netns: NetnsRef::Name("a".into()),
            servers: servers.iter().map(|server| server.parse().unwrap()).collect(),
            search: search.iter().map(|word| (*word).into()).collect(),
            options: vec!["ndots:1".into()],
        }
    }

    fn owner(uuid: u128) -> Owner {
        Owner {
            table: "ports".into(),
            uuid,
        }
    }

    #[test]
    fn wishes_of_two_ports_are_one_text() {
        let (one, two) = (
            wish(&["10.0.0.1"], &["a.test"]),
            wish(&["10.0.1.1", "10.0.0.1"], &["b.test", "a.test"]),
        );
        let (first, second) = (owner(1), owner(2));
        let mark = Mark::of(b"one");
        let text = text(mark, &[(&first, &one), (&second, &two)], &[]);
        let rest: Vec<&str> = text.lines().skip(1).collect();
        let expected = [
            "search a.test b.test",
            "options ndots:1",
            "nameserver 10.0.0.1",
            "nameserver 10.0.1.1",
        ];
        assert_eq!(rest, expected);
        assert_eq!(owner_of(&text, mark), Some(first));
        assert_eq!(owner_of(&text, Mark::of(b"another")), None);
        assert_eq!(owner_of("# written by hand\nnameserver 1.1.1.1\n", mark), None);
    }

    #[test]
    fn loopback_of_the_host_is_left_out() {
        let host = nameservers(
            "# x\nsearch y\nnameserver 127.0.0.53\nnameserver  ::1\nnameserver 192.0.2.1 \nnameserver fe80::1%eth0\n",
        );
        assert_eq!(host.len(), 3);
        let wish = wish(&[], &[]);
        let owner = owner(1);
        let text = text(Mark::of(b"one"), &[(&owner, &wish)], &host);
        assert_eq!(nameservers(&text), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    }
}
