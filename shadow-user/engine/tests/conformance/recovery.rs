//! Loss: retransmission timeout, fast retransmit, NewReno, SACK, tail-loss probe; and how fast
//! data goes out.

use crate::vocabulary::{Bench, Seg, ack, config, syn_ack};

/// An acknowledgment with SACK blocks.
fn sack(number: u32, blocks: &[(u32, u32)]) -> Seg {
    Seg { sack: blocks.to_vec(), ..ack(number) }
}

#[test]
fn rfc6928_2_initial_window_is_ten_segments() {
    let mut bench = Bench::established();
    let burst = bench.send(20_000);
    assert_eq!(burst.len(), 10);
    assert!(burst.iter().all(|seg| seg.1 == 1000));
}

#[test]
fn rfc5681_3_1_slow_start_adds_what_was_acknowledged() {
    let mut bench = Bench::established();
    bench.send(60_000);
    recv!(bench, ack(2001));
    // RFC 3465: two acknowledged, at most two more: four in all.
    assert_eq!(bench.burst().len(), 4);
}

#[test]
fn rfc3465_2_2_slow_start_adds_two_segments_at_most() {
    let mut bench = Bench::established();
    bench.send(60_000);
    recv!(bench, ack(5001));
    assert_eq!(bench.burst().len(), 5 + 2);
}

#[test]
fn rfc3465_2_3_slow_start_after_a_timeout_adds_one_segment_at_most() {
    let mut bench = Bench::established();
    bench.send(10_000);
    bench.timeout();
    assert_eq!(bench.burst(), [(1, 1000)]);
    recv!(bench, ack(2001));
    assert_eq!(bench.burst(), [(2001, 1000), (3001, 1000)]);
}

#[test]
fn rfc5681_3_1_congestion_avoidance_adds_one_segment_a_round_trip() {
    let mut bench = Bench::established();
    bench.send(10_000);
    bench.timeout();
    // ssthresh is now half of the ten.
    bench.write(&[b'x'; 200_000]);
    let mut round = bench.burst();
    let mut sizes = Vec::new();
    while sizes.len() < 9 {
        sizes.push(round.len());
        let mut next = Vec::new();
        for (seq, len) in round {
            recv!(bench, ack(seq + len as u32));
            next.extend(bench.burst());
        }
        round = next;
    }
    assert_eq!(sizes[..3], [1, 2, 4]);
    assert!(sizes[3..].windows(2).all(|pair| pair[1] == pair[0] + 1), "{sizes:?}");
}

#[test]
fn rfc7661_an_unused_window_does_not_grow() {
    let mut bench = Bench::established();
    for turn in 0..20 {
        bench.send(1000);
        recv!(bench, ack(1001 + turn * 1000));
    }
    assert_eq!(bench.send(40_000).len(), 10);
}

#[test]
fn rfc5681_4_1_an_idle_connection_restarts_with_the_initial_window() {
    let mut bench = Bench::established();
    bench.send(10_000);
    recv!(bench, ack(10_001));
    bench.send(12_000);
    recv!(bench, ack(22_001));
    bench.now += std::time::Duration::from_secs(10);
    assert_eq!(bench.send(40_000).len(), 10);
}

#[test]
fn rfc6298_2_rto_follows_the_round_trip_time() {
    // The handshake took 10 ms: RTO = SRTT + max(200 ms, 4 RTTVAR).
    let mut bench = Bench::established();
    bench.send(10);
    assert_eq!(bench.timeout(), 210);
    sent!(bench, seq: 1, data: vec![b'x'; 10]);
}

#[test]
fn rfc6298_5_5_back_off() {
    let mut bench = Bench::established();
    bench.send(10);
    for expected in [210, 420, 840, 1680] {
        assert_eq!(bench.timeout(), expected);
        sent!(bench, seq: 1);
        sent!(bench);
    }
    // Progress ends it.
    recv!(bench, ack(11));
    bench.write(&[b'y'; 10]);
    assert_eq!(bench.burst(), [(11, 10)]);
    assert_eq!(bench.timeout(), 210);
}

#[test]
fn rfc6298_2_5_at_most_60_seconds() {
    let mut config = config();
    config.user_timeout = std::time::Duration::from_secs(600);
    let mut bench = Bench::established_with(config, syn_ack());
    bench.send(10);
    let waits: Vec<_> = (0..11)
        .map(|_| {
            let wait = bench.timeout();
            bench.burst();
            wait
        })
        .collect();
    assert_eq!(waits[7..], [26_880, 53_760, 60_000, 60_000]);
}

#[test]
fn rfc6298_3_karn_no_sample_of_a_retransmission() {
    let mut bench = Bench::established();
    bench.send(10);
    bench.timeout();
    sent!(bench, seq: 1);
    bench.now += std::time::Duration::from_millis(400);
    recv!(bench, ack(11));
    // Had the 610 or the 400 ms been taken, RTO would be far above 210 ms.
    bench.send(10);
    assert_eq!(bench.timeout(), 210);
}

