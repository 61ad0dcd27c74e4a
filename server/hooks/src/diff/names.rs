//! The comparison of what makes names work: addresses to answer on, and the `resolv.conf` of namespaces.

use std::collections::BTreeSet;

use ecow::eco_format;

use super::{For, Planner, Verdict};
use crate::mirror::Mirror;
use crate::object::{Listen, NameServer, NetnsRef, ObjectKey, Owner, ResolvConf, ResolvConfSet};
use crate::plan::{Operation, Phase};
use crate::resolv_conf;
use crate::want::{Resolution, Want};

/// The keys of what answers or was written for names and is not wanted.
pub(super) fn collectable(want: &Want, have: &Mirror) -> BTreeSet<ObjectKey> {
    let files = have
        .resolv_confs()
        .filter_map(|(netns, _)| stray_file(want, have, netns));
    let mut keys: BTreeSet<ObjectKey> = files.collect();
    if !have.listening().is_subset(&want.listening()) {
        keys.insert(ObjectKey::NameServer { owner: Owner::first() });
    }
    keys
}

/// The key of a text of ours that nobody wants in the `resolv.conf` of a namespace.
pub(crate) fn stray_file(want: &Want, have: &Mirror, netns: &NetnsRef) -> Option<ObjectKey> {
    let owner = resolv_conf::owner_of(have.resolv_conf(netns)?, want.mark())?;
    let is_wanted = want.resolv_confs(netns).next().is_some() || want.may_want_file(netns, &owner);
    (!is_wanted).then(|| ObjectKey::ResolvConf {
        netns: netns.clone(),
        owner,
    })
}

impl Planner<'_> {
    pub(super) fn name_server(&mut self, of: For<'_>, server: &NameServer) {
        let have = self.have.listening();
        for address in server.addresses.difference(have).copied() {
            let begin = Listen { address, on: true };
            self.step(of, Phase::Address, &[], Operation::Listen(begin));
        }
        self.listen(of);
    }

    /// Ends to answer where nobody wants it.
    pub(super) fn listen(&mut self, of: For<'_>) {
        let wanted = self.want.listening();
        for address in self.have.listening().difference(&wanted).copied() {
            let end = Listen { address, on: false };
            self.step(of, Phase::Withdraw, &[], Operation::Listen(end));
        }
    }

    pub(super) fn resolv_conf(&mut self, of: For<'_>, wish: &ResolvConf) -> Result<(), Verdict> {
        match self.want.resolution(&wish.netns) {
            Resolution::Present(_) => {}
            Resolution::Unknown => return Err(Verdict::Unread(eco_format!("{} is being looked for", wish.netns))),
            Resolution::Absent(reason) => return Err(Verdict::Waiting(reason)),
        }
        self.write(of, &wish.netns);
        Ok(())
    }

    /// Nobody wants this any more; what is left of others' wishes stays.
    pub(super) fn give_back_file(&mut self, of: For<'_>, netns: &NetnsRef) {
        if self.want.resolv_confs(netns).next().is_some() {
            self.write(of, netns);
            return;
        }
        if let Some(text) = self.have.resolv_conf(netns).filter(|text| !text.is_empty()) {
            let back = ResolvConfSet {
                netns: netns.clone(),
                text: None,
                was: Some(text.clone()),
            };
            self.step(of, Phase::Withdraw, &[], Operation::ResolvConf(back));
        }
    }

    fn write(&mut self, of: For<'_>, netns: &NetnsRef) {
        let wishes: Vec<_> = self.want.resolv_confs(netns).collect();
        let text = resolv_conf::text(self.want.mark(), &wishes, self.have.nameservers());
        let was = self.have.resolv_conf(netns);
        if was != Some(&text) {
            let set = ResolvConfSet {
                netns: netns.clone(),
                text: Some(text),
                was: was.cloned(),
            };
            self.step(of, Phase::Route, &[], Operation::ResolvConf(set));
        }
    }
}
