//! The lines of JSON, as a program would write them.

use shadow_engine::books::LeftOut;
use shadow_engine::rules::Unsendable;

use super::line::{self, Reply, Unreadable, Wrong};
use super::*;

/// A request as the engine proposes it.
fn proposal(target: &str) -> shadow_engine::rules::Proposal {
    let head =
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nX-N: \u{e9}\r\nContent-Length: 2\r\n\r\n");
    // Octets of the head that are no UTF-8: a lone é of ISO 8859-1.
    let head: Vec<u8> = head.chars().map(|c| u8::try_from(c).unwrap()).collect();
    shadow_engine::rules::Proposal::of(&head, b"\xff\x00").unwrap()
}

fn read(line: &str) -> Result<Reply, Wrong> {
    line::read(line.as_bytes(), &proposal("/a?b"), 10)
}

#[test]
fn a_request_is_one_line() {
    let line = line::write(7, &proposal("/a?b")).unwrap();
    assert_eq!(
        String::from_utf8(line).unwrap(),
        "{\"id\":7,\"method\":\"POST\",\"target\":\"/a?b\",\
         \"headers\":[[\"Host\",\"a\"],[\"X-N\",\"é\"]],\"body\":\"/wA=\"}\n"
    );
}

#[test]
fn what_is_given_back_is_what_was_shown() {
    for line in [
        r#"{"id":1,"action":"send"}"#,
        r#"{"id":1,"action":"send","method":"POST","target":"/a?b","headers":[["Host","a"],["X-N","é"]],"body":"/wA="}"#,
    ] {
        let Ok(Reply::Send(sent)) = read(line) else { panic!("{line}") };
        assert_eq!(sent.parts(), proposal("/a?b").parts());
    }
    assert!(matches!(read(r#"{"id":1,"action":"pass","body":"AA=="}"#), Ok(Reply::Pass)));
    assert!(matches!(read(r#"{"action":"drop","id":1}"#), Ok(Reply::Drop)));
}

#[test]
fn what_cannot_be_used_is_said() {
    for (line, what) in [
        (r#"{"id":1}"#, "missing field `action`"),
        (r#"{"id":1,"action":"allow"}"#, "unknown variant `allow`"),
        (r#"{"id":1,"action":"send","header":[]}"#, "unknown field `header`"),
        (r#"{"id":1,"action":"send","body":"?"}"#, "no base64"),
        (r#"{"id":1,"action":"send","target":"/€"}"#, "target has a character beyond U+00FF"),
        (
            r#"{"id":1,"action":"send","headers":[["Host","a\r\nX: y"]]}"#,
            "a header line that is none",
        ),
        (r#"{"id":1,"action":"send","body":"AAAAAAAAAAAAAAAAAAAA"}"#, "a body that is too long"),
    ] {
        let Err(error) = read(line) else { panic!("{line}") };
        assert!(error.to_string().contains(what), "{line}: {error}");
    }
    assert!(matches!(
        read(r#"{"id":1,"action":"send","method":"HEAD"}"#),
        Err(Wrong::Request(Unsendable::Method))
    ));
    for line in ["", "no JSON", "[]", r#"{"action":"pass"}"#, r#"{"id":-1}"#] {
        assert!(matches!(line::id(line.as_bytes()), Err(Unreadable::NoReply(_))), "{line}");
    }
}

#[test]
fn what_is_on_its_way_is_bounded() {
    let queue = Arc::<Queue>::default();
    let take = |octets| Share::take(&queue, octets);
    let first = take(MAX_QUEUED - 5).unwrap();
    assert_eq!(take(6).map(drop), Err(LeftOut::FilterExecBusy));
    drop(first);
    let shares: Vec<_> = (0..=MAX_WAITING).map_while(|_| take(0).ok()).collect();
    assert_eq!(shares.len(), MAX_WAITING);
    drop(shares);
    assert!(take(MAX_QUEUED).is_ok());
}
