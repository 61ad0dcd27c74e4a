//! What makes names work, in memory: the `resolv.conf` of namespaces, and the addresses that are listened on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ecow::EcoString;

use super::observed;
use crate::mirror::{Change, NamespaceId, Observation};
use crate::object::{Listen, NetnsRef, ResolvConfSet};

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    files: BTreeMap<NetnsRef, EcoString>,
    listening: BTreeSet<IpAddr>,
}

impl Names {
    pub(super) fn all(&self) -> Vec<Observation> {
        let files = self.files.iter();
        let files = files.map(|(netns, text)| told(Change::ResolvConf(netns.clone(), text.clone())));
        let listening = self.listening.iter();
        files
            .chain(listening.map(|address| told(Change::Listening(*address, true))))
            .collect()
    }

    pub(super) fn listen(&mut self, listen: &Listen) -> Observation {
        if listen.on {
            self.listening.insert(listen.address);
        } else {
            self.listening.remove(&listen.address);
        }
        told(Change::Listening(listen.address, listen.on))
    }

    pub(super) fn set(&mut self, set: &ResolvConfSet) -> Observation {
        match &set.text {
            Some(text) => self.files.insert(set.netns.clone(), text.clone()),
            None => self.files.remove(&set.netns),
        };
        told(Change::ResolvConf(
            set.netns.clone(),
            set.text.clone().unwrap_or_default(),
        ))
    }
}

fn told(change: Change) -> Observation {
    observed(NamespaceId::Host, change)
}
