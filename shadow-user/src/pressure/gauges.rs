//! What the host and the mirror itself are at.

use std::time::Duration;

use procfs::process::Process;
use procfs::{CpuPressure, CurrentSI as _, FromRead as _, KernelStats};

use shadow_engine::time::Instant;

use super::backlog::Backlog;
use super::governor::Load;
use super::{Limits, Pressure};

/// Of a processor's time, in software interrupts: beyond it the network's own work is what is short.
const SOFTIRQ: f64 = 0.8;

/// Of the accept queue's length: beyond it clients will soon be turned away.
const ACCEPT_QUEUE: f64 = 0.5;

/// Since when what has added up, at one moment.
#[derive(Debug, Default)]
struct Totals {
    own: Duration,
    stalled: Option<Duration>,
    softirq: Vec<Duration>,
}

/// Reads them, and remembers what they were.
#[derive(Debug)]
pub struct Gauges {
    backlog: Option<Backlog>,
    last: Option<(Instant, Totals)>,
}

/// What is beyond its limit, and in words by how much.
pub type Beyond = (Pressure, String);

impl Gauges {
    /// For services at these ports. What the kernel does not tell is no gauge.
    #[must_use]
    pub fn new(ports: Vec<u16>) -> Self {
        let backlog = Backlog::new(ports)
            .inspect_err(|error| tracing::debug!("production's accept queue is unknown: {error}"));
        Self { backlog: backlog.ok(), last: None }
    }

    /// How near the gauges are to their limits since the last call, and which is beyond; `None` at
    /// the first call.
    pub fn read(&mut self, now: Instant, limits: &Limits) -> Option<(Load, Option<Beyond>)> {
        let totals = Totals::read();
        let (before, last) = self.last.replace((now, totals))?;
        let elapsed = now.since(before).as_secs_f64();
        let (_, totals) = self.last.as_ref()?;
        let ratio = |later: Duration, earlier: Duration| {
            later.saturating_sub(earlier).as_secs_f64() / elapsed.max(0.001)
        };
        let mut load = Load::Calm;
        let mut beyond = None;
        let mut look = |what: Pressure, value: f64, limit: f64, of: &str| {
            let found = Load::of(value, limit);
            load = load.max(found);
            if found == Load::Pressed && beyond.is_none() {
                let (value, limit) = (value * 100.0, limit * 100.0);
                beyond = Some((what, format!("{of} {value:.0}%, beyond {limit:.0}%")));
            }
        };
        if let Some(limit) = limits.cpu.ratio() {
            let value = ratio(totals.own, last.own);
            look(Pressure::Cpu, value, limit, "the mirror's own share of a processor is");
        }
        let Some(limit) = limits.pressure.ratio() else { return Some((load, beyond)) };
        if let (Some(stalled), Some(before)) = (totals.stalled, last.stalled) {
            let value = ratio(stalled, before);
            look(Pressure::Stall, value, limit, "time in which something waits for a processor is");
        }
        let softirq = totals.softirq.iter().zip(&last.softirq);
        let softirq = softirq.map(|(later, earlier)| ratio(*later, *earlier)).fold(0.0, f64::max);
        look(Pressure::Softirq, softirq, SOFTIRQ, "a processor's time in software interrupts is");
        if let Some(backlog) = &mut self.backlog {
            match backlog.fullest() {
                Ok(value) => {
                    let of = "production's accept queue is full to";
                    look(Pressure::AcceptQueue, value, ACCEPT_QUEUE, of);
                }
                Err(error) => {
                    tracing::debug!("production's accept queue is unknown from now on: {error}");
                    self.backlog = None;
                }
            }
        }
        Some((load, beyond))
    }
}

impl Totals {
    fn read() -> Self {
        let own = Process::myself().and_then(|process| process.stat()).map(|stat| {
            let ticks = (stat.utime + stat.stime) as f64;
            Duration::from_secs_f64(ticks / procfs::ticks_per_second() as f64)
        });
        let stats = KernelStats::current();
        let stalled = CpuPressure::from_file("/proc/pressure/cpu");
        Self {
            own: own.unwrap_or_default(),
            stalled: stalled.ok().map(|stalled| Duration::from_micros(stalled.some.total)),
            softirq: stats.map_or_else(
                |_| Vec::new(),
                |stats| {
                    let each = stats.cpu_time.iter();
                    each.map(|cpu| cpu.softirq_duration().unwrap_or_default()).collect()
                },
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limit;
    use super::*;

    /// Burns processor time, as a mirror would.
    fn work() {
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn the_first_reading_says_nothing_and_work_is_seen_by_the_next() {
        let cpu = |text| Limits {
            cpu: Limit::parse(text, 10_000).expect("a limit"),
            ..Limits::default()
        };
        let mut gauges = Gauges::new(Vec::new());
        assert!(gauges.read(crate::kernel::now(), &cpu("1%")).is_none());
        work();
        let (load, beyond) = gauges.read(crate::kernel::now(), &cpu("1%")).expect("a reading");
        assert_eq!(load, Load::Pressed);
        let (what, text) = beyond.expect("a reason");
        assert_eq!(what, Pressure::Cpu);
        assert!(text.ends_with("%, beyond 1%"), "{text}");
        work();
        let (load, beyond) = gauges.read(crate::kernel::now(), &cpu("10000%")).expect("a reading");
        assert_eq!((load, beyond), (Load::Calm, None));
        work();
        let off = gauges.read(crate::kernel::now(), &Limits::default()).expect("a reading");
        assert_eq!(off, (Load::Calm, None));
    }
}
