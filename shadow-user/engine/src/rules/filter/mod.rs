//! Which requests are sent: a filter, and the flags that are shorthands of one.

mod parse;

use std::borrow::Cow;

use regex::bytes::Regex;

use super::message::{Message, Target};
use super::pattern::compile;
use super::query;
use crate::compare::RuleError;
use crate::compare::ignore::is_token;

/// A condition on a request's head.
#[derive(Clone, Debug)]
pub struct Filter(Expr);

#[derive(Clone, Debug)]
enum Expr {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    /// Whether a value of the field passes; none does where there is no value.
    Test(Field, Test),
}

/// What of a request is looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Field {
    /// Letters in either case.
    Method,
    /// Without the query, as it came.
    Path,
    /// Without the port, letters in either case.
    Host,
    /// Each line by itself.
    Header(Box<str>),
    /// Each value of the parameter, decoded.
    Query(Box<str>),
}

#[derive(Clone, Debug)]
enum Test {
    Exists,
    Is(Box<[u8]>),
    Matches(Regex),
}

const NAME_REGEX: &str =
    "write the name as it stands before the colon, = and a regex, as Accept=json";

impl Filter {
    /// Reads `--filter`, such as `method in (GET, HEAD) and not header["x-debug"] = "1"`.
    ///
    /// # Errors
    ///
    /// It is not of that form; the error says at which character.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        parse::parse(text).map(Self).map_err(|wrong| {
            RuleError::new(
                "--filter",
                text,
                wrong,
                "write such as method = GET and path ~ \"^/api/\"",
            )
        })
    }

    /// Reads `--method`: one of these methods, separated by commas.
    ///
    /// # Errors
    ///
    /// One is no method.
    pub fn method(text: &str) -> Result<Self, RuleError> {
        let methods = text.split(',').map(str::trim).map(|method| {
            if !is_token(method) {
                let remedy = "write methods with commas between them, as GET,HEAD";
                return Err(RuleError::new("--method", text, "has no method there", remedy));
            }
            Ok(Expr::Test(Field::Method, Test::Is(method.as_bytes().into())))
        });
        methods.collect::<Result<_, _>>().map(|methods| Self(Expr::Any(methods)))
    }

    /// What RFC 9110, 9.2.1 calls safe, without TRACE: GET, HEAD and OPTIONS.
    #[must_use]
    pub fn safe_methods() -> Self {
        let is = |method: &str| Expr::Test(Field::Method, Test::Is(method.as_bytes().into()));
        Self(Expr::Any(["GET", "HEAD", "OPTIONS"].map(is).into()))
    }

    /// Reads `--path`: the path matches this.
    ///
    /// # Errors
    ///
    /// It is no regex.
    pub fn path(flag: &'static str, text: &str) -> Result<Self, RuleError> {
        let regex = compile(text).map_err(|wrong| {
            RuleError::new(flag, text, wrong.to_string(), "write a regex, as ^/api/")
        })?;
        Ok(Self(Expr::Test(Field::Path, Test::Matches(regex))))
    }

    /// Reads `--header`: a line of field `NAME` matches, as `NAME=REGEX`.
    ///
    /// # Errors
    ///
    /// It is not of that form.
    pub fn header(flag: &'static str, text: &str) -> Result<Self, RuleError> {
        let error = |what: String| RuleError::new(flag, text, what, NAME_REGEX);
        let (name, regex) = text.split_once('=').ok_or_else(|| error("has no =".into()))?;
        if !is_token(name) {
            return Err(error(format!("{name:?} is no field's name")));
        }
        let regex = compile(regex).map_err(|wrong| error(wrong.to_string()))?;
        Ok(Self(Expr::Test(Field::Header(name.to_ascii_lowercase().into()), Test::Matches(regex))))
    }

    /// Any of several.
    #[must_use]
    pub fn any(filters: impl IntoIterator<Item = Self>) -> Self {
        Self(Expr::Any(filters.into_iter().map(|filter| filter.0).collect()))
    }

    /// The opposite.
    #[must_use]
    pub fn negated(self) -> Self {
        Self(Expr::Not(Box::new(self.0)))
    }

    /// Whether a request passes.
    pub(super) fn passes(&self, message: &Message<'_>) -> bool {
        self.0.passes(message)
    }
}

impl Expr {
    fn passes(&self, message: &Message<'_>) -> bool {
        match self {
            Self::All(all) => all.iter().all(|expr| expr.passes(message)),
            Self::Any(any) => any.iter().any(|expr| expr.passes(message)),
            Self::Not(expr) => !expr.passes(message),
            Self::Test(field, test) => field.any(message, |value| test.passes(value, field)),
        }
    }
}

impl Field {
    /// Whether any of the field's values passes.
    fn any(&self, message: &Message<'_>, passes: impl Fn(&[u8]) -> bool) -> bool {
        let target = || Target::parse(&message.target);
        match self {
            Self::Method => passes(message.method.as_bytes()),
            Self::Path => passes(target().map_or(&*message.target, |target| target.path)),
            Self::Host => {
                // RFC 9112, 3.2.2: the target's host overrides the field.
                let authority = target().map(|target| target.authority).unwrap_or_default();
                match authority {
                    [] => message.fields.values("host").any(|host| passes(without_port(host))),
                    authority => passes(without_port(authority)),
                }
            }
            Self::Header(name) => message.fields.values(name).any(passes),
            Self::Query(name) => target().and_then(|target| target.query).is_some_and(|query| {
                query::pairs(query).any(|(key, value): (Cow<'_, str>, _)| {
                    *key == **name && passes(value.as_bytes())
                })
            }),
        }
    }
}

impl Test {
    fn passes(&self, value: &[u8], field: &Field) -> bool {
        match self {
            Self::Exists => true,
            Self::Is(wanted) if matches!(field, Field::Method | Field::Host) => {
                value.eq_ignore_ascii_case(wanted)
            }
            Self::Is(wanted) => value == &**wanted,
            Self::Matches(regex) => regex.is_match(value),
        }
    }
}

/// A host of `host:port`, or of either alone; an IPv6 address keeps its brackets.
fn without_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|octet| matches!(octet, b':' | b']')) {
        Some(colon) if authority[colon] == b':' => &authority[..colon],
        _ => authority,
    }
}
