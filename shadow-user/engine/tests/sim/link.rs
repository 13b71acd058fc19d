//! One direction of a link.

use std::collections::BTreeMap;
use std::time::Duration;

use shadow_engine::time::Instant;

use super::dice::Dice;

/// What a link does to packets.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub latency: Duration,
    /// Added to each packet's latency, at most; order is kept.
    pub jitter: Duration,
    pub loss: f64,
    pub duplication: f64,
    /// Chance that a packet is held back, by up to `hold`.
    pub reordering: f64,
    pub hold: Duration,
    /// Chance that a bit is flipped.
    pub corruption: f64,
    /// Octets a second; `None` is infinitely fast.
    pub rate: Option<u64>,
    /// Octets that may wait for the line when `rate` is set; more are dropped.
    pub queue: usize,
    /// Largest packet, octets.
    pub mtu: u16,
}

impl Rules {
    /// A line with nothing but latency.
    pub fn clean(latency: Duration) -> Self {
        Self {
            latency,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            hold: Duration::ZERO,
            corruption: 0.0,
            rate: None,
            queue: usize::MAX,
            mtu: u16::MAX,
        }
    }
}

/// A packet on its way.
#[derive(Debug)]
pub struct Frame {
    pub bytes: Vec<u8>,
    /// A bit of it was flipped.
    pub corrupted: bool,
}

/// What became of a packet handed to the link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sent {
    Accepted,
    /// Dropped, because the link takes only so many octets.
    TooBig(u16),
}

/// One direction of a link.
pub struct Link {
    pub rules: Rules,
    dice: Dice,
    flying: BTreeMap<(Instant, u64), Frame>,
    count: u64,
    /// When the line is free again.
    free: Instant,
    /// Arrival of the last packet that was not held back: jitter keeps order.
    last: Instant,
    pub dropped: u64,
}

impl Link {
    pub fn new(rules: Rules, dice: Dice) -> Self {
        Self {
            rules,
            dice,
            flying: BTreeMap::new(),
            count: 0,
            free: Instant::default(),
            last: Instant::default(),
            dropped: 0,
        }
    }

    pub fn send(&mut self, bytes: Vec<u8>, now: Instant) -> Sent {
        let rules = self.rules;
        if bytes.len() > usize::from(rules.mtu) {
            return Sent::TooBig(rules.mtu);
        }
        let mut start = now.max(self.free);
        if let Some(rate) = rules.rate {
            let waiting = start.since(now).as_nanos() as u64 * rate / 1_000_000_000;
            if waiting as usize + bytes.len() > rules.queue {
                self.dropped += 1;
                return Sent::Accepted;
            }
            start += Duration::from_nanos(bytes.len() as u64 * 1_000_000_000 / rate);
            self.free = start;
        }
        if self.dice.chance(rules.loss) {
            self.dropped += 1;
            return Sent::Accepted;
        }
        let copies = 1 + u32::from(self.dice.chance(rules.duplication));
        for _ in 0..copies {
            let mut frame = Frame { bytes: bytes.clone(), corrupted: false };
            if self.dice.chance(rules.corruption) {
                let bit = self.dice.below(frame.bytes.len() as u64 * 8) as usize;
                frame.bytes[bit / 8] ^= 1 << (bit % 8);
                frame.corrupted = true;
            }
            let mut at = start + rules.latency + self.dice.duration(rules.jitter);
            if self.dice.chance(rules.reordering) {
                at += self.dice.duration(rules.hold);
            } else {
                at = at.max(self.last);
                self.last = at;
            }
            self.count += 1;
            self.flying.insert((at, self.count), frame);
        }
        Sent::Accepted
    }

    /// When the next packet arrives.
    pub fn next(&self) -> Option<Instant> {
        self.flying.keys().next().map(|key| key.0)
    }

    /// A packet that has arrived by `now`.
    pub fn receive(&mut self, now: Instant) -> Option<Frame> {
        let key = *self.flying.keys().next().filter(|key| key.0 <= now)?;
        self.flying.remove(&key)
    }
}
