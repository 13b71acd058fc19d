//! What a run's comparisons add up to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use strum::IntoEnumIterator as _;

use super::{
    Comparison, Difference, Kind, Latency, Learnt, LearntEndpoint, LearntField, Noise, Opaque,
    Thresholds, Verdict,
};
use crate::exchange::{Exchange, Head, Status};

/// The bounds of what tallies hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TallyBounds {
    /// Fields of one endpoint that are counted apart.
    pub fields: usize,
    /// Pairs of status codes of one endpoint that are counted apart.
    pub statuses: usize,
    /// Examples of one endpoint and verdict.
    pub examples: usize,
    /// Octets of all examples.
    pub example_octets: usize,
    /// Whether examples have heads, bodies, and the values of differences in bodies.
    pub bodies: bool,
}

impl Default for TallyBounds {
    fn default() -> Self {
        Self { fields: 200, statuses: 64, examples: 2, example_octets: 16 << 20, bodies: false }
    }
}

/// How often one field differed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FieldTally {
    /// Exchanges in which the shadow's answer differed from production's.
    pub raw: u64,
    /// Exchanges in which the baseline's answer differed from production's.
    pub noise: u64,
}

/// An exchange to look at.
#[derive(Clone, Debug)]
pub struct Example {
    /// The exchange; without heads and bodies unless these are to be kept.
    pub exchange: Exchange,
    /// What was found.
    pub comparison: Comparison,
}

/// One endpoint's counts, or those of the whole run.
#[derive(Clone, Debug)]
pub struct EndpointTally {
    /// Exchanges.
    pub exchanges: u64,
    /// Exchanges of which the baseline's answer was compared too.
    pub baseline: u64,
    verdicts: [u64; 7],
    opaque: [u64; 5],
    /// By field.
    pub fields: BTreeMap<(Arc<str>, Kind), FieldTally>,
    /// Differences in fields beyond the bound.
    pub fields_beyond: u64,
    /// By production's status and the shadow's; none stands for no answer.
    pub statuses: BTreeMap<(Option<Status>, Option<Status>), u64>,
    /// Exchanges with pairs of status codes beyond the bound.
    pub statuses_beyond: u64,
    /// Production's times, where both legs answered.
    pub production: Latency,
    /// The shadow's times, where both legs answered.
    pub shadow: Latency,
    examples: BTreeMap<Verdict, VecDeque<Arc<Example>>>,
}

impl EndpointTally {
    fn new(digits: u8) -> Self {
        Self {
            exchanges: 0,
            baseline: 0,
            verdicts: [0; 7],
            opaque: [0; 5],
            fields: BTreeMap::new(),
            fields_beyond: 0,
            statuses: BTreeMap::new(),
            statuses_beyond: 0,
            production: Latency::new(digits),
            shadow: Latency::new(digits),
            examples: BTreeMap::new(),
        }
    }

    /// Exchanges with a verdict.
    #[must_use]
    pub fn verdict(&self, verdict: Verdict) -> u64 {
        self.verdicts[verdict as usize]
    }

    /// Exchanges whose bodies differ and were not looked into, for one reason.
    #[must_use]
    pub fn opaque(&self, why: Opaque) -> u64 {
        self.opaque[why as usize]
    }

