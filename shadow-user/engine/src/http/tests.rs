//! Message boundaries, case by case after RFC 9112. That the pieces in which a
//! stream arrives make no difference is checked here for every split of every
//! case, and for mutated bytes by the fuzz target.

use proptest::prelude::*;

use super::*;

/// Events of a stream of requests, in pieces of at most `piece` octets.
fn requests_in(stream: &[u8], piece: usize) -> (Vec<RequestEvent>, Result<(), HttpError>) {
    let mut requests = Requests::new();
    let mut events = Vec::new();
    for bytes in stream.chunks(piece) {
        let result = requests.push(bytes, &mut |event| events.push(event));
        if result.is_err() {
            return (events, result);
        }
    }
    if requests.is_between() {
        assert_eq!(requests.memory(), 0);
    }
    (events, Ok(()))
}

/// Events of a stream of requests, the same for each split in two and in pieces.
fn requests(stream: &[u8]) -> (Vec<RequestEvent>, Result<(), HttpError>) {
    let whole = requests_in(stream, stream.len().max(1));
    for piece in 1..stream.len().min(20) {
        assert_eq!(requests_in(stream, piece), whole, "pieces of {piece}");
    }
    for split in 0..stream.len() {
        let mut requests = Requests::new();
        let mut events = Vec::new();
        let (front, back) = stream.split_at(split);
        let result = requests
            .push(front, &mut |event| events.push(event))
            .and_then(|()| requests.push(back, &mut |event| events.push(event)));
        assert_eq!((events, result), whole, "split at {split}");
    }
    whole
}

fn responses_in(
    methods: &[Method],
    stream: &[u8],
    piece: usize,
) -> (Vec<ResponseEvent>, Result<(), HttpError>) {
    let mut responses = Responses::new();
    methods.iter().for_each(|method| responses.expect(*method));
    let mut events = Vec::new();
    for bytes in stream.chunks(piece) {
        let result = responses.push(bytes, &mut |event| events.push(event));
        if result.is_err() {
            return (events, result);
        }
    }
    if responses.is_between() && responses.outstanding() == 0 {
        assert_eq!(responses.memory(), 0);
    }
    let result = responses.end(&mut |event| events.push(event));
    (events, result)
}

/// Events of a stream of responses up to its close, the same in any pieces.
fn responses(methods: &[Method], stream: &[u8]) -> (Vec<ResponseEvent>, Result<(), HttpError>) {
    let whole = responses_in(methods, stream, stream.len().max(1));
    for piece in 1..stream.len() {
        assert_eq!(responses_in(methods, stream, piece), whole, "pieces of {piece}");
    }
    whole
}

/// Where the requests of a stream end, as far as it can be told.
fn request_ends(stream: &[u8]) -> (Vec<u64>, Result<(), HttpError>) {
    let (events, result) = requests(stream);
    let ends = events.into_iter().filter_map(|event| match event {
        RequestEvent::Ended { offset } => Some(offset),
        _ => None,
    });
    (ends.collect(), result)
}

