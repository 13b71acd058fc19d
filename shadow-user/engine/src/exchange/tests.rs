//! What holds for every protocol: how streams are cut, and how the three of them are interleaved,
//! makes no difference; each whole request comes out once; bounds are kept.

use proptest::prelude::*;

use super::http2::tests as http2;
use super::*;

pub(super) fn exchanges(limits: Limits) -> Exchanges {
    Exchanges::new(limits, "192.0.2.7:4000".parse().unwrap(), "10.0.0.5:80".parse().unwrap())
}

pub(super) fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

pub(super) fn limits(depth: Depth) -> Limits {
    Limits { depth, ..Limits::default() }
}

/// What is exchanged in one flow.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub requests: Vec<u8>,
    pub production: Vec<u8>,
    pub shadow: Vec<u8>,
}

impl Flow {
    pub fn new(requests: &[u8], production: &[u8], shadow: &[u8]) -> Self {
        Self { requests: requests.into(), production: production.into(), shadow: shadow.into() }
    }

    /// Hands in a piece of the client's stream (0), of production's (1) or the shadow's (2), after
    /// each other as `steps` say, then what is left; closes.
    pub fn run(&self, limits: Limits, steps: &[(u8, usize)]) -> Vec<Exchange> {
        let mut exchanges = exchanges(limits);
        let mut rest = [&*self.requests, &*self.production, &*self.shadow];
        let all = [(0, usize::MAX), (1, usize::MAX), (2, usize::MAX)];
        let mut done = Vec::new();
        exchanges.forwarded(self.requests.len() as u64, at(20));
        for (who, len) in steps.iter().chain(&all) {
            let stream = &mut rest[usize::from(*who)];
            let (piece, behind) = stream.split_at(stream.len().min(*len));
            *stream = behind;
            match who {
                0 => exchanges.requested(piece, at(10)),
                1 => exchanges.answered(Leg::Production, Piece::Bytes(piece), at(30)),
                _ => exchanges.answered(Leg::Shadow, Piece::Bytes(piece), at(40)),
            }
            done.extend(std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange));
        }
        exchanges.ended(Leg::Production, Unpaired::Closed, at(50));
        exchanges.ended(Leg::Shadow, Unpaired::Closed, at(60));
        exchanges.settle(Unpaired::Closed);
        done.extend(std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange));
        assert_eq!(exchanges.memory(), 0);
        done.sort_by_key(|exchange| exchange.number);
        done
    }
}

/// Flows in which every response answers a request that is whole.
pub(super) fn flows() -> Vec<Flow> {
    let get = b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    let post =
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n";
    let expect = b"\r\nPUT / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc";
    let upgrade =
        b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello";
    let length = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let empty = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let chunked = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwell\r\n0\r\nX: y\r\n\r\n";
    let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x02ok";
    let close = b"HTTP/1.0 200 OK\r\n\r\nuntil the end";
    let set = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\n";
    let map = b">2\r\n+a\r\n:1\r\n%1\r\n$1\r\nk\r\n*2\r\n_\r\n#t\r\n|1\r\n+a\r\n:1\r\n$-1\r\n";
    vec![
        Flow::new(
            &[&get[..], head, post, expect, get].concat(),
            &[&length[..], empty, chunked, interim, close].concat(),
            &[&chunked[..], empty, interim, length, b"nonsense\r\n\r\n"].concat(),
        ),
        Flow::new(
            &[&post[..], upgrade].concat(),
            &[&length[..], switch].concat(),
            &[&length[..], length].concat(),
        ),
        Flow::new(
            &[
                &set[..],
                b"*1\r\n$4\r\nPING\r\n*0\r\ninfo  all\r\n",
                set,
                b"*2\r\n$9\r\nsubscribe\r\n$1\r\na\r\n",
            ]
            .concat(),
            &[&b"+OK\r\n$4\r\na\r\nb\r\n"[..], map].concat(),
            &[&b"-ERR no\r\n:7\r\n"[..], map, b"*-1\r\n"].concat(),
        ),
        http2::flow(),
        http2::upgraded(),
    ]
}

fn text(done: &[Exchange]) -> Vec<String> {
    done.iter().map(|exchange| format!("{exchange:?}")).collect()
}

#[test]
fn every_flow_is_recognised_and_counted() {
    let counts: Vec<_> =
        flows().iter().map(|flow| flow.run(limits(Depth::Body), &[]).len()).collect();
    assert_eq!(counts, [5, 2, 5, 4, 3]);
}

#[test]
fn single_octets_give_the_same() {
    for flow in flows() {
        for depth in [Depth::Status, Depth::Body] {
            let whole = flow.run(limits(depth), &[]);
            let steps: Vec<_> = [&flow.requests, &flow.production, &flow.shadow]
                .iter()
                .zip(0..)
                .flat_map(|(stream, who)| std::iter::repeat_n((who, 1), stream.len()))
                .collect();
            assert_eq!(text(&flow.run(limits(depth), &steps)), text(&whole));
        }
    }
}

