//! One direction of an emulated link: what becomes of each frame, and when.
//!
//! It knows neither clock nor interface, so that its behaviour can be tested by the clock's word.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The most octets that one direction holds, whatever its rate and delay.
const HELD_MAX: usize = 64 << 20;

/// What a link does to the TCP segments that it carries, in each direction. Everything else
/// (ARP, neighbour discovery) is delayed only: a link whose ends do not find each other shows nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Segments that vanish, percent.
    pub loss: f64,
    /// Segments that arrive twice, percent.
    pub duplicates: f64,
    /// One way.
    pub delay: Duration,
    /// Added to `delay`, evenly between nothing and this, by each segment for itself: it reorders.
    pub jitter: Duration,
    /// Bits per second with Ethernet headers; `None` for no bound.
    pub rate: Option<u64>,
    /// Octets that wait for their turn at `rate`; a segment beyond is dropped.
    pub queue: usize,
    /// Longest IP packet of both ends' interfaces.
    pub mtu: u16,
    /// Frames arrive with an 802.1Q tag of priority 5 and no VLAN of its own, as from a switch.
    pub tagged: bool,
    /// Whether frames have Ethernet headers; without, none is lost or repeated.
    pub ethernet: bool,
    /// Seeds every choice.
    pub seed: u64,
}

impl Default for Link {
    /// A perfect wire.
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplicates: 0.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate: None,
            queue: 256 << 10,
            mtu: 1_500,
            tagged: false,
            ethernet: true,
            seed: 1,
        }
    }
}

/// Frames that came to one direction of a link, by what became of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Relayed {
    /// Came in.
    pub taken: u64,
    /// Went out; with duplicates, more than came in.
    pub passed: u64,
    /// Vanished by chance.
    pub lost: u64,
    /// Found the queue full.
    pub dropped: u64,
    /// Went out a second time.
    pub duplicated: u64,
}

/// A frame under way; ordered by when it is due, then by when it came.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Held {
    due: Instant,
    number: u64,
    frame: Vec<u8>,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Direction {
    random: ChaCha8Rng,
    held: BinaryHeap<Reverse<Held>>,
    held_octets: usize,
    /// When the last frame's last bit leaves at the link's rate.
    free_at: Option<Instant>,
    number: u64,
    counts: Relayed,
}

impl Direction {
    /// Direction `stream` of a link.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Self {
            random,
            held: BinaryHeap::new(),
            held_octets: 0,
            free_at: None,
            number: 0,
            counts: Relayed::default(),
        }
    }

    pub(crate) fn counts(&self) -> Relayed {
        self.counts
    }

    /// Takes a frame that came in.
    pub(crate) fn take(&mut self, link: &Link, frame: &[u8], now: Instant) {
        self.counts.taken += 1;
        let spared = !link.ethernet || !is_tcp(frame);
        // Drawn for every segment, so that one fault does not shift the choice of another.
        let [lost, twice] = [link.loss, link.duplicates].map(|percent| self.chance(percent));
        if lost && !spared {
            self.counts.lost += 1;
            return;
        }
        let Some(leaves) = self.leaves(link, frame.len(), now) else {
            self.counts.dropped += 1;
            return;
        };
        let due = leaves + link.delay;
        let frame = if link.tagged { tag(frame) } else { frame.to_vec() };
        let jitter = self.jitter(link, spared);
        if twice && !spared {
            self.counts.duplicated += 1;
            self.hold(due + jitter, frame.clone());
            let jitter = self.jitter(link, spared);
            self.hold(due + jitter, frame);
        } else {
            self.hold(due + jitter, frame);
        }
    }

    /// The next frame that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.next()? > now {
            return None;
        }
        let Reverse(held) = self.held.pop()?;
        self.held_octets -= held.frame.len();
        self.counts.passed += 1;
        Some(held.frame)
    }

    /// When the next frame is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.held.peek().map(|Reverse(held)| held.due)
    }

    /// When the frame's last bit has left the queue; `None` when there is no room.
    fn leaves(&mut self, link: &Link, len: usize, now: Instant) -> Option<Instant> {
        if self.held_octets + 2 * len > HELD_MAX {
            return None;
        }
        let Some(rate) = link.rate else { return Some(now) };
        let time = |octets: usize| Duration::from_secs_f64(octets as f64 * 8.0 / rate as f64);
        let begins = self.free_at.map_or(now, |free_at| free_at.max(now));
        if begins.saturating_duration_since(now) > time(link.queue) {
            return None;
        }
        let leaves = begins + time(len);
        self.free_at = Some(leaves);
        Some(leaves)
    }

    fn hold(&mut self, due: Instant, frame: Vec<u8>) {
        self.number += 1;
        self.held_octets += frame.len();
        self.held.push(Reverse(Held { due, number: self.number, frame }));
    }

    fn jitter(&mut self, link: &Link, spared: bool) -> Duration {
        if spared { Duration::ZERO } else { link.jitter.mul_f64(self.random()) }
    }

    fn chance(&mut self, percent: f64) -> bool {
        self.random() * 100.0 < percent
    }

    /// Evenly from 0 to 1.
    fn random(&mut self) -> f64 {
        f64::from(self.random.next_u32()) / (f64::from(u32::MAX) + 1.0)
    }
}

