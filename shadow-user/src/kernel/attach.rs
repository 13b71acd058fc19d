//! Programs on interfaces: TCX where the kernel has it (6.6), else clsact.

use std::path::Path;
use std::{io, mem};

use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcHandle,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, TcError};

use super::KernelError;
use super::error;
use super::pin::{self, Pin, Pinning};
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
pub(super) const CLSACT_PRIORITY: u16 = 1;

/// Packets of which direction a program sees.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Direction {
    /// Ingress.
    In,
    /// Egress.
    Out,
}

impl Direction {
    pub(super) const BOTH: [Self; 2] = [Self::In, Self::Out];

    pub(super) const fn attach_type(self) -> TcAttachType {
        match self {
            Self::In => TcAttachType::Ingress,
            Self::Out => TcAttachType::Egress,
        }
    }
}

struct Attachment {
    program: &'static str,
    interface: String,
    hold: Hold,
}

/// What keeps a program attached.
enum Hold {
    /// Detaches on drop, and with TCX also when the process is killed.
    Link { _link: SchedClassifierLink },
    /// Stays when the process is killed.
    Pinned { pinned: Pinned },
}

struct Pinned {
    link: Option<SchedClassifierLink>,
    pin: Pin,
    keep: bool,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if !self.keep {
            // In doubt it stays, and goes with `guard remove`.
            let _ = self.pin.remove();
        } else if let Some(link) = self.link.take_if(|link| link.handle().is_ok()) {
            // A filter of clsact, which dropping its link would remove.
            mem::forget(link);
        }
    }
}

/// What is attached where. On drop all is detached but what is pinned to be kept.
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
        direction: Direction,
    ) -> Result<(), KernelError> {
        let index = interface_index(interface)?;
        let failed = |source| refusal(name, interface, source);
        let id = self
            .attach_new(program, interface, index, direction, TcHandle::AUTO_ASSIGN)
            .map_err(failed)?;
        let link = program.take_link(id).map_err(failed)?;
        self.hold(name, interface, Hold::Link { _link: link });
        Ok(())
    }

    /// Attaches the program so that it outlives this process; one that was attached so before
    /// is replaced, without a moment in which there is none.
    pub(super) fn attach_pinned(
        &mut self,
        name: &'static str,
        program: &mut SchedClassifier,
        interface: &str,
        direction: Direction,
        pinning: &Pinning,
    ) -> Result<Pin, KernelError> {
        let index = interface_index(interface)?;
        let failed = |source| refusal(name, interface, source);
        let pin = Pin::create(index, &pinning.identity)?;
        let link = match take_over(program, &pin.link(direction)).map_err(failed)? {
            Some(link) => link,
            None => {
                let id = self
                    .attach_new(program, interface, index, direction, pin.handle())
                    .map_err(failed)?;
                let link = program.take_link(id).map_err(failed)?;
                pin_link(link, &pin.link(direction))?
            }
        };
        let folder = pin.clone();
        let pinned = Pinned { link: Some(link), pin, keep: pinning.keep };
        self.hold(name, interface, Hold::Pinned { pinned });
        Ok(folder)
    }

    fn hold(&mut self, program: &'static str, interface: &str, hold: Hold) {
        let interface = interface.to_owned();
        self.attached.push(Attachment { program, interface, hold });
    }

    pub(super) fn detach(&mut self, name: &'static str) {
        let Self { attached, qdiscs, .. } = self;
        attached.retain(|attachment| attachment.program != name);
        qdiscs.retain(|(interface, _)| {
            attached.iter().any(|attachment| attachment.interface == *interface)
        });
    }

    pub(super) fn forget(&mut self, interface: &str) {
        for attachment in &mut self.attached {
            if attachment.interface == interface
                && let Hold::Pinned { pinned } = &mut attachment.hold
            {
                pinned.keep = false;
            }
        }
        self.attached.retain(|attachment| attachment.interface != interface);
        self.qdiscs.retain(|(other, _)| other != interface);
    }

    /// By TCX where the kernel has it. A filter of clsact gets `handle`, and replaces one that has it.
    fn attach_new(
        &mut self,
        program: &mut SchedClassifier,
        interface: &str,
        index: u32,
        direction: Direction,
        handle: TcHandle,
    ) -> Result<SchedClassifierLinkId, ProgramError> {
        let direction = direction.attach_type();
        if self.mode == AttachMode::Auto {
            let tcx = TcAttachOptions::TcxOrder(LinkOrder::first());
            match program.attach_with_options(interface, direction, tcx) {
                Err(error) if is_unknown(&error) => {}
                other => return other,
            }
        }
        let added = Clsact::add(interface, index)?;
        let options = NlOptions { priority: CLSACT_PRIORITY, handle, ..NlOptions::default() };
        let options = TcAttachOptions::Netlink(options);
        let id = match program.attach_with_options(interface, direction, options) {
            Err(error) if raw(&error) == Some(libc::EEXIST) => {
                let priority = CLSACT_PRIORITY;
                let there =
                    SchedClassifierLink::attached(interface, direction, priority, handle, None);
                program.attach_to_link(there.map_err(TcError::IoError)?)?
            }
            other => other?,
        };
        self.qdiscs.extend(added.map(|qdisc| (interface.to_owned(), qdisc)));
        Ok(id)
    }
}

/// Puts the program in the place of the one that an earlier process pinned, if there is one.
fn take_over(
    program: &mut SchedClassifier,
    path: &Path,
) -> Result<Option<SchedClassifierLink>, ProgramError> {
    let Ok(old) = PinnedLink::from_pin(path) else { return Ok(None) };
    let old = SchedClassifierLink::try_from(FdLink::from(old))
        .map_err(|error| ProgramError::IOError(io::Error::other(error.to_string())));
    match old.and_then(|old| program.attach_to_link(old)) {
        Ok(id) => program.take_link(id).map(Some),
        // Its interface is gone, and another has the index now.
        Err(error) if raw(&error) == Some(libc::ENOLINK) => {
            std::fs::remove_file(path).map_err(ProgramError::IOError)?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Pins a link of TCX. A filter of clsact stays by itself.
fn pin_link(link: SchedClassifierLink, path: &Path) -> Result<SchedClassifierLink, KernelError> {
    if link.handle().is_ok() {
        return Ok(link);
    }
    let failed =
        |error: &dyn std::error::Error| pin::failed(path, io::Error::other(error.to_string()));
    let link = FdLink::try_from(link).map_err(|error| failed(&error))?;
    let pinned = link.pin(path).map_err(|error| pin::pin_error(path, &error))?;
    SchedClassifierLink::try_from(FdLink::from(pinned)).map_err(|error| failed(&error))
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

/// `None` when there is none of that index.
pub(super) fn interface_name(index: u32) -> Result<Option<String>, KernelError> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .map_err(|error| KernelError::io("open a socket", error.into()))?;
    Ok(netdevice::index_to_name(&any, index).ok())
}

fn interface_index(interface: &str) -> Result<u32, KernelError> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .map_err(|error| KernelError::io("open a socket", error.into()))?;
    netdevice::name_to_index(&any, interface)
        .map_err(|_| KernelError::NoSuchInterface(interface.to_owned()))
}
