//! Compares heads as sets of names and values.

use std::collections::{BTreeMap, BTreeSet};

use httparse::Header;

use super::Kind;
use super::collect::Collector;
use super::fields;
use crate::exchange::Head;

/// Fields that say nothing of the answer: about the connection and the message's framing, the
/// time, the server's name, the way through proxies, and this one request.
const IGNORED: &[&str] = &[
    "age",
    "alt-svc",
    "cf-ray",
    "connection",
    "content-length",
    "correlation-id",
    "date",
    "keep-alive",
    "nel",
    "proxy-connection",
    "report-to",
    "request-id",
    "server",
    "server-timing",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "via",
    "x-amz-cf-id",
    "x-amz-id-2",
    "x-amz-request-id",
    "x-amzn-requestid",
    "x-amzn-trace-id",
    "x-b3-parentspanid",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-cache",
    "x-cache-hits",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-envoy-upstream-service-time",
    "x-powered-by",
    "x-request-id",
    "x-response-time",
    "x-runtime",
    "x-served-by",
    "x-timer",
    "x-trace-id",
];

/// Fields of which only the presence is compared: values are made of times, of inode numbers, or of
/// all the traffic that a server saw.
const VALUE_IGNORED: &[&str] = &[
    "etag",
    "expires",
    "last-modified",
    "ratelimit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "retry-after",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
];

/// Fields whose value is a URL.
const URLS: &[&str] = &["location", "content-location"];

/// What of heads is compared.
#[derive(Clone, Debug, Default)]
pub(super) struct HeaderRules {
    ignored: BTreeSet<Box<str>>,
    queries: Vec<Box<str>>,
}

impl HeaderRules {
    pub fn ignore(&mut self, name: Box<str>) {
        self.ignored.insert(name);
    }

    pub fn ignore_query(&mut self, name: Box<str>) {
        self.queries.push(name);
    }

    fn ignores(&self, name: &str) -> bool {
        IGNORED.binary_search(&name).is_ok() || self.ignored.contains(name)
    }

    /// A URL without the parameters that are ignored.
    fn url(&self, value: &[u8]) -> Vec<u8> {
        let Some(query) = value.iter().position(|byte| *byte == b'?') else {
            return value.to_vec();
        };
        let (path, query) = value.split_at(query);
        let end = query.iter().position(|byte| *byte == b'#').unwrap_or(query.len());
        let (query, fragment) = query.split_at(end);
        let mut out = path.to_vec();
        let mut joint = b'?';
        for parameter in query[1..].split(|byte| *byte == b'&') {
            let name = parameter.split(|byte| *byte == b'=').next().unwrap_or_default();
            if !self.queries.iter().any(|ignored| ignored.as_bytes() == name) {
                out.push(joint);
                out.extend_from_slice(parameter);
                joint = b'&';
            }
        }
        out.extend_from_slice(fragment);
        out
    }
}

/// Compares two heads or trailer sections; `place` begins the differences' paths.
pub(super) fn compare(
    place: &str,
    production: &Head,
    shadow: &Head,
    rules: &HeaderRules,
    found: &mut Collector<'_>,
) {
    match (production, shadow) {
        (Head::Http1(production), Head::Http1(shadow)) if production == shadow => return,
        _ if production.is_empty() && shadow.is_empty() => return,
        _ => {}
    }
    let compared = fields::with(production, |production| {
        fields::with(shadow, |shadow| sets(place, production, shadow, rules, found))
    });
    match compared {
        Ok(Ok(())) => {}
        Ok(Err(_)) => found.add(place, Kind::Type, None, Some(b"unreadable")),
        // Production's own head says nothing of the shadow's, if that is as odd.
        Err(_) if fields::with(shadow, |_| ()).is_err() => {}
        Err(_) => found.add(place, Kind::Type, Some(b"unreadable"), None),
    }
}

type Values<'a> = (Vec<&'a [u8]>, Vec<&'a [u8]>);