#[test]
fn other_protocols_have_no_exchanges_and_cost_nothing() {
    for stream in [&b"\x16\x03\x01\x02\x00\x01"[..], b"SSH-2.0-OpenSSH\r\n", b"EHLO a\r\n", b"\0"] {
        let mut exchanges = exchanges(limits(Depth::Body));
        exchanges.answered(Leg::Production, Piece::Bytes(b"220 hello\r\n"), at(1));
        exchanges.requested(stream, at(2));
        exchanges.answered(Leg::Production, Piece::Bytes(stream), at(3));
        assert_eq!(exchanges.memory(), 0);
        exchanges.settle(Unpaired::Closed);
        assert!(exchanges.poll().is_none());
    }
}

#[test]
fn a_leg_that_answers_too_late_loses_the_oldest() {
    let mut exchanges = exchanges(Limits { pending: 3, ..limits(Depth::Status) });
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for number in 0..10 {
        exchanges.requested(b"GET / HTTP/1.1\r\n\r\n", at(number));
        exchanges.answered(Leg::Production, Piece::Bytes(ok), at(number));
    }
    let shed: Vec<_> = std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange).collect();
    assert_eq!(shed.iter().map(|shed| shed.number).collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
    assert!(shed.iter().all(|shed| shed.production.is_ok()));
    assert!(shed.iter().all(|shed| shed.shadow.as_ref().err() == Some(&Unpaired::Shed)));
    // What the leg answers later still answers the request that it belongs to.
    exchanges.answered(Leg::Shadow, Piece::Bytes(&ok.repeat(9)), at(20));
    let rest: Vec<_> = std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange).collect();
    assert_eq!(rest.iter().map(|rest| rest.number).collect::<Vec<_>>(), [7, 8]);
    assert!(rest.iter().all(|rest| rest.shadow.is_ok()));
    for number in 0..40 {
        exchanges.requested(b"GET / HTTP/1.1\r\n\r\n", at(number));
    }
    // Far behind: it is given up.
    exchanges.answered(Leg::Shadow, Piece::Bytes(ok), at(30));
    exchanges.settle(Unpaired::Closed);
    let rest: Vec<_> = std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange).collect();
    assert_eq!(rest.len(), 41);
    assert!(rest.iter().all(|rest| rest.shadow.as_ref().err() == Some(&Unpaired::Shed)));
}

#[test]
fn a_lost_leg_leaves_the_other() {
    for flow in flows() {
        let whole = flow.run(limits(Depth::Body), &[]);
        let mut exchanges = exchanges(limits(Depth::Body));
        exchanges.requested(&flow.requests, at(10));
        exchanges.forwarded(flow.requests.len() as u64, at(20));
        exchanges.answered(
            Leg::Shadow,
            Piece::Bytes(&flow.shadow[..flow.shadow.len() / 2]),
            at(40),
        );
        exchanges.ended(Leg::Shadow, Unpaired::Lost, at(41));
        exchanges.answered(Leg::Shadow, Piece::Bytes(b"more"), at(42));
        exchanges.answered(Leg::Production, Piece::Bytes(&flow.production), at(30));
        exchanges.ended(Leg::Production, Unpaired::Closed, at(50));
        exchanges.settle(Unpaired::Closed);
        let mut done: Vec<_> =
            std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange).collect();
        done.sort_by_key(|exchange| exchange.number);
        assert_eq!(done.len(), whole.len());
        for (done, whole) in done.iter().zip(&whole) {
            assert_eq!(format!("{:?}", done.production), format!("{:?}", whole.production));
        }
        assert!(done.iter().any(|done| done.shadow.is_err()));
    }
}

proptest! {
    #[test]
    fn cuts_and_interleavings_make_no_difference(
        which in 0..5_usize,
        steps in prop::collection::vec((0..3_u8, 1..60_usize), 0..60),
    ) {
        let flow = &flows()[which];
        let whole = flow.run(limits(Depth::Body), &[]);
        prop_assert_eq!(text(&flow.run(limits(Depth::Body), &steps)), text(&whole));
    }

    #[test]
    fn each_whole_request_comes_out_once_whatever_the_legs_say(
        which in 0..5_usize,
        production in prop::collection::vec(any::<u8>(), 0..200),
        from in any::<prop::sample::Index>(),
        steps in prop::collection::vec((0..3_u8, 1..60_usize), 0..60),
        pending in 1..8_usize,
    ) {
        let mut flow = flows()[which].clone();
        let count = flow.run(limits(Depth::Body), &[]).len();
        let at = from.index(flow.production.len());
        flow.production.splice(at.., production);
        let done = flow.run(Limits { pending, ..limits(Depth::Status) }, &steps);
        prop_assert_eq!(done.len(), count);
    }
}
