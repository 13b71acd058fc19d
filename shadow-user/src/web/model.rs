//! What the page shows and the API answers, as its JSON has it. Times are seconds, sizes octets.

use std::collections::BTreeMap;

use serde::Serialize;

/// `/api/v1/overview`, and each event of `/api/v1/events`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Overview {
    /// The daemon's version.
    pub version: &'static str,
    /// The shadow, as the user gave it.
    pub shadow: String,
    /// `capturing`, `draining` or `done`.
    pub phase: &'static str,
    /// Time since capture began.
    pub seconds: f64,
    /// `off`, `status` or `body`.
    pub compare: &'static str,
    /// Whether bodies are shown.
    pub bodies: bool,
    /// Whether differences are held against a baseline's or a noise file's.
    pub noise: bool,
    /// The mirror's own figures.
    pub mirror: Mirror,
    /// All endpoints together; `null` when answers are not compared.
    pub total: Option<Tally>,
    /// One by one; without the buckets of their latencies.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint and its tally.
#[derive(Clone, Debug, Serialize)]
pub struct Endpoint {
    /// Method and path template.
    pub name: String,
    /// Its exchanges.
    #[serde(flatten)]
    pub tally: Tally,
}

/// `/api/v1/endpoint?name=…`.
#[derive(Clone, Debug, Serialize)]
pub struct Detail {
    /// Method and path template.
    pub name: String,
    /// Its exchanges.
    #[serde(flatten)]
    pub tally: Tally,
    /// Where answers differed.
    pub fields: Vec<Field>,
    /// Differences in fields that found no place.
    pub fields_beyond: u64,
    /// Exchanges that were compared with the baseline's answer as well.
    pub baseline: u64,
}

/// What became of some exchanges.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// All of them.
    pub exchanges: u64,
    /// All but the unpaired.
    pub compared: u64,
    /// Those in which the shadow behaved otherwise.
    pub mismatches: u64,
    /// By verdict; those that never came are left out.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// By both legs' status.
    pub statuses: Vec<Statuses>,
    /// Exchanges of pairs of statuses that found no place.
    pub statuses_beyond: u64,
    /// How long both legs took, of exchanges that both answered.
    pub latency: Latencies,
}

/// Exchanges of one pair of statuses.
#[derive(Clone, Debug, Serialize)]
pub struct Statuses {
    /// Production's; `none` when it did not answer.
    pub production: String,
    /// The shadow's.
    pub shadow: String,
    /// How many.
    pub count: u64,
}

/// Both legs' times.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Latencies {
    /// From the client's request captured to production's response captured.
    pub production: Latency,
    /// From the request sent to the shadow's response captured.
    pub shadow: Latency,
}

/// One leg's times; percentiles are `null` before the first answer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Latency {
    /// Answers.
    pub count: u64,
    /// The median.
    pub p50: Option<f64>,
    /// 90 %.
    pub p90: Option<f64>,
    /// 99 %.
    pub p99: Option<f64>,
    /// 99.9 %.
    pub p999: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
    /// A time within each bucket and its count; empty buckets are left out.
    pub buckets: Vec<(f64, u64)>,
}

/// A field that differed.
#[derive(Clone, Debug, Serialize)]
pub struct Field {
    /// `status`, `header.content-type`, `body.items[].price`.
    pub path: String,
    /// How.
    pub kind: &'static str,
    /// Exchanges in which the shadow's answer differed from production's.
    pub count: u64,
    /// Exchanges in which the baseline's answer differed from production's.
    pub baseline: u64,
    /// Whether noise explains it, so that it does not count.
    pub noise: bool,
}

/// The mirror's own figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Mirror {
    /// Packets of clients.
    pub packets: Packets,
    /// Connections of clients.
    pub flows: Flows,
    /// HTTP/1 requests of clients.
    pub requests: Requests,
    /// Payload.
    pub bytes: Bytes,
    /// Capture lag.
    pub lag: Latency,
    /// Octets that flows buffer.
    pub memory: u64,
    /// Whether the shadow is taken to be down.
    pub circuit_open: bool,
    /// The other shadows, the baseline among them.
    pub others: Vec<Other>,
    /// What was lost, by stage and reason; what never happened is left out.
    pub losses: Vec<Loss>,
}

