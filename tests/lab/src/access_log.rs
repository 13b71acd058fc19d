//! Access logs, and what two of them must have in common.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::traffic::Completed;

/// One request in nginx's access log.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Entry {
    /// `X-Request-Id`, empty without one.
    pub id: String,
    /// `GET`, …
    pub method: String,
    /// Path and query as received.
    pub uri: String,
    /// The status code answered; 499 when the client went away.
    pub status: u16,
    /// Bytes of request line, header and framed body.
    pub request_length: u64,
    /// Bytes of response body sent.
    pub response_length: u64,
    /// Of the request's body, in the locations that hash it; else empty.
    pub body_sha256: String,
    /// `OK` when request and response were complete.
    pub completion: String,
    /// nginx's number of the connection.
    pub connection: u64,
    /// When it was logged, Unix seconds.
    pub at: f64,
    /// The connection's other end.
    #[serde(default)]
    pub remote: String,
    /// Its port.
    #[serde(default)]
    pub port: u16,
    /// The client by the PROXY protocol's header, empty without one.
    #[serde(default)]
    pub proxied: String,
    /// `X-Forwarded-For`, empty without one.
    #[serde(default)]
    pub forwarded: String,
    /// From the request's first octet until this line, in seconds to the millisecond.
    #[serde(default)]
    pub request_time: f64,
}

impl Entry {
    /// Reads a log of nginx as this lab configures it.
    ///
    /// # Errors
    /// When the file cannot be read or a line is not as configured.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let text = String::from_utf8_lossy(&text);
        text.lines().map(Self::parse).collect()
    }

    /// Parses one line of such a log.
    ///
    /// # Errors
    /// When it is not as configured.
    pub fn parse(line: &str) -> Result<Self> {
        serde_json::from_str(line).with_context(|| format!("log line {line:?}"))
    }

    /// The server saw only a part of it: nginx answers 400 or 408, or notes 499.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        matches!(self.status, 400 | 408 | 499)
    }

    /// What must be the same in both legs. Status too: both legs run the same service.
    fn essence(&self) -> (&str, &str, u16, u64, &str) {
        (&self.method, &self.uri, self.status, self.request_length, &self.body_sha256)
    }
}

/// How a log departs from what it should hold. Empty when it does not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Differences {
    /// Request ids that should be there and are not.
    pub missing: Vec<String>,
    /// Request ids that are there more than once.
    pub repeated: Vec<String>,
    /// Request ids that are there and nobody sent.
    pub unknown: Vec<String>,
    /// Requests that are not what was sent, with both versions.
    pub altered: Vec<String>,
}

impl Differences {
    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("missing", &self.missing),
            ("repeated", &self.repeated),
            ("unknown", &self.unknown),
            ("altered", &self.altered),
        ];
        let mut separator = "";
        for (kind, list) in kinds {
            if let Some(first) = list.first() {
                write!(f, "{separator}{} {kind} (first: {first})", list.len())?;
                separator = ", ";
            }
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

fn by_id(log: &[Entry]) -> BTreeMap<&str, Vec<&Entry>> {
    let mut map: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in log {
        map.entry(&entry.id).or_default().push(entry);
    }
    map
}

/// The shadow's log against production's: every request exactly once, and the same.
#[must_use]
pub fn compare(production: &[Entry], shadow: &[Entry]) -> Differences {
    let (wanted, found) = (by_id(production), by_id(shadow));
    let mut differences = Differences::default();
    for (id, entries) in &wanted {
        match found.get(id).map_or(&[][..], Vec::as_slice) {
            [] => differences.missing.push((*id).to_owned()),
            [one] if one.essence() != entries[0].essence() => {
                let pair = format!("{id}: {:?} became {:?}", entries[0].essence(), one.essence());
                differences.altered.push(pair);
            }
            [_] => {}
            [_, _, ..] => differences.repeated.push((*id).to_owned()),
        }
    }
    let unknown = found.keys().filter(|id| !wanted.contains_key(*id));
    differences.unknown = unknown.map(|id| (*id).to_owned()).collect();
    differences
}

/// A server's log against what the client saw answered: every request exactly once, and as sent.
#[must_use]
pub fn check_against_client(completed: &[Completed], log: &[Entry]) -> Differences {
    let found = by_id(log);
    let mut differences = Differences::default();
    for request in completed {
        match found.get(request.id.as_str()).map_or(&[][..], Vec::as_slice) {
            [] => differences.missing.push(request.id.clone()),
            [entry] => {
                let same = entry.method == request.method
                    && entry.uri == request.uri
                    && entry.status == request.status
                    && request.body_sha256.as_ref().is_none_or(|hash| *hash == entry.body_sha256);
                if !same {
                    differences.altered.push(format!("{request:?} became {entry:?}"));
                }
            }
            [_, _, ..] => differences.repeated.push(request.id.clone()),
        }
    }
    let sent: std::collections::BTreeSet<_> = completed.iter().map(|r| r.id.as_str()).collect();
    let unknown = found.keys().filter(|id| !sent.contains(*id));
    differences.unknown = unknown.map(|id| (*id).to_owned()).collect();
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        Entry {
            id: id.into(),
            method: "GET".into(),
            uri: "/".into(),
            status: 200,
            request_length: 50,
            response_length: 64,
            body_sha256: String::new(),
            completion: "OK".into(),
            connection: 1,
            at: 0.0,
            remote: String::new(),
            port: 0,
            proxied: String::new(),
            forwarded: String::new(),
            request_time: 0.0,
        }
    }

    #[test]
    fn equal_logs_have_no_differences_in_any_order() {
        let differences = compare(&[entry("a"), entry("b")], &[entry("b"), entry("a")]);
        assert!(differences.is_empty(), "{differences}");
    }

    #[test]
    fn each_kind_of_difference_is_found() {
        let altered = Entry { body_sha256: "00".into(), ..entry("c") };
        let production = [entry("a"), entry("b"), entry("c")];
        let differences = compare(&production, &[entry("b"), entry("b"), altered, entry("d")]);
        assert_eq!(differences.missing, ["a"]);
        assert_eq!(differences.repeated, ["b"]);
        assert_eq!(differences.altered.len(), 1);
        assert_eq!(differences.unknown, ["d"]);
        assert!(differences.to_string().starts_with("1 missing (first: a), 1 repeated"));
    }
}