fn sets(
    place: &str,
    production: &[Header<'_>],
    shadow: &[Header<'_>],
    rules: &HeaderRules,
    found: &mut Collector<'_>,
) {
    let equal =
        |a: &Header<'_>, b: &Header<'_>| a.value == b.value && a.name.eq_ignore_ascii_case(b.name);
    // Fields in the same place need no set; as a rule that leaves one or two.
    let common = production.len().min(shadow.len());
    if production.len() == shadow.len() && (0..common).all(|at| equal(&production[at], &shadow[at]))
    {
        return;
    }
    let mut names: BTreeMap<String, Values<'_>> = BTreeMap::new();
    let name_of = |at: usize, header: &Header<'_>, other: &[Header<'_>]| {
        if at < common && equal(header, &other[at]) {
            return None;
        }
        // Most of what differs is ignored: it takes no memory.
        let mut short = [0_u8; 32];
        if let Some(lower) = short.get_mut(..header.name.len()) {
            lower.copy_from_slice(header.name.as_bytes());
            lower.make_ascii_lowercase();
            if str::from_utf8(lower).is_ok_and(|name| rules.ignores(name)) {
                return None;
            }
        }
        Some(header.name.to_ascii_lowercase())
    };
    for (at, header) in production.iter().enumerate() {
        if let Some(name) = name_of(at, header, shadow) {
            names.entry(name).or_default().0.push(header.value);
        }
    }
    for (at, header) in shadow.iter().enumerate() {
        if let Some(name) = name_of(at, header, production) {
            names.entry(name).or_default().1.push(header.value);
        }
    }
    for (name, (mut ours, mut theirs)) in names {
        if rules.ignores(&name) {
            continue;
        }
        // What was left out above, being equal on both sides, still counts as being there.
        let present = |headers: &[Header<'_>]| {
            headers.iter().any(|header| header.name.eq_ignore_ascii_case(&name))
        };
        let path = format!("{place}.{name}");
        if name == "set-cookie" {
            cookies(&path, &ours, &theirs, found);
            continue;
        }
        match (present(production), present(shadow)) {
            (true, false) => {
                found.add(&path, Kind::Missing, Some(&list(&ours)), None);
                continue;
            }
            (false, true) => {
                found.add(&path, Kind::Extra, None, Some(&list(&theirs)));
                continue;
            }
            _ => {}
        }
        if VALUE_IGNORED.binary_search(&name.as_str()).is_ok() {
            continue;
        }
        if !rules.queries.is_empty() && URLS.contains(&name.as_str()) {
            let url = |values: &[&[u8]]| -> Vec<_> {
                values.iter().map(|value| rules.url(value)).collect()
            };
            if url(&ours) == url(&theirs) {
                continue;
            }
        }
        // Lines of one name are one list (RFC 9110, 5.3); their order is left aside.
        if list(&ours) == list(&theirs) {
            continue;
        }
        ours.sort_unstable();
        theirs.sort_unstable();
        if ours != theirs {
            found.add(&path, Kind::Primitive, Some(&list(&ours)), Some(&list(&theirs)));
        }
    }
}

/// The values as one list, white space at the joints made equal.
fn list(values: &[&[u8]]) -> Vec<u8> {
    let elements: Vec<_> = values
        .iter()
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .collect();
    elements.join(&b", "[..])
}

/// Cookies are compared by name: values are made for each client.
fn cookies(path: &str, production: &[&[u8]], shadow: &[&[u8]], found: &mut Collector<'_>) {
    fn name<'a>(cookie: &&'a [u8]) -> &'a [u8] {
        cookie.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii()
    }
    let ours: BTreeSet<_> = production.iter().map(name).collect();
    let theirs: BTreeSet<_> = shadow.iter().map(name).collect();
    let path = |name: &[u8]| format!("{path}.{}", String::from_utf8_lossy(name));
    for name in ours.difference(&theirs) {
        found.add(&path(name), Kind::Missing, Some(name), None);
    }
    for name in theirs.difference(&ours) {
        found.add(&path(name), Kind::Extra, None, Some(name));
    }
}