/// Statuses and ends of the final responses.
fn response_ends(methods: &[Method], stream: &[u8]) -> (Vec<(u16, u64)>, Result<(), HttpError>) {
    let (events, result) = responses(methods, stream);
    let ends = events.into_iter().filter_map(|event| match event {
        ResponseEvent::Ended { offset, status, .. } => Some((status, offset)),
        _ => None,
    });
    (ends.collect(), result)
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn events_of_a_request() {
    let stream = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc";
    let end = stream.len() as u64;
    let head = RequestEvent::Head {
        offset: end - 3,
        method: Method::Other,
        expects_continue: true,
        upgrade: false,
    };
    let started = RequestEvent::Started { offset: 0 };
    assert_eq!(
        requests(stream),
        (vec![started, head, RequestEvent::Ended { offset: end }], Ok(()))
    );
}

#[test]
fn pipelined_requests() {
    let len = GET.len() as u64;
    assert_eq!(request_ends(&GET.repeat(3)), (vec![len, 2 * len, 3 * len], Ok(())));
}

#[test]
fn rfc_9112_2_2_empty_lines_before_a_request() {
    let stream = [b"\r\n\n\r\n", GET, b"\r\n", GET].concat();
    let (events, result) = requests(&stream);
    assert_eq!(result, Ok(()));
    assert_eq!(events[0], RequestEvent::Started { offset: 5 });
    assert_eq!(events[3], RequestEvent::Started { offset: 5 + GET.len() as u64 + 2 });
    assert!(requests(b"\rGET / HTTP/1.1\r\n\r\n").1.is_err());
}

#[test]
fn rfc_9112_2_2_bare_line_feeds() {
    assert_eq!(request_ends(b"GET / HTTP/1.1\nA: b\n\n"), (vec![21], Ok(())));
}

#[test]
fn rfc_9112_7_1_chunks() {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "00005;a=\"b\"\r\nhello\r\n5 ; x\r\nworld\r\n000\r\n\r\n",
        "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\nExpires: never\r\nA: b\r\n\r\n",
        "2\r\n\r\n\r\n0;\r\n\r\n",
    ] {
        let message = format!("{head}{body}");
        let len = message.len() as u64;
        let ends = request_ends(message.repeat(2).as_bytes());
        assert_eq!(ends, (vec![len, 2 * len], Ok(())), "{body:?}");
    }
    for body in
        ["\r\n", "g\r\n", "-1\r\n", "5\nhello", "5;\nhello\r\n", "1\r\nab", "10000000000000000\r\n"]
    {
        let message = format!("{head}{body}");
        assert_eq!(requests(message.as_bytes()).1, Err(HttpError::Chunk), "{body:?}");
    }
}

#[test]
fn rfc_9112_6_3_length_of_requests() {
    let with = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n");
    for (fields, body) in [
        ("", ""),
        ("Content-Length: 0\r\n", ""),
        ("content-length:4\r\n", "body"),
        ("Content-Length: 4, 4\r\n", "body"),
        ("Content-Length: 4\r\nContent-Length: 4\r\n", "body"),
        // 3: Transfer-Encoding overrides Content-Length.
        ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n"),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: Chunked\r\n", "0\r\n\r\n"),
    ] {
        let message = with(fields) + body;
        let end = message.len() as u64;
        let stream = [message.as_bytes(), GET].concat();
        let ends = request_ends(&stream);
        assert_eq!(ends, (vec![end, end + GET.len() as u64], Ok(())), "{fields:?}");
    }
    for (fields, error) in [
        ("Content-Length: 4\r\nContent-Length: 5\r\n", HttpError::ContentLength),
        ("Content-Length: 4, 5\r\n", HttpError::ContentLength),
        ("Content-Length: +4\r\n", HttpError::ContentLength),
        ("Content-Length: \r\n", HttpError::ContentLength),
        ("Content-Length: 99999999999999999999\r\n", HttpError::ContentLength),
        ("Transfer-Encoding: gzip\r\n", HttpError::TransferEncoding),
        ("Transfer-Encoding: chunked, gzip\r\n", HttpError::TransferEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", HttpError::TransferEncoding),
        ("A: b\r\n c\r\n", HttpError::Head(httparse::Error::HeaderName)),
        ("A : b\r\n", HttpError::Head(httparse::Error::HeaderName)),
    ] {
        assert_eq!(requests(with(fields).as_bytes()).1, Err(error), "{fields:?}");
    }
    // 6.1: transfer codings are unknown to HTTP/1.0.
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(requests(old).1, Err(HttpError::TransferEncoding));
}

#[test]
fn other_protocols_fail() {
    for stream in
        [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"*1\r\n$4\r\nPING\r\n\r\n", b"\x16\x03\x01\n\n"]
    {
        assert!(matches!(requests(stream).1, Err(HttpError::Head(_))), "{stream:?}");
    }
}

