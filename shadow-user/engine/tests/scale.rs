//! Many flows: what each costs in memory, and whether anything is left behind.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod harness;

use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use harness::{Mirror, REQUEST};
use peak_alloc::PeakAlloc;
use shadow_engine::time::Duration;
use shadow_engine::wire::Flags;
use shadow_engine::{Network, Source};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The heap is one, so that only one test at a time can measure it.
static MEASURING: Mutex<()> = Mutex::new(());

#[test]
fn a_hundred_thousand_idle_flows_are_cheap() {
    const FLOWS: u32 = 100_000;
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = Network::new(Ipv4Addr::new(10, 9, 0, 0).into(), 16).unwrap();
    let mut mirror = Mirror::new(|config| config.source = Source::Pool(pool.into()));
    let before = HEAP.current_usage();
    for index in 0..FLOWS {
        mirror.request(index);
        mirror.now += Duration::from_micros(20);
    }
    mirror.pass(Duration::from_secs(5));
    let each = (HEAP.current_usage() - before) / FLOWS as usize;
    println!("an idle HTTP/1 flow: {each} octets of heap, tables and timers included");
    let books = mirror.engine.books();
    assert_eq!(books.flows.open(), u64::from(FLOWS));
    assert_eq!(books.requests.answered, u64::from(FLOWS));
    assert!(each < 1_400, "{each} octets for an idle flow");
    let accounted = mirror.engine.memory() / FLOWS as usize;
    assert!(accounted <= each, "the engine counts {accounted} octets where {each} are used");
    for index in 0..FLOWS {
        mirror.close(index);
    }
    mirror.pass(Duration::from_secs(5));
    mirror.engine.books().check(true).unwrap();
    assert_eq!(mirror.engine.books().flows.mirrored, u64::from(FLOWS));
}

/// Nanoseconds that this thread has run: what else runs on the machine is not in it.
fn on_cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Prints what a million connections cost that are open at once, each with a request in every round:
/// `cargo test --release -p shadow-engine --test scale million -- --ignored --nocapture`.
#[test]
#[ignore = "a simulation that takes a minute and 2 GiB, and half an hour without --release"]
fn a_million_flows_at_once() {
    const FLOWS: u32 = 1_000_000;
    const ROUNDS: u32 = 3;
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = Network::new(Ipv4Addr::new(10, 9, 0, 0).into(), 16).unwrap();
    let mut mirror = Mirror::new(|config| {
        config.source = Source::Pool(pool.into());
        config.max_flows = FLOWS as usize;
        config.memory_limit = 4 << 30;
    });
    let before = HEAP.current_usage();
    let per_flow = |began: u64| (on_cpu() - began) / u64::from(FLOWS);

    let began = on_cpu();
    for index in 0..FLOWS {
        mirror.request(index);
        mirror.now += Duration::from_micros(2);
        mirror.sent.clear();
    }
    println!("opening, with a first request: {} ns a flow", per_flow(began));
    for round in 1..=ROUNDS {
        let began = on_cpu();
        // A stride, so that no flow is where the last one was.
        let stride = |number| (u64::from(number) * 7_919 % u64::from(FLOWS)) as u32;
        for index in (0..FLOWS).map(stride) {
            let seq = 1_001 + round * REQUEST.len() as u32;
            let flags = Flags { ack: true, ..Flags::default() };
            mirror.capture(index, flags, seq, 5_001 + round, REQUEST);
            mirror.now += Duration::from_micros(2);
            mirror.sent.clear();
        }
        println!("a request on each, round {round}: {} ns a request", per_flow(began));
    }
    let octets = HEAP.current_usage() - before;
    println!(
        "memory: {} MiB, {} octets a flow, of which the engine accounts for {}",
        octets >> 20,
        octets / FLOWS as usize,
        mirror.engine.memory() / FLOWS as usize
    );
    let began = on_cpu();
    mirror.pass(Duration::from_secs(5));
    println!("five seconds in which nothing comes: {} ns a flow", per_flow(began));
    let books = mirror.engine.books();
    assert_eq!(books.flows.open(), u64::from(FLOWS));
    assert_eq!(books.requests.answered, u64::from(FLOWS) * u64::from(ROUNDS + 1));

    let began = on_cpu();
    let seq = 1_001 + (ROUNDS + 1) * REQUEST.len() as u32;
    for index in 0..FLOWS {
        let flags = Flags { ack: true, fin: true, ..Flags::default() };
        mirror.capture(index, flags, seq, 5_100, &[]);
        mirror.now += Duration::from_micros(2);
        mirror.sent.clear();
    }
    mirror.pass(Duration::from_secs(5));
    println!("closing: {} ns a flow", per_flow(began));
    mirror.engine.books().check(true).unwrap();
    assert_eq!(mirror.engine.books().flows.mirrored, u64::from(FLOWS));
}

#[test]
fn flows_in_sequence_leave_nothing_behind() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let flows: u32 =
        std::env::var("SHADOWTAP_FLOWS").map_or(200_000, |flows| flows.parse().unwrap());
    let mut mirror = Mirror::new(|_| {});
    let mut settled = 0;
    for index in 0..flows {
        mirror.request(index);
        mirror.close(index);
        mirror.now += Duration::from_micros(100);
        if index == flows / 4 * 3 {
            settled = HEAP.current_usage();
        }
    }
    let grown = HEAP.current_usage().saturating_sub(settled);
    assert!(grown < settled / 10 + 65_536, "the heap grew from {settled} by {grown} octets");
    mirror.pass(Duration::from_secs(10));
    let books = mirror.engine.books();
    books.check(true).unwrap();
    assert_eq!(books.flows.mirrored, u64::from(flows), "{books:#?}");
    assert_eq!(books.requests.answered, u64::from(flows));
    assert_eq!(mirror.engine.memory(), 0);
}
