use serde_json::json;

use super::*;
use crate::compare::{self, Comparer, Comparison, Noise};
use crate::exchange::{Body, Head, Protocol, Request, Response, Status};
use crate::time::Instant;

const TOKEN: &str = "S3CR3TS3CR3T";

fn all_masks() -> Rules {
    rules(|rules| {
        for header in ["Authorization", "Set-Cookie=remove", "X-Key=MASK"] {
            rules.mask_header(MaskHeader::parse(header).unwrap());
        }
        for parameter in ["token", "key=MASK"] {
            rules.mask_query(MaskParameter::parse("--mask-query", parameter).unwrap());
            rules.mask_form(MaskParameter::parse("--mask-form", parameter).unwrap());
        }
        rules.mask_json(MaskJson::parse("$..email").unwrap());
        rules.mask_json(MaskJson::parse("$.user.card=remove").unwrap());
        rules.mask_regex(MaskRegex::parse("<[^>]*> => <>").unwrap());
        rules.add_request_id(HeaderName::parse("--request-id-header", "X-Request-Id").unwrap());
    })
}

fn kept(octets: &[u8]) -> Body {
    let hash = octets.iter().fold(1, |hash: u64, octet| hash.wrapping_mul(31) + u64::from(*octet));
    Body { len: octets.len() as u64, kept: octets.to_vec(), hash: Some(hash) }
}

fn response(head: &str, body: &[u8]) -> Response {
    Response {
        status: Status::Http(200),
        head: Head::Http1(format!("HTTP/1.1 200 OK\r\n{head}\r\n").into_bytes().into()),
        trailers: Head::Http1(format!("X-Key: {TOKEN}\r\n\r\n").into_bytes().into()),
        body: kept(body),
        asked_at: Instant::from_nanos(0),
        first_at: Instant::from_nanos(1),
        ended_at: Instant::from_nanos(2),
    }
}

fn exchange(production: Response, shadow: Response) -> Exchange {
    let target = format!("/a?token={TOKEN}&b=1");
    let head = format!(
        "POST {target} HTTP/1.1\r\nAuthorization: {TOKEN}\r\nContent-Type: application/json\r\n\r\n"
    );
    Exchange {
        protocol: Protocol::Http1,
        client: context().client,
        server: context().production,
        number: 4,
        request: Request {
            at: Instant::from_nanos(5),
            method: "POST".into(),
            target: target.into(),
            head: Head::Http1(head.into_bytes().into()),
            body: kept(json!({"email": TOKEN}).to_string().as_bytes()),
        },
        production: Ok(production),
        shadow: Ok(shadow),
    }
}

/// Compared, then masked: everything that is told, as text.
fn told(rules: &Rules, mut exchange: Exchange) -> (Exchange, Comparison, String) {
    let mut comparer = Comparer::new(compare::Rules::default()).unwrap();
    let mut comparison = comparer.compare(&exchange, &Noise::default());
    rules.mask(&mut exchange, &mut comparison, &comparer);
    let mut text = format!("{comparison:?}");
    let mut add = |octets: &[u8]| text.push_str(&String::from_utf8_lossy(octets));
    let add_head = |head: &Head, add: &mut dyn FnMut(&[u8])| match head {
        Head::Http1(octets) => add(octets),
        Head::Fields(fields) => fields.iter().for_each(|(name, value)| {
            add(name);
            add(value);
        }),
    };
    add(exchange.request.target.as_bytes());
    add_head(&exchange.request.head, &mut add);
    add(&exchange.request.body.kept);
    for response in [&exchange.production, &exchange.shadow].into_iter().flatten() {
        add_head(&response.head, &mut add);
        add_head(&response.trailers, &mut add);
        add(&response.body.kept);
    }
    (exchange, comparison, text)
}

fn pairs(production: &Comparison) -> Vec<(&str, Option<&str>, Option<&str>)> {
    let values = production.differences.iter();
    values.map(|it| (&*it.path, it.production.as_deref(), it.shadow.as_deref())).collect()
}