    /// Exchanges that were compared: all but those unpaired.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.exchanges - self.verdict(Verdict::Unpaired)
    }

    /// Exchanges in which the shadow behaved otherwise.
    #[must_use]
    pub fn mismatches(&self) -> u64 {
        Verdict::iter().filter(|verdict| verdict.is_mismatch()).map(|it| self.verdict(it)).sum()
    }

    /// Examples, by verdict: the first ones, and later ones ever more rarely.
    pub fn examples(&self) -> impl Iterator<Item = &Arc<Example>> {
        self.examples.values().flatten()
    }

    fn count(&mut self, exchange: &Exchange, comparison: &Comparison, bounds: &TallyBounds) {
        self.exchanges += 1;
        self.verdicts[comparison.verdict as usize] += 1;
        if let Some(why) = comparison.opaque {
            self.opaque[why as usize] += 1;
        }
        let status = |leg: &Result<crate::exchange::Response, _>| {
            leg.as_ref().ok().map(|response| response.status)
        };
        self.pair(status(&exchange.production), status(&exchange.shadow), 1, bounds.statuses);
        if let (Ok(production), Ok(shadow)) = (&exchange.production, &exchange.shadow) {
            self.production.record(production.duration());
            self.shadow.record(shadow.duration());
        }
    }

    fn pair(&mut self, production: Option<Status>, shadow: Option<Status>, n: u64, max: usize) {
        let room = self.statuses.len() < max;
        match self.statuses.get_mut(&(production, shadow)) {
            Some(count) => *count += n,
            None if room => {
                self.statuses.insert((production, shadow), n);
            }
            None => self.statuses_beyond += n,
        }
    }

    fn field(&mut self, key: &(Arc<str>, Kind), max: usize) -> Option<&mut FieldTally> {
        if !self.fields.contains_key(key) && self.fields.len() >= max {
            return None;
        }
        Some(self.fields.entry(key.clone()).or_default())
    }

    fn differed(&mut self, comparison: &Comparison, max: usize, count: fn(&mut FieldTally)) {
        for difference in &comparison.differences {
            match self.field(&(Arc::clone(&difference.path), difference.kind), max) {
                Some(field) => count(field),
                None => self.fields_beyond += 1,
            }
        }
    }

    fn merge(&mut self, other: &Self, bounds: &TallyBounds) {
        self.exchanges += other.exchanges;
        self.baseline += other.baseline;
        for (ours, theirs) in self.verdicts.iter_mut().zip(&other.verdicts) {
            *ours += theirs;
        }
        for (ours, theirs) in self.opaque.iter_mut().zip(&other.opaque) {
            *ours += theirs;
        }
        for (key, tally) in &other.fields {
            match self.field(key, bounds.fields) {
                Some(field) => {
                    field.raw += tally.raw;
                    field.noise += tally.noise;
                }
                None => self.fields_beyond += tally.raw + tally.noise,
            }
        }
        self.fields_beyond += other.fields_beyond;
        for (&(production, shadow), n) in &other.statuses {
            self.pair(production, shadow, *n, bounds.statuses);
        }
        self.statuses_beyond += other.statuses_beyond;
        self.production.merge(&other.production);
        self.shadow.merge(&other.shadow);
    }

    /// How often a field would differ between servers of production's version, in as many exchanges
    /// as were compared.
    fn expected(&self, tally: FieldTally, learnt: Option<(u64, u64)>) -> u64 {
        let scale = |differed: u64, of: u64| {
            (u128::from(differed) * u128::from(self.compared()) / u128::from(of.max(1))) as u64
        };
        match (self.baseline, learnt) {
            (0, Some((differed, of))) => scale(differed, of),
            (0, None) => 0,
            (baseline, _) => scale(tally.noise, baseline),
        }
    }
}

/// A run's counts: in total and by endpoint. Clones are cheap enough for one every second.
#[derive(Clone, Debug)]
pub struct Tallies {
    bounds: TallyBounds,
    total: EndpointTally,
    endpoints: BTreeMap<Arc<str>, EndpointTally>,
    example_octets: usize,
}

impl Tallies {
    /// Empty. The endpoints are bounded by whoever names them.
    #[must_use]
    pub fn new(bounds: TallyBounds) -> Self {
        Self { bounds, total: EndpointTally::new(3), endpoints: BTreeMap::new(), example_octets: 0 }
    }

    /// The whole run; its fields and examples are by endpoint only.
    #[must_use]
    pub fn total(&self) -> &EndpointTally {
        &self.total
    }

