//! One exchange as one JSON object: the Elastic Common Schema's names for production's leg, ours
//! below `shadowtap`.
//!
//! Objects are nested, as the schema's documents are: Elasticsearch, Filebeat and Logstash take them
//! as they come, and `[http][response][status_code]` works in a filter. Every field of this file
//! has its mapping in `contrib/elasticsearch/`; a test holds them side by side.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use shadow_common::Counter as _;
use shadow_engine::compare::{Comparison, Difference, Kind, Opaque};
use shadow_engine::exchange::{
    Body, Exchange, Head, Protocol, Request, Response, Status, Unpaired,
};
use shadow_engine::time::Instant;

use crate::kernel;

/// The version of the schema whose names are used.
pub const ECS_VERSION: &str = "8.11.0";

/// The clock on the wall, from the monotonic clock of captures. The distance between both is taken
/// once: a wall clock that is set later does not bend the times of a run.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    /// When the monotonic clock was at its origin.
    origin: SystemTime,
}

impl Wall {
    /// Looks at both clocks.
    #[must_use]
    pub fn now() -> Self {
        let monotonic = Duration::from_nanos(kernel::now().as_nanos());
        let wall = SystemTime::now();
        Self { origin: wall.checked_sub(monotonic).unwrap_or(SystemTime::UNIX_EPOCH) }
    }

    /// A clock whose monotonic origin was at `origin`.
    #[must_use]
    pub const fn since(origin: SystemTime) -> Self {
        Self { origin }
    }

    /// RFC 3339 in UTC, to the microsecond: what every reader of the schema's `date` takes.
    #[must_use]
    pub fn text(self, at: Instant) -> String {
        let time = self.origin + Duration::from_nanos(at.as_nanos());
        humantime::format_rfc3339_micros(time).to_string()
    }
}

/// What a line tells.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The shadow, as its user calls it.
    pub shadow: &'a str,
    /// What was asked, and both answers.
    pub exchange: &'a Exchange,
    /// What the answers compare to.
    pub comparison: &'a Comparison,
    /// The request's correlation id, where it has one.
    pub id: Option<&'a str>,
}

/// One line, without its end.
///
/// # Errors
/// None that a `Vec` can cause; the serializer's signature has one.
pub fn write(
    line: &mut Vec<u8>,
    wall: Wall,
    told: &Told<'_>,
    bodies: bool,
) -> serde_json::Result<()> {
    serde_json::to_writer(line, &Record::new(wall, told, bodies))
}

#[derive(Debug, Serialize)]
struct Record<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: String,
    ecs: Ecs,
    event: Event,
    client: Peer,
    server: Peer,
    network: Network,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<Http<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Url<'a>>,
    shadowtap: Shadowtap<'a>,
}

#[derive(Debug, Serialize)]
struct Ecs {
    version: &'static str,
}

#[derive(Debug, Serialize)]
struct Event {
    kind: &'static str,
    category: [&'static str; 1],
    #[serde(rename = "type")]
    types: [&'static str; 1],
    module: &'static str,
    dataset: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Peer {
    ip: IpAddr,
    port: u16,
}

#[derive(Debug, Serialize)]
struct Network {
    transport: &'static str,
    protocol: &'static str,
}

#[derive(Debug, Serialize)]
struct Http<'a> {
    version: &'static str,
    request: HttpRequest<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<HttpResponse<'a>>,
}

#[derive(Debug, Serialize)]
struct HttpRequest<'a> {
    method: &'a str,
    body: HttpBody<'a>,
}

#[derive(Debug, Serialize)]
struct HttpResponse<'a> {
    status_code: u16,
    body: HttpBody<'a>,
}

#[derive(Debug, Serialize)]
struct HttpBody<'a> {
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Cow<'a, str>>,
}

#[derive(Debug, Serialize)]
struct Url<'a> {
    original: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Shadowtap<'a> {
    endpoint: &'a str,
    verdict: &'static str,
    /// The exchange's place in its connection.
    number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestId<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unpaired: Option<Reasons>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_delta: Option<i64>,
    /// Of production.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<Redis<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc: Option<Grpc>,
    shadow: Shadow<'a>,
    diff: Diff<'a>,
}

#[derive(Debug, Serialize)]
struct RequestId<'a> {
    id: &'a str,
}

#[derive(Debug, Serialize)]
struct Reasons {
    #[serde(skip_serializing_if = "Option::is_none")]
    production: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Redis<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Grpc {
    status_code: u16,
}

#[derive(Debug, Serialize)]
struct Shadow<'a> {
    address: &'a str,
    #[serde(flatten)]
    answer: Option<ShadowAnswer<'a>>,
}

