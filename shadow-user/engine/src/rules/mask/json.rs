//! Masks places in a JSON text; the rest of it stays octet by octet.
//!
//! The text is parsed one level at a time, as when answers are compared, and only where a mask may
//! apply below.

use serde_json::value::RawValue;

use super::{Action, MaskJson};
use crate::compare::json::{Members, parse, string};
use crate::compare::path::Step;
use crate::iss::Secret;
use crate::rules::Unmaskable;

/// Levels of a value that are looked into.
const MAX_DEPTH: usize = 64;

/// Octets that are parsed, again at each level.
const MAX_WORK: usize = 16 << 20;

/// A whole body with its places masked, of at most `bound` octets.
pub(super) fn mask(
    body: &[u8],
    masks: &[MaskJson],
    secret: &Secret,
    bound: usize,
) -> Result<Vec<u8>, Unmaskable> {
    let text = parse(body).ok_or(Unmaskable::Malformed)?.get();
    let start = offset(body, text);
    let (before, after) = (&body[..start], &body[start + text.len()..]);
    let mut masking =
        Masking { masks, secret, bound, work: MAX_WORK, steps: Vec::new(), out: before.to_vec() };
    masking.value(text)?;
    masking.out.extend_from_slice(after);
    Ok(masking.out)
}

/// Where in `whole` the slice `part` of it begins.
fn offset(whole: &[u8], part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

struct Masking<'a, 'm> {
    masks: &'m [MaskJson],
    secret: &'m Secret,
    bound: usize,
    work: usize,
    steps: Vec<Step<'a>>,
    out: Vec<u8>,
}

impl<'a> Masking<'a, '_> {
    /// Copies a value that is no place itself.
    fn value(&mut self, text: &'a str) -> Result<(), Unmaskable> {
        let is_nested = matches!(text.as_bytes().first(), Some(b'{' | b'['));
        if !is_nested || !self.masks.iter().any(|mask| mask.path.leads_below(&self.steps)) {
            return self.copy(text);
        }
        if self.steps.len() >= MAX_DEPTH || self.work < text.len() {
            return Err(Unmaskable::Work);
        }
        self.work -= text.len();
        let malformed = |_| Unmaskable::Malformed;
        let children: Vec<(Step<'a>, &'a RawValue)> = if text.starts_with('[') {
            let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(malformed)?;
            elements.into_iter().map(|value| (Step::Element, value)).collect()
        } else {
            let Members(members) = serde_json::from_str(text).map_err(malformed)?;
            members.into_iter().map(|(key, value)| (Step::Key(key), value)).collect()
        };
        self.copy(&text[..1])?;
        let mut copied = 1;
        let mut is_first = true;
        for (step, value) in children {
            let begin = offset(text.as_bytes(), value.get());
            // The comma before it, white space, and the member's name.
            let mut lead = &text[copied..begin];
            copied = begin + value.get().len();
            self.steps.push(step);
            let action = self.masks.iter().find(|mask| mask.path.matches(&self.steps));
            let action = action.map(|mask| &mask.action);
            if action != Some(&Action::Remove) {
                if is_first && let Some(rest) = lead.trim_ascii_start().strip_prefix(',') {
                    lead = rest;
                }
                is_first = false;
                self.copy(lead)?;
                match action {
                    Some(action) => self.masked(action, value.get())?,
                    None => self.value(value.get())?,
                }
            }
            self.steps.pop();
        }
        self.copy(&text[copied..])
    }

    /// A string is hashed as what it stands for, so that its hash is that of the same value elsewhere.
    fn masked(&mut self, action: &Action, text: &str) -> Result<(), Unmaskable> {
        let value = if text.starts_with('"') { string(text) } else { None };
        let value = value.as_deref().unwrap_or(text);
        let masked = action.mask(self.secret, value.as_bytes()).unwrap_or_default();
        let masked = serde_json::Value::from(String::from_utf8_lossy(&masked)).to_string();
        self.copy(&masked)
    }

    fn copy(&mut self, text: &str) -> Result<(), Unmaskable> {
        if self.out.len() + text.len() > self.bound {
            return Err(Unmaskable::TooLong);
        }
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
