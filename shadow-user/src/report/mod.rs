//! The figures of a run. Metrics and summary are rendered from the same list, so that
//! they cannot disagree.

mod both;
mod comparisons;
mod exposition;
pub mod jsonl;
mod lag;
pub mod metrics;
mod outcome;
mod snapshot;
pub mod summary;

use shadow_common::{Counter, GuardCounter, ResponseCounter, TapCounter};
use shadow_engine::books::Books;

use crate::middleware::Counted;
use crate::rates::Rate;

pub use exposition::Exposition;
pub use lag::Lag;
pub use outcome::Outcome;
pub use snapshot::{Mirrored, Phase, Snapshot, answers};

/// The version in metrics and summary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One number with its names.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Where it stands in the summary: groups and a name, separated by dots.
    pub key: &'static str,
    /// One sentence about it, without a full stop.
    pub help: &'static str,
    /// The number, or one for each reason.
    pub value: Value,
}

/// A figure's number.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Only ever grows.
    Count(u64),
    /// Only ever grows, one for each reason.
    Reasons(Vec<(&'static str, u64)>),
    /// Comes and goes.
    Level(u64),
    /// Seconds that pass.
    Seconds(f64),
    /// A part of 1.
    Ratio(f64),
    /// Times, spread over buckets.
    Times(Lag),
}

/// Every figure of a moment, in order of the summary.
#[must_use]
pub fn figures(snapshot: &Snapshot) -> Vec<Figure> {
    let mut list = List(Vec::new());
    list.seconds("duration_seconds", "Time since capture began", snapshot.duration().as_secs_f64());
    packets(&mut list, snapshot);
    replies(&mut list, snapshot);
    responses(&mut list, snapshot);
    settings(&mut list, snapshot);
    mirrored(&mut list, &snapshot.shadow);
    if let Some(counted) = &snapshot.asked {
        filter_exec(&mut list, counted);
    }
    list.level("memory.resident_bytes", "Bytes of the process in memory", snapshot.resident);
    list.push(
        "capture_lag_seconds",
        "Time from a packet's capture until the engine took it",
        Value::Times(snapshot.lag.clone()),
    );
    list.0
}

/// Every figure that a shadow has for itself, in order of the summary.
#[must_use]
pub fn figures_of(shadow: &Mirrored) -> Vec<Figure> {
    let mut list = List(Vec::new());
    mirrored(&mut list, shadow);
    list.0
}

fn mirrored(list: &mut List, shadow: &Mirrored) {
    let Mirrored { books, copies, .. } = shadow;
    flows(list, books);
    list.level("flows.copies", "Sessions by which each connection is mirrored", *copies);
    bytes(list, books);
    requests(list, books);
    sent(list, shadow);
    exchanges(list, shadow);
    list.level("memory.flows_bytes", "Bytes that flows buffer", shadow.memory as u64);
}

fn packets(list: &mut List, snapshot: &Snapshot) {
    let (packets, _) = snapshot.captured();
    let tap = |reasons: &'static [TapCounter]| {
        reasons.iter().map(|reason| (reason.label(), snapshot.kernel.tap.get(*reason)))
    };
    list.count(
        "packets.selected",
        "Packets of clients that the tap saw, captured or not",
        snapshot.selected(),
    );
    list.count("packets.captured", "Packets of clients that were captured", packets.captured);
    list.count("packets.used", "Captured packets that moved a flow on", packets.used);
    list.reasons(
        "packets.ignored",
        "Captured packets that contributed nothing",
        packets.ignored.iter(),
    );
    list.reasons(
        "packets.lost",
        "Packets of clients that could not be captured",
        tap(&snapshot::LOST),
    );
    list.reasons(
        "packets.passed",
        "Packets that are not chosen, or of which the tap cannot tell whether they are of a mirrored service",
        tap(&snapshot::PASSED),
    );
}

fn flows(list: &mut List, books: &Books) {
    let flows = &books.flows;
    list.count("flows.seen", "Connections of clients", flows.seen);
    list.count("flows.mirrored", "Flows that arrived at the shadow whole", flows.mirrored);
    list.reasons("flows.skipped", "Flows that never became a session", flows.skipped.iter());
    list.reasons("flows.aborted", "Flows whose session was reset", flows.aborted.iter());
    list.count(
        "flows.unshaped",
        "Flows that were to be shaped and went as they were, from where they were not HTTP/1",
        flows.unshaped,
    );
    list.level("flows.open", "Flows that have not ended", flows.open());
}

