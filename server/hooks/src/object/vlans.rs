//! The VLANs of a port of a Linux bridge that filters by them.

use std::collections::BTreeMap;
use std::fmt;

/// VLANs (1 to 4094) and how a port is in each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vlans(pub BTreeMap<u16, Membership>);

/// How a port is in a VLAN (`BRIDGE_VLAN_INFO_*` of `linux/if_bridge.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Whether frames that come without a tag are in it (PVID).
    pub native: bool,
    /// Whether its frames leave without a tag.
    pub untagged: bool,
}

/// The VLAN in which a new port of a bridge is, without a tag.
pub const VLAN_DEFAULT: u16 = 1;

/// The largest number of a VLAN.
pub const VLAN_MAX: u16 = 4094;

const NATIVE: Membership = Membership {
    native: true,
    untagged: true,
};

impl Vlans {
    /// A port of a host: in the VLAN of its tag without one, in those of its trunks with their tags; that of neither is in the default VLAN.
    pub fn access(tag: Option<u16>, trunks: impl IntoIterator<Item = u16>) -> Self {
        let mut vlans: BTreeMap<u16, Membership> =
            trunks.into_iter().map(|vlan| (vlan, Membership::default())).collect();
        if let Some(native) = tag.or(vlans.is_empty().then_some(VLAN_DEFAULT)) {
            vlans.insert(native, NATIVE);
        }
        Self(vlans)
    }

    /// A port that leads out: in the default VLAN without a tag, in all others with theirs.
    pub fn uplink() -> Self {
        Self::access(Some(VLAN_DEFAULT), VLAN_DEFAULT + 1..=VLAN_MAX)
    }

    /// Those that are not, or not so, in `other`.
    pub fn beside(&self, other: &Self) -> Self {
        let beside = self.0.iter().filter(|(vlan, how)| other.0.get(vlan) != Some(how));
        Self(beside.map(|(vlan, how)| (*vlan, *how)).collect())
    }

    /// Those whose numbers are not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        let without = self.0.iter().filter(|(vlan, _)| !other.0.contains_key(vlan));
        Self(without.map(|(vlan, how)| (*vlan, *how)).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs of numbers that follow each other and are the same: first, last, how. The native VLAN is in a run of its own.
    pub fn runs(&self) -> Vec<(u16, u16, Membership)> {
        let mut runs: Vec<(u16, u16, Membership)> = Vec::new();
        for (vlan, how) in &self.0 {
            match runs.last_mut() {
                Some((_, last, of)) if *last + 1 == *vlan && of == how && !how.native => *last = *vlan,
                _ => runs.push((*vlan, *vlan, *how)),
            }
        }
        runs
    }
}

/// The runs, as `bridge vlan` has them: `10 pvid untagged, 20-30`.
impl fmt::Display for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last, how)) in self.runs().into_iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{first}")?;
            if last != first {
                write!(f, "-{last}")?;
            }
            f.write_str(if how.native { " pvid" } else { "" })?;
            f.write_str(if how.untagged { " untagged" } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_without_trunks_are_with() {
        assert_eq!(Vlans::access(None, []).to_string(), "1 pvid untagged");
        assert_eq!(Vlans::access(Some(10), []).to_string(), "10 pvid untagged");
        assert_eq!(Vlans::access(None, [20, 21, 30]).to_string(), "20-21, 30");
        assert_eq!(
            Vlans::access(Some(21), [20, 21, 22]).to_string(),
            "20, 21 pvid untagged, 22"
        );
        assert_eq!(Vlans::uplink().to_string(), "1 pvid untagged, 2-4094");
    }
}
