//! Programs on interfaces: TCX where the kernel has it (6.6), else clsact.

use std::io;

use aya::programs::links::LinkOrder;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, qdisc_add_clsact,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use super::KernelError;
use super::error;

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
    /// Detaches on drop. With TCX it can be pinned instead, to outlive the daemon.
    _link: SchedClassifierLink,
}

/// What is attached where. On drop all is detached.
pub(super) struct Attachments {
    mode: AttachMode,
    attached: Vec<Attachment>,
}

impl Attachments {
    pub(super) fn new(mode: AttachMode) -> Self {
        Self { mode, attached: Vec::new() }
    }

    pub(super) fn attach(
        &mut self,
        name: &'static str,
        program: &mut SchedClassifier,
        interface: &str,
    ) -> Result<(), KernelError> {
        check_interface(interface)?;
        let failed = |source| refusal(name, interface, source);
        let tcx = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = match self.mode {
            AttachMode::Auto => {
                match program.attach_with_options(interface, TcAttachType::Ingress, tcx) {
                    Err(error) if is_unknown(&error) => attach_clsact(program, interface),
                    other => other,
                }
            }
            AttachMode::Clsact => attach_clsact(program, interface),
        }
        .map_err(failed)?;
        let link = program.take_link(id).map_err(failed)?;
        self.attached.push(Attachment { program: name, _link: link });
        Ok(())
    }

    pub(super) fn detach(&mut self, name: &'static str) {
        self.attached.retain(|attachment| attachment.program != name);
    }
}

fn attach_clsact(
    program: &mut SchedClassifier,
    interface: &str,
) -> Result<SchedClassifierLinkId, ProgramError> {
    match qdisc_add_clsact(interface) {
        Ok(()) => {}
        Err(error) if raw(&error) == Some(libc::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let options = NlOptions { priority: CLSACT_PRIORITY, ..NlOptions::default() };
    program.attach_with_options(interface, TcAttachType::Ingress, TcAttachOptions::Netlink(options))
}

/// Whether the kernel does not know this kind of link.
fn is_unknown(error: &ProgramError) -> bool {
    matches!(raw(error), Some(libc::EINVAL))
}

fn raw(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    error::root_io(error).and_then(io::Error::raw_os_error)
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

fn check_interface(interface: &str) -> Result<(), KernelError> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .map_err(|error| KernelError::io("open a socket", error.into()))?;
    match netdevice::name_to_index(&any, interface) {
        Ok(_) => Ok(()),
        Err(_) => Err(KernelError::NoSuchInterface(interface.to_owned())),
    }
}
