//! The thread that packets go through. It owns the engines, the programs, the rings
//! and the sockets, and shares nothing but a snapshot that it replaces whole.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use humantime::format_duration;
use shadow_common::{Address, FlowKey, FlowRule, RecordKind, ServiceKey, TapCounter};
use shadow_engine::books::Tally;
use shadow_engine::time::Instant;
use shadow_engine::{Order, Want};
use tokio::sync::oneshot;

use crate::choice::{Places, Sample, Selection};
use crate::comparing;
use crate::ctl::settings::{Change, Name, Settings};
use crate::kernel::{self, KernelCounters, KernelError, NextHop, Pinning, Programs, Rings};
use crate::links::Link;
use crate::middleware::Asker;
use crate::pressure::{Beyond, Eased, Step};
use crate::ramp::Ramp;
use crate::report::{Lag, Phase, Snapshot, answers};
use crate::services::address;
use crate::setting::Wrong;
use crate::shadows::Shadows;

/// The last snapshot, for whoever wants to look.
pub type Published = Arc<ArcSwap<Snapshot>>;

/// Records of each ring that are handled before timers get their turn.
const BUDGET: usize = 256;

/// With traffic, packets are left to gather for this long: a wake-up for each of them
/// would cost production more than all of the mirror's work.
const NAP: Duration = Duration::from_micros(200);

/// The longest sleep, so that commands are seen.
const MAX_SLEEP: Duration = Duration::from_millis(50);

/// How often the counters in the kernel are read, so that losses are known while their
/// flows are still at hand.
const COUNTERS_EVERY: Duration = Duration::from_millis(20);

/// How often a snapshot is published.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);

/// After the last session, the guard stays until the shadow has been quiet for this long,
/// so that the kernel sees none of its last packets and answers none with RST.
const QUIET: Duration = Duration::from_millis(300);

/// The longest wait for that quiet, and for the last captured packets.
const QUIET_MAX: Duration = Duration::from_secs(2);

const REPLY: u32 = RecordKind::Reply as u32;
const RESPONSE: u32 = RecordKind::Response as u32;
const RESPONSE_HEADERS: u32 = RecordKind::ResponseHeaders as u32;

/// What the worker is told.
#[derive(Debug)]
pub enum Command {
    /// Mirror these addresses and ports from now on.
    SetServices(Vec<ServiceKey>),
    /// These are this host's addresses from now on.
    SetOwnAddresses(Vec<Address>),
    /// Change a setting, and say what the settings are then; or why they stay as they were.
    Change {
        /// The change.
        change: Change,
        /// Where the answer goes.
        done: oneshot::Sender<Result<Arc<Settings>, Wrong>>,
    },
    /// The host is under more pressure or less: mirror this part of what is chosen.
    Ease {
        /// Which part.
        step: Step,
        /// What was too much, and in words by how much; none when it is less.
        beyond: Option<Beyond>,
    },
    /// Hand packets for each of the shadows, in their order, to these from now on; to whom the kernel's routes
    /// say where there is none.
    SetNextHops(Vec<Option<NextHop>>),
    /// Attach the programs to an interface that has come back.
    Attach(Link),
    /// End capture, and give open sessions this long to end.
    Stop {
        /// The grace.
        drain: Duration,
    },
    /// Reset whatever is still open, at once.
    Abort,
}

/// The worker's ends of the ways to the other threads.
pub struct Ends {
    /// Whence it is told what to do.
    pub commands: Receiver<Command>,
    /// To those who compare.
    pub exchanges: comparing::Sender,
    /// For whoever wants to look.
    pub published: Published,
}

/// The parts of a running mirror.
pub struct Worker {
    programs: Programs,
    rings: Rings,
    shadows: Shadows,
    /// How guards are pinned.
    pinning: Pinning,
    commands: Receiver<Command>,
    exchanges: comparing::Sender,
    /// The way to a program that is asked about requests, if there is one.
    asker: Option<Asker>,
    settings: Arc<Settings>,
    /// How the sample grows, while it does.
    ramp: Option<Ramp>,
    /// How often each was changed.
    changes: Tally<Name>,
    /// Who is in the part of the sample that pressure leaves.
    places: Places,
    /// What pressure has come to.
    eased: Eased,
    /// A rule of a flow could not be set: said once.
    has_rule_failed: bool,
    published: Published,
    started: Instant,
    phase: Phase,
    lag: Lag,
    counters: KernelCounters,
    /// When the drain's grace is over.
    deadline: Option<Instant>,
    next_counters: Instant,
    next_publish: Instant,
}

