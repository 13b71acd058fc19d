//! Exchanges of HTTP/2, case by case.

use super::PREFACE;
use crate::exchange::tests::{Flow, at, exchanges, limits};
use crate::exchange::{Depth, Exchange, Head, Leg, Piece, Status, Unpaired};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as literals, the first of them indexed from then on.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let field = |(index, (name, value)): (usize, &(&str, &str))| {
        let first = if index == 0 { 0x40 } else { 0 };
        let (name, value) = (name.as_bytes(), value.as_bytes());
        [&[first, name.len() as u8], name, &[value.len() as u8], value].concat()
    };
    fields.iter().enumerate().flat_map(field).collect()
}

fn headers(stream: u32, end: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | u8::from(end), stream, &block(fields))
}

fn data(stream: u32, end: bool, octets: &[u8]) -> Vec<u8> {
    frame(DATA, u8::from(end), stream, octets)
}

/// SETTINGS, a ping, and a frame of a type that nobody knows.
fn noise() -> Vec<u8> {
    [frame(4, 0, 0, &[0, 1, 0, 0, 0x10, 0]), frame(6, 0, 0, &[0; 8]), frame(0x2a, 0xff, 0, b"?")]
        .concat()
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, true, &[(":method", "GET"), (":path", path), ("accept", "*/*")])
}

/// A padded HEADERS frame with priority, a padded DATA frame.
fn padded(stream: u32) -> Vec<u8> {
    let block = block(&[(":method", "POST"), (":path", "/p")]);
    let payload = [&[3][..], &[0, 0, 0, 0, 9], &block, &[0; 3]].concat();
    [
        frame(HEADERS, END_HEADERS | 0x28, stream, &payload),
        frame(DATA, 0x08, stream, b"\x02abc\0\0"),
        frame(DATA, END_STREAM, stream, b""),
    ]
    .concat()
}

/// Two streams that are answered the other way round, one in pieces of a header block, and gRPC.
pub(in crate::exchange) fn flow() -> Flow {
    let requests = [
        PREFACE,
        &noise(),
        &get(1, "/one"),
        &padded(3),
        &headers(
            5,
            false,
            &[(":method", "POST"), (":path", "/svc/Call"), ("content-type", "application/grpc")],
        ),
        &data(5, false, b"question"),
        // By the dynamic table: the POST of stream 5.
        &frame(HEADERS, END_HEADERS, 7, &[0xbe, 0x84]),
        &data(7, true, b""),
        &data(5, true, b"!"),
    ]
    .concat();
    let answer = |grpc: &str, body: &[u8]| {
        let long = block(&[(":status", "200"), ("x-long", "y")]);
        [
            noise(),
            headers(3, false, &[(":status", "103"), ("link", "x")]),
            headers(3, false, &[(":status", "404"), ("a", "b")]),
            frame(HEADERS, 0, 1, &long[..5]),
            frame(9, 0, 1, &[]),
            frame(9, END_HEADERS, 1, &long[5..]),
            data(3, false, body),
            data(1, false, b"one"),
            frame(DATA, 0x09, 3, b"\x03more\0\0\0"),
            // A promised stream is nobody's.
            frame(
                5,
                END_HEADERS,
                1,
                &[&[0, 0, 0, 2][..], &block(&[(":path", "/pushed")])].concat(),
            ),
            headers(2, true, &[(":status", "200")]),
            headers(1, true, &[("x-trailer", "t")]),
            headers(5, false, &[(":status", "200"), ("content-type", "application/grpc+proto")]),
            data(5, false, b"answer"),
            headers(5, true, &[("grpc-status", grpc)]),
            headers(7, true, &[(":status", "204")]),
        ]
        .concat()
    };
    Flow { requests, production: answer("0", b"body"), shadow: answer("14", b"other") }
}

/// HTTP/1 first, then an upgrade on both legs.
pub(in crate::exchange) fn upgraded() -> Flow {
    let requests = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n".as_slice(),
        PREFACE,
        &noise(),
        &get(3, "/three"),
    ]
    .concat();
    let answer = |body: &[u8]| {
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            &*noise(),
            &headers(1, false, &[(":status", "200")]),
            &data(1, true, body),
            &headers(3, true, &[(":status", "304")]),
        ]
        .concat()
    };
    Flow { requests, production: answer(b"upgraded"), shadow: answer(b"so") }
}

