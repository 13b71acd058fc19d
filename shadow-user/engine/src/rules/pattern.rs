//! Regular expressions as users write them: bounded, matching octets, refused at the place.
//!
//! The `regex` crate: linear in pattern and text, whatever a client sends.

use regex::bytes::{Captures, Regex, RegexBuilder};

use crate::compare::RuleError;

/// Octets that a pattern may take when compiled, and again for what is remembered while matching.
const SIZE: usize = 1 << 20;

/// What is wrong with a pattern, and at which of its characters.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(super) struct PatternError(String);

/// Compiles a pattern.
pub(super) fn compile(pattern: &str) -> Result<Regex, PatternError> {
    let built = RegexBuilder::new(pattern).size_limit(SIZE).dfa_size_limit(SIZE).build();
    built.map_err(|error| {
        PatternError(match error {
            regex::Error::CompiledTooBig(_) => "a regex of over 1 MiB compiled".to_owned(),
            error => malformed(pattern).unwrap_or_else(|| {
                let text = error.to_string();
                text.lines().next_back().unwrap_or_default().trim().to_owned()
            }),
        })
    })
}

/// The regex crate tells the place by a caret below the pattern, which takes four lines.
fn malformed(pattern: &str) -> Option<String> {
    let parsed = regex_syntax::ParserBuilder::new().utf8(false).build().parse(pattern);
    let (what, span) = match parsed.err()? {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), *error.span()),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), *error.span()),
        _ => return None,
    };
    let at = pattern.get(..span.start.offset)?.chars().count() + 1;
    Some(format!("{what} at character {at} of the regex"))
}

/// A pattern and what stands in place of what it matches, in which `$1` or `${name}` is a group.
#[derive(Clone, Debug)]
pub(super) struct Replace {
    pub pattern: Regex,
    template: Box<str>,
}

impl Replace {
    /// Reads `REGEX => TEMPLATE`.
    pub fn parse(flag: &'static str, text: &str, remedy: &str) -> Result<Self, RuleError> {
        let error = |what: String| RuleError::new(flag, text, what, remedy);
        let (pattern, template) =
            text.rsplit_once("=>").ok_or_else(|| error("has no =>".into()))?;
        let (pattern, template) = (pattern.trim(), template.trim());
        if pattern.is_empty() {
            return Err(error("has no regex before =>".into()));
        }
        let pattern = compile(pattern).map_err(|wrong| error(wrong.to_string()))?;
        if let Some(group) = unknown_group(&pattern, template) {
            return Err(RuleError::new(
                flag,
                text,
                format!("the regex has no group {group}"),
                "write $1 for the first group, ${1} where a letter follows, $$ for a dollar sign",
            ));
        }
        Ok(Self { pattern, template: template.into() })
    }

    /// What is written between the groups, and to be written.
    pub fn template(&self) -> &str {
        &self.template
    }

    /// Appends the template with the groups of one match.
    pub fn expand(&self, captures: &Captures<'_>, out: &mut Vec<u8>) {
        captures.expand(self.template.as_bytes(), out);
    }
}

/// The first reference to a group that there is not: it would be replaced by nothing.
fn unknown_group(pattern: &Regex, template: &str) -> Option<String> {
    let mut rest = template;
    while let Some(dollar) = rest.find('$') {
        rest = &rest[dollar + 1..];
        if let Some(behind) = rest.strip_prefix('$') {
            rest = behind;
            continue;
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = match rest.strip_prefix('{') {
            Some(braced) => braced.split('}').next().unwrap_or_default(),
            None => &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())],
        };
        let is_known = match name.parse::<usize>() {
            Ok(number) => number < pattern.captures_len(),
            Err(_) => pattern.capture_names().flatten().any(|known| known == name),
        };
        if !is_known {
            return Some(format!("${name}"));
        }
    }
    None
}
