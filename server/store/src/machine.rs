//! Which machine this is, in words that may be shown to others.

use std::fmt::Write as _;

const MACHINE_ID_PATH: &str = "/etc/machine-id";
const CONTEXT: &str = "nonnet 2026-01 machine name v1";

/// Derived from the machine's id, which itself should not leave the machine (machine-id(5)): 16 hexadecimal digits, or `unknown` where
/// there is none.
pub(crate) fn name() -> String {
    let id = std::fs::read_to_string(MACHINE_ID_PATH).unwrap_or_default();
    if id.trim().is_empty() {
        return "unknown".to_owned();
    }
    let mut name = String::new();
    for byte in &nonnet_chain::derived_name(CONTEXT, id.trim().as_bytes()) {
        let _infallible = write!(name, "{byte:02x}");
    }
    name
}