fn run(flow: &Flow) -> Vec<Exchange> {
    flow.run(limits(Depth::Body), &[])
}

type Told = Result<Status, Unpaired>;

/// Numbers, and statuses of both legs.
fn statuses(done: &[Exchange]) -> Vec<(u64, Told, Told)> {
    let status = |leg: &Result<crate::exchange::Response, Unpaired>| {
        leg.as_ref().map(|response| response.status).map_err(|reason| *reason)
    };
    done.iter().map(|done| (done.number, status(&done.production), status(&done.shadow))).collect()
}

const OK: Told = Ok(Status::Http(200));

#[test]
fn streams_are_paired() {
    let done = run(&flow());
    assert_eq!(
        statuses(&done),
        [
            (1, OK, OK),
            (3, Ok(Status::Http(404)), Ok(Status::Http(404))),
            (5, Ok(Status::Grpc(0)), Ok(Status::Grpc(14))),
            (7, Ok(Status::Http(204)), Ok(Status::Http(204))),
        ]
    );
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    let asked: Vec<_> = done
        .iter()
        .map(|done| {
            format!(
                "{} {} {}",
                done.request.method,
                done.request.target,
                text(&done.request.body.kept)
            )
        })
        .collect();
    assert_eq!(asked, ["GET /one ", "POST /p abc", "POST /svc/Call question!", "POST / "]);
    let one = done[0].production.as_ref().unwrap();
    assert_eq!(text(&one.body.kept), "one");
    assert_eq!(
        format!("{:?}", one.head),
        format!("{:?}", Head::Fields(vec![(b"x-long"[..].into(), b"y"[..].into())]))
    );
    assert!(!one.trailers.is_empty());
    assert_eq!(text(&done[1].production.as_ref().unwrap().body.kept), "bodymore");
    assert_eq!(done[1].shadow.as_ref().unwrap().asked_at, at(20));
}

#[test]
fn an_upgrade_is_answered_on_stream_1() {
    let done = run(&upgraded());
    assert_eq!(
        statuses(&done),
        [(0, OK, OK), (1, OK, OK), (3, Ok(Status::Http(304)), Ok(Status::Http(304)))]
    );
    assert_eq!(done[1].production.as_ref().unwrap().body.kept, b"upgraded");
}

#[test]
fn a_leg_that_declines_the_upgrade_answers_nothing_more() {
    let mut flow = upgraded();
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    flow.shadow = [&ok[..], ok, b"HTTP/1.1 400 Bad Request\r\n\r\n"].concat();
    let tunnel = Err(Unpaired::Tunnel);
    let expected = [(0, OK, OK), (1, OK, OK), (3, Ok(Status::Http(304)), tunnel)];
    assert_eq!(statuses(&run(&flow)), expected);
    let late = flow.run(limits(Depth::Body), &[(2, 30), (0, usize::MAX), (1, usize::MAX), (2, 9)]);
    assert_eq!(statuses(&late), expected);
}

#[test]
fn a_leg_that_upgrades_alone_answers_nothing_more() {
    let whole = upgraded();
    let preface = whole.requests.windows(3).position(|octets| octets == b"PRI").unwrap();
    let mut requests = whole.requests[..preface].to_vec();
    requests.extend(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".repeat(3);
    // It answers more than the client can have asked for in HTTP/2.
    let done = run(&Flow::new(&requests, &ok, &whole.shadow));
    assert_eq!(statuses(&done)[2], (2, OK, Err(Unpaired::Tunnel)));
    let mut exchanges = exchanges(limits(Depth::Body));
    exchanges.requested(&requests[..preface], at(1));
    exchanges.answered(Leg::Shadow, Piece::Bytes(&whole.shadow), at(2));
    exchanges.answered(Leg::Production, Piece::Bytes(&ok), at(3));
    exchanges.requested(&requests[preface..], at(3));
    // Known before the session is over.
    let done: Vec<_> = std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange).collect();
    assert_eq!(statuses(&done), [(0, OK, OK), (1, OK, OK), (2, OK, Err(Unpaired::Tunnel))]);
}