#[test]
fn rfc7323_4_1_a_timestamp_tells_retransmissions_apart() {
    let mut bench = Bench::established_timestamps();
    bench.send(10);
    bench.timeout();
    let again = bench.sent().unwrap();
    bench.now += std::time::Duration::from_millis(400);
    recv!(bench, ack(11), ts: Some((200, again.ts.unwrap().0)));
    bench.send(10);
    assert!(bench.timeout() > 300);
}

/// A peer that echoes what was never sent must not stop retransmission for a minute.
#[test]
fn rfc7323_4_1_an_impossible_echo_is_not_measured() {
    let mut bench = Bench::established_timestamps();
    bench.send(10);
    bench.timeout();
    bench.burst();
    recv!(bench, ack(11), ts: Some((200, 1 << 31)));
    bench.send(10);
    assert_eq!(bench.timeout(), 210);
}

#[test]
fn rfc6298_5_3_acknowledgment_restarts_the_timer() {
    let mut bench = Bench::established();
    bench.send(2000);
    bench.now += std::time::Duration::from_millis(200);
    recv!(bench, ack(1001));
    // SRTT is now 10 * 7/8 + 200/8 = 33.75 ms, RTTVAR 5 * 3/4 + 190/4 = 51.25 ms.
    assert_eq!(bench.timeout(), 238);
}

#[test]
fn rfc5681_3_1_timeout_shrinks_the_window_to_one_segment() {
    let mut bench = Bench::established();
    bench.send(10_000);
    bench.timeout();
    assert_eq!(bench.burst(), [(1, 1000)]);
    // Slow start, up to half of what was in flight.
    recv!(bench, ack(1001));
    assert_eq!(bench.burst(), [(1001, 1000), (2001, 1000)]);
}

#[test]
fn rfc5681_3_2_third_duplicate_retransmits() {
    let mut bench = Bench::established();
    bench.send(10_000);
    for _ in 0..2 {
        recv!(bench, ack(1));
        sent!(bench);
    }
    recv!(bench, ack(1));
    assert_eq!(bench.burst(), [(1, 1000)]);
}

#[test]
fn rfc5681_2_what_is_no_duplicate() {
    let mut bench = Bench::established();
    bench.send(10_000);
    for _ in 0..5 {
        // With data, with another window.
        recv!(bench, ack(1), seq: 1, data: b"x".to_vec());
    }
    for wnd in [49_000, 48_000, 47_000, 46_000] {
        recv!(bench, ack(1), wnd: wnd);
    }
    assert!(bench.burst().iter().all(|seg| seg.1 == 0));
}

#[test]
fn rfc3042_limited_transmit() {
    let mut bench = Bench::established();
    bench.send(20_000);
    for expected in [10_001, 11_001] {
        recv!(bench, ack(1));
        assert_eq!(bench.burst(), [(expected, 1000)]);
    }
}

#[test]
fn rfc6582_3_2_partial_acknowledgment_retransmits_the_next_hole() {
    let mut bench = Bench::established();
    bench.send(10_000);
    for _ in 0..3 {
        recv!(bench, ack(1));
    }
    assert_eq!(bench.burst(), [(1, 1000)]);
    recv!(bench, ack(3001));
    assert_eq!(bench.burst()[0], (3001, 1000));
    // "all of the data up to and including recover": the end; half the window is left.
    recv!(bench, ack(10_001));
    assert_eq!(bench.send(20_000).len(), 2);
}

#[test]
fn rfc6582_3_2_duplicates_let_new_data_out() {
    let mut bench = Bench::established();
    bench.send(20_000);
    for _ in 0..3 {
        recv!(bench, ack(1));
    }
    // ssthresh is 5 segments; cwnd 8 and, inflated by eight more, 16 against a FlightSize of 10.
    assert_eq!(bench.burst(), [(1, 1000)]);
    let mut more = 0;
    for _ in 0..8 {
        recv!(bench, ack(1));
        more += bench.burst().len();
    }
    assert_eq!(more, 6);
}

#[test]
fn rfc6582_4_no_fast_retransmit_right_after_a_timeout() {
    let mut bench = Bench::established();
    bench.send(10_000);
    bench.timeout();
    bench.burst();
    for _ in 0..5 {
        recv!(bench, ack(1));
        assert_eq!(bench.burst(), []);
    }
}

