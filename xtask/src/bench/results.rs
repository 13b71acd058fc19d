//! What is kept of a run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{bars::Bar, machine::Machine, plot, row::Row, sample::Sample};

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Results {
    /// Where and when.
    pub machine: Machine,
    /// How often each was measured.
    pub rounds: u32,
    /// How long each load ran.
    pub seconds: u64,
    /// What is asked, and what was measured of it.
    pub bars: Vec<Bar>,
    /// Medians.
    pub rows: Vec<Row>,
    /// Every measurement.
    pub samples: Vec<Sample>,
}

impl Results {
    /// Writes `DATE.json` and the plots beside it; says which files.
    ///
    /// # Errors
    /// One cannot be written.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        // Colons are not for everybody's file names.
        let name = self.machine.date.replace(':', "");
        let json = folder.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(self).context("results as JSON")?;
        fs::write(&json, text + "\n").with_context(|| format!("write {}", json.display()))?;
        let mut paths = vec![json];
        for chart in plot::charts(&self.rows) {
            let path = folder.join(format!("{name}-{}.svg", chart.name));
            chart.draw(&path, &self.machine.line())?;
            paths.push(path);
        }
        Ok(paths)
    }
}
