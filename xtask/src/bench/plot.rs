//! Bar charts for the documentation.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::{
    Color as _, DrawingAreaErrorKind, IntoDrawingArea as _, IntoFont as _, RGBColor, Rectangle,
    SVGBackend, Text, WHITE,
};

use super::{load::Load, row::Row, subject::Subject};

const WIDTH: u32 = 720;
const LEFT: i32 = 130;
const STEP: i32 = 30;
const TOP: i32 = 50;
const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const OTHERS: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);

/// A bar for each mirror.
pub struct Chart {
    /// For its file's name.
    pub name: &'static str,
    title: String,
    bars: Vec<(Subject, f64, String)>,
}

/// Those for which there are figures.
pub fn charts(rows: &[Row]) -> Vec<Chart> {
    let of = |name, title: &str, load: Load, value: &dyn Fn(&Row) -> Option<(f64, String)>| {
        let bars: Vec<_> = rows
            .iter()
            .filter(|row| row.load == load && row.subject != Subject::Other)
            .filter_map(|row| value(row).map(|(value, text)| (row.subject, value, text)))
            .collect();
        Chart { name, title: format!("{title}: {load}"), bars }
    };
    let kept = |row: &Row| {
        let kept = if row.subject == Subject::None { Some(1.0) } else { row.kept };
        kept.map(|kept| (kept, format!("{:.0} %, {:.0} req/s", kept * 100.0, row.rate)))
    };
    let cpu = |row: &Row| {
        (row.delivered > 0).then(|| (row.cpu, format!("{:.1} µs per request", row.cpu)))
    };
    let p99 = |row: &Row| Some((row.latency[1], format!("{:.0} µs", row.latency[1])));
    let arrived = |row: &Row| {
        let arrived = row.arrived();
        (row.subject != Subject::None)
            .then(|| (arrived, format!("{:.1} %", (arrived * 1e3).floor() / 10.0)))
    };
    let all = [
        of("kept", "What production keeps", Load::Keepalive, &kept),
        of("kept-short", "What production keeps", Load::Short, &kept),
        of("arrived-short", "Requests that arrive at the shadow", Load::Short, &arrived),
        of("cpu", "Processor time of the mirror", Load::Keepalive, &cpu),
        of("p99", "Production's 99th percentile", Load::Rate20k, &p99),
    ];
    all.into_iter().filter(|chart| chart.bars.len() > 1).collect()
}

impl Chart {
    /// Draws it into an SVG file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn draw(&self, path: &Path, subtitle: &str) -> Result<()> {
        self.try_draw(path, subtitle)
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| format!("draw {}", path.display()))
    }

    fn try_draw(
        &self,
        path: &Path,
        subtitle: &str,
    ) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let height = TOP + STEP * i32::try_from(self.bars.len()).unwrap_or(0) + 10;
        let area = SVGBackend::new(path, (WIDTH, height.unsigned_abs())).into_drawing_area();
        area.fill(&WHITE)?;
        let font = |size: i32| ("sans-serif", size).into_font();
        area.draw(&Text::new(self.title.clone(), (10, 8), font(16)))?;
        area.draw(&Text::new(subtitle.to_owned(), (10, 30), font(9)))?;
        let most = self.bars.iter().map(|bar| bar.1).fold(f64::MIN_POSITIVE, f64::max);
        for (index, (subject, value, text)) in (0..).zip(&self.bars) {
            let y = TOP + STEP * index;
            let length = (f64::from(WIDTH) - f64::from(LEFT) - 190.0) * value.max(0.0) / most;
            let x = LEFT + length as i32;
            let ours =
                matches!(subject, Subject::Sink | Subject::Off | Subject::Status | Subject::Body);
            let color = if ours { OURS } else { OTHERS };
            area.draw(&Rectangle::new(
                [(LEFT, y), (x.max(LEFT + 1), y + STEP - 8)],
                color.filled(),
            ))?;
            let name = if ours { format!("Shadowtap, {subject}") } else { subject.to_string() };
            area.draw(&Text::new(name, (10, y + 5), font(13)))?;
            area.draw(&Text::new(text.clone(), (x + 6, y + 5), font(13)))?;
        }
        area.present()
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::sample;
    use super::*;

    #[test]
    fn a_chart_has_a_bar_for_each_mirror() {
        let load = Load::Keepalive;
        let rows = Row::all(&[
            sample(load, Subject::None, 0, 100.0),
            sample(load, Subject::Sink, 0, 91.0),
            sample(load, Subject::Nginx, 0, 19.0),
        ]);
        let charts = charts(&rows);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept.svg");
        charts[0].draw(&path, "here").unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        for text in ["nginx mirror", "Shadowtap, off", "91 %", "here", "100 %, 100 req/s"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }
}
