//! A compared exchange as the page shows it.

use shadow_common::Counter as _;
use shadow_engine::compare::{Bounds, Comparison, Difference as Found, decoded};
use shadow_engine::exchange::{
    Body, Exchange, Head, Protocol, Response as Answered, Status, Unpaired,
};

use super::model::{self, Answer, Difference, Example, Message, Pair, Response};

/// Fields whose values let their reader act as a user.
const SECRETS: [&str; 8] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
    "x-xsrf-token",
];

/// The name of an example: when its request was captured, and its place in the flow.
pub fn id(exchange: &Exchange) -> String {
    format!("{:x}-{:x}", exchange.request.at.as_nanos(), exchange.number)
}

/// An exchange in one row.
pub fn row(exchange: &Exchange, comparison: &Comparison) -> Example {
    let mut fields: Vec<String> = Vec::new();
    for difference in comparison.differences.iter().filter(|difference| !difference.noise) {
        if !fields.iter().any(|path| **path == *difference.path) {
            fields.push(difference.path.to_string());
        }
    }
    Example {
        id: id(exchange),
        endpoint: comparison.endpoint.to_string(),
        method: exchange.request.method.to_string(),
        target: exchange.request.target.to_string(),
        verdict: comparison.verdict.label(),
        production: answer(&exchange.production),
        shadow: answer(&exchange.shadow),
        fields,
    }
}

/// An exchange with all that was kept of it; bodies, what stems from them, and secrets only where
/// `bodies` says so.
pub fn pair(exchange: &Exchange, comparison: &Comparison, bodies: bool) -> Pair {
    let request = &exchange.request;
    let message = |head: &Head, trailers: &Head, body: &Body| message(head, trailers, body, bodies);
    let response = |result: &Result<Answered, Unpaired>| Response {
        answer: answer(result),
        line: result.as_ref().ok().and_then(|response| first_line(&response.head)),
        message: result.as_ref().map_or_else(
            |_| Message::default(),
            |response| message(&response.head, &response.trailers, &response.body),
        ),
    };
    Pair {
        id: id(exchange),
        endpoint: comparison.endpoint.to_string(),
        method: request.method.to_string(),
        target: request.target.to_string(),
        verdict: comparison.verdict.label(),
        client: exchange.client.to_string(),
        server: exchange.server.to_string(),
        protocol: match exchange.protocol {
            Protocol::Http1 => "HTTP/1",
            Protocol::Http2 => "HTTP/2",
            Protocol::Redis => "Redis",
        },
        differences: comparison.differences.iter().map(|found| difference(found, bodies)).collect(),
        more: comparison.more as u64,
        request: message(&request.head, &Head::default(), &request.body),
        production: response(&exchange.production),
        shadow: response(&exchange.shadow),
    }
}

/// A leg's status in a word; `none` without an answer.
pub fn status(result: Option<Status>) -> String {
    match result {
        None => "none".to_owned(),
        Some(Status::Http(code)) => code.to_string(),
        Some(Status::Grpc(code)) => format!("grpc {code}"),
        Some(Status::Redis(kind)) => char::from(kind).to_string(),
    }
}

fn answer(result: &Result<Answered, Unpaired>) -> Answer {
    match result {
        Ok(response) => Answer {
            status: status(Some(response.status)),
            seconds: Some(response.duration().as_secs_f64()),
            unpaired: None,
        },
        Err(why) => Answer { status: status(None), seconds: None, unpaired: Some(why.label()) },
    }
}

fn difference(found: &Found, bodies: bool) -> Difference {
    let of_body = found.path.split(['.', '[']).next() == Some("body");
    let is_secret = found.path.rsplit('.').next().is_some_and(is_secret);
    let shown = |value: &Option<Box<str>>| {
        value.as_ref().map(|text| match bodies || !(of_body || is_secret) {
            true => text.to_string(),
            false => "(hidden)".to_owned(),
        })
    };
    Difference {
        path: found.path.to_string(),
        kind: found.kind.label(),
        production: shown(&found.production),
        shadow: shown(&found.shadow),
        noise: found.noise,
    }
}

fn message(head: &Head, trailers: &Head, body: &Body, bodies: bool) -> Message {
    Message {
        head: fields(head, bodies),
        trailers: fields(trailers, bodies),
        body: show(head, body, bodies),
    }
}

fn show(head: &Head, body: &Body, bodies: bool) -> model::Body {
    let (bytes, kept) = (body.len, body.kept.len() as u64);
    let without = |hidden| model::Body { bytes, kept, cut: false, text: None, hidden };
    if bytes == 0 {
        return without(None);
    }
    if !bodies {
        return without(Some("start the mirror with --report-bodies to see it"));
    }
    if body.kept.is_empty() {
        return without(Some(
            "it is kept with --compare body only, and where masks apply only if they could be",
        ));
    }
    let text = |octets: &[u8], cut| model::Body {
        bytes,
        kept,
        cut,
        text: Some(lossy(octets)),
        hidden: None,
    };
    match decoded(head, body, &Bounds::default()) {
        Some(octets) => text(&octets, false),
        None if has_coding(head) => without(Some("it is compressed, and cannot be decompressed")),
        None => text(&body.kept, !body.is_whole()),
    }
}

