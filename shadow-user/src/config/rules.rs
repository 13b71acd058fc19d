//! The settings of which requests are sent, and in what form.

use std::ops::RangeInclusive;

use shadow_engine::rules::{
    Filter, HeaderName, HostChange, MaskHeader, MaskJson, MaskParameter, MaskRegex, RewritePath,
    Rules, SetHeader,
};

use super::judge::parts;
use super::value::size;
use super::{boolean, choice};
use crate::cli::{ClientAddress, Mark};
use crate::setting::{Parsed, Refusal, Setting, wrong};

/// A header line that `--client-address x-forwarded-for` sets.
const FORWARDED_FOR: &str = "X-Forwarded-For";

/// What was given.
pub(super) struct Given {
    /// A program is asked.
    pub asks: bool,
    pub method: Vec<Setting<()>>,
    pub safe_methods: Option<Setting<()>>,
    pub path: Vec<Setting<()>>,
    pub exclude_path: Vec<Setting<()>>,
    pub header: Vec<Setting<()>>,
    pub exclude_header: Vec<Setting<()>>,
    pub filter: Vec<Setting<()>>,
    pub rewrite_path: Vec<Setting<()>>,
    pub set_host: Option<Setting<()>>,
    pub host_suffix: Option<Setting<()>>,
    pub set_header: Vec<Setting<()>>,
    pub remove_header: Vec<Setting<()>>,
    pub request_id_header: Option<Setting<()>>,
    pub mark: Option<Setting<()>>,
    pub mask_header: Vec<Setting<()>>,
    pub mask_query: Vec<Setting<()>>,
    pub mask_form: Vec<Setting<()>>,
    pub mask_json: Vec<Setting<()>>,
    pub mask_regex: Vec<Setting<()>>,
    pub mask_limit: Option<Setting<()>>,
}

impl Given {
    pub(super) fn merge(self, client_address: ClientAddress) -> Result<Rules, Refusal> {
        let mut rules = Rules::default();
        self.choose(&mut rules)?;
        self.shape(&mut rules, client_address)?;
        if self.asks {
            rules.ask();
        }
        self.mask(&mut rules, client_address)?;
        Ok(rules)
    }

    fn choose(&self, rules: &mut Rules) -> Result<(), Refusal> {
        if let Some(safe) = &self.safe_methods
            && safe.clone().parse(boolean)?.value
        {
            if let Some(method) = self.method.first() {
                return Err(
                    method.refuse("--safe-methods names methods already", "give one of both")
                );
            }
            rules.filter(Filter::safe_methods());
        }
        let path = |flag| move |text: &str| Filter::path(flag, text).map_err(parts);
        let header = |flag| move |text: &str| Filter::header(flag, text).map_err(parts);
        let methods = all(&self.method, |text| Filter::method(text).map_err(parts))?;
        let paths = all(&self.path, path("--path"))?;
        for filters in [methods, paths] {
            if !filters.is_empty() {
                rules.filter(Filter::any(filters));
            }
        }
        let excluded = all(&self.exclude_path, path("--exclude-path"))?;
        let excluded =
            excluded.into_iter().chain(all(&self.exclude_header, header("--exclude-header"))?);
        excluded.for_each(|filter| rules.filter(filter.negated()));
        let wanted = all(&self.header, header("--header"))?;
        let wanted =
            wanted.into_iter().chain(all(&self.filter, |text| Filter::parse(text).map_err(parts))?);
        wanted.for_each(|filter| rules.filter(filter));
        Ok(())
    }

