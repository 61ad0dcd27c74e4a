//! `--user`: the server gives up what its starter may do (ovsdb-server(1), "Daemon Options").

use std::ffi::CString;

use anyhow::{Context as _, bail};
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, initgroups, setgid, setgroups, setuid};

/// Becomes `USER` with that user's groups, or `USER:GROUP` with that group alone. To be called before any other thread runs.
///
/// # Errors
/// Where there is none of that name, or this process may not become it.
pub(crate) fn become_user(text: &str) -> anyhow::Result<()> {
    let (name, group) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    let user = User::from_name(name)?.with_context(|| format!("--user: there is no user {name}"))?;
    let gid = match group {
        Some(group) => {
            let found = Group::from_name(group)?;
            found.with_context(|| format!("--user: there is no group {group}"))?.gid
        }
        None => user.gid,
    };
    if (geteuid(), getegid()) == (user.uid, gid) {
        return Ok(());
    }
    if !geteuid().is_root() {
        bail!("--user: only root can become another user");
    }
    take(user.uid, gid, group.is_none().then_some(name)).with_context(|| format!("--user {text}"))
}

/// `name` is the user's where its other groups come along.
fn take(uid: Uid, gid: Gid, name: Option<&str>) -> anyhow::Result<()> {
    match name {
        Some(name) => initgroups(&CString::new(name)?, gid)?,
        None => setgroups(&[gid])?,
    }
    setgid(gid)?;
    setuid(uid)?;
    Ok(())
}
