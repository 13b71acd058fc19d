//! The command line. Values are kept as text here: `config` looks into them, so
//! that a flag and a field of the file are refused in the same words.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

use crate::setting::{Text, one_or_many};

/// Mirrors live TCP traffic of this host to a shadow server.
#[derive(Debug, Parser)]
#[command(name = "shadowtap", version, subcommand_required = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Copy the clients' traffic of a port to a shadow until stopped
    Mirror(Box<MirrorArgs>),
    /// Look at what stands against mirroring with these flags, and mirror nothing
    Check(Box<MirrorArgs>),
    /// On the shadow's host: send the service's replies to the mirror's host
    #[command(subcommand)]
    Route(RouteCommand),
    /// Show or take down the guards that outlive their daemon
    #[command(subcommand)]
    Guard(GuardCommand),
    /// Look at a running mirror, pause it, or change its settings
    Ctl(CtlArgs),
}

/// The verbs of `route`.
#[derive(Debug, Subcommand)]
pub enum RouteCommand {
    /// Send the replies of a port to the mirror's host; may be run again
    Add(RouteAddArgs),
    /// Print what was set, and whether the kernel still has it
    Show,
    /// Undo what was set: all of it, or what the flags select
    Del(RouteDelArgs),
}

/// The flags of `route add`.
#[derive(Args, Clone, Debug)]
pub struct RouteAddArgs {
    /// The mirror host's address, on a network that it shares with this host
    #[arg(long, value_name = "ADDR")]
    pub via: Option<Text>,

    /// TCP port of the service on this host; may be repeated
    #[arg(long, value_name = "PORT")]
    pub port: Vec<Text>,

    /// Only replies to these clients; may be repeated [default: replies to everyone]
    #[arg(long, value_name = "CIDR")]
    pub client_net: Vec<Text>,

    /// Where the reverse path filter would drop packets with clients' addresses, make it loose: on
    /// the interface toward --via, or on the named one; may be repeated
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "", value_name = "IFACE")]
    pub fix_rp_filter: Vec<Text>,
}

/// The flags of `route del`.
#[derive(Args, Clone, Debug)]
pub struct RouteDelArgs {
    /// Only what goes to this mirror host
    #[arg(long, value_name = "ADDR")]
    pub via: Option<Text>,

    /// Only the replies of this port; may be repeated
    #[arg(long, value_name = "PORT")]
    pub port: Vec<Text>,

    /// Only what was given with this network; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub client_net: Vec<Text>,
}

/// The verbs of `guard`.
#[derive(Clone, Debug, Subcommand)]
pub enum GuardCommand {
    /// List every pinned guard of this network namespace
    Show,
    /// Take down guards whose daemon has ended
    Remove(GuardRemoveArgs),
}

/// The flags of `guard remove`.
#[derive(Args, Clone, Debug, Default)]
pub struct GuardRemoveArgs {
    /// Only those on this interface
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    pub iface: Option<String>,

    /// Those on every interface: the default
    #[arg(long)]
    pub all: bool,
}

/// The flags and verbs of `ctl`.
#[derive(Args, Clone, Debug)]
pub struct CtlArgs {
    /// The mirror's --control [default: the only mirror of this network namespace]
    #[arg(long, value_name = "PATH", global = true)]
    pub control: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// The verbs of `ctl`.
#[derive(Clone, Debug, Subcommand)]
pub enum CtlCommand {
    /// How the mirror fares: where it stands, its settings, its main figures
    Status {
        /// Everything, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Begin no more flows; open ones go on
    Pause,
    /// Begin flows again
    Resume,
    /// Print every setting that can be changed, as JSON
    Get,
    /// Change a setting: flows that begin from now on follow it
    Set {
        /// sample, client or exclude-client
        name: String,

        /// What to set.
        #[arg(
            value_name = "VALUE",
            help = "Of sample a share, as 5%; of a list add, remove or to with networks or @FILE, as \
                    add 203.0.113.0/24"
        )]
        to: Vec<String>,
    },
}

