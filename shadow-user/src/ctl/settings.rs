//! What can be changed while a mirror runs: every such setting, in one place.
//!
//! Another one is a field of [`Settings`], a variant of [`Name`] and of [`Change`], and what the worker
//! does about it in `Worker::follow`.

use ipnet::IpNet;
use serde_json::{Value, json};
use shadow_common::{Counter as _, counters};

use crate::choice::{List, Sample, Selection, network};
use crate::pressure::{Limit, Limits};
use crate::rates::{Bandwidth, Rate, Rates, written};
use crate::setting::{Wrong, wrong};

/// The values that hold at the moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Which flows are mirrored.
    pub selection: Selection,
    /// What the mirror may cost, and the host be at.
    pub limits: Limits,
    /// How much each shadow is asked to take.
    pub rates: Rates,
    /// The share to which the sample grows at the moment.
    pub ramp: Option<Sample>,
}

counters! {
    /// The settings by their names, as the books count their changes.
    Name {
        /// The share of clients, or of connections.
        Sample = "sample",
        /// Networks whose clients are mirrored.
        Client = "client",
        /// Networks whose clients are not.
        ExcludeClient = "exclude_client",
        /// Sessions per second.
        MaxRate = "max_rate",
        /// HTTP/1 requests per second.
        MaxRequestRate = "max_request_rate",
        /// Bits per second.
        MaxBandwidth = "max_bandwidth",
        /// Whether no flow is begun.
        Paused = "paused",
        /// What the mirror may use of a processor.
        CpuLimit = "cpu_limit",
        /// What the host may be at.
        PressureLimit = "pressure_limit",
    }
}

/// One setting's new value.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Of [`Name::Sample`].
    Sample(Sample),
    /// Of [`Name::Client`] or [`Name::ExcludeClient`].
    Clients(List, Edit),
    /// Of [`Name::MaxRate`].
    MaxRate(Option<Rate>),
    /// Of [`Name::MaxRequestRate`].
    MaxRequestRate(Option<Rate>),
    /// Of [`Name::MaxBandwidth`].
    MaxBandwidth(Option<Bandwidth>),
    /// Of [`Name::Paused`].
    Paused(bool),
    /// Of [`Name::CpuLimit`].
    CpuLimit(Limit),
    /// Of [`Name::PressureLimit`].
    PressureLimit(Limit),
}

/// How a list is changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Edit {
    /// These as well.
    Add(Vec<IpNet>),
    /// These no more.
    Remove(Vec<IpNet>),
    /// These and no others.
    To(Vec<IpNet>),
}

impl Name {
    /// As the flag of the same name is written.
    #[must_use]
    pub fn flag(self) -> String {
        self.label().replace('_', "-")
    }

    /// The setting of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let found = Self::ALL.iter().find(|name| name.flag() == text);
        found.copied().map_or_else(
            || {
                let names: Vec<_> = Self::ALL.iter().map(|name| name.flag()).collect();
                wrong("cannot be changed while a mirror runs", format!("set {}", names.join(", ")))
            },
            Ok,
        )
    }

    /// The whole value.
    #[must_use]
    pub fn value(self, settings: &Settings) -> Value {
        let Selection { sample, clients, paused } = &settings.selection;
        let nets = |list| clients.of(list).map(|net| net.to_string()).collect::<Vec<_>>();
        match self {
            Self::Sample => json!(sample.to_string()),
            Self::Client => json!(nets(List::Client)),
            Self::ExcludeClient => json!(nets(List::Exclude)),
            Self::MaxRate | Self::MaxRequestRate | Self::MaxBandwidth => {
                json!(self.brief(settings))
            }
            Self::Paused => json!(paused),
            Self::CpuLimit => json!(settings.limits.cpu.to_string()),
            Self::PressureLimit => json!(settings.limits.pressure.to_string()),
        }
    }

    /// The value in a few words, however large it is.
    #[must_use]
    pub fn brief(self, settings: &Settings) -> String {
        let Settings { selection: Selection { sample, clients, paused }, rates, .. } = settings;
        let nets = |list| match clients.of(list).count() {
            0 => "none".to_owned(),
            1..=3 => clients.of(list).map(|net| net.to_string()).collect::<Vec<_>>().join(" "),
            count => format!("{count} networks"),
        };
        match self {
            Self::Sample => sample.to_string(),
            Self::Client => nets(List::Client),
            Self::ExcludeClient => nets(List::Exclude),
            Self::MaxRate => written(rates.sessions),
            Self::MaxRequestRate => written(rates.requests),
            Self::MaxBandwidth => written(rates.bandwidth),
            Self::Paused => paused.to_string(),
            Self::CpuLimit => settings.limits.cpu.to_string(),
            Self::PressureLimit => settings.limits.pressure.to_string(),
        }
    }
}