#[derive(Debug, Serialize)]
struct ShadowAnswer<'a> {
    event: ShadowEvent,
    first_byte: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<ShadowHttp<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<Redis<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc: Option<Grpc>,
}

#[derive(Debug, Serialize)]
struct ShadowEvent {
    duration: u64,
}

#[derive(Debug, Serialize)]
struct ShadowHttp<'a> {
    response: HttpResponse<'a>,
}

#[derive(Debug, Serialize)]
struct Diff<'a> {
    /// Differences that count.
    count: usize,
    /// Differences that the run's noise explains.
    noise: usize,
    keys: Vec<&'a str>,
    kinds: Vec<&'static str>,
    /// Why a body was not looked into.
    #[serde(skip_serializing_if = "Option::is_none")]
    opaque: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<Values<'a>>>,
}

#[derive(Debug, Serialize)]
struct Values<'a> {
    key: &'a str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    production: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<&'a str>,
    noise: bool,
}

impl<'a> Record<'a> {
    fn new(wall: Wall, told: &Told<'a>, bodies: bool) -> Self {
        let Told { exchange, comparison, .. } = *told;
        let Exchange { protocol, request, production, shadow, .. } = exchange;
        let is_redis = *protocol == Protocol::Redis;
        let answered = production.as_ref().ok();
        Self {
            timestamp: wall.text(request.at),
            ecs: Ecs { version: ECS_VERSION },
            event: Event {
                kind: "event",
                category: [if is_redis { "database" } else { "web" }],
                types: ["access"],
                module: "shadowtap",
                dataset: "shadowtap.exchange",
                outcome: outcome(answered),
                duration: answered.map(|response| nanos(response.duration())),
            },
            client: Peer::new(exchange.client),
            server: Peer::new(exchange.server),
            network: Network {
                transport: "tcp",
                protocol: if is_redis { "redis" } else { "http" },
            },
            http: (!is_redis).then(|| Http {
                version: version(*protocol, request),
                request: HttpRequest {
                    method: &request.method,
                    body: HttpBody::new(&request.body, bodies),
                },
                response: answered.and_then(|response| HttpResponse::new(response, bodies)),
            }),
            url: (!is_redis).then(|| Url::new(&request.target)),
            shadowtap: Shadowtap {
                endpoint: &comparison.endpoint,
                verdict: comparison.verdict.label(),
                number: exchange.number,
                request: told.id.map(|id| RequestId { id }),
                unpaired: Reasons::new(production.as_ref().err(), shadow.as_ref().err()),
                duration_delta: delta(exchange),
                first_byte: answered.map(first_byte),
                redis: is_redis.then(|| Redis {
                    command: Some(&request.method),
                    reply: redis_reply(answered),
                }),
                grpc: answered.and_then(Grpc::new),
                shadow: Shadow {
                    address: told.shadow,
                    answer: shadow.as_ref().ok().map(|answer| ShadowAnswer::new(answer, bodies)),
                },
                diff: Diff::new(comparison, bodies),
            },
        }
    }
}

impl Peer {
    fn new(address: SocketAddr) -> Self {
        // A client of a dual-stack socket is the IPv4 client that it is.
        Self { ip: address.ip().to_canonical(), port: address.port() }
    }
}

impl<'a> HttpResponse<'a> {
    fn new(response: &'a Response, bodies: bool) -> Option<Self> {
        let status_code = match response.status {
            Status::Http(code) => code,
            // gRPC's own status stands in the trailers of a 200.
            Status::Grpc(_) => 200,
            Status::Redis(_) => return None,
        };
        Some(Self { status_code, body: HttpBody::new(&response.body, bodies) })
    }
}

impl<'a> HttpBody<'a> {
    fn new(body: &'a Body, bodies: bool) -> Self {
        let is_shown = bodies && !body.kept.is_empty();
        Self { bytes: body.len, content: is_shown.then(|| String::from_utf8_lossy(&body.kept)) }
    }
}

impl<'a> Url<'a> {
    /// Of a request target in any of its four forms (RFC 9112, 3.2).
    fn new(target: &'a str) -> Self {
        let origin_form = if target.starts_with('/') {
            Some(target)
        } else {
            // Absolute form, as to a proxy; neither authority form nor `*` has a path.
            target.split_once("://").map(|(_, rest)| {
                rest.find(['/', '?']).and_then(|start| rest.get(start..)).unwrap_or("/")
            })
        };
        let (path, query) = match origin_form.map(|form| form.split_once('?').unwrap_or((form, "")))
        {
            None => (None, None),
            Some((path, query)) => (
                Some(if path.is_empty() { "/" } else { path }),
                Some(query).filter(|query| !query.is_empty()),
            ),
        };
        Self { original: target, path, query }
    }
}

