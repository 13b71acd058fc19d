mod ask;
mod filter;
mod mask;
mod report;
mod shape;

use std::io::Write as _;

use super::*;

const SECRET: Secret = [7; 16];

fn context() -> Context {
    Context {
        client: "192.0.2.7:4000".parse().unwrap(),
        production: "10.0.0.5:80".parse().unwrap(),
        id: 9,
    }
}

fn rules(add: impl FnOnce(&mut Rules)) -> Rules {
    let mut rules = Rules::default();
    add(&mut rules);
    rules.with_secret(SECRET)
}

/// The head that is sent in place of `head`.
fn sent(rules: &Rules, head: &str) -> String {
    match rules.judge(head.as_bytes(), &context()) {
        Verdict::Send { head } => String::from_utf8(head.into_owned()).unwrap(),
        other => panic!("{other:?} for {head}"),
    }
}

/// Head and body that are sent, or why nothing is.
fn whole(rules: &Rules, head: &str, body: &[u8]) -> Result<(String, Vec<u8>), Unmaskable> {
    match rules.judge(head.as_bytes(), &context()) {
        Verdict::Send { head } => Ok((String::from_utf8(head.into()).unwrap(), body.to_vec())),
        Verdict::Unmaskable(why) => Err(why),
        Verdict::Skip => panic!("skipped: {head}"),
        Verdict::Collect { plan, limit } => {
            if body.len() > limit {
                return Err(Unmaskable::TooLong);
            }
            let body = rules.mask_body(&plan, body)?;
            Ok((String::from_utf8(plan.head(body.len())).unwrap(), body))
        }
    }
}

fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn nothing_is_done_by_default_and_nothing_is_copied() {
    let rules = rules(|_| {});
    assert!(rules.is_empty() && !rules.must_understand() && rules.collects() == 0);
    for head in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "no head at all"] {
        let verdict = rules.judge(head.as_bytes(), &context());
        assert!(
            matches!(verdict, Verdict::Send { head: Cow::Borrowed(it) } if it == head.as_bytes())
        );
    }
}

#[test]
fn a_head_that_no_rule_changes_is_not_copied() {
    let rules = rules(|rules| {
        rules.remove_header(HeaderName::parse("--remove-header", "X-None").unwrap());
        rules.mask_header(MaskHeader::parse("Authorization").unwrap());
        rules.mask_query(MaskParameter::parse("--mask-query", "token").unwrap());
        rules.rewrite_path(RewritePath::parse("^/v1/ => /v2/").unwrap());
        rules.filter(Filter::safe_methods());
    });
    // Line ends and white space are a client's own affair.
    let head = b"GET /a?b=1 HTTP/1.1\nHost:a\r\nX:  1 \n\r\n";
    let verdict = rules.judge(head, &context());
    assert!(
        matches!(verdict, Verdict::Send { head: Cow::Borrowed(it) } if it == head),
        "{verdict:?}"
    );
}

#[test]
fn what_is_no_head_passes_only_where_nothing_must_be_understood() {
    let shaped = rules(|rules| rules.mark(Mark::Header));
    let verdict = shaped.judge(b"\x16\x03\x01", &context());
    assert!(matches!(verdict, Verdict::Send { head: Cow::Borrowed(_) }));
    let filtered = rules(|rules| rules.filter(Filter::safe_methods()));
    let masked = rules(|rules| rules.mask_header(MaskHeader::parse("Cookie").unwrap()));
    for rules in [filtered, masked] {
        for head in [
            &b"\x16\x03\x01"[..],
            b"GET / HTTP/1.1\r\nA: b",
            b"\r\nGET / HTTP/1.1\r\nCookie: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        ] {
            assert_eq!(rules.judge(head, &context()), Verdict::Unmaskable(Unmaskable::Head));
        }
    }
}
