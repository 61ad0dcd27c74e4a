//! The reconciler over the kernel in memory, in time that the test gives.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

use std::collections::BTreeMap;

use ipnet::IpNet;
use nonnet_hooks::dhcp::{Lease, Progress, Request};
use nonnet_hooks::mirror::{Change, DhcpClient, NamespaceId, Observation};
use nonnet_hooks::model::Model;
use nonnet_hooks::name::LinkName;
use nonnet_hooks::object::{Bridge, BridgeSettings, Dhcp, NetnsRef, Object, Owner, Port, Route, RouteKind};
use nonnet_hooks::plan::{Outcome, Plan, Refusal};
use nonnet_hooks::reconcile::{Desired, Heal, Input, Options, Output, Reconciler};
use nonnet_hooks::report::{Event, EventKind, Report, State};
use nonnet_hooks::want::{Mark, Resolution};
use proptest::prelude::*;

/// A reconciler, a kernel, and a clock between them.
struct World {
    reconciler: Reconciler,
    model: Model,
    places: BTreeMap<NetnsRef, NamespaceId>,
    now_ms: u64,
    cfg: u64,
    reports: BTreeMap<Owner, Report>,
    events: Vec<Event>,
    leases: Vec<(Owner, Option<Lease>)>,
    progress: (u64, usize),
    /// How many of the next operations are refused.
    refusals: usize,
    runs: usize,
    steps: usize,
}

fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

fn owner(table: &str, uuid: u128) -> Owner {
    Owner {
        table: table.into(),
        uuid,
    }
}

fn bridge(text: &str) -> Desired {
    Desired::Objects(vec![Object::Bridge(Bridge {
        name: name(text),
        mac: None,
        mtu: None,
        settings: BridgeSettings::NEW,
        ipv6: false,
        adopt: false,
    })])
}

fn netns(at: u32) -> NetnsRef {
    NetnsRef::Name(format!("c{at}").into())
}

fn port(at: u32) -> Desired {
    let [high, low] = u16::try_from(at + 10).unwrap().to_be_bytes();
    Desired::Objects(vec![Object::Port(Port {
        bridge: Some(name("br0")),
        addresses: vec![format!("10.9.{high}.{low}/16").parse().unwrap()],
        defaults: vec![Route::default_via("10.9.0.1".parse().unwrap())],
        ..Port::new(name(&format!("vi{at}")), name("eth0"), netns(at))
    })])
}

fn rows(ports: u32) -> Vec<(Owner, Desired)> {
    let mut rows = vec![(owner("bridges", 1), bridge("br0"))];
    rows.extend((0..ports).map(|at| (owner("ports", at.into()), port(at))));
    rows
}

impl World {
    fn new(heal: Heal, observe_only: bool, namespaces: u32) -> Self {
        let options = Options {
            mark: Mark::of(b"world"),
            heal,
            observe_only,
            seed: 7,
        };
        let mut world = Self {
            reconciler: Reconciler::new(options),
            model: Model::new(),
            places: BTreeMap::new(),
            now_ms: 1_000,
            cfg: 0,
            reports: BTreeMap::new(),
            events: Vec::new(),
            leases: Vec::new(),
            progress: (0, 0),
            refusals: 0,
            runs: 0,
            steps: 0,
        };
        for at in 0..namespaces {
            world.appear(at);
        }
        world.feed(Input::Observed(vec![world.replaced(NamespaceId::Host)]));
        world
    }

    fn replaced(&self, id: NamespaceId) -> Observation {
        Observation {
            namespace: id,
            change: Change::Replaced(self.model.dump(id).unwrap()),
        }
    }

    fn appear(&mut self, at: u32) {
        let id = NamespaceId::Inode(100 + u64::from(at));
        self.model.add_namespace(id);
        self.places.insert(netns(at), id);
        self.resolve(&netns(at));
    }

    fn resolve(&mut self, netns: &NetnsRef) {
        let resolution = match self.places.get(netns).copied() {
            Some(id) => {
                self.feed(Input::Observed(vec![self.replaced(id)]));
                Resolution::Present(id)
            }
            None => Resolution::Absent("it does not exist".into()),
        };
        self.feed(Input::Resolved {
            netns: netns.clone(),
            resolution,
        });
    }

