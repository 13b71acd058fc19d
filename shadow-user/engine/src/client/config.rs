//! What one connection to a shadow is made with.

use std::net::SocketAddr;
use std::time::Duration;

use crate::seq::SeqNum;

/// The options of the real client's SYN: the shadow is offered the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Offer {
    /// Maximum segment size, octets (RFC 9293, 3.7.1).
    pub mss: u16,
    /// Window scale shift count (RFC 7323, 2.2); above 14 means 14.
    pub window_scale: Option<u8>,
    /// SACK permitted (RFC 2018, 2).
    pub sack_permitted: bool,
    /// Timestamps (RFC 7323, 3.2).
    pub timestamps: bool,
}

impl Default for Offer {
    /// What a current Linux client offers on Ethernet over IPv4.
    fn default() -> Self {
        Self { mss: 1460, window_scale: Some(7), sack_permitted: true, timestamps: true }
    }
}

/// One connection: addresses, initial numbers and policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// The mirror's address and port.
    pub local: SocketAddr,
    /// The shadow's address and port; of the same family as `local`.
    pub remote: SocketAddr,
    /// Initial send sequence number (RFC 6528).
    pub iss: SeqNum,
    /// Options to offer.
    pub offer: Offer,
    /// Largest IP packet toward the shadow, octets.
    pub path_mtu: u16,
    /// TSval is the clock in milliseconds plus this (RFC 7323, 5.4).
    pub timestamp_base: u32,
    /// Give up when nothing is acknowledged for so long; SYN too (RFC 9293, 3.8.3: R2).
    pub user_timeout: Duration,
    /// Give up on a peer that keeps its window closed for so long, although it
    /// acknowledges probes. RFC 9293, 3.8.6.1 lets a sender wait for ever; a mirror's
    /// memory is worth more than a shadow that has stopped reading.
    pub zero_window_timeout: Duration,
    /// Give up on a peer that stays silent in FIN-WAIT-2 for so long.
    pub fin_wait_timeout: Duration,
    /// How long TIME-WAIT lasts. RFC 9293, 3.4.2 asks for 2 MSL for two reasons. Old
    /// segments must not enter a new connection: the caller keeps the port in quarantine,
    /// and RFC 6528 numbers with a monotonic timestamp clock keep incarnations apart
    /// (RFC 6191). And the peer's FIN must be acknowledged again when the last ACK is lost:
    /// one second covers the first two retransmissions of a peer whose RTO is 200 ms.
    /// A later one is answered with RST, which ends the peer's LAST-ACK just as well.
    pub time_wait: Duration,
    /// Window offered and out-of-order octets kept.
    pub receive_limit: usize,
}

impl Config {
    /// A connection with default policy: 1500-octet packets, 30 s user timeout,
    /// 2 min zero window, 60 s FIN-WAIT-2, 1 s TIME-WAIT, 256 KiB of window.
    #[must_use]
    pub fn new(local: SocketAddr, remote: SocketAddr, iss: SeqNum, offer: Offer) -> Self {
        Self {
            local,
            remote,
            iss,
            offer,
            path_mtu: 1500,
            timestamp_base: 0,
            user_timeout: Duration::from_secs(30),
            zero_window_timeout: Duration::from_secs(120),
            fin_wait_timeout: Duration::from_secs(60),
            time_wait: Duration::from_secs(1),
            receive_limit: 256 * 1024,
        }
    }
}

/// A [`Config`] as a connection keeps it: limits in milliseconds, 4 octets each instead of 16.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub offer: Offer,
    pub path_mtu: u16,
    pub timestamp_base: u32,
    user_timeout: u32,
    zero_window_timeout: u32,
    fin_wait_timeout: u32,
    time_wait: u32,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let millis = |limit: Duration| u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let mut settings = Self {
            local: config.local,
            remote: config.remote,
            offer: config.offer,
            path_mtu: config.path_mtu,
            timestamp_base: config.timestamp_base,
            user_timeout: millis(config.user_timeout),
            zero_window_timeout: millis(config.zero_window_timeout),
            fin_wait_timeout: millis(config.fin_wait_timeout),
            time_wait: millis(config.time_wait),
        };
        settings.path_mtu = settings.path_mtu.max(settings.least_mtu());
        settings
    }
}

impl Settings {
    pub fn user_timeout(&self) -> Duration {
        Duration::from_millis(self.user_timeout.into())
    }

    pub fn zero_window_timeout(&self) -> Duration {
        Duration::from_millis(self.zero_window_timeout.into())
    }

    pub fn fin_wait_timeout(&self) -> Duration {
        Duration::from_millis(self.fin_wait_timeout.into())
    }

    pub fn time_wait(&self) -> Duration {
        Duration::from_millis(self.time_wait.into())
    }

    /// Octets of IP header in front of each segment; the mirror sends no IP options.
    pub fn ip_header(&self) -> u16 {
        if self.remote.is_ipv4() { 20 } else { 40 }
    }

    /// The smallest path MTU believed: Linux's `min_pmtu` for IPv4, and for IPv6 the
    /// minimum link MTU (RFC 8200, 5).
    pub fn least_mtu(&self) -> u16 {
        if self.remote.is_ipv4() { 552 } else { 1280 }
    }

    /// The MSS assumed of a peer that sends none.
    ///
    /// RFC 9293, 3.7.1 (MUST-15): "If an MSS Option is not received at connection setup, TCP
    /// implementations MUST assume a default send MSS of 536 (576 - 40) for IPv4 or 1220
    /// (1280 - 60) for IPv6".
    pub fn default_mss(&self) -> u16 {
        if self.remote.is_ipv4() { 536 } else { 1220 }
    }
}
