//! Metrics with labels: both legs side by side, what they were compared to, and what was lost on the
//! way there. The number of series is bounded: labels are of small sets, or of bounded ones.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use shadow_common::{Counter as _, ResponseCounter, TapCounter};
use shadow_engine::compare::Verdict;
use strum::IntoEnumIterator as _;

use super::snapshot::{LOST, RESPONSES_LOST};
use super::{Snapshot, replies_lost};
use crate::compare::{Compared, LEGS, Times, label};

/// Endpoints whose differing fields have metrics.
const TOP: usize = 100;

/// Everything of a moment that has labels.
#[derive(Debug)]
pub struct Both {
    connections: [(&'static str, u64); 2],
    dropped: Vec<(&'static str, &'static str, u64)>,
    compared: Option<Arc<Compared>>,
}

impl Both {
    /// Of one moment of the worker and one of the comparison.
    #[must_use]
    pub fn new(snapshot: &Snapshot, compared: Option<Arc<Compared>>) -> Self {
        let sessions = snapshot.mirrored().map(|mirrored| mirrored.sessions as u64).sum();
        // Of a shadow that has its clients to itself, the others know nothing.
        let spread = snapshot.others.iter().filter(|other| snapshot.shadow.spread && other.spread);
        let clients = snapshot.shadow.clients + spread.map(|other| other.clients).sum::<u64>();
        let open = [clients, sessions];
        let mut connections = [("", 0); 2];
        for (connection, (leg, count)) in connections.iter_mut().zip(LEGS.into_iter().zip(open)) {
            *connection = (label(leg), count);
        }
        Self { connections, dropped: dropped(snapshot, compared.as_deref()), compared }
    }
}

/// By stage and reason, those that did not happen too.
fn dropped(
    snapshot: &Snapshot,
    compared: Option<&Compared>,
) -> Vec<(&'static str, &'static str, u64)> {
    let tap = |reason: &TapCounter| (reason.label(), snapshot.kernel.tap.get(*reason));
    let mut dropped: Vec<_> =
        LOST.iter().map(tap).map(|(reason, count)| ("capture", reason, count)).collect();
    let response = |reason: &ResponseCounter| {
        ("response", reason.label(), snapshot.kernel.responses.get(*reason))
    };
    dropped.extend(RESPONSES_LOST.iter().map(response));
    dropped.extend(replies_lost(snapshot).map(|(reason, count)| ("reply", reason, count)));
    let queue_full = snapshot.mirrored().map(|mirrored| mirrored.queue_full).sum();
    dropped.push(("exchange", "queue_full", queue_full));
    let report = compared.and_then(|compared| compared.report.as_ref());
    dropped.extend(
        report
            .into_iter()
            .flat_map(|report| report.dropped.iter())
            .map(|(reason, count)| ("report", reason, count)),
    );
    dropped
}

impl Collector for Both {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Open connections: clients' flows, and sessions with shadows";
        let mut family = encoder.encode_descriptor("connections", help, None, MetricType::Gauge)?;
        for (leg, count) in self.connections {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(family.encode_family(&[("leg", leg)])?)?;
        }
        let help = "What was not captured, compared or reported";
        let mut family = encoder.encode_descriptor("dropped", help, None, MetricType::Counter)?;
        for (stage, reason, count) in &self.dropped {
            let labels = [("stage", *stage), ("reason", *reason)];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        let Some(compared) = &self.compared else { return Ok(()) };
        requests(&mut encoder, compared)?;
        times(&mut encoder, compared)?;
        comparisons(&mut encoder, compared)?;
        differences(&mut encoder, compared)
    }
}

fn requests(encoder: &mut DescriptorEncoder<'_>, compared: &Compared) -> Result<(), fmt::Error> {
    let help = "Requests that a leg has answered";
    let mut family = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
    for (answer, count) in &compared.legs.answers {
        // An empty label is none.
        let status = if answer.status == 0 { String::new() } else { answer.status.to_string() };
        let labels = [
            ("leg", label(answer.leg())),
            ("http_request_method", &*answer.method),
            ("http_response_status_code", &status),
        ];
        ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn times(encoder: &mut DescriptorEncoder<'_>, compared: &Compared) -> Result<(), fmt::Error> {
    let histogram = |times: &Times| (times.sum().as_secs_f64(), times.count(), times.buckets());
    let help = "From a request's first byte to its answer's last";
    let kind = MetricType::Histogram;
    let mut family = encoder.encode_descriptor("request_duration_seconds", help, None, kind)?;
    for (endpoint, legs) in &compared.legs.times {
        for (leg, times) in LEGS.into_iter().zip(legs) {
            let (sum, count, buckets) = histogram(times);
            let labels = [("leg", label(leg)), ("endpoint", &**endpoint)];
            let mut series = family.encode_family(&labels)?;
            series.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
    }
    let help = "Time from a request's capture until it was sent to the shadow";
    let (sum, count, buckets) = histogram(&compared.legs.lag);
    let mut metric = encoder.encode_descriptor("shadow_lag_seconds", help, None, kind)?;
    metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

fn comparisons(encoder: &mut DescriptorEncoder<'_>, compared: &Compared) -> Result<(), fmt::Error> {
    let help = "Exchanges by what their comparison came to";
    let mut family = encoder.encode_descriptor("comparisons", help, None, MetricType::Counter)?;
    for (endpoint, tally) in compared.tallies.endpoints() {
        for verdict in Verdict::iter() {
            let labels = [("endpoint", &**endpoint), ("result", verdict.label())];
            let count = ConstCounter::new(tally.verdict(verdict));
            count.encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// Of the endpoints that differ most.
fn differences(encoder: &mut DescriptorEncoder<'_>, compared: &Compared) -> Result<(), fmt::Error> {
    let help = "Fields that differ, by kind: all of them (raw), and those that noise explains";
    let mut family =
        encoder.encode_descriptor("field_differences", help, None, MetricType::Counter)?;
    for (endpoint, kind, differed) in compared.differences.most(TOP) {
        for (control, count) in [("raw", differed.raw), ("noise", differed.noise)] {
            let labels = [("endpoint", &**endpoint), ("kind", kind.label()), ("control", control)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
