//! Whether the run is a success: what `--fail-on` asked for, and what was found.

use serde_json::{Value as Json, json};

use crate::compare::Compared;
use crate::config;

/// Each condition of `--fail-on`, and whether it holds.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The condition as it was given, and where it holds, why.
    pub conditions: Vec<(String, Option<String>)>,
}

impl Outcome {
    /// Looks at a run that is over.
    #[must_use]
    pub fn of(judge: &config::Judge, compared: Option<&Compared>) -> Self {
        let Some(compared) = compared else { return Self::default() };
        let conditions = judge.fail_on.iter().map(|setting| {
            let reason = setting.value.reason(&compared.tallies);
            (setting.text.clone(), reason)
        });
        Self { conditions: conditions.collect() }
    }

    /// For the summary, in the order given.
    #[must_use]
    pub fn json(&self) -> Json {
        let conditions = self.conditions.iter().map(|(condition, reason)| {
            json!({ "condition": condition, "failed": reason.is_some(), "reason": reason })
        });
        conditions.collect()
    }

    /// Every reason to fail, on one line.
    ///
    /// # Errors
    /// When a condition holds.
    pub fn into_result(self) -> anyhow::Result<()> {
        let reasons: Vec<_> =
            self.conditions.into_iter().filter_map(|(_, reason)| reason).collect();
        anyhow::ensure!(reasons.is_empty(), "--fail-on {}", reasons.join("; "));
        Ok(())
    }
}
