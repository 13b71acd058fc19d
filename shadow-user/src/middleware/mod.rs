//! A program of the user's that is asked about each request that would be sent: `--filter-exec`.
//!
//! The engines ask, the worker hands questions on and answers back, and never waits: a thread of its own
//! has the process and speaks with it. What does not fit the queue, is not answered in time or is asked
//! while no program runs is left out, under a name of its own.

mod line;
mod process;
mod talk;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{EventfdFlags, eventfd};
use shadow_engine::books::LeftOut;
use shadow_engine::{Answered, Question, QuestionId};
use tokio::sync::{mpsc as asynchronous, oneshot};

use crate::config::FilterExec;
use crate::setting::Refusal;

/// Questions that may wait for their answers, whoever asks.
const MAX_WAITING: usize = 1_024;

/// Octets of requests that may wait so.
pub const MAX_QUEUED: usize = 16 << 20;

/// Behind everything that production does; the process inherits it.
const NICE: i32 = 10;

/// A question on its way.
#[derive(Debug)]
struct Asked {
    /// Which shadow's engine asks.
    shadow: usize,
    question: Question,
    /// Given back when it has left.
    _share: Share,
}

/// What a question takes of the queue.
#[derive(Debug)]
struct Share {
    octets: usize,
    queue: Arc<Queue>,
}

/// What is on its way.
#[derive(Debug, Default)]
struct Queue {
    questions: AtomicUsize,
    octets: AtomicUsize,
}

