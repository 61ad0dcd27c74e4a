//! Ports of this host that are forwarded to a container, owned by the port that they lead to.

super::columns!("forwards"; protocol, listen, port, count, target, status, error);

pub(crate) const READ_BY_REFERRERS: &[&str] = &[];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];
