//! The reconciler and the kernel in memory: each single operation refused once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

use nonnet_hooks::name::LinkName;
use nonnet_hooks::object::{Bridge, BridgeSettings, NetnsRef, Object, Owner, Port};
use nonnet_hooks::reconcile::{Desired, Heal, Input, Options, Output, Reconciler};
use nonnet_hooks::want::Mark;
use nonnet_kernel::{Command, Fake, Inputs, Kernel};

/// Feeds the reconciler until there is nothing more to do, in time that jumps from deadline to deadline. Gives the progress.
fn settle(reconciler: &mut Reconciler, kernel: &Kernel, inputs: &mut Inputs, first: Input) -> (u64, usize) {
    let (mut now_ms, mut progress) = (0, (0, 0));
    let mut next = Some(first);
    while now_ms < 20_000 {
        let input = next.take().or_else(|| inputs.try_recv()).unwrap_or_else(|| {
            now_ms = reconciler.deadline_ms().max(now_ms + 1);
            Input::Tick
        });
        for output in reconciler.handle(now_ms, input) {
            match Command::from_output(output) {
                Ok(command) => kernel.send(command),
                Err(Output::Progress { cur_cfg, failed }) => progress = (cur_cfg, failed),
                Err(_) => {}
            }
        }
    }
    progress
}

fn rows() -> Vec<(Owner, Desired)> {
    let name = |text: &str| LinkName::new(text).unwrap();
    let bridge = Bridge {
        name: name("br0"),
        mac: None,
        mtu: None,
        settings: BridgeSettings::NEW,
        ipv6: false,
        adopt: false,
    };
    let veth = Port {
        bridge: Some(name("br0")),
        addresses: vec!["10.0.0.2/24".parse().unwrap()],
        sysctls: [("ipv4/conf/eth0/rp_filter".into(), "1".into())].into(),
        ..Port::new(name("vi1"), name("eth0"), NetnsRef::Name("c1".into()))
    };
    let row = |table: &str, object| {
        (
            Owner {
                table: table.into(),
                uuid: 1,
            },
            Desired::Objects(vec![object]),
        )
    };
    vec![row("bridges", Object::Bridge(bridge)), row("ports", Object::Port(veth))]
}

#[test]
fn whichever_operation_is_refused_once_it_works_in_the_end() {
    let mut operation = 0;
    loop {
        let fake = Fake::new();
        fake.add_namespace(&NetnsRef::Name("c1".into()));
        fake.add_foreign("uplink", "");
        fake.fail(operation);
        let (kernel, mut inputs) = Kernel::fake(&fake);
        let options = Options {
            mark: Mark::of(b"fake"),
            heal: Heal::On,
            observe_only: false,
            seed: operation,
        };
        let mut reconciler = Reconciler::new(options);
        let first = Input::Wanted {
            cfg: 1,
            changes: rows(),
            heals: vec![],
        };
        assert_eq!(
            settle(&mut reconciler, &kernel, &mut inputs, first),
            (1, 0),
            "operation {operation} refused"
        );
        assert!(reconciler.preview().is_empty());
        if fake.operations() <= operation {
            break;
        }
        operation += 1;
    }
    assert!(operation > 8);
}