#[test]
fn no_secret_is_in_a_report() {
    let json = |shown: &str| {
        json!({"user": {"email": TOKEN, "card": TOKEN, "n": shown}, "t": format!("{shown}<{TOKEN}>")})
            .to_string()
    };
    let head = format!(
        "Content-Type: application/json\r\nSet-Cookie: sid={TOKEN}\r\nLocation: /x?key={TOKEN}&c\r\n"
    );
    let shadow_head =
        format!("Content-Type: application/json\r\nX-Key: {TOKEN}\r\nLocation: /y?key={TOKEN}\r\n");
    let exchange = exchange(
        response(&head, json("a").as_bytes()),
        response(&shadow_head, json("b").as_bytes()),
    );
    let rules = all_masks();
    let (exchange, comparison, text) = told(&rules, exchange);
    assert!(!text.contains(TOKEN), "{text}");
    let found = pairs(&comparison);
    assert!(found.contains(&("body.user.n", Some("\"a\""), Some("\"b\""))), "{found:?}");
    assert!(found.contains(&("body.t", Some("\"a<>\""), Some("\"b<>\""))), "{found:?}");
    assert!(
        found.contains(&("header.location", Some("/x?key=MASK&c"), Some("/y?key=MASK"))),
        "{found:?}"
    );
    assert!(found.contains(&("header.x-key", None, Some("MASK"))), "{found:?}");
    // Cookies' names are compared; masked they have none.
    assert!(found.contains(&("header.set-cookie.sid", Some("(masked)"), None)), "{found:?}");
    // What the shadow got, the report has as well.
    let hash = super::sent(&rules, &format!("GET / HTTP/1.1\r\nAuthorization: {TOKEN}\r\n\r\n"));
    let hash = hash.split_once("Authorization: ").unwrap().1.split_once('\r').unwrap().0.to_owned();
    assert_eq!(&*exchange.request.target, format!("/a?token={hash}&b=1"));
    let body = String::from_utf8(exchange.request.body.kept).unwrap();
    assert_eq!(body, format!("{{\"email\":\"{hash}\"}}"));
}

#[test]
fn values_that_hold_a_secret_are_masked_however_they_are_cut() {
    // The whole `user` is extra: its value is cut amid the secret, and is none of the masks' places.
    let filler = "f".repeat(180);
    let body = format!("{{\"user\":{{\"f\":\"{filler}\",\"email\":\"{TOKEN}\"}}}}");
    let head = "Content-Type: application/json\r\n";
    let rules = all_masks();
    let (_, comparison, text) =
        told(&rules, exchange(response(head, b"{}"), response(head, body.as_bytes())));
    assert!(!text.contains(&TOKEN[..3]), "{text}");
    assert_eq!(comparison.differences.len(), 1);
    // A body of no known form that differs as a whole.
    let plain = "Content-Type: text/plain\r\n";
    let shadow = format!("<{TOKEN}>");
    let (_, comparison, text) =
        told(&rules, exchange(response(plain, b"x"), response(plain, shadow.as_bytes())));
    assert!(!text.contains(TOKEN), "{text}");
    assert_eq!(pairs(&comparison), [("body", Some("x"), Some("<>"))]);
    // Differing in nothing but secrets.
    let one = format!("{{\"email\":\"{TOKEN}1\",\"<{TOKEN}>\":1}}");
    let two = format!("{{\"email\":\"{TOKEN}2\",\"<{TOKEN}>\":2}}");
    let text_mask = super::rules(|rules| {
        rules.mask_json(MaskJson::parse("$.email=M").unwrap());
        rules.mask_regex(MaskRegex::parse("<[^>]*> => <>").unwrap());
        rules.mask_header(MaskHeader::parse("X-Key=M").unwrap());
        rules.mask_header(MaskHeader::parse("Authorization").unwrap());
        rules.mask_query(MaskParameter::parse("--mask-query", "token").unwrap());
    });
    let answers = exchange(response(head, one.as_bytes()), response(head, two.as_bytes()));
    let (masked, comparison, mut text) = told(&text_mask, answers);
    text = text.replace(&*String::from_utf8_lossy(&masked.request.body.kept), "");
    assert!(!text.contains(TOKEN), "{text}");
    assert_eq!(comparison.verdict, compare::Verdict::Body, "masks change no verdict");
    let found = pairs(&comparison);
    assert!(found.contains(&("body.email", Some("(masked)"), Some("(masked)"))), "{found:?}");
    assert!(found.contains(&("body.<>", Some("(masked)"), Some("(masked)"))), "{found:?}");
}

