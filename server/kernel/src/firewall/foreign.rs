//! What of somebody else's keeps forwarded packets from passing.
//!
//! A packet passes only if every base chain lets it: an accept of ours cannot save it from a drop of another's. Known are chains of hook
//! `forward` whose policy is to drop, and rules there that drop or reject whatever comes. A chain whose table has a rule that accepts by the name
//! of a bridge is taken to be somebody's arrangement for that bridge, and is passed over. Those of `iptables-legacy` are known by their policy only.

mod legacy;

use std::collections::BTreeSet;
use std::io;

use ecow::{EcoString, eco_format};
use netlink_packet_netfilter::NetfilterProtoFamily;

use super::expression::DROP;
use super::message::{chains_get, rules_get};
use super::rules::FORWARD;
use super::wire::{Told, Wire, attribute, attributes, number, text};

/// `NFTA_CHAIN_TABLE` and so on.
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const RULE_EXPRESSIONS: u16 = 4;

/// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`; `NFTA_IMMEDIATE_DATA`, `NFTA_DATA_VERDICT`, `NFTA_VERDICT_CODE`.
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;

/// The families whose chains see forwarded packets of IP, with their names.
const FAMILIES: [(u8, &str); 3] = [(1, "inet"), (2, "ip"), (10, "ip6")];

/// What stands in the way, in words. Tables of the name `own` are ours.
pub(super) fn obstacles(wire: &mut Wire, own: &str, bridges: &BTreeSet<String>) -> io::Result<BTreeSet<EcoString>> {
    let chains = wire.get(NetfilterProtoFamily::Unspec, chains_get(), true)?;
    let mut found = BTreeSet::new();
    for chain in chains.unwrap_or_default() {
        let (Some(table), Some(name)) = (chain.text(CHAIN_TABLE), chain.text(CHAIN_NAME)) else {
            continue;
        };
        let Some((_, family)) = FAMILIES.iter().find(|(of, _)| *of == chain.family) else {
            continue;
        };
        let hook = chain
            .attribute(CHAIN_HOOK)
            .and_then(|hook| attribute(hook, HOOK_NUMBER));
        if table == own || hook.and_then(number) != Some(FORWARD) {
            continue;
        }
        let whose = eco_format!("chain {family} {table} {name}, which is not nonnet's");
        let rules = wire.get(NetfilterProtoFamily::from(chain.family), rules_get(table, None), true)?;
        let rules = rules.unwrap_or_default();
        if rules.iter().any(|rule| accepts_by_name(rule, bridges)) {
            continue;
        }
        if chain.attribute(CHAIN_POLICY).and_then(number) == Some(DROP) {
            found.insert(eco_format!("drop policy of {whose}"));
        }
        let of_chain = |rule: &&Told| rule.text(2) == Some(name);
        if let Some(refusal) = rules.iter().filter(of_chain).find_map(refuses_all) {
            found.insert(eco_format!("{refusal} of {whose}"));
        }
    }
    for program in legacy::drops(bridges) {
        found.insert(eco_format!(
            "drop policy of chain FORWARD of {program} (legacy), which is not nonnet's"
        ));
    }
    Ok(found)
}

/// The expressions of a rule, each with its name and what it says.
fn expressions(rule: &Told) -> impl Iterator<Item = (&str, &[u8])> {
    let list = rule.attribute(RULE_EXPRESSIONS).unwrap_or_default();
    attributes(list).filter_map(|(_, expression)| {
        let name = text(attribute(expression, EXPRESSION_NAME)?)?;
        Some((name, attribute(expression, EXPRESSION_DATA).unwrap_or_default()))
    })
}

fn verdict(data: &[u8]) -> Option<u32> {
    number(attribute(
        attribute(attribute(data, IMMEDIATE_DATA)?, DATA_VERDICT)?,
        VERDICT_CODE,
    )?)
}

/// How a rule refuses all packets, if it does: it has no condition.
fn refuses_all(rule: &Told) -> Option<&'static str> {
    let mut refusal = None;
    for (name, data) in expressions(rule) {
        match name {
            "counter" | "log" => {}
            "reject" => refusal = Some("reject rule"),
            "immediate" if verdict(data) == Some(DROP) => refusal = Some("drop rule"),
            _ => return None,
        }
    }
    refusal
}

/// Whether a rule lets packets pass by the name of one of these links.
fn accepts_by_name(rule: &Told, links: &BTreeSet<String>) -> bool {
    const ACCEPT: u32 = 1;
    let names = |data: &[u8]| {
        links.iter().any(|link| {
            let name = [link.as_bytes(), &[0]].concat();
            data.windows(name.len()).any(|window| window == name)
        })
    };
    let accepts = expressions(rule).any(|(name, data)| name == "immediate" && verdict(data) == Some(ACCEPT));
    accepts && expressions(rule).any(|(name, data)| matches!(name, "cmp" | "match") && names(data))
}
