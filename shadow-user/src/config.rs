//! From raw flags and a file to one validated configuration. Nothing here looks
//! at the host: that is `preflight`.

mod choosing;
mod copies;
mod judge;
mod report;
mod rules;
mod value;

use std::fmt;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shadow_engine::Network;
use shadow_engine::rules::Rules;

use crate::cli::{
    ClientAddress, Compare, ConfigCheckArgs, GateAction, Live, LogFormat, MirrorArgs, Pace, Socket,
};
use crate::compare::MAX_WAITING;
use crate::ctl::Place;
use crate::middleware::MAX_QUEUED;
use crate::rates::{Bandwidth, Rate, Rates};
use crate::report::jsonl::QUEUE_OCTETS;
use crate::setting::{Origin, Parsed, Refusal, Setting, Text, wrong};
use crate::shadows::Role;
use crate::web::board::Run;

pub use choosing::Choosing;
pub use judge::Judge;
pub use report::Report;
pub use value::{replies_size, tracked_flows};

use value::{
    boolean, choice, duration, flow_memory, host_port, interface_name, listen, max_flows, place,
    port_range, positive_duration, ring_size, service, source_mode,
};

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
    /// Sessions of each flow with each shadow; 1 at least. The baseline has one.
    pub copies: u16,
    /// Whether each client has one of the shadows, and not all of them.
    pub spread: bool,
    /// Which flows are mirrored.
    pub choosing: Choosing,
    /// How much each shadow is asked to take.
    pub rates: Rates,
    /// How long the sample takes to grow to its share.
    pub ramp: Option<Duration>,
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
    /// Which requests are sent, and in what form; without the key of a run.
    pub rules: Rules,
    /// The program that is asked about requests; none in a dry run.
    pub filter_exec: Option<FilterExec>,
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
    /// Bytes of each ring but that of the shadow's answers ([`replies_size`]): a power of two and of whole
    /// pages.
    pub ring_size: u32,
    /// How long data waits for the shadow's answer.
    pub gate_timeout: Duration,
    /// What happens then.
    pub gate_action: GateAction,
    /// How long the shadow may acknowledge nothing.
    pub shadow_timeout: Duration,
    /// When released data goes out.
    pub pace: Pace,
    /// By which socket packets leave.
    pub socket: Socket,
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

/// A program that is asked about requests.
#[derive(Clone, Debug)]
pub struct FilterExec {
    /// Its path, as it was given.
    pub program: Setting<PathBuf>,
    /// How long a request waits for it.
    pub timeout: Duration,
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

