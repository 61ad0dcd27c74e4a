//! Checkpoints: states of the wanted rows to which the database goes back unless they are confirmed.

super::columns!("checkpoints"; name, timeout, on_error, confirmed, opened, base, state, deadline, status, error);

pub(crate) const READ_BY_REFERRERS: &[&str] = &[];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];
