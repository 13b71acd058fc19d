//! What the daemon publishes, for the page.

use std::sync::Arc;

use shadow_engine::books::Books;
use shadow_engine::compare::{Example as Kept, Tallies};

use crate::http::Sources;
use crate::report::{Lag, Mirrored, Snapshot, VERSION, Value, figures};

use super::filter::Filter;
use super::model::{
    Bytes, Detail, Endpoint, Example, Flows, Latency, Loss, Mirror, Other, Overview, Packets, Pair,
    Requests,
};
use super::{example, tally};

/// Counters whose reasons are losses; the other ones tell what is normal.
const LOSSES: [&str; 8] = [
    "packets.lost",
    "flows.skipped",
    "flows.aborted",
    "requests.unanswered",
    "replies.lost",
    "sent.unsent",
    "responses.lost",
    "exchanges.shed",
];

/// What does not change during a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The shadow, as the user gave it.
    pub shadow: String,
    /// `off`, `status` or `body`.
    pub compare: &'static str,
    /// Whether bodies may be shown.
    pub bodies: bool,
    /// Whether noise is known.
    pub noise: bool,
}

/// What the daemon publishes.
#[derive(Debug)]
pub struct Board {
    run: Run,
    sources: Sources,
}

impl Board {
    /// Of a run.
    #[must_use]
    pub const fn new(run: Run, sources: Sources) -> Self {
        Self { run, sources }
    }
}

impl Board {
    /// Everything in short.
    #[must_use]
    pub fn overview(&self) -> Overview {
        let snapshot = self.sources.published.load();
        let compared = self.sources.seen.as_ref().map(|seen| seen.load());
        let tallies = compared.as_ref().map(|compared| &compared.tallies);
        Overview {
            version: VERSION,
            shadow: self.run.shadow.clone(),
            phase: snapshot.phase.label(),
            seconds: snapshot.duration().as_secs_f64(),
            compare: self.run.compare,
            bodies: self.run.bodies,
            noise: self.run.noise,
            mirror: mirror(&snapshot),
            total: tallies.map(|tallies| tally::tally(tallies.total(), true)),
            endpoints: tallies
                .into_iter()
                .flat_map(Tallies::endpoints)
                .map(|(name, tally)| Endpoint {
                    name: name.to_string(),
                    tally: tally::tally(tally, false),
                })
                .collect(),
        }
    }

    /// One endpoint.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Option<Detail> {
        let compared = self.sources.seen.as_ref()?.load();
        compared.tallies.endpoint(name).map(|tally| tally::detail(name, tally, &compared.noise))
    }

    /// Examples that pass, newest first.
    #[must_use]
    pub fn examples(&self, filter: &Filter) -> Vec<Example> {
        let Some(seen) = &self.sources.seen else { return Vec::new() };
        let compared = seen.load();
        let mut found: Vec<_> = examples(&compared.tallies)
            .filter_map(|kept| {
                let row = example::row(&kept.exchange, &kept.comparison);
                let paths = kept.comparison.differences.iter().map(|found| &*found.path);
                filter.passes(&row, paths).then_some((kept.exchange.request.at.as_nanos(), row))
            })
            .collect();
        found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        found.into_iter().map(|(_, row)| row).collect()
    }

    /// One example.
    #[must_use]
    pub fn example(&self, id: &str) -> Option<Pair> {
        let compared = self.sources.seen.as_ref()?.load();
        let kept = examples(&compared.tallies).find(|kept| example::id(&kept.exchange) == id)?;
        Some(example::pair(&kept.exchange, &kept.comparison, self.run.bodies))
    }
}

fn examples(tallies: &Tallies) -> impl Iterator<Item = &Arc<Kept>> {
    tallies.endpoints().flat_map(|(_, tally)| tally.examples())
}

fn mirror(snapshot: &Snapshot) -> Mirror {
    let books = &snapshot.shadow.books;
    let bytes = &books.bytes;
    Mirror {
        packets: Packets { captured: snapshot.captured().0.captured, lost: snapshot.lost() },
        flows: flows(books),
        requests: requests(books),
        bytes: Bytes {
            captured: bytes.captured,
            delivered: bytes.delivered,
            answered: bytes.answered,
        },
        lag: lag(&snapshot.lag),
        memory: snapshot.mirrored().map(|mirrored| mirrored.memory as u64).sum(),
        circuit_open: books.circuit.open,
        others: snapshot.others.iter().map(other).collect(),
        losses: losses(snapshot),
    }
}

fn other(mirrored: &Mirrored) -> Other {
    let Mirrored { to, role, books, .. } = mirrored;
    Other {
        to: to.to_string(),
        role: role.label(),
        flows: flows(books),
        requests: requests(books),
        circuit_open: books.circuit.open,
    }
}

fn flows(books: &Books) -> Flows {
    let flows = &books.flows;
    Flows {
        seen: flows.seen,
        open: flows.open(),
        mirrored: flows.mirrored,
        skipped: flows.skipped.total(),
        aborted: flows.aborted.total(),
    }
}

const fn requests(books: &Books) -> Requests {
    let requests = &books.requests;
    Requests { seen: requests.seen, delivered: requests.delivered, answered: requests.answered }
}

fn lag(lag: &Lag) -> Latency {
    if lag.count() == 0 {
        return Latency::default();
    }
    let quantile = |share| Some(lag.quantile(share).as_secs_f64());
    Latency {
        count: lag.count(),
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        p999: quantile(0.999),
        max: Some(lag.max().as_secs_f64()),
        buckets: Vec::new(),
    }
}

fn losses(snapshot: &Snapshot) -> Vec<Loss> {
    let mut losses = Vec::new();
    for figure in figures(snapshot).into_iter().filter(|figure| LOSSES.contains(&figure.key)) {
        if let Value::Reasons(reasons) = figure.value {
            let given = reasons.into_iter().filter(|(_, count)| *count > 0);
            losses.extend(given.map(|(reason, count)| Loss { stage: figure.key, reason, count }));
        }
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_is_a_figure_with_reasons() {
        let figures = figures(&Snapshot::default());
        for key in LOSSES {
            let figure = figures.iter().find(|figure| figure.key == key);
            let value = figure.map(|figure| &figure.value);
            assert!(matches!(value, Some(Value::Reasons(_))), "{key}: {value:?}");
        }
    }
}
