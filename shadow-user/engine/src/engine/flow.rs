//! One client-production connection, and the table that finds it.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use siphasher::sip::SipHasher13;

use crate::client::Offer;
use crate::iss::Secret;
use crate::seq::SeqNum;
use crate::session::Session;
use crate::time::{Duration, Instant};
use crate::wire::{Packet, Segment};

/// How long a flow that has ended is remembered after its last packet, so that
/// stragglers do not look like a new one.
const LINGER: Duration = Duration::from_secs(60);

/// The most ended flows that are remembered; the oldest is forgotten first.
const MAX_ENDED: usize = 65_536;

/// A connection's addresses and ports, IPv4 in its mapped form.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct FlowKey {
    client: [u8; 16],
    production: [u8; 16],
    ports: [u16; 2],
}

impl FlowKey {
    /// The key of the flow between a client and production.
    pub(crate) fn new(client: SocketAddr, production: SocketAddr) -> Self {
        Self {
            client: mapped(client),
            production: mapped(production),
            ports: [client.port(), production.port()],
        }
    }

    /// The key of the flow to which a packet of a client belongs.
    pub(crate) fn of(packet: &Packet<'_>) -> Self {
        Self::new(packet.source, packet.destination)
    }

    /// The key of the flow to which a packet of production's belongs.
    pub(crate) fn of_answer(packet: &Packet<'_>) -> Self {
        Self::new(packet.destination, packet.source)
    }

    /// The client's address and port.
    pub(crate) fn client(&self) -> SocketAddr {
        unmapped(self.client, self.ports[0])
    }

    /// Production's address and port.
    pub(crate) fn production(&self) -> SocketAddr {
        unmapped(self.production, self.ports[1])
    }
}

fn mapped(address: SocketAddr) -> [u8; 16] {
    match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn unmapped(octets: [u8; 16], port: u16) -> SocketAddr {
    let address = Ipv6Addr::from(octets);
    SocketAddr::new(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4), port)
}

/// What is known of a flow.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The client's SYN was seen; its handshake with production is not complete.
    Handshake(Box<Syn>),
    /// Was open before the mirror; waits for a request to join at.
    Joining,
    /// Has a session.
    Open(Box<Session>),
}

/// A client's SYN.
#[derive(Debug)]
pub(crate) struct Syn {
    /// The client's initial sequence number.
    pub(crate) isn: SeqNum,
    pub(crate) offer: Offer,
    /// Data on the SYN (RFC 7413).
    pub(crate) data: Box<[u8]>,
}

/// One client-production connection.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) key: FlowKey,
    pub(crate) stage: Stage,
    /// A SYN with another number, which opens the next incarnation if production accepts it.
    pub(crate) successor: Option<Box<Syn>>,
    pub(crate) last_packet: Instant,
    /// Whether `key` still leads here.
    pub(crate) listed: bool,
    /// The earliest entry of this flow in the timer queue, or [`Instant::NEVER`].
    pub(crate) armed: Instant,
    /// Whether its session was begun to find out if the shadow is back.
    pub(crate) probe: bool,
    /// Whether it stands in the queue of those in TIME-WAIT.
    pub(crate) rests: bool,
    /// Whether the flow stands in the queue of those that may have packets to send.
    pub(crate) queued: bool,
    /// Octets that the engine's memory account knows of.
    pub(crate) accounted: usize,
}

impl Flow {
    pub(crate) fn new(key: FlowKey, stage: Stage, now: Instant) -> Self {
        Self {
            key,
            stage,
            successor: None,
            last_packet: now,
            listed: true,
            probe: false,
            rests: false,
            armed: Instant::NEVER,
            queued: false,
            accounted: 0,
        }
    }

    /// The address and port that the shadow sees, while there is a session.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        match &self.stage {
            Stage::Open(session) => session.local(),
            Stage::Handshake(_) | Stage::Joining => None,
        }
    }
}

/// A seeded hash: a client that chooses its ports cannot choose its bucket, and
/// two runs with one seed are alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeededHash(Secret);

impl SeededHash {
    pub(crate) fn new(secret: Secret) -> Self {
        Self(secret)
    }
}