    fn commit(&mut self, changes: Vec<(Owner, Desired)>) {
        self.cfg += 1;
        self.feed(Input::Wanted {
            cfg: self.cfg,
            changes,
            heals: vec![],
        });
    }

    /// A commit after which rows say something else about drift, and want the same.
    fn heals(&mut self, heals: Vec<(Owner, Option<Heal>)>) {
        self.cfg += 1;
        let changes = vec![];
        self.feed(Input::Wanted {
            cfg: self.cfg,
            changes,
            heals,
        });
    }

    /// Deletes a link as somebody else would.
    fn delete(&mut self, text: &str) {
        let seen = self.model.delete_by_name(NamespaceId::Host, &name(text));
        self.feed(Input::Observed(seen));
    }

    /// Lets time pass up to the next deadline, at most this far.
    fn wait(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms = self.reconciler.deadline_ms().clamp(self.now_ms + 1, end);
            self.feed(Input::Tick);
        }
    }

    fn feed(&mut self, input: Input) {
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            for output in self.reconciler.handle(self.now_ms, inputs.remove(0)) {
                match output {
                    Output::Run { run, plan } => {
                        self.runs += 1;
                        self.steps += plan.steps.len();
                        let refusals = &mut self.refusals;
                        let (outcomes, observed) = self.model.run(&plan, None, |_| {
                            let refused = *refusals > 0;
                            *refusals = refusals.saturating_sub(1);
                            refused
                        });
                        inputs.push(Input::Ran {
                            run,
                            outcomes,
                            observed,
                        });
                    }
                    Output::Dump => {
                        let ids = self.places.values().copied().chain([NamespaceId::Host]);
                        inputs.push(Input::Observed(ids.map(|id| self.replaced(id)).collect()));
                    }
                    Output::Watch(netns) => {
                        let place = self.places.get(&netns).copied();
                        inputs.extend(place.map(|id| Input::Observed(vec![self.replaced(id)])));
                        let absent = || Resolution::Absent("it does not exist".into());
                        inputs.push(Input::Resolved {
                            netns,
                            resolution: place.map_or_else(absent, Resolution::Present),
                        });
                    }
                    Output::Unwatch(_) => {}
                    Output::Report(report) => {
                        self.reports.insert(report.owner.clone(), report);
                    }
                    Output::Progress { cur_cfg, failed } => self.progress = (cur_cfg, failed),
                    Output::Event(event) => self.events.push(event),
                    Output::Lease(port, lease) => self.leases.push((port, lease)),
                }
            }
        }
    }

    fn state(&self, owner: &Owner) -> State {
        self.reports[owner].state
    }

    fn count(&self, kind: EventKind) -> usize {
        self.events.iter().filter(|event| event.kind == kind).count()
    }
}

#[test]
fn commits_that_are_told_of_together_are_followed_together() {
    let mut world = World::new(Heal::On, false, 2);
    world.commit(rows(1));
    assert_eq!(world.progress, (1, 0));
    // The kernel's side was busy meanwhile: three commits came, of which any may have made the port.
    world.cfg += 3;
    let changes = vec![(owner("ports", 1), port(1))];
    let told = world.reconciler.handle(
        world.now_ms,
        Input::Wanted {
            cfg: world.cfg,
            changes,
            heals: vec![],
        },
    );
    let progress = told.iter().find(|output| matches!(output, Output::Progress { .. }));
    assert_eq!(progress, None, "none of them is followed before the port is there");
}

#[test]
fn commit_costs_what_it_changes() {
    let mut world = World::new(Heal::On, false, 601);
    world.commit(rows(600));
    assert_eq!(world.progress, (1, 0));
    let (runs, steps) = (world.runs, world.steps);
    world.commit(vec![(owner("ports", 600), port(600))]);
    assert_eq!((world.progress, world.runs), ((2, 0), runs + 1));
    assert!(world.steps - steps < 10, "one port, not six hundred");
}

#[test]
fn commit_without_effect_counts_as_done() {
    let mut world = World::new(Heal::On, false, 0);
    world.commit(vec![]);
    world.commit(vec![]);
    assert_eq!((world.progress, world.runs), ((2, 0), 0));
}

