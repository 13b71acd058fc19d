//! From raw flags and a file to one validated configuration. Nothing here looks
//! at the host: that is `preflight`.

mod choosing;
mod judge;
mod report;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;

use shadow_common::{MAX_TRACKED, MIN_TRACKED};
use shadow_engine::Network;

use crate::cli::{ClientAddress, Compare, GateAction, Live, LogFormat, MirrorArgs, Pace};
use crate::compare::MAX_WAITING;
use crate::comparing::MAX_QUEUED;
use crate::ctl::Place;
use crate::report::jsonl::QUEUE_OCTETS;
use crate::setting::{Origin, Refusal, Setting, Text};
use crate::shadows::Role;
use crate::web::board::Run;

pub use choosing::Choosing;
pub use judge::Judge;
pub use report::Report;

/// What `mirror` shall do, each value well formed and in bounds.
#[derive(Clone, Debug)]
pub struct Config {
    /// Interfaces to tap; at least one, none twice.
    pub iface: Vec<Setting<String>>,
    /// What is mirrored; at least one, none twice.
    pub port: Vec<Setting<Service>>,
    /// The shadows, one at least.
    pub shadows: Vec<Setting<HostPort>>,
    /// The one that runs production's version.
    pub baseline: Option<Setting<HostPort>>,
    /// Which flows are mirrored.
    pub choosing: Choosing,
    /// Where `ctl` is listened to; at a place of its own by default.
    pub control: Option<Setting<Place>>,
    /// Where page and metrics are served.
    pub listen: Option<Setting<SocketAddr>>,
    /// Where the page's token is.
    pub listen_token_file: Option<Setting<PathBuf>>,
    /// Where the summary is written.
    pub summary: Option<Setting<PathBuf>>,
    /// Whether report and page have bodies and the values that differ.
    pub show_bodies: bool,
    /// How answers are compared, and what the run is judged by.
    pub judge: Judge,
    /// The report of exchanges.
    pub report: Option<Report>,
    /// When to stop by itself.
    pub duration: Option<Duration>,
    /// Grace for open sessions at the end.
    pub drain: Duration,
    /// Send nothing.
    pub dry_run: bool,
    /// Do not look at what `check` looks at.
    pub no_check: bool,
    /// Whose address the shadow sees.
    pub source: Setting<SourceMode>,
    /// Whether the mirror answers for the addresses of its pool.
    pub pool_announce: bool,
    /// Ports the mirror sends from, in mode `Own`.
    pub source_ports: Setting<RangeInclusive<u16>>,
    /// How the shadow's application learns the client's address.
    pub client_address: ClientAddress,
    /// How much of the answers is compared; nothing in a dry run.
    pub compare: Compare,
    /// Bytes of each ring: a power of two and of whole pages.
    pub ring_size: u32,
    /// How long data waits for the shadow's answer.
    pub gate_timeout: Duration,
    /// What happens then.
    pub gate_action: GateAction,
    /// How long the shadow may acknowledge nothing.
    pub shadow_timeout: Duration,
    /// When released data goes out.
    pub pace: Pace,
    /// Bytes for flows and their data: what `--memory-limit` leaves besides the rings
    /// and the process itself.
    pub flow_memory: usize,
    /// Flows followed at once.
    pub max_flows: usize,
    /// How progress is shown.
    pub live: Live,
    /// The form of the log.
    pub log_format: LogFormat,
    /// How often `-v` was given.
    pub verbose: u8,
}

/// What one `--port` selects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Service {
    /// This port on every address that this host has at the moment.
    Host(u16),
    /// This port on one address, or on every destination when it is `0.0.0.0` or `::`.
    Exactly(SocketAddr),
}

impl Service {
    /// The port, whatever the address.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Host(port) => port,
            Self::Exactly(address) => address.port(),
        }
    }

    /// Whether a packet to `address` is mirrored, on a host that has `own` addresses.
    #[must_use]
    pub fn selects(self, address: SocketAddr, own: &[IpAddr]) -> bool {
        if self.port() != address.port() {
            return false;
        }
        match self {
            Self::Host(_) => own.contains(&address.ip()),
            Self::Exactly(any) if any.ip().is_unspecified() => {
                any.is_ipv4() == address.is_ipv4() && own.contains(&address.ip())
            }
            Self::Exactly(exact) => exact.ip() == address.ip(),
        }
    }
}

