//! Addresses in use, each owned by a port: they die with it.
//!
//! An address is in use once on a host, whatever network it belongs to, since subnets do not overlap.

super::columns!("leases"; address, source, expires);

pub(crate) const READ_BY_REFERRERS: &[&str] = &["address", "source"];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

/// The word in `source` for an address that the port's row names itself.
pub(crate) const STATIC: &str = "static";
