//! How much is sent to the shadow: sessions and requests at their rates, bits at theirs, and whatever
//! exceeds them in a bucket of its own.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod harness;

use std::num::NonZeroU64;

use harness::{Mirror, REQUEST};
use shadow_engine::books::{Books, LeftOut, Skipped};
use shadow_engine::time::Duration;
use shadow_engine::wire::Flags;
use shadow_engine::{EngineConfig, Quota};

const ACK: Flags = Flags { syn: false, ack: true, fin: false, rst: false, psh: false, urg: false };

const MS: Duration = Duration::from_millis(1);

fn rate(rate: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(rate)
}

fn requests(limit: u64) -> Quota {
    Quota { requests: rate(limit), ..Quota::default() }
}

fn mirror(quota: Quota) -> Mirror {
    Mirror::new(|config: &mut EngineConfig| config.quota = quota)
}

/// The request with this number of a client's connection, from 0 on.
fn ask(mirror: &mut Mirror, client: u32, number: u32) {
    let seq = 1_001 + number * REQUEST.len() as u32;
    mirror.capture(client, ACK, seq, 5_001 + 40 * number, REQUEST);
}

fn end(mut mirror: Mirror) -> Books {
    mirror.drain();
    assert!(mirror.engine.is_drained(), "{:#?}", mirror.engine.books());
    mirror.settle()
}

#[test]
fn sessions_are_begun_at_their_rate_and_the_others_skipped_whole() {
    let mut mirror = mirror(Quota { sessions: rate(20), ..Quota::default() });
    for client in 0..1_000 {
        mirror.request(client);
        mirror.close(client);
        mirror.pass(10 * MS);
    }
    let books = end(mirror);
    // 20 a second in 10 s, and what 200 ms have at once at the start.
    assert!((200..=205).contains(&books.flows.mirrored), "{books:#?}");
    assert_eq!(books.flows.skipped.get(Skipped::MaxRate), 1_000 - books.flows.mirrored);
    assert_eq!(
        (books.requests.seen, books.requests.answered),
        (books.flows.mirrored, books.flows.mirrored)
    );
}

#[test]
fn requests_are_sent_at_their_rate_and_the_others_left_out_whole() {
    let mut mirror = mirror(requests(20));
    for client in 0..4 {
        mirror.request(client);
    }
    for number in 1..=250 {
        for client in 0..4 {
            ask(&mut mirror, client, number);
            mirror.pass(10 * MS);
        }
    }
    let books = end(mirror);
    assert_eq!((books.flows.seen, books.flows.mirrored), (4, 4));
    let sent = books.requests.delivered;
    assert!((200..=205).contains(&sent), "{books:#?}");
    assert_eq!((books.requests.seen, books.requests.answered), (4 * 251, sent));
    assert_eq!(books.requests.skipped.get(LeftOut::MaxRequestRate), 4 * 251 - sent);
    assert_eq!(books.bytes.delivered, sent * REQUEST.len() as u64);
}

#[test]
fn a_limit_that_is_set_later_holds_for_open_sessions_too() {
    let mut mirror = mirror(Quota::default());
    mirror.request(1);
    for number in 1..10 {
        ask(&mut mirror, 1, number);
    }
    assert_eq!(mirror.engine.books().requests.answered, 10);
    mirror.engine.set_quota(requests(10));
    for number in 10..20 {
        ask(&mut mirror, 1, number);
    }
    // One at once, and what the burst of 200 ms has.
    assert_eq!(mirror.engine.books().requests.answered, 13);
    mirror.engine.set_quota(Quota::default());
    for number in 20..30 {
        ask(&mut mirror, 1, number);
    }
    let books = end(mirror);
    assert_eq!((books.requests.seen, books.requests.answered), (30, 23));
    assert_eq!(books.requests.skipped.get(LeftOut::MaxRequestRate), 7);
    assert_eq!((books.flows.mirrored, books.gates.timed_out), (1, 0));
}

#[test]
fn what_waits_for_the_bandwidth_is_sent_late_and_too_much_of_it_left_out() {
    // 1,000 octets a second: a request and what belongs to it take about half of that.
    let mut mirror = mirror(Quota { bandwidth: rate(8_000), ..Quota::default() });
    for client in 0..10 {
        mirror.request(client);
    }
    let early = mirror.engine.books().requests.answered;
    assert!(early < 2, "{early}");
    mirror.pass(1_500 * MS);
    // It has been behind for more than a second.
    mirror.request(10);
    ask(&mut mirror, 9, 1);
    let books = mirror.engine.books();
    assert_eq!(books.flows.skipped.get(Skipped::MaxBandwidth), 1);
    assert_eq!(books.requests.skipped.get(LeftOut::MaxBandwidth), 1);
    // The others are only late, and the shadow is not blamed for it.
    mirror.pass(Duration::from_secs(10));
    let books = mirror.engine.books();
    assert_eq!((books.requests.answered, books.gates.timed_out), (10, 0), "{books:#?}");
    // And then there is room again.
    mirror.request(11);
    let books = end(mirror);
    assert_eq!((books.flows.mirrored, books.requests.answered), (11, 11), "{books:#?}");
}
