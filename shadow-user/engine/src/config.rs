//! What the daemon decides for its engines.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::exchange::Limits;
use crate::iss::Secret;
use crate::quota::Quota;
use crate::rules::Rules;
use crate::sources::Source;
use crate::time::Duration;

/// Settings of one [`Engine`](crate::Engine), validated by the daemon.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The shadow's service address and port.
    pub shadow: SocketAddr,
    /// Where the shadow sees its clients; addresses of the shadow's family.
    pub source: Source,
    /// How the shadow's application learns the client's address.
    pub client_address: ClientAddress,
    /// Which requests are sent, and in what form.
    pub rules: Arc<Rules>,
    /// How long a request waits for the program that is asked about it.
    pub filter_timeout: Duration,
    /// Longest IP packet toward the shadow, octets.
    pub path_mtu: u16,
    /// Key of this run for sequence numbers and hash tables.
    pub secret: Secret,
    /// Octets that all flows together may buffer.
    pub memory_limit: usize,
    /// Octets that one flow may buffer, reassembly and unacknowledged data together.
    pub flow_limit: usize,
    /// Flows that may be open at once.
    pub max_flows: usize,
    /// How much the shadow is asked to take.
    pub quota: Quota,
    /// How long a turn waits for the shadow's answer.
    pub gate_timeout: Duration,
    /// What happens then.
    pub gate_action: GateAction,
    /// Whether captured distances in time are kept.
    pub pace: Pace,
    /// How long the shadow may leave something unacknowledged (RFC 9293, 3.8.3); four times
    /// as long it may keep its window shut.
    pub user_timeout: Duration,
    /// How long a client may be silent before its session is given up.
    pub idle_timeout: Duration,
    /// How long a hole in the capture may wait for the client's retransmission.
    pub hole_timeout: Duration,
    /// Capture and account, send nothing.
    pub dry_run: bool,
    /// How production's answers and the shadow's are paired; not at all in a dry run.
    pub exchanges: Limits,
}

/// How the shadow's application learns the client's address (`--client-address`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ClientAddress {
    /// Not at all, or from the packets where they carry it.
    #[default]
    None,
    /// From the PROXY protocol's header, version 2, before the stream.
    ProxyProtocolV2,
    /// From a header line that is added to every HTTP/1 request.
    XForwardedFor,
}

/// What happens to a turn whose gate timeout is reached.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum GateAction {
    /// The session is reset, counted as `flows.aborted.gate_timeout`.
    #[default]
    Abort,
    /// The bytes are sent all the same, counted as `gates.timed_out`.
    Send,
}

/// How a client's bytes are spread over time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Pace {
    /// Captured distances are kept.
    #[default]
    AsCaptured,
    /// Bytes go out as soon as gating allows.
    Off,
}

impl EngineConfig {
    /// The defaults of the command line, toward `shadow` from the host's own `address`.
    #[must_use]
    pub fn new(shadow: SocketAddr, address: IpAddr, secret: Secret) -> Self {
        Self {
            shadow,
            source: Source::Own { address, ports: 16_384..=32_767 },
            client_address: ClientAddress::default(),
            rules: Arc::default(),
            filter_timeout: Duration::from_secs(1),
            path_mtu: 1_500,
            secret,
            memory_limit: 192 << 20,
            // A buffer that has grown may be twice what it holds: 24 MiB of upload ahead of the shadow.
            flow_limit: 48 << 20,
            max_flows: 200_000,
            quota: Quota::default(),
            gate_timeout: Duration::from_secs(5),
            gate_action: GateAction::default(),
            pace: Pace::default(),
            user_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(3_600),
            hole_timeout: Duration::from_secs(10),
            dry_run: false,
            exchanges: Limits::default(),
        }
    }
}