#[test]
fn refused_object_is_tried_again_after_longer_and_longer() {
    let mut world = World::new(Heal::On, false, 1);
    world.refusals = 5;
    world.commit(vec![(owner("bridges", 1), bridge("br0"))]);
    let mut tries = vec![];
    for ms in 0..3_000 {
        let runs = world.runs;
        world.wait(1);
        if world.runs > runs {
            tries.push(ms);
        }
    }
    assert_eq!(tries.len(), 5, "{tries:?}");
    for (pair, wait) in tries.windows(2).zip([100, 200, 400, 800]) {
        let gap = pair[1] - pair[0];
        assert!(
            gap >= wait * 3 / 4 && gap <= wait * 5 / 4 + 1,
            "{gap} is not about {wait}"
        );
    }
    assert_eq!(
        (world.state(&owner("bridges", 1)), world.progress),
        (State::Converged, (1, 0))
    );
}

#[test]
fn failed_row_counts_until_it_works_and_its_commit_is_read_back() {
    let mut world = World::new(Heal::On, false, 1);
    world.refusals = 1;
    world.commit(rows(1));
    assert_eq!(world.progress, (1, 2), "the bridge, and the port that has none");
    assert_eq!(world.state(&owner("bridges", 1)), State::Failed);
    world.wait(2_000);
    assert_eq!(world.progress, (1, 0));
}

#[test]
fn row_waits_for_its_namespace_and_is_served_when_it_appears() {
    let mut world = World::new(Heal::On, false, 0);
    world.commit(rows(1));
    assert_eq!(
        (world.state(&owner("ports", 0)), world.progress),
        (State::Waiting, (1, 1))
    );
    world.appear(0);
    assert_eq!(
        (world.state(&owner("ports", 0)), world.progress),
        (State::Converged, (1, 0))
    );
    let id = world.places.remove(&netns(0)).unwrap();
    world.resolve(&netns(0));
    let gone = world.model.remove_namespace(id);
    world.feed(Input::Observed(gone));
    assert_eq!(
        (world.state(&owner("ports", 0)), world.progress),
        (State::Waiting, (1, 1))
    );
    assert_eq!(world.count(EventKind::Drift), 0);
}

#[test]
fn drift_is_healed_reported_or_left() {
    for (heal, state, drifts, healed) in [
        (Heal::On, State::Converged, 1, 1),
        (Heal::Report, State::Drifted, 1, 0),
        (Heal::Off, State::Converged, 0, 0),
    ] {
        let mut world = World::new(heal, false, 1);
        world.commit(rows(1));
        world.delete("vi0");
        world.wait(40_000);
        let seen = (
            world.state(&owner("ports", 0)),
            world.count(EventKind::Drift),
            world.count(EventKind::Healed),
        );
        assert_eq!(seen, (state, drifts, healed), "{heal:?}");
        world.commit(vec![(owner("ports", 0), port(0))]);
        assert_eq!(world.progress, (2, 0), "a commit of the row repairs it, {heal:?}");
    }
}

#[test]
fn a_row_says_whether_it_is_healed_and_the_hosts_row_for_all_others() {
    let mut world = World::new(Heal::On, false, 2);
    world.commit(rows(2));
    world.heals(vec![
        (owner("host", 0), Some(Heal::Report)),
        (owner("ports", 1), Some(Heal::On)),
    ]);
    world.delete("vi0");
    world.delete("vi1");
    world.wait(1_000);
    let states = |world: &World| [0, 1].map(|at| world.state(&owner("ports", at)));
    assert_eq!(states(&world), [State::Drifted, State::Converged]);
    // What drifted meanwhile is taken back as soon as it may be.
    world.heals(vec![(owner("host", 0), None)]);
    world.wait(1_000);
    assert_eq!(states(&world), [State::Converged, State::Converged]);
    assert_eq!((world.count(EventKind::Drift), world.count(EventKind::Healed)), (2, 2));
}

#[test]
fn object_that_is_healed_too_often_is_contended_until_its_row_changes() {
    let mut world = World::new(Heal::On, false, 1);
    world.commit(rows(1));
    for _ in 0..6 {
        world.delete("vi0");
        world.wait(1_000);
    }
    assert_eq!(
        (world.state(&owner("ports", 0)), world.count(EventKind::Healed)),
        (State::Conflict, 5)
    );
    assert!(
        world.reports[&owner("ports", 0)]
            .error
            .as_ref()
            .unwrap()
            .starts_with("contended")
    );
    world.wait(60_000);
    assert_eq!(world.state(&owner("ports", 0)), State::Conflict);
    world.commit(vec![(owner("ports", 0), port(0))]);
    assert_eq!(world.state(&owner("ports", 0)), State::Converged);
}

