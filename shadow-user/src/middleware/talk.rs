//! The conversation with the program, for as long as anybody asks.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use shadow_engine::Answered;
use shadow_engine::books::LeftOut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::line::{self, Reply, Unreadable, Wrong};
use super::process::Process;
use super::{Answer, Asked, Bell, Counts, add};

/// The first pause before a program is started again; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest. A program that ran so long begins anew with the shortest.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A program that answers nothing for so many of its timeouts though it was asked is started again.
const HUNG: u32 = 5;

/// Octets of a line besides what is for the body.
const LINE: usize = 1 << 20;

/// Lines of standard error that are logged in a second.
const LOGGED: u32 = 10;

/// Octets of one of them.
const LOGGED_LINE: usize = 1_000;

/// What is asked, and by whom.
pub struct Program {
    pub path: PathBuf,
    /// How long a request waits.
    pub timeout: Duration,
    /// Most octets of a body.
    pub limit: usize,
    pub questions: Receiver<Asked>,
    pub answers: Sender<Answer>,
    pub bell: Bell,
    pub counts: Arc<Counts>,
    /// Nobody asks any more.
    pub end: oneshot::Receiver<()>,
}

/// Why a process is not asked any more.
enum Over {
    /// Nobody asks any more.
    Unasked,
    /// It has closed its standard output, or ended.
    Ended,
    /// It answers nothing.
    Hung,
    /// It wrote a line that never ends.
    Endless,
}

/// The thread's state.
pub struct Talk {
    program: Program,
    /// Questions that the process has, by their number, and when nobody waits for the answer any more.
    waiting: BTreeMap<u64, (Asked, Instant)>,
    /// Number of the next question.
    next: u64,
    complaints: Lines,
}

impl Talk {
    pub fn new(program: Program) -> Self {
        Self { program, waiting: BTreeMap::new(), next: 1, complaints: Lines::default() }
    }