/// The frame with a tag between addresses and type (IEEE 802.1Q, 9.6): priority 5, VLAN 0.
fn tag(frame: &[u8]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(frame.len().min(12));
    [addresses, &[0x81, 0x00, 0xa0, 0x00], rest].concat()
}

/// An Ethernet frame with TCP over IPv4, or over IPv6 without extension headers.
fn is_tcp(frame: &[u8]) -> bool {
    const TCP: Option<&u8> = Some(&6);
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(23) == TCP,
        Some([0x86, 0xdd]) => frame.get(20) == TCP,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// TCP over IPv4 with a number in it.
    fn segment(number: u16) -> Vec<u8> {
        let mut frame = vec![0; 1_000];
        frame[12] = 8;
        frame[23] = 6;
        frame[54..56].copy_from_slice(&number.to_be_bytes());
        frame
    }

    /// Sends `count` segments at once; the numbers and times at which they come out.
    fn send(link: &Link, count: u16) -> (Vec<(u16, Duration)>, Relayed) {
        let mut direction = Direction::new(link.seed, 0);
        let start = Instant::now();
        for number in 0..count {
            direction.take(link, &segment(number), start);
        }
        let mut out = Vec::new();
        while let Some(due) = direction.next() {
            assert!(direction.pop(due - Duration::from_nanos(1)).is_none());
            let frame = direction.pop(due).unwrap();
            out.push((u16::from_be_bytes([frame[54], frame[55]]), due - start));
        }
        assert_eq!(direction.held_octets, 0);
        (out, direction.counts())
    }

    #[test]
    fn a_perfect_wire_keeps_order() {
        let link = Link { delay: 3 * MS, ..Link::default() };
        let (out, counts) = send(&link, 100);
        assert_eq!(out, (0..100).map(|number| (number, 3 * MS)).collect::<Vec<_>>());
        assert_eq!((counts.taken, counts.passed), (100, 100));
    }

    #[test]
    fn loss_and_duplicates_come_as_often_as_asked_for_and_by_the_seed() {
        let link = Link { loss: 10.0, duplicates: 5.0, ..Link::default() };
        let (out, counts) = send(&link, 10_000);
        assert!((800..1_200).contains(&counts.lost), "{counts:?}");
        assert!((350..550).contains(&counts.duplicated), "{counts:?}");
        assert_eq!(counts.passed, counts.taken - counts.lost + counts.duplicated);
        assert_eq!(send(&link, 10_000).0, out);
        assert_ne!(send(&Link { seed: 2, ..link }, 10_000).0, out);
    }

    #[test]
    fn jitter_reorders_within_its_bound() {
        let (out, _) = send(&Link { delay: 5 * MS, jitter: 4 * MS, ..Link::default() }, 100);
        assert!(out.iter().all(|(_, at)| (5 * MS..=9 * MS).contains(at)));
        assert!(out.windows(2).any(|pair| pair[0].0 > pair[1].0));
    }

    #[test]
    fn a_slow_link_spaces_frames_and_drops_what_its_queue_cannot_hold() {
        // 8 Mbit/s: 1,000 octets take a millisecond.
        let link = Link { rate: Some(8_000_000), queue: 10_000, ..Link::default() };
        let (out, counts) = send(&link, 100);
        assert_eq!(out[1].1 - out[0].1, MS);
        assert_eq!((counts.passed, counts.dropped), (11, 89));
    }

    #[test]
    fn a_tag_stands_between_addresses_and_type() {
        let link = Link { tagged: true, ..Link::default() };
        let mut direction = Direction::new(1, 0);
        let now = Instant::now();
        direction.take(&link, &segment(7), now);
        let frame = direction.pop(now).unwrap();
        assert_eq!(frame[..12], segment(7)[..12]);
        assert_eq!(frame[12..16], [0x81, 0, 0xa0, 0]);
        assert_eq!(frame[16..], segment(7)[12..]);
    }

    #[test]
    fn neighbour_discovery_is_spared() {
        let link = Link { loss: 100.0, ..Link::default() };
        let mut direction = Direction::new(1, 0);
        let mut arp = vec![0; 60];
        (arp[12], arp[13]) = (8, 6);
        direction.take(&link, &arp, Instant::now());
        direction.take(&link, &segment(1), Instant::now());
        assert_eq!(direction.counts().lost, 1);
        assert!(direction.next().is_some());
    }
}
