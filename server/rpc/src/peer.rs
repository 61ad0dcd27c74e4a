//! Asks the kernel who is at the other end of a socket, once, at accept.
//!
//! Reads `/proc`; what cannot be read stays empty. It never fails a session and never believes what the client says.

use std::fs;

use ecow::EcoString;
use nonnet_sessions::{Credentials, Peer};
use tokio::net::{TcpStream, UnixStream};

use crate::stream::Stream;

/// The peer of a unix socket accepted by the given remote; for those that [attach](crate::Attacher::attach) sessions.
pub fn identify_unix(stream: &UnixStream, remote: EcoString) -> Peer {
    let mut peer = Peer {
        remote,
        ..Peer::default()
    };
    describe_credentials(stream, &mut peer);
    peer
}

/// The peer of a connection brought by the given remote.
pub(crate) fn identify(stream: &Stream, remote: EcoString) -> Peer {
    match stream {
        Stream::Tcp(stream) => identify_tcp(stream, remote),
        Stream::Tls(stream) => Peer {
            certificate_name: stream.peer_name(),
            ..identify_tcp(stream.tcp(), remote)
        },
        Stream::Unix(stream) => identify_unix(stream, remote),
    }
}

fn identify_tcp(stream: &TcpStream, remote: EcoString) -> Peer {
    let address = stream.peer_addr().map(|address| EcoString::from(address.to_string()));
    Peer {
        remote,
        address: address.unwrap_or_default(),
        ..Peer::default()
    }
}

fn describe_credentials(stream: &UnixStream, peer: &mut Peer) {
    let Ok(found) = stream.peer_cred() else {
        return;
    };
    // A peer outside of our pid namespace has no pid; 0 is nobody's.
    let pid = found.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    peer.credentials = Some(Credentials {
        uid: found.uid(),
        gid: found.gid(),
        pid,
    });
    if pid != 0 {
        describe_process(pid, peer);
    }
}

fn describe_process(pid: u32, peer: &mut Peer) {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    peer.comm = EcoString::from(String::from_utf8_lossy(&read("comm")).trim_end());
    peer.unit = EcoString::from(unit_of(&String::from_utf8_lossy(&read("cgroup"))));
    peer.start_ticks = start_ticks_of(&String::from_utf8_lossy(&read("stat"))).unwrap_or(0);
}

/// The systemd unit in the text of `/proc/<pid>/cgroup`, or the control group's path where there is none (`cgroups(7)`).
fn unit_of(cgroup: &str) -> &str {
    let path_of = |prefix: &str| {
        cgroup.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            rest.strip_prefix(prefix)
        })
    };
    let path = path_of(":").or_else(|| path_of("name=systemd:")).unwrap_or_default();
    let is_unit = |part: &&str| matches!(part.rsplit_once('.'), Some((_, "service" | "scope")));
    path.rsplit('/').find(is_unit).unwrap_or(path.trim_start_matches('/'))
}

/// Field 22 in the text of `/proc/<pid>/stat`; the second field may itself contain spaces and parentheses (`proc(5)`).
fn start_ticks_of(stat: &str) -> Option<u64> {
    let (_, after_comm) = stat.rsplit_once(')')?;
    after_comm.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_is_the_innermost_service_or_scope() {
        assert_eq!(unit_of("0::/system.slice/nonnet.service\n"), "nonnet.service");
        assert_eq!(
            unit_of("0::/user.slice/user-1.slice/session-4.scope\n"),
            "session-4.scope"
        );
        assert_eq!(
            unit_of("5:cpu:/a\n1:name=systemd:/system.slice/ssh.service/x\n"),
            "ssh.service"
        );
        assert_eq!(unit_of("0::/lxc/one\n"), "lxc/one");
        assert_eq!(unit_of("0::/\n"), "");
        assert_eq!(unit_of(""), "");
    }

    #[test]
    fn start_is_found_behind_any_command_name() {
        let fields = (3..=30).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(start_ticks_of(&format!("7 (a) b (c) {fields}")), Some(22));
        assert_eq!(start_ticks_of("7"), None);
    }
}
