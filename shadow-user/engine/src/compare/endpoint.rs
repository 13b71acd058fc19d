//! Endpoints: requests grouped by method and path template.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use matchit::Router;

use super::fields;
use super::rules::RuleError;
use crate::exchange::{Exchange, Protocol, Status};

/// The endpoint of what is beyond the bound.
pub const OTHER: &str = "other";

/// Longest template, octets, and most segments of a path that are told apart.
const MAX_LEN: usize = 200;
const MAX_SEGMENTS: usize = 16;

/// One value of `--route`: `/users/{name}/posts`, `GET /files/{*rest}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// As the user wrote it.
    text: String,
    /// HTTP's method; any, if none.
    method: Option<Box<str>>,
    pattern: Box<str>,
}

impl Route {
    /// Reads a pattern with an optional method before it.
    ///
    /// # Errors
    ///
    /// The pattern is not a path, or its braces are wrong.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let (method, pattern) = match text.split_once(' ') {
            Some((method, pattern)) => (Some(method.into()), pattern.trim()),
            None => (None, text),
        };
        if !pattern.starts_with('/') {
            return Err(refuse(text, "no path"));
        }
        Router::new().insert(pattern, ()).map_err(|error| refuse(text, &error.to_string()))?;
        Ok(Self { text: text.to_owned(), method, pattern: pattern.into() })
    }
}

fn refuse(text: &str, what: &str) -> RuleError {
    RuleError::new(
        "--route",
        text,
        what,
        "write such as /users/{name}/posts or GET /files/{*rest}, each path by one rule",
    )
}

/// The routes of one method.
#[derive(Clone, Debug, Default)]
struct Table(Router<Arc<str>>);

/// The endpoints of a run: each is named once, and there is a bound on how many.
#[derive(Clone, Debug)]
pub struct Endpoints {
    any: Table,
    by_method: BTreeMap<Box<str>, Table>,
    known: BTreeSet<Arc<str>>,
    max: usize,
    other: Arc<str>,
    scratch: String,
}

impl Endpoints {
    /// None yet, with the user's rules, and at most `max`.
    ///
    /// # Errors
    ///
    /// Two rules cover the same paths.
    pub fn new(routes: &[Route], max: usize) -> Result<Self, RuleError> {
        let mut endpoints = Self {
            any: Table::default(),
            by_method: BTreeMap::new(),
            known: BTreeSet::new(),
            max,
            other: Arc::from(OTHER),
            scratch: String::new(),
        };
        for route in routes {
            let table = match &route.method {
                Some(method) => endpoints.by_method.entry(method.clone()).or_default(),
                None => &mut endpoints.any,
            };
            table
                .0
                .insert(route.pattern.as_ref(), Arc::from(route.pattern.as_ref()))
                .map_err(|error| refuse(&route.text, &error.to_string()))?;
        }
        Ok(endpoints)
    }

    /// The endpoint of an exchange.
    pub fn of(&mut self, exchange: &Exchange) -> Arc<str> {
        let mut name = std::mem::take(&mut self.scratch);
        name.clear();
        let request = &exchange.request;
        match exchange.protocol {
            Protocol::Redis => {
                push_cut(&mut name, &request.method);
                name.make_ascii_uppercase();
            }
            Protocol::Http2 if is_grpc(exchange) => push_cut(&mut name, path_of(&request.target)),
            Protocol::Http1 | Protocol::Http2 => {
                push_cut(&mut name, &request.method);
                name.push(' ');
                let path = path_of(&request.target);
                match self.routed(&request.method, path) {
                    Some(pattern) => name.push_str(&pattern),
                    None => fold(path, &mut name),
                }
            }
        }
        let endpoint = self.intern(&name);
        self.scratch = name;
        endpoint
    }

    /// Endpoints seen.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn routed(&self, method: &str, path: &str) -> Option<Arc<str>> {
        let table = |table: &Table| table.0.at(path).ok().map(|found| Arc::clone(found.value));
        self.by_method.get(method).and_then(table).or_else(|| table(&self.any))
    }

    fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.max {
            return Arc::clone(&self.other);
        }
        let name: Arc<str> = Arc::from(name);
        self.known.insert(Arc::clone(&name));
        name
    }
}