#[test]
fn no_stream_beyond_the_last_that_a_leg_names_is_answered() {
    let mut exchanges = exchanges(limits(Depth::Body));
    exchanges.requested(&[PREFACE, &*get(1, "/")].concat(), at(1));
    for leg in Leg::BOTH {
        exchanges.answered(leg, Piece::Bytes(&frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])), at(2));
    }
    exchanges.requested(&get(3, "/"), at(3));
    let done: Vec<_> = std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange).collect();
    assert_eq!(statuses(&done), [(3, Err(Unpaired::Closed), Err(Unpaired::Closed))]);
}

#[test]
fn resets_and_going_away() {
    let mut flow = flow();
    flow.requests = [PREFACE, &get(1, "/"), &get(3, "/"), &get(5, "/"), &get(7, "/")].concat();
    flow.production = [
        frame(3, 0, 1, &[0, 0, 0, 7]),
        headers(3, false, &[(":status", "200")]),
        frame(7, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0]),
        frame(3, 0, 3, &[0, 0, 0, 2]),
    ]
    .concat();
    flow.shadow = headers(7, true, &[(":status", "200")]);
    let closed = Err(Unpaired::Closed);
    let expected = [(1, closed, closed), (3, closed, closed), (5, closed, closed), (7, closed, OK)];
    assert_eq!(statuses(&run(&flow)), expected);
    // The client takes back what is not whole; it had no whole request.
    flow.requests = [
        PREFACE,
        &headers(1, false, &[(":method", "PUT")]),
        &frame(3, 0, 1, &[0; 4]),
        &get(3, "/"),
    ]
    .concat();
    assert_eq!(statuses(&run(&flow)), [(3, closed, closed)]);
}

#[test]
fn what_a_hostile_leg_sends_is_bounded() {
    let requests = [PREFACE, &*get(1, "/")].concat();
    let endless = |octets: &[u8]| {
        let begin = frame(HEADERS, 0, 1, &block(&[(":status", "200")]));
        [&*begin, &frame(9, 0, 1, octets).repeat(70_000 / (octets.len() + 9) + 1)].concat()
    };
    let many = (0..10_000).fold(block(&[(":status", "200")]), |many, at| {
        [&*many, &[0, 5], format!("{at:05}").as_bytes(), &[1, b'x']].concat()
    });
    let large = [&*block(&[(":status", "200")]), &[0x7f; 100]].concat();
    for answer in [
        endless(b""),
        endless(&[0; 16_000]),
        frame(HEADERS, END_HEADERS, 1, &many),
        frame(HEADERS, END_HEADERS, 1, &large),
        frame(HEADERS, END_HEADERS, 1, &[0x3f, 0xff, 0xff, 0xff, 0x7f]),
        frame(0x09, END_HEADERS, 1, b""),
        frame(DATA, 0x08, 1, b"\x05abc"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    ] {
        let mut exchanges = exchanges(limits(Depth::Body));
        exchanges.requested(&requests, at(1));
        for piece in answer.chunks(1_000) {
            exchanges.answered(Leg::Shadow, Piece::Bytes(piece), at(2));
            assert!(exchanges.memory() < 200_000);
        }
        exchanges.answered(
            Leg::Production,
            Piece::Bytes(&headers(1, true, &[(":status", "200")])),
            at(3),
        );
        exchanges.settle(Unpaired::Closed);
        let done: Vec<_> =
            std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange).collect();
        let unread =
            Err(if answer.starts_with(b"HTTP") { Unpaired::Closed } else { Unpaired::Unparsable });
        assert_eq!(statuses(&done), [(1, OK, unread)]);
    }
}

#[test]
fn bodies_need_not_be_captured() {
    let mut exchanges = exchanges(limits(Depth::Status));
    exchanges.requested(&[PREFACE, &*get(1, "/")].concat(), at(1));
    let answer = [headers(1, false, &[(":status", "200")]), data(1, true, &[b'x'; 5_000])].concat();
    let cut = answer.len() - 4_000;
    exchanges.answered(Leg::Production, Piece::Bytes(&answer[..cut]), at(2));
    assert_eq!(exchanges.skippable(), 4_000);
    exchanges.answered(Leg::Production, Piece::Skipped(4_000), at(3));
    exchanges.settle(Unpaired::Closed);
    let done = exchanges.poll().unwrap();
    let response = done.production.unwrap();
    assert_eq!((response.body.len, response.ended_at), (5_000, at(3)));
}

