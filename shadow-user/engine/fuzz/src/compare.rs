//! Any two answers: nothing panics, bounds hold, an answer matches itself, and what is missing one way
//! round is extra the other.

use shadow_engine::compare::{
    Comparer, Comparison, FailOn, Ignore, Kind, Noise, Route, Rules, Tallies, TallyBounds, Verdict,
};
use shadow_engine::exchange::{Body, Exchange, Head, Protocol, Request, Response, Status};
use shadow_engine::time::Instant;

/// What the first octet chooses from.
const HEADS: [&str; 8] = [
    "Content-Type: application/json\r\n",
    "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
    "Content-Type: application/json\r\nContent-Encoding: deflate\r\n",
    "Content-Type: application/json\r\nContent-Encoding: br\r\n",
    "Content-Type: application/json\r\nContent-Encoding: zstd\r\n",
    "Content-Encoding: gzip, br\r\n",
    "",
    "Content-Type: text/plain\r\n",
];

/// Checks one input. The first octet chooses heads and protocol; the rest is two bodies, two heads, or
/// a flag's value, split at the first `0xff`.
pub fn check(input: &[u8]) {
    let Some((&mode, rest)) = input.split_first() else { return };
    let split = rest.iter().position(|byte| *byte == 0xff).unwrap_or(rest.len() / 2);
    let (ours, theirs) = rest.split_at(split);
    let theirs = theirs.strip_prefix(b"\xff").unwrap_or(theirs);
    flags(rest);

    let mut comparer = comparer();
    let mut tallies = Tallies::new(TallyBounds { bodies: true, ..TallyBounds::default() });
    let answers = |octets: &[u8]| match mode >> 3 {
        0..8 => answer(HEADS[usize::from(mode & 7)].as_bytes(), octets, Status::Http(200)),
        8..16 => answer(octets, b"", Status::Http(200)),
        _ => answer(b"", octets, Status::Redis(b'*')),
    };
    let (ours, theirs) = (answers(ours), answers(theirs));
    let mut run = |production: &Response, shadow: &Response, target: &[u8]| {
        let exchange = exchange(production, shadow, target, mode);
        let comparison = comparer.compare(&exchange, &Noise::default());
        let limit = comparer.rules().bounds;
        assert!(comparison.differences.len() <= limit.differences);
        assert!(comparison.endpoint.len() < 600, "{}", comparison.endpoint.len());
        for found in &comparison.differences {
            for value in [&found.production, &found.shadow].into_iter().flatten() {
                assert!(value.len() <= limit.value * 3 + 3, "{}", value.len());
            }
        }
        tallies.record(&exchange, &comparison);
        comparison
    };
    assert_eq!(run(&ours, &ours, rest).verdict, Verdict::Match);
    assert_eq!(run(&theirs, &theirs, rest).verdict, Verdict::Match);
    let forth = run(&ours, &theirs, rest);
    let back = run(&theirs, &ours, rest);
    if forth.opaque.is_none() && back.opaque.is_none() && forth.more + back.more == 0 {
        assert_eq!(count(&forth, Kind::Missing), count(&back, Kind::Extra));
        assert_eq!(count(&forth, Kind::Length), count(&back, Kind::Length));
        assert_eq!(count(&forth, Kind::Order), count(&back, Kind::Order));
    }
    assert_eq!(tallies.total().exchanges, 4);
    let learnt = tallies.learn();
    assert_eq!(shadow_engine::compare::Learnt::read(learnt.write().as_bytes()).unwrap(), learnt);
}

fn count(comparison: &Comparison, kind: Kind) -> usize {
    comparison.differences.iter().filter(|found| found.kind == kind).count()
}

fn flags(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let _ = FailOn::parse(&text);
    let _ = Ignore::parse(&text);
    let _ = Ignore::parse(&format!("json:{text}"));
    let _ = Route::parse(&text);
    let _ = shadow_engine::compare::Slower::parse(&text);
    let _ = shadow_engine::compare::Thresholds::parse(&text);
    let _ = shadow_engine::compare::Learnt::read(input);
}

fn comparer() -> Comparer {
    let mut rules = Rules::default();
    for ignored in ["json:$.a[*].b", "json:$..at", "header:x-build", "query:state"] {
        rules.ignore(Ignore::parse(ignored).unwrap());
    }
    rules.route(Route::parse("/users/{name}/posts").unwrap()).unwrap();
    rules.bounds.decoded = 64 << 10;
    rules.bounds.work = 256 << 10;
    Comparer::new(rules).unwrap()
}

fn answer(head: &[u8], octets: &[u8], status: Status) -> Response {
    let head = [b"HTTP/1.1 200 OK\r\n", head, b"\r\n"].concat();
    let hash = octets
        .iter()
        .fold(7, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    Response {
        status,
        head: Head::Http1(head.into()),
        trailers: Head::default(),
        body: Body { len: octets.len() as u64, kept: octets.to_vec(), hash: Some(hash) },
        asked_at: Instant::from_nanos(0),
        first_at: Instant::from_nanos(1),
        ended_at: Instant::from_nanos(2),
    }
}

fn exchange(production: &Response, shadow: &Response, target: &[u8], mode: u8) -> Exchange {
    Exchange {
        protocol: if mode >> 3 < 16 { Protocol::Http1 } else { Protocol::Redis },
        client: ([192, 0, 2, 1], 5_000).into(),
        server: ([192, 0, 2, 2], 80).into(),
        number: 0,
        request: Request {
            at: Instant::from_nanos(0),
            method: "GET".into(),
            target: format!("/{}", String::from_utf8_lossy(target)).into(),
            head: Head::default(),
            body: Body::default(),
        },
        production: Ok(production.clone()),
        shadow: Ok(shadow.clone()),
    }
}
