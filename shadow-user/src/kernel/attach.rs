//! Programs on interfaces: TCX where the kernel has it (6.6), else clsact.

use aya::programs::links::LinkOrder;
use aya::programs::tc::{NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use super::KernelError;
use super::error;
use super::qdisc::{Clsact, raw};

/// How programs are attached.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AttachMode {
    /// TCX where the kernel has it, else clsact.
    #[default]
    Auto,
    /// Always clsact, as kernels before 6.6 need it.
    Clsact,
}

/// Before other filters of the interface; 0 would let the kernel choose.
const CLSACT_PRIORITY: u16 = 1;

struct Attachment {
    program: &'static str,
    interface: String,
    /// Detaches on drop. With TCX it can be pinned instead, to outlive the daemon.
    _link: SchedClassifierLink,
}

/// What is attached where. On drop all is detached.
pub(super) struct Attachments {
    mode: AttachMode,
    attached: Vec<Attachment>,
    /// What was added to interfaces for it, by their names. After `attached`, which hangs on it.
    qdiscs: Vec<(String, Clsact)>,
}

impl Attachments {
    pub(super) fn new(mode: AttachMode) -> Self {
        Self { mode, attached: Vec::new(), qdiscs: Vec::new() }
    }

    pub(super) fn attach(
        &mut self,
        name: &'static str,
        program: &mut SchedClassifier,
        interface: &str,
    ) -> Result<(), KernelError> {
        let index = interface_index(interface)?;
        let failed = |source| refusal(name, interface, source);
        let tcx = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = match self.mode {
            AttachMode::Auto => {
                match program.attach_with_options(interface, TcAttachType::Ingress, tcx) {
                    Err(error) if is_unknown(&error) => {
                        self.attach_clsact(program, interface, index)
                    }
                    other => other,
                }
            }
            AttachMode::Clsact => self.attach_clsact(program, interface, index),
        }
        .map_err(failed)?;
        let link = program.take_link(id).map_err(failed)?;
        let interface = interface.to_owned();
        self.attached.push(Attachment { program: name, interface, _link: link });
        Ok(())
    }

    pub(super) fn detach(&mut self, name: &'static str) {
        let Self { attached, qdiscs, .. } = self;
        attached.retain(|attachment| attachment.program != name);
        qdiscs.retain(|(interface, _)| {
            attached.iter().any(|attachment| attachment.interface == *interface)
        });
    }

    fn attach_clsact(
        &mut self,
        program: &mut SchedClassifier,
        interface: &str,
        index: u32,
    ) -> Result<SchedClassifierLinkId, ProgramError> {
        let added = Clsact::add(interface, index)?;
        let options = NlOptions { priority: CLSACT_PRIORITY, ..NlOptions::default() };
        let options = TcAttachOptions::Netlink(options);
        let id = program.attach_with_options(interface, TcAttachType::Ingress, options)?;
        self.qdiscs.extend(added.map(|qdisc| (interface.to_owned(), qdisc)));
        Ok(id)
    }
}

/// Whether the kernel does not know this kind of link.
fn is_unknown(error: &ProgramError) -> bool {
    // E2BIG: the request has fields that the kernel does not know.
    matches!(raw(error), Some(libc::EINVAL | libc::E2BIG | libc::EOPNOTSUPP))
}

fn refusal(program: &'static str, interface: &str, source: ProgramError) -> KernelError {
    match raw(&source) {
        Some(libc::EPERM | libc::EACCES) => {
            KernelError::NotPermitted { action: format!("attach `{program}` to `{interface}`") }
        }
        Some(libc::EOPNOTSUPP) => KernelError::TooOld {
            action: format!("attach `{program}` to `{interface}` by TCX or clsact"),
            release: error::release(),
        },
        Some(libc::ENODEV) => KernelError::NoSuchInterface(interface.to_owned()),
        _ => KernelError::Attach { program, interface: interface.to_owned(), source },
    }
}

fn interface_index(interface: &str) -> Result<u32, KernelError> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .map_err(|error| KernelError::io("open a socket", error.into()))?;
    netdevice::name_to_index(&any, interface)
        .map_err(|_| KernelError::NoSuchInterface(interface.to_owned()))
}