fn bytes(list: &mut List, books: &Books) {
    let bytes = &books.bytes;
    list.count("bytes.captured", "Payload of clients, put in order", bytes.captured);
    list.count("bytes.delivered", "Payload that the shadow acknowledged", bytes.delivered);
    list.reasons(
        "bytes.skipped",
        "Payload of requests that were left out of their flow",
        bytes.skipped.iter(),
    );
    list.reasons(
        "bytes.undelivered.skipped",
        "Payload of flows that were skipped",
        bytes.undelivered.skipped.iter(),
    );
    list.reasons(
        "bytes.undelivered.aborted",
        "Payload that was not delivered before its session was reset",
        bytes.undelivered.aborted.iter(),
    );
    list.level("bytes.open", "Payload on its way", bytes.open());
    list.count("bytes.answered", "Payload that the shadow answered", bytes.answered);
}

fn requests(list: &mut List, books: &Books) {
    let requests = &books.requests;
    list.count("requests.seen", "HTTP/1 requests of clients", requests.seen);
    list.count("requests.delivered", "Requests that the shadow acknowledged", requests.delivered);
    list.reasons(
        "requests.skipped",
        "Requests that were left out of their flow",
        requests.skipped.iter(),
    );
    list.reasons(
        "requests.undelivered.skipped",
        "Requests of flows that were skipped",
        requests.undelivered.skipped.iter(),
    );
    list.reasons(
        "requests.undelivered.aborted",
        "Requests that were not delivered before their session was reset",
        requests.undelivered.aborted.iter(),
    );
    list.level("requests.open", "Requests on their way", requests.open());
    list.count("requests.answered", "Requests that the shadow answered whole", requests.answered);
    list.reasons(
        "requests.unanswered",
        "Delivered requests that will have no answer",
        requests.unanswered.iter(),
    );
    list.level("requests.waiting", "Delivered requests without an answer yet", requests.waiting());
}

fn replies(list: &mut List, snapshot: &Snapshot) {
    let replies = &snapshot.shadow.books.replies;
    list.count("replies.captured", "Packets of the shadow that were captured", replies.captured);
    list.count("replies.used", "Packets of the shadow that reached a session", replies.used);
    list.reasons(
        "replies.ignored",
        "Packets of the shadow that contributed nothing",
        replies.ignored.iter(),
    );
    list.reasons(
        "replies.lost",
        "Packets of the shadow that were dropped without a copy",
        replies_lost(snapshot),
    );
}

fn sent(list: &mut List, shadow: &Mirrored) {
    let Mirrored { books, sends, .. } = shadow;
    list.count("gates.gated", "Turns that waited for the shadow's answer", books.gates.gated);
    list.count("gates.timed_out", "Turns that waited too long", books.gates.timed_out);
    list.count("circuit.opened", "How often the shadow was found to be down", books.circuit.opened);
    list.level(
        "circuit.open",
        "1 while no new sessions are begun because the shadow is down",
        u64::from(books.circuit.open),
    );
    list.count("sent.transmitted", "Packets made for the shadow", books.transmitted);
    list.count("sent.retransmitted", "Segments made again", books.retransmitted);
    list.count("sent.packets", "Packets that the kernel took to send", sends.packets);
    list.count("sent.bytes", "Their bytes with headers", sends.bytes);
    list.count(
        "sent.by_packet_socket",
        "Those of the packets that went by a packet socket, past this host's firewall",
        sends.by_packet_socket,
    );
    list.reasons(
        "sent.unsent",
        "Packets that the kernel did not take; TCP sends them again",
        sends.iter_unsent().map(|(reason, count)| (reason.label(), count)),
    );
}

/// Packets of the shadow that the guard dropped without a copy, by reason.
fn replies_lost(snapshot: &Snapshot) -> impl Iterator<Item = (&'static str, u64)> {
    let counts = snapshot.kernel.guard.iter().filter(|(counter, _)| {
        use GuardCounter::{Captured, Icmp, IcmpForeign};
        !matches!(counter, Captured | Icmp | IcmpForeign)
    });
    counts.map(|(counter, count)| (counter.label(), count))
}

