//! The settings of which flows are mirrored.

use super::choice;
use crate::choice::{Clients, List, Sample, SampleBy, Selection, word};
use crate::pressure::{Limit, Limits};
use crate::setting::{Refusal, Setting};

/// Which flows are mirrored.
#[derive(Clone, Debug, Default)]
pub struct Choosing {
    /// What is chosen at the start.
    pub selection: Selection,
    /// Of what samples are taken.
    pub by: SampleBy,
    /// What samples differ by.
    pub seed: u64,
    /// When they are made smaller.
    pub limits: Limits,
}

/// What was given.
pub(super) struct Given {
    pub sample: Setting<()>,
    pub sample_by: Setting<()>,
    pub seed: Setting<()>,
    pub cpu_limit: Setting<()>,
    pub pressure_limit: Setting<()>,
    pub client: Vec<Setting<()>>,
    pub exclude_client: Vec<Setting<()>>,
}

impl Choosing {
    pub(super) fn merge(given: Given) -> Result<Self, Refusal> {
        let mut clients = Clients::default();
        for (list, settings) in
            [(List::Client, given.client), (List::Exclude, given.exclude_client)]
        {
            for setting in settings {
                let nets = setting.parse(word)?;
                for net in &nets.value {
                    clients.add(*net, list).map_err(|(what, remedy)| nets.refuse(what, remedy))?;
                }
            }
        }
        let sample = given.sample.parse(Sample::parse)?.value;
        let seed = given.seed.parse(|text| {
            text.parse().map_err(|_| {
                ("is no seed".to_owned(), "give a number from 0 to 18446744073709551615".to_owned())
            })
        })?;
        Ok(Self {
            selection: Selection { sample, clients, paused: false },
            by: given.sample_by.parse(choice)?.value,
            seed: seed.value,
            limits: Limits {
                cpu: given.cpu_limit.parse(|text| Limit::parse(text, Limits::MAX_CPU))?.value,
                pressure: given
                    .pressure_limit
                    .parse(|text| Limit::parse(text, Limits::MAX_PRESSURE))?
                    .value,
            },
        })
    }
}
