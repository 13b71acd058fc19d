//! Compares bodies, in so far as they were kept.

use super::collect::Collector;
use super::{Kind, Opaque, Rules, content, fields, json, redis};
use crate::exchange::{Body, Response, Status};

/// Compares two answers' bodies.
pub(super) fn compare(
    production: &Response,
    shadow: &Response,
    rules: &Rules,
    found: &mut Collector<'_>,
) {
    let (ours, theirs) = (&production.body, &shadow.body);
    let (Some(our_hash), Some(their_hash)) = (ours.hash, theirs.hash) else {
        // Bodies are not compared in this run.
        return;
    };
    if ours.len == theirs.len && our_hash == their_hash {
        return;
    }
    if !ours.is_whole() || !theirs.is_whole() {
        found.opaque = Some(Opaque::NotKept);
        return octets(ours, theirs, found);
    }
    if ours.kept == theirs.kept {
        return;
    }
    if matches!(production.status, Status::Redis(_)) {
        return redis::compare(&ours.kept, &theirs.kept, rules, found);
    }
    let decode = |response: &Response| {
        let encoding = fields::list(&response.head, "content-encoding");
        content::decode(&response.body.kept, &encoding, rules.bounds.decoded, rules.bounds.codings)
            .map(std::borrow::Cow::into_owned)
    };
    match (decode(production), decode(shadow)) {
        (Ok(our_body), Ok(their_body)) if our_body == their_body => {}
        (Ok(our_body), Ok(their_body)) => {
            if !is_json(production, &our_body) {
                return differ(&our_body, &their_body, found);
            }
            match (json::parse(&our_body), json::parse(&their_body)) {
                (Some(our_value), Some(their_value)) => {
                    json::compare(our_value, their_value, &rules.json, &rules.bounds, found);
                }
                (Some(_), None) => {
                    found.add("body", Kind::Type, Some(&our_body), Some(&their_body));
                }
                (None, _) => {
                    found.opaque = Some(Opaque::Malformed);
                    differ(&our_body, &their_body, found);
                }
            }
        }
        (Err(why), _) | (_, Err(why)) => {
            found.opaque = Some(why);
            octets(ours, theirs, found);
        }
    }
}

pub(super) fn differ(production: &[u8], shadow: &[u8], found: &mut Collector<'_>) {
    found.add("body", Kind::Primitive, Some(production), Some(shadow));
}

/// The bodies differ, and only their lengths can be shown.
fn octets(production: &Body, shadow: &Body, found: &mut Collector<'_>) {
    let text = |body: &Body| format!("{} bytes", body.len);
    differ(text(production).as_bytes(), text(shadow).as_bytes(), found);
}

/// `application/json`, `application/problem+json` and so on; without a type, what looks like it.
fn is_json(response: &Response, body: &[u8]) -> bool {
    match fields::value(&response.head, "content-type") {
        Some(value) => {
            let media = value.split(|byte| *byte == b';').next().unwrap_or_default();
            let media = media.trim_ascii().to_ascii_lowercase();
            media.ends_with(b"/json") || media.ends_with(b"+json")
        }
        None => matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')),
    }
}