/// Whose address the shadow sees.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SourceMode {
    /// The mirror's own.
    Own,
    /// An address of this network for each client.
    Pool {
        /// The network.
        network: Network,
        /// Whether it is of IPv4.
        is_ipv4: bool,
    },
    /// The client's.
    Preserve,
}

/// A host by name or address, and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostPort {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port, not 0.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Config {
    /// Whether standard output has the report, and nothing else may go there.
    #[must_use]
    pub fn takes_stdout(&self) -> bool {
        self.report.as_ref().is_some_and(Report::takes_stdout)
    }

    /// Where copies go, the shadows first.
    pub fn destinations(&self) -> impl Iterator<Item = (Role, &Setting<HostPort>)> {
        let shadows = self.shadows.iter().map(|shadow| (Role::Shadow, shadow));
        shadows.chain(self.baseline.iter().map(|baseline| (Role::Baseline, baseline)))
    }

    /// The shadows as their user calls them.
    #[must_use]
    pub fn shadow_names(&self) -> String {
        let names: Vec<_> = self.shadows.iter().map(|shadow| shadow.text.as_str()).collect();
        names.join(", ")
    }

    /// Reads the file of `--config`, lets the flags win, and validates the result.
    ///
    /// # Errors
    /// The first setting that is missing, malformed or out of bounds.
    pub fn load(flags: MirrorArgs) -> Result<Self, Refusal> {
        let Some(path) = flags.config.clone() else {
            return Self::merge(flags, MirrorArgs::default(), Path::new(""));
        };
        let subject = format!("--config {}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Refusal::new(&subject, format!("cannot be read: {error}"), "give a readable TOML file")
        })?;
        let file = parse_file(&text).map_err(|what| {
            Refusal::new(&subject, what, "fields are the names of the flags, as in port = 80")
        })?;
        Self::merge(flags, file, &path)
    }

    /// What the page tells of this run.
    #[must_use]
    pub fn run(&self) -> Run {
        Run {
            shadow: self.shadow_names(),
            compare: match self.compare {
                Compare::Off => "off",
                Compare::Status => "status",
                Compare::Body => "body",
            },
            bodies: self.show_bodies,
            noise: self.judge.noise.is_some() || self.baseline.is_some(),
        }
    }

    /// The flags over the file.
    fn merge(flags: MirrorArgs, file: MirrorArgs, path: &Path) -> Result<Self, Refusal> {
        let sources = Sources { path: Arc::from(path) };
        macro_rules! given {
            ($name:literal, $field:ident) => {
                sources.one($name, flags.$field, file.$field)
            };
            ($name:literal, $field:ident, $default:literal) => {
                given!($name, $field).unwrap_or_else(|| default_of($name, $default))
            };
        }

        let iface = sources
            .many("iface", flags.iface, file.iface)
            .into_iter()
            .map(|given| given.parse(interface_name))
            .collect::<Result<Vec<_>, _>>()?;
        required("iface", "NAME", "the interface on which clients arrive", iface.is_empty())?;
        refuse_twice(&iface)?;

        let port = sources
            .many("port", flags.port, file.port)
            .into_iter()
            .map(|given| given.parse(service))
            .collect::<Result<Vec<_>, _>>()?;
        required("port", "[ADDR:]PORT", "the port to mirror", port.is_empty())?;
        refuse_twice(&port)?;

        let shadows = sources
            .many("shadow", flags.shadow, file.shadow)
            .into_iter()
            .map(|given| given.parse(host_port))
            .collect::<Result<Vec<_>, _>>()?;
        required("shadow", "HOST:PORT", "the server that gets the copy", shadows.is_empty())?;
        refuse_twice(&shadows)?;
        let baseline = given!("baseline", baseline).map(|g| g.parse(host_port)).transpose()?;
        if let Some(baseline) =
            baseline.as_ref().filter(|one| shadows.iter().any(|shadow| shadow.value == one.value))
        {
            return Err(baseline.refuse(
                "is a shadow as well",
                "give another server, one that runs production's version",
            ));
        }

        let choosing = Choosing::merge(choosing::Given {
            sample: given!("sample", sample, "100%"),
            sample_by: given!("sample-by", sample_by, "client"),
            seed: given!("seed", seed, "0"),
            client: sources.many("client", flags.client, file.client),
            exclude_client: sources.many(
                "exclude-client",
                flags.exclude_client,
                file.exclude_client,
            ),
        })?;

        let live = given!("live", live, "auto").parse(choice::<Live>)?;
        let report = Report::merge(report::Given {
            target: given!("report", report),
            only: given!("report-only", report_only),
            sample: given!("report-sample", report_sample),
        })?;
        let show_bodies = given!("report-bodies", report_bodies, "false").parse(boolean)?.value;
        let dry_run = given!("dry-run", dry_run, "false").parse(boolean)?.value;
        let compare = match given!("compare", compare, "status").parse(choice)?.value {
            _ if dry_run => Compare::Off,
            compare => compare,
        };
        let judge = Judge::merge(judge::Given {
            ignore: sources.many("ignore", flags.ignore, file.ignore),
            route: sources.many("route", flags.route, file.route),
            slower: given!("slower", slower),
            learn_noise: given!("learn-noise", learn_noise),
            noise: given!("noise", noise),
            noise_threshold: given!("noise-threshold", noise_threshold),
            fail_on: sources.many("fail-on", flags.fail_on, file.fail_on),
        })?;
        if let Some(report) = &report {
            report.check(compare, &live)?;
        }
        judge.check(compare)?;
        if let (Some(baseline), Compare::Off) = (&baseline, compare) {
            let remedy = "leave it out, or give --compare status or body";
            return Err(baseline.refuse("has no answers to be compared with", remedy));
        }
        let takes_stdout = report.as_ref().is_some_and(Report::takes_stdout);
        let source = given!("source", source, "self").parse(source_mode)?;
        let pool_announce = given!("pool-announce", pool_announce, "false").parse(boolean)?;
        if pool_announce.value && !matches!(source.value, SourceMode::Pool { .. }) {
            return Err(pool_announce.refuse(
                format!("{source} has no pool to answer for"),
                "leave it out, or give --source pool=CIDR",
            ));
        }

        let ring_size = given!("ring-size", ring_size, "16MiB").parse(ring_size)?.value;
        let memory_limit = given!("memory-limit", memory_limit, "256MiB");
        let max_flows = given!("max-flows", max_flows, "200000").parse(max_flows)?.value;
        let report_memory = report.as_ref().map_or(0, |_| QUEUE_OCTETS as u64)
            + baseline.as_ref().map_or(0, |_| MAX_WAITING as u64);
        let flow_memory = flow_memory(memory_limit, ring_size, compare, max_flows, report_memory)?;

        Ok(Self {
            iface,
            port,
            shadows,
            baseline,
            choosing,
            control: given!("control", control).map(|given| given.parse(place)).transpose()?,
            listen: given!("listen", listen).map(|given| given.parse(listen)).transpose()?,
            listen_token_file: given!("listen-token-file", listen_token_file)
                .map(|given| given.parse(|text| Ok(PathBuf::from(text))))
                .transpose()?,
            summary: given!("summary", summary)
                .map(|given| given.parse(|text| Ok(PathBuf::from(text))))
                .transpose()?,
            show_bodies,
            judge,
            report,
            duration: given!("duration", duration)
                .map(|given| given.parse(positive_duration))
                .transpose()?
                .map(|setting| setting.value),
            drain: given!("drain", drain, "5s").parse(duration)?.value,
            dry_run,
            compare,
            no_check: given!("no-check", no_check, "false").parse(boolean)?.value,
            source,
            pool_announce: pool_announce.value,
            source_ports: given!("source-ports", source_ports, "16384-32767").parse(port_range)?,
            client_address: given!("client-address", client_address, "none").parse(choice)?.value,
            ring_size,
            gate_timeout: given!("gate-timeout", gate_timeout, "5s")
                .parse(positive_duration)?
                .value,
            gate_action: given!("gate-action", gate_action, "abort").parse(choice)?.value,
            shadow_timeout: given!("shadow-timeout", shadow_timeout, "30s")
                .parse(positive_duration)?
                .value,
            pace: given!("pace", pace, "as-captured").parse(choice)?.value,
            flow_memory,
            max_flows,
            live: if takes_stdout { Live::Off } else { live.value },
            log_format: given!("log-format", log_format, "text").parse(choice)?.value,
            verbose: flags.verbose.max(file.verbose),
        })
    }
}

