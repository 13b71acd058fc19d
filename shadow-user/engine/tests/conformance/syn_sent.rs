//! SYN-SENT.

use std::time::Duration;

use shadow_engine::client::{Close, Event, Unreachable};

use crate::vocabulary::{Bench, Seg, ack, config, data, rst, syn_ack};

#[test]
fn rfc9293_3_10_7_3_syn_ack_establishes() {
    let mut bench = Bench::syn_sent(config());
    assert_eq!(bench.state(), "SYN-SENT");
    recv!(bench, syn_ack());
    assert_eq!(bench.state(), "ESTABLISHED");
    sent!(bench, seq: 1, ack: Some(1), flags: "");
    sent!(bench);
    event!(bench, Event::Connected);
    event!(bench);
    assert_eq!(bench.client.poll_timeout(), None);
}

#[test]
fn rfc9293_3_10_7_3_unacceptable_ack_is_answered_with_reset() {
    for bad in [0, 2] {
        let mut bench = Bench::syn_sent(config());
        recv!(bench, syn_ack(), ack: Some(bad));
        sent!(bench, seq: bad, ack: None, flags: "R");
        assert_eq!(bench.state(), "SYN-SENT");
        // "unless the RST bit is set, if so drop the segment and return".
        recv!(bench, rst(0), ack: Some(bad));
        sent!(bench);
        assert_eq!(bench.state(), "SYN-SENT");
    }
}

#[test]
fn rfc9293_3_10_7_3_reset_refuses_only_with_acceptable_ack() {
    let mut bench = Bench::syn_sent(config());
    recv!(bench, rst(0));
    assert_eq!(bench.state(), "SYN-SENT");
    recv!(bench, rst(0), ack: Some(1));
    assert_eq!(bench.state(), "CLOSED");
    event!(bench, Event::Closed(Close::Refused));
    sent!(bench);
}

#[test]
fn rfc9293_3_10_7_3_neither_syn_nor_rst_is_dropped() {
    let mut bench = Bench::syn_sent(config());
    recv!(bench, ack(1));
    recv!(bench, data(1, b"early"));
    sent!(bench);
    assert_eq!(bench.state(), "SYN-SENT");
}

#[test]
fn rfc9293_3_5_simultaneous_open_is_refused() {
    let mut bench = Bench::syn_sent(config());
    recv!(bench, syn_ack(), ack: None);
    sent!(bench);
    assert_eq!(bench.state(), "SYN-SENT");
}

#[test]
fn rfc9293_3_10_7_3_text_on_syn_ack_is_taken() {
    let mut bench = Bench::syn_sent(config());
    recv!(bench, syn_ack(), data: b"hello".to_vec());
    assert_eq!(bench.received, b"hello");
    sent!(bench, ack: Some(6));
}

#[test]
fn rfc9293_3_10_4_close_waits_for_the_answer() {
    let mut bench = Bench::syn_sent(config());
    bench.write(b"all");
    bench.client.close();
    sent!(bench);
    recv!(bench, syn_ack());
    sent!(bench, seq: 1, data: b"all".to_vec(), flags: "F", ack: Some(1));
    assert_eq!(bench.state(), "FIN-WAIT-1");
}

#[test]
fn rfc9293_3_10_5_abort_sends_nothing() {
    let mut bench = Bench::syn_sent(config());
    bench.client.abort();
    sent!(bench);
    assert_eq!(bench.state(), "CLOSED");
    event!(bench, Event::Closed(Close::Aborted));
    // The shadow's answer to the SYN is reset then (3.10.7.1).
    recv!(bench, syn_ack());
    sent!(bench, seq: 1, ack: None, flags: "R");
}

#[test]
fn rfc6298_2_1_syn_is_sent_again_after_one_second_and_backs_off() {
    let mut bench = Bench::syn_sent(config());
    for seconds in [1, 2, 4, 8] {
        assert_eq!(bench.timeout(), seconds * 1000);
        sent!(bench, seq: 0, flags: "S", mss: Some(1460));
    }
    // 15 s of 30 s have passed; the next SYN would be due after 31 s.
    assert_eq!(bench.timeout(), 15_000);
    event!(bench, Event::Closed(Close::TimedOut));
    sent!(bench);
    assert_eq!(bench.client.poll_timeout(), None);
}

#[test]
fn rfc6298_5_7_rto_is_three_seconds_after_a_lost_syn() {
    let mut bench = Bench::syn_sent(config());
    bench.timeout();
    sent!(bench, flags: "S");
    recv!(bench, syn_ack());
    sent!(bench, flags: "");
    // RFC 5681, 3.1: and the initial window is one segment.
    assert_eq!(bench.send(5000), [(1, 1000)]);
    assert_eq!(bench.timeout(), 3000);
}