impl Worker {
    /// Takes what is loaded and attached.
    ///
    /// # Errors
    /// When the rings are not to be had.
    pub fn new(
        mut programs: Programs,
        shadows: Shadows,
        pinning: Pinning,
        settings: Settings,
        places: Places,
        ends: Ends,
    ) -> anyhow::Result<Self> {
        let rings = programs.take_rings()?.context("the rings are taken")?;
        let Ends { commands, exchanges, published } = ends;
        let now = kernel::now();
        Ok(Self {
            programs,
            rings,
            shadows,
            pinning,
            commands,
            exchanges,
            asker: None,
            settings: Arc::new(settings),
            ramp: None,
            changes: Tally::default(),
            places,
            eased: Eased::default(),
            has_rule_failed: false,
            published,
            started: now,
            phase: Phase::default(),
            lag: Lag::default(),
            counters: KernelCounters::default(),
            deadline: None,
            next_counters: now,
            next_publish: now,
        })
    }

    /// Lets the sample grow to `to` from now on.
    pub fn ramp(&mut self, to: Sample, lasts: Duration) {
        let ramp = Ramp::new(to, lasts, kernel::now());
        tracing::info!("the sample grows to {to} within {}", format_duration(lasts));
        self.ramp = Some(ramp);
    }

    /// Asks a program about requests.
    pub fn ask(&mut self, asker: Asker) {
        self.rings.wake_by(asker.bell());
        self.asker = Some(asker);
    }

    /// Mirrors until it is told to stop and all sessions have ended; the last snapshot.
    /// Dropping the worker detaches the programs.
    ///
    /// # Errors
    /// When the kernel refuses what it took before.
    pub fn run(mut self) -> anyhow::Result<Snapshot> {
        loop {
            self.obey()?;
            if self.phase == Phase::Draining {
                let now = kernel::now();
                let over = self.deadline.is_none_or(|deadline| now >= deadline);
                if over || self.shadows.is_drained() {
                    break;
                }
            }
            self.turn()?;
        }
        // Not before: what is still delivered is still to be compared.
        self.programs.detach_taps_out();
        self.settle()?;
        self.shadows.finish(kernel::now());
        while self.shadows.transmit(kernel::now()) {}
        self.linger()?;
        self.hand_over();
        self.phase = Phase::Done;
        Ok(self.publish(kernel::now()))
    }

    /// Everything that is to be done now, then a rest that fits the traffic.
    fn turn(&mut self) -> anyhow::Result<()> {
        let (packets, more_to_read) = self.drain();
        let now = kernel::now();
        self.shadows.handle_timeout(now);
        if let Some(asker) = &mut self.asker {
            self.shadows.ask(asker, now);
        }
        let more_to_send = self.shadows.transmit(now);
        self.hand_over();
        if now >= self.next_counters {
            self.read_counters(now)?;
        }
        self.climb(now)?;
        if now >= self.next_publish {
            self.publish(now);
        }
        if more_to_read || more_to_send {
            return Ok(());
        }
        if packets != 0 {
            thread::sleep(NAP);
            return Ok(());
        }
        self.exchanges.free_all();
        let due = self.shadows.poll_timeout().map_or(MAX_SLEEP, |due| due.since(kernel::now()));
        let publish = self.next_publish.since(now);
        self.rings.wait(due.min(publish).min(MAX_SLEEP)).context("cannot wait for packets")
    }

    /// Hands a bounded number of packets to the engines; how many, and whether there are more.
    fn drain(&mut self) -> (usize, bool) {
        let Self { rings, shadows, lag, exchanges, .. } = self;
        let now = kernel::now();
        // As many as a packet begins as a rule.
        let spent = shadows.count();
        let drained = rings.drain(BUDGET, |header, packet| {
            let captured_at = Instant::from_nanos(header.captured_at);
            match header.kind {
                REPLY => shadows.handle_reply(packet, captured_at, now),
                RESPONSE | RESPONSE_HEADERS => shadows.handle_response(packet, captured_at, now),
                _ => {
                    lag.add(now.since(captured_at));
                    exchanges.free(spent);
                    shadows.handle_capture(packet, captured_at, now);
                }
            }
        });
        (drained.packets, drained.more)
    }

    /// Tells the kernel what is wanted of answers, and hands on the exchanges that are complete.
    fn hand_over(&mut self) {
        while let Some(order) = self.shadows.poll_order() {
            if let Err(error) = obey(&mut self.programs, &order)
                && !std::mem::replace(&mut self.has_rule_failed, true)
            {
                // More is copied than is of use, which the ring's losses will show.
                tracing::warn!("a flow's answers are copied as before: {error}");
            }
        }
        self.shadows.hand_over(&mut self.exchanges);
    }

    fn read_counters(&mut self, now: Instant) -> anyhow::Result<()> {
        let counters = self.programs.counters()?;
        // Fragments and malformed packets may be ours as well.
        let lost = |counters: &KernelCounters| {
            let tap = |counter| counters.tap.get(counter);
            let of_others =
                tap(TapCounter::SampledOut) + tap(TapCounter::Client) + tap(TapCounter::Paused);
            counters.tap.total() - tap(TapCounter::Captured) - of_others
        };
        if lost(&counters) != lost(&self.counters) {
            self.shadows.note_capture_loss(now);
        }
        self.counters = counters;
        self.next_counters = now + COUNTERS_EVERY;
        Ok(())
    }

