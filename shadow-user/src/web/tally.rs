//! Tallies as the page shows them.

use shadow_engine::compare::{EndpointTally, Latency as Times, Noise, Verdict};
use strum::IntoEnumIterator as _;

use super::example::status;
use super::model::{Detail, Field, Latencies, Latency, Statuses, Tally};

/// Buckets of a tenfold: as fine as a plot can show.
const STEPS: f64 = 16.0;

/// A tally; the buckets of its latencies only where they are `plotted`.
pub fn tally(tally: &EndpointTally, plotted: bool) -> Tally {
    let verdicts = Verdict::iter().map(|verdict| (verdict.label(), tally.verdict(verdict)));
    let statuses = tally.statuses.iter().map(|(&(production, shadow), &count)| Statuses {
        production: status(production),
        shadow: status(shadow),
        count,
    });
    Tally {
        exchanges: tally.exchanges,
        compared: tally.compared(),
        mismatches: tally.mismatches(),
        verdicts: verdicts.filter(|(_, count)| *count > 0).collect(),
        statuses: statuses.collect(),
        statuses_beyond: tally.statuses_beyond,
        latency: Latencies {
            production: latency(&tally.production, plotted),
            shadow: latency(&tally.shadow, plotted),
        },
    }
}

/// An endpoint's tally with its fields.
pub fn detail(name: &str, endpoint: &EndpointTally, noise: &Noise) -> Detail {
    let fields = endpoint.fields.iter().map(|((path, kind), field)| Field {
        path: path.to_string(),
        kind: kind.label(),
        count: field.raw,
        baseline: field.noise,
        noise: noise.contains(name, path, *kind),
    });
    Detail {
        name: name.to_owned(),
        tally: tally(endpoint, true),
        fields: fields.collect(),
        fields_beyond: endpoint.fields_beyond,
        baseline: endpoint.baseline,
    }
}

fn latency(times: &Times, plotted: bool) -> Latency {
    if times.count() == 0 {
        return Latency::default();
    }
    let quantile = |share| Some(times.quantile(share).as_secs_f64());
    Latency {
        count: times.count(),
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        p999: quantile(0.999),
        max: Some(times.max().as_secs_f64()),
        buckets: if plotted { buckets(times) } else { Vec::new() },
    }
}

/// Times in buckets of equal breadth on a logarithmic scale, each named by its middle.
fn buckets(times: &Times) -> Vec<(f64, u64)> {
    let mut buckets: Vec<(i32, u64)> = Vec::new();
    for (time, count) in times.recorded() {
        let step = (time.as_secs_f64().max(1e-6).log10() * STEPS).round() as i32;
        match buckets.last_mut() {
            Some((last, sum)) if *last == step => *sum += count,
            _ => buckets.push((step, count)),
        }
    }
    let seconds = |step: i32| 10_f64.powf(f64::from(step) / STEPS);
    buckets.into_iter().map(|(step, count)| (seconds(step), count)).collect()
}
