//! The choices that flags offer by name.

use clap::ValueEnum;

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

/// By which socket packets leave for the shadow.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Socket {
    /// A packet socket while the next hop is known and all depends on it alone; else a raw socket.
    Auto,
    /// A raw socket: as packets of any program go, through the host's firewall.
    Raw,
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

/// How a mirrored request is marked as one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Mark {
    /// By a header line of its own.
    Header,
    /// In W3C Baggage.
    Baggage,
}
