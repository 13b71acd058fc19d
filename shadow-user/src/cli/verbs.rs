//! The verbs beside `mirror` and `check`, with their flags.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::MirrorArgs;
use crate::setting::Text;

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
        /// sample, client, exclude-client, paused, cpu-limit, pressure-limit, max-rate, max-request-rate
        /// or max-bandwidth
        name: String,

        /// What to set.
        #[arg(
            value_name = "VALUE",
            help = "Of sample a share, as 5%; of a list add, remove or to with networks or @FILE, as \
                    add 203.0.113.0/24; of a rate 50/s or 100Mbit/s, \
                    or none; of cpu-limit or pressure-limit a share, or off"
        )]
        to: Vec<String>,
    },
}

/// The verbs of `config`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read a file as `mirror --config` does, and say what is wrong with it
    Check(Box<ConfigCheckArgs>),
}

/// The flags of `config check`.
#[derive(Args, Clone, Debug)]
pub struct ConfigCheckArgs {
    /// The file
    pub file: PathBuf,

    /// What is given beside the file.
    #[command(flatten)]
    pub flags: MirrorArgs,
}

/// The flags of `completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// The flags of `man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// Write a page for each command into this folder
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
}
