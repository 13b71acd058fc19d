//! What texts mean: each value well formed and in bounds.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;
use shadow_common::{MAX_TRACKED, MIN_TRACKED};
use shadow_engine::Network;
use shadow_engine::compare::COMPARING;

use super::{HostPort, Service, SourceMode};
use crate::cli::Compare;
use crate::comparing::MAX_QUEUED;
use crate::ctl::Place;
use crate::setting::{Parsed, Refusal, Setting, wrong};

pub(super) fn interface_name(text: &str) -> Parsed<String> {
    // IFNAMSIZ is 16 with its terminating zero (linux/if.h).
    if text.is_empty() || text.len() > 15 {
        return wrong("is no interface name", "give 1 to 15 characters, as `ip link` shows them");
    }
    Ok(text.to_owned())
}

pub(super) fn service(text: &str) -> Parsed<Service> {
    let remedy = "give 80, 10.0.0.5:80, [fd00::1]:80, 0.0.0.0:80 or [::]:80";
    if let Ok(port) = text.parse::<u16>() {
        return if port == 0 {
            wrong("port 0 cannot be mirrored", remedy)
        } else {
            Ok(Service::Host(port))
        };
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => wrong("port 0 cannot be mirrored", remedy),
        Ok(address) => Ok(Service::Exactly(address)),
        Err(_) => wrong("is neither a port nor an address with a port", remedy),
    }
}

pub(super) fn host_port(text: &str) -> Parsed<HostPort> {
    let remedy = "give host:port, as 10.0.0.9:8080, [fd00::9]:8080 or shadow.example:8080";
    let Some((host, port)) = text.rsplit_once(':') else {
        return wrong("has no port", remedy);
    };
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = match bracketed {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_err() => {
            return wrong("has no IPv6 address between the brackets", remedy);
        }
        Some(address) => address,
        None if host.contains(':') => return wrong("an IPv6 address needs brackets", remedy),
        None if host.is_empty() => return wrong("has no host", remedy),
        None => host,
    };
    match port.parse::<u16>() {
        Ok(port) if port != 0 => Ok(HostPort { host: host.to_owned(), port }),
        _ => wrong("has no port between 1 and 65535", remedy),
    }
}

pub(super) fn listen(text: &str) -> Parsed<SocketAddr> {
    text.parse().or_else(|_| {
        wrong("is no address with a port", "give addr:port, as 127.0.0.1:9100 or [::1]:9100")
    })
}

pub(super) fn place(text: &str) -> Parsed<Place> {
    let remedy = "give a path from / on, as /run/shadowtap/a.sock, or off";
    // sun_path is 108 with its terminating zero (unix(7)).
    match text {
        "off" => Ok(Place::Off),
        path if !path.starts_with('/') => wrong("is no whole path", remedy),
        path if path.len() > 107 => wrong("is longer than the 107 bytes of a socket's", remedy),
        path => Ok(Place::At(path.into())),
    }
}

pub(super) fn duration(text: &str) -> Parsed<Duration> {
    humantime::parse_duration(text)
        .or_else(|error| wrong(format!("is no time: {error}"), "give a number and a unit, as 20s"))
}

pub(super) fn positive_duration(text: &str) -> Parsed<Duration> {
    let value = duration(text)?;
    if value.is_zero() {
        return wrong("is no time at all", "give more than 0, as 20s");
    }
    Ok(value)
}

pub(super) fn boolean(text: &str) -> Parsed<bool> {
    text.parse().or_else(|_| wrong("is neither true nor false", "give true or false"))
}

pub(super) fn size(text: &str) -> Parsed<u64> {
    text.parse::<ByteSize>()
        .map(|size| size.as_u64())
        .or_else(|_| wrong("is no size", "give bytes or a unit, as 16MiB"))
}

/// Two powers apart: a page, and half of what a `u32` holds.
const RING_SIZES: RangeInclusive<u64> = 4096..=1 << 30;

pub(super) fn ring_size(text: &str) -> Parsed<u32> {
    let bytes = size(text)?;
    if !RING_SIZES.contains(&bytes) {
        return wrong("is out of bounds", "give a power of two from 4KiB to 1GiB");
    }
    if !bytes.is_power_of_two() {
        let next = ByteSize(bytes.next_power_of_two().min(*RING_SIZES.end()));
        let next = next.display().iec().to_string().replace(".0 ", "");
        return wrong(
            "the kernel's ring buffers are powers of two",
            format!("give a power of two, such as {next}"),
        );
    }
    u32::try_from(bytes).or_else(|_| wrong("is out of bounds", "give at most 1GiB"))
}

/// What the process takes without a flow.
const PROCESS_MEMORY: u64 = 16 << 20;

/// What an engine takes without a flow, mostly for flows that have ended and whose stragglers may come.
const ENGINE_MEMORY: u64 = 12 << 20;

/// Who shares the memory for flows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Engines {
    pub copies: u16,
    pub shadows: usize,
    pub baseline: bool,
}

impl Engines {
    const fn count(self) -> u64 {
        self.copies as u64 * self.shadows as u64 + self.baseline as u64
    }
}

/// Less would not hold a few flows with a full window.
const FLOW_MEMORY_MIN: u64 = 4 << 20;