/// The file's fields, or what is wrong on one line.
fn parse_file(text: &str) -> Result<MirrorArgs, String> {
    toml::from_str(text).map_err(|error| {
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        match error.span() {
            Some(span) => {
                let before = text.get(..span.start).unwrap_or(text);
                format!("line {}: {message}", before.matches('\n').count() + 1)
            }
            None => message,
        }
    })
}

struct Sources {
    path: Arc<Path>,
}

impl Sources {
    fn setting(&self, name: &'static str, text: Text, origin: Origin) -> Setting<()> {
        Setting { name, text: text.0, origin, value: () }
    }

    fn one(
        &self,
        name: &'static str,
        flag: Option<Text>,
        file: Option<Text>,
    ) -> Option<Setting<()>> {
        let flag = flag.map(|text| self.setting(name, text, Origin::Flag));
        flag.or_else(|| {
            file.map(|text| self.setting(name, text, Origin::File(Arc::clone(&self.path))))
        })
    }

    fn many(&self, name: &'static str, flags: Vec<Text>, file: Vec<Text>) -> Vec<Setting<()>> {
        let (given, origin) = if flags.is_empty() {
            (file, Origin::File(Arc::clone(&self.path)))
        } else {
            (flags, Origin::Flag)
        };
        given.into_iter().map(|text| self.setting(name, text, origin.clone())).collect()
    }
}

