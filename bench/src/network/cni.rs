//! The CNI plugins bridge, portmap and firewall, as a container engine chains them: a process each, for each container that comes or goes.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::side::{Side, container, container_path, ended_processes, host_port, succeed};

/// Where Debian's package has them.
const PLUGINS: &str = "/usr/lib/cni";

/// The plugins in the order of the chain.
const CHAIN: [&str; 3] = ["bridge", "portmap", "firewall"];

/// The side.
pub(super) struct Cni {
    /// Where the plugin that gives addresses notes which are taken.
    leases: PathBuf,
    /// What the chain gave for each container.
    results: Vec<(usize, Value)>,
}

impl Cni {
    pub(super) fn start(directory: &Path) -> Result<Self> {
        for plugin in CHAIN {
            ensure!(
                Path::new(PLUGINS).join(plugin).is_file(),
                "{PLUGINS}/{plugin} is not there: bench/run installs the packages that the bench needs, or leave it out with \
                 `--skip containers`"
            );
        }
        Ok(Self {
            leases: directory.join("cni"),
            results: Vec::new(),
        })
    }

    fn call(&self, command: &str, plugin: &str, number: usize, before: Option<&Value>) -> Result<String> {
        let mut config = json!({"cniVersion": "0.4.0", "name": "bench", "type": plugin});
        match plugin {
            "bridge" => {
                config["bridge"] = json!("cni0");
                config["isGateway"] = json!(true);
                config["ipMasq"] = json!(true);
                config["ipam"] = json!({"type": "host-local", "subnet": "10.89.0.0/16", "dataDir": self.leases,
                    "routes": [{"dst": "0.0.0.0/0"}]});
            }
            "portmap" => {
                config["capabilities"] = json!({"portMappings": true});
                let published = json!({"hostPort": host_port(number), "containerPort": 80, "protocol": "tcp"});
                config["runtimeConfig"] = json!({"portMappings": [published]});
            }
            _ => {}
        }
        if let Some(before) = before {
            config["prevResult"] = before.clone();
        }
        let (id, netns) = (container(number), container_path(number));
        let environment = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", &id),
            ("CNI_NETNS", &netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", PLUGINS),
        ];
        succeed(&Path::new(PLUGINS).join(plugin), &[], &environment, &config.to_string())
    }
}

impl Side for Cni {
    fn attach(&mut self, containers: Range<usize>) -> Result<()> {
        for number in containers {
            let mut result = None;
            for plugin in CHAIN {
                let said = self.call("ADD", plugin, number, result.as_ref())?;
                result = Some(serde_json::from_str(&said).with_context(|| format!("{plugin} said {said}"))?);
            }
            self.results.extend(result.map(|result| (number, result)));
        }
        Ok(())
    }

    fn detach(&mut self, containers: Range<usize>) -> Result<()> {
        for number in containers {
            let at = self.results.iter().position(|(of, _)| *of == number);
            let (_, result) = self.results.swap_remove(at.context("it was never attached")?);
            for plugin in CHAIN.iter().rev() {
                self.call("DEL", plugin, number, Some(&result))?;
            }
        }
        Ok(())
    }

    fn cpu(&self) -> Result<Duration> {
        ended_processes()
    }
}
