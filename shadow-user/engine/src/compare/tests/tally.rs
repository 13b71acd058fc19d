//! Counts, noise by counts, conditions of failing.

use super::*;

/// One answer against another, so often, in tallies.
fn tallied(pairs: &[(Response, Response, usize)]) -> Tallies {
    let mut comparer = Comparer::new(Rules::default()).unwrap();
    let mut tallies = Tallies::new(TallyBounds { bodies: true, ..TallyBounds::default() });
    for (production, shadow, times) in pairs {
        let exchange = exchange(production.clone(), shadow.clone());
        for _ in 0..*times {
            tallies.record(&exchange, &comparer.compare(&exchange, &Noise::default()));
        }
    }
    tallies
}

const ENDPOINT: &str = "GET /users/{id}";

fn with_status(code: u16) -> Response {
    Response { status: Status::Http(code), ..json("1") }
}

fn lasting(millis: u64) -> Response {
    Response { ended_at: Instant::from_nanos(millis * 1_000_000), ..json("1") }
}

#[test]
fn comparisons_are_counted() {
    let mut tallies = tallied(&[
        (json("1"), json("1"), 90),
        (with_status(200), with_status(500), 7),
        (json(r#"{"a":1}"#), json(r#"{"a":2}"#), 3),
    ]);
    let other = tallies.clone();
    tallies.merge(&other);
    for tally in [tallies.total(), tallies.endpoint(ENDPOINT).unwrap()] {
        assert_eq!((tally.exchanges, tally.compared(), tally.mismatches()), (200, 200, 20));
        assert_eq!(tally.verdict(Verdict::Status), 14);
        let http = |code| Some(Status::Http(code));
        assert_eq!(tally.statuses[&(http(200), http(500))], 14);
        assert_eq!(tally.shadow.count(), 200);
    }
    let tally = tallies.endpoint(ENDPOINT).unwrap();
    let field = tally.fields[&("body.a".into(), Kind::Primitive)];
    assert_eq!(field, FieldTally { raw: 6, noise: 0 });
    assert_eq!(tally.examples().count(), 4, "two of each verdict");
}

#[test]
fn tallies_are_bounded() {
    let bounds =
        TallyBounds { fields: 3, statuses: 2, examples: 2, example_octets: 5_000, bodies: false };
    let mut comparer = Comparer::new(Rules::default()).unwrap();
    let mut tallies = Tallies::new(bounds);
    for n in 0..10_u16 {
        let (ours, theirs) = (format!("{{\"k{n}\":1}}"), format!("{{\"k{n}\":\"secret\"}}"));
        let mut exchange = exchange(json(ours), json(theirs));
        tallies.record(&exchange, &comparer.compare(&exchange, &Noise::default()));
        exchange.shadow = Ok(with_status(500 + n));
        exchange.request.target = format!("/{}", "x".repeat(usize::from(n))).into();
        tallies.record(&exchange, &comparer.compare(&exchange, &Noise::default()));
    }
    let tally = tallies.endpoint(ENDPOINT).unwrap();
    assert_eq!((tally.fields.len(), tally.fields_beyond), (3, 7));
    assert_eq!((tallies.total().statuses.len(), tallies.total().statuses_beyond), (2, 9));
    let examples: Vec<_> = tallies.endpoints().flat_map(|(_, tally)| tally.examples()).collect();
    assert!((1..10).contains(&examples.len()), "{}", examples.len());
    assert!(!format!("{examples:?}").contains("secret"));
}

#[test]
fn the_formula_is_diffys() {
    let thresholds = Thresholds::default();
    assert!(!thresholds.shows(100, 100, 1_000));
    assert!(!thresholds.shows(10, 100, 1_000), "noise differs more often");
    assert!(!thresholds.shows(149, 100, 1_000), "49 / 249 is 19.7 %");
    assert!(thresholds.shows(151, 100, 1_000), "51 / 251 is 20.3 %");
    assert!(!thresholds.shows(3, 0, 10_000), "exactly 0.03 %");
    assert!(thresholds.shows(4, 0, 10_000));
    assert!(!thresholds.shows(0, 0, 0));
    assert_eq!(Thresholds::parse("20%, 0.03%").unwrap(), Thresholds::default());
    assert!(Thresholds::parse("20%").is_err());
    assert!(Thresholds::parse("200%,1%").is_err());
}

/// Two fields: `id` always differs, `n` in so many of a hundred exchanges, in as many of the baseline's.
fn with_baseline(raw: usize, noise: usize) -> (Tallies, Noise) {
    let mut tallies = Tallies::new(TallyBounds::default());
    let mut comparer = Comparer::new(Rules::default()).unwrap();
    let answer = |id: usize, n: usize| json(format!("{{\"id\":{id},\"n\":{n}}}"));
    for at in 0..100 {
        let shadow = exchange(answer(1, 1), answer(2, 1 + usize::from(at < raw)));
        let baseline = exchange(answer(1, 1), answer(3, 1 + usize::from(at < noise)));
        tallies.record(&shadow, &comparer.compare(&shadow, &Noise::default()));
        tallies.record_baseline(&comparer.compare(&baseline, &Noise::default()));
    }
    let noise = tallies.noise(None, &Thresholds::default());
    (tallies, noise)
}

#[test]
fn a_baseline_tells_noise() {
    let (_, noise) = with_baseline(10, 10);
    assert!(noise.contains(ENDPOINT, "body.id", Kind::Primitive));
    assert!(noise.contains(ENDPOINT, "body.n", Kind::Primitive));
    let (_, noise) = with_baseline(20, 10);
    assert!(noise.contains(ENDPOINT, "body.id", Kind::Primitive));
    assert!(!noise.contains(ENDPOINT, "body.n", Kind::Primitive), "twice as often");
    let (_, noise) = with_baseline(10, 0);
    assert!(!noise.contains(ENDPOINT, "body.n", Kind::Primitive));
}

#[test]
fn learnt_noise_survives_a_file() {
    let (tallies, _) = with_baseline(10, 0);
    let learnt = Learnt::read(tallies.learn().write().as_bytes()).unwrap();
    assert_eq!(learnt, tallies.learn());
    let at_start =
        Tallies::new(TallyBounds::default()).noise(Some(&learnt), &Thresholds::default());
    assert!(at_start.contains(ENDPOINT, "body.id", Kind::Primitive));
    assert!(at_start.contains(ENDPOINT, "body.n", Kind::Primitive));

    let later = |n: usize| {
        tallied(&[
            (json(r#"{"id":1,"n":1}"#), json(r#"{"id":2,"n":2}"#), n),
            (json(r#"{"id":1,"n":1}"#), json(r#"{"id":2,"n":1}"#), 200 - n),
        ])
        .noise(Some(&learnt), &Thresholds::default())
    };
    assert!(later(20).contains(ENDPOINT, "body.n", Kind::Primitive), "as often as before");
    assert!(!later(60).contains(ENDPOINT, "body.n", Kind::Primitive), "three times as often");
    assert!(later(60).contains(ENDPOINT, "body.id", Kind::Primitive));

    let error = Learnt::read(b"{\"version\":9}").unwrap_err().to_string();
    assert!(error.starts_with("its format is version 9, not 1"), "{error}");
    assert!(Learnt::read(b"[]").is_err());
}

#[test]
fn structural_differences_are_never_learnt() {
    let learnt = tallied(&[
        (json(r#"{"a":1}"#), json("{}"), 9),
        (json(r#"{"a":[1]}"#), json(r#"{"a":[]}"#), 9),
        (json(r#"{"a":1}"#), json(r#"{"a":"1"}"#), 9),
        (json("1"), json("2"), 9),
        (json("1"), with_status(500), 9),
        (json("{\"a\":1}"), answer("", "{\"a\":1}"), 9),
    ])
    .learn();
    assert!(learnt.endpoints.is_empty(), "{learnt:?}");
    let forged = br#"{"version":1,"endpoints":[{"endpoint":"GET /users/{id}","exchanges":1,
        "fields":[{"path":"body.a","kind":"missing","differed":1}]}]}"#;
    let noise = Tallies::new(TallyBounds::default())
        .noise(Some(&Learnt::read(forged).unwrap()), &Thresholds::default());
    assert!(noise.is_empty());
}

#[test]
fn conditions_hold_or_not() {
    let tallies = tallied(&[
        (lasting(10), lasting(10), 95),
        (lasting(10), lasting(13), 4),
        (json("1"), json("2"), 1),
    ]);
    for (condition, holds) in [
        ("mismatch>0", true),
        ("mismatch > 1%", false),
        ("mismatch>=1%", true),
        ("mismatch>0.99%", true),
        ("body>0", true),
        ("status>0", false),
        ("missing>0", false),
        ("match<100", true),
        ("match<99", false),
        ("compared<101", true),
        ("compared<=99", false),
        ("p50>+1%", false),
        ("p99>+20%", true),
        ("p99>+2ms", true),
        ("p99>+4ms", false),
        ("p99>12ms", true),
        ("p99>1s", false),
        ("mean>+50%", false),
    ] {
        let reason = FailOn::parse(condition).unwrap().reason(&tallies);
        assert_eq!(reason.is_some(), holds, "{condition}: {reason:?}");
    }
    let reason = FailOn::parse("mismatch>0.1%").unwrap().reason(&tallies).unwrap();
    assert_eq!(reason, "mismatch>0.1%: 1 of 100 exchanges (1.000 %)");
    let reason = FailOn::parse("p99>+20%").unwrap().reason(&tallies).unwrap();
    assert!(reason.starts_with("p99>+20%: 10.0") && reason.contains("13.0"), "{reason}");

    let empty = Tallies::new(TallyBounds::default());
    assert!(FailOn::parse("p99>0ms").unwrap().reason(&empty).is_none());
    assert!(FailOn::parse("mismatch>=0%").unwrap().reason(&empty).is_none());
    assert!(FailOn::parse("compared<1").unwrap().reason(&empty).is_some());
}

#[test]
fn conditions_that_cannot_be_read_say_where() {
    for (condition, expected) in [
        ("", "unknown metric at character 1"),
        ("mismatches>1", "unknown metric at character 1"),
        ("mismatch", "no > or < at character 9"),
        ("mismatch=1", "no > or < at character 9"),
        ("mismatch>", "no number at character 10"),
        ("mismatch>1.2.3", "no number at character 10"),
        ("mismatch>+1%", "a sign before a count at character 10"),
        ("mismatch>1ms", "a time for a count at character 11"),
        ("compared<1%", "a share of itself at character 11"),
        ("p99>20%", "no + before the share at character 5"),
        ("p99>+-20%", "more than one sign at character 5"),
        ("p99>20", "no unit of time at character 7"),
        ("p99>20min", "unknown unit at character 7"),
    ] {
        let error = FailOn::parse(condition).unwrap_err().to_string();
        assert!(error.contains(expected), "{condition}: {error}");
    }
}

fn reply(octets: &str) -> Response {
    Response {
        status: Status::Redis(octets.as_bytes()[0]),
        head: Head::default(),
        body: body(octets),
        ..json("")
    }
}

#[test]
fn redis_replies_are_compared_by_type_and_value() {
    let run = |ours: &str, theirs: &str| {
        let mut exchange = exchange(reply(ours), reply(theirs));
        exchange.protocol = Protocol::Redis;
        exchange.request.method = "hgetall".into();
        let mut comparer = Comparer::new(Rules::default()).unwrap();
        let comparison = comparer.compare(&exchange, &Noise::default());
        assert_eq!(&*comparison.endpoint, "HGETALL");
        keys(&comparison)
    };
    assert_eq!(run("+OK\r\n", "+OK\r\n"), [""; 0]);
    assert_eq!(run("+OK\r\n", "-ERR no\r\n"), ["status primitive"]);
    assert_eq!(run("-ERR a\r\n", "-ERR b\r\n"), ["body.message primitive"]);
    assert_eq!(run("-ERR a\r\n", "-WRONGTYPE a\r\n"), ["body.error primitive"]);
    assert_eq!(run("$1\r\na\r\n", "$1\r\nb\r\n"), ["body primitive"]);
    assert_eq!(run("$1\r\na\r\n", "$-1\r\n"), ["body type"]);
    assert_eq!(run("*2\r\n:1\r\n:2\r\n", "*2\r\n:2\r\n:1\r\n"), ["body order"]);
    assert_eq!(run("*1\r\n:1\r\n", "*0\r\n"), ["body length"]);
    assert_eq!(run("~2\r\n:1\r\n:2\r\n", "~2\r\n:2\r\n:1\r\n"), [""; 0]);
    assert_eq!(run("%1\r\n+a\r\n:1\r\n", "%1\r\n+a\r\n:2\r\n"), ["body.a primitive"]);
    let deep = |last: &str| format!("{}{last}", "*1\r\n".repeat(20_000));
    assert_eq!(run(&deep(":1\r\n"), &deep(":2\r\n")), ["body primitive"]);
    assert_eq!(run("*999999999\r\n", "*99999999\r\n"), ["body primitive"]);
}
