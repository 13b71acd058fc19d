//! The settings of how answers are compared and judged.

use std::path::PathBuf;

use shadow_engine::compare::{FailOn, Ignore, Route, RuleError, Rules, Slower, Thresholds};

use crate::cli::Compare;
use crate::setting::{Refusal, Setting, Wrong};

/// What a setting is refused with that needs a comparison.
pub(super) const NOTHING: (&str, &str) =
    ("nothing is compared", "give --compare status or --compare body, and no --dry-run");

/// How answers are compared, and what the run is judged by.
#[derive(Clone, Debug)]
pub struct Judge {
    /// How they are compared.
    pub rules: Rules,
    /// Where noise that was found is written.
    pub learn_noise: Option<Setting<PathBuf>>,
    /// Where noise that is known stands.
    pub noise: Option<Setting<PathBuf>>,
    /// From when on a field that differs is more than noise.
    pub thresholds: Thresholds,
    /// What makes the run a failure.
    pub fail_on: Vec<Setting<FailOn>>,
}

/// What was given.
pub(super) struct Given {
    pub ignore: Vec<Setting<()>>,
    pub route: Vec<Setting<()>>,
    pub slower: Option<Setting<()>>,
    pub learn_noise: Option<Setting<()>>,
    pub noise: Option<Setting<()>>,
    pub noise_threshold: Option<Setting<()>>,
    pub fail_on: Vec<Setting<()>>,
}

impl Judge {
    pub(super) fn merge(given: Given) -> Result<Self, Refusal> {
        let mut rules = Rules::default();
        for setting in given.ignore {
            rules.ignore(setting.parse(|text| Ignore::parse(text).map_err(parts))?.value);
        }
        for setting in given.route {
            let route = setting.parse(|text| Route::parse(text).map_err(parts))?;
            rules.route(route.value.clone()).map_err(|error| {
                let (what, remedy) = parts(error);
                route.refuse(what, remedy)
            })?;
        }
        if let Some(setting) = given.slower {
            rules.slower = setting.parse(|text| Slower::parse(text).map_err(parts))?.value;
        }
        let fail_on = given.fail_on.into_iter();
        let fail_on: Vec<_> = fail_on
            .map(|setting| setting.parse(|text| FailOn::parse(text).map_err(parts)))
            .collect::<Result<_, _>>()?;
        let thresholds = match given.noise_threshold {
            Some(given) => given.parse(|text| Thresholds::parse(text).map_err(parts))?.value,
            None => Thresholds::default(),
        };
        let path = |given: Option<Setting<()>>| {
            given.map(|given| given.parse(|text| Ok(PathBuf::from(text)))).transpose()
        };
        Ok(Self {
            rules,
            learn_noise: path(given.learn_noise)?,
            noise: path(given.noise)?,
            thresholds,
            fail_on,
        })
    }

    /// Whether the settings go together.
    pub(super) fn check(&self, compare: Compare) -> Result<(), Refusal> {
        if compare == Compare::Off {
            let (refused, remedy) = NOTHING;
            if let Some(setting) = self.fail_on.first() {
                return Err(setting.refuse(refused, remedy));
            }
            if let Some(setting) = self.learn_noise.as_ref().or(self.noise.as_ref()) {
                return Err(setting.refuse(refused, remedy));
            }
        }
        Ok(())
    }
}

/// What is wrong and the remedy; the setting is named by whoever has it.
pub(super) fn parts(error: RuleError) -> Wrong {
    (error.what, error.remedy)
}
