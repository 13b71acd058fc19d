//! Bodies that are small on the way and large behind their content coding: what looking into them
//! takes in memory, and in time.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use shadow_engine::compare::{Bounds, COMPARING, Comparer, Noise, Rules, Verdict, decoded};
use shadow_engine::exchange::{Body, Exchange, Head, Protocol, Request, Response, Status};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The heap is one, so that only one test at a time can measure it.
static MEASURING: Mutex<()> = Mutex::new(());

/// What is kept of a body.
const KEPT: usize = 64 << 10;
/// Without optimisation, and with other tests beside it; each is done in a second at most.
const PATIENCE: Duration = Duration::from_secs(20);

fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

/// A frame of one byte, repeated in blocks of 128 KiB (RFC 8878, 3.1.1) for as long as there is room;
/// `window` is the window descriptor.
fn zstd(window: u8) -> Vec<u8> {
    let mut frame = b"\x28\xb5\x2f\xfd\x00".to_vec();
    frame.push(window);
    // Type 1 (RLE) and a size of 128 KiB; the last one has the lowest bit.
    while frame.len() + 8 < KEPT {
        frame.extend_from_slice(b"\x02\x00\x10 ");
    }
    frame.extend_from_slice(b"\x03\x00\x10 ");
    frame
}

/// Frames of no octets.
fn zstd_frames(len: usize) -> Vec<u8> {
    b"\x28\xb5\x2f\xfd\x00\x48\x01\x00\x00".repeat(len / 9)
}

/// Octets made of bits, the lowest first.
#[derive(Default)]
struct Bits(Vec<u8>, u32);

impl Bits {
    fn push(&mut self, value: u64, count: u32) -> &mut Self {
        for bit in 0..count {
            if self.1.is_multiple_of(8) {
                self.0.push(0);
            }
            let last = self.0.last_mut().unwrap();
            *last |= ((value >> bit & 1) as u8) << (self.1 % 8);
            self.1 += 1;
        }
        self
    }
}

/// 16 MiB of one literal in one command, so often as there is room (RFC 7932, 9.2).
fn brotli(large_window: bool) -> Vec<u8> {
    let mut bits = Bits::default();
    match large_window {
        // Not of the RFC: a window of 2^30, by the pattern that it leaves unused.
        true => bits.push(0x11, 8).push(30, 6),
        // A window of 2^24.
        false => bits.push(0xf, 4),
    };
    let metablock = |bits: &mut Bits| {
        // Not the last; six nibbles of length; compressed.
        bits.push(0, 1).push(2, 2).push((1 << 24) - 1, 24).push(0, 1);
        // One block type each, no postfix, one context mode, one tree each.
        bits.push(0, 3).push(0, 6).push(0, 2).push(0, 2);
        // Trees of one symbol: the literal, insert length 23 with copy length 0, a distance.
        bits.push(1, 4).push(u64::from(b' '), 8);
        bits.push(1, 4).push(504, 10);
        bits.push(1, 4).push(0, 6);
        bits.push((1 << 24) - 22_594, 24);
    };
    while bits.0.len() + 16 < KEPT {
        metablock(&mut bits);
    }
    // The last, and empty.
    bits.push(3, 2);
    bits.0
}

fn json(text: &str) -> Response {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\r\n";
    let octets = gzip(text.as_bytes());
    assert!(text.len() <= 1 << 20 && octets.len() <= KEPT, "{} of {}", octets.len(), text.len());
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    Response {
        status: Status::Http(200),
        head: Head::Http1(head.as_bytes().into()),
        trailers: Head::default(),
        body: Body { len: octets.len() as u64, kept: octets, hash: Some(hash.finish()) },
        asked_at: Default::default(),
        first_at: Default::default(),
        ended_at: Default::default(),
    }
}

