//! Samples of one load and mirror, taken together: medians, and ratios to production alone.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{load::Load, sample::Sample, subject::Subject};

/// Medians over rounds. Times are microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What production was asked.
    pub load: Load,
    /// What mirrored.
    pub subject: Subject,
    /// Requests per second that production answered.
    pub rate: f64,
    /// The same as a ratio to production alone in the same round.
    pub kept: Option<f64>,
    /// Median, 99th and 99.9th percentile of production's latencies.
    pub latency: [f64; 3],
    /// The same as ratios to production alone in the same round.
    pub latency_ratio: Option<[f64; 3]>,
    /// Requests that production failed, all rounds.
    pub failed: u64,
    /// Requests that production received, all rounds.
    pub requests: u64,
    /// Requests that the shadow received, all rounds.
    pub delivered: u64,
    /// Delivered per second.
    pub shadow_rate: f64,
    /// The mirror's processor time for a delivered request, eBPF programs included. Of a mirror in
    /// production's own process: what production took more than alone.
    pub cpu: f64,
    /// The part of it in the programs themselves.
    pub user: f64,
    /// The part of it in eBPF programs.
    pub ebpf: f64,
    /// The mirror's peak in memory, octets.
    pub memory: f64,
    /// From capture to the engine: median and 99th percentile.
    pub lag: Option<[f64; 2]>,
    /// Packets lost, flows skipped and aborted, in all rounds, by the books' names.
    pub missing: BTreeMap<String, u64>,
    /// Nanoseconds that the tap took for a packet.
    pub tap_nanos: f64,
    /// Nanoseconds more than an empty program, where that was asked.
    pub tap_over_empty: Option<f64>,
}

impl Row {
    /// A row for each load and mirror, in the order in which they were measured first.
    pub fn all(samples: &[Sample]) -> Vec<Self> {
        let mut keys: Vec<(Load, Subject)> = Vec::new();
        for sample in samples {
            if !keys.contains(&(sample.load, sample.subject)) {
                keys.push((sample.load, sample.subject));
            }
        }
        keys.into_iter().map(|(load, subject)| Self::of(samples, load, subject)).collect()
    }

    fn of(samples: &[Sample], load: Load, subject: Subject) -> Self {
        let here = |sample: &&Sample| sample.load == load && sample.subject == subject;
        let own: Vec<&Sample> = samples.iter().filter(here).collect();
        // Each with production alone in its round.
        let pairs: Vec<(&Sample, &Sample)> = own
            .iter()
            .filter_map(|sample| {
                let alone = samples.iter().find(|other| {
                    (other.load, other.subject, other.round) == (load, Subject::None, sample.round)
                })?;
                Some((*sample, alone))
            })
            .collect();
        let of = |value: &dyn Fn(&Sample) -> f64| median(own.iter().map(|it| value(it)));
        let ratio = |value: &dyn Fn(&Sample) -> f64| {
            let ratios = pairs.iter().map(|(own, alone)| value(own) / value(alone));
            (!pairs.is_empty() && subject != Subject::None).then(|| median(ratios))
        };
        let both = |value: &dyn Fn(&Sample) -> Option<[f64; 2]>| {
            let found: Vec<_> = own.iter().filter_map(|sample| value(sample)).collect();
            let of = |at: usize| median(found.iter().map(|pair| pair[at]));
            (!found.is_empty()).then(|| [of(0), of(1)])
        };
        let latency_ratio = [0, 1, 2].map(|at| ratio(&|sample| sample.latency[at]));
        let cpu = if subject == Subject::Nginx {
            let more = pairs.iter().map(|(own, alone)| own.production_cpu - alone.production_cpu);
            median(more)
        } else {
            of(&|sample| sample.cpu + sample.ebpf)
        };
        Self {
            load,
            subject,
            rate: of(&|sample| sample.rate),
            kept: ratio(&|sample| sample.rate),
            latency: [0, 1, 2].map(|at| of(&|sample| sample.latency[at])),
            latency_ratio: match latency_ratio {
                [Some(p50), Some(p99), Some(p999)] => Some([p50, p99, p999]),
                _ => None,
            },
            failed: own.iter().map(|sample| sample.failed).sum(),
            requests: own.iter().map(|sample| sample.requests).sum(),
            delivered: own.iter().map(|sample| sample.delivered).sum(),
            shadow_rate: of(&|sample| sample.shadow_rate),
            cpu,
            user: of(&|sample| sample.user),
            ebpf: of(&|sample| sample.ebpf),
            memory: of(&|sample| sample.memory as f64),
            lag: both(&|sample| sample.lag),
            missing: sums(own.iter().flat_map(|sample| &sample.missing)),
            tap_nanos: of(&|sample| sample.tap_nanos),
            tap_over_empty: (subject == Subject::Other)
                .then(|| of(&|sample| sample.tap_nanos - sample.empty_nanos)),
        }
    }

    /// The share of production's requests that arrived.
    pub fn arrived(&self) -> f64 {
        self.delivered as f64 / self.requests.max(1) as f64
    }

    /// Octets of requests' content that arrived, Gbit/s.
    pub fn gbits(&self) -> f64 {
        self.shadow_rate * self.load.body() as f64 * 8e-9
    }
}

fn sums<'a>(counts: impl Iterator<Item = (&'a String, &'a u64)>) -> BTreeMap<String, u64> {
    counts.fold(BTreeMap::new(), |mut sums, (name, count)| {
        *sums.entry(name.clone()).or_default() += count;
        sums
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 0 => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
        len => sorted[len / 2],
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn sample(load: Load, subject: Subject, round: u32, rate: f64) -> Sample {
        Sample {
            load,
            subject,
            round,
            rate,
            latency: [200.0, 600.0, 900.0],
            failed: 0,
            requests: 1_000,
            delivered: 999,
            shadow_rate: rate,
            production_cpu: 5.0,
            cpu: 3.0,
            user: 1.0,
            ebpf: 1.0,
            memory: 1 << 20,
            lag: Some([100.0, 400.0]),
            missing: BTreeMap::new(),
            tap_nanos: 40.0,
            empty_nanos: 30.0,
        }
    }

    #[test]
    fn ratios_are_to_the_same_round() {
        let load = Load::Keepalive;
        // The machine was three times as fast in the second round; the mirror kept half in each.
        let samples = [
            sample(load, Subject::None, 0, 100.0),
            sample(load, Subject::Off, 0, 50.0),
            sample(load, Subject::None, 1, 300.0),
            sample(load, Subject::Off, 1, 150.0),
        ];
        let rows = Row::all(&samples);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].kept, None);
        assert_eq!(rows[1].kept, Some(0.5));
        assert_eq!((rows[1].cpu, rows[1].delivered), (4.0, 1_998));
    }

    #[test]
    fn what_is_missing_adds_up_by_name() {
        let missing = |round, counts: &[(&str, u64)]| {
            let named = counts.iter().map(|(name, count)| ((*name).to_owned(), *count));
            Sample { missing: named.collect(), ..sample(Load::Short, Subject::Off, round, 1.0) }
        };
        let samples = [missing(0, &[("a.x", 1), ("b", 2)]), missing(1, &[("a.x", 4), ("a.y", 8)])];
        let rows = Row::all(&samples);
        let found: Vec<_> = rows[0].missing.iter().map(|(name, count)| (&**name, *count)).collect();
        assert_eq!(found, [("a.x", 5), ("a.y", 8), ("b", 2)]);
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0].into_iter()), 2.5);
        assert_eq!(median([].into_iter()), 0.0);
    }
}