/// What an entry of the kernel's table of flows takes, in an LRU map that is made whole.
const TRACKED_MEMORY: u64 = 128;

/// How many flows are in that table.
#[must_use]
pub fn tracked_flows(max_flows: usize) -> u32 {
    u32::try_from(max_flows).unwrap_or(MAX_TRACKED).clamp(MIN_TRACKED, MAX_TRACKED)
}

/// Octets of the ring for what the shadow answers, where the others have `ring_size`. A quarter, as long
/// as a burst of super-frames fits: what is lost of it the shadow sends again.
#[must_use]
pub fn replies_size(ring_size: u32) -> u32 {
    const ENOUGH: u32 = 1 << 20;
    (ring_size / 4).max(ENOUGH).min(ring_size)
}

pub(super) fn flow_memory(
    limit: Setting<()>,
    ring_size: u32,
    compare: Compare,
    max_flows: usize,
    report: u64,
    engines: Engines,
) -> Result<usize, Refusal> {
    let (large, count, comparing) = match compare {
        Compare::Off => (1, "two", 0),
        Compare::Status | Compare::Body => {
            let looking = if compare == Compare::Body { COMPARING as u64 } else { 0 };
            let tracked = TRACKED_MEMORY * u64::from(tracked_flows(max_flows));
            (2, "three", MAX_QUEUED as u64 + looking + tracked)
        }
    };
    let remembered = TRACKED_MEMORY * u64::from(tracked_flows(max_flows));
    let rings = large * u64::from(ring_size) + u64::from(replies_size(ring_size));
    let more = ENGINE_MEMORY * (engines.count() - 1);
    let taken = PROCESS_MEMORY + more + remembered + comparing + report + rings;
    let least = FLOW_MEMORY_MIN * engines.count();
    let (among, fewer) = match engines {
        Engines { copies: 1, shadows: 1, baseline: false } => (String::new(), ""),
        Engines { copies: 1, shadows, baseline } => {
            (format!(" for {} servers", shadows + usize::from(baseline)), ", or fewer servers")
        }
        Engines { copies, .. } => (format!(" for {copies} copies"), ", or fewer copies"),
    };
    limit
        .parse(|text| match size(text)?.checked_sub(taken) {
            Some(left) if left >= least => usize::try_from(left)
                .or_else(|_| wrong("is more than this host can address", "give less")),
            _ => wrong(
                format!(
                    "leaves too little besides the daemon and {count} rings of up to {ring_size} bytes{among}"
                ),
                format!(
                    "give {}MiB or more{} a smaller --ring-size{fewer}",
                    (taken + least).div_ceil(1 << 20),
                    if fewer.is_empty() { ", or" } else { "," }
                ),
            ),
        })
        .map(|setting| setting.value)
}

pub(super) fn max_flows(text: &str) -> Parsed<usize> {
    match text.parse::<usize>() {
        Ok(0) | Err(_) => wrong("is no count of flows", "give a number from 1 on"),
        Ok(count) => Ok(count),
    }
}

pub(super) fn port_range(text: &str) -> Parsed<RangeInclusive<u16>> {
    let remedy = "give FIRST-LAST with 1024 <= FIRST <= LAST <= 65535, as 16384-32767";
    let range = text
        .split_once('-')
        .and_then(|(first, last)| Some(first.trim().parse().ok()?..=last.trim().parse().ok()?));
    match range {
        None => wrong("is no range of ports", remedy),
        Some(range) if range.is_empty() => wrong("ends before it begins", remedy),
        Some(range) if *range.start() < 1024 => wrong("includes well-known ports", remedy),
        Some(range) => Ok(range),
    }
}

pub(super) fn source_mode(text: &str) -> Parsed<SourceMode> {
    let remedy = "give self, preserve or pool=CIDR, as pool=10.99.0.0/16 or pool=fd99::/64";
    let network = match text {
        "self" => return Ok(SourceMode::Own),
        "preserve" => return Ok(SourceMode::Preserve),
        "pool" => return wrong("has no network", remedy),
        _ => text.strip_prefix("pool="),
    };
    let Some(network) = network else { return wrong("is not a choice", remedy) };
    let Some((address, prefix)) = network.split_once('/') else {
        return wrong("has no length of its prefix", remedy);
    };
    let (Ok(address), Ok(prefix)) = (address.parse::<IpAddr>(), prefix.parse::<u8>()) else {
        return wrong("is no network", remedy);
    };
    let (longest, bits) = if address.is_ipv4() { (30, 32) } else { (126, 128) };
    if prefix == 0 || prefix > bits {
        return wrong(format!("has no prefix of 1 to {longest} bits"), remedy);
    }
    match Network::new(address, prefix) {
        Some(network) => Ok(SourceMode::Pool { network, is_ipv4: address.is_ipv4() }),
        None => wrong(
            format!("leaves no room for clients behind its prefix of {prefix} bits"),
            format!("give a prefix of at most {longest} bits"),
        ),
    }
}

pub(super) fn choice<T: ValueEnum>(text: &str) -> Parsed<T> {
    T::from_str(text, false).or_else(|_| {
        let names: Vec<_> = T::value_variants()
            .iter()
            .filter_map(|variant| Some(variant.to_possible_value()?.get_name().to_owned()))
            .collect();
        wrong("is not a choice", format!("give {}", names.join(" or ")))
    })
}
