//! The settings of the report of exchanges.

use super::choice;
use super::judge::NOTHING;
use crate::cli::{Compare, Live};
use crate::report::jsonl::{Only, Share, Target};
use crate::setting::{Origin, Parsed, Refusal, Setting, wrong};

/// Where exchanges are reported, and which.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where.
    pub target: Setting<Target>,
    /// Which verdicts.
    pub only: Only,
    /// How many of them.
    pub share: Share,
}

/// What was given.
pub(super) struct Given {
    pub target: Option<Setting<()>>,
    pub only: Option<Setting<()>>,
    pub sample: Option<Setting<()>>,
}

impl Report {
    pub(super) fn merge(given: Given) -> Result<Option<Self>, Refusal> {
        let Given { target, only, sample } = given;
        let Some(target) = target else {
            return match [only, sample].into_iter().flatten().next() {
                Some(lonely) => Err(lonely.refuse("there is no report", "add --report FILE")),
                None => Ok(None),
            };
        };
        let only = only.map(|given| given.parse(choice)).transpose()?;
        let share = sample.map(|given| given.parse(percent)).transpose()?;
        Ok(Some(Self {
            target: target.parse(file_or_stdout)?,
            only: only.map_or(Only::All, |setting| setting.value),
            share: share.map_or(Share::WHOLE, |setting| setting.value),
        }))
    }

    /// Whether it goes together with the others.
    pub(super) fn check(&self, compare: Compare, live: &Setting<Live>) -> Result<(), Refusal> {
        if compare == Compare::Off {
            return Err(self.target.refuse(NOTHING.0, NOTHING.1));
        }
        let is_asked_for = live.origin != Origin::Default && live.value != Live::Off;
        if self.target.value == Target::Stdout && is_asked_for {
            return Err(live.refuse(
                "standard output has the report",
                "give --live off, or a file to --report",
            ));
        }
        Ok(())
    }

    /// Whether standard output is the report's.
    #[must_use]
    pub fn takes_stdout(&self) -> bool {
        self.target.value == Target::Stdout
    }
}

fn file_or_stdout(text: &str) -> Parsed<Target> {
    match text {
        "" => wrong("is no file", "give a file, or - for standard output"),
        "-" => Ok(Target::Stdout),
        path => Ok(Target::File(path.into())),
    }
}

fn percent(text: &str) -> Parsed<Share> {
    let share = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match share.and_then(|percent| Share::new(percent / 100.0)) {
        Some(share) => Ok(share),
        None => wrong("is no share", "give more than 0% and up to 100%, as 1%"),
    }
}