#[test]
fn what_is_compared_is_bounded() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let array = |last: &str| format!("[{}{last}]", "1,".repeat(500_000));
    let object = |last: &str| format!("{{{}\"\":{last}}}", "\"\":1,".repeat(170_000));
    let deep = |last: &str| format!("{}{last}{}", "[".repeat(120), "]".repeat(120));
    let nested = |last: &str| {
        let wide = format!("[{}{last}]", "[1],".repeat(15_000));
        (0..60).fold(wide, |inner, _| format!("[{inner}]"))
    };
    let names = |last: &str| {
        let members: String = (0..20_000).map(|name| format!("\"{name}\":1,")).collect();
        format!("{{{members}\"a\":{last}}}")
    };
    let order = |first: &str| {
        let text = format!("1,{}", "2,".repeat(499_000));
        format!("[{first}{text}0]")
    };
    let cases: [(&str, String, String); 6] = [
        ("array", array("1"), array("2")),
        ("object", object("1"), object("2")),
        ("deep", deep("1"), deep("2")),
        ("nested", nested("1"), nested("2")),
        ("names", names("1"), names("2")),
        ("order", order("3,2,"), order("2,3,")),
    ];
    for (name, production, shadow) in cases {
        let exchange = Exchange {
            protocol: Protocol::Http1,
            client: "192.0.2.1:40000".parse().unwrap(),
            server: "192.0.2.2:80".parse().unwrap(),
            number: 0,
            request: Request {
                at: Default::default(),
                method: "GET".into(),
                target: "/".into(),
                head: Head::default(),
                body: Body::default(),
            },
            production: Ok(json(&production)),
            shadow: Ok(json(&shadow)),
        };
        let mut comparer = Comparer::new(Rules::default()).unwrap();
        HEAP.reset_peak_usage();
        let (before, began) = (HEAP.current_usage(), Instant::now());
        let found = comparer.compare(&exchange, &Noise::default());
        let (took, taken) = (began.elapsed(), HEAP.peak_usage() - before);
        println!("{name}: {:?} {:?}, {taken} octets, {took:?}", found.verdict, found.opaque);
        assert_eq!(found.verdict, Verdict::Body, "{name}");
        assert!(taken <= COMPARING, "{name}: {taken} octets");
        assert!(took <= PATIENCE, "{name}: {took:?}");
    }
}

#[test]
fn what_is_looked_into_is_bounded() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let spaces = vec![b' '; 60 << 20];
    let bombs = [
        ("gzip", gzip(&spaces), false),
        ("gzip", gzip(b"").repeat(KEPT / 20), false),
        ("gzip,gzip", gzip(&gzip(b"").repeat(50_000)), false),
        ("gzip", gzip(b"").repeat(200), true),
        ("gzip,gzip,gzip", gzip(&gzip(&gzip(&spaces))), false),
        // Windows of 128 KiB, 8 MiB and 128 MiB.
        ("zstd", zstd(0x38), false),
        ("zstd", zstd(0x68), false),
        ("zstd", zstd(0x88), false),
        ("zstd", zstd_frames(KEPT), true),
        ("zstd,gzip", gzip(&zstd_frames(1 << 20)), true),
        ("zstd,gzip,gzip", gzip(&gzip(&zstd_frames(1 << 20))), true),
        ("br", brotli(false), false),
        ("br", brotli(true), false),
        ("br,gzip", gzip(&brotli(false)), false),
    ];
    drop(spaces);
    for (coding, octets, decodes) in bombs {
        assert!(octets.len() <= KEPT, "{coding}: {} octets", octets.len());
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\n\r\n");
        let head = Head::Http1(head.into_bytes().into());
        let body = Body { len: octets.len() as u64, kept: octets, hash: Some(0) };
        HEAP.reset_peak_usage();
        let (before, began) = (HEAP.current_usage(), Instant::now());
        let found = decoded(&head, &body, &Bounds::default()).map(|octets| octets.len());
        let (took, taken) = (began.elapsed(), HEAP.peak_usage() - before);
        println!("{coding} of {}: {found:?}, {taken} octets, {took:?}", body.len);
        assert_eq!(found, decodes.then_some(0), "{coding}");
        assert!(taken <= COMPARING, "{coding}: {taken} octets");
        assert!(took <= PATIENCE, "{coding}: {took:?}");
    }
}
