//! ESTABLISHED: acceptability, acknowledgments, text, resets, timestamps.

use shadow_engine::client::{Close, Event, Unreachable};

use crate::vocabulary::{Bench, Seg, ack, config, data, rst, syn_ack};

#[test]
fn rfc9293_3_10_7_4_text_in_order_is_handed_out() {
    let mut bench = Bench::established();
    recv!(bench, data(1, b"hello "));
    recv!(bench, data(7, b"world"));
    assert_eq!(bench.received, b"hello world");
    assert_eq!(bench.client.received(), 11);
    // RFC 9293, 3.8.6.3: every second segment is acknowledged at once.
    sent!(bench, seq: 1, ack: Some(12), flags: "");
    sent!(bench);
}

#[test]
fn rfc9293_3_8_6_3_a_single_segment_is_acknowledged_after_40_ms() {
    let mut bench = Bench::established();
    recv!(bench, data(1, b"hello"));
    sent!(bench);
    assert_eq!(bench.timeout(), 40);
    sent!(bench, ack: Some(6));
    assert_eq!(bench.client.poll_timeout(), None);
}

#[test]
fn rfc9293_3_8_6_3_acknowledgments_ride_on_data() {
    let mut bench = Bench::established();
    recv!(bench, data(1, b"hello"));
    bench.write(b"hi");
    sent!(bench, seq: 1, ack: Some(6), data: b"hi".to_vec());
    sent!(bench);
}

#[test]
fn rfc9293_3_8_6_3_joined_segments_are_acknowledged_at_once() {
    let mut bench = Bench::established();
    recv!(bench, data(1, &[0; 4000]));
    sent!(bench, ack: Some(4001));
}

#[test]
fn rfc9293_3_10_7_4_before_the_window_is_acknowledged_and_dropped() {
    let mut bench = Bench::established();
    recv!(bench, data(1, b"hello"));
    bench.timeout();
    sent!(bench, ack: Some(6));
    recv!(bench, data(1, b"HELLO"));
    sent!(bench, ack: Some(6));
    assert_eq!(bench.received, b"hello");
}

#[test]
fn rfc9293_3_10_7_4_overlap_with_the_left_edge_is_trimmed() {
    let mut bench = Bench::established();
    recv!(bench, data(1, b"hello"));
    recv!(bench, data(4, b"LO you"));
    assert_eq!(bench.received, b"hello you");
}

#[test]
fn rfc9293_3_10_7_4_beyond_the_window_is_acknowledged_and_dropped() {
    let mut config = config();
    config.receive_limit = 1000;
    let mut bench = Bench::established_with(config, syn_ack());
    recv!(bench, data(1001, b"far"));
    sent!(bench, ack: Some(1), wnd: 1000);
    // What overlaps the right edge is trimmed.
    recv!(bench, data(1, &[7; 1500]));
    assert_eq!(bench.received.len(), 1000);
    sent!(bench, ack: Some(1001), wnd: 1000);
}

#[test]
fn rfc9293_3_10_7_4_no_ack_bit_is_dropped() {
    let mut bench = Bench::established();
    recv!(bench, data(1, b"hello"), ack: None);
    assert!(bench.received.is_empty());
    sent!(bench);
}

#[test]
fn rfc5681_4_2_out_of_order_is_acknowledged_at_once() {
    let mut bench = Bench::established();
    recv!(bench, data(6, b"world"));
    sent!(bench, ack: Some(1));
    // "... fills in all or part of a gap".
    recv!(bench, data(1, b"hello"));
    sent!(bench, ack: Some(11));
    assert_eq!(bench.received, b"helloworld");
    assert_eq!(bench.client.memory(), 0);
}