impl Settings {
    /// All of them by their names.
    #[must_use]
    pub fn values(&self) -> Value {
        self.named(Name::value)
    }

    /// The same in a few words each.
    #[must_use]
    pub fn briefs(&self) -> Value {
        self.named(|name, settings| json!(name.brief(settings)))
    }

    /// Behind them to what the sample grows, while it does.
    fn named(&self, what: impl Fn(Name, &Self) -> Value) -> Value {
        let names = Name::ALL.iter().map(|name| (name.flag(), what(*name, self)));
        let ramp = self.ramp.map(|sample| ("ramp-to".to_owned(), json!(sample.to_string())));
        names.chain(ramp).collect()
    }
}

impl Change {
    /// What the words behind a setting's name mean.
    ///
    /// # Errors
    /// When they mean nothing.
    pub fn parse(name: Name, words: &[String]) -> Result<Self, Wrong> {
        match name {
            Name::Sample => Sample::parse(one(words, "5%")?).map(Self::Sample),
            Name::Client => Edit::parse(words).map(|edit| Self::Clients(List::Client, edit)),
            Name::ExcludeClient => {
                Edit::parse(words).map(|edit| Self::Clients(List::Exclude, edit))
            }
            Name::MaxRate => Rate::parse(one(words, "50/s")?).map(Self::MaxRate),
            Name::MaxRequestRate => Rate::parse(one(words, "1000/s")?).map(Self::MaxRequestRate),
            Name::MaxBandwidth => {
                Bandwidth::parse(one(words, "100Mbit/s")?).map(Self::MaxBandwidth)
            }
            Name::Paused => match one(words, "true")?.parse() {
                Ok(paused) => Ok(Self::Paused(paused)),
                Err(_) => wrong("is neither true nor false", "give true or false"),
            },
            Name::CpuLimit => Limit::parse(one(words, "50%")?, Limits::MAX_CPU).map(Self::CpuLimit),
            Name::PressureLimit => {
                Limit::parse(one(words, "60%")?, Limits::MAX_PRESSURE).map(Self::PressureLimit)
            }
        }
    }

    /// What is changed.
    #[must_use]
    pub const fn name(&self) -> Name {
        match self {
            Self::Sample(_) => Name::Sample,
            Self::Clients(List::Client, _) => Name::Client,
            Self::Clients(List::Exclude, _) => Name::ExcludeClient,
            Self::MaxRate(_) => Name::MaxRate,
            Self::MaxRequestRate(_) => Name::MaxRequestRate,
            Self::MaxBandwidth(_) => Name::MaxBandwidth,
            Self::Paused(_) => Name::Paused,
            Self::CpuLimit(_) => Name::CpuLimit,
            Self::PressureLimit(_) => Name::PressureLimit,
        }
    }

    /// The settings with the change.
    ///
    /// # Errors
    /// When it does not go together with what is set.
    pub fn of(&self, settings: &Settings) -> Result<Settings, Wrong> {
        let mut changed = settings.clone();
        let Settings { selection, limits, rates, ramp } = &mut changed;
        let Selection { sample, clients, paused } = selection;
        match self {
            Self::Sample(share) => {
                *sample = *share;
                *ramp = None;
            }
            Self::MaxRate(rate) => rates.sessions = *rate,
            Self::MaxRequestRate(rate) => rates.requests = *rate,
            Self::MaxBandwidth(bandwidth) => rates.bandwidth = *bandwidth,
            Self::Paused(wanted) => *paused = *wanted,
            Self::CpuLimit(limit) => limits.cpu = *limit,
            Self::PressureLimit(limit) => limits.pressure = *limit,
            Self::Clients(list, edit) => match edit {
                Edit::Add(nets) => nets.iter().try_for_each(|net| clients.add(*net, *list))?,
                Edit::Remove(nets) => {
                    nets.iter().try_for_each(|net| clients.remove(*net, *list))?;
                }
                Edit::To(nets) => {
                    clients.clear(*list);
                    nets.iter().try_for_each(|net| clients.add(*net, *list))?;
                }
            },
        }
        Ok(changed)
    }
}

impl Edit {
    fn parse(words: &[String]) -> Result<Self, Wrong> {
        let remedy = "give add, remove or to, and networks, as add 203.0.113.0/24";
        let Some((how, nets)) = words.split_first() else { return wrong("has no value", remedy) };
        let nets = || {
            nets.iter()
                .map(|net| network(net).map_err(|(what, remedy)| (format!("{net} {what}"), remedy)))
                .collect::<Result<Vec<_>, _>>()
        };
        match how.as_str() {
            "to" => Ok(Self::To(nets()?)),
            "add" | "remove" if words.len() == 1 => wrong(format!("{how} has no network"), remedy),
            "add" => Ok(Self::Add(nets()?)),
            "remove" => Ok(Self::Remove(nets()?)),
            other => wrong(format!("{other} is no way to change a list"), remedy),
        }
    }
}

