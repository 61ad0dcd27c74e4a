//! The kernel as the daemon drives it: commands in, inputs of the reconciler out.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nonnet_client::Address;
use nonnet_hooks::reconcile::Input;
use nonnet_hooks::want::Mark;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::command::{Command, Wake};
use crate::containers::{Containers, Driver};
use crate::fake::Fake;
use crate::files::Files;
use crate::limits::INPUTS_QUEUED_MAX;
use crate::listen::Listening;
use crate::live::{Live, Slow};
use crate::lxc::LXCPATH;
use crate::mesh::{MeshSettings, Meshes};
use crate::ovs::{OpenVswitch, Tell};
use crate::probe::Capabilities;
use crate::wireguard::Wireguards;

/// Why the kernel cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No netlink socket, epoll or thread.
    #[error("cannot talk to the kernel about networking: {0}")]
    Start(#[source] std::io::Error),
}

/// The programs that do what the kernel alone does not, and where their files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// The directory of LXC's containers.
    pub lxc_path: PathBuf,
    /// Netmaker's client.
    pub netclient: PathBuf,
    /// The time that each run of it has.
    pub netclient_deadline: Duration,
    /// The file with the tokens for it, which only root may read.
    pub token_file: PathBuf,
    /// The database of Open vSwitch, whenever it is there.
    pub ovs: Option<Address>,
    /// The file for what settings of the namespace were before they were changed; it exists only while there is something to give back.
    pub memory: Option<PathBuf>,
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            lxc_path: LXCPATH.into(),
            netclient: "netclient".into(),
            netclient_deadline: Duration::from_mins(1),
            token_file: "/etc/nonnet/netmaker.env".into(),
            ovs: None,
            memory: None,
        }
    }
}

/// The kernel. When it is dropped, its thread ends and everything stays as it is.
#[derive(Debug)]
pub struct Kernel {
    inner: Inner,
    capabilities: Capabilities,
    listening: Option<UnboundedReceiver<Listening>>,
}

/// What a kernel tells, in order.
#[derive(Debug)]
pub struct Inputs(Source);

#[derive(Debug)]
enum Inner {
    Live {
        commands: mpsc::Sender<Command>,
        wake: Wake,
    },
    Fake(Fake),
}

#[derive(Debug)]
enum Source {
    Live(tokio::sync::mpsc::Receiver<Input>),
    Fake(tokio::sync::mpsc::UnboundedReceiver<Input>),
}

impl Kernel {
    /// Starts the kernel thread in the network namespace of the calling thread. The first input is the dump of that namespace.
    ///
    /// # Errors
    /// [`KernelError`] when there are no sockets to be had; a lack of permissions is told by [`Kernel::capabilities`].
    pub fn live(mark: Mark) -> Result<(Self, Inputs), KernelError> {
        Self::live_with(mark, Programs::default())
    }

    /// As [`Kernel::live`], with other programs than the usual ones.
    ///
    /// # Errors
    /// As [`Kernel::live`].
    pub fn live_with(mark: Mark, programs: Programs) -> Result<(Self, Inputs), KernelError> {
        let capabilities = Capabilities::probe();
        let ipv6 = capabilities.ipv6;
        let wake = Wake::new().map_err(|error| KernelError::Start(error.into()))?;
        let (commands, queue) = mpsc::channel();
        let (sender, inputs) = tokio::sync::mpsc::channel(INPUTS_QUEUED_MAX);
        let driver = Driver::new(programs.lxc_path.clone(), mark.group);
        let files_below = programs.lxc_path.clone();
        let meshes = MeshSettings {
            netclient: programs.netclient,
            token_file: programs.token_file,
            deadline: programs.netclient_deadline,
            containers: programs.lxc_path,
        };
        let (ends, ended) = mpsc::channel();
        let tell = Tell {
            inputs: sender.clone(),
            ends,
            wake: wake.clone(),
        };
        let (opened, listening) = tokio::sync::mpsc::unbounded_channel();
        let slow = Containers::start(driver, sender.clone()).and_then(|containers| {
            let meshes = Meshes::start(meshes, sender.clone())?;
            let wireguards = Wireguards::start(tell.clone())?;
            let ovs = programs.ovs.map(|address| OpenVswitch::start(address, mark, tell));
            Ok(Slow {
                containers,
                meshes,
                wireguards,
                ovs: ovs.transpose()?,
                ended,
                files: Files::start(&sender, files_below, mark)?,
                listening: opened,
            })
        });
        let slow = slow.map_err(KernelError::Start)?;
        let live = Live::new(
            mark,
            ipv6,
            programs.memory.as_deref(),
            wake.clone(),
            queue,
            sender,
            slow,
        )
        .map_err(KernelError::Start)?;
        thread::Builder::new()
            .name("kernel".into())
            .spawn(move || live.run())
            .map_err(KernelError::Start)?;
        let inner = Inner::Live { commands, wake };
        let kernel = Self {
            inner,
            capabilities,
            listening: Some(listening),
        };
        Ok((kernel, Inputs(Source::Live(inputs))))
    }

    /// A kernel in memory.
    pub fn fake(fake: &Fake) -> (Self, Inputs) {
        let (sender, inputs) = tokio::sync::mpsc::unbounded_channel();
        fake.start(sender);
        let words = ["bridge", "veth", "macvlan", "vxlan", "tap"].map(Into::into).to_vec();
        let capabilities = Capabilities {
            net_admin: true,
            sys_admin: true,
            ipv6: true,
            links: words,
            filter: ["nft", "nft:persist"].map(Into::into).to_vec(),
        };
        (
            Self {
                inner: Inner::Fake(fake.clone()),
                capabilities,
                listening: None,
            },
            Inputs(Source::Fake(inputs)),
        )
    }

    /// Gives a command. It never blocks; what comes of it is among the inputs.
    pub fn send(&self, command: Command) {
        match &self.inner {
            Inner::Live { commands, wake } => {
                // The thread ends only after its inputs are no longer taken, and then nobody waits for an answer.
                if commands.send(command).is_ok() {
                    wake.wake();
                }
            }
            Inner::Fake(fake) => fake.obey(command),
        }
    }

    /// The sockets on which names are to be answered, as they are opened and closed; the first who asks gets them.
    pub fn take_listening(&mut self) -> Option<UnboundedReceiver<Listening>> {
        self.listening.take()
    }

    /// What this process may do and the kernel can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if let Inner::Live { commands, wake } = &mut self.inner {
            // The thread sees that nobody gives commands any more once it is awake.
            *commands = mpsc::channel().0;
            wake.wake();
        }
    }
}

impl Inputs {
    /// The next input; `None` once the kernel is gone.
    pub async fn recv(&mut self) -> Option<Input> {
        match &mut self.0 {
            Source::Live(inputs) => inputs.recv().await,
            Source::Fake(inputs) => inputs.recv().await,
        }
    }

    /// The next input for a thread that may block; `None` once the kernel is gone.
    pub fn blocking_recv(&mut self) -> Option<Input> {
        match &mut self.0 {
            Source::Live(inputs) => inputs.blocking_recv(),
            Source::Fake(inputs) => inputs.blocking_recv(),
        }
    }

    /// The next input if there is one now.
    pub fn try_recv(&mut self) -> Option<Input> {
        match &mut self.0 {
            Source::Live(inputs) => inputs.try_recv().ok(),
            Source::Fake(inputs) => inputs.try_recv().ok(),
        }
    }
}
