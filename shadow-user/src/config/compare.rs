//! The settings of the comparison.

use std::path::PathBuf;

use shadow_engine::compare::{FailOn, Ignore, Route, RuleError, Rules, Slower};
use shadow_engine::exchange::Depth;

use super::{Parsed, wrong};
use crate::setting::{Refusal, Setting};

/// How answers are compared, and what the run is judged by.
#[derive(Clone, Debug)]
pub struct Compare {
    /// How much of the answers is looked at.
    pub depth: Depth,
    /// How they are compared.
    pub rules: Rules,
    /// Where noise that was found is written.
    pub learn_noise: Option<Setting<PathBuf>>,
    /// Where noise that is known stands.
    pub noise: Option<Setting<PathBuf>>,
    /// What makes the run a failure.
    pub fail_on: Vec<Setting<FailOn>>,
}

/// What was given.
pub(super) struct Given {
    pub depth: Setting<()>,
    pub ignore: Vec<Setting<()>>,
    pub route: Vec<Setting<()>>,
    pub slower: Option<Setting<()>>,
    pub learn_noise: Option<Setting<()>>,
    pub noise: Option<Setting<()>>,
    pub fail_on: Vec<Setting<()>>,
}

impl Compare {
    pub(super) fn merge(given: Given) -> Result<Self, Refusal> {
        let depth = given.depth.parse(depth)?.value;
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
        let path = |given: Option<Setting<()>>| {
            given.map(|given| given.parse(|text| Ok(PathBuf::from(text)))).transpose()
        };
        let compare = Self {
            depth,
            rules,
            learn_noise: path(given.learn_noise)?,
            noise: path(given.noise)?,
            fail_on,
        };
        compare.check()?;
        Ok(compare)
    }

    /// Whether the settings go together.
    fn check(&self) -> Result<(), Refusal> {
        if self.depth == Depth::Off {
            let remedy = "give --compare status or --compare body";
            let refused = "nothing is compared with --compare off";
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

fn depth(text: &str) -> Parsed<Depth> {
    match text {
        "off" => Ok(Depth::Off),
        "status" => Ok(Depth::Status),
        "body" => Ok(Depth::Body),
        _ => wrong("is not a choice", "give off or status or body"),
    }
}

/// What is wrong and the remedy; the setting is named by whoever has it.
fn parts(error: RuleError) -> (String, String) {
    (error.what, error.remedy)
}
