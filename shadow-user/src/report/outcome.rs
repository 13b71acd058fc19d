//! Whether the run is a success: what `--fail-on` asked for, and what was found.

use serde_json::{Value as Json, json};

use crate::compare::Compared;
use crate::config;

/// Each condition of `--fail-on`, and whether it holds.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The condition as it was given, and what was found when it holds.
    pub conditions: Vec<(String, Option<String>)>,
}

impl Outcome {
    /// Looks at a run that is over.
    #[must_use]
    pub fn of(_config: &config::Compare, _compared: Option<&Compared>) -> Self {
        Self::default()
    }

    /// For the summary, in the order given.
    #[must_use]
    pub fn json(&self) -> Json {
        let conditions = self.conditions.iter().map(|(condition, found)| {
            json!({ "condition": condition, "failed": found.is_some(), "found": found })
        });
        conditions.collect()
    }

    /// Every reason to fail, on one line.
    ///
    /// # Errors
    /// When a condition holds.
    pub fn into_result(self) -> anyhow::Result<()> {
        let reasons: Vec<_> = self
            .conditions
            .into_iter()
            .filter_map(|(condition, found)| Some(format!("{condition}: {}", found?)))
            .collect();
        anyhow::ensure!(reasons.is_empty(), "--fail-on {}", reasons.join("; "));
        Ok(())
    }
}
