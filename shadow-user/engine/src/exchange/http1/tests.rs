//! Exchanges of HTTP/1, case by case.

use crate::exchange::http2::PREFACE;
use crate::exchange::tests::{at, exchanges, limits};
use crate::exchange::{Depth, Exchange, Fate, Head, Leg, Piece, Response, Status, Unpaired};

/// The exchanges of a stream of requests and both legs' answers, after which they close.
fn run(depth: Depth, requests: &[u8], production: &[u8], shadow: &[u8]) -> Vec<Exchange> {
    let mut exchanges = exchanges(limits(depth));
    exchanges.requested(requests, at(10));
    exchanges.forwarded(requests.len() as u64, at(15));
    exchanges.answered(Leg::Production, Piece::Bytes(production), at(20));
    exchanges.answered(Leg::Shadow, Piece::Bytes(shadow), at(25));
    exchanges.ended(Leg::Production, Unpaired::Closed, at(30));
    exchanges.ended(Leg::Shadow, Unpaired::Closed, at(35));
    exchanges.settle(Unpaired::Closed);
    let done: Vec<_> = std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange).collect();
    assert_eq!(exchanges.memory(), 0);
    done
}

/// Status and body as text.
type Told = Result<(u16, String), Unpaired>;

fn told(answer: &Result<Response, Unpaired>) -> Told {
    let response = answer.as_ref().map_err(|reason| *reason)?;
    let Status::Http(status) = response.status else { panic!("{:?}", response.status) };
    Ok((status, String::from_utf8_lossy(&response.body.kept).into_owned()))
}

fn pairs(done: &[Exchange]) -> Vec<(Told, Told)> {
    done.iter().map(|exchange| (told(&exchange.production), told(&exchange.shadow))).collect()
}

const GET: &[u8] = b"GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GONE: &[u8] = b"HTTP/1.1 410 Gone\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbye\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n";

