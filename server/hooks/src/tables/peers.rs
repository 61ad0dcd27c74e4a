//! The other ends of tunnels, owned by a port or a network.

super::columns!("peers"; kind, endpoint, key, allowed, secret, status, error);

pub(crate) const READ_BY_REFERRERS: &[&str] = &[];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];
