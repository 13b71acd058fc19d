//! Masks on what is reported of an exchange: the same as on what is sent, and on answers too.

use super::Rules;
use super::mask::Content;
use super::message::{Fields, Message};
use crate::compare::{Comparer, Comparison};
use crate::exchange::{Body, Exchange, Head, Protocol, Request, Response};

/// What stands in place of a value that cannot be masked.
const HIDDEN: &str = "(masked)";

impl Rules {
    /// Masks an exchange that has been compared, and what was found: nothing of either holds a value
    /// that is to be masked afterwards.
    ///
    /// The values of differences are those that the masked answers differ by. A value may be cut in a
    /// difference, or be of a larger one that holds it, so that no mask would find it there.
    pub fn mask(&self, exchange: &mut Exchange, comparison: &mut Comparison, comparer: &Comparer) {
        if !self.masks() {
            return;
        }
        let is_redis = exchange.protocol == Protocol::Redis;
        self.mask_request(&mut exchange.request, is_redis);
        for response in [&mut exchange.production, &mut exchange.shadow].into_iter().flatten() {
            self.mask_response(response, is_redis);
        }
        if comparison.differences.is_empty() {
            return;
        }
        let (Ok(production), Ok(shadow)) = (&exchange.production, &exchange.shadow) else { return };
        let masked = comparer.differences(production, shadow);
        for found in &mut comparison.differences {
            if &*found.path == "status" {
                continue;
            }
            let same = masked.iter().find(|it| it.path == found.path && it.kind == found.kind);
            let hidden = |value: &Option<Box<str>>| value.as_ref().map(|_| Box::from(HIDDEN));
            (found.production, found.shadow) = match same {
                Some(same) => (same.production.clone(), same.shadow.clone()),
                None => (hidden(&found.production), hidden(&found.shadow)),
            };
            if found.path.starts_with("body") {
                self.mask_path(&mut found.path);
            }
        }
    }

    /// Masks a request as a report has it. `is_redis`: it has a body without a head.
    pub fn mask_request(&self, request: &mut Request, is_redis: bool) {
        if !self.masks() {
            return;
        }
        if let Some(target) = self.masks.url(request.target.as_bytes(), &self.secret) {
            request.target = String::from_utf8_lossy(&target).into();
        }
        if is_redis {
            return self.hide(&mut request.body);
        }
        let octets = match &mut request.head {
            Head::Fields(_) => {
                return self.message(&mut request.head, &mut request.body);
            }
            Head::Http1(octets) => octets,
        };
        let Ok(mut message) = Message::parse(octets) else {
            // What cannot be read may hold anything, and anywhere.
            request.head = Head::default();
            request.target = HIDDEN.into();
            request.body.kept.clear();
            return;
        };
        self.masks.head(&mut message, &self.secret);
        self.body(&mut message.fields, &mut request.body);
        let head = message.finish().into_owned();
        *octets = head.into();
    }

    /// Masks an answer as a report has it. `is_redis`: it has a body without a head.
    pub fn mask_response(&self, response: &mut Response, is_redis: bool) {
        if !self.masks() {
            return;
        }
        if is_redis {
            return self.hide(&mut response.body);
        }
        self.message(&mut response.head, &mut response.body);
        self.message(&mut response.trailers, &mut Body::default());
    }

    /// Masks a message whose first line holds no value.
    fn message(&self, head: &mut Head, body: &mut Body) {
        match head {
            Head::Fields(pairs) => {
                let borrowed = pairs.iter().map(|(name, value)| (&**name, &**value));
                let mut fields = Fields::from_pairs(borrowed);
                self.masks.fields(&mut fields, &self.secret);
                self.body(&mut fields, body);
                let pair = |field: super::message::Field<'_>| {
                    (field.name.into_owned().into(), field.value.into_owned().into())
                };
                let masked = fields.list.into_iter().map(pair).collect();
                *pairs = masked;
            }
            Head::Http1(octets) if octets.is_empty() => {}
            Head::Http1(octets) => {
                let (line, rest) = first_line(octets);
                match Fields::parse(rest) {
                    Ok(mut fields) => {
                        self.masks.fields(&mut fields, &self.secret);
                        self.body(&mut fields, body);
                        let mut out = line.to_vec();
                        fields.write(&mut out);
                        out.extend_from_slice(b"\r\n");
                        *octets = out.into();
                    }
                    Err(_) => {
                        *octets = [line, b"\r\n"].concat().into();
                        body.kept.clear();
                    }
                }
            }
        }
    }

    /// Masks a body in so far as it was kept. What cannot be masked is not shown. The length of a body
    /// that was changed is that of what is shown: the other would tell how long a value was.
    fn body(&self, fields: &mut Fields<'_>, body: &mut Body) {
        let content = Content::of(fields);
        if body.kept.is_empty() || !self.masks.body.concern(&content) {
            return;
        }
        if !body.is_whole() {
            return body.kept.clear();
        }
        match self.masks.body.apply(&content, &body.kept, &self.secret) {
            Ok(masked) if masked == body.kept => {}
            Ok(masked) => {
                body.len = masked.len() as u64;
                body.kept = masked;
                fields.remove("content-encoding");
            }
            Err(_) => body.kept.clear(),
        }
    }

    /// Redis' values have no names that a mask could go by.
    fn hide(&self, body: &mut Body) {
        if !self.masks.body.is_empty() {
            body.kept.clear();
        }
    }

    /// A path names members, and a regex may mean these, too.
    fn mask_path(&self, path: &mut std::sync::Arc<str>) {
        for mask in &self.masks.body.regex {
            let mut masked = Vec::new();
            let mut copied = 0;
            for captures in mask.0.pattern.captures_iter(path.as_bytes()) {
                let range = captures.get_match().range();
                masked.extend_from_slice(&path.as_bytes()[copied..range.start]);
                mask.0.expand(&captures, &mut masked);
                copied = range.end;
            }
            if copied > 0 {
                masked.extend_from_slice(&path.as_bytes()[copied..]);
                *path = String::from_utf8_lossy(&masked).into();
            }
        }
    }
}

/// A status line with its end, and what follows; a trailer section has none.
fn first_line(octets: &[u8]) -> (&[u8], &[u8]) {
    let end = match octets.starts_with(b"HTTP/") {
        true => octets.iter().position(|octet| *octet == b'\n').map_or(octets.len(), |at| at + 1),
        false => 0,
    };
    octets.split_at(end)
}

/// The first value of a request's field.
pub(super) fn value(head: &Head, name: &str) -> Option<Vec<u8>> {
    match head {
        Head::Fields(fields) => fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.to_vec()),
        Head::Http1(octets) => {
            let message = Message::parse(octets).ok()?;
            message.fields.values(name).next().map(<[u8]>::to_vec)
        }
    }
}