    /// By endpoint, in the order of their names.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Arc<str>, &EndpointTally)> {
        self.endpoints.iter()
    }

    /// One endpoint.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Option<&EndpointTally> {
        self.endpoints.get(name)
    }

    /// Counts an exchange and what its comparison found.
    pub fn record(&mut self, exchange: &Exchange, comparison: &Comparison) {
        self.total.count(exchange, comparison, &self.bounds);
        let tally = entry(&mut self.endpoints, &comparison.endpoint);
        tally.count(exchange, comparison, &self.bounds);
        tally.differed(comparison, self.bounds.fields, |field| field.raw += 1);
        // Of many alike only a few are copied: the first, the second, the fourth, and so on.
        let seen = tally.verdict(comparison.verdict);
        if !comparison.verdict.is_mismatch() || !seen.is_power_of_two() {
            return;
        }
        let example = example(exchange, comparison, self.bounds.bodies);
        let ring = tally.examples.entry(comparison.verdict).or_default();
        if ring.len() >= self.bounds.examples
            && let Some(oldest) = ring.pop_front()
        {
            self.example_octets -= octets(&oldest);
        }
        if self.bounds.examples > 0
            && self.example_octets + octets(&example) <= self.bounds.example_octets
        {
            self.example_octets += octets(&example);
            ring.push_back(Arc::new(example));
        }
    }

    /// Counts what comparing the baseline's answer with production's found.
    pub fn record_baseline(&mut self, comparison: &Comparison) {
        if comparison.verdict == Verdict::Unpaired {
            return;
        }
        self.total.baseline += 1;
        let tally = entry(&mut self.endpoints, &comparison.endpoint);
        tally.baseline += 1;
        tally.differed(comparison, self.bounds.fields, |field| field.noise += 1);
    }

    /// Adds to `noise` at once what a comparison of the baseline's answer, which was recorded, has shown:
    /// the shadow's answer to the same request is judged next.
    pub fn note_noise(&self, baseline: &Comparison, thresholds: &Thresholds, noise: &mut Noise) {
        let Some(tally) = self.endpoint(&baseline.endpoint) else { return };
        for Difference { path, kind, .. } in &baseline.differences {
            let field = tally.field_tally(path, *kind);
            if !thresholds.shows(field.raw, tally.expected(field, None), tally.compared()) {
                noise.insert(&baseline.endpoint, path, *kind);
            }
        }
    }

    /// Adds another's counts. Its examples are taken where there are none of their kind.
    pub fn merge(&mut self, other: &Self) {
        self.total.merge(&other.total, &self.bounds);
        for (name, theirs) in &other.endpoints {
            let ours = entry(&mut self.endpoints, name);
            ours.merge(theirs, &self.bounds);
            for (verdict, examples) in &theirs.examples {
                let ring = ours.examples.entry(*verdict).or_default();
                for example in examples {
                    let size = octets(example);
                    if ring.len() < self.bounds.examples
                        && self.example_octets + size <= self.bounds.example_octets
                    {
                        self.example_octets += size;
                        ring.push_back(Arc::clone(example));
                    }
                }
            }
        }
    }

    /// What is noise, as far as is known: of the fields that differ between servers of production's
    /// version, by a baseline or else by what was learnt before, those that do not differ notably more
    /// often from the shadow.
    #[must_use]
    pub fn noise(&self, learnt: Option<&Learnt>, thresholds: &Thresholds) -> Noise {
        let mut noise = Noise::default();
        let mut known: BTreeMap<(&str, &str, Kind), (u64, u64)> = BTreeMap::new();
        for endpoint in learnt.iter().flat_map(|learnt| &learnt.endpoints) {
            for field in endpoint.fields.iter().filter(|field| field.differed > 0) {
                known.insert(
                    (&endpoint.endpoint, &field.path, field.kind),
                    (field.differed, endpoint.exchanges),
                );
                if self.endpoint(&endpoint.endpoint).is_none_or(|tally| {
                    tally.field_tally(&field.path, field.kind) == FieldTally::default()
                }) {
                    noise.insert(
                        &Arc::from(endpoint.endpoint.as_str()),
                        &Arc::from(field.path.as_str()),
                        field.kind,
                    );
                }
            }
        }
        for (name, tally) in &self.endpoints {
            for ((path, kind), field) in &tally.fields {
                let learnt = known.get(&(&**name, &**path, *kind)).copied();
                let expected = tally.expected(*field, learnt);
                if (expected > 0 || learnt.is_some() || field.noise > 0)
                    && !thresholds.shows(field.raw, expected, tally.compared())
                {
                    noise.insert(name, path, *kind);
                }
            }
        }
        noise
    }

    /// What a run of production's version against itself has shown.
    #[must_use]
    pub fn learn(&self) -> Learnt {
        let endpoint = |(name, tally): (&Arc<str>, &EndpointTally)| LearntEndpoint {
            endpoint: name.to_string(),
            exchanges: tally.compared(),
            fields: tally
                .fields
                .iter()
                .filter(|((path, kind), _)| Noise::may_be(path, *kind))
                .map(|((path, kind), field)| LearntField {
                    path: path.to_string(),
                    kind: *kind,
                    differed: field.raw,
                })
                .collect(),
        };
        let endpoints = self.endpoints.iter().map(endpoint);
        Learnt::new(endpoints.filter(|endpoint| !endpoint.fields.is_empty()).collect())
    }
}

impl EndpointTally {
    fn field_tally(&self, path: &str, kind: Kind) -> FieldTally {
        self.fields.get(&(Arc::from(path), kind)).copied().unwrap_or_default()
    }
}

fn entry<'a>(
    endpoints: &'a mut BTreeMap<Arc<str>, EndpointTally>,
    name: &Arc<str>,
) -> &'a mut EndpointTally {
    endpoints.entry(Arc::clone(name)).or_insert_with(|| EndpointTally::new(2))
}

fn example(exchange: &Exchange, comparison: &Comparison, bodies: bool) -> Example {
    let mut example = Example { exchange: exchange.clone(), comparison: comparison.clone() };
    if !bodies {
        let Exchange { request, production, shadow, .. } = &mut example.exchange;
        request.head = Head::default();
        request.body.kept = Vec::new();
        for response in [production, shadow].into_iter().flatten() {
            response.head = Head::default();
            response.trailers = Head::default();
            response.body.kept = Vec::new();
        }
        for difference in &mut example.comparison.differences {
            if difference.path.starts_with("body") {
                difference.production = None;
                difference.shadow = None;
            }
        }
    }
    example
}

/// About what an example takes.
fn octets(example: &Example) -> usize {
    let head = |head: &Head| match head {
        Head::Http1(octets) => octets.len(),
        Head::Fields(fields) => {
            fields.iter().map(|(name, value)| name.len() + value.len() + 64).sum()
        }
    };
    let request = &example.exchange.request;
    let mut sum = size_of::<Example>() + request.target.len() + head(&request.head);
    sum += request.body.kept.len();
    for response in [&example.exchange.production, &example.exchange.shadow].into_iter().flatten() {
        sum += head(&response.head) + head(&response.trailers) + response.body.kept.len();
    }
    let differences = &example.comparison.differences;
    sum + differences.iter().map(|it| size_of_val(it) + it.path.len() + 2 * 200).sum::<usize>()
}