fn ok(status: u16, body: &str) -> Told {
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

#[test]
fn an_upgrade_is_paired_and_ends_what_can_be_told() {
    let ask = b"GET /ws HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let switch = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
    let requests = [GET, ask, b"\x81\x05hello"].concat();
    let done = run(Depth::Body, &requests, &[OK, switch, b"\x81"].concat(), &[OK, OK].concat());
    assert_eq!(pairs(&done), [(ok(200, "ok"), ok(200, "ok")), (ok(101, ""), ok(200, "ok"))]);
    // The shadow switched alone: the client goes on with HTTP/1, and the shadow does not.
    let requests = [ask, GET].concat();
    let done = run(Depth::Body, &requests, &[OK, OK].concat(), switch);
    assert_eq!(pairs(&done)[1], (ok(200, "ok"), Err(Unpaired::Tunnel)));
    let connect = b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n\x16\x03\x01";
    let done = run(Depth::Body, connect, b"HTTP/1.1 200 OK\r\n\r\n\x16\x03", OK);
    assert_eq!(pairs(&done), [(ok(200, ""), ok(200, ""))]);
}

#[test]
fn malformed_heads_are_reported() {
    let broken = b"GET /broken HTTP/1.1\r\nno colon\r\n\r\n";
    let done = run(Depth::Body, &[GET, broken, GET].concat(), &[OK, OK].concat(), OK);
    let unparsable = Err(Unpaired::Unparsable);
    let expected = [(ok(200, "ok"), ok(200, "ok")), (unparsable.clone(), unparsable.clone())];
    assert_eq!(pairs(&done), expected);
    assert_eq!(&*done[1].request.target, "/broken");
    assert!(matches!(&done[1].request.head, Head::Http1(head) if **head == *broken));
    let done = run(Depth::Body, &GET.repeat(2), b"HTTP/1.1 2x0 OK\r\n\r\n", OK);
    let expected = [(unparsable.clone(), ok(200, "ok")), (unparsable, Err(Unpaired::Closed))];
    assert_eq!(pairs(&done), expected);
}

#[test]
fn what_a_hostile_server_sends_is_bounded() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
    let large = format!("{head}A: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("{head}{}\r\n", "A: b\r\n".repeat(10_000));
    let trailers = format!("{head}\r\n0\r\n{}", "A: b\r\n".repeat(100_000));
    let size = format!("{head}\r\n{}", "0".repeat(100_000));
    for answer in [large, many, trailers, size] {
        let mut exchanges = exchanges(limits(Depth::Body));
        exchanges.requested(GET, at(1));
        exchanges.answered(Leg::Production, Piece::Bytes(OK), at(2));
        for piece in answer.as_bytes().chunks(1_448) {
            exchanges.answered(Leg::Shadow, Piece::Bytes(piece), at(3));
            assert!(exchanges.memory() < 200_000);
        }
        let done = exchanges.poll().unwrap();
        assert_eq!(told(&done.shadow), Err(Unpaired::Unparsable));
    }
    // Endless chunks: counted, and the first of them kept.
    let mut exchanges = exchanges(limits(Depth::Body));
    exchanges.requested(GET, at(1));
    exchanges.answered(Leg::Shadow, Piece::Bytes(format!("{head}\r\n").as_bytes()), at(3));
    let chunks = "5\r\nhello\r\n".repeat(1_000);
    for _ in 0..1_000 {
        exchanges.answered(Leg::Shadow, Piece::Bytes(chunks.as_bytes()), at(3));
        assert!(exchanges.memory() < 200_000);
    }
    exchanges.answered(Leg::Shadow, Piece::Bytes(b"0\r\n\r\n"), at(4));
    exchanges.settle(Unpaired::Aborted);
    let done = exchanges.poll().unwrap();
    let response = done.shadow.unwrap();
    assert_eq!((response.body.len, response.body.kept.len()), (5_000_000, 64 << 10));
    assert_eq!(done.production.err(), Some(Unpaired::Aborted));
}

#[test]
fn bodies_need_not_be_captured() {
    let begin = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc";
    for (skipped, more, told) in [(997, OK, Ok(1_000)), (998, OK, Err(Unpaired::Lost))] {
        let mut exchanges = exchanges(limits(Depth::Status));
        exchanges.requested(&GET.repeat(2), at(1));
        exchanges.answered(Leg::Production, Piece::Bytes(begin), at(2));
        assert_eq!(exchanges.skippable(), 997);
        exchanges.answered(Leg::Production, Piece::Skipped(skipped), at(3));
        assert_eq!(exchanges.skippable(), 0);
        exchanges.answered(Leg::Production, Piece::Bytes(more), at(4));
        exchanges.settle(Unpaired::Closed);
        let first = exchanges.poll().unwrap().production.unwrap();
        assert_eq!((first.body.len, first.body.hash, first.ended_at), (1_000, None, at(3)));
        let second = exchanges.poll().unwrap().production.map(|response| response.body.len);
        assert_eq!(second, told.map(|_| 2));
    }
    for (depth, head) in [(Depth::Status, GONE), (Depth::Body, &begin[..])] {
        let mut exchanges = exchanges(limits(depth));
        exchanges.requested(GET, at(1));
        exchanges.answered(Leg::Production, Piece::Bytes(&head[..40]), at(2));
        assert_eq!(exchanges.skippable(), 0);
    }
}

#[test]
fn an_answer_may_overtake_its_request() {
    let mut exchanges = exchanges(limits(Depth::Body));
    exchanges.requested(GET, at(1));
    exchanges.answered(Leg::Shadow, Piece::Bytes(OK), at(2));
    exchanges.answered(Leg::Production, Piece::Bytes(&[OK, GONE].concat()), at(6));
    exchanges.requested(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", at(5));
    // Unasked, before a request: a server closes what is idle.
    exchanges.answered(Leg::Shadow, Piece::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n"), at(7));
    exchanges.answered(Leg::Shadow, Piece::Bytes(b"HTTP/1.1 408 Request Timeout\r\n\r\n"), at(8));
    exchanges.requested(GET, at(9));
    exchanges.answered(Leg::Shadow, Piece::Bytes(OK), at(10));
    exchanges.settle(Unpaired::Closed);
    let done: Vec<_> = std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange).collect();
    assert_eq!(done.len(), 3);
    assert_eq!(pairs(&done)[0], (ok(200, "ok"), ok(200, "ok")));
    assert_eq!(pairs(&done)[1], (ok(410, ""), ok(204, "")));
    assert_eq!(pairs(&done)[2].1, ok(200, "ok"));
}

#[test]
fn the_shadow_is_asked_when_the_first_octet_goes_out() {
    let mut exchanges = exchanges(limits(Depth::Status));
    let len = GET.len() as u64;
    exchanges.requested(&GET[..5], at(1));
    exchanges.forwarded(3, at(2));
    exchanges.requested(&[&GET[5..], GET, GET].concat(), at(3));
    exchanges.forwarded(len, at(4));
    exchanges.forwarded(len + 1, at(5));
    exchanges.forwarded(2 * len, at(6));
    exchanges.forwarded(3 * len, at(7));
    for leg in Leg::BOTH {
        exchanges.answered(leg, Piece::Bytes(&OK.repeat(3)), at(8));
    }
    let asked: Vec<_> = std::iter::from_fn(|| exchanges.poll())
        .map(|exchange| *exchange)
        .map(|done| (done.production.unwrap().asked_at, done.shadow.unwrap().asked_at))
        .collect();
    assert_eq!(asked, [(at(1), at(2)), (at(3), at(5)), (at(3), at(7))]);
}

/// A client's octets, and what is decided before they are told of.
type Step<'a> = (&'a [u8], &'a [Fate]);

/// The exchanges of requests that are edited; production answers all of them, the shadow as told.
fn edited(steps: &[Step<'_>], production: &[u8], shadow: &[u8]) -> Vec<Exchange> {
    let mut exchanges = exchanges(limits(Depth::Body));
    exchanges.expect_fates();
    let mut octets = 0;
    for (requests, fates) in steps {
        exchanges.decided(fates.iter().cloned());
        exchanges.requested(requests, at(10));
        octets += requests.len() as u64;
        exchanges.forwarded(octets, at(15));
    }
    exchanges.answered(Leg::Production, Piece::Bytes(production), at(20));
    exchanges.answered(Leg::Shadow, Piece::Bytes(shadow), at(25));
    exchanges.settle(Unpaired::Closed);
    let done: Vec<_> = std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange).collect();
    assert_eq!(exchanges.memory(), 0);
    done
}

const POST: &[u8] = b"POST /a?key=1 HTTP/1.1\r\nContent-Length: 6\r\n\r\nsecret";

#[test]
fn requests_that_were_left_out_are_no_exchanges() {
    let shadow = [GONE, OK].concat();
    for (fates, numbers) in [
        ([Fate::LeftOut, Fate::Sent, Fate::Sent], [1, 2]),
        ([Fate::Sent, Fate::LeftOut, Fate::Sent], [0, 2]),
        ([Fate::Sent, Fate::Sent, Fate::LeftOut], [0, 1]),
    ] {
        let requests = [GET, POST, GET].concat();
        let done = edited(&[(&requests, &fates)], &OK.repeat(3), &shadow);
        assert_eq!(
            pairs(&done),
            [(ok(200, "ok"), ok(410, "bye!")), (ok(200, "ok"), ok(200, "ok"))]
        );
        assert_eq!(done.iter().map(|one| one.number).collect::<Vec<_>>(), numbers);
    }
    assert!(edited(&[(GET, &[Fate::LeftOut])], OK, b"").is_empty());
}

#[test]
fn what_is_decided_last_may_be_that_it_is_sent() {
    let (head, body) = POST.split_at(POST.len() - 3);
    let done = edited(&[(head, &[]), (body, &[Fate::Sent])], OK, GONE);
    assert_eq!(pairs(&done), [(ok(200, "ok"), ok(410, "bye!"))]);
}

#[test]
fn what_is_decided_last_may_be_that_it_is_left_out() {
    let (head, body) = POST.split_at(POST.len() - 3);
    let rest = [body, GET].concat();
    let fates = [Fate::LeftOut, Fate::Sent];
    let done = edited(&[(head, &[]), (&rest, &fates)], &[GONE, OK].concat(), OK);
    assert_eq!(pairs(&done), [(ok(200, "ok"), ok(200, "ok"))]);
    // Of what nobody decided nothing is told.
    assert!(edited(&[(POST, &[])], OK, b"").is_empty());
}

#[test]
fn what_follows_on_an_upgrade_that_was_left_out_is_not_read() {
    let ask = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
    let stream = [ask, PREFACE].concat();
    let switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    assert!(edited(&[(&stream, &[Fate::LeftOut])], switching, b"").is_empty());
}