fn default_of(name: &'static str, text: &str) -> Setting<()> {
    Setting { name, text: text.to_owned(), origin: Origin::Default, value: () }
}

fn required(name: &str, value: &str, what: &str, missing: bool) -> Result<(), Refusal> {
    if missing {
        return Err(Refusal::new(
            format!("--{name}"),
            format!("{what} is missing"),
            format!("add --{name} {value}, or {name} = … to the file of --config"),
        ));
    }
    Ok(())
}

fn refuse_twice<T: PartialEq>(settings: &[Setting<T>]) -> Result<(), Refusal> {
    for (index, setting) in settings.iter().enumerate() {
        if settings[..index].iter().any(|earlier| earlier.value == setting.value) {
            return Err(setting.refuse("is given twice", "give it once"));
        }
    }
    Ok(())
}

type Parsed<T> = Result<T, (String, String)>;

fn wrong<T>(what: impl Into<String>, remedy: impl Into<String>) -> Parsed<T> {
    Err((what.into(), remedy.into()))
}

fn interface_name(text: &str) -> Parsed<String> {
    // IFNAMSIZ is 16 with its terminating zero (linux/if.h).
    if text.is_empty() || text.len() > 15 {
        return wrong("is no interface name", "give 1 to 15 characters, as `ip link` shows them");
    }
    Ok(text.to_owned())
}

