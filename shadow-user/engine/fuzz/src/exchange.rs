//! Any three streams in any pieces: nothing panics, the pieces make no difference, every whole
//! request comes out once, and memory is bounded and given back.

use std::net::{Ipv4Addr, SocketAddr};

use shadow_engine::exchange::{Depth, Exchange, Exchanges, Leg, Limits, Piece, Unpaired};
use shadow_engine::time::Instant;

/// Checks one input. The first byte says how the streams are cut up and interleaved; two lengths, two
/// bytes each, say which of the rest are the client's, production's and the shadow's.
pub fn check(input: &[u8]) {
    let Some((&[mode, a, b, c, d], rest)) = input.split_first_chunk::<5>() else { return };
    let (client, rest) = cut(rest, u16::from_be_bytes([a, b]).into());
    let (production, shadow) = cut(rest, u16::from_be_bytes([c, d]).into());
    let streams = [client, production, shadow];
    let depth = if mode & 0x10 == 0 { Depth::Status } else { Depth::Body };
    let limits = Limits { depth, ..Limits::default() };

    let whole = run(limits, streams, usize::MAX);
    for piece in [usize::from(mode & 15) + 1, 1] {
        let pieces = run(limits, streams, piece);
        assert_eq!(text(&whole), text(&pieces), "pieces of {piece}");
    }
    let asked = run(limits, [client, b"", b""], usize::MAX).len();
    assert_eq!(whole.len(), asked);
    let few = Limits { pending: usize::from(mode & 3), ..limits };
    assert!(interleave(few, streams, mode) >= asked.min(1));
    assert_eq!(interleave(limits, streams, mode), asked);
}

fn cut(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    bytes.split_at(at.min(bytes.len()))
}

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn exchanges(limits: Limits) -> Exchanges {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Exchanges::new(limits, address(4000), address(80))
}

/// The client's stream first, then the legs'.
fn run(limits: Limits, [client, production, shadow]: [&[u8]; 3], piece: usize) -> Vec<Exchange> {
    let mut exchanges = exchanges(limits);
    let mut done = Vec::new();
    for bytes in client.chunks(piece) {
        exchanges.requested(bytes, at(1));
        bounded(&exchanges, client);
    }
    exchanges.forwarded(client.len() as u64, at(2));
    for (leg, stream) in [(Leg::Production, production), (Leg::Shadow, shadow)] {
        for bytes in stream.chunks(piece) {
            exchanges.answered(leg, Piece::Bytes(bytes), at(3));
            done.extend(std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange));
        }
        exchanges.ended(leg, Unpaired::Closed, at(4));
    }
    settle(exchanges, done)
}

/// All streams at once; octets that may be skipped are. Gives the number of exchanges.
fn interleave(limits: Limits, mut streams: [&[u8]; 3], mode: u8) -> usize {
    let mut exchanges = exchanges(limits);
    let mut done = Vec::new();
    let mut forwarded = 0;
    let mut turn = u64::from(mode);
    while streams.iter().any(|stream| !stream.is_empty()) {
        turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(mode) | 1);
        let who = (turn >> 33) as usize % 3;
        let skippable = exchanges.skippable();
        let (piece, behind) = cut(streams[who], (turn >> 40) as usize % 50 + 1);
        streams[who] = behind;
        match who {
            0 => {
                exchanges.requested(piece, at(turn));
                forwarded += piece.len() as u64;
                exchanges.forwarded(forwarded, at(turn));
            }
            1 if turn & 0x100 != 0 && skippable > 0 => {
                exchanges.answered(Leg::Production, Piece::Skipped(piece.len() as u64), at(turn));
            }
            1 => exchanges.answered(Leg::Production, Piece::Bytes(piece), at(turn)),
            _ if turn >> 58 == 0 => exchanges.ended(Leg::Shadow, Unpaired::Lost, at(turn)),
            _ => exchanges.answered(Leg::Shadow, Piece::Bytes(piece), at(turn)),
        }
        done.extend(std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange));
    }
    settle(exchanges, done).len()
}

fn settle(mut exchanges: Exchanges, mut done: Vec<Exchange>) -> Vec<Exchange> {
    exchanges.settle(Unpaired::Aborted);
    done.extend(std::iter::from_fn(|| exchanges.poll()).map(|exchange| *exchange));
    assert_eq!(exchanges.memory(), 0);
    for response in done.iter().flat_map(|done| [&done.production, &done.shadow]).flatten() {
        assert!(response.body.kept.len() as u64 <= response.body.len);
    }
    done.sort_by_key(|done| done.number);
    done
}

/// What is held is of the order of what came, apart from tables.
fn bounded(exchanges: &Exchanges, client: &[u8]) {
    assert!(exchanges.memory() <= 200_000 + 200 * client.len());
}

fn text(done: &[Exchange]) -> Vec<String> {
    done.iter().map(|done| format!("{done:?}")).collect()
}
