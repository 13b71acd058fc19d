//! The thread that compares: takes what the worker hands out, judges it, and tells whoever wants to
//! know. Bodies are decoded and parsed here, beside the path of packets and below its priority; when
//! it does not keep up, the worker sheds exchanges and counts them.

mod differences;
mod files;
mod legs;
mod waiting;

use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use shadow_engine::compare::{
    Comparer, Comparison, Learnt, Noise, Tallies, TallyBounds, Thresholds,
};
use shadow_engine::exchange::Exchange;
use shadow_engine::rules::Rules;
use shadow_engine::time::Instant;

use crate::comparing::{Exchanges, Handed, Spent};
use crate::config::Config;
use crate::kernel;
use crate::report::jsonl::{self, Wall, Written};
use crate::shadows::Role;

pub use differences::{Differed, Differences};
pub use files::{Report, create_noise, read_noise};
pub use legs::{Answer, LEGS, Legs, Times, label};
pub use waiting::MAX_WAITING;

use waiting::Waiting;

/// What has been compared so far, for whoever wants to look.
pub type Seen = Arc<ArcSwap<Compared>>;

/// Octets of exchanges that are kept to be looked at.
const EXAMPLES: usize = 4 << 20;

/// How often what was compared is published.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);

/// How far it stands back: behind the worker, too.
const STANDS_BACK: i32 = 10;

/// How long comparing may take when all is over. What waits may take far longer: a hostile answer costs
/// a fraction of a second.
const LAST_EXCHANGES: Duration = Duration::from_secs(5);

/// How long the report's writer may take when all is over.
const LAST_LINES: Duration = Duration::from_secs(2);

/// One moment of the comparison.
#[derive(Clone, Debug)]
pub struct Compared {
    /// When this was written.
    pub at: Instant,
    /// What the comparisons add up to, by endpoint and field, with examples.
    pub tallies: Tallies,
    /// The fields that differ by chance.
    pub noise: Noise,
    /// Differing fields by kind.
    pub differences: Differences,
    /// Requests and their times by leg.
    pub legs: Legs,
    /// Exchanges that were left when the mirror had ended and five more seconds were over.
    pub stopped: u64,
    /// Exchanges that `--report-only` or `--report-sample` left out.
    pub left_out: u64,
    /// What has become of the report's lines, where there is a report.
    pub report: Option<Written>,
}

impl Default for Compared {
    fn default() -> Self {
        Self::new(TallyBounds::default())
    }
}

impl Compared {
    /// Nothing yet.
    #[must_use]
    pub fn new(bounds: TallyBounds) -> Self {
        Self {
            at: Instant::default(),
            tallies: Tallies::new(bounds),
            noise: Noise::default(),
            differences: Differences::default(),
            legs: Legs::default(),
            stopped: 0,
            left_out: 0,
            report: None,
        }
    }

    /// Counts an exchange.
    pub fn add(&mut self, exchange: &Exchange, comparison: &Comparison) {
        self.tallies.record(exchange, comparison);
        self.differences.add(comparison);
        self.legs.add(exchange, &comparison.endpoint);
    }
}

struct Comparing {
    comparer: Comparer,
    /// What is masked in all that is told.
    rules: Arc<Rules>,
    /// Known from a run of `--learn-noise`.
    learnt: Option<Learnt>,
    /// What waits for the baseline, where there is one.
    waiting: Option<Waiting>,
    thresholds: Thresholds,
    noise: Noise,
    report: Option<Report>,
    seen: Seen,
    /// Where exchanges go when they are done with.
    spent: Spent,
    /// When all is over.
    end: End,
}

/// When nothing more is compared; not known before the mirror ends.
type End = Arc<OnceLock<Instant>>;

/// The running thread.
#[derive(Debug)]
pub struct Thread {
    handle: JoinHandle<()>,
    end: End,
    seen: Seen,
}

/// Starts the thread, which ends when the worker has and nothing is left to compare.
///
/// # Errors
/// When the kernel gives none.
pub fn start(
    config: &Config,
    rules: Arc<Rules>,
    learnt: Option<Learnt>,
    report: Option<Report>,
    exchanges: Exchanges,
) -> anyhow::Result<Thread> {
    let seen = Seen::default();
    let comparing = Comparing {
        // Routes that cover the same paths were refused before.
        comparer: Comparer::new(config.judge.rules.clone())?,
        rules,
        learnt,
        waiting: config.baseline.as_ref().map(|_| Waiting::default()),
        thresholds: config.judge.thresholds,
        noise: Noise::default(),
        report,
        seen: Arc::clone(&seen),
        spent: exchanges.spent(),
        end: End::default(),
    };
    let end = Arc::clone(&comparing.end);
    let bounds = TallyBounds {
        example_octets: EXAMPLES,
        bodies: config.show_bodies,
        ..TallyBounds::default()
    };
    let handle = thread::Builder::new()
        .name("shadowtap-compare".to_owned())
        .spawn(move || {
            if let Err(error) = kernel::stand_back(STANDS_BACK) {
                tracing::warn!("comparing is not done behind everything else: {error}");
            }
            comparing.run(exchanges, Compared::new(bounds));
        })
        .context("the comparing thread does not start")?;
    Ok(Thread { handle, end, seen })
}

