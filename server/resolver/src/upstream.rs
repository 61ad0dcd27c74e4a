//! The nameservers of the host, from its `resolv.conf`.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;

use crate::limits::{HOST_SERVERS_MAX, RESOLV_CONF_BYTES_MAX};

/// Where the host says it.
const FILE: &str = "/etc/resolv.conf";

/// The nameservers as they were read last, and from which state of the file.
#[derive(Debug, Default)]
pub(crate) struct HostServers {
    read_at: Option<(u64, i64, i64, u64)>,
    servers: Vec<IpAddr>,
}

impl HostServers {
    /// The nameservers now; the file is read again only when it has changed. None where it cannot be read.
    pub(crate) fn now(&mut self) -> Vec<IpAddr> {
        let state = std::fs::metadata(FILE).ok();
        let state = state.map(|file| (file.ino(), file.mtime(), file.mtime_nsec(), file.len()));
        if state != self.read_at || state.is_none() {
            self.read_at = state;
            self.servers = read().unwrap_or_default();
        }
        self.servers.clone()
    }
}

fn read() -> std::io::Result<Vec<IpAddr>> {
    let mut bytes = Vec::new();
    File::open(FILE)?.take(RESOLV_CONF_BYTES_MAX).read_to_end(&mut bytes)?;
    let mut servers = nonnet_hooks::resolv_conf::nameservers(&String::from_utf8_lossy(&bytes));
    servers.truncate(HOST_SERVERS_MAX);
    Ok(servers)
}