    /// How many of each flow a server gets.
    #[must_use]
    pub const fn copies_for(&self, role: Role) -> u16 {
        match role {
            Role::Shadow => self.copies,
            Role::Baseline => 1,
        }
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

    /// Reads a file as [`Self::load`] does, and prints that it is in order.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check_file(args: ConfigCheckArgs) -> Result<(), Refusal> {
        let ConfigCheckArgs { file, flags } = args;
        if let Some(other) = &flags.config {
            return Err(Refusal::new(
                format!("--config {}", other.display()),
                "is a second file",
                "give one, after config check",
            ));
        }
        Self::load(MirrorArgs { config: Some(file.clone()), ..flags })?;
        // A reader who has left does not make the file wrong.
        let _ = writeln!(io::stdout(), "{} is in order", file.display());
        Ok(())
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
            cpu_limit: given!("cpu-limit", cpu_limit, "50%"),
            pressure_limit: given!("pressure-limit", pressure_limit, "60%"),
            client: sources.many("client", flags.client, file.client),
            exclude_client: sources.many(
                "exclude-client",
                flags.exclude_client,
                file.exclude_client,
            ),
        })?;

        let rates = Rates {
            sessions: given!("max-rate", max_rate, "none").parse(Rate::parse)?.value,
            requests: given!("max-request-rate", max_request_rate, "none")
                .parse(Rate::parse)?
                .value,
            bandwidth: given!("max-bandwidth", max_bandwidth, "none")
                .parse(Bandwidth::parse)?
                .value,
        };
        let ramp = given!("ramp", ramp)
            .map(|given| given.parse(positive_duration))
            .transpose()?
            .map(|setting| setting.value);

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
        let client_address = given!("client-address", client_address, "none").parse(choice)?.value;
        let filter_exec = given!("filter-exec", filter_exec)
            .map(|given| given.parse(|text| Ok(PathBuf::from(text))))
            .transpose()?;
        let filter_timeout = given!("filter-timeout", filter_timeout);
        if let (Some(timeout), None) = (&filter_timeout, &filter_exec) {
            return Err(timeout
                .refuse("no program is asked", "leave it out, or give --filter-exec PROGRAM"));
        }
        let filter_timeout = filter_timeout.unwrap_or_else(|| default_of("filter-timeout", "1s"));
        let timeout = filter_timeout.parse(filter_timeout_in_bounds)?.value;
        let filter_exec =
            filter_exec.filter(|_| !dry_run).map(|program| FilterExec { program, timeout });
        let rules = rules::Given {
            asks: filter_exec.is_some(),
            method: sources.many("method", flags.method, file.method),
            safe_methods: given!("safe-methods", safe_methods),
            path: sources.many("path", flags.path, file.path),
            exclude_path: sources.many("exclude-path", flags.exclude_path, file.exclude_path),
            header: sources.many("header", flags.header, file.header),
            exclude_header: sources.many(
                "exclude-header",
                flags.exclude_header,
                file.exclude_header,
            ),
            filter: sources.many("filter", flags.filter, file.filter),
            rewrite_path: sources.many("rewrite-path", flags.rewrite_path, file.rewrite_path),
            set_host: given!("set-host", set_host),
            host_suffix: given!("host-suffix", host_suffix),
            set_header: sources.many("set-header", flags.set_header, file.set_header),
            remove_header: sources.many("remove-header", flags.remove_header, file.remove_header),
            request_id_header: given!("request-id-header", request_id_header),
            mark: given!("mark", mark),
            mask_header: sources.many("mask-header", flags.mask_header, file.mask_header),
            mask_query: sources.many("mask-query", flags.mask_query, file.mask_query),
            mask_form: sources.many("mask-form", flags.mask_form, file.mask_form),
            mask_json: sources.many("mask-json", flags.mask_json, file.mask_json),
            mask_regex: sources.many("mask-regex", flags.mask_regex, file.mask_regex),
            mask_limit: given!("mask-limit", mask_limit),
        }
        .merge(client_address)?;
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
            + baseline.as_ref().map_or(0, |_| MAX_WAITING as u64)
            + filter_exec.as_ref().map_or(0, |_| MAX_QUEUED as u64);
        let source_ports = given!("source-ports", source_ports, "16384-32767").parse(port_range)?;
        let copies = copies::copies(given!("copies", copies, "1"), &source, &source_ports)?;
        let spread = copies::spread(given!("spread", spread, "false"), &shadows)?;
        let engines =
            value::Engines { copies, shadows: shadows.len(), baseline: baseline.is_some() };
        let flow_memory =
            flow_memory(memory_limit, ring_size, compare, max_flows, report_memory, engines)?;

        Ok(Self {
            iface,
            port,
            shadows,
            baseline,
            copies,
            spread,
            choosing,
            rates,
            ramp,
            control: given!("control", control).map(|given| given.parse(place)).transpose()?,
            listen: given!("listen", listen).map(|given| given.parse(listen)).transpose()?,
            listen_token_file: given!("listen-token-file", listen_token_file)
                .map(|given| given.parse(|text| Ok(PathBuf::from(text))))
                .transpose()?,
            summary: given!("summary", summary)
                .map(|given| given.parse(|text| Ok(PathBuf::from(text))))
                .transpose()?,
            show_bodies,
            rules,
            filter_exec,
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
            source_ports,
            client_address,
            ring_size,
            gate_timeout: given!("gate-timeout", gate_timeout, "5s")
                .parse(positive_duration)?
                .value,
            gate_action: given!("gate-action", gate_action, "abort").parse(choice)?.value,
            shadow_timeout: given!("shadow-timeout", shadow_timeout, "30s")
                .parse(positive_duration)?
                .value,
            pace: given!("pace", pace, "as-captured").parse(choice)?.value,
            socket: given!("socket", socket, "auto").parse(choice)?.value,
            flow_memory,
            max_flows,
            live: if takes_stdout { Live::Off } else { live.value },
            log_format: given!("log-format", log_format, "text").parse(choice)?.value,
            verbose: flags.verbose.max(file.verbose),
        })
    }
}

/// How long a request may wait for a program: its flow waits with it.
fn filter_timeout_in_bounds(text: &str) -> Parsed<Duration> {
    match duration(text)? {
        timeout if (MIN_FILTER_TIMEOUT..=MAX_FILTER_TIMEOUT).contains(&timeout) => Ok(timeout),
        _ => wrong("is out of bounds", "give from 1ms to 1min"),
    }
}

const MIN_FILTER_TIMEOUT: Duration = Duration::from_millis(1);
const MAX_FILTER_TIMEOUT: Duration = Duration::from_secs(60);

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

#[cfg(test)]
mod tests;