    fn publish(&mut self, now: Instant) -> Snapshot {
        let (shadow, others) = self.shadows.mirrored();
        let snapshot = Snapshot {
            started: self.started,
            at: now,
            phase: self.phase,
            kernel: self.counters.clone(),
            settings: Arc::clone(&self.settings),
            changes: self.changes.clone(),
            eased: self.eased.clone(),
            lag: self.lag.clone(),
            asked: self.asker.as_ref().map(Asker::counted),
            resident: resident(),
            shadow,
            others,
        };
        self.published.store(Arc::new(snapshot.clone()));
        self.next_publish = now + PUBLISH_EVERY;
        snapshot
    }

    /// Follows the commands that have come.
    fn obey(&mut self) -> anyhow::Result<()> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::SetServices(services)) => {
                    if let Err(error) = self.programs.set_services(&services) {
                        tracing::error!("the mirrored addresses stay as they were: {error}");
                    }
                }
                Ok(Command::SetOwnAddresses(own)) => {
                    if let Err(error) = self.programs.set_own_addresses(&own) {
                        tracing::error!("the guard's own addresses stay as they were: {error}");
                    }
                }
                Ok(Command::Change { change, done }) => {
                    // Whoever asked may have left.
                    let _ = done.send(self.change(&change));
                }
                Ok(Command::Ease { step, beyond }) => self.ease(step, beyond),
                Ok(Command::SetNextHops(next_hops)) => self.shadows.set_next_hops(&next_hops),
                Ok(Command::Attach(link)) => self.attach(&link),
                Ok(Command::Stop { drain }) => self.stop(drain)?,
                Ok(Command::Abort) => {
                    self.stop(Duration::ZERO)?;
                    self.deadline = Some(kernel::now());
                }
                Err(TryRecvError::Empty) => return Ok(()),
                // Whoever could have said more is gone: end in order.
                Err(TryRecvError::Disconnected) => return self.stop(Duration::ZERO),
            }
        }
    }

    /// Changes a setting.
    fn change(&mut self, change: &Change) -> Result<Arc<Settings>, Wrong> {
        let changed = change.of(&self.settings)?;
        self.follow(&changed).map_err(|error| {
            (format!("cannot be changed: {error}"), "see the log of the mirror".to_owned())
        })?;
        let name = change.name();
        tracing::info!(
            "{} is {}, and was {}",
            name.flag(),
            name.brief(&changed),
            name.brief(&self.settings)
        );
        if changed.ramp.is_none() && self.ramp.take().is_some() {
            tracing::info!("the sample grows no more");
        }
        self.changes.add(name, 1);
        self.settings = Arc::new(changed);
        self.publish(kernel::now());
        Ok(Arc::clone(&self.settings))
    }

    /// Does from now on as the settings say.
    fn follow(&mut self, settings: &Settings) -> Result<(), KernelError> {
        let selection = settings.selection.eased(self.eased.share);
        self.programs.set_selection(&selection)?;
        self.shadows.set_paused(selection.paused);
        self.shadows.set_quota(settings.rates.quota());
        Ok(())
    }

    /// Lets the sample grow when it is time. Under pressure only the share of later counts: flows that
    /// are open already stay out.
    fn climb(&mut self, now: Instant) -> Result<(), KernelError> {
        let is_over = self.phase != Phase::Capturing;
        let Some(ramp) = self.ramp.as_mut().filter(|ramp| !is_over && now >= ramp.due()) else {
            return Ok(());
        };
        let (sample, to) = (ramp.share(now), ramp.to());
        let mut settings = Settings::clone(&self.settings);
        settings.selection.sample = sample;
        if sample == to {
            tracing::info!("the sample has grown to {to}");
            (self.ramp, settings.ramp) = (None, None);
        }
        if self.eased.share < 1.0 {
            self.programs.set_selection(&settings.selection.eased(self.eased.share))?;
        } else {
            self.programs.let_sample_grow(&settings.selection)?;
        }
        self.settings = Arc::new(settings);
        Ok(())
    }

    /// Mirrors the part of what is chosen that pressure leaves.
    fn ease(&mut self, Step { share, shed }: Step, beyond: Option<Beyond>) {
        let was = std::mem::replace(&mut self.eased.share, share);
        let settings = Arc::clone(&self.settings);
        if let Err(error) = self.follow(&settings) {
            self.eased.share = was;
            tracing::error!("the sample stays as it was, in spite of the pressure: {error}");
            return;
        }
        let (before, now) = (was * 100.0, share * 100.0);
        if let Some((what, beyond)) = beyond {
            if share < was {
                self.eased.shrunk.add(what, 1);
                tracing::warn!("{beyond}: {now:.1}% of the sample are left, of {before:.1}%");
            }
        } else {
            self.eased.returned += 1;
            tracing::info!("less pressure: {now:.1}% of the sample are mirrored again");
        }
        if shed {
            self.shed(&settings.selection.eased(share));
        }
        self.publish(kernel::now());
    }

    /// Gives up sessions outside of the selection's sample, and has no more copied of their flows.
    fn shed(&mut self, selection: &Selection) {
        let Self { shadows, programs, places, .. } = self;
        let mut failed = None;
        let keep = |client: SocketAddr, production: SocketAddr| {
            if !selection.paused && places.has(selection.sample, client) {
                return true;
            }
            if let Err(error) = programs.pass_flow(&flow_key(client, production)) {
                failed = Some(error);
            }
            false
        };
        shadows.shed(keep, kernel::now());
        if let Some(error) = failed {
            tracing::warn!("flows that were given up are copied all the same: {error}");
        }
    }

    /// Attaches to another interface of the same name, while there is something to capture.
    fn attach(&mut self, link: &Link) {
        if self.phase != Phase::Capturing {
            return;
        }
        self.programs.forget(&link.name);
        match link.attach(&mut self.programs, &self.pinning) {
            Ok(()) => tracing::info!("{} is back, and the mirror attached to it", link.name),
            Err(error) => tracing::error!("{} is back, without the mirror: {error}", link.name),
        }
        // What went by meanwhile is missing here, and nowhere else.
        self.shadows.note_capture_loss(kernel::now());
    }

    /// Ends capture, takes what was captured before, and lets open sessions drain.
    fn stop(&mut self, drain: Duration) -> anyhow::Result<()> {
        if self.phase != Phase::Capturing {
            return Ok(());
        }
        self.programs.detach_taps();
        self.settle()?;
        self.phase = Phase::Draining;
        let now = kernel::now();
        self.shadows.stop_capture(now);
        self.shadows.transmit(now);
        self.deadline = Some(now + drain);
        self.publish(now);
        Ok(())
    }

    /// Drains the tap's rings until the engines have all that was captured. A program that
    /// was running on another CPU at the moment of detaching may still add a packet.
    fn settle(&mut self) -> anyhow::Result<()> {
        let deadline = kernel::now() + QUIET_MAX;
        loop {
            let (packets, _) = self.drain();
            let now = kernel::now();
            self.shadows.transmit(now);
            self.hand_over();
            // Answers go on being captured until the drain is over.
            let with_answers = self.phase == Phase::Draining;
            let seen = |counters: &KernelCounters| {
                let answers = if with_answers { counters.responses.total() } else { 0 };
                counters.tap.total() + answers
            };
            let before = seen(&self.counters);
            self.read_counters(now)?;
            let captured = self.counters.tap.get(TapCounter::Captured);
            let answered = answers(&self.counters);
            let all = seen(&self.counters) == before
                && self.shadows.have_taken(captured, with_answers.then_some(answered));
            if all || now >= deadline {
                return Ok(());
            }
            if packets == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Goes on dropping and answering what the shadow still sends until it is quiet.
    fn linger(&mut self) -> anyhow::Result<()> {
        let end = kernel::now() + QUIET_MAX;
        let mut quiet_since = kernel::now();
        loop {
            let (packets, _) = self.drain();
            let now = kernel::now();
            if self.shadows.transmit(now) || packets != 0 {
                quiet_since = now;
            }
            if now >= end || now.since(quiet_since) >= QUIET {
                return self.read_counters(now);
            }
            self.rings.wait(MAX_SLEEP).context("cannot wait for packets")?;
        }
    }
}

fn obey(programs: &mut Programs, order: &Order) -> Result<(), KernelError> {
    let key = flow_key(order.client, order.production);
    match order.want {
        Want::All => programs.set_flow_rule(&key, FlowRule::ALL),
        Want::AllBut { from, until } => {
            programs.set_flow_rule(&key, FlowRule::all_but(from, until))
        }
        Want::Nothing => programs.set_flow_rule(&key, FlowRule::NOTHING),
        Want::Forget => programs.forget_flow(&key),
    }
}

fn flow_key(client: SocketAddr, production: SocketAddr) -> FlowKey {
    FlowKey {
        client: address(client.ip()),
        production: address(production.ip()),
        client_port: client.port().to_be_bytes(),
        production_port: production.port().to_be_bytes(),
    }
}

/// Bytes of this process in memory; 0 where procfs does not say.
fn resident() -> u64 {
    let Ok(statm) = procfs::process::Process::myself().and_then(|process| process.statm()) else {
        return 0;
    };
    statm.resident * procfs::page_size()
}
