//! What is found, what is not, and what it is called.

mod tally;

use std::io::Write as _;
use std::time::Duration;

use super::*;
use crate::exchange::{Body, Exchange, Head, Protocol, Request, Response, Status, Unpaired};
use crate::time::Instant;

fn hash(octets: &[u8]) -> u64 {
    octets.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn body(octets: impl AsRef<[u8]>) -> Body {
    let octets = octets.as_ref();
    Body { len: octets.len() as u64, kept: octets.to_vec(), hash: Some(hash(octets)) }
}

fn answer(head: &str, octets: impl AsRef<[u8]>) -> Response {
    Response {
        status: Status::Http(200),
        head: Head::Http1(format!("HTTP/1.1 200 OK\r\n{head}\r\n").into_bytes().into()),
        trailers: Head::default(),
        body: body(octets),
        asked_at: Instant::from_nanos(0),
        first_at: Instant::from_nanos(1_000),
        ended_at: Instant::from_nanos(1_000),
    }
}

fn json(octets: impl AsRef<[u8]>) -> Response {
    answer("Content-Type: application/json; charset=utf-8\r\n", octets)
}

fn exchange(production: Response, shadow: Response) -> Exchange {
    Exchange {
        protocol: Protocol::Http1,
        client: "192.0.2.1:5000".parse().unwrap(),
        server: "192.0.2.2:80".parse().unwrap(),
        number: 0,
        request: Request {
            at: Instant::from_nanos(0),
            method: "GET".into(),
            target: "/users/17?x=1".into(),
            head: Head::default(),
            body: Body::default(),
        },
        production: Ok(production),
        shadow: Ok(shadow),
    }
}

fn ruled(ignored: &[&str]) -> Rules {
    let mut rules = Rules::default();
    for ignored in ignored {
        rules.ignore(Ignore::parse(ignored).unwrap());
    }
    rules
}

fn compare_by(rules: Rules, production: Response, shadow: Response) -> Comparison {
    let mut comparer = Comparer::new(rules).unwrap();
    comparer.compare(&exchange(production, shadow), &Noise::default())
}

fn compare(production: Response, shadow: Response) -> Comparison {
    compare_by(Rules::default(), production, shadow)
}

/// `path kind`, in order.
fn keys(comparison: &Comparison) -> Vec<String> {
    let key = |found: &Difference| format!("{} {}", found.path, found.kind.label());
    comparison.differences.iter().map(key).collect()
}

#[track_caller]
fn found_in(production: &str, shadow: &str, expected: &[&str]) {
    let comparison = compare(json(production), json(shadow));
    assert_eq!(keys(&comparison), expected, "{production} and {shadow}");
    let verdict = if expected.is_empty() { Verdict::Match } else { Verdict::Body };
    assert_eq!(comparison.verdict, verdict);
}

#[test]
fn equal_answers_match() {
    let comparison = compare(json("{}"), json("{}"));
    assert_eq!((comparison.verdict, &*comparison.endpoint), (Verdict::Match, "GET /users/{id}"));
    assert!(comparison.differences.is_empty());
}

#[test]
fn json_differs_by_path_and_kind() {
    found_in(r#"{"a":1,"b":2}"#, r#"{ "b" : 2, "a" : 1 }"#, &[]);
    found_in(r#"{"a":1,"b":2}"#, r#"{"a":1}"#, &["body.b missing"]);
    found_in(r#"{"a":1}"#, r#"{"a":1,"b":2}"#, &["body.b extra"]);
    found_in(r#"{"a":{"b":1}}"#, r#"{"a":{"b":"1"}}"#, &["body.a.b type"]);
    found_in(r#"{"a":{"b":1}}"#, r#"{"a":{"b":null}}"#, &["body.a.b type"]);
    found_in(r#"{"a":{"b":true}}"#, r#"{"a":{"b":false}}"#, &["body.a.b primitive"]);
    found_in(r#"{"a":[1,2,3]}"#, r#"{"a":[1,2]}"#, &["body.a length"]);
    found_in(r#"{"a":[1,{"x":1,"y":2}]}"#, r#"{"a":[{"y":2,"x":1.0},1]}"#, &["body.a order"]);
    found_in(
        r#"{"a":[{"x":1},{"x":2},{"x":3}]}"#,
        r#"{"a":[{"x":1},{"x":5},{"x":6}]}"#,
        &["body.a[].x primitive"],
    );
    found_in("[1]", "[2]", &["body[] primitive"]);
    found_in("1", "2", &["body primitive"]);
    found_in(
        r#"{"a.b":1,"":2}"#,
        r#"{"a.b":2,"":3}"#,
        &[r#"body[""] primitive"#, r#"body["a.b"] primitive"#],
    );
}

#[test]
fn numbers_and_strings_are_compared_by_value() {
    found_in("[1,1e2,0.10,-0]", "[1.0,100,1e-1,0]", &[]);
    found_in("[9007199254740993]", "[9007199254740992]", &["body[] primitive"]);
    found_in("[0.1234567890123456789]", "[0.1234567890123456788]", &["body[] primitive"]);
    found_in("[1e400]", "[1e401]", &["body[] primitive"]);
    found_in("[10e399]", "[1e400]", &[]);
    found_in("[1e99999999999999999999]", "[1e99999999999999999998]", &["body[] primitive"]);
    found_in(r#"["\u00e9\/"]"#, r#"["é/"]"#, &[]);
    found_in(r#"["\ud800"]"#, r#"["\ud801"]"#, &["body[] primitive"]);
}

#[test]
fn repeated_members_pair_off_in_their_order() {
    found_in(r#"{"a":1,"a":2}"#, r#"{"a":1,"a":3}"#, &["body.a primitive"]);
    found_in(r#"{"a":1,"a":2}"#, r#"{"a":1}"#, &["body.a missing"]);
}

#[test]
fn maps_are_pooled() {
    found_in(r#"{"17":{"n":1}}"#, r#"{"17":{"n":2}}"#, &["body{}.n primitive"]);
    let large = |value: u32| {
        let members: Vec<_> = (0..51).map(|n| format!("\"k{n}\":{{\"n\":{value}}}")).collect();
        format!("{{{}}}", members.join(","))
    };
    found_in(&large(1), &large(2), &["body{}.n primitive"]);
}

#[test]
fn depth_and_work_are_bounded() {
    let nest = |value: &str| format!("{}{value}{}", "[".repeat(20_000), "]".repeat(20_000));
    let comparison = compare(json(nest("1")), json(nest("2")));
    assert_eq!((comparison.verdict, comparison.opaque), (Verdict::Body, Some(Opaque::Work)));
    let many = |value: u32| {
        let members: Vec<_> = (0..10_000).map(|n| format!("\"k{n}\":[{value}]")).collect();
        format!("{{\"a\":[{{{}}}]}}", members.join(","))
    };
    assert_eq!(keys(&compare(json(many(1)), json(many(2)))), ["body.a[]{}[] primitive"]);
}

#[test]
fn differences_beyond_the_bound_are_counted_and_count() {
    let object = |value: u32| {
        let members: Vec<_> = (0..40).map(|n| format!("\"k{n:02}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let mut rules = Rules::default();
    rules.bounds.differences = 30;
    let mut comparer = Comparer::new(rules).unwrap();
    let mut noise = Noise::default();
    for n in 0..39 {
        noise.insert(&"GET /users/{id}".into(), &format!("body.k{n:02}").into(), Kind::Primitive);
    }
    let exchange = exchange(json(object(1)), json(object(2)));
    let comparison = comparer.compare(&exchange, &noise);
    assert_eq!((comparison.differences.len(), comparison.more), (30, 10));
    assert!(comparison.differences.iter().all(|found| found.noise));
    assert_eq!(comparison.verdict, Verdict::Body, "the last one is no noise");
    noise.insert(&"GET /users/{id}".into(), &"body.k39".into(), Kind::Primitive);
    assert_eq!(comparer.compare(&exchange, &noise).verdict, Verdict::Match);
}

#[test]
fn what_is_ignored_is_not_found() {
    let production = r#"{"at":1,"items":[{"id":1,"n":1}],"deep":{"x":{"at":1}}}"#;
    let shadow = r#"{"at":2,"items":[{"id":2,"n":1}],"deep":{"x":{"at":2}}}"#;
    let run = |ignored: &[&str]| keys(&compare_by(ruled(ignored), json(production), json(shadow)));
    assert_eq!(
        run(&[]),
        ["body.at primitive", "body.deep.x.at primitive", "body.items[].id primitive"]
    );
    assert_eq!(run(&["json:$.items[*].id", "json:$..at"]), [""; 0]);
    assert_eq!(run(&["json:body.items[].id", "json:$.deep", "json:$['at']"]), [""; 0]);
    assert_eq!(run(&["json:$.*"]), [""; 0]);
    assert_eq!(run(&["json:$.items[*]", "json:$[\"at\"]"]), ["body.deep.x.at primitive"]);
}

#[test]
fn rules_that_cannot_be_used_say_so() {
    for (text, expected) in [
        ("Date", "--ignore Date: no kind; write header:NAME, json:PATH or query:NAME"),
        ("cookie:x", "unknown kind cookie"),
        ("header:a b", "not a field name"),
        ("json:items", "no $ (the body) at character 1"),
        ("json:$.items[0].id", "(positions are one place) at character 8"),
        ("json:$", "the path of the whole body"),
        ("query:a=b", "not a parameter's name"),
    ] {
        let error = Ignore::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(Route::parse("users").is_err());
    assert!(Route::parse("/a/{").is_err());
    let mut rules = Rules::default();
    rules.route(Route::parse("/a/{b}").unwrap()).unwrap();
    assert!(rules.route(Route::parse("/a/{c}").unwrap()).is_err());
    rules.route(Route::parse("GET /a/{c}").unwrap()).unwrap();
    assert!(Slower::parse("10").is_err());
    assert_eq!(Slower::parse("off").unwrap(), None);
    let slower = Slower::parse("50%+20ms").unwrap().unwrap();
    assert_eq!((slower.share, slower.least), (0.5, Duration::from_millis(20)));
}

#[test]
fn heads_are_compared_as_sets() {
    let run = |ours: &str, theirs: &str| keys(&compare(answer(ours, ""), answer(theirs, "")));
    assert_eq!(run("A: 1\r\nB: 2\r\n", "b: 2\r\na: 1\r\n"), [""; 0]);
    assert_eq!(run("A: 1\r\nA: 2\r\n", "A: 1,2\r\n"), [""; 0]);
    assert_eq!(run("A: 1\r\nA: 2\r\n", "A: 2\r\nA: 1\r\n"), [""; 0]);
    assert_eq!(run("A: 1\r\n", "A: 2\r\n"), ["header.a primitive"]);
    assert_eq!(run("A: 1\r\nA: 2\r\n", "A: 1\r\n"), ["header.a primitive"]);
    assert_eq!(run("A: 1\r\n", ""), ["header.a missing"]);
    assert_eq!(run("", "A: 1\r\n"), ["header.a extra"]);
    assert_eq!(
        run("Date: x\r\nServer: a\r\nContent-Length: 0\r\n", "Transfer-Encoding: chunked\r\n"),
        [""; 0]
    );
    assert_eq!(run("ETag: \"1\"\r\n", "ETag: \"2\"\r\n"), [""; 0]);
    assert_eq!(run("ETag: \"1\"\r\n", ""), ["header.etag missing"]);
    assert_eq!(
        run(
            "Set-Cookie: s=1; Path=/\r\nSet-Cookie: t=1\r\n",
            "Set-Cookie: s=2\r\nSet-Cookie: u=3\r\n"
        ),
        ["header.set-cookie.t missing", "header.set-cookie.u extra"]
    );
}

#[test]
fn headers_can_be_ignored() {
    let rules = ruled(&["header:X-Build", "query:state"]);
    let ours = answer("X-Build: 1\r\nLocation: /cb?a=1&state=17#f\r\n", "");
    let theirs = answer("X-Build: 2\r\nLocation: /cb?state=18&a=1#f\r\n", "");
    assert_eq!(compare_by(rules, ours.clone(), theirs.clone()).verdict, Verdict::Match);
    let comparison = compare(ours, theirs);
    assert_eq!(keys(&comparison), ["header.location primitive", "header.x-build primitive"]);
    assert_eq!(comparison.verdict, Verdict::Headers);
}

#[test]
fn ten_thousand_fields_are_unreadable_and_no_more() {
    let many = "A: 1\r\n".repeat(10_000);
    assert_eq!(keys(&compare(answer("A: 1\r\n", ""), answer(&many, ""))), ["header type"]);
    assert_eq!(compare(answer(&many, ""), answer(&many, "")).verdict, Verdict::Match);
    let some: String = (0..1_000).map(|n| format!("A{n}: 1\r\n")).collect();
    assert_eq!(compare(answer(&some, ""), answer(&some, "")).verdict, Verdict::Match);
}

#[test]
fn the_first_of_several_verdicts_is_given() {
    let slow = |mut response: Response| {
        response.ended_at = Instant::from_nanos(1_000_000_000);
        response
    };
    assert_eq!(compare(json("1"), slow(json("1"))).verdict, Verdict::Slower);
    assert_eq!(compare(json("1"), slow(json("2"))).verdict, Verdict::Body);
    assert_eq!(compare(json("1"), slow(answer("", "2"))).verdict, Verdict::Headers);
    let mut other = slow(answer("", "2"));
    other.status = Status::Http(500);
    let comparison = compare(json("1"), other);
    assert_eq!(comparison.verdict, Verdict::Status);
    assert_eq!(keys(&comparison), ["status primitive"]);
    let values = &comparison.differences[0];
    assert_eq!(
        (values.production.as_deref(), values.shadow.as_deref()),
        (Some("200"), Some("500"))
    );
}

#[test]
fn legs_without_an_answer() {
    let run = |production: Option<Unpaired>, shadow: Option<Unpaired>| {
        let mut exchange = exchange(json("1"), json("1"));
        if let Some(reason) = production {
            exchange.production = Err(reason);
        }
        if let Some(reason) = shadow {
            exchange.shadow = Err(reason);
        }
        Comparer::new(Rules::default()).unwrap().compare(&exchange, &Noise::default()).verdict
    };
    assert_eq!(run(None, Some(Unpaired::Closed)), Verdict::Missing);
    assert_eq!(run(None, Some(Unpaired::Unparsable)), Verdict::Missing);
    assert_eq!(run(None, Some(Unpaired::Lost)), Verdict::Unpaired);
    assert_eq!(run(Some(Unpaired::Closed), None), Verdict::Unpaired);
    assert_eq!(run(Some(Unpaired::Closed), Some(Unpaired::Closed)), Verdict::Unpaired);
}

fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

fn zlib(octets: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

fn bare_deflate(octets: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

fn zstd(octets: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(octets, ruzstd::encoding::CompressionLevel::Fastest)
}

/// `{"a":1}` by `brotli -c`.
const BROTLI: &[u8] = b"\x0f\x03\x80\x7b\x22\x61\x22\x3a\x31\x7d\x03";

fn coded(coding: &str, octets: impl AsRef<[u8]>) -> Response {
    let head = format!("Content-Type: application/json\r\nContent-Encoding: {coding}\r\n");
    answer(&head, octets)
}

#[test]
fn content_codings_are_taken_off() {
    let one = br#"{"a":1}"#;
    let two = br#"{"a":2}"#;
    let twice = |octets: &[u8]| gzip(&zlib(octets));
    type Code<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let codings: [(&str, Code<'_>); 5] = [
        ("gzip", &gzip),
        ("deflate", &zlib),
        ("deflate", &bare_deflate),
        ("zstd", &zstd),
        ("deflate, gzip", &twice),
    ];
    for (name, code) in codings {
        let comparison = compare(coded(name, code(one)), coded(name, code(two)));
        assert_eq!(keys(&comparison), ["body.a primitive"], "{name}");
        assert_eq!(comparison.opaque, None);
    }
    let comparison =
        compare(coded("br", BROTLI), coded("br", b"\x0f\x03\x80\x7b\x22\x61\x22\x3a\x32\x7d\x03"));
    assert_eq!(keys(&comparison), ["body.a primitive"]);
    let plain = answer("Content-Type: application/json\r\n", one);
    let comparison = compare(plain, coded("gzip", gzip(one)));
    assert_eq!(keys(&comparison), ["header.content-encoding extra"]);
}

#[test]
fn bombs_and_nonsense_are_not_looked_into() {
    let bomb = |last: u8| {
        let mut octets = vec![b' '; 4 << 20];
        octets.push(last);
        octets
    };
    for (name, code) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("zstd", zstd), ("deflate", zlib)]
    {
        let comparison = compare(coded(name, code(&bomb(b'1'))), coded(name, code(&bomb(b'2'))));
        assert_eq!(comparison.opaque, Some(Opaque::TooLong), "{name}");
        assert_eq!(keys(&comparison), ["body primitive"]);
    }
    let nonsense = compare(coded("gzip", "x"), coded("gzip", "y"));
    assert_eq!(nonsense.opaque, Some(Opaque::Malformed));
    let unknown = compare(coded("compress", "x"), coded("compress", "y"));
    assert_eq!(unknown.opaque, Some(Opaque::Coding));
    let stacked = compare(coded("gzip,gzip,gzip,gzip", "x"), coded("gzip,gzip,gzip,gzip", "y"));
    assert_eq!(stacked.opaque, Some(Opaque::Coding));
}

#[test]
fn bodies_that_were_not_kept_are_compared_by_length_and_hash() {
    let cut = |octets: &str| {
        let mut response = json(octets);
        response.body.kept.truncate(3);
        response
    };
    assert_eq!(compare(cut("[1,2]"), cut("[1,2]")).verdict, Verdict::Match);
    let comparison = compare(cut("[1,2]"), cut("[1,3]"));
    assert_eq!(comparison.opaque, Some(Opaque::NotKept));
    assert_eq!(keys(&comparison), ["body primitive"]);
    let counted = |octets: &str| {
        let mut response = cut(octets);
        response.body = Body { len: octets.len() as u64, ..Body::default() };
        response
    };
    assert_eq!(compare(counted("1"), counted("22")).verdict, Verdict::Match);
}

#[test]
fn text_that_is_no_json_differs_as_a_whole() {
    let text = |octets| answer("Content-Type: text/plain\r\n", octets);
    assert_eq!(keys(&compare(text("{\"a\":1}"), text("{\"a\":2}"))), ["body primitive"]);
    assert_eq!(keys(&compare(json("{\"a\":1}"), json("<html>"))), ["body type"]);
    assert_eq!(keys(&compare(json("<a>"), json("<b>"))), ["body primitive"]);
    assert_eq!(
        keys(&compare(answer("", "{\"a\":1}"), answer("", "{\"a\":2}"))),
        ["body.a primitive"]
    );
}

fn endpoint(method: &str, target: &str, routes: &[&str]) -> String {
    let mut rules = Rules::default();
    for route in routes {
        rules.route(Route::parse(route).unwrap()).unwrap();
    }
    let mut exchange = exchange(json("1"), json("1"));
    exchange.request.method = method.into();
    exchange.request.target = target.into();
    Comparer::new(rules).unwrap().endpoint(&exchange).to_string()
}

#[test]
fn paths_are_folded() {
    for (target, expected) in [
        ("/", "/"),
        ("/users/17/posts?x=1", "/users/{id}/posts"),
        ("/users/-17", "/users/{id}"),
        ("/days/2026-11-25", "/days/{id}"),
        ("/v1/things", "/v1/things"),
        ("/u/550e8400-e29b-41d4-a716-446655440000", "/u/{uuid}"),
        ("/c/da39a3ee5e6b4b0d3255bfef95601890afd80709", "/c/{hash}"),
        ("/t/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "/t/{hash}"),
        ("/u/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/u/{hash}"),
        ("/posts/how-to-write-10-good-tests", "/posts/how-to-write-10-good-tests"),
        ("/defaced/facade", "/defaced/facade"),
        ("/img/17.png", "/img/{id}.png"),
        ("/app.da39a3ee5e6b4b0d.js", "/app.{hash}.js"),
        ("http://a.example/x/1?y", "/x/{id}"),
        ("http://a.example", "/"),
        ("/go?to=http://a.example/1", "/go"),
    ] {
        assert_eq!(endpoint("GET", target, &[]), format!("GET {expected}"), "{target}");
    }
    assert_eq!(endpoint("OPTIONS", "*", &[]), "OPTIONS *");
    assert_eq!(endpoint("CONNECT", "a.example:443", &[]), "CONNECT {authority}");
    let long = endpoint("GET", &"/x".repeat(10_000), &[]);
    assert!(long.len() < 300 && long.ends_with('…'), "{long}");
}

#[test]
fn routes_come_first() {
    let routes = ["/users/{name}/posts", "GET /files/{*rest}"];
    assert_eq!(endpoint("GET", "/users/anna/posts?x", &routes), "GET /users/{name}/posts");
    assert_eq!(endpoint("PUT", "/users/anna/posts", &routes), "PUT /users/{name}/posts");
    assert_eq!(endpoint("GET", "/files/a/b/c", &routes), "GET /files/{*rest}");
    assert_eq!(endpoint("PUT", "/files/a/b/1", &routes), "PUT /files/a/b/{id}");
}

#[test]
fn endpoints_are_bounded() {
    let mut endpoints = Endpoints::new(&[], 2).unwrap();
    let mut exchange = exchange(json("1"), json("1"));
    let mut names = Vec::new();
    for target in ["/a", "/b", "/c", "/a"] {
        exchange.request.target = target.into();
        names.push(endpoints.of(&exchange).to_string());
    }
    assert_eq!(names, ["GET /a", "GET /b", OTHER, "GET /a"]);
    assert_eq!(endpoints.len(), 2);
}

#[test]
fn noise_does_not_count_and_is_never_structural() {
    let mut noise = Noise::default();
    let (endpoint, path) = ("GET /users/{id}".into(), "body.a".into());
    for kind in [Kind::Missing, Kind::Extra, Kind::Type, Kind::Length] {
        noise.insert(&endpoint, &path, kind);
        noise.insert(&endpoint, &"body".into(), Kind::Primitive);
        noise.insert(&endpoint, &"status".into(), Kind::Primitive);
    }
    assert!(noise.is_empty());
    noise.insert(&endpoint, &path, Kind::Primitive);
    let mut comparer = Comparer::new(Rules::default()).unwrap();
    let mut run =
        |ours: &str, theirs: &str| comparer.compare(&exchange(json(ours), json(theirs)), &noise);
    let explained = run(r#"{"a":1}"#, r#"{"a":2}"#);
    assert_eq!((explained.verdict, explained.differences[0].noise), (Verdict::Match, true));
    assert_eq!(run(r#"{"a":1}"#, r#"{"a":"2"}"#).verdict, Verdict::Body);
    assert_eq!(run(r#"{"a":1,"b":1}"#, r#"{"a":2,"b":2}"#).verdict, Verdict::Body);
}

#[test]
#[ignore = "prints figures"]
fn bench() {
    let head = |n: u32| {
        format!(
            "Server: nginx/1.22.1\r\nDate: Wed, 25 Nov 2026 04:05:{n} GMT\r\nContent-Type: application/json\r\n\
             Content-Length: 1024\r\nConnection: keep-alive\r\nETag: \"abc-{n}\"\r\nCache-Control: no-cache\r\n\
             X-Frame-Options: DENY\r\nVary: Accept-Encoding\r\n"
        )
    };
    let counted = |mut response: Response| {
        response.body = Body { len: 1_024, ..Body::default() };
        response
    };
    let items = |n: u32| {
        let items: Vec<_> = (0..40).map(|i| format!("{{\"id\":{i},\"price\":{n}.5}}")).collect();
        format!("{{\"at\":{n},\"items\":[{}]}}", items.join(","))
    };
    for (name, exchange) in [
        (
            "status, equal heads",
            exchange(counted(answer(&head(10), "")), counted(answer(&head(10), ""))),
        ),
        (
            "status, other date and etag",
            exchange(counted(answer(&head(10), "")), counted(answer(&head(11), ""))),
        ),
        ("body, equal JSON", exchange(json(items(1)), json(items(1)))),
        (
            "body, JSON of 1 KB with one difference",
            exchange(json(items(1)), json(items(1).replacen("1", "2", 1))),
        ),
        ("body, JSON of 1 KB with 41 differences", exchange(json(items(1)), json(items(2)))),
    ] {
        let mut comparer = Comparer::new(Rules::default()).unwrap();
        let mut tallies = Tallies::new(TallyBounds::default());
        let noise = Noise::default();
        let rounds = 100_000;
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            std::hint::black_box(comparer.compare(std::hint::black_box(&exchange), &noise));
        }
        let compared = start.elapsed() / rounds;
        let comparison = comparer.compare(&exchange, &noise);
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            tallies.record(&exchange, &comparison);
        }
        println!("{name}: {compared:?}, counted in {:?}", start.elapsed() / rounds);
    }
}
