//! Does what is not done by a message: settings, DHCP clients, sockets on which names are answered.

use std::io;

use nonnet_hooks::mirror::{Change, NamespaceId, Observation};
use nonnet_hooks::object::wireguard::WireguardOperation;
use nonnet_hooks::object::{Listen, Spec};
use nonnet_hooks::plan::{DhcpStart, LinkChange, NewLink, Operation, Outcome, Plan, Refusal};

use super::{Runner, of_io};
use crate::listen::Listening;
use crate::netns::Netns;
use crate::spaces::Space;
use crate::wire::refusal;

impl Runner<'_> {
    /// Does what is not done by a message.
    pub(super) fn direct(&mut self, plan: &Plan, at: usize, operation: &Operation) {
        let done = match operation {
            Operation::Borrow(borrow) => return self.borrow(at, borrow),
            Operation::LinkAdd {
                link,
                group,
                new:
                    NewLink::Single {
                        spec: Spec::Tap(tap),
                        mac,
                        mtu,
                        ..
                    },
            } => {
                let set = LinkChange {
                    group: Some(*group),
                    mac: *mac,
                    mtu: *mtu,
                    ..LinkChange::default()
                };
                self.add_tap(link, tap, &set)
            }
            Operation::Sysctl {
                namespace, path, value, ..
            } => self.sysctl(*namespace, path, value),
            Operation::Offload { link, on, .. } => self.offload(link, *on),
            Operation::DhcpStart(start) => self.start_dhcp(start),
            Operation::Wireguard(WireguardOperation::Forget { port }) => {
                self.told.push(Observation {
                    namespace: NamespaceId::Host,
                    change: Change::Wireguard(port.clone(), None),
                });
                Ok(())
            }
            Operation::DhcpStop { port } => {
                self.told.extend(self.dhcp.remove(port));
                Ok(())
            }
            Operation::AddressesMove(all) => self.move_addresses(all),
            Operation::Flood(set) => self.cut_off(&set.link, set.end),
            Operation::Listen(listen) => self.listen(listen),
            Operation::Traffic(set) => self.traffic(set),
            Operation::ResolvConf(set) => {
                if let Some(step) = plan.steps.get(at) {
                    self.files.push((step.object.clone(), set.clone()));
                }
                return self.settle(at, Outcome::Started);
            }
            _ => return,
        };
        self.settle(at, done.map_or_else(Outcome::Failed, |()| Outcome::Done));
    }

    fn listen(&mut self, listen: &Listen) -> Result<(), Refusal> {
        let changed = if listen.on {
            crate::listen::open(listen.address)
        } else {
            Ok(Listening::Close(listen.address))
        };
        self.listening.push(changed.map_err(|error| of_io(&error))?);
        Ok(())
    }

    fn sysctl(&mut self, namespace: NamespaceId, path: &str, value: &str) -> Result<(), Refusal> {
        let (Some(space), Some(home)) = (self.spaces.get(namespace), self.spaces.home()) else {
            return Err(refusal(libc::ENOENT));
        };
        let (now, before) = write_sysctl(space, &home.netns, path, value).map_err(|error| of_io(&error))?;
        // What a link of the host said by itself nobody knows.
        let before =
            before.or_else(|| of_new_links(space, &home.netns, path).filter(|_| namespace != NamespaceId::Host));
        self.told
            .extend(before.filter(|before| *before != now).map(|before| Observation {
                namespace,
                change: Change::SysctlBefore(path.into(), before.into()),
            }));
        self.sysctls.push((namespace, path.to_owned(), now));
        Ok(())
    }

    fn start_dhcp(&mut self, start: &DhcpStart) -> Result<(), Refusal> {
        let index = self.index(&start.link)?;
        let (Some(space), Some(home)) = (self.spaces.get(start.link.namespace), self.spaces.home()) else {
            return Err(refusal(libc::ENOENT));
        };
        let started = self.dhcp.add(start, index, &space.netns, &home.netns);
        self.told.push(started.map_err(|error| of_io(&error))?);
        Ok(())
    }
}

/// What a setting of a link says in links that are new in the namespace.
fn of_new_links(space: &Space, home: &Netns, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    let [_, "conf" | "neigh", link, _] = parts.as_mut_slice() else {
        return None;
    };
    if matches!(*link, "all" | "default") {
        return None;
    }
    *link = "default";
    let file = format!("/proc/sys/net/{}", parts.join("/"));
    let read = || Ok(std::fs::read_to_string(&file)?.trim().to_owned());
    space.netns.within(home, read).ok()
}

/// Writes a setting unless it says so already, and reads it back. Gives what it says now, and before if that was something else. `/proc/sys/net` shows the namespace of the thread that opens it.
fn write_sysctl(space: &Space, home: &Netns, path: &str, value: &str) -> io::Result<(String, Option<String>)> {
    if path
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let file = format!("/proc/sys/net/{path}");
    space.netns.within(home, || {
        let now = std::fs::read_to_string(&file)?;
        if now.trim() == value {
            return Ok((value.to_owned(), None));
        }
        std::fs::write(&file, value)?;
        let before = Some(now.trim().to_owned());
        Ok((std::fs::read_to_string(&file)?.trim().to_owned(), before))
    })
}