/// What a reconciler says, of a bridge whose only plan was handed to something slow.
fn started() -> (Reconciler, Model, Vec<Output>, Plan) {
    let options = Options {
        mark: Mark::of(b"world"),
        heal: Heal::On,
        observe_only: false,
        seed: 7,
    };
    let (mut reconciler, model) = (Reconciler::new(options), Model::new());
    let change = Change::Replaced(model.dump(NamespaceId::Host).unwrap());
    let namespace = NamespaceId::Host;
    reconciler.handle(1, Input::Observed(vec![Observation { namespace, change }]));
    let changes = vec![(owner("bridges", 1), bridge("br0"))];
    let out = reconciler.handle(
        1,
        Input::Wanted {
            cfg: 1,
            changes,
            heals: vec![],
        },
    );
    let run = out.iter().find_map(|output| match output {
        Output::Run { run, plan } => Some((*run, plan.clone())),
        _ => None,
    });
    let (run, plan) = run.unwrap();
    let outcomes = plan.steps.iter().map(|_| Outcome::Started).collect();
    let observed = vec![];
    let out = reconciler.handle(
        2,
        Input::Ran {
            run,
            outcomes,
            observed,
        },
    );
    (reconciler, model, out, plan)
}

fn is_run(output: &Output) -> bool {
    matches!(output, Output::Run { .. })
}

fn last_state(out: &[Output]) -> Option<(State, Option<&str>)> {
    out.iter().rev().find_map(|output| match output {
        Output::Report(report) => Some((report.state, report.error.as_deref())),
        _ => None,
    })
}

#[test]
fn what_takes_long_is_pending_and_not_begun_twice_until_it_has_ended() {
    let (mut reconciler, mut model, out, plan) = started();
    assert!(!out.iter().any(is_run));
    let later = reconciler.handle(120_000, Input::Tick);
    assert!(!later.iter().any(is_run), "begun twice: {later:?}");
    let (_, observed) = model.run(&plan, None, |_| false);
    let object = plan.steps[0].object.clone();
    let outcome = Outcome::Done;
    let out = reconciler.handle(
        120_001,
        Input::Finished {
            object,
            outcome,
            observed,
        },
    );
    assert_eq!(last_state(&out), Some((State::Converged, None)));
}

#[test]
fn what_takes_long_and_fails_is_tried_again() {
    let (mut reconciler, _, _, plan) = started();
    let refusal = Refusal {
        errno: 0,
        text: "the disk is full".into(),
    };
    let failed = Input::Finished {
        object: plan.steps[0].object.clone(),
        outcome: Outcome::Failed(refusal),
        observed: vec![],
    };
    let out = reconciler.handle(3, failed);
    assert_eq!(last_state(&out), Some((State::Failed, Some("the disk is full"))));
    let again = reconciler.handle(60_000, Input::Tick);
    assert!(again.iter().any(is_run), "not tried again: {again:?}");
}

#[test]
fn what_is_changed_again_at_once_is_healed_after_a_pause() {
    let mut world = World::new(Heal::On, false, 1);
    world.commit(rows(1));
    world.delete("vi0");
    assert_eq!(world.state(&owner("ports", 0)), State::Converged);
    world.delete("vi0");
    assert_eq!(world.state(&owner("ports", 0)), State::Pending);
    world.wait(100);
    assert_eq!(world.state(&owner("ports", 0)), State::Converged);
}

#[test]
fn many_different_changes_are_healed_and_no_contest() {
    let mut world = World::new(Heal::On, false, 1);
    world.commit(rows(1));
    for round in 0..12 {
        if round % 2 == 0 {
            world.delete("vi0");
        } else {
            world.delete("br0");
        }
        world.wait(1_500);
    }
    assert_eq!(world.state(&owner("ports", 0)), State::Converged);
    assert_eq!(world.state(&owner("bridges", 1)), State::Converged);
}

