//! One handshake with the shadow from an address as the mirror's sessions will have it. It proves
//! that the shadow's answers come back through the guard, before any client's address is used.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use shadow_common::{GuardRule, RecordKind, ShadowKey};
use shadow_engine::client::{self, Client, Close, Event, Offer, State, Unreachable};
use shadow_engine::seq::SeqNum;
use shadow_engine::time::Instant;
use shadow_engine::wire::{IcmpError, IcmpReason, Packet, emit};

use crate::config::{Config, SourceMode};
use crate::kernel::{self, LoadOptions, Programs, Rings, Sender, Unsent};
use crate::preflight::Way;
use crate::services::{guard_rule, own_addresses, shadow_key};

/// How long an answer is waited for: the SYN goes out after 0, 1 and 3 seconds (RFC 6298).
pub const LIMIT: Duration = Duration::from_millis(3_500);

/// How long it may take where only the way is asked for: a SYN after 0 and 1 seconds.
pub const LIMIT_ELSEWHERE: Duration = Duration::from_millis(1_300);

/// Room for the few answers of a handshake.
const RING: u32 = 256 << 10;

/// Rests between two looks at the ring and the clock.
const REST: Duration = Duration::from_millis(10);

/// Networks for documentation (RFC 5737), of which no host has an address.
const DOCUMENTATION_V4: [[u8; 3]; 3] = [[192, 0, 2], [198, 51, 100], [203, 0, 113]];

/// The network for documentation of IPv6 (RFC 3849): 2001:db8::/32.
const DOCUMENTATION_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);

/// What became of the SYN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The handshake was completed; the SYN,ACK came in by the interface of this index.
    Answered(u32),
    /// The shadow answered with RST.
    Refused,
    /// A router or the shadow's host says that it cannot be reached.
    Icmp {
        /// Who says so.
        reporter: IpAddr,
        /// The code of ICMP's or ICMPv6's destination unreachable.
        code: u8,
    },
    /// This host's kernel did not send the SYN.
    Unsent(Unsent),
    /// The SYN was sent and answered, but what follows it is not sent.
    Stuck(Unsent),
    /// Nothing came back.
    Silent,
}

/// Where a probe comes from, and what the guard awaits.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// The emulated client.
    pub local: SocketAddr,
    /// The server under test.
    pub shadow: SocketAddr,
    rule: (ShadowKey, GuardRule),
    path_mtu: u16,
}

impl Probe {
    /// From an address as sessions will have it, but in `preserve`: there from one that no client
    /// has.
    #[must_use]
    pub fn new(config: &Config, way: &Way, own: &[IpAddr], dice: u32) -> Self {
        let shadow = way.shadow;
        // As the kernel chooses them (RFC 6335, dynamic ports).
        let dynamic = 49_152 + (dice % 16_384) as u16;
        let local = match config.source.value {
            // The last of the range: sessions begin with the first.
            SourceMode::Own => SocketAddr::new(way.route.source, *config.source_ports.value.end()),
            SourceMode::Pool { network, .. } => SocketAddr::new(network.host(0), dynamic),
            SourceMode::Preserve => SocketAddr::new(nobody(shadow.is_ipv4(), own), dynamic),
        };
        let rule = match config.source.value {
            // Not more than this port, lest answers to another mirror are taken away.
            SourceMode::Own => {
                let address = own_addresses(&[local.ip()])[0];
                (shadow_key(shadow), GuardRule::own(address, local.port(), local.port()))
            }
            SourceMode::Pool { .. } | SourceMode::Preserve => {
                guard_rule(config, shadow, way.route.source)
            }
        };
        Self { local, shadow, rule, path_mtu: way.path_mtu }
    }

    /// Whether the address is one of others.
    fn is_foreign(&self) -> bool {
        self.rule.1.mode == shadow_common::GuardMode::Foreign as u32
    }

    /// Connects behind guards of its own on `interfaces`, and resets the connection. All of it is
    /// gone when this returns, or is dropped.
    ///
    /// # Errors
    /// When the guard cannot be loaded or attached.
    pub async fn run(
        &self,
        interfaces: &[&str],
        own: &[IpAddr],
        limit: Duration,
    ) -> anyhow::Result<Outcome> {
        let options =
            LoadOptions { requests_bytes: 1, replies_bytes: RING, ..LoadOptions::default() };
        let mut programs = Programs::load(options)?;
        programs.set_own_addresses(&own_addresses(own))?;
        programs.set_guard_rules(&[self.rule])?;
        for interface in interfaces {
            programs.attach_guard(interface)?;
            if self.is_foreign() {
                programs.attach_guard_out(interface)?;
            }
        }
        let rings = programs.take_rings()?.context("the rings are taken")?;
        let now = kernel::now();
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).context("the kernel gives no random numbers")?;
        let [iss, timestamp_base] = [0, 4]
            .map(|at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
        let config = client::Config {
            path_mtu: self.path_mtu,
            timestamp_base,
            user_timeout: limit,
            ..client::Config::new(self.local, self.shadow, SeqNum::new(iss), Offer::default())
        };
        let client = Client::connect(config, now);
        let sender = Sender::new()?;
        Handshake { client, rings, sender, answered: None, reported: None }.run(now + limit).await
    }
}

