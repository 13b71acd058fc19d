//! Several segments at once, for whoever cuts them up: within the same windows as one after the other.

use crate::vocabulary::{Bench, Seg, ack};

/// ESTABLISHED, and up to 65,280 octets go at once.
fn offloaded() -> Bench {
    let mut bench = Bench::established();
    bench.most = 65_280;
    bench
}

#[test]
fn rfc6928_the_initial_window_goes_at_once_in_whole_segments() {
    let mut bench = offloaded();
    // Ten segments of 1,000.
    assert_eq!(bench.send(25_500), [(1, 10_000)]);
    recv!(bench, ack(10_001), wnd: 50_000);
    assert_eq!(bench.burst(), [(10_001, 12_000)]);
}

#[test]
fn rfc9293_3_8_6_nothing_beyond_the_window() {
    let mut bench = offloaded();
    recv!(bench, ack(1), wnd: 2500);
    assert_eq!(bench.send(5000), [(1, 2000)]);
}

#[test]
fn rfc9293_3_8_6_2_1_what_is_no_whole_segment_goes_along_when_it_is_the_last() {
    let mut bench = offloaded();
    assert_eq!(bench.send(2500), [(1, 2500)]);
}

#[test]
fn rfc9293_3_9_1_2_push_and_fin_are_of_the_last_segment() {
    let mut bench = offloaded();
    bench.write(&[1; 2500]);
    bench.client.close();
    let outgoing = bench.client.poll_transmit_up_to(bench.most, bench.now).unwrap();
    assert_eq!((outgoing.segments(), outgoing.segment_size), (3, 1000));
    assert!(outgoing.segment.flags.psh && outgoing.segment.flags.fin);
    assert!(bench.sent().is_none());
}

#[test]
fn no_more_goes_at_once_than_is_asked_for() {
    let mut bench = offloaded();
    bench.most = 3999;
    assert_eq!(bench.send(10_000), [(1, 3000), (3001, 3000), (6001, 3000), (9001, 1000)]);
}

#[test]
fn rfc6298_5_4_what_is_lost_goes_again_by_itself() {
    let mut bench = offloaded();
    assert_eq!(bench.send(10_000), [(1, 10_000)]);
    bench.timeout();
    assert_eq!(bench.burst(), [(1, 1000)]);
}