/// The peer kept the first SYN's timestamp, and its first two answers were lost.
#[test]
fn rfc6298_3_a_syn_that_was_sent_again_is_not_measured_by_its_timestamp() {
    let mut config = config();
    config.offer.timestamps = true;
    let mut bench = Bench::syn_sent(config);
    bench.timeout();
    sent!(bench, flags: "S");
    bench.timeout();
    sent!(bench, flags: "S");
    recv!(bench, syn_ack(), ts: Some((100, 1000)));
    sent!(bench, flags: "");
    bench.send(10);
    bench.now += std::time::Duration::from_millis(10);
    let echo = 1000 + 3010;
    recv!(bench, ack(11), ts: Some((110, echo)));
    bench.send(10);
    // SRTT 10 ms, RTTVAR 5 ms: the margin of 200 ms counts.
    assert_eq!(bench.timeout(), 210);
}

#[test]
fn rfc9293_3_7_1_mss_is_536_without_the_option() {
    let mut bench = Bench::established_with(config(), Seg { mss: None, ..syn_ack() });
    assert_eq!(bench.send(600), [(1, 536), (537, 64)]);
}

#[test]
fn rfc9293_3_7_1_mss_is_1220_without_the_option_on_ipv6() {
    let mut config = config();
    config.local = "[fd00::1]:1".parse().unwrap();
    config.remote = "[fd00::2]:1".parse().unwrap();
    let mut bench = Bench::established_with(config, Seg { mss: None, ..syn_ack() });
    assert_eq!(bench.send(1300), [(1, 1220), (1221, 80)]);
}

#[test]
fn rfc9293_3_7_1_mss_offered_is_the_clients_but_fits_the_link() {
    for (offered, mtu, sent) in [(1460, 1500, 1460), (1460, 1400, 1360), (536, 1500, 536)] {
        let mut config = config();
        config.offer.mss = offered;
        config.path_mtu = mtu;
        let start = shadow_engine::time::Instant::default();
        let mut client = shadow_engine::client::Client::connect(config, start);
        let syn = client.poll_transmit(start).unwrap();
        assert_eq!(syn.segment.options.mss, Some(sent));
    }
}

#[test]
fn rfc7323_2_3_shift_above_14_means_14() {
    let mut config = config();
    config.offer.window_scale = Some(0);
    let mut bench = Bench::established_with(config, Seg { scale: Some(15), wnd: 1, ..syn_ack() });
    // The SYN's own window is not scaled: 1 octet.
    bench.write(&[b'x'; 200_000]);
    assert_eq!(bench.burst(), [(1, 1)]);
    let mut widest = 0;
    for edge in (0..100_000).step_by(1000) {
        recv!(bench, ack(1 + edge), wnd: 1);
        let end = bench.burst().last().map_or(0, |&(seq, len)| seq + len as u32);
        widest = widest.max(end.saturating_sub(1 + edge));
    }
    // 1 << 14 octets, but for a segment that would be a silly one.
    assert!((15_385..=16_384).contains(&widest), "{widest}");
}

#[test]
fn rfc9293_3_7_1_mss_below_48_counts_as_48() {
    for mss in [0, 1, 47] {
        let mut bench = Bench::established_with(config(), Seg { mss: Some(mss), ..syn_ack() });
        assert_eq!(bench.send(100), [(1, 48), (49, 48), (97, 4)]);
    }
}

#[test]
fn rfc7323_2_2_no_scaling_unless_both_offer_it() {
    let mut config = config();
    config.offer.window_scale = Some(7);
    config.receive_limit = 1 << 20;
    let mut bench = Bench::syn_sent(config);
    recv!(bench, syn_ack());
    sent!(bench, wnd: 65_535);
}

#[test]
fn rfc1122_4_2_3_9_hard_error_ends_syn_sent_soft_does_not() {
    let mut bench = Bench::syn_sent(config());
    bench.client.handle_unreachable(Unreachable::Soft, bench.now);
    assert_eq!(bench.state(), "SYN-SENT");
    bench.client.handle_unreachable(Unreachable::Hard, bench.now);
    event!(bench, Event::Closed(Close::Unreachable));
}

#[test]
fn rfc9293_3_9_2_2_soft_error_is_the_reason_at_the_end() {
    let mut config = config();
    config.user_timeout = Duration::from_secs(5);
    let mut bench = Bench::syn_sent(config);
    bench.client.handle_unreachable(Unreachable::Soft, bench.now);
    bench.pass(6000);
    event!(bench, Event::Closed(Close::Unreachable));
}