/// What TCP may conclude from a code of destination unreachable.
fn severity(is_ipv4: bool, code: u8) -> Unreachable {
    // ICMP: net, host, source route; ICMPv6: no route, address.
    let may_pass: &[u8] = if is_ipv4 { &[0, 1, 5] } else { &[0, 3] };
    if may_pass.contains(&code) { Unreachable::Soft } else { Unreachable::Hard }
}

/// An address that no client has, and this host neither.
fn nobody(is_ipv4: bool, own: &[IpAddr]) -> IpAddr {
    if !is_ipv4 {
        return Ipv6Addr::from_bits(DOCUMENTATION_V6.to_bits() | 1).into();
    }
    let is_used = |net: &[u8; 3]| {
        own.iter().any(|ip| matches!(ip, IpAddr::V4(v4) if v4.octets()[..3] == *net))
    };
    let [a, b, c] =
        DOCUMENTATION_V4.into_iter().find(|net| !is_used(net)).unwrap_or(DOCUMENTATION_V4[0]);
    [a, b, c, 1].into()
}

struct Handshake {
    client: Client,
    rings: Rings,
    sender: Sender,
    /// By which interface the last segment of the shadow came in.
    answered: Option<u32>,
    reported: Option<Outcome>,
}

impl Handshake {
    async fn run(mut self, deadline: Instant) -> anyhow::Result<Outcome> {
        loop {
            let now = kernel::now();
            if self.client.poll_timeout().is_some_and(|due| due <= now) {
                self.client.handle_timeout(now);
            }
            if let Some(reason) = self.transmit(now) {
                return Ok(match self.client.state() {
                    State::SynSent => Outcome::Unsent(reason),
                    _ => Outcome::Stuck(reason),
                });
            }
            if let Some(event) = self.client.poll_event() {
                let silent = self.reported.unwrap_or(Outcome::Silent);
                return Ok(match event {
                    Event::Connected => self.reset(now),
                    Event::Closed(Close::Refused | Close::Reset) => Outcome::Refused,
                    Event::PeerClosed | Event::Closed(_) => silent,
                });
            }
            if now >= deadline {
                return Ok(self.reported.unwrap_or(Outcome::Silent));
            }
            self.receive(now);
            // Signals are seen while this rests.
            tokio::time::sleep(REST).await;
        }
    }

    /// The handshake's last segment has gone out; now the shadow is told to forget it.
    fn reset(&mut self, now: Instant) -> Outcome {
        let unsent = self.transmit(now);
        self.client.abort();
        match unsent.or(self.transmit(now)) {
            Some(reason) => Outcome::Stuck(reason),
            None => Outcome::Answered(self.answered.unwrap_or_default()),
        }
    }

    /// Sends what is due; why it was not sent, when that is not for the moment only.
    fn transmit(&mut self, now: Instant) -> Option<Unsent> {
        let (local, shadow) = (self.client.local(), self.client.remote());
        let mut packet = Vec::new();
        while let Some(outgoing) = self.client.poll_transmit(now) {
            packet.clear();
            emit(local, shadow, &outgoing.segment, outgoing.payload, &mut packet);
            self.sender.push(&packet);
        }
        self.sender.flush();
        let lasting = |(reason, count): (Unsent, u64)| {
            (count != 0 && !matches!(reason, Unsent::BufferFull | Unsent::NoBuffers))
                .then_some(reason)
        };
        self.sender.stats().iter_unsent().find_map(lasting)
    }

    fn receive(&mut self, now: Instant) {
        let Self { client, rings, answered, reported, .. } = self;
        let (local, shadow) = (client.local(), client.remote());
        rings.drain(64, |header, bytes| {
            if header.kind != RecordKind::Reply as u32 {
                return;
            }
            if let Ok(packet) = Packet::parse(bytes) {
                if (packet.source, packet.destination) == (shadow, local) {
                    *answered = Some(header.ifindex);
                    client.handle_segment(&packet.segment, now, &mut |_| {});
                }
            } else if let Ok(error) = IcmpError::parse(bytes)
                && (error.source, error.destination) == (local, shadow)
                && let IcmpReason::Unreachable { code } = error.reason
            {
                // What may pass ends nothing, but it may be all that is heard.
                *reported = Some(Outcome::Icmp { reporter: error.reporter, code });
                client.handle_unreachable(severity(local.is_ipv4(), code), now);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_of_a_documentation_network_that_this_host_does_not_use() {
        let own = |text: &str| vec![text.parse::<IpAddr>().expect("address")];
        assert_eq!(nobody(true, &[]).to_string(), "192.0.2.1");
        assert_eq!(nobody(true, &own("192.0.2.9")).to_string(), "198.51.100.1");
        assert_eq!(nobody(false, &own("2001:db8::5")).to_string(), "2001:db8::1");
    }
}
