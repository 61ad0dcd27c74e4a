//! Random wanted containers against those in memory: what is wanted comes about, and what is somebody else's stays.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

use std::collections::{BTreeMap, BTreeSet};

use nonnet_hooks::diff;
use nonnet_hooks::mirror::{Change, ContainerChange, ContainerState, Mirror, NamespaceId, Observation, Stage};
use nonnet_hooks::model::Model;
use nonnet_hooks::object::container::{Container, Mesh, Restart, Source};
use nonnet_hooks::object::{NetnsRef, Object, ObjectKey, Owner, Wanted};
use nonnet_hooks::want::{Mark, Resolution, Want};
use proptest::prelude::*;

/// Passes within which everything comes about: leave, destroy, create, start, and one that finds nothing to do.
const PASSES_MAX: usize = 8;

const INSIDE: NamespaceId = NamespaceId::Inode(11);

fn netns(at: usize) -> NetnsRef {
    NetnsRef::Lxc {
        id: at.to_string().into(),
    }
}

prop_compose! {
    fn container(at: usize)(
        present in 0_u8..4, row in 0_u128..2, made: bool, running: bool, memory in 4_u32..6, firstboot: bool, mesh: bool,
    ) -> Vec<Wanted> {
        let owner = Owner { table: "lxc".into(), uuid: (at as u128) << 8 | row };
        let container = Container {
            id: at.to_string().into(),
            source: made.then(|| Source::Template("busybox".into())),
            creation: BTreeMap::new(),
            settings: BTreeMap::from([("memory".into(), memory.to_string().into())]),
            firstboot: firstboot.then(|| "/first".into()),
            running,
            restart: Restart::Always,
        };
        let membership = Mesh { id: at.to_string().into(), netns: netns(at), token: "NETMAKER_TOKEN".into(), link: None, rests: !running };
        let mut wanted = vec![Wanted { owner: owner.clone(), object: Object::Container(Box::new(container)) }];
        wanted.extend(mesh.then(|| Wanted { owner, object: Object::Mesh(membership) }));
        if present == 0 { Vec::new() } else { wanted }
    }
}

fn state() -> impl Strategy<Value = Vec<Wanted>> {
    (container(0), container(1), container(2)).prop_map(|(a, b, c)| [a, b, c].concat())
}

fn want(objects: &[Wanted]) -> Want {
    let mut want = Want::new(Mark::of(b"test"));
    for object in objects {
        want.insert(object.clone());
    }
    for at in 0..3 {
        want.resolve(netns(at), Resolution::Present(INSIDE));
    }
    want
}

fn mirror(model: &Model) -> Mirror {
    let mut mirror = Mirror::default();
    for observation in model.containers() {
        mirror.apply(observation);
    }
    for id in [INSIDE, NamespaceId::Host] {
        mirror.apply(Observation {
            namespace: id,
            change: Change::Replaced(model.dump(id).unwrap()),
        });
    }
    mirror
}

fn plan(want: &Want, model: &Model) -> nonnet_hooks::plan::Plan {
    let mirror = mirror(model);
    let keys: BTreeSet<ObjectKey> = want.keys().cloned().chain(diff::collectable(want, &mirror)).collect();
    diff::plan(want, &mirror, &keys).plan
}

fn converge(want: &Want, model: &mut Model) {
    for _ in 0..PASSES_MAX {
        let plan = plan(want, model);
        if plan.is_empty() {
            return;
        }
        let (outcomes, _) = model.run(&plan, None, |_| false);
        assert!(
            outcomes
                .iter()
                .all(|outcome| *outcome == nonnet_hooks::plan::Outcome::Done),
            "{plan}{outcomes:?}"
        );
    }
    panic!("there is always something left to do: {}", plan(want, model));
}

fn all(model: &Model) -> BTreeMap<String, ContainerState> {
    let there = model
        .containers()
        .into_iter()
        .find_map(|observation| match observation.change {
            Change::Container(ContainerChange::Replaced(all)) => Some(all),
            _ => None,
        });
    there
        .unwrap()
        .into_iter()
        .map(|state| (state.id.to_string(), state))
        .collect()
}

proptest! {
    #[test]
    fn what_is_wanted_comes_about_and_the_rest_is_as_it_was(states in proptest::collection::vec(state(), 1..5), ended in 0_usize..3) {
        let mut model = Model::new();
        model.add_namespace(INSIDE);
        // Container 2 and another one are somebody else's.
        model.add_foreign_container("2");
        model.add_foreign_container("other");
        for objects in &states {
            let want = want(objects);
            converge(&want, &mut model);
            let there = all(&model);
            prop_assert!(there["other"].ours.is_none());
            prop_assert!(there.contains_key("2"), "what somebody else made was destroyed");
            prop_assert!(there["2"].ours.is_none_or(|ours| ours.stage == Stage::Adopted));
            let memberships = model.containers().len() - 1;
            let mut joined = 0;
            for wanted in objects {
                match &wanted.object {
                    Object::Container(container) => {
                        let state = there.get(container.id.as_str());
                        prop_assert!(container.source.is_none() || state.is_some());
                        if let Some(state) = state {
                            prop_assert_eq!(state.running, container.running);
                            prop_assert_eq!(state.ours.unwrap().uuid, wanted.owner.uuid);
                        }
                    }
                    Object::Mesh(mesh) => joined += usize::from(!mesh.rests),
                    _ => {}
                }
            }
            // One that rests keeps what it had.
            prop_assert!(memberships >= joined && memberships <= objects.len());
            let ours = there.values().filter(|state| state.ours.is_some()).count();
            let wanted = objects.iter().filter(|wanted| matches!(wanted.object, Object::Container(_))).count();
            prop_assert!(ours <= wanted);
            // A container that ends by itself comes back, once it has rested.
            model.end_container(&ended.to_string());
            converge(&want, &mut model);
            prop_assert!(plan(&want, &model).is_empty());
        }
    }
}
