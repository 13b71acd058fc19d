//! The peer's window: updates, zero, silly ones, shrinking ones; and the window offered.

use shadow_engine::client::{Close, Event};

use crate::vocabulary::{Bench, Seg, ack, config, data, syn_ack};

/// ESTABLISHED, and the peer's window is `wnd`.
fn windowed(wnd: u16) -> Bench {
    let mut bench = Bench::established();
    recv!(bench, ack(1), wnd: wnd);
    bench
}

#[test]
fn rfc9293_3_8_6_nothing_beyond_the_window() {
    let mut bench = windowed(2500);
    assert_eq!(bench.send(5000), [(1, 1000), (1001, 1000)]);
    recv!(bench, ack(1001), wnd: 2500);
    assert_eq!(bench.burst(), [(2001, 1000)]);
}

#[test]
fn rfc9293_3_8_6_1_zero_window_is_probed_with_one_octet_and_back_off() {
    let mut bench = windowed(0);
    assert_eq!(bench.send(5000), []);
    assert_eq!(bench.timeout(), 210);
    sent!(bench, seq: 1, data: vec![b'x']);
    sent!(bench);
    recv!(bench, ack(1), wnd: 0);
    assert_eq!(bench.timeout(), 420);
    sent!(bench, seq: 1, data: vec![b'x']);
    sent!(bench);
    recv!(bench, ack(1), wnd: 0);
    assert_eq!(bench.timeout(), 840);
    sent!(bench, seq: 1, data: vec![b'x']);
    // It opens: data goes at once, the probe's octet again; what is left is silly.
    recv!(bench, ack(1), wnd: 3000);
    assert_eq!(bench.burst(), [(1, 1), (2, 1000), (1002, 1000)]);
}

#[test]
fn rfc9293_3_8_6_1_a_probe_that_is_taken_is_progress() {
    let mut bench = windowed(0);
    bench.send(10);
    bench.timeout();
    sent!(bench, seq: 1, data: vec![b'x']);
    recv!(bench, ack(2), wnd: 0);
    assert_eq!(bench.client.acknowledged(), 1);
    bench.timeout();
    sent!(bench, seq: 2, data: vec![b'x']);
}

#[test]
fn rfc9293_3_8_6_1_acknowledged_probes_keep_the_connection_up_to_policy() {
    let mut bench = windowed(0);
    bench.send(10);
    let mut waited = 0;
    while bench.state() == "ESTABLISHED" {
        waited += bench.timeout();
        bench.burst();
        recv!(bench, ack(1), wnd: 0);
        assert!(waited < 200_000);
    }
    assert_eq!(waited, 120_000);
    event!(bench, Event::Closed(Close::TimedOut));
}

#[test]
fn rfc9293_3_8_6_1_unanswered_probes_end_with_the_user_timeout() {
    let mut bench = windowed(0);
    bench.send(10);
    bench.pass(29_999);
    assert_eq!(bench.state(), "ESTABLISHED");
    bench.pass(1);
    assert_eq!(bench.state(), "CLOSED");
}

#[test]
fn rfc9293_3_8_6_1_fin_is_a_probe_when_nothing_else_is_left() {
    let mut bench = windowed(0);
    bench.client.close();
    sent!(bench);
    bench.timeout();
    sent!(bench, seq: 1, flags: "F", data: Vec::<u8>::new());
}

#[test]
fn rfc9293_3_8_6_2_1_no_silly_segments() {
    let mut bench = windowed(50_000);
    bench.send(10_000);
    // 300 octets are usable, less than a segment and less than half of the largest window.
    recv!(bench, ack(10_001), wnd: 300);
    bench.write(&[b'x'; 5000]);
    assert_eq!(bench.burst(), []);
    // "(4) or if ... the override timeout occurs": 0.1 - 1.0 seconds.
    assert_eq!(bench.timeout(), 200);
    assert_eq!(bench.burst(), [(10_001, 300)]);
}

#[test]
fn rfc9293_3_8_6_2_1_all_that_is_queued_may_go() {
    let mut bench = windowed(300);
    assert_eq!(bench.send(200), [(1, 200)]);
    // Nagle is off: not even with something in flight is it held back.
    assert_eq!(bench.send(50), [(201, 50)]);
}

