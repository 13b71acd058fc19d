//! The thread that writes lines, and the bounded queue before it.
//!
//! Whoever hands in lines never waits: a line for which there is no room is counted. Neither does an
//! error end the report. While nothing can be written, lines that come are counted under what stands
//! against it, and writing is tried again; a line is finished before the next begins.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use shadow_common::{Counter as _, counters};
use shadow_engine::books::Tally;

use super::sink::{Sink, bucket};

counters! {
    /// Why a line was not written.
    Dropped {
        /// The queue was full: what reads the report is slower than the traffic.
        QueueFull = "queue_full",
        /// No room on the device, or no quota.
        StorageFull = "storage_full",
        /// Nobody reads the pipe.
        ReaderGone = "reader_gone",
        /// Another error of the file.
        Unwritable = "unwritable",
        /// The run was over, and the writer still waited for its file.
        Stopped = "stopped",
    }
}

/// Lines that wait.
const QUEUE_LINES: usize = 16 << 10;

/// Octets of lines that wait.
pub const QUEUE_OCTETS: usize = 4 << 20;

/// Octets that are written with one call.
const BATCH: usize = 128 << 10;

/// While nothing can be written, how often that is tried.
const RETRY: Duration = Duration::from_millis(500);

/// The longest sleep, so that a wish to reopen is seen.
const TICK: Duration = Duration::from_millis(50);

/// What has become of lines so far.
#[derive(Clone, Debug, Eq, PartialEq, Default)]
pub struct Written {
    /// Lines that were handed in.
    pub offered: u64,
    /// Of these, lines that were written whole.
    pub written: u64,
    /// Lines that were not.
    pub dropped: Tally<Dropped>,
}

#[derive(Debug)]
struct Shared {
    offered: AtomicU64,
    written: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    queued: AtomicUsize,
    reopen: AtomicBool,
}

impl Shared {
    fn lose(&self, reason: Dropped, lines: u64) {
        self.dropped[reason.index() as usize].fetch_add(lines, Ordering::Relaxed);
    }

    fn written(&self) -> Written {
        let mut dropped = Tally::default();
        for reason in Dropped::ALL {
            let count = self.dropped[reason.index() as usize].load(Ordering::Relaxed);
            dropped.add(*reason, count);
        }
        let written = self.written.load(Ordering::Relaxed);
        Written { offered: self.offered.load(Ordering::Relaxed), written, dropped }
    }
}

/// Asks the writer to open its file again; a handle that may outlive it.
#[derive(Clone, Debug)]
pub struct Reopen(Arc<Shared>);

impl Reopen {
    /// Returns at once; the writer does it within a moment.
    pub fn ask(&self) {
        self.0.reopen.store(true, Ordering::Relaxed);
    }
}

/// The way to the writer's thread.
#[derive(Debug)]
pub struct Writer {
    lines: SyncSender<Vec<u8>>,
    shared: Arc<Shared>,
    done: Receiver<()>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn start(sink: Sink) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            offered: AtomicU64::new(0),
            written: AtomicU64::new(0),
            dropped: [const { AtomicU64::new(0) }; Dropped::ALL.len()],
            queued: AtomicUsize::new(0),
            reopen: AtomicBool::new(false),
        });
        let (lines, receiver) = mpsc::sync_channel(QUEUE_LINES);
        let (ended, done) = mpsc::sync_channel(1);
        let thread = Thread {
            sink,
            lines: receiver,
            shared: Arc::clone(&shared),
            batch: Vec::with_capacity(BATCH),
            is_torn: false,
            is_unended: false,
            failing: None,
        };
        thread::Builder::new().name("shadowtap-report".to_owned()).spawn(move || {
            thread.run();
            // Nobody listens when the end was not waited for.
            let _ = ended.send(());
        })?;
        Ok(Self { lines, shared, done })
    }

    /// Hands in a line with its end. `line` is asked for only when there is room for it.
    pub fn offer(&self, line: impl FnOnce() -> Vec<u8>) {
        let Shared { offered, queued, .. } = &*self.shared;
        offered.fetch_add(1, Ordering::Relaxed);
        if queued.load(Ordering::Relaxed) >= QUEUE_OCTETS {
            return self.shared.lose(Dropped::QueueFull, 1);
        }
        let line = line();
        let len = line.len();
        queued.fetch_add(len, Ordering::Relaxed);
        match self.lines.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                queued.fetch_sub(len, Ordering::Relaxed);
                self.shared.lose(Dropped::QueueFull, 1);
            }
            Err(TrySendError::Disconnected(_)) => {
                queued.fetch_sub(len, Ordering::Relaxed);
                self.shared.lose(Dropped::Unwritable, 1);
            }
        }
    }

    /// What has become of lines until now.
    #[must_use]
    pub fn written(&self) -> Written {
        self.shared.written()
    }

    /// A handle for whoever hears that the file was renamed.
    #[must_use]
    pub fn reopen(&self) -> Reopen {
        Reopen(Arc::clone(&self.shared))
    }

    /// Waits until every line is written or given up, but no longer than `limit`: a pipe whose
    /// reader does not read would wait for ever.
    #[must_use]
    pub fn finish(self, limit: Duration) -> Written {
        let Self { lines, shared, done } = self;
        drop(lines);
        let _ = done.recv_timeout(limit);
        let mut written = shared.written();
        let known = written.written + written.dropped.total();
        written.dropped.add(Dropped::Stopped, written.offered.saturating_sub(known));
        written
    }
}