impl Share {
    /// A place in the queue.
    fn take(queue: &Arc<Queue>, octets: usize) -> Result<Self, LeftOut> {
        let questions = queue.questions.fetch_add(1, Ordering::Relaxed);
        let queued = queue.octets.fetch_add(octets, Ordering::Relaxed);
        let share = Self { octets, queue: Arc::clone(queue) };
        match questions < MAX_WAITING && queued + octets <= MAX_QUEUED {
            true => Ok(share),
            false => Err(LeftOut::FilterExecBusy),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.queue.questions.fetch_sub(1, Ordering::Relaxed);
        self.queue.octets.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

/// An answer on its way back.
type Answer = (usize, QuestionId, Answered);

/// What a program has done so far.
#[derive(Debug, Default)]
struct Counts {
    asked: AtomicU64,
    passed: AtomicU64,
    revised: AtomicU64,
    restarts: AtomicU64,
    late: AtomicU64,
    unreadable: AtomicU64,
    unlogged: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counted {
    /// Questions that were handed on.
    pub asked: u64,
    /// Requests that passed as they were.
    pub passed: u64,
    /// Requests that were sent as the program wanted them.
    pub revised: u64,
    /// How often the program had to be started again.
    pub restarts: u64,
    /// Answers for which nobody waited any more.
    pub late: u64,
    /// Lines that name no question.
    pub unreadable: u64,
    /// Lines of the program's standard error that are not in the log.
    pub unlogged: u64,
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// The worker's end.
#[derive(Debug)]
pub struct Asker {
    questions: asynchronous::Sender<Asked>,
    answers: Receiver<Answer>,
    queue: Arc<Queue>,
    bell: Bell,
    counts: Arc<Counts>,
    /// Tells by its end that nobody asks any more.
    _end: oneshot::Sender<()>,
}

/// Wakes the worker when there is an answer.
#[derive(Clone, Debug)]
struct Bell {
    fd: Arc<OwnedFd>,
    /// It was rung, and nobody has looked: saves a system call for each look.
    is_rung: Arc<AtomicBool>,
}

impl Bell {
    fn new() -> anyhow::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .context("the kernel gives no event descriptor")?;
        Ok(Self { fd: Arc::new(fd), is_rung: Arc::default() })
    }

    fn ring(&self) {
        // In this order, or it might stay readable with nobody looking. A full counter is readable, too.
        let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
        self.is_rung.store(true, Ordering::Release);
    }

    /// Whether it was rung since the last look.
    fn look(&self) -> bool {
        let is_rung = self.is_rung.swap(false, Ordering::AcqRel);
        if is_rung {
            // Whoever has looked in between leaves nothing to be read.
            let _ = rustix::io::read(&self.fd, &mut [0; 8]);
        }
        is_rung
    }
}

impl Asker {
    /// Hands on a question of a shadow's engine.
    ///
    /// # Errors
    /// Why its request is to be left out at once.
    pub fn ask(&mut self, shadow: usize, question: Question) -> Result<(), LeftOut> {
        let _share = Share::take(&self.queue, question.proposal.memory())?;
        match self.questions.try_send(Asked { shadow, question, _share }) {
            Ok(()) => add(&self.counts.asked),
            Err(asynchronous::error::TrySendError::Full(_)) => return Err(LeftOut::FilterExecBusy),
            Err(asynchronous::error::TrySendError::Closed(_)) => {
                return Err(LeftOut::FilterExecDown);
            }
        }
        Ok(())
    }

    /// Hands out the answers that have come; `take` says whether they were waited for.
    pub fn answers(&mut self, mut take: impl FnMut(usize, QuestionId, Answered) -> bool) {
        if !self.bell.look() {
            return;
        }
        loop {
            match self.answers.try_recv() {
                Ok((shadow, id, answered)) => {
                    if !take(shadow, id, answered) {
                        add(&self.counts.late);
                    }
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// What is readable when there are answers.
    #[must_use]
    pub fn bell(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.bell.fd)
    }

    /// What the program has done so far.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { asked, passed, revised, restarts, late, unreadable, unlogged } = &*self.counts;
        Counted {
            asked: count(asked),
            passed: count(passed),
            revised: count(revised),
            restarts: count(restarts),
            late: count(late),
            unreadable: count(unreadable),
            unlogged: count(unlogged),
        }
    }
}

/// The thread that has the process. It ends with the [`Asker`].
#[derive(Debug)]
pub struct Thread(JoinHandle<()>);

impl Thread {
    /// Waits until the process is gone.
    pub fn join(self) {
        // A panic has been told of.
        let _ = self.0.join();
    }
}

/// Starts the program, and the thread that asks it.
///
/// # Errors
/// A [`Refusal`] when it cannot be started; anything else when the kernel gives no thread.
pub fn start(config: &FilterExec, limit: usize) -> anyhow::Result<(Asker, Thread)> {
    let setting = &config.program;
    let remedy = "give the path of an executable file, such as a script with #! in its first line";
    let program = process::find(&setting.value).map_err(|what| setting.refuse(what, remedy))?;
    let (questions, asked) = asynchronous::channel(MAX_WAITING);
    let (answers, answered) = mpsc::channel();
    let (queue, counts, bell) = (Arc::default(), Arc::<Counts>::default(), Bell::new()?);
    let (_end, end) = oneshot::channel();
    let talk = talk::Talk::new(talk::Program {
        path: program,
        timeout: config.timeout,
        limit,
        questions: asked,
        answers,
        bell: bell.clone(),
        counts: Arc::clone(&counts),
        end,
    });
    let (begun, first) = mpsc::channel();
    let handle = thread::Builder::new()
        .name("shadowtap-filter".to_owned())
        .spawn(move || {
            // Of this thread alone (setpriority(2), "C library/kernel differences").
            let _ = rustix::process::setpriority_process(None, NICE);
            talk.run(&begun);
        })
        .context("the filter's thread does not start")?;
    match first.recv_timeout(Duration::from_secs(10)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            return Err(setting
                .refuse(format!("cannot be started: {error}"), start_remedy())
                .into());
        }
        Err(_) => {
            return Err(Refusal::new(
                setting.to_string(),
                "was not started within 10s",
                "look at what holds it up",
            )
            .into());
        }
    }
    Ok((Asker { questions, answers: answered, queue, bell, counts, _end }, Thread(handle)))
}

fn start_remedy() -> &'static str {
    "the program and the interpreter it names must be readable and executable by everybody: a mirror that \
     is root's starts it as nobody"
}
