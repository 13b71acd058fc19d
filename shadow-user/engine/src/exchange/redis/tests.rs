//! Exchanges of Redis, case by case.

use crate::exchange::tests::{Flow, at, exchanges, limits};
use crate::exchange::{Depth, Exchange, Leg, Piece, Response, Status, Unpaired};

fn told(answer: &Result<Response, Unpaired>) -> Result<(char, String), Unpaired> {
    let response = answer.as_ref().map_err(|reason| *reason)?;
    let Status::Redis(kind) = response.status else { panic!("{:?}", response.status) };
    Ok((char::from(kind), String::from_utf8_lossy(&response.body.kept).into_owned()))
}

fn run(requests: &[u8], production: &[u8], shadow: &[u8]) -> Vec<Exchange> {
    Flow::new(requests, production, shadow).run(limits(Depth::Body), &[])
}

fn ok(reply: &str) -> Result<(char, String), Unpaired> {
    Ok((reply.chars().next().unwrap(), reply.to_owned()))
}

#[test]
fn replies_are_paired_in_order_and_pushes_left_out() {
    let get = b"*2\r\n$3\r\nget\r\n$1\r\na\r\n";
    let done = run(
        &[&b"PING\r\n"[..], get, b"*0\r\n", get].concat(),
        b"+PONG\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n$3\r\n\r\n+\r\n_\r\n",
        b"+PONG\r\n-ERR\r\n*2\r\n:1\r\n%1\r\n+a\r\n*0\r\n",
    );
    let names: Vec<_> = done.iter().map(|done| &*done.request.method).collect();
    assert_eq!(names, ["PING", "GET", "GET"]);
    assert_eq!(done[1].request.body.kept, get);
    let production: Vec<_> = done.iter().map(|done| told(&done.production)).collect();
    assert_eq!(production, [ok("+PONG\r\n"), ok("$3\r\n\r\n+\r\n"), ok("_\r\n")]);
    let shadow: Vec<_> = done.iter().map(|done| told(&done.shadow)).collect();
    assert_eq!(shadow, [ok("+PONG\r\n"), ok("-ERR\r\n"), ok("*2\r\n:1\r\n%1\r\n+a\r\n*0\r\n")]);
}

#[test]
fn subscribing_ends_pairing() {
    let done = run(
        b"*1\r\n$4\r\nPING\r\n*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n",
        b"+PONG\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
        b"+PONG\r\n",
    );
    let told: Vec<_> =
        done.iter().map(|done| (told(&done.production), told(&done.shadow))).collect();
    let tunnel = Err(Unpaired::Tunnel);
    assert_eq!(told, [(ok("+PONG\r\n"), ok("+PONG\r\n")), (tunnel.clone(), tunnel)]);
    let off = run(b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n", b"", b"");
    assert_eq!(off[0].shadow.as_ref().err(), Some(&Unpaired::Tunnel));
}

#[test]
fn what_is_no_value_is_unparsable() {
    for reply in [&b"HTTP/1.1 200 OK\r\n"[..], b"$99999999999\r\n", b"*x\r\n", b"$?\r\n", b"$5\n"] {
        let done = run(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n", reply);
        assert_eq!(told(&done[0].production), ok("+PONG\r\n"));
        assert_eq!(told(&done[0].shadow), Err(Unpaired::Unparsable));
    }
    let done = run(b"*1\r\n$4\r\nPING\r\n*1\r\n@4\r\n", b"+PONG\r\n", b"+PONG\r\n");
    assert_eq!(told(&done[0].shadow), ok("+PONG\r\n"));
    assert_eq!(told(&done[1].shadow), Err(Unpaired::Unparsable));
}

#[test]
fn nesting_and_endless_values_are_bounded() {
    let mut exchanges = exchanges(limits(Depth::Body));
    exchanges.requested(b"*1\r\n$4\r\nPING\r\n", at(1));
    for _ in 0..100 {
        exchanges.answered(Leg::Shadow, Piece::Bytes(&b"*1\r\n".repeat(1_000)), at(2));
        exchanges.answered(Leg::Production, Piece::Bytes(&[b'+'; 10_000]), at(2));
        assert!(exchanges.memory() < 300_000);
    }
    exchanges.answered(Leg::Shadow, Piece::Bytes(b":1\r\n"), at(3));
    exchanges.settle(Unpaired::Closed);
    let done = exchanges.poll().unwrap();
    assert_eq!(done.shadow.unwrap().body.len, 400_004);
    assert_eq!(done.production.err(), Some(Unpaired::Closed));
}

#[test]
fn a_push_may_come_while_nothing_is_asked() {
    let mut exchanges = exchanges(limits(Depth::Body));
    exchanges.requested(b"*1\r\n$4\r\nPING\r\n", at(1));
    exchanges.answered(Leg::Production, Piece::Bytes(b"+PONG\r\n>2\r\n+invalid"), at(2));
    exchanges.requested(b"*1\r\n$4\r\nPING\r\n", at(3));
    exchanges.answered(Leg::Production, Piece::Bytes(b"ate\r\n_\r\n-NO\r\n"), at(4));
    exchanges.settle(Unpaired::Closed);
    let done: Vec<_> = std::iter::from_fn(|| exchanges.poll()).collect();
    let production: Vec<_> = done.iter().map(|done| told(&done.production)).collect();
    assert_eq!(production, [ok("+PONG\r\n"), ok("-NO\r\n")]);
}