struct Thread {
    sink: Sink,
    lines: Receiver<Vec<u8>>,
    shared: Arc<Shared>,
    /// Lines that were not written yet.
    batch: Vec<u8>,
    /// Whether the first of them has been begun.
    is_torn: bool,
    /// Whether a line that was begun and given up still wants its end.
    is_unended: bool,
    /// Why nothing can be written, and when that is tried again.
    failing: Option<(Dropped, Instant)>,
}

impl Thread {
    fn run(mut self) {
        loop {
            if self.shared.reopen.swap(false, Ordering::Relaxed) {
                self.reopen();
            }
            match self.lines.recv_timeout(TICK) {
                Ok(line) => self.take(&line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while self.batch.len() < BATCH
                && let Ok(line) = self.lines.try_recv()
            {
                self.take(&line);
            }
            if self.failing.is_none_or(|(_, again)| Instant::now() >= again) {
                self.write();
            }
        }
        self.write();
        if let Some((reason, _)) = self.failing {
            self.shared.lose(reason, lines_in(&self.batch));
        }
    }

    fn take(&mut self, line: &[u8]) {
        self.shared.queued.fetch_sub(line.len(), Ordering::Relaxed);
        match self.failing {
            Some((reason, _)) => self.shared.lose(reason, 1),
            None => self.batch.extend_from_slice(line),
        }
    }

    fn write(&mut self) {
        if self.batch.is_empty() {
            self.failing = None;
            return;
        }
        if self.is_unended {
            match self.sink.write(b"\n") {
                (_, Some(error)) => return self.fail(&error),
                (..) => self.is_unended = false,
            }
        }
        let (written, error) = self.sink.write(&self.batch);
        let whole = lines_in(&self.batch[..written]);
        self.shared.written.fetch_add(whole, Ordering::Relaxed);
        if written != 0 {
            self.is_torn = self.batch[written - 1] != b'\n';
        }
        self.batch.drain(..written);
        match error {
            Some(error) => self.fail(&error),
            None if self.failing.take().is_some() => {
                tracing::info!("the report is written again");
            }
            None => {}
        }
    }

    fn fail(&mut self, error: &io::Error) {
        let reason = bucket(error);
        if self.failing.is_none() {
            tracing::warn!(
                "the report cannot be written, and lines are lost until it can: {error}"
            );
        }
        self.failing = Some((reason, Instant::now() + RETRY));
        if self.sink.is_pipe() {
            self.give_up_torn(reason);
        }
    }

    /// The rest of a line that has been begun is of no use where its beginning is not.
    fn give_up_torn(&mut self, reason: Dropped) {
        if std::mem::take(&mut self.is_torn) {
            let end = self.batch.iter().position(|octet| *octet == b'\n');
            self.batch.drain(..end.map_or(0, |end| end + 1));
            self.is_unended = true;
            self.shared.lose(reason, 1);
        }
    }

    fn reopen(&mut self) {
        match self.sink.reopen() {
            Ok(()) => {
                let reason = self.failing.take().map_or(Dropped::Unwritable, |(reason, _)| reason);
                self.give_up_torn(reason);
                tracing::info!("the report's file is opened again");
            }
            Err(error) => {
                tracing::warn!("the report stays with the file that it has: {error}");
            }
        }
    }
}

/// Ends of lines; each line has one.
fn lines_in(octets: &[u8]) -> u64 {
    octets.iter().filter(|octet| **octet == b'\n').count() as u64
}