#[test]
fn rfc2018_4_blocks_tell_the_most_recent_first() {
    let mut bench = Bench::established_sack();
    recv!(bench, data(11, b"aa"));
    sent!(bench, ack: Some(1), sack: vec![(11, 13)]);
    recv!(bench, data(31, b"cc"));
    sent!(bench, sack: vec![(31, 33), (11, 13)]);
    recv!(bench, data(21, b"bb"));
    sent!(bench, sack: vec![(21, 23), (31, 33), (11, 13)]);
    // The block that contains the segment, not the segment.
    recv!(bench, data(13, b"aa"));
    sent!(bench, sack: vec![(11, 15), (21, 23), (31, 33)]);
    recv!(bench, data(41, b"dd"));
    bench.sent();
    recv!(bench, data(51, b"ee"));
    sent!(bench, sack: vec![(51, 53), (41, 43), (11, 15), (21, 23)]);
}

#[test]
fn rfc2018_4_blocks_go_with_data_too() {
    let mut bench = Bench::established_sack();
    recv!(bench, data(11, b"aa"));
    bench.write(&[b'x'; 1000]);
    // 12 octets of option leave 988 of the MSS.
    sent!(bench, seq: 1, sack: vec![(11, 13)], data: vec![b'x'; 988]);
    sent!(bench, seq: 989, data: vec![b'x'; 12]);
}

#[test]
fn rfc2883_4_a_duplicate_is_reported_once() {
    let mut bench = Bench::established_sack();
    recv!(bench, data(1, b"hello"));
    recv!(bench, data(1, b"hello"));
    sent!(bench, ack: Some(6), sack: vec![(1, 6)]);
    bench.write(b"x");
    sent!(bench, ack: Some(6), sack: Vec::<(u32, u32)>::new());
    recv!(bench, data(11, b"ab"));
    sent!(bench, sack: vec![(11, 13)]);
    recv!(bench, data(11, b"ab"));
    sent!(bench, sack: vec![(11, 13), (11, 13)]);
}

#[test]
fn rfc5961_3_2_only_the_exact_reset_resets() {
    let mut bench = Bench::established();
    recv!(bench, rst(0));
    sent!(bench);
    recv!(bench, rst(1 + 65_535));
    sent!(bench);
    recv!(bench, rst(2));
    sent!(bench, seq: 1, ack: Some(1), flags: "");
    assert_eq!(bench.state(), "ESTABLISHED");
    recv!(bench, rst(1));
    event!(bench, Event::Closed(Close::Reset));
    sent!(bench);
    assert_eq!(bench.client.poll_timeout(), None);
}

#[test]
fn rfc5961_4_2_syn_is_challenged() {
    let mut bench = Bench::established();
    for seq in [0, 1, 1000, 1_000_000] {
        recv!(bench, syn_ack(), seq: seq);
        sent!(bench, seq: 1, ack: Some(1), flags: "");
    }
    assert_eq!(bench.state(), "ESTABLISHED");
}

#[test]
fn rfc5961_5_2_blind_data_is_challenged() {
    let mut bench = Bench::established();
    bench.send(10);
    // SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT.
    for bad in [12, 1_u32.wrapping_sub(50_001)] {
        recv!(bench, data(1, b"evil"), ack: Some(bad));
        sent!(bench, ack: Some(1));
        assert!(bench.received.is_empty());
    }
    recv!(bench, data(1, b"good"), ack: Some(1_u32.wrapping_sub(50_000)));
    assert_eq!(bench.received, b"good");
}

#[test]
fn rfc5961_7_challenges_are_bounded() {
    let mut bench = Bench::established();
    let mut answers = 0;
    for _ in 0..100 {
        recv!(bench, rst(2));
        answers += bench.burst().len();
    }
    assert_eq!(answers, 10);
    bench.pass(5000);
    recv!(bench, rst(2));
    assert_eq!(bench.burst().len(), 1);
}

#[test]
fn rfc9293_3_10_7_4_retransmissions_are_answered_without_bound() {
    let mut bench = Bench::established();
    recv!(bench, data(1, b"hello"));
    bench.pass(40);
    for _ in 0..100 {
        recv!(bench, data(1, b"hello"));
        assert_eq!(bench.burst().len(), 1);
    }
}