#[test]
fn rfc6675_5_holes_are_sent_again_and_nothing_else() {
    let mut bench = Bench::established_sack();
    bench.send(10_000);
    // 1..1001 and 3001..4001 are lost.
    recv!(bench, sack(1, &[(1001, 2001)]));
    recv!(bench, sack(1, &[(1001, 3001)]));
    assert_eq!(bench.burst(), []);
    recv!(bench, sack(1, &[(4001, 5001), (1001, 3001)]));
    assert_eq!(bench.burst()[0], (1, 1000));
    let mut sent = bench.burst();
    for right in [6001, 7001, 8001, 9001, 10_001] {
        recv!(bench, sack(1, &[(4001, right), (1001, 3001)]));
        sent.extend(bench.burst());
    }
    // The last one is NextSeg's rescue: nothing was known of it when there was room.
    assert_eq!(sent, [(3001, 1000), (9001, 1000)]);
    recv!(bench, ack(10_001));
    assert_eq!(bench.client.acknowledged(), 10_000);
    assert_eq!(bench.client.memory(), 0);
}

#[test]
fn rfc6675_5_duplicates_without_news_do_not_count() {
    let mut bench = Bench::established_sack();
    bench.send(10_000);
    for _ in 0..10 {
        recv!(bench, ack(1));
        recv!(bench, sack(1, &[(1001, 2001)]));
    }
    assert_eq!(bench.burst(), []);
}

#[test]
fn rfc2883_4_dsack_is_no_loss() {
    let mut bench = Bench::established_sack();
    bench.send(10_000);
    recv!(bench, ack(5001));
    for _ in 0..10 {
        recv!(bench, sack(5001, &[(1, 1001)]));
        recv!(bench, sack(5001, &[(4001, 5001)]));
    }
    assert!(bench.burst().iter().all(|seg| seg.0 > 10_000));
}

#[test]
fn rfc2018_8_a_timeout_does_not_trust_sack() {
    let mut bench = Bench::established_sack();
    bench.send(3000);
    recv!(bench, sack(1, &[(1001, 3001)]));
    bench.pass(1000);
    // The peer has reneged: everything goes again as the window opens.
    recv!(bench, ack(1001));
    assert_eq!(bench.burst(), [(1001, 1000), (2001, 1000)]);
}

#[test]
fn rfc6675_4_rescue_retransmission() {
    let mut bench = Bench::established_sack();
    bench.send(6000);
    // The first and the last are lost; nothing above tells of the last.
    recv!(bench, sack(1, &[(1001, 5001)]));
    assert_eq!(bench.burst(), [(1, 1000), (5001, 1000)]);
}

#[test]
fn a_lost_retransmission_is_found_without_the_timer() {
    let mut bench = Bench::established_sack();
    bench.send(30_000);
    recv!(bench, sack(1, &[(1001, 10_001)]));
    assert_eq!(bench.burst()[0], (1, 1000));
    let mut right = 10_001;
    let mut again = false;
    for _ in 0..20 {
        right += 1000;
        recv!(bench, sack(1, &[(1001, right)]));
        again |= bench.burst().contains(&(1, 1000));
    }
    assert!(again);
}

#[test]
fn rfc8985_7_2_a_probe_repeats_the_tail_before_the_timeout() {
    let mut bench = Bench::established_sack();
    bench.send(2500);
    // PTO = 2 SRTT = 20 ms.
    assert_eq!(bench.timeout(), 20);
    assert_eq!(bench.burst(), [(1501, 1000)]);
    // "TLP.end_seq is set": once, then the retransmission timer.
    assert_eq!(bench.timeout(), 210);
    assert_eq!(bench.burst()[0], (1, 1000));
}

#[test]
fn rfc8985_7_3_a_probe_prefers_new_data() {
    let mut bench = Bench::established_sack();
    bench.send(10_500);
    assert_eq!(bench.timeout(), 20);
    assert_eq!(bench.burst(), [(10_001, 500)]);
}

#[test]
fn rfc8985_7_a_probe_that_arrives_tells_what_is_lost() {
    let mut bench = Bench::established_sack();
    bench.send(3000);
    bench.timeout();
    assert_eq!(bench.burst(), [(2001, 1000)]);
    recv!(bench, sack(1, &[(2001, 3001)]));
    assert_eq!(bench.burst(), [(1, 1000), (1001, 1000)]);
}

#[test]
fn rfc8985_7_2_a_single_segment_waits_for_a_delayed_acknowledgment() {
    let mut bench = Bench::established_sack();
    bench.send(100);
    // 2 SRTT + 200 ms is beyond the RTO of 210 ms, which does the same.
    assert_eq!(bench.timeout(), 210);
}

#[test]
fn rfc9293_3_9_1_2_push_on_the_last_segment() {
    let mut bench = Bench::established_with(config(), syn_ack());
    bench.write(&[1; 1500]);
    let pushes: Vec<bool> = std::iter::from_fn(|| {
        bench.client.poll_transmit(bench.now).map(|out| out.segment.flags.psh)
    })
    .collect();
    assert_eq!(pushes, [false, true]);
}