#[test]
fn second_row_of_a_name_is_in_conflict_until_the_first_goes() {
    let mut world = World::new(Heal::On, false, 0);
    world.commit(vec![
        (owner("bridges", 1), bridge("br0")),
        (owner("bridges", 2), bridge("br0")),
    ]);
    assert_eq!(
        (world.state(&owner("bridges", 2)), world.progress),
        (State::Conflict, (1, 1))
    );
    world.commit(vec![(owner("bridges", 1), Desired::Gone)]);
    assert_eq!(
        (world.state(&owner("bridges", 2)), world.progress),
        (State::Converged, (2, 0))
    );
}

#[test]
fn observing_only_changes_nothing_and_says_so() {
    let mut world = World::new(Heal::On, true, 1);
    world.commit(rows(1));
    assert_eq!((world.runs, world.progress), (0, (1, 2)));
    let error = world.reports[&owner("bridges", 1)].error.clone().unwrap();
    assert_eq!(
        error,
        "not applied, since the server only observes: add link br0 type bridge"
    );
}

#[test]
fn row_that_cannot_be_compiled_says_why() {
    let mut world = World::new(Heal::On, false, 0);
    world.commit(vec![(owner("ports", 1), Desired::Invalid("no such thing".into()))]);
    assert_eq!(
        (world.state(&owner("ports", 1)), world.progress),
        (State::Failed, (1, 1))
    );
    world.commit(vec![(owner("ports", 1), Desired::Gone)]);
    assert_eq!(world.progress, (2, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_ends_as_wanted(steps in proptest::collection::vec((0_u8..7, 0_u32..4, 0_usize..6), 1..30)) {
        let mut world = World::new(Heal::On, false, 2);
        world.commit(rows(2));
        for (what, at, refusals) in steps {
            match what {
                0 => world.commit(vec![(owner("ports", at.into()), port(at))]),
                1 => world.commit(vec![(owner("ports", at.into()), Desired::Gone)]),
                2 => world.delete(&format!("vi{at}")),
                3 if !world.places.contains_key(&netns(at)) => world.appear(at),
                4 => {
                    if let Some(id) = world.places.remove(&netns(at)) {
                        world.resolve(&netns(at));
                        let gone = world.model.remove_namespace(id);
                        world.feed(Input::Observed(gone));
                    }
                }
                5 => world.refusals = refusals,
                _ => world.wait(15_000),
            }
            world.wait(3_000);
        }
        world.refusals = 0;
        for at in 0..4 {
            if !world.places.contains_key(&netns(at)) {
                world.appear(at);
            }
        }
        world.commit(rows(4));
        world.wait(70_000);
        prop_assert_eq!(world.progress, (world.cfg, 0));
        prop_assert!(world.reconciler.preview().is_empty(), "{}", world.reconciler.preview());
        world.commit((0..4).map(|at| (owner("ports", at), Desired::Gone)).collect());
        world.wait(70_000);
        prop_assert_eq!(world.progress, (world.cfg, 0));
        prop_assert_eq!(world.model.dump(NamespaceId::Host).unwrap().links.len(), 2);
    }
}

fn with_default(at: u32, ifname: &str, rank: u32) -> Desired {
    let Desired::Objects(mut objects) = port(at) else {
        panic!()
    };
    let Object::Port(port) = &mut objects[0] else { panic!() };
    (port.ifname, port.rank, port.netns) = (name(ifname), rank, netns(0));
    let gateway = if at == 0 { "10.9.0.1" } else { "10.9.0.2" };
    port.defaults = vec![Route::default_via(gateway.parse().unwrap())];
    Desired::Objects(objects)
}

impl World {
    /// The default routes in the first namespace.
    fn defaults(&self) -> Vec<String> {
        let all = self.model.dump(NamespaceId::Inode(100)).unwrap().routes;
        all.iter()
            .map(|route| route.route.to_string())
            .filter(|route| route.starts_with("default"))
            .collect()
    }
}

#[test]
fn ports_of_a_namespace_share_one_default_route_by_rank_and_name() {
    let mut world = World::new(Heal::On, false, 1);
    world.commit(vec![
        (owner("bridges", 1), bridge("br0")),
        (owner("ports", 0), with_default(0, "eth0", 100)),
        (owner("ports", 1), with_default(1, "eth1", 100)),
    ]);
    assert_eq!(world.defaults(), ["default via 10.9.0.1"]);
    world.commit(vec![(owner("ports", 1), with_default(1, "eth1", 7))]);
    assert_eq!(world.defaults(), ["default via 10.9.0.2"]);
    world.commit(vec![(owner("ports", 1), Desired::Gone)]);
    assert_eq!(world.defaults(), ["default via 10.9.0.1"]);
    assert!(
        world.events.iter().all(|event| event.kind == EventKind::Applied),
        "{:?}",
        world.events
    );
    assert_eq!(world.progress.1, 0);
}

#[test]
fn routes_that_go_with_no_link_go_with_their_last_port() {
    let mut world = World::new(Heal::On, false, 1);
    let mut hole = Route::to("10.66.0.0/16".parse().unwrap(), None);
    hole.kind = RouteKind::Blackhole;
    let Desired::Objects(mut objects) = port(0) else {
        panic!()
    };
    let Object::Port(port) = &mut objects[0] else { panic!() };
    port.routes = vec![hole.clone()];
    world.commit(vec![
        (owner("bridges", 1), bridge("br0")),
        (owner("ports", 0), Desired::Objects(objects)),
    ]);
    let routes = |world: &World| world.model.dump(NamespaceId::Inode(100)).unwrap().routes;
    assert!(routes(&world).iter().any(|route| route.route == hole));
    world.commit(vec![(owner("ports", 0), Desired::Gone)]);
    assert_eq!(routes(&world), []);
}

fn client(lease: Option<Lease>) -> Object {
    Object::Dhcp(Dhcp {
        port: name("vi0"),
        netns: netns(0),
        ifname: name("eth0"),
        request: Request::default(),
        lease,
    })
}

#[test]
fn dhcp_client_runs_while_it_is_wanted_and_its_lease_is_asked_into_the_row() {
    let mut world = World::new(Heal::On, false, 1);
    let with = |lease: Option<Lease>| {
        let Desired::Objects(mut objects) = port(0) else {
            panic!()
        };
        let Object::Port(port) = &mut objects[0] else { panic!() };
        port.addresses = lease.iter().map(|lease| IpNet::V4(lease.address)).collect();
        port.defaults.clear();
        objects.push(client(lease));
        Desired::Objects(objects)
    };
    world.commit(vec![
        (owner("bridges", 1), bridge("br0")),
        (owner("ports", 0), with(None)),
    ]);
    assert_eq!(world.reports[&owner("ports", 0)].state, State::Pending);
    let asking = world.reconciler.mirror().dhcp(&name("vi0")).unwrap().clone();
    let lease = Lease {
        address: "10.9.0.50/16".parse().unwrap(),
        server: "10.9.0.1".parse().unwrap(),
        expires: Some(1_000),
        routers: vec![],
        routes: vec![],
        dns: vec![],
        domain: None,
        mtu: None,
    };
    let bound = |lease: Lease| DhcpClient {
        progress: Progress::Bound(lease),
        ..asking.clone()
    };
    let told = |client: DhcpClient| {
        Input::Observed(vec![Observation {
            namespace: client.namespace,
            change: Change::Dhcp(name("vi0"), Some(client)),
        }])
    };
    world.feed(told(bound(lease.clone())));
    assert_eq!(world.leases, [(owner("ports", 0), Some(lease.clone()))]);
    world.commit(vec![(owner("ports", 0), with(Some(lease.clone())))]);
    assert_eq!(world.reports[&owner("ports", 0)].state, State::Converged);
    assert_eq!(
        world.reports[&owner("ports", 0)].facts.addresses,
        ["10.9.0.50/16".parse().unwrap()]
    );

    let renewed = Lease {
        expires: Some(2_000),
        ..lease.clone()
    };
    world.feed(told(bound(renewed.clone())));
    assert_eq!(world.leases.last(), Some(&(owner("ports", 0), Some(renewed))));
    assert_eq!(world.reports[&owner("ports", 0)].state, State::Converged);

    let without = DhcpClient {
        progress: Progress::Without("the lease ended".into()),
        ..asking.clone()
    };
    world.feed(told(without));
    assert_eq!(world.leases.last(), Some(&(owner("ports", 0), None)));
    world.commit(vec![(owner("ports", 0), with(None))]);
    let report = &world.reports[&owner("ports", 0)];
    assert_eq!(
        (report.state, report.error.as_deref()),
        (State::Waiting, Some("the lease ended"))
    );
    world.commit(vec![(owner("ports", 0), Desired::Gone)]);
    assert_eq!(world.reconciler.mirror().dhcp(&name("vi0")), None);
}