#[test]
fn rfc7323_5_3_paws_drops_old_segments() {
    let mut bench = Bench::established_timestamps();
    recv!(bench, data(1, b"a"), ts: Some((200, 1010)));
    bench.pass(40);
    recv!(bench, data(2, b"old"), ts: Some((199, 1010)));
    sent!(bench, ack: Some(2), ts: Some((1050, 200)));
    assert_eq!(bench.received, b"a");
    // "... has been idle for longer than 24 days".
    bench.pass(25 * 24 * 3600 * 1000);
    recv!(bench, data(2, b"b"), ts: Some((199, 1010)));
    assert_eq!(bench.received, b"ab");
}

#[test]
fn rfc7323_5_3_paws_does_not_judge_resets() {
    let mut bench = Bench::established_timestamps();
    recv!(bench, rst(1), ts: Some((1, 0)));
    event!(bench, Event::Closed(Close::Reset));
}

#[test]
fn rfc7323_3_2_segments_without_timestamps_are_dropped() {
    let mut bench = Bench::established_timestamps();
    recv!(bench, data(1, b"a"));
    sent!(bench);
    assert!(bench.received.is_empty());
    recv!(bench, rst(1));
    event!(bench, Event::Closed(Close::Reset));
}

#[test]
fn rfc7323_4_3_timestamp_is_echoed_of_the_segment_that_is_acknowledged() {
    let mut bench = Bench::established_timestamps();
    // A hole: TS.Recent stays.
    recv!(bench, data(6, b"world"), ts: Some((300, 1010)));
    sent!(bench, ack: Some(1), ts: Some((1010, 100)));
    // "SEG.SEQ <= Last.ACK.sent": the segment that fills the hole.
    recv!(bench, data(1, b"hello"), ts: Some((310, 1010)));
    sent!(bench, ack: Some(11), ts: Some((1010, 310)));
    // Two segments, one acknowledgment: the first is echoed.
    recv!(bench, data(11, b"a"), ts: Some((320, 1010)));
    recv!(bench, data(12, b"b"), ts: Some((330, 1010)));
    sent!(bench, ack: Some(13), ts: Some((1010, 320)));
}

#[test]
fn rfc7323_3_2_data_leaves_room_for_timestamps() {
    let mut bench = Bench::established_timestamps();
    assert_eq!(bench.send(1000), [(1, 988), (989, 12)]);
}

#[test]
fn rfc9293_3_10_5_abort_sends_reset() {
    let mut bench = Bench::established();
    bench.send(10);
    bench.client.abort();
    sent!(bench, seq: 11, ack: Some(1), flags: "R");
    sent!(bench);
    event!(bench, Event::Closed(Close::Aborted));
    assert_eq!(bench.client.memory(), 0);
}

#[test]
fn rfc9293_3_10_7_1_closed_answers_with_reset() {
    let mut bench = Bench::established();
    bench.client.abort();
    bench.burst();
    recv!(bench, data(1, b"hello"), ack: Some(1));
    sent!(bench, seq: 1, ack: None, flags: "R");
    recv!(bench, rst(1));
    sent!(bench);
}

#[test]
fn rfc9293_3_8_3_user_timeout_ends_the_connection() {
    let mut bench = Bench::established();
    bench.send(10);
    bench.pass(29_999);
    assert_eq!(bench.state(), "ESTABLISHED");
    bench.now += std::time::Duration::from_millis(1);
    bench.client.handle_timeout(bench.now);
    sent!(bench, seq: 11, flags: "R");
    event!(bench, Event::Closed(Close::TimedOut));
    assert_eq!(bench.client.poll_timeout(), None);
}

