//! What is asked of Shadowtap's speed, and whether it is met. The bars are for a machine with two cores
//! that client, production, mirror and shadow share.

use serde::Serialize;

use super::{load::Load, row::Row, subject::Subject};

/// A bar with what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    /// What is measured.
    pub name: &'static str,
    /// What was measured; `None` when it was not.
    pub value: Option<f64>,
    /// What is asked.
    pub bar: f64,
    /// What would be better still.
    pub reach: f64,
    /// `%`, `µs`, …
    pub unit: &'static str,
    /// Whether more is better.
    pub at_least: bool,
}

impl Bar {
    /// Whether the bar is met; `None` when it was not measured.
    pub fn is_met(&self) -> Option<bool> {
        self.value.map(|value| self.meets(value, self.bar))
    }

    /// Whether what is reached for is met as well.
    pub fn is_reached(&self) -> bool {
        self.value.is_some_and(|value| self.meets(value, self.reach))
    }

    fn meets(&self, value: f64, limit: f64) -> bool {
        if self.at_least { value >= limit } else { value <= limit }
    }
}

/// Every bar.
pub fn all(rows: &[Row]) -> Vec<Bar> {
    use Subject::{Off, Other, Sink, Status};
    let find =
        |load, subject| rows.iter().find(move |row| row.load == load && row.subject == subject);
    let value = |load, subject, of: &dyn Fn(&Row) -> Option<f64>| find(load, subject).and_then(of);
    let percent = |share: f64| share * 100.0;
    let kept = |row: &Row| row.kept.map(percent);
    let cpu = |row: &Row| Some(row.cpu);
    let arrived = |row: &Row| Some(percent(row.arrived()));
    let most =
        |name, value, bar, reach, unit| Bar { name, value, bar, reach, unit, at_least: false };
    let least =
        |name, value, bar, reach, unit| Bar { name, value, bar, reach, unit, at_least: true };
    let (keepalive, fixed) = (Load::Keepalive, Load::Rate20k);
    let p99 = |row: &Row| row.latency_ratio.map(|ratio| percent(ratio[1] - 1.0));
    // The engine sends in the same turn, unless the client's request has to wait for its turn.
    let lag = |at: usize| value(fixed, Off, &|row| Some(row.lag?[at]));
    let foreign = value(keepalive, Other, &|row| row.tap_over_empty);
    let mib = |row: &Row| Some(row.memory / f64::from(1 << 20));
    vec![
        most("packet that is none of ours, over an empty program", foreign, 30.0, 10.0, "ns"),
        least("kept, saturating keep-alive, sink", value(keepalive, Sink, &kept), 90.0, 97.0, "%"),
        least("kept, saturating keep-alive, nginx", value(keepalive, Off, &kept), 75.0, 85.0, "%"),
        most("production p99 at 20,000 req/s", value(fixed, Off, &p99), 5.0, 1.0, "% more"),
        most("CPU per keep-alive request, off", value(keepalive, Sink, &cpu), 6.0, 3.0, "µs"),
        most("CPU per keep-alive request, status", value(keepalive, Status, &cpu), 10.0, 5.0, "µs"),
        most("CPU per short connection", value(Load::Short12k, Off, &cpu), 25.0, 12.0, "µs"),
        least("arrived, keep-alive 20,000 req/s", value(fixed, Off, &arrived), 100.0, 100.0, "%"),
        least("arrived, short 12,000/s", value(Load::Short12k, Off, &arrived), 100.0, 100.0, "%"),
        most("lag to sending, p50 at 20,000 req/s", lag(0), 400.0, 150.0, "µs"),
        most("lag to sending, p99 at 20,000 req/s", lag(1), 2_000.0, 600.0, "µs"),
        least(
            "upload mirrored, sink",
            value(Load::Upload620, Sink, &|row| Some(row.gbits())),
            5.0,
            10.0,
            "Gbit/s",
        ),
        least(
            "short connections mirrored, sink",
            value(Load::Short, Sink, &|row| Some(row.shadow_rate)),
            20_000.0,
            50_000.0,
            "/s",
        ),
        most("resident at 10,000 open flows", value(Load::Idle, Off, &mib), 64.0, 24.0, "MiB"),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::sample;
    use super::*;

    #[test]
    fn bars_are_met_missed_or_unknown() {
        let rows = Row::all(&[
            sample(Load::Keepalive, Subject::None, 0, 100.0),
            sample(Load::Keepalive, Subject::Sink, 0, 91.0),
            sample(Load::Keepalive, Subject::Off, 0, 74.0),
        ]);
        let bars = all(&rows);
        assert_eq!(bars[1].is_met(), Some(true));
        assert!(!bars[1].is_reached());
        assert_eq!(bars[2].is_met(), Some(false));
        assert_eq!(bars[12].is_met(), None);
        assert_eq!((bars[4].value, bars[4].is_met()), (Some(4.0), Some(true)));
    }
}
