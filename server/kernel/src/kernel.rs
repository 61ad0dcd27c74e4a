//! The kernel as the daemon drives it: commands in, inputs of the reconciler out.

use std::sync::mpsc;
use std::thread;

use nonnet_hooks::reconcile::Input;
use nonnet_hooks::want::Mark;

use crate::command::{Command, Wake};
use crate::fake::Fake;
use crate::limits::INPUTS_QUEUED_MAX;
use crate::live::Live;
use crate::probe::Capabilities;

/// Why the kernel cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No netlink socket, epoll or thread.
    #[error("cannot talk to the kernel about networking: {0}")]
    Start(#[source] std::io::Error),
}

/// The kernel. When it is dropped, its thread ends and everything stays as it is.
#[derive(Debug)]
pub struct Kernel {
    inner: Inner,
    capabilities: Capabilities,
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
        let capabilities = Capabilities::probe();
        let ipv6 = capabilities.ipv6;
        let wake = Wake::new().map_err(|error| KernelError::Start(error.into()))?;
        let (commands, queue) = mpsc::channel();
        let (sender, inputs) = tokio::sync::mpsc::channel(INPUTS_QUEUED_MAX);
        let live = Live::new(mark, ipv6, wake.clone(), queue, sender).map_err(KernelError::Start)?;
        thread::Builder::new()
            .name("kernel".into())
            .spawn(move || live.run())
            .map_err(KernelError::Start)?;
        let inner = Inner::Live { commands, wake };
        Ok((Self { inner, capabilities }, Inputs(Source::Live(inputs))))
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
        };
        (
            Self {
                inner: Inner::Fake(fake.clone()),
                capabilities,
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