#[test]
fn what_cannot_be_masked_is_not_shown() {
    let head = "Content-Type: application/json\r\n";
    let coded = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let rules = all_masks();
    let whole = format!("{{\"email\":\"{TOKEN}\"}}");
    let mut cut = response(head, whole.as_bytes());
    cut.body.len += 1;
    let no_json = response(head, format!("{{{TOKEN}").as_bytes());
    let (exchange_, _, text) = told(&rules, exchange(cut, no_json));
    assert!(!text.contains(TOKEN), "{text}");
    assert!(exchange_.production.unwrap().body.kept.is_empty());

    let packed = response(coded, &gzip(whole.as_bytes()));
    let broken = response(coded, whole.as_bytes());
    let (exchange_, _, text) = told(&rules, exchange(packed, broken));
    assert!(!text.contains(TOKEN), "{text}");
    let production = exchange_.production.unwrap();
    assert!(production.body.is_whole() && production.body.kept.starts_with(b"{\"email\""));
    let Head::Http1(head) = &production.head else { panic!() };
    assert!(!String::from_utf8_lossy(head).contains("Encoding"), "it is decoded");
    assert!(exchange_.shadow.unwrap().body.kept.is_empty());

    let mut odd =
        exchange(response("", format!("{{\"email\":\"{TOKEN}\"}}").as_bytes()), response("", b""));
    odd.request.head = Head::Http1(format!("{TOKEN}\0").into_bytes().into());
    odd.request.target = TOKEN.into();
    odd.production.as_mut().unwrap().head =
        Head::Http1(format!("HTTP/1.1 200 OK\r\nA: b\r\n {TOKEN}\r\n\r\n").into_bytes().into());
    let (_, _, text) = told(&rules, odd);
    assert!(!text.contains(TOKEN), "{text}");
}

#[test]
fn other_protocols_are_masked_as_far_as_they_have_names() {
    let rules = all_masks();
    let fields = |pairs: &[(&str, &str)]| {
        Head::Fields(
            pairs.iter().map(|(a, b)| (a.as_bytes().into(), b.as_bytes().into())).collect(),
        )
    };
    let mut http2 = exchange(response("", b""), response("", b""));
    http2.protocol = Protocol::Http2;
    let json = json!({"a": {"email": TOKEN}}).to_string();
    http2.request.head = fields(&[("authorization", TOKEN), ("content-type", "application/json")]);
    http2.request.body = kept(json.as_bytes());
    for answer in [&mut http2.production, &mut http2.shadow] {
        let answer = answer.as_mut().unwrap();
        answer.head = fields(&[("set-cookie", TOKEN), ("content-type", "application/json")]);
        answer.body = kept(json.as_bytes());
        answer.trailers = fields(&[("x-key", TOKEN)]);
    }
    let (masked, _, text) = told(&rules, http2);
    assert!(!text.contains(TOKEN), "{text}");
    let Head::Fields(left) = masked.request.head else { panic!() };
    assert_eq!(left.len(), 2);

    let mut redis = exchange(response("", b""), response("", b""));
    redis.protocol = Protocol::Redis;
    redis.request.head = Head::default();
    redis.request.body = kept(format!("$12\r\n{TOKEN}\r\n").as_bytes());
    for (answer, octets) in [
        (&mut redis.production, format!("+{TOKEN}\r\n")),
        (&mut redis.shadow, format!("+{TOKEN}1\r\n")),
    ] {
        let answer = answer.as_mut().unwrap();
        answer.status = Status::Redis(b'+');
        (answer.head, answer.trailers) = (Head::default(), Head::default());
        answer.body = kept(octets.as_bytes());
    }
    let (_, comparison, text) = told(&rules, redis);
    assert!(!comparison.differences.is_empty() && !text.contains(TOKEN), "{text}");
}

#[test]
fn the_report_has_the_id_that_was_sent() {
    let rules = all_masks();
    let exchange = exchange(response("", b""), response("", b""));
    let context = Context { id: exchange.id(), ..context() };
    let head = b"GET / HTTP/1.1\r\n\r\n";
    let Verdict::Send { head } = rules.judge(head, &context) else { panic!() };
    let id = rules.request_id(&exchange).unwrap();
    assert!(String::from_utf8_lossy(&head).contains(&format!("X-Request-Id: {id}\r\n")));
    let mut given = exchange.clone();
    given.request.head = Head::Http1(b"GET / HTTP/1.1\r\nx-request-id: abc\r\n\r\n"[..].into());
    assert_eq!(rules.request_id(&given).as_deref(), Some("abc"));
    assert_eq!(super::rules(|_| {}).request_id(&exchange), None);
}
