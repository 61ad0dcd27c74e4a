//! Bridges, of Linux and of Open vSwitch.

use std::ops::RangeInclusive;

use nonnet_engine::Row;

use crate::fault::Fault;
use crate::link::check_name;
use crate::name::{LinkName, Mac};
use crate::object::{Bridge, BridgeSettings, Moving, Object, OvsBridge, Port, Role, Vlans};
use crate::reconcile::Desired;
use crate::tables::{View, networks, number, switched, text, texts};

/// The groups that no bridge may forward (`BR_GROUPFWD_RESTRICTED` of the kernel).
const GROUPS_RESTRICTED: u32 = 0b111;

super::columns!(
    "bridges"; name, kind, mac, mtu, stp, vlan_filtering, mcast_snooping, uplinks, adopt, other_config, external_ids, status, error,
);

pub(crate) const READ_BY_REFERRERS: &[&str] = &["name", "mtu", "vlan_filtering", "other_config"];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

pub(crate) fn wanted(view: &View<'_>, row: &Row) -> Desired {
    let this = view.tables.bridges.this;
    let columns = &view.tables.bridges;
    let on_it = view.referrers.of((this, row.uuid()), view.tables.networks.this);
    let ipv6 = on_it
        .filter_map(|uuid| view.rows.row(view.tables.networks.this, uuid))
        .any(|row| networks::has_ipv6(&view.tables.networks, row));
    let desired = if switched::is_ovs(columns, row) {
        switched::bridge(columns, row).map(|(bridge, uplinks)| {
            let bridge = Object::OvsBridge(OvsBridge { ipv6, ..bridge });
            let uplinks = uplinks.into_iter().map(Object::OvsPort);
            Desired::Objects([bridge].into_iter().chain(uplinks).collect())
        })
    } else {
        bridge(columns, row).map(|bridge| {
            let bridge = Bridge { ipv6, ..bridge };
            let lends_mac = row.get(columns.mac).is_empty() && !bridge.adopt;
            let uplinks = texts(row, columns.uplinks).filter_map(|name| LinkName::new(name).ok());
            let vlans = bridge.settings.vlan_filtering == Some(true);
            let uplinks = uplinks.map(|name| {
                let uplink = Port::taken(name, bridge.name.clone(), Role::Uplink);
                let moving = Moving { lends_mac, ..view.moving.clone() };
                Object::Port(Port { vlans: vlans.then(Vlans::uplink), moving, ..uplink })
            });
            let uplinks: Vec<Object> = uplinks.collect();
            Desired::Objects([Object::Bridge(bridge)].into_iter().chain(uplinks).collect())
        })
    };
    desired.unwrap_or_else(|fault| Desired::Invalid(fault.to_string().into()))
}

/// The bridge that a row describes, as yet without IPv6.
///
/// Without a hardware address in the row it gets one derived from the row's UUID, since the kernel would change it as ports come and go.
///
/// # Errors
/// The first column that is wrong.
pub(crate) fn bridge(columns: &Columns, row: &Row) -> Result<Bridge, Fault> {
    let name = link_name(columns, row)?;
    let mac = row.get(columns.mac).as_str().map(str::parse::<Mac>).transpose();
    let mac = mac.map_err(|error| Fault::new(Columns::NAME, name.as_str(), "mac", error))?;
    for uplink in texts(row, columns.uplinks) {
        let fault = |why: &dyn std::fmt::Display| Fault::new(Columns::NAME, name.as_str(), "uplinks", why);
        LinkName::new(uplink).map_err(|error| fault(&error))?;
        if uplink == name.as_str() {
            return Err(fault(&"a bridge cannot be its own uplink"));
        }
    }
    let adopt = row.get(columns.adopt).as_bool().unwrap_or(false);
    // A bridge that is taken over keeps its address.
    let derived = (!adopt).then(|| Mac::derived(row.uuid().as_bytes()));
    Ok(Bridge {
        mac: mac.or(derived),
        adopt,
        mtu: number(row, columns.mtu),
        settings: settings(columns, row, adopt).map_err(|(column, why)| Fault::new(Columns::NAME, name.as_str(), &column, why))?,
        ipv6: false,
        name,
    })
}

/// How the bridge forwards, by the row's columns and these keys of `other_config`: `priority` (0 to 65535), `forward_delay` (2 to 30 s),
/// `hello_time` (1 to 10 s), `max_age` (6 to 40 s), `ageing_time` (0 to 1000000 s), `group_fwd_mask` (a bit for each group), `mcast_querier`
/// (`true` or `false`). What it leaves out is as in a new bridge; of a bridge that is taken over it is left as it is.
fn settings(columns: &Columns, row: &Row, adopt: bool) -> Result<BridgeSettings, (String, String)> {
    let said = |key: &str| row.get(columns.other_config).get_str(key);
    let wrong = |key: &str, why: String| (format!("other_config:{key}"), why);
    let number = |key: &str, range: RangeInclusive<u32>| {
        let parse = |text: &str| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            let (from, to) = (range.start(), range.end());
            number.ok_or_else(|| wrong(key, format!("\"{text}\" is no whole number from {from} to {to}")))
        };
        said(key).map(parse).transpose()
    };
    let short = |number: Option<u32>| number.and_then(|number| u16::try_from(number).ok());
    let hundredths = |seconds: Option<u32>| seconds.map(|seconds| seconds * 100);
    let mask = number("group_fwd_mask", 0..=0xffff)?;
    if mask.is_some_and(|mask| mask & GROUPS_RESTRICTED != 0) {
        let why = "no bridge forwards the groups of the bits 0 to 2 (IEEE 802.1D)".to_owned();
        return Err(wrong("group_fwd_mask", why));
    }
    let mcast_querier = match said("mcast_querier") {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => return Err(wrong("mcast_querier", format!("\"{other}\" is neither true nor false"))),
    };
    // These columns cannot say nothing: what somebody else switched on in a bridge that is taken over stays on.
    let switch = |column| row.get(column).as_bool().filter(|on| *on || !adopt);
    let said = BridgeSettings {
        stp: switch(columns.stp),
        vlan_filtering: switch(columns.vlan_filtering),
        mcast_snooping: row.get(columns.mcast_snooping).as_bool(),
        mcast_querier,
        priority: short(number("priority", 0..=0xffff)?),
        forward_delay: hundredths(number("forward_delay", 2..=30)?),
        hello_time: hundredths(number("hello_time", 1..=10)?),
        max_age: hundredths(number("max_age", 6..=40)?),
        ageing_time: hundredths(number("ageing_time", 0..=1_000_000)?),
        group_fwd_mask: short(mask),
    };
    let mut settings = if adopt { BridgeSettings::default() } else { BridgeSettings::NEW };
    settings.change(&said);
    Ok(settings)
}

/// The bridge's name.
///
/// # Errors
/// Why it is no link's.
pub(crate) fn link_name(columns: &Columns, row: &Row) -> Result<LinkName, Fault> {
    let name = text(row, columns.name);
    check_name(name).map_err(|error| Fault::new(Columns::NAME, name, "name", error))
}