/// The flags of `mirror`, which are also the fields of its file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MirrorArgs {
    /// Read settings from a TOML file: the same names, a flag wins
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Interface on which clients reach production; may be repeated
    #[arg(long, value_name = "NAME")]
    #[serde(deserialize_with = "one_or_many")]
    pub iface: Vec<Text>,

    /// What to mirror: a port, with an address or without.
    #[arg(
        long,
        value_name = "[ADDR:]PORT",
        help = "Port to mirror: 80 (every address of this host), 10.0.0.5:80, [fd00::1]:80, or \
                0.0.0.0:80 (every destination, forwarded too); may be repeated"
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub port: Vec<Text>,

    /// Server that gets the copy; may be repeated, then each gets one
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(deserialize_with = "one_or_many")]
    pub shadow: Vec<Text>,

    /// Server that runs production's version and gets the copy as well: where it differs from
    /// production, too, a difference is noise
    #[arg(long, value_name = "HOST:PORT")]
    pub baseline: Option<Text>,

    /// Mirror this share of the clients, whole sessions of the same ones on every host
    /// [default: 100%]
    #[arg(long, value_name = "PERCENT")]
    pub sample: Option<Text>,

    /// Of what the share is taken: client (all connections of one, or none) or connection
    /// [default: client]
    #[arg(long, value_name = "WHAT")]
    pub sample_by: Option<Text>,

    /// Choose others for the share: the same number, the same clients [default: 0]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<Text>,

    /// Which clients.
    #[arg(
        long,
        value_name = "CIDR",
        help = "Mirror these clients alone: a network, an address, or @FILE with one on each line; may \
                be repeated. The longest prefix of this and --exclude-client counts"
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub client: Vec<Text>,

    /// Do not mirror these clients, likewise; may be repeated
    #[arg(long, value_name = "CIDR")]
    #[serde(deserialize_with = "one_or_many")]
    pub exclude_client: Vec<Text>,

    /// Listen here for `shadowtap ctl`, or off
    /// [default: /run/shadowtap/NAMESPACE-IFACE-PORT.sock]
    #[arg(long, value_name = "PATH")]
    pub control: Option<Text>,

    /// Serve the page, its API, /metrics and /healthz here
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<Text>,

    /// The token that opens page and API is in this file, or in $SHADOWTAP_LISTEN_TOKEN; needed
    /// where --listen is no loopback address
    #[arg(long, value_name = "FILE")]
    pub listen_token_file: Option<Text>,

    /// Write the summary here at exit (JSON)
    #[arg(long, value_name = "FILE")]
    pub summary: Option<Text>,

    /// What is not compared.
    #[arg(
        long,
        value_name = "KIND:NAME",
        help = "Leave out of the comparison: header:NAME, json:PATH (as json:$.items[*].price) or \
                query:NAME; may be repeated"
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub ignore: Vec<Text>,

    /// How requests are grouped.
    #[arg(
        long,
        value_name = "PATTERN",
        help = "Group requests by this path, as /users/{name}/posts or GET /files/{*rest}; may be \
                repeated [default: numbers, UUIDs and hashes are folded]"
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub route: Vec<Text>,

    /// When an equal answer is slower, as 50%, 20ms or both; off for never
    /// [default: 100%+100ms]
    #[arg(long, value_name = "HOW")]
    pub slower: Option<Text>,

    /// The shadow runs production's version: write here at exit which fields differ all the same
    #[arg(long, value_name = "FILE")]
    pub learn_noise: Option<Text>,

    /// Differences that are in this file of --learn-noise do not count
    #[arg(long, value_name = "FILE")]
    pub noise: Option<Text>,

    /// How much more often a noisy field may differ: a share of both counts' sum, and of all
    /// exchanges [default: 20%,0.03%]
    #[arg(long, value_name = "SHARES")]
    pub noise_threshold: Option<Text>,

    /// Exit with status 1 when this holds at the end.
    #[arg(
        long,
        value_name = "CONDITION",
        help = "End with status 1 when this holds at the end, as mismatch>0.1%, status>0, p99>+20%; \
                may be repeated"
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub fail_on: Vec<Text>,

    /// Write each exchange as a line of JSON here; - for standard output
    #[arg(long, value_name = "FILE")]
    pub report: Option<Text>,

    /// Which exchanges are reported: all or mismatch [default: all]
    #[arg(long, value_name = "WHICH")]
    pub report_only: Option<Text>,

    /// Report this share of them [default: 100%]
    #[arg(long, value_name = "PERCENT")]
    pub report_sample: Option<Text>,

    /// Put bodies, and the values that differ, into the report and onto the page
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub report_bodies: Option<Text>,

    /// Stop after this time [default: run until SIGINT or SIGTERM]
    #[arg(long, value_name = "TIME")]
    pub duration: Option<Text>,

    /// Grace for open sessions at the end [default: 5s]
    #[arg(long, value_name = "TIME")]
    pub drain: Option<Text>,

    /// Capture and account, send nothing
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub dry_run: Option<Text>,

    /// Do not look at what `check` looks at, and do not probe the shadow first
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub no_check: Option<Text>,

    /// Whose address the shadow sees.
    #[arg(
        long,
        value_name = "MODE",
        help = "Whose address the shadow sees: self (this host's), preserve (the client's), or \
                pool=CIDR (one of an otherwise unused network for each client) [default: self]"
    )]
    pub source: Option<Text>,

    /// With --source pool=CIDR: answer for the pool's addresses on the segment toward the shadow, so
    /// that no route to them is needed
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub pool_announce: Option<Text>,

    /// Ports the mirror sends from with --source self, kept free of others [default: 16384-32767]
    #[arg(long, value_name = "FIRST-LAST")]
    pub source_ports: Option<Text>,

    /// How the shadow's application learns the client's address: none,
    /// proxy-protocol-v2 or x-forwarded-for [default: none]
    #[arg(long, value_name = "HOW")]
    pub client_address: Option<Text>,

    /// Room for captured packets in the kernel, a power of two [default: 16MiB]
    #[arg(long, value_name = "SIZE")]
    pub ring_size: Option<Text>,

    /// How long a client's next data waits for the shadow's answer [default: 5s]
    #[arg(long, value_name = "TIME")]
    pub gate_timeout: Option<Text>,

    /// What happens then: abort or send [default: abort]
    #[arg(long, value_name = "ACTION")]
    pub gate_action: Option<Text>,

    /// How long the shadow may acknowledge nothing; its window may be shut four times as
    /// long [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub shadow_timeout: Option<Text>,

    /// How much of the answers is compared: off, status (heads and lengths) or body [default: status]
    #[arg(long, value_name = "DEPTH")]
    pub compare: Option<Text>,

    /// Time between a client's segments: as-captured or off [default: as-captured]
    #[arg(long, value_name = "PACE")]
    pub pace: Option<Text>,

    /// Memory of the whole daemon [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<Text>,

    /// Flows followed at once [default: 200000]
    #[arg(long, value_name = "COUNT")]
    pub max_flows: Option<Text>,

    /// Progress on standard output: auto (a view on a terminal, else a line each
    /// second), lines or off [default: auto]
    #[arg(long, value_name = "HOW")]
    pub live: Option<Text>,

    /// Form of the log on standard error: text or json [default: text]
    #[arg(long, value_name = "FORM")]
    pub log_format: Option<Text>,

    /// Log each step of the start, and every bucket that grows with its reason
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// How the shadow's application learns the client's address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ClientAddress {
    /// Not at all, or from the packets where they carry it.
    None,
    /// From the PROXY protocol's header, version 2, before the stream.
    ProxyProtocolV2,
    /// From a header line that is added to every HTTP/1 request.
    XForwardedFor,
}

/// What happens to data that waited for the shadow's answer too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum GateAction {
    /// The session is reset and counted.
    Abort,
    /// The data goes out, counted.
    Send,
}

/// How much of production's answers and the shadow's is compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Compare {
    /// Nothing: production's answers are not captured.
    Off,
    /// Heads, and how long bodies are.
    Status,
    /// Whole answers.
    Body,
}

/// When released data goes out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Pace {
    /// With the distances in time that were captured.
    AsCaptured,
    /// As soon as possible.
    Off,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Live {
    /// A view when standard output is a terminal, else lines.
    Auto,
    /// One line each second.
    Lines,
    /// Nothing until the summary.
    Off,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// clap's message as one line: its first paragraph, without the usage below it.
#[must_use]
pub fn one_line(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "no command is given; see shadowtap --help".to_owned();
    }
    let text = error.render().to_string();
    let message: Vec<&str> =
        text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let message = message.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    format!("{message}; see shadowtap --help")
}