/// gRPC's endpoints are methods of services, and never templates.
fn is_grpc(exchange: &Exchange) -> bool {
    let grpc = |leg: &Result<crate::exchange::Response, _>| matches!(leg, Ok(response) if matches!(response.status, Status::Grpc(_)));
    grpc(&exchange.production)
        || grpc(&exchange.shadow)
        || fields::value(&exchange.request.head, "content-type")
            .is_some_and(|value| value.starts_with(b"application/grpc"))
}

/// The path of a request target (RFC 9112, 3.2), without its query.
fn path_of(target: &str) -> &str {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("/", |path| &rest[path..])
        }
        _ => target,
    }
}

fn push_cut(out: &mut String, text: &str) {
    let end = text.floor_char_boundary(MAX_LEN);
    out.push_str(&text[..end]);
}

/// Appends a path with its variable segments folded.
fn fold(path: &str, out: &mut String) {
    if !path.starts_with('/') {
        // `*` of OPTIONS stays; CONNECT's authority is no path.
        out.push_str(if path == "*" { "*" } else { "{authority}" });
        return;
    }
    let start = out.len();
    for (index, segment) in path[1..].split('/').enumerate() {
        out.push('/');
        if index >= MAX_SEGMENTS || out.len() - start + segment.len().min(8) > MAX_LEN {
            out.push('…');
            return;
        }
        fold_segment(segment, out);
    }
}

/// Appends a segment, or what it is folded to; of a file's name, its ending stays.
fn fold_segment(segment: &str, out: &mut String) {
    let (stem, ending) = match segment.rsplit_once('.') {
        Some((stem, ending)) if is_ending(ending) => (stem, Some(ending)),
        _ => (segment, None),
    };
    for (index, piece) in stem.split('.').enumerate() {
        if ending.is_none() {
            match class(stem) {
                Some(class) => out.push_str(class),
                None => push_cut(out, stem),
            }
            break;
        }
        if index > 0 {
            out.push('.');
        }
        match class(piece) {
            Some(class) => out.push_str(class),
            None => push_cut(out, piece),
        }
    }
    if let Some(ending) = ending {
        out.push('.');
        out.push_str(ending);
    }
}

fn is_ending(ending: &str) -> bool {
    (1..=5).contains(&ending.len())
        && ending.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && ending.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// What a variable segment is folded to.
fn class(segment: &str) -> Option<&'static str> {
    let bytes = segment.as_bytes();
    let count = |of: fn(&u8) -> bool| bytes.iter().filter(|byte| of(byte)).count();
    let digits = count(u8::is_ascii_digit);
    if digits == 0 && bytes.len() != 36 {
        return None;
    }
    if digits > 0 && digits + count(|byte| b"-+_.,:".contains(byte)) == bytes.len() {
        return Some("{id}");
    }
    if is_uuid(bytes) {
        return Some("{uuid}");
    }
    if digits > 0 && bytes.len() >= 16 && bytes.iter().all(u8::is_ascii_hexdigit) {
        return Some("{hash}");
    }
    let coded = count(|byte| byte.is_ascii_alphanumeric() || b"-_=+~".contains(byte));
    if bytes.len() < 20 || coded != bytes.len() {
        return None;
    }
    // Words joined by hyphens are a slug, which says more than a hash would.
    let (upper, lower) = (count(u8::is_ascii_uppercase), count(u8::is_ascii_lowercase));
    let joints = bytes.len() - upper - lower - digits;
    let mixed = upper >= 2 && (lower >= 2 || lower == 0) && joints * 8 <= bytes.len();
    let scattered = joints == 0 && digits >= 4;
    (mixed || scattered).then_some("{hash}")
}

/// 8-4-4-4-12 hexadecimal digits (RFC 9562, 4).
fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