impl BuildHasher for SeededHash {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> Self::Hasher {
        SipHasher13::new_with_key(&self.0)
    }
}

/// Flows that have ended and whose stragglers may still come. Bounded.
#[derive(Debug)]
pub(crate) struct Ended {
    last_packet: HashMap<FlowKey, Instant, SeededHash>,
    queue: VecDeque<(Instant, FlowKey)>,
}

impl Ended {
    pub(crate) fn new(hash: SeededHash) -> Self {
        Self { last_packet: HashMap::with_hasher(hash), queue: VecDeque::new() }
    }

    /// Remembers `key`.
    pub(crate) fn insert(&mut self, key: FlowKey, now: Instant) {
        if self.last_packet.insert(key, now).is_none() {
            self.queue.push_back((now, key));
        }
        while self.queue.len() > MAX_ENDED {
            if let Some((_, oldest)) = self.queue.pop_front() {
                self.last_packet.remove(&oldest);
            }
        }
        self.expire(now);
    }

    /// Whether `key` is remembered; its time begins anew.
    pub(crate) fn touch(&mut self, key: &FlowKey, now: Instant) -> bool {
        match self.last_packet.get_mut(key) {
            Some(last) if now.since(*last) < LINGER => {
                *last = now;
                true
            }
            _ => false,
        }
    }

    /// Forgets `key`: a new incarnation has begun.
    pub(crate) fn forget(&mut self, key: &FlowKey) {
        // Its entry in the queue goes when its time has come.
        if let Some(last) = self.last_packet.get_mut(key) {
            *last = Instant::default();
        }
    }

    fn expire(&mut self, now: Instant) {
        // A few at a time: more come out than go in, and nobody waits.
        for _ in 0..4 {
            let Some((queued, key)) = self.queue.front().copied() else { return };
            if now.since(queued) < LINGER {
                return;
            }
            self.queue.pop_front();
            match self.last_packet.get(&key) {
                Some(last) if now.since(*last) < LINGER => self.queue.push_back((*last, key)),
                _ => {
                    self.last_packet.remove(&key);
                }
            }
        }
    }
}

impl Syn {
    pub(super) fn of(segment: &Segment<'_>) -> Self {
        Self {
            isn: segment.seq,
            offer: Offer {
                mss: segment.options.mss.unwrap_or(536),
                window_scale: segment.options.window_scale,
                sack_permitted: segment.options.sack_permitted,
                timestamps: segment.options.timestamps.is_some(),
            },
            data: segment.payload.into(),
        }
    }

    /// Whether a segment shows that the client has production's SYN.
    pub(super) fn is_completed_by(&self, segment: &Segment<'_>) -> bool {
        // Beyond the largest window (RFC 7323, 2.3) it belongs to another incarnation.
        let ahead = segment.seq.distance(self.isn + 1);
        segment.flags.ack && (0..1 << 30).contains(&ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FlowKey {
        FlowKey { client: [1; 16], production: [2; 16], ports: [port, 80] }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn an_ended_flow_is_remembered_while_packets_come() {
        let mut ended = Ended::new(SeededHash::new([0; 16]));
        ended.insert(key(1), at(100));
        assert!(ended.touch(&key(1), at(150)));
        assert!(ended.touch(&key(1), at(200)));
        assert!(!ended.touch(&key(1), at(300)));
        assert!(!ended.touch(&key(2), at(100)));
    }

    #[test]
    fn a_new_incarnation_is_not_the_ended_one() {
        let mut ended = Ended::new(SeededHash::new([0; 16]));
        ended.insert(key(1), at(100));
        ended.forget(&key(1));
        assert!(!ended.touch(&key(1), at(101)));
    }

    #[test]
    fn the_memory_of_ended_flows_is_bounded() {
        let mut ended = Ended::new(SeededHash::new([0; 16]));
        for index in 0..=MAX_ENDED {
            let mut key = key((index % 60_000) as u16);
            key.client[0] = (index / 60_000) as u8;
            ended.insert(key, at(100));
        }
        assert_eq!(ended.last_packet.len(), MAX_ENDED);
        for index in 0..100 {
            ended.insert(key(index), at(1_000));
        }
        assert!(ended.last_packet.len() < MAX_ENDED);
    }
}
