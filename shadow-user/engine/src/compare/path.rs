//! Where in a JSON value a difference is, and patterns of such places.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A step from a JSON value to one within it.
#[derive(Clone, Debug)]
pub(crate) enum Step<'a> {
    /// A member of an object.
    Key(Cow<'a, str>),
    /// A member of an object that is a map: its keys are data, and folded in paths.
    Pooled(Cow<'a, str>),
    /// An element of an array.
    Element,
}

/// Appends the folded path that `steps` lead to.
pub(super) fn write(steps: &[Step<'_>], out: &mut String) {
    for step in steps {
        match step {
            Step::Key(key) if is_plain(key) => {
                out.push('.');
                out.push_str(key);
            }
            Step::Key(key) => {
                let _ = write!(out, "[{}]", serde_json::Value::from(key.as_ref()));
            }
            Step::Pooled(_) => out.push_str("{}"),
            Step::Element => out.push_str("[]"),
        }
    }
}

/// Whether a key can stand in a path without quotes.
fn is_plain(key: &str) -> bool {
    let special = |byte: u8| matches!(byte, b'.' | b'[' | b']' | b'{' | b'}' | b'*' | b'"' | b'\'');
    !key.is_empty() && !key.bytes().any(|byte| special(byte) || byte <= b' ' || byte == 0x7f)
}

/// A set of places in JSON bodies: a subset of JSONPath (RFC 9535) in which every array position is
/// the same place. `$.user.name`, `$.items[*].price`, `$.users.*.age`, `$["odd key"]`, `$..updatedAt`;
/// or as reports write it: `body.items[].price`, `body.users{}.age`. What lies below a place belongs to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JsonPath(Vec<Segment>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Segment {
    Key(String),
    AnyKey,
    AnyElement,
    /// Any number of steps, none included.
    Descend,
}

/// What is wrong with a path, and at which octet of it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} at character {at}")]
pub struct JsonPathError {
    /// What is wrong.
    pub what: &'static str,
    /// Counts characters from 1.
    pub at: usize,
}

impl JsonPath {
    /// Longest path, in segments: matching takes time with each `..`.
    const MAX: usize = 32;

    /// Reads a path.
    ///
    /// # Errors
    ///
    /// It is not of the form above.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let mut parser = Parser { text, rest: text };
        let segments = parser.path()?;
        if segments.is_empty() {
            return Err(parser.error("the path of the whole body"));
        }
        if segments.len() > Self::MAX {
            return Err(parser.error("more than 32 steps"));
        }
        Ok(Self(segments))
    }

    /// Whether `steps` lead to one of the places.
    pub(crate) fn matches(&self, steps: &[Step<'_>]) -> bool {
        matches(&self.0, steps)
    }

    /// Whether one of the places may be below what `steps` lead to.
    pub(crate) fn leads_below(&self, steps: &[Step<'_>]) -> bool {
        let descend = self.0.iter().position(|segment| *segment == Segment::Descend);
        match descend {
            // Behind `..` anything may come, once all that stands before it fits.
            Some(before) => {
                matches(&self.0[..before.min(steps.len())], &steps[..before.min(steps.len())])
            }
            None => steps.len() < self.0.len() && matches(&self.0[..steps.len()], steps),
        }
    }
}

fn matches(pattern: &[Segment], steps: &[Step<'_>]) -> bool {
    let Some((segment, pattern)) = pattern.split_first() else { return steps.is_empty() };
    if *segment == Segment::Descend {
        return (0..=steps.len()).any(|skip| matches(pattern, &steps[skip..]));
    }
    let Some((step, steps)) = steps.split_first() else { return false };
    let fits = match (segment, step) {
        (Segment::Key(name), Step::Key(key) | Step::Pooled(key)) => name == key.as_ref(),
        (Segment::AnyKey, Step::Key(_) | Step::Pooled(_)) => true,
        (Segment::AnyElement, Step::Element) => true,
        _ => false,
    };
    fits && matches(pattern, steps)
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl Parser<'_> {
    fn error(&self, what: &'static str) -> JsonPathError {
        let read = self.text.len() - self.rest.len();
        JsonPathError { what, at: self.text[..read].chars().count() + 1 }
    }

    fn take(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn path(&mut self) -> Result<Vec<Segment>, JsonPathError> {
        if !self.take("$") && !self.take("body") {
            return Err(self.error("no $ (the body)"));
        }
        let mut segments = Vec::new();
        while !self.rest.is_empty() {
            if self.take("..") {
                if segments.contains(&Segment::Descend) {
                    return Err(self.error("a second .."));
                }
                segments.push(Segment::Descend);
                if !self.rest.starts_with('[') {
                    segments.push(self.name()?);
                }
            } else if self.take(".") {
                segments.push(self.name()?);
            } else if self.take("{}") {
                segments.push(Segment::AnyKey);
            } else if self.take("[]") || self.take("[*]") {
                segments.push(Segment::AnyElement);
            } else if self.rest.starts_with('[') {
                segments.push(self.quoted()?);
            } else {
                return Err(self.error("neither . nor ["));
            }
        }
        Ok(segments)
    }

    fn name(&mut self) -> Result<Segment, JsonPathError> {
        let end = self.rest.find(['.', '[', '{']).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name == "*" {
            self.rest = rest;
            return Ok(Segment::AnyKey);
        }
        if !is_plain(name) {
            return Err(self.error("no name, or one that needs [\"…\"]"));
        }
        self.rest = rest;
        Ok(Segment::Key(name.to_owned()))
    }

    /// `["name"]` with JSON's escapes, or `['name']` without any.
    fn quoted(&mut self) -> Result<Segment, JsonPathError> {
        let inner = &self.rest[1..];
        if let Some(single) = inner.strip_prefix('\'') {
            let Some((name, rest)) = single.split_once("']") else {
                return Err(self.error("no closing ']"));
            };
            self.rest = rest;
            return Ok(Segment::Key(name.to_owned()));
        }
        if !inner.starts_with('"') {
            return Err(self.error("neither [*] nor [\"name\"] (positions are one place)"));
        }
        let mut values = serde_json::Deserializer::from_str(inner).into_iter::<String>();
        match values.next() {
            Some(Ok(name)) if inner[values.byte_offset()..].starts_with(']') => {
                self.rest = &inner[values.byte_offset() + 1..];
                Ok(Segment::Key(name))
            }
            _ => Err(self.error("no closing \"]")),
        }
    }
}