fn responses(list: &mut List, snapshot: &Snapshot) {
    let Snapshot { kernel, .. } = snapshot;
    let (_, responses) = snapshot.captured();
    list.count(
        "responses.selected",
        "Packets of production that were wanted, captured or not",
        kernel.responses.total(),
    );
    list.count("responses.captured", "Packets of production captured", responses.captured);
    list.count(
        "responses.abridged",
        "Of these, packets without the payload, which was of no use",
        kernel.responses.get(ResponseCounter::Abridged),
    );
    list.count("responses.used", "Packets of production of a followed flow", responses.used);
    list.reasons(
        "responses.ignored",
        "Packets of production that contributed nothing",
        responses.ignored.iter(),
    );
    list.reasons(
        "responses.lost",
        "Packets of production that could not be captured",
        snapshot::RESPONSES_LOST
            .iter()
            .map(|reason| (reason.label(), kernel.responses.get(*reason))),
    );
}

fn exchanges(list: &mut List, shadow: &Mirrored) {
    let exchanges = &shadow.books.exchanges;
    list.count("exchanges.seen", "Requests of which the answers are known", exchanges.seen);
    list.count("exchanges.paired", "Exchanges answered on both legs", exchanges.paired);
    list.reasons(
        "exchanges.unpaired.production",
        "Exchanges that production did not answer",
        exchanges.unpaired_production.iter(),
    );
    list.reasons(
        "exchanges.unpaired.shadow",
        "Exchanges that production alone answered",
        exchanges.unpaired_shadow.iter(),
    );
    list.count("exchanges.compared", "Exchanges handed over to compare", shadow.compared);
    list.reasons(
        "exchanges.shed",
        "Exchanges that nobody had the time to compare",
        [("queue_full", shadow.queue_full)].into_iter(),
    );
}

fn settings(list: &mut List, snapshot: &Snapshot) {
    let Snapshot { settings, changes, eased, .. } = snapshot;
    let selection = &settings.selection;
    list.push(
        "settings.sample_ratio",
        "Share of the clients, or of their connections, that is mirrored",
        Value::Ratio(selection.sample.ratio()),
    );
    list.level(
        "settings.paused",
        "1 while no flow is begun because the mirror is paused",
        u64::from(selection.paused),
    );
    let rates = settings.rates;
    let rate = |rate: Option<Rate>| rate.map_or(0, Rate::per_second);
    list.level(
        "settings.max_rate",
        "Sessions per second that may be begun with each shadow; 0 for any number",
        rate(rates.sessions),
    );
    list.level(
        "settings.max_request_rate",
        "HTTP/1 requests per second that may be sent to each shadow; 0 for any number",
        rate(rates.requests),
    );
    list.level(
        "settings.max_bandwidth_bytes",
        "Bytes per second that may be sent to each shadow; 0 for any number",
        rates.bandwidth.map_or(0, |bandwidth| bandwidth.bits() / 8),
    );
    list.reasons("settings.changed", "Changes of settings while running", changes.iter());
    list.push(
        "pressure.share_ratio",
        "Part of the sample that is left under the host's pressure",
        Value::Ratio(eased.share),
    );
    list.reasons(
        "pressure.shrunk",
        "How often the sample was made smaller under pressure",
        eased.shrunk.iter(),
    );
    list.count("pressure.returned", "How often it was made larger again", eased.returned);
}

fn filter_exec(list: &mut List, counted: &Counted) {
    for (key, help, count) in [
        ("filter_exec.asked", "Requests about which the program was asked", counted.asked),
        ("filter_exec.passed", "Of these, requests that it let pass", counted.passed),
        ("filter_exec.revised", "Of these, requests that it changed", counted.revised),
        ("filter_exec.restarts", "How often it was started again", counted.restarts),
        ("filter_exec.late", "Its answers that nobody waited for any more", counted.late),
        ("filter_exec.unreadable", "Its lines that answer nothing", counted.unreadable),
        ("filter_exec.unlogged", "Its lines that are not in the log", counted.unlogged),
    ] {
        list.count(key, help, count);
    }
}

struct List(Vec<Figure>);

impl List {
    fn push(&mut self, key: &'static str, help: &'static str, value: Value) {
        self.0.push(Figure { key, help, value });
    }

    fn count(&mut self, key: &'static str, help: &'static str, count: u64) {
        self.push(key, help, Value::Count(count));
    }

    fn level(&mut self, key: &'static str, help: &'static str, level: u64) {
        self.push(key, help, Value::Level(level));
    }

    fn seconds(&mut self, key: &'static str, help: &'static str, seconds: f64) {
        self.push(key, help, Value::Seconds(seconds));
    }

    fn reasons(
        &mut self,
        key: &'static str,
        help: &'static str,
        counts: impl Iterator<Item = (&'static str, u64)>,
    ) {
        self.push(key, help, Value::Reasons(counts.collect()));
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
