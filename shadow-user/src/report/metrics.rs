//! The figures as text that Prometheus reads.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::both::Both;
use super::{Exposition, Figure, Snapshot, VERSION, Value, figures, figures_of};
use crate::compare::Compared;

/// All figures of a moment, and of the comparison where there is one.
///
/// # Errors
/// None that a `String` can cause; the encoder's signature has one.
pub fn render(
    snapshot: &Snapshot,
    compared: Option<Arc<Compared>>,
    exposition: Exposition,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("shadowtap");
    registry.register_collector(Box::new(Metrics::new(snapshot)));
    registry.register_collector(Box::new(Both::new(snapshot, compared)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(exposition.of(text))
}

/// A figure's name without the prefix, and without the `_total` of a counter.
fn name(figure: &Figure) -> String {
    figure.key.replace('.', "_")
}

/// One metric: without a label, or with one for each shadow that has it for itself.
#[derive(Debug)]
struct Metric {
    figure: Figure,
    by_shadow: Vec<(Arc<str>, Value)>,
}

#[derive(Debug)]
struct Metrics(Vec<Metric>);

impl Metrics {
    /// With a single shadow nothing needs its label.
    fn new(snapshot: &Snapshot) -> Self {
        let single = |figure| Metric { figure, by_shadow: Vec::new() };
        let mut metrics: Vec<_> = figures(snapshot).into_iter().map(single).collect();
        if snapshot.others.is_empty() {
            return Self(metrics);
        }
        for mirrored in snapshot.mirrored() {
            for Figure { key, value, .. } in figures_of(mirrored) {
                if let Some(metric) = metrics.iter_mut().find(|metric| metric.figure.key == key) {
                    metric.by_shadow.push((Arc::clone(&mirrored.to), value));
                }
            }
        }
        Self(metrics)
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        encoder
            .encode_descriptor("build", "The running version", None, MetricType::Info)?
            .encode_info(&[("version", VERSION)])?;
        for Metric { figure, by_shadow } in &self.0 {
            let metric_type = match figure.value {
                Value::Count(_) | Value::Reasons(_) => MetricType::Counter,
                Value::Level(_) | Value::Seconds(_) | Value::Ratio(_) => MetricType::Gauge,
                Value::Times(_) => MetricType::Histogram,
            };
            let name = name(figure);
            let mut encoder = encoder.encode_descriptor(&name, figure.help, None, metric_type)?;
            if by_shadow.is_empty() {
                encode(encoder, &figure.value)?;
                continue;
            }
            for (shadow, value) in by_shadow {
                encode_of(&mut encoder, shadow, value)?;
            }
        }
        Ok(())
    }
}

fn encode(mut encoder: MetricEncoder<'_>, value: &Value) -> Result<(), fmt::Error> {
    match value {
        Value::Count(count) => ConstCounter::new(*count).encode(encoder),
        Value::Reasons(counts) => counts.iter().try_for_each(|(reason, count)| {
            let labels = [("reason", *reason)];
            ConstCounter::new(*count).encode(encoder.encode_family(&labels)?)
        }),
        // OpenMetrics gauges are signed; no level comes near the bound.
        Value::Level(level) => {
            ConstGauge::new(i64::try_from(*level).unwrap_or(i64::MAX)).encode(encoder)
        }
        Value::Seconds(number) | Value::Ratio(number) => ConstGauge::new(*number).encode(encoder),
        Value::Times(lag) => encoder.encode_histogram::<NoLabelSet>(
            lag.sum().as_secs_f64(),
            lag.count(),
            &lag.buckets(),
            None,
        ),
    }
}

fn encode_of(
    encoder: &mut MetricEncoder<'_>,
    shadow: &str,
    value: &Value,
) -> Result<(), fmt::Error> {
    let Value::Reasons(counts) = value else {
        return encode(encoder.encode_family(&[("shadow", shadow)])?, value);
    };
    counts.iter().try_for_each(|(reason, count)| {
        let labels = [("shadow", shadow), ("reason", *reason)];
        ConstCounter::new(*count).encode(encoder.encode_family(&labels)?)
    })
}
