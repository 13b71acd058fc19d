//! The command line. Values are kept as text here: `config` looks into them, so
//! that a flag and a field of the file are refused in the same words.

mod choice;
mod verbs;

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, Parser, Subcommand};
use serde::Deserialize;

use crate::setting::{Text, one_or_many};

pub use choice::{ClientAddress, Compare, GateAction, Live, LogFormat, Mark, Pace, Socket};
pub use verbs::{
    CompletionsArgs, ConfigCheckArgs, ConfigCommand, CtlArgs, CtlCommand, GuardCommand,
    GuardRemoveArgs, ManArgs, RouteAddArgs, RouteCommand, RouteDelArgs,
};

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
    /// Look into a file of settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print completions for a shell, made from these commands
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command
    Man(ManArgs),
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

    /// Server that gets the copy; may be repeated, then each gets one (see --spread)
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(deserialize_with = "one_or_many")]
    pub shadow: Vec<Text>,

    /// Server that runs production's version and gets the copy as well: where it differs from
    /// production, too, a difference is noise
    #[arg(long, value_name = "HOST:PORT")]
    pub baseline: Option<Text>,

    /// Mirror each connection by so many sessions with each shadow, from different addresses or ports;
    /// the answers of the first are compared [default: 1]
    #[arg(long, value_name = "COUNT")]
    pub copies: Option<Text>,

    /// Of several shadows, each client has one: the same in every run and on every host
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub spread: Option<Text>,

    /// Mirror this share of the clients, whole sessions of the same ones on every host
    /// [default: 100%]
    #[arg(long, value_name = "PERCENT")]
    pub sample: Option<Text>,

    /// Of what the share is taken: client (all connections of one, or none) or connection
    /// [default: client]
    #[arg(long, value_name = "WHAT")]
    pub sample_by: Option<Text>,

    /// Choose others for the share, and for each shadow: the same number, the same clients [default: 0]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<Text>,

    /// Make the sample smaller when the mirror takes more than this share of one processor, or off
    /// [default: 50%]
    #[arg(long, value_name = "PERCENT")]
    pub cpu_limit: Option<Text>,

    /// When the sample is made smaller for the host's sake.
    #[arg(
        long,
        value_name = "PERCENT",
        help = "Make the sample smaller when something on this host waits for a processor for more than \
                this share of the time, production's accept queue fills up or software interrupts take \
                a processor; or off [default: 60%]"
    )]
    pub pressure_limit: Option<Text>,

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

    /// Begin at most this many sessions a second with each shadow, as 50/s
    #[arg(long, value_name = "RATE")]
    pub max_rate: Option<Text>,

    /// Send at most this many HTTP/1 requests a second to each shadow, as 1000/s
    #[arg(long, value_name = "RATE")]
    pub max_request_rate: Option<Text>,

    /// Send at most this much to each shadow, as 100Mbit/s
    #[arg(long, value_name = "BITS")]
    pub max_bandwidth: Option<Text>,

    /// Let the sample grow from nothing to its share over this time, as 10m
    #[arg(long, value_name = "TIME")]
    pub ramp: Option<Text>,

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

    /// Send only HTTP/1 requests with one of these methods, as GET,HEAD; may be repeated
    #[arg(long, value_name = "METHODS")]
    #[serde(deserialize_with = "one_or_many")]
    pub method: Vec<Text>,

    /// Send only requests with safe methods: GET, HEAD and OPTIONS
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub safe_methods: Option<Text>,

    /// Send only requests whose path matches this, or another --path
    #[arg(long, value_name = "REGEX")]
    #[serde(deserialize_with = "one_or_many")]
    pub path: Vec<Text>,

    /// Leave out requests whose path matches this; may be repeated
    #[arg(long, value_name = "REGEX")]
    #[serde(deserialize_with = "one_or_many")]
    pub exclude_path: Vec<Text>,

    /// Send only requests with a header line that matches; with several, each of them
    #[arg(long, value_name = "NAME=REGEX")]
    #[serde(deserialize_with = "one_or_many")]
    pub header: Vec<Text>,

    /// Leave out requests with a header line that matches; may be repeated
    #[arg(long, value_name = "NAME=REGEX")]
    #[serde(deserialize_with = "one_or_many")]
    pub exclude_header: Vec<Text>,

    /// Send only requests for which this holds.
    #[arg(
        long,
        value_name = "EXPR",
        help = "Send only requests for which this holds, as: method = GET and not path ~ '^/admin/'; \
                with several, all of them"
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub filter: Vec<Text>,

    /// Rewrites paths.
    #[arg(
        long,
        value_name = "REGEX => TEMPLATE",
        help = "Rewrite paths of requests, as '^/v1/(.*) => /v2/$1'; of several the first that matches"
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub rewrite_path: Vec<Text>,

    /// Ask the shadow for this host
    #[arg(long, value_name = "HOST[:PORT]")]
    pub set_host: Option<Text>,

    /// Ask the shadow for the client's host with this behind it, before the port
    #[arg(long, value_name = "SUFFIX", allow_hyphen_values = true)]
    pub host_suffix: Option<Text>,

    /// Set a header line of requests, in place of the client's; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    #[serde(deserialize_with = "one_or_many")]
    pub set_header: Vec<Text>,

    /// Remove a header line from requests; may be repeated
    #[arg(long, value_name = "NAME")]
    #[serde(deserialize_with = "one_or_many")]
    pub remove_header: Vec<Text>,

    /// Give requests a correlation id in this header line, where clients gave none
    #[arg(long, value_name = "NAME")]
    pub request_id_header: Option<Text>,

    /// Mark requests as mirrored: header (X-Shadowtap: mirror) or baggage (synthetic_request=true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "header", value_name = "HOW")]
    pub mark: Option<Text>,

    /// Masks header lines.
    #[arg(
        long,
        value_name = "NAME[=HOW]",
        help = "Mask a header line, in what is sent and reported: hash (keyed), remove, or a text to \
                stand in its place [default: hash]; may be repeated"
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub mask_header: Vec<Text>,

    /// Mask a parameter of queries; may be repeated
    #[arg(long, value_name = "NAME[=HOW]")]
    #[serde(deserialize_with = "one_or_many")]
    pub mask_query: Vec<Text>,

    /// Mask a parameter of URL-encoded forms; may be repeated
    #[arg(long, value_name = "NAME[=HOW]")]
    #[serde(deserialize_with = "one_or_many")]
    pub mask_form: Vec<Text>,

    /// Masks values in JSON bodies.
    #[arg(
        long,
        value_name = "PATH[=HOW]",
        help = "Mask values in JSON bodies, as $.user.email or $.items[*].card=remove; may be repeated"
    )]
    #[serde(deserialize_with = "one_or_many")]
    pub mask_json: Vec<Text>,

    /// Mask what matches in any body, as '[0-9]{16} => CARD'; may be repeated
    #[arg(long, value_name = "REGEX => TEXT")]
    #[serde(deserialize_with = "one_or_many")]
    pub mask_regex: Vec<Text>,

    /// Asks a program.
    #[arg(
        long,
        value_name = "PROGRAM",
        help = "Ask this program about each request that would be sent: lines of JSON on its standard input \
                and output; what it drops, or does not answer in time, is not sent"
    )]
    pub filter_exec: Option<Text>,

    /// How long a request waits for the program of --filter-exec [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub filter_timeout: Option<Text>,

    /// Longest body that is masked or shown to a program; requests with longer ones are not sent
    /// [default: 1MiB]
    #[arg(long, value_name = "SIZE")]
    pub mask_limit: Option<Text>,

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

    /// How packets leave for the shadow: by a packet socket while that is possible (auto), which costs least,
    /// or through this host's firewall (raw) [default: auto]
    #[arg(long, value_name = "SOCKET")]
    pub socket: Option<Text>,

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
