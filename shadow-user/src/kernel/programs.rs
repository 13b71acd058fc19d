//! The loaded programs and what the daemon tells them.

use std::io;

use aya::maps::Map;
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_log::EbpfLogger;
use log::Log;
use rustix::process::{Resource, Rlimit, setrlimit};
use shadow_common::{MAX_TRACKED, MIN_TRACKED};

use super::attach::{Attachments, Direction};
use super::choose::Chosen;
use super::error::{self, KernelError};
use super::{AttachMode, KernelCounters, Pinning, Rings, counters};
use crate::choice::SampleBy;

/// The programs, built by this package's build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/shadow-ebpf"));

/// The room for production's answers.
#[derive(Clone, Copy, Debug)]
pub struct ResponseOptions {
    /// Bytes of their ring; rounded up to a power of two of at least one page.
    pub bytes: u32,
    /// Flows of which answers are copied at once; brought into [`MIN_TRACKED`]`..=`[`MAX_TRACKED`].
    pub flows: u32,
}

/// What is fixed when the programs are loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Bytes of the tap's ring; rounded up to a power of two of at least one page.
    pub requests_bytes: u32,
    /// Bytes of the guard's ring; likewise.
    pub replies_bytes: u32,
    /// Whether and with what room production's answers are copied.
    pub responses: Option<ResponseOptions>,
    /// Of what samples are taken.
    pub sample_by: SampleBy,
    /// What samples differ by: the same on every host that shall choose the same clients.
    pub seed: u64,
    /// Flows that are remembered because what is chosen was changed before they began; brought into
    /// [`MIN_TRACKED`]`..=`[`MAX_TRACKED`].
    pub exceptions: u32,
    /// The most talkative level that the programs log at; what is above costs them nothing.
    pub log_level: log::LevelFilter,
    /// How programs are attached.
    pub attach: AttachMode,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            requests_bytes: 32 << 20,
            replies_bytes: 16 << 20,
            responses: None,
            sample_by: SampleBy::Client,
            seed: 0,
            exceptions: MIN_TRACKED,
            log_level: log::LevelFilter::Warn,
            attach: AttachMode::Auto,
        }
    }
}

/// Tap and guard in the kernel. On drop both are detached and unloaded, but for a guard that is
/// pinned to be kept.
pub struct Programs {
    // Before `ebpf`: links go before the programs they hold.
    attachments: Attachments,
    ebpf: Ebpf,
    comparing: bool,
    pub(super) chosen: Chosen,
}

impl Programs {
    /// Loads the programs; nothing is attached yet, and nothing selected.
    ///
    /// # Errors
    /// Missing rights, a kernel before 5.10, or a verifier that does not accept a program.
    pub fn load(options: LoadOptions) -> Result<Self, KernelError> {
        // Before 5.11 maps count against this limit; later the call changes nothing.
        let unlimited = Rlimit { current: None, maximum: None };
        let _ = setrlimit(Resource::Memlock, unlimited);

        let level = options.log_level as u8;
        let comparing = u8::from(options.responses.is_some());
        let connections = u8::from(options.sample_by == SampleBy::Connection);
        // Maps of the object are made whether they are used or not.
        let responses = options.responses.unwrap_or(ResponseOptions { bytes: 0, flows: 0 });
        let requests_bytes = ring_bytes(options.requests_bytes);
        let requests_size = u64::from(requests_bytes);
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("REQUESTS", requests_bytes)
            .map_max_entries("REPLIES", ring_bytes(options.replies_bytes))
            .map_max_entries("RESPONSES", ring_bytes(responses.bytes))
            .map_max_entries("FLOWS", responses.flows.clamp(MIN_TRACKED, MAX_TRACKED))
            .map_max_entries("EXCEPTIONS", options.exceptions.clamp(MIN_TRACKED, MAX_TRACKED))
            .override_global("REQUESTS_SIZE", &requests_size, true)
            .override_global("COMPARING", &comparing, true)
            .override_global("SAMPLE_CONNECTIONS", &connections, true)
            .override_global("SAMPLE_SEED", &options.seed, true)
            .override_global(aya_log::LEVEL, &level, true)
            .load(OBJECT)
            .map_err(load_error)?;
        for name in ["tap", "tap_out", "guard", "guard_out"] {
            program(&mut ebpf, name)?.load().map_err(|source| verdict(name, source))?;
        }
        Ok(Self {
            attachments: Attachments::new(options.attach),
            ebpf,
            comparing: options.responses.is_some(),
            chosen: Chosen::default(),
        })
    }

    /// Attaches the tap to an interface's ingress, before any other program; when answers are
    /// compared, its other half to the egress.
    ///
    /// # Errors
    /// No such interface, missing rights, or a kernel without TCX and clsact.
    pub fn attach_tap(&mut self, interface: &str) -> Result<(), KernelError> {
        if self.comparing {
            // First: no request is noted whose answer is not seen.
            let tap = program(&mut self.ebpf, "tap_out")?;
            self.attachments.attach("tap_out", tap, interface, Direction::Out)?;
        }
        let tap = program(&mut self.ebpf, "tap")?;
        self.attachments.attach("tap", tap, interface, Direction::In)
    }