fn has_coding(head: &Head) -> bool {
    raw(head).iter().any(|(name, _)| name.eq_ignore_ascii_case(b"content-encoding"))
}

fn fields(head: &Head, bodies: bool) -> Vec<(String, String)> {
    let shown = |(name, value): (&[u8], &[u8])| {
        let name = lossy(name);
        let value = match bodies || !is_secret(&name) {
            true => lossy(value),
            false => format!("(hidden, {} bytes)", value.len()),
        };
        (name, value)
    };
    raw(head).into_iter().map(shown).collect()
}

fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

/// Names and values; of a head that no parser takes as well, since it is to be looked at.
fn raw(head: &Head) -> Vec<(&[u8], &[u8])> {
    match head {
        Head::Fields(fields) => fields.iter().map(|(name, value)| (&**name, &**value)).collect(),
        Head::Http1(octets) => {
            let lines = octets.split(|octet| *octet == b'\n');
            lines.filter(|line| !starts_message(line)).filter_map(split).collect()
        }
    }
}

fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|octet| *octet == b':')?;
    Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
}

/// A status line or a request line: the one with a version in it before any colon.
fn starts_message(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let version = |part: &[u8]| part.starts_with(b"HTTP/");
    version(line) || line.rsplit(|octet| *octet == b' ').next().is_some_and(version)
}

fn first_line(head: &Head) -> Option<String> {
    let Head::Http1(octets) = head else { return None };
    let line = octets.split(|octet| *octet == b'\n').next()?.trim_ascii_end();
    starts_message(line).then(|| lossy(line))
}

fn lossy(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shadow_engine::compare::{Kind, Verdict};
    use shadow_engine::exchange::Request;
    use shadow_engine::time::{Duration, Instant};

    fn exchange() -> Exchange {
        let response = |status: u16, head: &str, body: &str| Answered {
            status: Status::Http(status),
            head: Head::Http1(head.as_bytes().into()),
            trailers: Head::default(),
            body: Body { len: 9, kept: body.as_bytes().to_vec(), hash: Some(1) },
            asked_at: Instant::from_nanos(0),
            first_at: Instant::from_nanos(0) + Duration::from_millis(1),
            ended_at: Instant::from_nanos(0) + Duration::from_millis(2),
        };
        Exchange {
            protocol: Protocol::Http1,
            client: "10.0.0.7:40000".parse().expect("address"),
            server: "10.0.0.5:80".parse().expect("address"),
            number: 0,
            request: Request {
                at: Instant::from_nanos(0),
                method: "GET".into(),
                target: "/a:b".into(),
                head: Head::Http1(
                    b"GET /a:b HTTP/1.1\r\nHost: shop\r\nCookie: a=b\r\n\r\n".as_slice().into(),
                ),
                body: Body::default(),
            },
            production: Ok(response(200, "HTTP/1.1 200 So: so\r\nX: 1\r\n\r\n", "its body.")),
            shadow: Ok(response(500, "HTTP/1.1 500 <b>\r\nContent-Encoding: gzip\r\n\r\n", "\x1f")),
        }
    }

    fn comparison() -> Comparison {
        let difference = |path: &str| Found {
            path: path.into(),
            kind: Kind::Primitive,
            production: Some("1".into()),
            shadow: None,
            noise: path == "body.id",
        };
        Comparison {
            endpoint: "GET /a:b".into(),
            verdict: Verdict::Status,
            differences: ["status", "body.id", "header.set-cookie"].map(difference).into(),
            more: 0,
            opaque: None,
        }
    }

    #[test]
    fn bodies_and_secrets_are_shown_only_when_asked_for() {
        let (exchange, comparison) = (exchange(), comparison());
        let pair = pair(&exchange, &comparison, false);
        let pairs = |list: &[(&str, &str)]| {
            list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(pair.request.head, pairs(&[("Host", "shop"), ("Cookie", "(hidden, 3 bytes)")]));
        assert_eq!(pair.production.line.as_deref(), Some("HTTP/1.1 200 So: so"));
        assert_eq!(pair.production.message.head, pairs(&[("X", "1")]));
        assert!(!serde_json::to_string(&pair).expect("json").contains("its body."));
        let values: Vec<_> = pair.differences.iter().map(|it| it.production.as_deref()).collect();
        assert_eq!(values, [Some("1"), Some("(hidden)"), Some("(hidden)")]);

        let shown = super::pair(&exchange, &comparison, true);
        assert_eq!(shown.request.head[1].1, "a=b");
        assert_eq!(shown.production.message.body.text.as_deref(), Some("its body."));
        assert!(shown.shadow.message.body.text.is_none(), "not gzip");
        assert_eq!(shown.differences[1].production.as_deref(), Some("1"));
    }

    #[test]
    fn a_row_names_the_fields_that_count() {
        let row = row(&exchange(), &comparison());
        assert_eq!(row.fields, ["status", "header.set-cookie"]);
        assert_eq!((&*row.production.status, &*row.shadow.status), ("200", "500"));
        assert_eq!(row.shadow.seconds, Some(0.002));
    }
}