/// Recorded between python's h2 and nginx: Huffman coding, and tables that fill over two batches.
#[test]
fn what_nginx_says_is_read() {
    let input = include_bytes!("../../../fuzz/corpus/exchange/http2-nginx");
    let (&[_, a, b, c, d], rest) = input.split_first_chunk::<5>().unwrap();
    let (requests, rest) = rest.split_at(u16::from_be_bytes([a, b]).into());
    let (production, shadow) = rest.split_at(u16::from_be_bytes([c, d]).into());
    let done = run(&Flow::new(requests, production, shadow));
    let told: Vec<_> = done
        .iter()
        .map(|done| (&*done.request.target, done.production.as_ref().unwrap().status))
        .collect();
    let batch = [("/a.txt", 200), ("/nope", 404), ("/r", 302), ("/p", 200)];
    let expected = batch.map(|(path, status)| (path, Status::Http(status)));
    assert_eq!(told, [expected, expected].concat());
    let Head::Fields(fields) = &done[7].request.head else { panic!() };
    assert!(fields.contains(&(b"cookie"[..].into(), b"k=7"[..].into())));
    let Head::Fields(fields) = &done[6].shadow.as_ref().unwrap().head else { panic!() };
    assert!(
        fields.iter().any(|(name, value)| **name == *b"server" && value.starts_with(b"nginx/"))
    );
}

#[test]
fn what_production_has_answered_and_the_shadow_has_not_is_owed() {
    let mut exchanges = exchanges(limits(Depth::Status));
    let answer = |stream| headers(stream, true, &[(":status", "200")]);
    let len = |octets: &[u8]| octets.len() as u64;
    exchanges.requested(&[PREFACE, &get(1, "/one"), &get(3, "/two")].concat(), at(1));
    assert_eq!((exchanges.owed_from(), exchanges.known_to()), (None, 0));
    let second = [noise(), answer(3)].concat();
    exchanges.answered(Leg::Production, Piece::Bytes(&second), at(2));
    assert_eq!(exchanges.owed_from(), Some(len(&second)));
    assert_eq!(exchanges.known_to(), len(&second));
    exchanges.answered(Leg::Production, Piece::Bytes(&answer(1)), at(3));
    assert_eq!(exchanges.owed_from(), Some(len(&second)));
    exchanges.answered(Leg::Shadow, Piece::Bytes(&second), at(4));
    assert_eq!(exchanges.owed_from(), Some(len(&second) + len(&answer(1))));
    // The shadow will never answer: nothing is waited for.
    exchanges.answered(Leg::Shadow, Piece::Bytes(&frame(3, 0, 1, &[0; 4])), at(5));
    assert_eq!(exchanges.owed_from(), None);
}

#[test]
fn production_is_not_known_within_an_answer() {
    let mut exchanges = exchanges(limits(Depth::Status));
    exchanges.requested(&[PREFACE, &get(1, "/one")].concat(), at(1));
    let (head, rest) = (headers(1, false, &[(":status", "200")]), data(1, true, b"x"));
    exchanges.answered(Leg::Production, Piece::Bytes(&head), at(2));
    assert_eq!(exchanges.known_to(), 0);
    exchanges.answered(Leg::Production, Piece::Bytes(&rest), at(3));
    assert_eq!(exchanges.known_to(), (head.len() + rest.len()) as u64);
    let closed = |reason| {
        let mut exchanges = self::exchanges(limits(Depth::Status));
        exchanges.requested(&[PREFACE, &get(1, "/one")].concat(), at(1));
        exchanges.answered(Leg::Production, Piece::Bytes(&head), at(2));
        exchanges.ended(Leg::Production, reason, at(4));
        exchanges.known_to()
    };
    assert_eq!((closed(Unpaired::Closed), closed(Unpaired::Lost)), (head.len() as u64, 0));
}
