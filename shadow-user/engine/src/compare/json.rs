//! Compares JSON values: differences by path and kind.
//!
//! Values are parsed one level at a time, and only where their texts differ. That keeps the texts
//! of numbers, repeated members and the order of members at hand, and does not recurse in the parser.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use twox_hash::XxHash64;

use super::collect::Collector;
use super::path::{self, JsonPath, Step};
use super::rules::Bounds;
use super::{Kind, Opaque};

/// An object of more members is a map: its keys are data (Diffy's rule).
const MAX_MEMBERS: usize = 50;

/// An object with a longer key is a map.
const MAX_KEY: usize = 100;

/// A body's text, if it is JSON.
pub(crate) fn parse(body: &[u8]) -> Option<&RawValue> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice(body).ok()
}

/// Compares two bodies.
pub(super) fn compare(
    production: &RawValue,
    shadow: &RawValue,
    ignored: &[JsonPath],
    bounds: &Bounds,
    found: &mut Collector<'_>,
) {
    let mut comparison = Comparison {
        ignored,
        depth: bounds.depth,
        work: bounds.work,
        out_of_work: false,
        steps: Vec::new(),
        found,
    };
    comparison.value(production.get(), shadow.get());
    if comparison.out_of_work {
        comparison.found.opaque = Some(Opaque::Work);
    }
}

struct Comparison<'a, 'c, 'n> {
    ignored: &'a [JsonPath],
    depth: usize,
    work: usize,
    out_of_work: bool,
    steps: Vec<Step<'a>>,
    found: &'c mut Collector<'n>,
}

