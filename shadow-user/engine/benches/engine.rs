//! What the engine costs, alone: `cargo bench -p shadow-engine`. The client's packets are made, and the
//! simplest shadow there is answers, within what is measured.

#![expect(clippy::unwrap_used, reason = "a benchmark says so by failing")]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::net::Ipv4Addr;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use harness::{Mirror, REQUEST, Shadow};
use shadow_engine::http::{Method, Requests, Responses};
use shadow_engine::time::Duration;
use shadow_engine::wire::Flags;
use shadow_engine::{Network, Source};

const MANY: u32 = 100_000;
/// What a browser sends.
const BROWSER: &[u8] = b"GET /articles/2026/11/on-mirrors?page=2&sort=new HTTP/1.1\r\n\
    Host: www.example.net\r\nConnection: keep-alive\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.net/articles\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=1\r\n\
    Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\nPriority: u=0, i\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Wed, 25 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\nContent-Length: 16\r\nConnection: keep-alive\r\n\
    Cache-Control: private, max-age=0\r\n\r\n0123456789abcdef";

fn main() {
    divan::main();
}

/// A mirror with this many open flows that have had a request each.
fn open(flows: u32) -> Mirror {
    let pool = Network::new(Ipv4Addr::new(10, 9, 0, 0).into(), 16).unwrap();
    let mut mirror = Mirror::new(|config| config.source = Source::Pool(pool.into()));
    for index in 0..flows {
        mirror.request(index);
        mirror.now += Duration::from_micros(20);
    }
    mirror.sent.clear();
    mirror
}

/// A request on a connection that stays open: reassembly, gate, session, emulated client.
#[divan::bench(args = [1, 1_000, MANY], sample_size = 1_000)]
fn request_among(bencher: Bencher<'_, '_>, flows: u32) {
    let mut mirror = open(flows);
    let mut number = 0;
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let (index, turn) = (number % flows, number / flows + 1);
        number += 1;
        let seq = 1_001 + turn * REQUEST.len() as u32;
        let flags = Flags { ack: true, ..Flags::default() };
        mirror.capture(index, flags, seq, 5_001 + turn, REQUEST);
        mirror.now += Duration::from_micros(10);
        mirror.sent.clear();
    });
    assert_eq!(mirror.engine.books().requests.answered, u64::from(flows + number));
}

/// A connection from SYN to FIN with one request.
#[divan::bench(sample_size = 200)]
fn short_connection(bencher: Bencher<'_, '_>) {
    let mut mirror = open(1);
    let mut index = 1;
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        mirror.request(index);
        mirror.close(index);
        index += 1;
        mirror.now += Duration::from_micros(50);
        mirror.sent.clear();
    });
    assert_eq!(mirror.engine.books().requests.answered, u64::from(index));
}

/// A hundred thousand sessions with a shadow that says nothing: every SYN is sent again.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn timers_of_100_000_sessions(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(MANY))
        .with_inputs(|| {
            let pool = Network::new(Ipv4Addr::new(10, 9, 0, 0).into(), 16).unwrap();
            let mut mirror = Mirror::new(|config| config.source = Source::Pool(pool.into()));
            mirror.shadow = Shadow::Silent;
            for index in 0..MANY {
                mirror.request(index);
            }
            mirror.sent.clear();
            mirror
        })
        .bench_local_values(|mut mirror| {
            mirror.pass(Duration::from_millis(1_500));
            assert!(mirror.sent.len() >= MANY as usize, "{} sent", mirror.sent.len());
            mirror
        });
}

#[divan::bench(sample_size = 1_000)]
fn parse_request(bencher: Bencher<'_, '_>) {
    let mut requests = Requests::new();
    bencher.counter(BytesCount::of_slice(BROWSER)).bench_local(|| {
        requests.push(black_box(BROWSER), &mut |event| {
            black_box(event);
        })
    });
}

#[divan::bench(sample_size = 1_000)]
fn parse_response(bencher: Bencher<'_, '_>) {
    let mut responses = Responses::new();
    bencher.counter(BytesCount::of_slice(ANSWER)).bench_local(|| {
        responses.expect(Method::Other);
        responses.push(black_box(ANSWER), &mut |event| {
            black_box(event);
        })
    });
}
