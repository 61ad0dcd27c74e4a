//! What is changed in a container's files from outside, while it does not run. It never follows a link out of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use ecow::EcoString;

/// The template busybox runs a DHCP client at its start, which wipes the addresses that others set.
pub(super) fn quieten(rootfs: &Path) -> io::Result<()> {
    let directories = ["etc", "etc/init.d"].map(|name| rootfs.join(name));
    let script = rootfs.join("etc/init.d/rcS");
    // Not through a link out of the container.
    let found = |path: &Path| fs::symlink_metadata(path);
    let is_there = directories
        .iter()
        .all(|path| found(path).is_ok_and(|found| found.is_dir()));
    if !is_there || !found(&script).is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    let text = fs::read_to_string(&script)?;
    if !text.lines().any(|line| line.trim() == "/bin/udhcpc") {
        return Ok(());
    }
    let kept: Vec<&str> = text.lines().filter(|line| line.trim() != "/bin/udhcpc").collect();
    fs::write(&script, kept.join("\n") + "\n")
}

/// Writes the name servers of a container that does not run, so that nothing inside can put a link in the way meanwhile.
pub(super) fn resolv_conf(rootfs: &Path, settings: &BTreeMap<EcoString, EcoString>) -> io::Result<()> {
    let mut text = String::new();
    if let Some(domain) = settings.get("searchdomain") {
        let _ = writeln!(text, "search {domain}");
    }
    for server in settings.get("nameserver").iter().flat_map(|servers| servers.split(' ')) {
        let _ = writeln!(text, "nameserver {server}");
    }
    let etc = rootfs.join("etc");
    let file = etc.join("resolv.conf");
    let is_plain = fs::symlink_metadata(&etc).is_ok_and(|found| found.is_dir());
    if text.is_empty() || !is_plain {
        return Ok(());
    }
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::write(&file, text)?;
    // Who owns the directory, in an unprivileged container its root, is to own the file.
    let owner = fs::symlink_metadata(&etc)?;
    chown(&file, Some(owner.uid()), Some(owner.gid()))
}