    /// Attaches the guard to an interface's ingress, before any other program.
    ///
    /// # Errors
    /// As [`Programs::attach_tap`].
    pub fn attach_guard(&mut self, interface: &str) -> Result<(), KernelError> {
        let guard = program(&mut self.ebpf, "guard")?;
        self.attachments.attach("guard", guard, interface, Direction::In)
    }

    /// Attaches the guard's other half to an interface's egress, before any other program.
    ///
    /// # Errors
    /// As [`Programs::attach_tap`].
    pub fn attach_guard_out(&mut self, interface: &str) -> Result<(), KernelError> {
        let guard = program(&mut self.ebpf, "guard_out")?;
        self.attachments.attach("guard", guard, interface, Direction::Out)
    }

    /// Attaches the guard so that it also holds when this process is killed, and takes over from a
    /// guard that was pinned the same way without a moment in which there is none. One that is to be
    /// kept, for answers to addresses of others, also guards what this host itself tells those.
    ///
    /// # Errors
    /// As [`Programs::attach_tap`], or a BPF file system that is not there or not writable.
    pub fn attach_pinned_guard(
        &mut self,
        interface: &str,
        pinning: &Pinning,
    ) -> Result<(), KernelError> {
        let Self { attachments, ebpf, .. } = self;
        let guard = program(ebpf, "guard")?;
        let pin = attachments.attach_pinned("guard", guard, interface, Direction::In, pinning)?;
        if pinning.keep {
            let guard = program(ebpf, "guard_out")?;
            attachments.attach_pinned("guard", guard, interface, Direction::Out, pinning)?;
        }
        pin.pin_maps(ebpf)
    }

    /// Detaches the tap from every interface: nothing more is captured.
    pub fn detach_taps(&mut self) {
        self.attachments.detach("tap");
    }

    /// Detaches the tap's other half from every interface: no more answers are captured.
    pub fn detach_taps_out(&mut self) {
        self.attachments.detach("tap_out");
    }

    /// Detaches the guard from every interface where it is not pinned to be kept.
    pub fn detach_guards(&mut self) {
        self.attachments.detach("guard");
    }

    /// Detaches all from an interface that is gone, and from one that has its name by now: of the old
    /// one no pin is left.
    pub fn forget(&mut self, interface: &str) {
        self.attachments.forget(interface);
    }

    /// The reader of the rings, once: `None` when it was taken before.
    ///
    /// # Errors
    /// When a ring cannot be mapped.
    pub fn take_rings(&mut self) -> Result<Option<Rings>, KernelError> {
        let (Some(requests), Some(replies), Some(responses), Some(sleeping)) = (
            self.ebpf.take_map("REQUESTS"),
            self.ebpf.take_map("REPLIES"),
            self.ebpf.take_map("RESPONSES"),
            self.ebpf.take_map("SLEEPING"),
        ) else {
            return Ok(None);
        };
        Rings::new(requests, replies, self.comparing.then_some(responses), sleeping).map(Some)
    }

    /// Reader of what the programs log, once: `None` when it was taken before.
    ///
    /// Call its `flush` when its file descriptor is readable, or now and then.
    pub fn take_log<T: Log>(&mut self, logger: T) -> Option<EbpfLogger<T>> {
        EbpfLogger::init_with_logger(&mut self.ebpf, logger).ok()
    }

    /// What the programs have counted since they were loaded.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn counters(&self) -> Result<KernelCounters, KernelError> {
        counters::read(&self.ebpf)
    }

    pub(super) fn map_mut(&mut self, name: &'static str) -> Result<&mut Map, KernelError> {
        self.ebpf.map_mut(name).ok_or(KernelError::Missing(name))
    }

    /// A loaded program, for `BPF_PROG_TEST_RUN`: `tap`, `tap_out`, `guard` or
    /// `guard_out`.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn program(&mut self, name: &'static str) -> Result<&mut SchedClassifier, KernelError> {
        program(&mut self.ebpf, name)
    }
}

/// The size that a ring must have: a power of two, and whole pages.
fn ring_bytes(bytes: u32) -> u32 {
    let page = u32::try_from(rustix::param::page_size()).unwrap_or(65_536);
    bytes.clamp(page, 1 << 30).next_power_of_two()
}

fn program<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, KernelError> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(KernelError::Missing(name))
}

fn load_error(error: EbpfError) -> KernelError {
    let action = "load the programs".to_owned();
    match error::root_io(&error).map(|io| io.raw_os_error()) {
        Some(Some(libc::EPERM | libc::EACCES)) => KernelError::NotPermitted { action },
        // A kernel without ring buffers (5.8) knows no such map type.
        Some(Some(libc::EINVAL | libc::ENOSYS)) => {
            KernelError::TooOld { action, release: error::release() }
        }
        _ => KernelError::Load(error),
    }
}

fn verdict(name: &'static str, source: ProgramError) -> KernelError {
    if let ProgramError::LoadError { io_error, .. } = &source
        && io_error.kind() == io::ErrorKind::PermissionDenied
        && !rustix::process::geteuid().is_root()
    {
        return KernelError::NotPermitted { action: "load the programs".to_owned() };
    }
    KernelError::Rejected { program: name, source }
}