    /// Runs until nobody asks any more; says at first whether the program could be started.
    pub fn run(mut self, begun: &Sender<io::Result<()>>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(begun.send(Err(error))),
        };
        runtime.block_on(async {
            let first = match Process::start(&self.program.path) {
                Ok(process) => process,
                Err(error) => return drop(begun.send(Err(error))),
            };
            // Whoever starts it is waiting.
            let _ = begun.send(Ok(()));
            self.go_on(first).await;
        });
    }

    async fn go_on(&mut self, first: Process) {
        let mut process = Ok(first);
        let mut pause = PAUSE;
        loop {
            match process {
                Ok(mut running) => {
                    let since = Instant::now();
                    let over = self.converse(&mut running).await;
                    let grace = if matches!(over, Over::Hung) { Duration::ZERO } else { PAUSE };
                    let ended = running.end(grace).await;
                    self.give_up();
                    let path = self.program.path.display();
                    match over {
                        Over::Unasked => return,
                        Over::Ended => tracing::warn!("{path} has ended: {ended}"),
                        Over::Hung => tracing::warn!(
                            "{path} was ended: it has answered nothing for {:?} though it was asked",
                            self.program.timeout * HUNG
                        ),
                        Over::Endless => tracing::warn!("{path} was ended: a line is too long"),
                    }
                    if since.elapsed() >= LONGEST_PAUSE {
                        pause = PAUSE;
                    }
                }
                Err(error) => {
                    tracing::error!("{} cannot be started: {error}", self.program.path.display());
                }
            }
            if !self.rest(pause).await {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            add(&self.program.counts.restarts);
            process = Process::start(&self.program.path);
        }
    }

    /// Waits with no process to ask; false when nobody asks any more.
    async fn rest(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            match tokio::time::timeout_at(until, self.program.questions.recv()).await {
                Ok(Some(asked)) => self.answer(asked, down()),
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    async fn converse(&mut self, process: &mut Process) -> Over {
        let Process { stdin, stdout, stderr, .. } = process;
        // What is being written, and how much of it was.
        let (mut line, mut written) = (Vec::new(), 0);
        let mut answers = Vec::new();
        let mut complains = true;
        // Since when it has been asked and has answered nothing.
        let mut silent: Option<Instant> = None;
        let longest = self.program.limit.saturating_mul(2) + LINE;
        let mut said = vec![0; 16 << 10];
        loop {
            self.expire();
            let deadline = self.waiting.first_key_value().map(|(_, (_, deadline))| *deadline);
            let hung = silent.map(|since| since + self.program.timeout * HUNG);
            if hung.is_some_and(|at| at <= Instant::now()) {
                return Over::Hung;
            }
            let next = deadline.into_iter().chain(hung).min();
            tokio::select! {
                _ = &mut self.program.end => return Over::Unasked,
                asked = self.program.questions.recv(), if line.is_empty() => {
                    let Some(asked) = asked else { return Over::Unasked };
                    if let Some(asking) = self.ask(asked) {
                        (line, written) = (asking, 0);
                        silent.get_or_insert_with(Instant::now);
                    }
                }
                wrote = stdin.write(line.get(written..).unwrap_or_default()), if !line.is_empty() => {
                    match wrote {
                        Ok(octets) => written += octets,
                        // One that does not read may still answer, and will be told by its end.
                        Err(_) => return self.hear_out(stdout, answers).await,
                    }
                    if written >= line.len() {
                        line = Vec::new();
                    }
                }
                read = stdout.read_buf(&mut answers) => {
                    if !matches!(read, Ok(1..)) {
                        return Over::Ended;
                    }
                    if self.hear(&mut answers) {
                        silent = (!self.waiting.is_empty()).then(Instant::now);
                    }
                    if answers.len() > longest {
                        return Over::Endless;
                    }
                }
                read = stderr.read(&mut said), if complains => match read {
                    Ok(octets @ 1..) => {
                        let said = said.get(..octets).unwrap_or_default();
                        self.complaints.take(said, &self.program.counts);
                    }
                    _ => complains = false,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Takes what it has still to say.
    async fn hear_out(
        &mut self,
        stdout: &mut (impl tokio::io::AsyncRead + Unpin),
        mut answers: Vec<u8>,
    ) -> Over {
        let longest = self.program.limit.saturating_mul(2) + LINE;
        while let Ok(Ok(1..)) = timeout(PAUSE, stdout.read_buf(&mut answers)).await {
            self.hear(&mut answers);
            if answers.len() > longest {
                break;
            }
        }
        Over::Ended
    }

    /// The line for a question that somebody still waits for.
    fn ask(&mut self, asked: Asked) -> Option<Vec<u8>> {
        let id = self.next;
        let Some(line) = line::write(id, &asked.question.proposal) else {
            self.answer(asked, Answered::LeftOut(LeftOut::FilterExecUnaskable));
            return None;
        };
        self.next += 1;
        self.waiting.insert(id, (asked, Instant::now() + self.program.timeout));
        Some(line)
    }

    /// Takes whole lines; whether there was one.
    fn hear(&mut self, octets: &mut Vec<u8>) -> bool {
        let Some(end) = octets.iter().rposition(|octet| *octet == b'\n') else { return false };
        let rest = octets.split_off(end + 1);
        let lines = std::mem::replace(octets, rest);
        for line in
            lines.split(|octet| *octet == b'\n').filter(|line| !line.trim_ascii().is_empty())
        {
            if let Err(error) = self.hear_line(line) {
                let name = self.program.path.display().to_string();
                self.complaints
                    .say(&self.program.counts, || format!("{name} answers wrongly: {error}"));
            }
        }
        true
    }

    fn hear_line(&mut self, line: &[u8]) -> Result<(), Unreadable> {
        let id = line::id(line).inspect_err(|_| add(&self.program.counts.unreadable))?;
        let Some((asked, _)) = self.waiting.remove(&id) else {
            // One that was never asked names nothing.
            let is_late = (1..self.next).contains(&id);
            let counts = &self.program.counts;
            add(if is_late { &counts.late } else { &counts.unreadable });
            return Ok(());
        };
        let read = line::read(line, &asked.question.proposal, self.program.limit);
        let answered = match &read {
            Ok(Reply::Pass) => Answered::Pass,
            Ok(Reply::Drop) => Answered::LeftOut(LeftOut::FilterExecDropped),
            Ok(Reply::Send(proposal)) => Answered::Send(proposal.clone()),
            Err(_) => Answered::LeftOut(LeftOut::FilterExecMalformed),
        };
        self.answer(asked, answered);
        read.map(|_| ()).map_err(|why: Wrong| Unreadable::Malformed { id, why })
    }

    /// Forgets questions for whose answers nobody waits any more.
    fn expire(&mut self) {
        let now = Instant::now();
        while self.waiting.first_entry().is_some_and(|first| first.get().1 <= now) {
            self.waiting.pop_first();
        }
    }

    /// Nobody answers these any more.
    fn give_up(&mut self) {
        for (_, (asked, _)) in std::mem::take(&mut self.waiting) {
            self.answer(asked, down());
        }
    }

    fn answer(&self, asked: Asked, answered: Answered) {
        let Program { answers, bell, counts, .. } = &self.program;
        match answered {
            Answered::Pass => add(&counts.passed),
            Answered::Send(_) => add(&counts.revised),
            Answered::LeftOut(_) => {}
        }
        // A worker that has ended needs no answer.
        let _ = answers.send((asked.shadow, asked.question.id, answered));
        bell.ring();
    }
}

fn down() -> Answered {
    Answered::LeftOut(LeftOut::FilterExecDown)
}

/// Lines for the log, so many in a second.
#[derive(Default)]
struct Lines {
    /// The beginning of a line.
    begun: Vec<u8>,
    second: Option<Instant>,
    logged: u32,
}

impl Lines {
    /// Takes what the program has written on its standard error.
    fn take(&mut self, octets: &[u8], counts: &Counts) {
        for octet in octets {
            if *octet != b'\n' {
                if self.begun.len() < LOGGED_LINE {
                    self.begun.push(*octet);
                }
                continue;
            }
            let line = std::mem::take(&mut self.begun);
            self.say(counts, || {
                let text = String::from_utf8_lossy(&line);
                format!("filter: {}", text.trim_end().escape_debug())
            });
        }
    }

    fn say(&mut self, counts: &Counts, line: impl FnOnce() -> String) {
        let now = Instant::now();
        if self.second.is_none_or(|since| now >= since + Duration::from_secs(1)) {
            (self.second, self.logged) = (Some(now), 0);
        }
        self.logged += 1;
        if self.logged > LOGGED {
            add(&counts.unlogged);
            return;
        }
        tracing::warn!("{}", line());
    }
}