/// One level of a value.
enum Level<'a> {
    Null,
    Bool,
    Number,
    String,
    Array(Vec<&'a RawValue>),
    Object(Vec<Member<'a>>),
}

/// A member's name, behind its escapes, and its value.
pub(crate) type Member<'a> = (Cow<'a, str>, &'a RawValue);

impl Level<'_> {
    fn same_type(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl<'a> Comparison<'a, '_, '_> {
    fn value(&mut self, production: &'a str, shadow: &'a str) {
        if production == shadow {
            return;
        }
        let (Some(ours), Some(theirs)) = (self.level(production), self.level(shadow)) else {
            return self.add(Kind::Primitive, Some(production), Some(shadow));
        };
        match (ours, theirs) {
            (Level::Object(ours), Level::Object(theirs)) => self.object(ours, theirs),
            (Level::Array(ours), Level::Array(theirs)) => {
                self.array(production, shadow, &ours, &theirs);
            }
            (ours, theirs) if !ours.same_type(&theirs) => {
                self.add(Kind::Type, Some(production), Some(shadow));
            }
            (Level::Number, _) if number(production) == number(shadow) => {}
            (Level::String, _) if string(production).is_some_and(|s| string(shadow) == Some(s)) => {
            }
            _ => self.add(Kind::Primitive, Some(production), Some(shadow)),
        }
    }

    /// Takes one level of a value apart, if there is work and depth left for it.
    fn level<'t>(&mut self, text: &'t str) -> Option<Level<'t>> {
        match text.as_bytes().first()? {
            b'n' => return Some(Level::Null),
            b't' | b'f' => return Some(Level::Bool),
            b'"' => return Some(Level::String),
            b'[' | b'{' => {}
            _ => return Some(Level::Number),
        }
        if self.steps.len() >= self.depth || self.work < text.len() {
            self.out_of_work = true;
            return None;
        }
        self.work -= text.len();
        if text.starts_with('[') {
            serde_json::from_str(text).ok().map(Level::Array)
        } else {
            serde_json::from_str::<Members<'_>>(text).ok().map(|members| Level::Object(members.0))
        }
    }

    fn object(&mut self, mut ours: Vec<Member<'a>>, mut theirs: Vec<Member<'a>>) {
        let pooled = is_map(&ours) || is_map(&theirs);
        // Repeated members pair off in their order, since the sort is stable.
        ours.sort_by(|a, b| a.0.cmp(&b.0));
        theirs.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(a), Some(b)) => a.0.cmp(&b.0),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return,
            };
            let our = if order.is_le() { ours.next() } else { None };
            let their = if order.is_ge() { theirs.next() } else { None };
            let (our_value, their_value) =
                (our.as_ref().map(|m| m.1.get()), their.as_ref().map(|m| m.1.get()));
            if our_value == their_value {
                continue;
            }
            let Some((key, _)) = our.or(their) else { continue };
            self.steps.push(if pooled { Step::Pooled(key) } else { Step::Key(key) });
            if !self.is_ignored() {
                match (our_value, their_value) {
                    (Some(a), Some(b)) => self.value(a, b),
                    (Some(a), None) => self.add(Kind::Missing, Some(a), None),
                    (None, b) => self.add(Kind::Extra, None, b),
                }
            }
            self.steps.pop();
        }
    }

    fn array(
        &mut self,
        production: &'a str,
        shadow: &'a str,
        ours: &[&'a RawValue],
        theirs: &[&'a RawValue],
    ) {
        self.steps.push(Step::Element);
        let ignored = self.is_ignored();
        self.steps.pop();
        if ignored {
            return;
        }
        if ours.len() != theirs.len() {
            let count = |elements: &[&RawValue]| format!("{} elements", elements.len());
            return self.add(Kind::Length, Some(&count(ours)), Some(&count(theirs)));
        }
        if ours.len() > 1 && self.same_multiset(ours, theirs) {
            return self.add(Kind::Order, Some(production), Some(shadow));
        }
        self.steps.push(Step::Element);
        for (ours, theirs) in ours.iter().zip(theirs) {
            self.value(ours.get(), theirs.get());
        }
        self.steps.pop();
    }

    /// Whether the same values are there in whatever order; in the same order they are not equal texts.
    fn same_multiset(&mut self, ours: &[&RawValue], theirs: &[&RawValue]) -> bool {
        // By hash: half a million short values fit into a body, and a text each would be a heap of them.
        let mut text = String::new();
        let mut canonical = |values: &[&RawValue]| -> Option<Vec<u64>> {
            let mut hashes = Vec::with_capacity(values.len());
            for value in values {
                text.clear();
                self.canonical(value.get(), 0, &mut text)?;
                hashes.push(XxHash64::oneshot(0, text.as_bytes()));
            }
            Some(hashes)
        };
        let (Some(mut ours), Some(mut theirs)) = (canonical(ours), canonical(theirs)) else {
            return false;
        };
        if ours == theirs {
            return false;
        }
        ours.sort_unstable();
        theirs.sort_unstable();
        ours == theirs
    }

    /// Writes a value so that equal values have equal texts.
    fn canonical(&mut self, text: &str, depth: usize, out: &mut String) -> Option<()> {
        if depth >= self.depth {
            self.out_of_work = true;
            return None;
        }
        match self.level(text)? {
            Level::Null | Level::Bool => out.push_str(text),
            Level::Number => out.push_str(&number(text).to_string()),
            Level::String => match string(text) {
                Some(string) => out.push_str(&serde_json::Value::from(string).to_string()),
                None => out.push_str(text),
            },
            Level::Array(elements) => {
                out.push('[');
                for element in elements {
                    self.canonical(element.get(), depth + 1, out)?;
                    out.push(',');
                }
                out.push(']');
            }
            Level::Object(mut members) => {
                members.sort_by(|a, b| a.0.cmp(&b.0));
                out.push('{');
                for (key, value) in members {
                    out.push_str(&serde_json::Value::from(key.as_ref()).to_string());
                    out.push(':');
                    self.canonical(value.get(), depth + 1, out)?;
                    out.push(',');
                }
                out.push('}');
            }
        }
        Some(())
    }

    fn is_ignored(&self) -> bool {
        self.ignored.iter().any(|path| path.matches(&self.steps))
    }

    fn add(&mut self, kind: Kind, production: Option<&str>, shadow: Option<&str>) {
        let mut path = String::from("body");
        path::write(&self.steps, &mut path);
        self.found.add(&path, kind, production.map(str::as_bytes), shadow.map(str::as_bytes));
    }
}

fn is_map(members: &[Member<'_>]) -> bool {
    members.len() > MAX_MEMBERS
        || members
            .iter()
            .any(|(key, _)| key.len() > MAX_KEY || key.starts_with(|c: char| c.is_ascii_digit()))
}

/// A JSON string's value; none where it is no Unicode string (a lone surrogate).
pub(crate) fn string(text: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(text).ok().map(|text| text.0)
}

/// A number by its value, however large or exact: 1, 1.0 and 10e-1 are one number.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Number<'a> {
    negative: bool,
    digits: Cow<'a, str>,
    /// Of ten; none where it is beyond any use, and the text stands for itself.
    exponent: Option<i64>,
}

impl fmt::Display for Number<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        write!(f, "{sign}{}e{:?}", self.digits, self.exponent)
    }
}

fn number(text: &str) -> Number<'_> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits: Cow<'_, str> =
        if fraction.is_empty() { whole.into() } else { format!("{whole}{fraction}").into() };
    let significant = digits.trim_start_matches('0');
    let shortest = significant.trim_end_matches('0');
    if shortest.is_empty() {
        return Number { negative: false, digits: "0".into(), exponent: Some(0) };
    }
    let shift = (significant.len() - shortest.len()) as i64 - fraction.len() as i64;
    match exponent.parse::<i64>().ok().and_then(|exponent| exponent.checked_add(shift)) {
        Some(exponent) => {
            Number { negative, digits: shortest.to_owned().into(), exponent: Some(exponent) }
        }
        None => Number { negative, digits: magnitude.into(), exponent: None },
    }
}

/// An object's members as they stand, repeated ones too.
pub(crate) struct Members<'a>(pub Vec<Member<'a>>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                #[derive(Deserialize)]
                #[serde(transparent)]
                struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
                let mut members = Vec::new();
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