#[test]
fn heads_are_bounded() {
    let filler = vec![b'a'; MAX_HEAD_LEN];
    let long = [b"GET / HTTP/1.1\r\nA: ", &filler[..], b"\r\n\r\n"].concat();
    for piece in [1, 1000, long.len()] {
        assert_eq!(requests_in(&long, piece).1, Err(HttpError::HeadTooLong));
    }
    let fits = [b"GET / HTTP/1.1\r\nA: ", &filler[..MAX_HEAD_LEN - 23], b"\r\n\r\n"].concat();
    for piece in [1, 1000, fits.len()] {
        assert_eq!(requests_in(&fits, piece).1, Ok(()));
    }
    let mut endless = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".to_vec();
    endless.extend(b"A: b\r\n".repeat(20_000));
    assert_eq!(requests_in(&endless, 1000).1, Err(HttpError::HeadTooLong));
    let mut extension = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0;".to_vec();
    extension.extend(&filler);
    assert_eq!(requests_in(&extension, 100).1, Err(HttpError::Chunk));
}

#[test]
fn large_bodies_are_counted() {
    let mut requests = Requests::new();
    let mut ends = Vec::new();
    let mut on = |event| {
        if let RequestEvent::Ended { offset } = event {
            ends.push(offset);
        }
    };
    let head = b"PUT / HTTP/1.1\r\nContent-Length: 6000000000\r\n\r\n";
    requests.push(head, &mut on).unwrap();
    let piece = vec![0; 60_000];
    for _ in 0..100_000 {
        requests.push(&piece, &mut on).unwrap();
        assert_eq!(requests.memory(), 0);
    }
    requests.push(GET, &mut on).unwrap();
    let end = head.len() as u64 + 6_000_000_000;
    assert_eq!(ends, [end, end + GET.len() as u64]);
}

#[test]
fn an_upgrade_may_become_a_tunnel_or_not() {
    let upgrade = b"GET /ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: x\r\n\r\n";
    let connect = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
    for opening in [&upgrade[..], connect] {
        let end = opening.len() as u64;
        let (events, result) =
            requests(&[opening, b"\x81\x05hello\n\nGET / HTTP/1.1\r\n"].concat());
        assert_eq!(result, Ok(()));
        assert_eq!(
            events[2..],
            [RequestEvent::Ended { offset: end }, RequestEvent::Tunnel { offset: end }]
        );
        let refused = request_ends(&[opening, GET, b"junk\n\n"].concat());
        assert_eq!(refused.0, [end, end + GET.len() as u64]);
        assert!(refused.1.is_err());
        // Far more than a head's length at once.
        let tunnel = [opening, &[b'a'; 100_000]].concat();
        for piece in [7, tunnel.len()] {
            assert_eq!(requests_in(&tunnel, piece).0[3], RequestEvent::Tunnel { offset: end });
        }
    }
    let not_named = b"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n";
    let RequestEvent::Head { upgrade: false, .. } = requests(not_named).0[1] else { panic!() };
}