fn service(text: &str) -> Parsed<Service> {
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

fn host_port(text: &str) -> Parsed<HostPort> {
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

fn listen(text: &str) -> Parsed<SocketAddr> {
    text.parse().or_else(|_| {
        wrong("is no address with a port", "give addr:port, as 127.0.0.1:9100 or [::1]:9100")
    })
}

fn place(text: &str) -> Parsed<Place> {
    let remedy = "give a path from / on, as /run/shadowtap/a.sock, or off";
    // sun_path is 108 with its terminating zero (unix(7)).
    match text {
        "off" => Ok(Place::Off),
        path if !path.starts_with('/') => wrong("is no whole path", remedy),
        path if path.len() > 107 => wrong("is longer than the 107 bytes of a socket's", remedy),
        path => Ok(Place::At(path.into())),
    }
}

fn duration(text: &str) -> Parsed<Duration> {
    humantime::parse_duration(text)
        .or_else(|error| wrong(format!("is no time: {error}"), "give a number and a unit, as 20s"))
}

fn positive_duration(text: &str) -> Parsed<Duration> {
    let value = duration(text)?;
    if value.is_zero() {
        return wrong("is no time at all", "give more than 0, as 20s");
    }
    Ok(value)
}

fn boolean(text: &str) -> Parsed<bool> {
    text.parse().or_else(|_| wrong("is neither true nor false", "give true or false"))
}

fn size(text: &str) -> Parsed<u64> {
    text.parse::<ByteSize>()
        .map(|size| size.as_u64())
        .or_else(|_| wrong("is no size", "give bytes or a unit, as 16MiB"))
}

/// Two powers apart: a page, and half of what a `u32` holds.
const RING_SIZES: RangeInclusive<u64> = 4096..=1 << 30;

fn ring_size(text: &str) -> Parsed<u32> {
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

/// Less would not hold a few flows with a full window.
const FLOW_MEMORY_MIN: u64 = 4 << 20;

/// What an entry of the kernel's table of flows takes, in an LRU map that is made whole.
const TRACKED_MEMORY: u64 = 128;

/// How many flows are in that table.
#[must_use]
pub fn tracked_flows(max_flows: usize) -> u32 {
    u32::try_from(max_flows).unwrap_or(MAX_TRACKED).clamp(MIN_TRACKED, MAX_TRACKED)
}

fn flow_memory(
    limit: Setting<()>,
    ring_size: u32,
    compare: Compare,
    max_flows: usize,
    report: u64,
) -> Result<usize, Refusal> {
    let (rings, count, comparing) = match compare {
        Compare::Off => (2, "two", 0),
        Compare::Status | Compare::Body => {
            (3, "three", MAX_QUEUED as u64 + TRACKED_MEMORY * u64::from(tracked_flows(max_flows)))
        }
    };
    // Each ring is mapped twice in a row (kernel 5.8), and so counted twice as resident.
    let remembered = TRACKED_MEMORY * u64::from(tracked_flows(max_flows));
    let taken = PROCESS_MEMORY + remembered + comparing + report + 2 * rings * u64::from(ring_size);
    limit
        .parse(|text| match size(text)?.checked_sub(taken) {
            Some(left) if left >= FLOW_MEMORY_MIN => usize::try_from(left)
                .or_else(|_| wrong("is more than this host can address", "give less")),
            _ => wrong(
                format!(
                    "leaves too little besides the daemon and {count} rings of {ring_size} bytes"
                ),
                format!(
                    "give {}MiB or more, or a smaller --ring-size",
                    (taken + FLOW_MEMORY_MIN).div_ceil(1 << 20)
                ),
            ),
        })
        .map(|setting| setting.value)
}

fn max_flows(text: &str) -> Parsed<usize> {
    match text.parse::<usize>() {
        Ok(0) | Err(_) => wrong("is no count of flows", "give a number from 1 on"),
        Ok(count) => Ok(count),
    }
}

fn port_range(text: &str) -> Parsed<RangeInclusive<u16>> {
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

fn source_mode(text: &str) -> Parsed<SourceMode> {
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

fn choice<T: ValueEnum>(text: &str) -> Parsed<T> {
    T::from_str(text, false).or_else(|_| {
        let names: Vec<_> = T::value_variants()
            .iter()
            .filter_map(|variant| Some(variant.to_possible_value()?.get_name().to_owned()))
            .collect();
        wrong("is not a choice", format!("give {}", names.join(" or ")))
    })
}

#[cfg(test)]
mod tests;
