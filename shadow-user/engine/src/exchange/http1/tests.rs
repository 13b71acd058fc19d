//! Exchanges of HTTP/1, case by case.

use crate::exchange::{
    Depth, Exchange, Exchanges, Head, Leg, Limits, Piece, Response, Status, Unpaired,
};
use crate::time::Instant;

fn exchanges(depth: Depth) -> Exchanges {
    let limits = Limits { depth, ..Limits::default() };
    Exchanges::new(limits, "192.0.2.7:4000".parse().unwrap(), "10.0.0.5:80".parse().unwrap())
}

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

/// The exchanges of a stream of requests and both legs' answers, after which they close.
fn run(depth: Depth, requests: &[u8], production: &[u8], shadow: &[u8]) -> Vec<Exchange> {
    let mut exchanges = exchanges(depth);
    exchanges.requested(requests, at(10));
    exchanges.forwarded(requests.len() as u64, at(15));
    exchanges.answered(Leg::Production, Piece::Bytes(production), at(20));
    exchanges.answered(Leg::Shadow, Piece::Bytes(shadow), at(25));
    exchanges.ended(Leg::Production, Unpaired::Closed, at(30));
    exchanges.ended(Leg::Shadow, Unpaired::Closed, at(35));
    exchanges.settle(Unpaired::Closed);
    let done: Vec<_> = std::iter::from_fn(|| exchanges.poll()).collect();
    assert_eq!(exchanges.memory(), 0);
    done
}

/// Statuses and bodies as text.
fn told(answer: &Result<Response, Unpaired>) -> Result<(u16, String), Unpaired> {
    let response = answer.as_ref().map_err(|reason| *reason)?;
    let Status::Http(status) = response.status else { panic!("{:?}", response.status) };
    Ok((status, String::from_utf8_lossy(&response.body.kept).into_owned()))
}

fn pairs(
    done: &[Exchange],
) -> Vec<(Result<(u16, String), Unpaired>, Result<(u16, String), Unpaired>)> {
    done.iter().map(|exchange| (told(&exchange.production), told(&exchange.shadow))).collect()
}

const GET: &[u8] = b"GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GONE: &[u8] = b"HTTP/1.1 410 Gone\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbye\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n";

fn ok(status: u16, body: &str) -> Result<(u16, String), Unpaired> {
    Ok((status, body.to_owned()))
}

#[test]
fn one_request_with_both_responses() {
    let done = run(Depth::Body, GET, OK, GONE);
    let [exchange] = &*done else { panic!("{done:?}") };
    assert_eq!((&*exchange.request.method, &*exchange.request.target), ("GET", "/a?b=c"));
    assert!(matches!(&exchange.request.head, Head::Http1(head) if **head == *GET));
    assert_eq!(pairs(&done), [(ok(200, "ok"), ok(410, "bye!"))]);
    let (production, shadow) =
        (exchange.production.as_ref().unwrap(), exchange.shadow.as_ref().unwrap());
    assert_eq!((exchange.request.at, production.asked_at), (at(10), at(10)));
    assert_eq!((production.first_at, production.ended_at), (at(20), at(20)));
    assert_eq!((shadow.asked_at, shadow.first_at), (at(15), at(25)));
    assert!(production.trailers.is_empty());
    assert!(matches!(&shadow.trailers, Head::Http1(fields) if **fields == *b"A: b\r\n\r\n"));
    assert!(production.body.hash.is_some() && production.body.hash != shadow.body.hash);
}

#[test]
fn pipelined_requests_and_a_body_that_nobody_announced() {
    let done = run(Depth::Body, &GET.repeat(3), &[OK, GONE, OK].concat(), &[OK, OK].concat());
    let closed = Err(Unpaired::Closed);
    assert_eq!(
        pairs(&done),
        [(ok(200, "ok"), ok(200, "ok")), (ok(410, "bye!"), ok(200, "ok")), (ok(200, "ok"), closed)]
    );
    let until_close = b"HTTP/1.0 200 OK\r\n\r\nall of it";
    let done = run(Depth::Body, GET, until_close, &until_close[..20]);
    assert_eq!(pairs(&done), [(ok(200, "all of it"), ok(200, "a"))]);
    assert_eq!(done[0].production.as_ref().unwrap().ended_at, at(30));
}