fn one<'a>(words: &'a [String], example: &str) -> Result<&'a str, Wrong> {
    match words {
        [word] => Ok(word),
        [] => wrong("has no value", format!("give one, as {example}")),
        _ => wrong("has more than one value", format!("give one, as {example}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(settings: &mut Settings, line: &str) -> Result<(), String> {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let changed = Name::parse(&words[0])
            .and_then(|name| Change::parse(name, &words[1..]))
            .and_then(|change| change.of(settings));
        *settings = changed.map_err(|(what, remedy)| format!("{what}; {remedy}"))?;
        Ok(())
    }

    #[test]
    fn every_setting_is_changed_by_its_flags_name() {
        let mut settings = Settings::default();
        for (line, name, brief) in [
            ("sample 5%", Name::Sample, "5%"),
            ("client add 10.0.0.0/8 10.1.0.0/16", Name::Client, "10.0.0.0/8 10.1.0.0/16"),
            ("client remove 10.0.0.0/8", Name::Client, "10.1.0.0/16"),
            ("exclude-client add 10.1.2.3", Name::ExcludeClient, "10.1.2.3/32"),
            ("client to 1.0.0.0/8 2.0.0.0/8 3.0.0.0/8 4.0.0.0/8", Name::Client, "4 networks"),
            ("client to", Name::Client, "none"),
            ("max-rate 50/s", Name::MaxRate, "50/s"),
            ("max-request-rate 1000/s", Name::MaxRequestRate, "1000/s"),
            ("max-bandwidth 100Mbit/s", Name::MaxBandwidth, "100Mbit/s"),
            ("max-rate none", Name::MaxRate, "none"),
            ("paused true", Name::Paused, "true"),
            ("cpu-limit 25%", Name::CpuLimit, "25%"),
            ("pressure-limit 80%", Name::PressureLimit, "80%"),
            ("pressure-limit off", Name::PressureLimit, "off"),
        ] {
            change(&mut settings, line).expect("changed");
            assert_eq!(name.brief(&settings), brief, "{line}");
        }
        let mut all = json!({
            "sample": "5%", "client": [], "exclude-client": ["10.1.2.3/32"], "paused": true,
            "max-rate": "none", "max-request-rate": "1000/s", "max-bandwidth": "100Mbit/s",
            "cpu-limit": "25%", "pressure-limit": "off",
        });
        assert_eq!(settings.values(), all);
        settings.ramp = Some(Sample::WHOLE);
        all["ramp-to"] = json!("100%");
        assert_eq!(settings.values(), all);
        change(&mut settings, "sample 6%").expect("changed");
        assert_eq!(settings.ramp, None, "what is set is set");
    }

    #[test]
    fn what_cannot_be_set_leaves_all_as_it_was() {
        let mut settings = Settings::default();
        change(&mut settings, "exclude-client add 10.0.0.0/8").expect("changed");
        let before = settings.clone();
        for (line, expected) in [
            ("port 80", "cannot be changed while a mirror runs; set sample, client, "),
            ("sample", "has no value; give one, as 5%"),
            ("sample 5% 6%", "has more than one value; give one, as 5%"),
            ("sample 5", "is no percentage; "),
            ("client", "has no value; give add, remove or to"),
            ("client add", "add has no network; "),
            ("client 10.0.0.0/8", "10.0.0.0/8 is no way to change a list; "),
            ("client add 1.0.0.0/8 x", "x is no network; "),
            ("client add 1.0.0.0/8 10.0.0.0/8", "10.0.0.0/8 is in --exclude-client as well; "),
            ("client remove 1.0.0.0/8", "1.0.0.0/8 is not in it; "),
            ("max-rate 50", "is no number per second; give a number per second, as 50/s, or none"),
            ("max-request-rate", "has no value; give one, as 1000/s"),
            ("max-bandwidth 100MB/s", "has no unit of bits; give bits per second, as 100Mbit/s, "),
            ("paused maybe", "is neither true nor false; "),
            ("cpu-limit 0%", "is no limit; give more than 0% and up to 100000%, as 50%, or off"),
            ("pressure-limit 101%", "is no limit; give more than 0% and up to 100%"),
        ] {
            let error = change(&mut settings, line).expect_err("refused");
            assert!(error.starts_with(expected), "{line}: {error}");
            assert_eq!(settings, before, "{line}");
        }
    }
}
