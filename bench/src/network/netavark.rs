//! netavark, as podman starts it: a process for each container that comes or goes, one published port each.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::side::{Side, container, container_path, ended_processes, host_port, succeed};

/// Where Debian's package has it.
const PROGRAM: &str = "/usr/lib/podman/netavark";

/// The side.
pub(super) struct Netavark {
    program: PathBuf,
}

impl Netavark {
    pub(super) fn start() -> Result<Self> {
        let program = Path::new(PROGRAM).to_owned();
        ensure!(
            program.is_file(),
            "{PROGRAM} is not there: bench/run installs the packages that the bench needs, or leave it out with `--skip containers`"
        );
        Ok(Self { program })
    }

    fn call(&self, verb: &str, number: usize) -> Result<()> {
        let options = options(number).to_string();
        succeed(&self.program, &[verb, &container_path(number)], &[], &options).map(drop)
    }
}

impl Side for Netavark {
    fn attach(&mut self, mut containers: Range<usize>) -> Result<()> {
        containers.try_for_each(|number| self.call("setup", number))
    }

    fn detach(&mut self, mut containers: Range<usize>) -> Result<()> {
        containers.try_for_each(|number| self.call("teardown", number))
    }

    fn cpu(&self) -> Result<Duration> {
        ended_processes()
    }
}

fn options(number: usize) -> Value {
    let (high, low) = ((number + 2) / 256, (number + 2) % 256);
    json!({
        "container_id": format!("{number:012x}"),
        "container_name": container(number),
        "port_mappings": [{"container_port": 80, "host_ip": "", "host_port": host_port(number), "protocol": "tcp", "range": 1}],
        "networks": {"bench": {"interface_name": "eth0", "static_ips": [format!("10.88.{high}.{low}")]}},
        "network_info": {"bench": {
            "name": "bench", "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9", "driver": "bridge",
            "network_interface": "na0", "created": "2022-01-01T00:00:00Z",
            "subnets": [{"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"}],
            "ipv6_enabled": false, "internal": false, "dns_enabled": false, "ipam_options": {"driver": "host-local"},
        }},
    })
}
