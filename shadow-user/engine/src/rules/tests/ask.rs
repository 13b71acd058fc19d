//! Requests about which a program is asked.

use super::*;

const LIMIT: usize = 1_000;

fn proposal(head: &str, body: &[u8]) -> Proposal {
    let rules = rules(Rules::ask);
    let Verdict::Collect { plan, .. } = rules.judge(head.as_bytes(), &context()) else { panic!() };
    Proposal::new(plan.head(body.len()), body.to_vec())
}

fn revised(proposal: &Proposal, revision: Revision) -> Result<(String, Vec<u8>), Unsendable> {
    let (head, body) = proposal.revise(revision, LIMIT)?.into_octets();
    Ok((String::from_utf8(head).unwrap(), body))
}

fn field(name: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (name.into(), value.into())
}

const POST: &str = "POST /a?b HTTP/1.1\r\nHost: a\r\nx-A:  b\r\nContent-Length: 2\r\n\r\n";

#[test]
fn what_passes_is_what_the_client_sent_but_for_chunks() {
    for head in ["GET /a HTTP/1.0\n\n", POST, "HEAD /a HTTP/1.1\r\nHost:a\r\n\r\n"] {
        assert_eq!(proposal(head, b"ab").into_octets(), (head.into(), b"ab".to_vec()));
    }
    let chunked = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\nHost: a\r\n\
        Content-Encoding: gzip\r\n\r\n";
    let whole =
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(proposal(chunked, b"ab").into_octets(), (whole.into(), b"ab".to_vec()));
}

#[test]
fn what_is_not_named_stays_and_the_length_is_right() {
    let proposal = proposal(POST, b"ab");
    let parts = proposal.parts().unwrap();
    assert_eq!((parts.method, &*parts.target, parts.body), ("POST", &b"/a?b"[..], &b"ab"[..]));
    assert_eq!(parts.fields, [field("Host", "a"), field("x-A", "b")]);
    let kept = "POST /a?b HTTP/1.1\r\nHost: a\r\nx-A: b\r\nContent-Length: 3\r\n\r\n";
    let body = Some(b"abc".to_vec());
    let revision = Revision { body, ..Revision::default() };
    assert_eq!(revised(&proposal, revision), Ok((kept.into(), b"abc".to_vec())));
    // A length of the program's own is not taken, nor is any other framing.
    let fields = [
        field("content-length", "7"),
        field("Host", "b"),
        field("Transfer-Encoding", "chunked"),
        field("Trailer", "X"),
    ];
    let revision = Revision {
        method: Some("DELETE".into()),
        target: Some(b"/c".to_vec()),
        fields: Some(fields.to_vec()),
        body: Some(Vec::new()),
    };
    let head = "DELETE /c HTTP/1.1\r\nHost: b\r\n\r\n";
    assert_eq!(revised(&proposal, revision), Ok((head.into(), Vec::new())));
}

#[test]
fn nothing_is_injected() {
    let proposal = proposal(POST, b"ab");
    let method = |text: &str| Revision { method: Some(text.into()), ..Revision::default() };
    let target = |text: &str| Revision { target: Some(text.into()), ..Revision::default() };
    let fields = |list: &[(&str, &str)]| {
        let list = list.iter().map(|(name, value)| field(name, value));
        let host = [field("Host", "a")].into_iter();
        Revision { fields: Some(host.chain(list).collect()), ..Revision::default() }
    };
    let body = |len| Revision { body: Some(vec![0; len]), ..Revision::default() };
    for (revision, why) in [
        (method(""), Unsendable::Method),
        (method("GET /x"), Unsendable::Method),
        (method("CONNECT"), Unsendable::Method),
        (method("HEAD"), Unsendable::Method),
        (target(""), Unsendable::Target),
        (target("/a b"), Unsendable::Target),
        (target("/a HTTP/1.1\r\nX: y"), Unsendable::Target),
        (fields(&[("X", "a\r\nY: b")]), Unsendable::Field),
        (fields(&[("X", "a\nY: b")]), Unsendable::Field),
        (fields(&[("X", "a\0")]), Unsendable::Field),
        (fields(&[("X: a\r\nY", "b")]), Unsendable::Field),
        (fields(&[("X ", "b")]), Unsendable::Field),
        (fields(&[("", "b")]), Unsendable::Field),
        (fields(&[("host", "b")]), Unsendable::Host),
        (Revision { fields: Some(Vec::new()), ..Revision::default() }, Unsendable::Host),
        (fields(&[("Connection", "Upgrade"), ("Upgrade", "h2c")]), Unsendable::Upgrade),
        (fields(&[("X", "y"); 2_000]), Unsendable::Request),
        (body(LIMIT + 1), Unsendable::TooLong),
    ] {
        assert_eq!(revised(&proposal, revision.clone()), Err(why), "{revision:?}");
    }
    assert!(revised(&proposal, body(LIMIT)).is_ok());
}

#[test]
fn what_cannot_be_collected_is_not_asked_about() {
    let rules = rules(Rules::ask);
    assert!(rules.must_understand() && !rules.is_empty() && !rules.masks());
    for (head, why) in [
        ("CONNECT a:1 HTTP/1.1\r\n\r\n", Unmaskable::Tunnel),
        ("GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: w\r\n\r\n", Unmaskable::Tunnel),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Unmaskable::Coding),
        ("no head", Unmaskable::Head),
    ] {
        let verdict = rules.judge(head.as_bytes(), &context());
        assert_eq!(verdict, Verdict::Unmaskable(why), "{head}");
        assert_eq!(rules.left_out(why), LeftOut::FilterExecUnaskable);
    }
}

proptest::proptest! {
    /// Whatever a program gives, what is sent is one request with the wished-for parts.
    #[test]
    fn a_revision_is_one_request(
        target in "[ -~\r\n]{0,20}",
        fields in proptest::collection::vec(("[A-Za-z: -]{0,8}", "[ -~\r\n\t]{0,12}"), 0..5),
        body in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..40),
    ) {
        let mut list: Vec<_> = fields.iter().map(|(name, value)| field(name, value)).collect();
        list.push(field("Host", "a"));
        let revision = Revision {
            method: None,
            target: Some(target.clone().into_bytes()),
            fields: Some(list),
            body: Some(body.clone()),
        };
        if let Ok(sent) = proposal(POST, b"ab").revise(revision, LIMIT) {
            let parts = sent.parts().unwrap();
            proptest::prop_assert_eq!((&*parts.target, parts.body), (target.as_bytes(), &*body));
            let ours = |name: &str| !super::super::ask::ENDS.iter().any(|it| it.eq_ignore_ascii_case(name));
            let names = fields.iter().filter(|(name, _)| ours(name)).count();
            proptest::prop_assert_eq!(parts.fields.len(), names + 1);
        }
    }
}