#[test]
fn rfc9293_3_8_3_progress_restarts_the_user_timeout() {
    let mut bench = Bench::established();
    bench.send(10);
    bench.pass(20_000);
    recv!(bench, ack(5));
    bench.pass(20_000);
    assert_eq!(bench.state(), "ESTABLISHED");
    recv!(bench, ack(11));
    assert_eq!(bench.client.poll_timeout(), None);
    bench.pass(1_000_000);
    assert_eq!(bench.state(), "ESTABLISHED");
}

#[test]
fn rfc5461_errors_do_not_end_a_synchronized_connection() {
    let mut bench = Bench::established();
    bench.send(10);
    bench.client.handle_unreachable(Unreachable::Hard, bench.now);
    assert_eq!(bench.state(), "ESTABLISHED");
    bench.pass(30_000);
    event!(bench, Event::Closed(Close::Unreachable));
}

#[test]
fn rfc9293_3_8_5_urgent_octets_are_part_of_the_stream() {
    let mut bench = Bench::established();
    let segment = shadow_engine::wire::Segment {
        seq: shadow_engine::seq::SeqNum::new(crate::vocabulary::IRS + 1),
        ack: shadow_engine::seq::SeqNum::new(crate::vocabulary::ISS) + 1,
        flags: shadow_engine::wire::Flags { ack: true, urg: true, ..Default::default() },
        up: 1,
        wnd: 50_000,
        payload: b"!x",
        ..Default::default()
    };
    let received = &mut bench.received;
    bench.client.handle_segment(&segment, bench.now, &mut |bytes| received.extend(bytes));
    assert_eq!(bench.received, b"!x");
}

#[test]
fn only_what_was_released_is_sent() {
    let mut bench = Bench::established();
    bench.client.write(&[1; 3000]);
    sent!(bench);
    assert_eq!(bench.client.poll_timeout(), None);
    bench.client.release(1500);
    assert_eq!(bench.burst(), [(1, 1000), (1001, 500)]);
    bench.client.release(100);
    assert_eq!(bench.client.released(), 1500);
    bench.client.release(u64::MAX);
    assert_eq!(bench.client.released(), 3000);
    assert_eq!(bench.burst(), [(1501, 1000), (2501, 500)]);
    recv!(bench, ack(3001));
    assert_eq!(bench.client.acknowledged(), 3000);
    assert_eq!(bench.client.memory(), 0);
}

#[test]
fn sequence_numbers_wrap_in_a_long_stream() {
    // ISS is 16 before the wrap; and on to where SND.UNA passes ISS again would take 4 GiB.
    let mut bench = Bench::established();
    let mut at = 1;
    for _ in 0..20 {
        assert_eq!(bench.send(10), [(at, 10)]);
        at += 10;
        recv!(bench, ack(at));
    }
    assert_eq!(bench.client.acknowledged(), 200);
    assert_eq!(bench.client.poll_timeout(), None);
}

#[test]
fn the_state_is_printed_as_the_rfc_prints_it() {
    for (bench, name) in [
        (Bench::syn_sent(config()), "SYN-SENT"),
        (Bench::established(), "ESTABLISHED"),
        (Bench::fin_wait_1(), "FIN-WAIT-1"),
        (Bench::fin_wait_2(), "FIN-WAIT-2"),
        (Bench::closing(), "CLOSING"),
        (Bench::time_wait(), "TIME-WAIT"),
        (Bench::close_wait(), "CLOSE-WAIT"),
        (Bench::last_ack(), "LAST-ACK"),
    ] {
        assert_eq!(bench.state(), name);
    }
}

#[test]
fn an_idle_connection_is_small() {
    let mut bench = Bench::established_sack();
    bench.send(10_000);
    recv!(bench, ack(10_001));
    recv!(bench, data(1, &[0; 100]));
    bench.pass(40);
    assert_eq!(bench.client.memory(), 0);
    let size = size_of::<shadow_engine::client::Client>();
    assert!(size <= 512, "{size} octets");
}
