//! A value as it was given, with where it was given: what an error names.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

/// Why the daemon does not start: one line that names the setting, what is wrong
/// with it and what to do. The process ends with status 2.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{subject}: {what}; {remedy}")]
pub struct Refusal {
    /// The flag or the field with its value, or what else was looked at.
    pub subject: String,
    /// What is wrong.
    pub what: String,
    /// What the user can do about it.
    pub remedy: String,
}

impl Refusal {
    /// A refusal that no single setting is to blame for.
    pub fn new(
        subject: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { subject: subject.into(), what: what.into(), remedy: remedy.into() }
    }
}

/// What is wrong with a value, and what to give instead.
pub type Wrong = (String, String);

/// What a text means; or what is wrong with it.
pub type Parsed<T> = Result<T, Wrong>;

/// A text means nothing.
pub fn wrong<T>(what: impl Into<String>, remedy: impl Into<String>) -> Parsed<T> {
    Err((what.into(), remedy.into()))
}

/// The digits before and behind a number's point, as of 12.5; `0` behind it where there is none.
pub fn decimal(number: &str) -> Option<(&str, &str)> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(whole) && is_number(part)).then_some((whole, part))
}

/// Where a value came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// The file of `--config`.
    File(Arc<Path>),
    /// Nobody gave it.
    Default,
}

/// A value, what it was parsed from, and where that was given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting<T> {
    /// The flag without its dashes, which is also the field of the file.
    pub name: &'static str,
    /// The value as the user wrote it.
    pub text: String,
    /// Where the user wrote it.
    pub origin: Origin,
    /// What it means.
    pub value: T,
}

impl<T> Setting<T> {
    /// An error that names this setting.
    pub fn refuse(&self, what: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal::new(self.to_string(), what, remedy)
    }

    /// The same setting with a parsed value; `parse` says what is wrong and what to do.
    pub fn parse<U>(self, parse: impl FnOnce(&str) -> Parsed<U>) -> Result<Setting<U>, Refusal> {
        match parse(&self.text) {
            Ok(value) => {
                Ok(Setting { name: self.name, text: self.text, origin: self.origin, value })
            }
            Err((what, remedy)) => Err(self.refuse(what, remedy)),
        }
    }
}

impl<T> fmt::Display for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Flag => write!(f, "--{} {}", self.name, self.text),
            Origin::File(path) => {
                write!(f, "{} = \"{}\" in {}", self.name, self.text, path.display())
            }
            Origin::Default => write!(f, "--{} {} (the default)", self.name, self.text),
        }
    }
}

/// A value before anyone looked into it: any scalar, on the command line or in the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Text(pub String);

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number or a boolean")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Text, E> {
        Ok(Text(value.to_owned()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }
}

/// One value or a list of them: `port = 80` and `port = [80, "10.0.0.5:443"]`.
pub fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Text>, D::Error> {
    deserializer.deserialize_any(ManyVisitor)
}

struct ManyVisitor;

impl<'de> Visitor<'de> for ManyVisitor {
    type Value = Vec<Text>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number or a list of them")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Vec<Text>, E> {
        Ok(vec![Text(value.to_owned())])
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Vec<Text>, E> {
        Ok(vec![Text(value.to_string())])
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Vec<Text>, E> {
        Ok(vec![Text(value.to_string())])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Text>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        Ok(values)
    }
}