/// A shadow beside the first.
#[derive(Clone, Debug, Serialize)]
pub struct Other {
    /// As its user calls it.
    pub to: String,
    /// `shadow` or `baseline`.
    pub role: &'static str,
    /// Connections of clients.
    pub flows: Flows,
    /// HTTP/1 requests of clients.
    pub requests: Requests,
    /// Whether it is taken to be down.
    pub circuit_open: bool,
}

/// Packets of clients.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Packets {
    /// Captured.
    pub captured: u64,
    /// Not captured.
    pub lost: u64,
}

/// Connections of clients.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Flows {
    /// All.
    pub seen: u64,
    /// Going on.
    pub open: u64,
    /// Arrived whole.
    pub mirrored: u64,
    /// Never a session.
    pub skipped: u64,
    /// Reset.
    pub aborted: u64,
}

/// HTTP/1 requests of clients.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Requests {
    /// All.
    pub seen: u64,
    /// Acknowledged by the shadow.
    pub delivered: u64,
    /// Answered by the shadow.
    pub answered: u64,
}

/// Payload.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Bytes {
    /// Captured.
    pub captured: u64,
    /// Acknowledged by the shadow.
    pub delivered: u64,
    /// Answered by the shadow.
    pub answered: u64,
}

/// One kind of loss.
#[derive(Clone, Debug, Serialize)]
pub struct Loss {
    /// The counter, as the summary names it.
    pub stage: &'static str,
    /// The reason.
    pub reason: &'static str,
    /// How often.
    pub count: u64,
}

/// One of `/api/v1/examples`.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// Names it as long as it is kept.
    pub id: String,
    /// Method and path template.
    pub endpoint: String,
    /// HTTP's method, Redis' command.
    pub method: String,
    /// HTTP's request target.
    pub target: String,
    /// The verdict.
    pub verdict: &'static str,
    /// How production answered.
    pub production: Answer,
    /// How the shadow answered.
    pub shadow: Answer,
    /// The paths of its differences that are not noise, each once.
    pub fields: Vec<String>,
}

/// How a leg answered, in short.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// The status; `none` when there was no answer.
    pub status: String,
    /// From the request to the whole response.
    pub seconds: Option<f64>,
    /// Why there was none.
    pub unpaired: Option<&'static str>,
}

/// `/api/v1/examples/{id}`.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// Names it as long as it is kept.
    pub id: String,
    /// Method and path template.
    pub endpoint: String,
    /// HTTP's method, Redis' command.
    pub method: String,
    /// HTTP's request target.
    pub target: String,
    /// The verdict.
    pub verdict: &'static str,
    /// The client's address and port.
    pub client: String,
    /// Production's address and port.
    pub server: String,
    /// `HTTP/1`, `HTTP/2` or `Redis`.
    pub protocol: &'static str,
    /// Where the answers differ; noise too.
    pub differences: Vec<Difference>,
    /// Differences that found no place.
    pub more: u64,
    /// What was asked.
    pub request: Message,
    /// What production answered.
    pub production: Response,
    /// What the shadow answered.
    pub shadow: Response,
}

/// One field that differs.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Where.
    pub path: String,
    /// How.
    pub kind: &'static str,
    /// Production's value; `null` where it has none or must not be shown.
    pub production: Option<String>,
    /// The shadow's.
    pub shadow: Option<String>,
    /// Whether noise explains it.
    pub noise: bool,
}

/// How a leg answered.
#[derive(Clone, Debug, Serialize)]
pub struct Response {
    /// In short.
    #[serde(flatten)]
    pub answer: Answer,
    /// The status line, where the protocol has one.
    pub line: Option<String>,
    /// What was answered; empty where nothing was.
    #[serde(flatten)]
    pub message: Message,
}

/// Head, body and trailers. Octets that are not UTF-8 appear as U+FFFD.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Message {
    /// Names and values in their order; values that are secrets are replaced unless bodies are shown.
    pub head: Vec<(String, String)>,
    /// The same behind the body.
    pub trailers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
}

/// A body.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Body {
    /// Its octets, transfer coding removed.
    pub bytes: u64,
    /// Those that were kept.
    pub kept: u64,
    /// Whether the text is only its beginning.
    pub cut: bool,
    /// Its text, content coding removed.
    pub text: Option<String>,
    /// Why there is no text.
    pub hidden: Option<&'static str>,
}
