//! A receiver that swallows everything and acknowledges as a current kernel does: every second
//! segment or after 40 ms, at once when out of order, with as many SACK blocks as there is room for.

use std::net::SocketAddr;
use std::time::Duration;

use shadow_engine::seq::SeqNum;
use shadow_engine::time::Instant;
use shadow_engine::wire::{Flags, Options, Packet, SackBlocks, Segment, Timestamps, emit};

const SHIFT: u8 = 10;

pub struct Sink {
    local: SocketAddr,
    remote: SocketAddr,
    window: u32,
    sack: bool,
    timestamps: bool,
    start: SeqNum,
    /// Octets received in order.
    pub received: u64,
    /// Ranges beyond a hole as stream offsets, the most recent first.
    ranges: Vec<(u64, u64)>,
    unacknowledged: u32,
    ack_at: Option<Instant>,
    echo: u32,
    outgoing: Vec<Vec<u8>>,
}

impl Sink {
    pub fn new(local: SocketAddr, remote: SocketAddr, window: u32, sack: bool, ts: bool) -> Self {
        Self {
            local,
            remote,
            window,
            sack,
            timestamps: ts,
            start: SeqNum::default(),
            received: 0,
            ranges: Vec::new(),
            unacknowledged: 0,
            ack_at: None,
            echo: 0,
            outgoing: Vec::new(),
        }
    }

    pub fn handle_packet(&mut self, bytes: &[u8], now: Instant) {
        let Ok(Packet { segment, .. }) = Packet::parse(bytes) else { return };
        if segment.flags.syn {
            self.start = segment.seq + 1;
            self.echo = segment.options.timestamps.map_or(0, |ts| ts.value);
            self.send(true, now);
            return;
        }
        if segment.payload.is_empty() {
            return;
        }
        // Within 2 GiB of what was received.
        let behind = segment.seq.distance(self.start + self.received as u32);
        let left = self.received.saturating_add_signed(i64::from(behind));
        let right = left + segment.payload.len() as u64;
        if left <= self.received
            && let Some(ts) = segment.options.timestamps
        {
            self.echo = ts.value;
        }
        let mut at_once = true;
        if left <= self.received && right > self.received {
            at_once = !self.ranges.is_empty();
            self.received = right;
            while let Some(at) = self.ranges.iter().position(|range| range.0 <= self.received) {
                self.received = self.received.max(self.ranges.remove(at).1);
            }
        } else if left > self.received {
            let mut merged = (left, right);
            self.ranges.retain(|range| {
                let apart = range.1 < merged.0 || range.0 > merged.1;
                if !apart {
                    merged = (merged.0.min(range.0), merged.1.max(range.1));
                }
                apart
            });
            self.ranges.insert(0, merged);
        }
        self.unacknowledged += 1;
        if at_once || self.unacknowledged >= 2 {
            self.send(false, now);
        } else {
            self.ack_at = Some(now + Duration::from_millis(40));
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ack_at
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ack_at.is_some_and(|at| at <= now) {
            self.send(false, now);
        }
    }

    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        (!self.outgoing.is_empty()).then(|| self.outgoing.remove(0))
    }

    fn send(&mut self, syn: bool, now: Instant) {
        self.unacknowledged = 0;
        self.ack_at = None;
        let mut sack = SackBlocks::default();
        if self.sack && !syn {
            let base = self.start;
            for range in self.ranges.iter().take(if self.timestamps { 3 } else { 4 }) {
                sack.push(base + range.0 as u32, base + range.1 as u32);
            }
        }
        let segment = Segment {
            seq: SeqNum::new(if syn { 0 } else { 1 }),
            ack: self.start + self.received as u32,
            flags: Flags { syn, ack: true, ..Flags::default() },
            wnd: if syn { u16::MAX } else { (self.window >> SHIFT) as u16 },
            up: 0,
            options: Options {
                mss: syn.then_some(1460),
                window_scale: syn.then_some(SHIFT),
                sack_permitted: syn && self.sack,
                timestamps: self
                    .timestamps
                    .then_some(Timestamps { value: now.as_millis() as u32, echo_reply: self.echo }),
                sack,
            },
            payload: &[],
        };
        let mut bytes = Vec::new();
        emit(self.local, self.remote, &segment, [&[], &[]], &mut bytes);
        self.outgoing.push(bytes);
    }
}