impl Comparing {
    fn run(mut self, mut exchanges: Exchanges, mut compared: Compared) {
        let wall = Wall::now();
        let mut line = Vec::new();
        let mut next = kernel::now();
        let mut published = 0;
        if let Some(learnt) = &self.learnt {
            self.noise = compared.tallies.noise(Some(learnt), &self.thresholds);
        }
        loop {
            let now = kernel::now();
            if now >= next {
                let report = self.report.as_ref().map(|report| report.writer.written());
                let total = compared.tallies.total();
                let exchanges = total.exchanges + total.baseline;
                // A copy of all counts is worth something only where one has changed.
                if exchanges != published || report != compared.report {
                    published = exchanges;
                    compared.report = report;
                    self.publish(&mut compared);
                }
                next = kernel::now() + PUBLISH_EVERY;
            }
            let due = self.waiting.as_ref().and_then(Waiting::next_due).unwrap_or(next).min(next);
            match exchanges.next_within(due.since(now)) {
                Ok(handed @ Handed { role: Role::Shadow, .. }) => {
                    let handed = match &mut self.waiting {
                        Some(waiting) => waiting.take(handed, kernel::now()),
                        None => Some(handed),
                    };
                    self.take(handed, wall, &mut line, &mut compared);
                }
                Ok(Handed { role: Role::Baseline, exchange, .. }) => {
                    let waiting = self.waiting.as_mut();
                    let shadows = waiting.map(|waiting| waiting.release(&exchange, kernel::now()));
                    self.take_baseline(exchange, &mut compared);
                    self.take(shadows.unwrap_or_default(), wall, &mut line, &mut compared);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.take_due(kernel::now(), wall, &mut line, &mut compared);
        }
        self.take_due(Instant::NEVER, wall, &mut line, &mut compared);
        compared.report = self.report.take().map(|report| report.writer.finish(LAST_LINES));
        self.publish(&mut compared);
    }

    /// Those that have waited for the baseline until `now`.
    fn take_due(&mut self, now: Instant, wall: Wall, line: &mut Vec<u8>, to: &mut Compared) {
        while let Some(exchanges) = self.waiting.as_mut().and_then(|waiting| waiting.pop_due(now)) {
            self.take(exchanges, wall, line, to);
        }
    }

    fn take(
        &mut self,
        exchanges: impl IntoIterator<Item = Handed>,
        wall: Wall,
        line: &mut Vec<u8>,
        to: &mut Compared,
    ) {
        for mut handed in exchanges {
            self.take_one(&mut handed, wall, line, to);
            self.spent.take(handed.exchange);
        }
    }

    fn take_one(&mut self, handed: &mut Handed, wall: Wall, line: &mut Vec<u8>, to: &mut Compared) {
        let Handed { shadow, exchange, .. } = handed;
        if self.is_over() {
            to.stopped += 1;
            return;
        }
        let mut comparison = self.comparer.compare(exchange, &self.noise);
        // Nothing that is to be masked leaves this function, whoever looks.
        self.rules.mask(exchange, &mut comparison, &self.comparer);
        to.add(exchange, &comparison);
        let Some(report) = &mut self.report else { return };
        if !report.pick.take(comparison.verdict) {
            to.left_out += 1;
            return;
        }
        report.writer.offer(|| {
            line.clear();
            let id = self.rules.request_id(exchange);
            let told = jsonl::Told { shadow, exchange, comparison: &comparison, id: id.as_deref() };
            if let Err(error) = jsonl::write(line, wall, &told, report.bodies) {
                // Writing to memory does not fail, and every value of ours has its JSON.
                debug_assert!(false, "{error}");
            }
            line.push(b'\n');
            line.clone()
        });
    }

    /// Production beside itself: whatever differs is noise.
    fn take_baseline(&mut self, mut exchange: Box<Exchange>, to: &mut Compared) {
        if self.is_over() {
            to.stopped += 1;
            return;
        }
        let mut comparison = self.comparer.compare(&exchange, &Noise::default());
        self.rules.mask(&mut exchange, &mut comparison, &self.comparer);
        to.tallies.record_baseline(&comparison);
        to.tallies.note_noise(&comparison, &self.thresholds, &mut self.noise);
        self.spent.take(exchange);
    }

    /// Whether nothing more is compared.
    fn is_over(&self) -> bool {
        self.end.get().is_some_and(|end| kernel::now() >= *end)
    }

    fn publish(&mut self, compared: &mut Compared) {
        if self.learnt.is_some() || self.waiting.is_some() {
            self.noise = compared.tallies.noise(self.learnt.as_ref(), &self.thresholds);
        }
        compared.noise.clone_from(&self.noise);
        compared.at = kernel::now();
        self.seen.store(Arc::new(compared.clone()));
    }
}

impl Thread {
    /// Where its moments are published.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Arc::clone(&self.seen)
    }

    /// Waits until what was handed in is compared and reported, as far as that gets in five seconds;
    /// the last moment.
    #[must_use]
    pub fn join(self) -> Arc<Compared> {
        let _ = self.end.set(kernel::now() + LAST_EXCHANGES);
        if self.handle.join().is_err() {
            tracing::error!(
                "the comparing thread panicked; what it had published last is what counts"
            );
        }
        self.seen.load_full()
    }
}

#[cfg(test)]
mod tests;
