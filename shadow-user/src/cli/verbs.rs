//! The verbs beside `mirror` and `check`, with their flags.

use clap::{Args, Subcommand};

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