#[test]
fn rfc9293_3_8_6_2_1_half_of_a_small_window_may_go() {
    let mut config = config();
    config.offer.window_scale = None;
    let mut bench = Bench::established_with(config, Seg { wnd: 400, ..syn_ack() });
    assert_eq!(bench.send(5000), [(1, 400)]);
    recv!(bench, ack(201), wnd: 200);
    assert_eq!(bench.burst(), []);
    recv!(bench, ack(401), wnd: 200);
    assert_eq!(bench.burst(), [(401, 200)]);
}

#[test]
fn rfc9293_3_10_7_4_old_window_updates_are_ignored() {
    let mut bench = Bench::established();
    recv!(bench, data(1, b"abc"), wnd: 5000);
    recv!(bench, data(4, b"def"), wnd: 5000);
    bench.burst();
    // SEG.SEQ before SND.WL1.
    recv!(bench, data(1, b"abcdefg"), wnd: 100);
    assert_eq!(bench.received, b"abcdefg");
    bench.burst();
    assert_eq!(bench.send(5000).len(), 5);
}

#[test]
fn a_window_is_never_stretched_by_an_acknowledgment() {
    let mut bench = Bench::established();
    recv!(bench, data(1, b"abc"), wnd: 2000);
    recv!(bench, data(4, b"def"), wnd: 2000);
    bench.burst();
    assert_eq!(bench.send(5000), [(1, 1000), (1001, 1000)]);
    // SEG.SEQ is older than SND.WL1, but the acknowledgment is newer: its window counts.
    recv!(bench, data(1, b"abcdefg"), ack: Some(1001), wnd: 1000);
    assert!(bench.burst().iter().all(|seg| seg.1 == 0));
}

#[test]
fn rfc9293_3_8_6_a_shrunken_window_is_respected() {
    let mut bench = windowed(5000);
    bench.send(5000);
    recv!(bench, ack(1001), wnd: 1500);
    // In flight up to 5001, allowed up to 2501: retransmissions stay within.
    bench.timeout();
    for (seq, len) in bench.burst() {
        assert!(seq + len as u32 <= 2501);
    }
    recv!(bench, ack(2001), wnd: 500);
    for (seq, len) in bench.burst() {
        assert!(seq + len as u32 <= 2501);
    }
    recv!(bench, ack(2001), wnd: 5000);
    assert!(!bench.burst().is_empty());
}

#[test]
fn acknowledgments_stay_acceptable_in_a_shrunken_window() {
    let mut bench = windowed(5000);
    bench.send(5000);
    recv!(bench, ack(1001), wnd: 0);
    recv!(bench, data(1, b"ab"), ack: Some(1001), wnd: 0);
    recv!(bench, data(3, b"cd"), ack: Some(1001), wnd: 0);
    sent!(bench, seq: 1001, ack: Some(5));
}

#[test]
fn rfc9293_3_8_6_2_2_the_window_offered_is_constant() {
    let mut config = config();
    config.offer.window_scale = Some(3);
    config.receive_limit = 100_000;
    let mut bench = Bench::established_with(config, Seg { scale: Some(2), ..syn_ack() });
    for turn in 0..10 {
        recv!(bench, data(1 + turn * 2000, &[0; 2000]));
        sent!(bench, ack: Some(2001 + turn * 2000), wnd: 12_500);
    }
    // Out of order too.
    recv!(bench, data(50_001, &[0; 1000]));
    sent!(bench, wnd: 12_500);
}

#[test]
fn what_is_kept_out_of_order_is_bounded() {
    let mut config = config();
    config.receive_limit = 10_000;
    let mut bench = Bench::established_with(config, syn_ack());
    for at in (2..20_000).step_by(2) {
        recv!(bench, data(at, b"x"));
        bench.burst();
        assert!(bench.client.memory() < 20_000);
    }
    recv!(bench, data(2, &[b'y'; 9998]));
    bench.burst();
    recv!(bench, data(1, b"z"));
    assert_eq!(bench.received.len(), 9999);
    assert_eq!(bench.client.memory(), 0);
}