impl Reasons {
    fn new(production: Option<&Unpaired>, shadow: Option<&Unpaired>) -> Option<Self> {
        let [production, shadow] = [production, shadow].map(|leg| leg.map(|reason| reason.label()));
        (production.is_some() || shadow.is_some()).then_some(Self { production, shadow })
    }
}

impl Grpc {
    fn new(response: &Response) -> Option<Self> {
        match response.status {
            Status::Grpc(status_code) => Some(Self { status_code }),
            Status::Http(_) | Status::Redis(_) => None,
        }
    }
}

impl<'a> ShadowAnswer<'a> {
    fn new(response: &'a Response, bodies: bool) -> Self {
        Self {
            event: ShadowEvent { duration: nanos(response.duration()) },
            first_byte: first_byte(response),
            http: HttpResponse::new(response, bodies).map(|response| ShadowHttp { response }),
            redis: redis_reply(Some(response))
                .map(|reply| Redis { command: None, reply: Some(reply) }),
            grpc: Grpc::new(response),
        }
    }
}

impl<'a> Diff<'a> {
    fn new(comparison: &'a Comparison, bodies: bool) -> Self {
        let counting = || comparison.differences.iter().filter(|difference| !difference.noise);
        let count = counting().count();
        let mut kinds: Vec<Kind> = counting().map(|difference| difference.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let mut keys: Vec<&str> = counting().map(|difference| &*difference.path).collect();
        keys.sort_unstable();
        keys.dedup();
        Self {
            // What stands beyond the bound was not looked up in the noise.
            count: count + comparison.more,
            noise: comparison.differences.len() - count,
            keys,
            kinds: kinds.into_iter().map(Kind::label).collect(),
            opaque: comparison.opaque.map(Opaque::label),
            values: bodies.then(|| comparison.differences.iter().map(Values::new).collect()),
        }
    }
}

impl<'a> Values<'a> {
    fn new(difference: &'a Difference) -> Self {
        Self {
            key: &difference.path,
            kind: difference.kind.label(),
            production: difference.production.as_deref(),
            shadow: difference.shadow.as_deref(),
            noise: difference.noise,
        }
    }
}

/// Production's success, as the schema's access logs have it.
fn outcome(production: Option<&Response>) -> &'static str {
    match production.map(|response| response.status) {
        None => "unknown",
        Some(Status::Http(..400) | Status::Grpc(0)) => "success",
        Some(Status::Redis(first)) if !matches!(first, b'-' | b'!') => "success",
        Some(_) => "failure",
    }
}

/// Of the request, for a response may be of a lower version.
fn version(protocol: Protocol, request: &Request) -> &'static str {
    match (protocol, &request.head) {
        (Protocol::Http2, _) => "2",
        (_, Head::Http1(octets)) => {
            let line = octets.split(|octet| *octet == b'\n').next().unwrap_or_default();
            if line.trim_ascii_end().ends_with(b"HTTP/1.0") { "1.0" } else { "1.1" }
        }
        (_, Head::Fields(_)) => "1.1",
    }
}

/// How much longer the shadow took, in nanoseconds.
fn delta(exchange: &Exchange) -> Option<i64> {
    let [production, shadow] = [&exchange.production, &exchange.shadow].map(Result::as_ref);
    let nanos = |response: &Response| i64::try_from(response.duration().as_nanos()).ok();
    nanos(shadow.ok()?)?.checked_sub(nanos(production.ok()?)?)
}

fn first_byte(response: &Response) -> u64 {
    nanos(response.first_at.since(response.asked_at))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn redis_reply(response: Option<&Response>) -> Option<&'static str> {
    match response?.status {
        Status::Redis(first) => Some(reply(first)),
        Status::Http(_) | Status::Grpc(_) => None,
    }
}

/// A Redis reply's type, as its protocol's documentation names it.
#[must_use]
pub const fn reply(first: u8) -> &'static str {
    match first {
        b'+' => "simple_string",
        b'-' => "error",
        b':' => "integer",
        b'$' => "bulk_string",
        b'*' => "array",
        b'_' => "null",
        b'#' => "boolean",
        b',' => "double",
        b'(' => "big_number",
        b'!' => "bulk_error",
        b'=' => "verbatim_string",
        b'%' => "map",
        b'~' => "set",
        b'>' => "push",
        _ => "other",
    }
}
