//! `compare-versions`.

use anyhow::{Context, Result, bail};

/// The exit status: 0 where the relation holds, else 2.
pub(super) fn compare(a: &str, operator: &str, b: &str) -> Result<u8> {
    let (a, b) = (version(a)?, version(b)?);
    let holds = match operator {
        "<" => a < b,
        "<=" => a <= b,
        "==" => a == b,
        ">=" => a >= b,
        ">" => a > b,
        "!=" => a != b,
        _ => bail!("{operator}: not a relational operator"),
    };
    Ok(if holds { 0 } else { 2 })
}

fn version(text: &str) -> Result<[u32; 3]> {
    let parts: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
    let version = parts.and_then(|parts| parts.try_into().ok());
    version.with_context(|| format!("{text}: not an OVSDB version number in format x.y.z"))
}