#[test]
fn events_of_a_response() {
    let stream = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let end = stream.len() as u64;
    let expected = vec![
        ResponseEvent::Started { offset: 0 },
        ResponseEvent::Interim { offset: 25, status: 100 },
        ResponseEvent::Started { offset: 25 },
        ResponseEvent::Head { offset: end - 2, status: 200, solicited: true },
        ResponseEvent::Ended { offset: end, status: 200, upgrade: false },
    ];
    assert_eq!(responses(&[Method::Other], stream), (expected, Ok(())));
    let unasked = responses(&[], b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n").0;
    assert!(matches!(unasked[1], ResponseEvent::Head { solicited: false, .. }));
}

#[test]
fn rfc_9112_6_3_length_of_responses() {
    use Method::{Connect, Head, Other};
    const NEXT: &[u8] = b"HTTP/1.1 299 x\r\nContent-Length: 0\r\n\r\n";
    for (method, status, fields, body) in [
        // 1.
        (Head, 200, "Content-Length: 5\r\n", ""),
        (Head, 200, "Transfer-Encoding: chunked\r\n", ""),
        (Other, 204, "", ""),
        (Other, 304, "Content-Length: 5\r\n", ""),
        // 2, refused.
        (Connect, 403, "Content-Length: 2\r\n", "no"),
        // 3.
        (Other, 200, "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", "2\r\nab\r\n0\r\n\r\n"),
        // 6.
        (Other, 200, "Content-Length: 5\r\n", "hello"),
        (Other, 500, "Content-Length: 0\r\n", ""),
        // 5.1 and 5.2 of the RFC: tolerated in responses.
        (Other, 200, "A : b\r\nB: c\r\n d\r\nContent-Length: 1\r\n", "x"),
    ] {
        let message = format!("HTTP/1.1 {status} x\r\n{fields}\r\n{body}");
        let end = message.len() as u64;
        let stream = [message.as_bytes(), NEXT].concat();
        let expected = vec![(status, end), (299, end + NEXT.len() as u64)];
        let ends = response_ends(&[method, Other], &stream);
        assert_eq!(ends, (expected, Ok(())), "{method:?} {status} {fields:?}");
    }
    // 4 and 8: until the server closes.
    for fields in ["", "Transfer-Encoding: gzip\r\n", "Transfer-Encoding: chunked, gzip\r\n"] {
        let mut stream = format!("HTTP/1.1 200 x\r\n{fields}\r\n").into_bytes();
        let empty = stream.len() as u64;
        if !fields.contains("chunked") {
            assert_eq!(response_ends(&[Other], &stream), (vec![(200, empty)], Ok(())));
            stream.extend_from_slice(NEXT);
            let end = stream.len() as u64;
            assert_eq!(response_ends(&[Other], &stream), (vec![(200, end)], Ok(())));
        } else {
            assert_eq!(responses(&[Other], &stream).1, Err(HttpError::TransferEncoding));
        }
    }
}

#[test]
fn a_close_within_a_response_truncates_it() {
    for stream in [
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        assert_eq!(responses(&[], stream.as_bytes()).1, Err(HttpError::Truncated), "{stream}");
    }
    assert_eq!(responses(&[], b"").1, Ok(()));
}

#[test]
fn tunnels() {
    for (method, status) in [(Method::Other, 101), (Method::Connect, 200), (Method::Head, 101)] {
        let stream = format!("HTTP/1.1 {status} x\r\nUpgrade: x\r\n\r\n\x02anything\n\n");
        let (events, result) = responses(&[method], stream.as_bytes());
        assert_eq!(result, Ok(()));
        let offset = stream.len() as u64 - 11;
        let ended = ResponseEvent::Ended { offset, status, upgrade: true };
        assert_eq!(events.last(), Some(&ended));
    }
}

#[test]
fn recognition() {
    use Recognition::{NeedMore, No, Yes};
    let long = format!("GET /{} HTTP/1.1\r\nHost: a", "a".repeat(9000));
    let fits = format!("GET /{} HTTP/1.1\r\nHost: a", "a".repeat(8000));
    for (bytes, expected) in [
        ("", NeedMore),
        ("G", NeedMore),
        ("GET", NeedMore),
        ("GET ", NeedMore),
        ("GET /index.html", NeedMore),
        ("GET /index.html HTTP/1.1", NeedMore),
        ("GET /index.html HTTP/1.1\r\n", NeedMore),
        ("GET /index.html HTTP/1.1\r\nHo", NeedMore),
        ("GET /index.html HTTP/1.1\r\nHost:", Yes),
        ("GET / HTTP/1.0\r\n\r", NeedMore),
        ("GET / HTTP/1.0\r\n\r\n", Yes),
        ("GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\nbody", Yes),
        ("OPTIONS * HTTP/1.1\r\nA:", Yes),
        ("CONNECT a:443 HTTP/1.1\r\nA:", Yes),
        ("POST http://a/b HTTP/1.1\r\nA:", Yes),
        ("VERSION-CONTROL /a HTTP/1.1\r\nA:", Yes),
        (&fits, Yes),
        (&long, No),
        ("OST / HTTP/1.1\r\nA:", No),
        ("POS", NeedMore),
        ("POSE", No),
        ("get / HTTP/1.1\r\nA:", No),
        ("GET a HTTP/1.1\r\nA:", No),
        ("GET * HTTP/1.1\r\nA:", No),
        ("GET / HTTP/2.0\r\nA:", No),
        ("GET / HTTP/1.1 \r\nA:", No),
        ("GET /\r\n", No),
        ("GET / HTTP/1.1\r\n: x", No),
        ("GET / HTTP/1.1\r\nA b: x", No),
        ("\r\nGET / HTTP/1.1\r\nA:", No),
        ("PRI * HTTP/2.0\r\n\r\n", No),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\r\n", No),
        ("AVERYLONGMETHODINDEEDTOOLONG", No),
        ("SSH-2.0-OpenSSH_9.6\r\n", No),
        ("*1\r\n$4\r\nPING\r\n", No),
        ("PING\r\n", No),
        ("SET a b\r\n", No),
        ("EHLO a\r\n", No),
        ("\u{16}\u{3}\u{1}", No),
        (" world\", \"GET / HTTP/1.1\r\nA:", No),
    ] {
        assert_eq!(looks_like_request(bytes.as_bytes()), expected, "{bytes:?}");
    }
}

prop_compose! {
    /// A request whose body is delimited somehow, with its method.
    fn request()(
        method in prop_oneof![Just("GET"), Just("POST"), Just("HEAD"), Just("PATCH")],
        framing in 0..3,
        body in prop::collection::vec(any::<u8>(), 0..60),
        chunk in 1usize..20,
        blank in any::<bool>(),
    ) -> (Vec<u8>, usize) {
        let mut message = Vec::new();
        if blank {
            message.extend_from_slice(b"\r\n");
        }
        let skipped = message.len();
        message.extend_from_slice(format!("{method} /x HTTP/1.1\r\nHost: a\r\n").as_bytes());
        match framing {
            0 => message.extend_from_slice(b"\r\n"),
            1 => {
                message.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                message.extend_from_slice(&body);
            }
            _ => {
                message.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for data in body.chunks(chunk) {
                    message.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                    message.extend_from_slice(data);
                    message.extend_from_slice(b"\r\n");
                }
                message.extend_from_slice(b"0\r\n\r\n");
            }
        }
        (message, skipped)
    }
}

proptest! {
    /// Boundaries are those of the messages that were put together.
    #[test]
    fn boundaries_of_built_streams(
        messages in prop::collection::vec(request(), 1..6),
        pieces in prop::collection::vec(1usize..40, 1..10),
    ) {
        let stream = messages.iter().flat_map(|(message, _)| message.clone()).collect::<Vec<_>>();
        let mut begins = Vec::new();
        let mut ends = Vec::new();
        let mut at = 0;
        for (message, skipped) in &messages {
            begins.push((at + skipped) as u64);
            at += message.len();
            ends.push(at as u64);
        }
        let mut requests = Requests::new();
        let (mut found_begins, mut found_ends) = (Vec::new(), Vec::new());
        let mut rest = &stream[..];
        for piece in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (front, back) = rest.split_at((*piece).min(rest.len()));
            rest = back;
            requests
                .push(front, &mut |event| match event {
                    RequestEvent::Started { offset } => found_begins.push(offset),
                    RequestEvent::Ended { offset } => found_ends.push(offset),
                    _ => {}
                })
                .unwrap();
        }
        prop_assert_eq!(found_begins, begins);
        prop_assert_eq!(found_ends, ends);
        prop_assert!(requests.is_between());
        prop_assert_eq!(requests.memory(), 0);
    }
}
