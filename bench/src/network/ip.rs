//! `ip -batch` (iproute2): one batch on the host, and one in each container, since a batch stays in its namespace.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use nonnet_tests::program;

use super::side::{Side, container, ended_processes, succeed};

/// The group by which `ip` deletes many links in one message.
const GROUP: u32 = 77;

/// The side.
pub(super) struct Ip {
    program: PathBuf,
    /// The container that stays carries no group, so that it stays.
    begun: bool,
}

impl Ip {
    pub(super) fn start() -> Result<Self> {
        let ip = Self {
            program: program::system("ip")?,
            begun: false,
        };
        let network = "link add ip0 type bridge\naddress add 10.87.0.1/16 dev ip0\nlink set ip0 up\n";
        ip.batch(&[], network)?;
        Ok(ip)
    }

    fn batch(&self, before: &[&str], lines: &str) -> Result<()> {
        succeed(&self.program, &[before, &["-batch", "-"]].concat(), &[], lines).map(drop)
    }
}

impl Side for Ip {
    fn attach(&mut self, containers: Range<usize>) -> Result<()> {
        let group = if self.begun { GROUP } else { 0 };
        self.begun = true;
        let mut host = String::new();
        for number in containers.clone() {
            let name = container(number);
            let _ = writeln!(
                host,
                "link add vip{number} group {group} type veth peer name eth0 netns {name}"
            );
            let _ = writeln!(host, "link set vip{number} master ip0 up");
        }
        self.batch(&[], &host)?;
        for number in containers {
            let (high, low) = ((number + 2) / 256, (number + 2) % 256);
            let inside = format!(
                "link set lo up\nlink set eth0 up\naddress add 10.87.{high}.{low}/16 dev eth0\nroute add default via 10.87.0.1\n"
            );
            self.batch(&["-n", &container(number)], &inside)?;
        }
        Ok(())
    }

    fn detach(&mut self, _all: Range<usize>) -> Result<()> {
        self.batch(&[], &format!("link delete group {GROUP}\n"))
    }

    fn cpu(&self) -> Result<Duration> {
        ended_processes()
    }
}
