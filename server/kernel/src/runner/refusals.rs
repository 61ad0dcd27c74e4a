//! The kernel's refusals in plain words, where its own say too little.

use nonnet_hooks::object::Spec;
use nonnet_hooks::plan::{NewLink, Operation, Refusal};

/// The refusal of an operation, in plain words where the kernel's own say too little.
pub(super) fn explained(operation: &Operation, refused: Refusal) -> Refusal {
    match operation {
        Operation::LinkAdd {
            new: NewLink::Single { spec, .. },
            ..
        } if refused.errno == libc::EOPNOTSUPP => Refusal {
            text: ecow::eco_format!(
                "this kernel has no links of kind {}{}: {}",
                spec.kind(),
                stand_in(spec),
                refused.text
            ),
            ..refused
        },
        Operation::LinkAdd {
            new: NewLink::Bridge { settings, .. },
            ..
        } if refused.errno == libc::EOPNOTSUPP && settings.vlan_filtering.is_some() => without_vlans(&refused),
        Operation::LinkSet { set, .. }
            if refused.errno == libc::EOPNOTSUPP
                && set.bridge.as_ref().is_some_and(|set| set.vlan_filtering.is_some()) =>
        {
            without_vlans(&refused)
        }
        _ => refused,
    }
}

fn without_vlans(refused: &Refusal) -> Refusal {
    Refusal {
        text: ecow::eco_format!("this kernel has no bridges that filter VLANs: {}", refused.text),
        errno: refused.errno,
    }
}

/// What does without the kernel's help what it does not.
fn stand_in(spec: &Spec) -> &'static str {
    match spec {
        Spec::Wireguard => " (options:userspace true has wireguard-go do it)",
        _ => "",
    }
}
