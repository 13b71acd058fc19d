//! Goodput over loss, round-trip time and window, in virtual time, kept as a snapshot: a change
//! of congestion control or recovery shows as a difference in `throughput.txt`.
//!
//! `SHADOWTAP_UPDATE=1 cargo test -p shadow-engine throughput` writes it anew.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use shadow_engine::client::{Client, Config, Offer};
use shadow_engine::seq::SeqNum;
use shadow_engine::wire::emit;

use crate::sim::dice::Dice;
use crate::sim::link::{Link, Rules};
use crate::sim::micros;
use crate::sim::sink::Sink;

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client/throughput.txt");

/// 100 Mbit/s with a buffer of 256 KiB: an ordinary link between two hosts.
const RATE: u64 = 12_500_000;
const QUEUE: usize = 256 * 1024;
const SECONDS: u64 = 10;
const SEEDS: u64 = 2;

/// Mbit/s of stream octets received in order.
fn goodput(loss: f64, rtt: Duration, window: u32, sack: bool) -> f64 {
    let total: u64 = (0..SEEDS).map(|seed| transfer(seed, loss, rtt, window, sack)).sum();
    total as f64 * 8.0 / 1e6 / (SECONDS * SEEDS) as f64
}

fn transfer(seed: u64, loss: f64, rtt: Duration, window: u32, sack: bool) -> u64 {
    let (local, remote): (SocketAddr, SocketAddr) =
        ("10.0.0.1:16384".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
    let mut dice = Dice::new(seed);
    let start = micros(1_000_000);
    let end = start + Duration::from_secs(SECONDS);
    let offer = Offer { sack_permitted: sack, ..Offer::default() };
    let config = Config::new(local, remote, SeqNum::new(dice.u32()), offer);
    let mut client = Client::connect(config, start);
    let mut sink = Sink::new(remote, local, window, sack, true);
    let mut rules = Rules::clean(rtt / 2);
    rules.loss = loss;
    rules.rate = Some(RATE);
    rules.queue = QUEUE;
    let mut forth = Link::new(rules, Dice::new(seed + 1000));
    let mut back = Link::new(Rules { loss: 0.0, ..rules }, Dice::new(seed + 2000));
    let mut now = start;
    let piece = vec![0; 1 << 20];
    let mut buffer = Vec::new();
    while now < end {
        while let Some(frame) = forth.receive(now) {
            sink.handle_packet(&frame.bytes, now);
        }
        sink.handle_timeout(now);
        while let Some(bytes) = sink.poll_transmit() {
            back.send(bytes, now);
        }
        if client.poll_timeout().is_some_and(|at| at <= now) {
            client.handle_timeout(now);
        }
        loop {
            while client.written() < client.acknowledged() + (4 << 20) {
                client.write(&piece);
                client.release(u64::MAX);
            }
            while let Some(outgoing) = client.poll_transmit(now) {
                buffer.clear();
                emit(local, remote, &outgoing.segment, outgoing.payload, &mut buffer);
                forth.send(buffer.clone(), now);
            }
            let Some(frame) = back.receive(now) else { break };
            let packet = shadow_engine::wire::Packet::parse(&frame.bytes).unwrap();
            client.handle_segment(&packet.segment, now, &mut |_| ());
        }
        let next = [forth.next(), back.next(), client.poll_timeout(), sink.poll_timeout()];
        now = next.into_iter().flatten().min().unwrap().max(now);
    }
    sink.received
}

fn matrix() -> String {
    let mut text = String::from(
        "Goodput in Mbit/s over a link of 100 Mbit/s with a queue of 256 KiB, mean of 2 runs of 10 s.\n\
         Loss is random and of data segments only.\n",
    );
    let losses = [0.0, 0.001, 0.01, 0.03, 0.1, 0.3];
    for sack in [true, false] {
        for window in [64 * 1024, 1024 * 1024] {
            let name = if sack { "SACK" } else { "NewReno" };
            let _ = write!(text, "\n{name}, window {} KiB\n{:>10}", window / 1024, "RTT");
            for loss in losses {
                let _ = write!(text, "{:>9}%", loss * 100.0);
            }
            text.push('\n');
            for rtt in [1, 10, 50, 200] {
                let _ = write!(text, "{:>7} ms", rtt);
                for loss in losses {
                    let rate = goodput(loss, Duration::from_millis(rtt), window, sack);
                    let _ = write!(text, "{rate:>10.2}");
                }
                text.push('\n');
            }
        }
    }
    text
}

#[test]
fn throughput_is_as_it_was() {
    let matrix = matrix();
    if std::env::var("SHADOWTAP_UPDATE").is_ok() {
        std::fs::write(SNAPSHOT, &matrix).unwrap();
    }
    let kept = std::fs::read_to_string(SNAPSHOT).unwrap_or_default();
    assert!(matrix == kept, "throughput.txt differs; now:\n{matrix}");
}
