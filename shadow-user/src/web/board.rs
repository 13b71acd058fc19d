//! The daemon's own figures, for the page.

use crate::report::{Lag, Snapshot, VERSION, Value, figures};
use crate::worker::Published;

use super::Source;
use super::filter::Filter;
use super::model::{
    Bytes, Detail, Example, Flows, Latency, Loss, Mirror, Overview, Packets, Pair, Requests,
};

/// Counters whose reasons are losses; the other ones tell what is normal.
const LOSSES: [&str; 6] = [
    "packets.lost",
    "flows.skipped",
    "flows.aborted",
    "requests.unanswered",
    "replies.lost",
    "sent.unsent",
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
    published: Published,
}

impl Board {
    /// Of a run.
    #[must_use]
    pub const fn new(run: Run, published: Published) -> Self {
        Self { run, published }
    }
}

impl Source for Board {
    fn overview(&self) -> Overview {
        let snapshot = self.published.load();
        Overview {
            version: VERSION,
            shadow: self.run.shadow.clone(),
            phase: snapshot.phase.label(),
            seconds: snapshot.duration().as_secs_f64(),
            compare: self.run.compare,
            bodies: self.run.bodies,
            noise: self.run.noise,
            mirror: mirror(&snapshot),
            total: None,
            endpoints: Vec::new(),
            endpoints_beyond: 0,
        }
    }

    fn endpoint(&self, _name: &str) -> Option<Detail> {
        None
    }

    fn examples(&self, _filter: &Filter) -> Vec<Example> {
        Vec::new()
    }

    fn example(&self, _id: u64) -> Option<Pair> {
        None
    }
}

fn mirror(snapshot: &Snapshot) -> Mirror {
    let books = &snapshot.books;
    let (flows, bytes, requests) = (&books.flows, &books.bytes, &books.requests);
    Mirror {
        packets: Packets { captured: books.packets.captured, lost: snapshot.lost() },
        flows: Flows {
            seen: flows.seen,
            open: flows.open(),
            mirrored: flows.mirrored,
            skipped: flows.skipped.total(),
            aborted: flows.aborted.total(),
        },
        requests: Requests {
            seen: requests.seen,
            delivered: requests.delivered,
            answered: requests.answered,
        },
        bytes: Bytes {
            captured: bytes.captured,
            delivered: bytes.delivered,
            answered: bytes.answered,
        },
        lag: lag(&snapshot.lag),
        memory: snapshot.memory as u64,
        circuit_open: books.circuit.open,
        losses: losses(snapshot),
    }
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