    fn shape(&self, rules: &mut Rules, client_address: ClientAddress) -> Result<(), Refusal> {
        for rule in all(&self.rewrite_path, |text| RewritePath::parse(text).map_err(parts))? {
            rules.rewrite_path(rule);
        }
        if let (Some(suffix), Some(_)) = (&self.host_suffix, &self.set_host) {
            return Err(suffix.refuse("--set-host sets the whole host", "give one of both"));
        }
        for (given, parse) in [
            (&self.set_host, HostChange::set as fn(&str) -> _),
            (&self.host_suffix, HostChange::suffix),
        ] {
            if let Some(given) = given {
                rules.change_host(given.clone().parse(|text| parse(text).map_err(parts))?.value);
            }
        }
        let mut names: Vec<String> = Vec::new();
        if client_address == ClientAddress::XForwardedFor {
            names.push(FORWARDED_FOR.to_owned());
        }
        let mut take = |setting: &Setting<()>, name: &str| {
            if names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                return Err(setting.refuse(
                    format!("another setting gives {name} a value"),
                    "give each header line one value",
                ));
            }
            names.push(name.to_owned());
            Ok(())
        };
        for setting in &self.set_header {
            let header = setting.clone().parse(|text| SetHeader::parse(text).map_err(parts))?.value;
            take(setting, header.name())?;
            rules.set_header(header);
        }
        if let Some(setting) = &self.request_id_header {
            let name = setting.clone().parse(header_name("--request-id-header"))?.value;
            take(setting, name.name())?;
            rules.add_request_id(name);
        }
        if let Some(setting) = &self.mark
            && let Some(mark) = setting.clone().parse(mark)?.value
        {
            if mark == Mark::Header {
                take(setting, "X-Shadowtap")?;
            }
            rules.mark(match mark {
                Mark::Header => shadow_engine::rules::Mark::Header,
                Mark::Baggage => shadow_engine::rules::Mark::Baggage,
            });
        }
        for setting in &self.remove_header {
            let name = setting.clone().parse(header_name("--remove-header"))?.value;
            // The client's own line goes, and the mirror adds its own.
            if !name.name().eq_ignore_ascii_case(FORWARDED_FOR) {
                take(setting, name.name())?;
            }
            rules.remove_header(name);
        }
        Ok(())
    }

    fn mask(&self, rules: &mut Rules, client_address: ClientAddress) -> Result<(), Refusal> {
        for setting in &self.mask_header {
            let mask = setting.clone().parse(|text| MaskHeader::parse(text).map_err(parts))?.value;
            if client_address == ClientAddress::XForwardedFor
                && mask.name().eq_ignore_ascii_case(FORWARDED_FOR)
            {
                return Err(setting.refuse(
                    "--client-address x-forwarded-for puts the address there again",
                    "give --client-address none",
                ));
            }
            rules.mask_header(mask);
        }
        let parameter = |flag| move |text: &str| MaskParameter::parse(flag, text).map_err(parts);
        for mask in all(&self.mask_query, parameter("--mask-query"))? {
            rules.mask_query(mask);
        }
        for mask in all(&self.mask_form, parameter("--mask-form"))? {
            rules.mask_form(mask);
        }
        for mask in all(&self.mask_json, |text| MaskJson::parse(text).map_err(parts))? {
            rules.mask_json(mask);
        }
        for mask in all(&self.mask_regex, |text| MaskRegex::parse(text).map_err(parts))? {
            rules.mask_regex(mask);
        }
        if let Some(setting) = &self.mask_limit {
            if !rules.masks_bodies() && !rules.asks() {
                return Err(setting.refuse(
                    "no body is masked",
                    "leave it out, or give --mask-json, --mask-form, --mask-regex or --filter-exec",
                ));
            }
            rules.limit_masks(setting.clone().parse(mask_limit)?.value);
        }
        Ok(())
    }
}

/// Every value of a setting.
fn all<T>(settings: &[Setting<()>], parse: impl Fn(&str) -> Parsed<T>) -> Result<Vec<T>, Refusal> {
    settings.iter().map(|setting| Ok(setting.clone().parse(&parse)?.value)).collect()
}

fn header_name(flag: &'static str) -> impl Fn(&str) -> Parsed<HeaderName> {
    move |text| HeaderName::parse(flag, text).map_err(parts)
}

/// A file may say `mark = true`.
fn mark(text: &str) -> Parsed<Option<Mark>> {
    match text {
        "true" => Ok(Some(Mark::Header)),
        "false" => Ok(None),
        text => choice(text).map(Some),
    }
}

/// What a connection may hold, among others, while a body is collected.
const MASK_LIMITS: RangeInclusive<u64> = 1 << 10..=16 << 20;

fn mask_limit(text: &str) -> Parsed<usize> {
    let octets = size(text)?;
    match usize::try_from(octets) {
        Ok(limit) if MASK_LIMITS.contains(&octets) => Ok(limit),
        _ => wrong("is out of bounds", "give from 1KiB to 16MiB"),
    }
}

#[cfg(test)]
mod tests;
