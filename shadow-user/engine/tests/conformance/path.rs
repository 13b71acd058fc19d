//! The path: its MTU.

use crate::vocabulary::{Bench, ack, config, syn_ack};

#[test]
fn rfc9293_3_7_1_segments_fit_the_path() {
    let mut config = config();
    config.path_mtu = 600;
    let mut bench = Bench::established_with(config, syn_ack());
    assert_eq!(bench.send(1000), [(1, 560), (561, 440)]);
}

#[test]
fn rfc1191_6_4_packet_too_big_is_sent_again_at_once_in_smaller_segments() {
    let mut bench = Bench::established();
    assert_eq!(bench.send(3000).len(), 3);
    bench.client.handle_packet_too_big(640, bench.now);
    assert_eq!(bench.burst(), [(1, 600), (601, 600), (1201, 600), (1801, 600), (2401, 600)]);
    // It is no sign of congestion: the window is as it was.
    recv!(bench, ack(3001));
    assert!(bench.send(20_000).len() * 600 > 9400);
}

#[test]
fn rfc8201_4_increases_and_tiny_values_are_not_believed() {
    let mut bench = Bench::established();
    bench.send(1000);
    for mtu in [0, 68, 551, 1500, 9000] {
        bench.client.handle_packet_too_big(mtu, bench.now);
        assert_eq!(bench.burst(), []);
    }
    bench.client.handle_packet_too_big(552, bench.now);
    assert_eq!(bench.burst(), [(1, 512), (513, 488)]);
}

#[test]
fn rfc8201_4_ipv6_is_never_below_1280() {
    let mut config = config();
    config.local = "[fd00::1]:1".parse().unwrap();
    config.remote = "[fd00::2]:1".parse().unwrap();
    let mut syn_ack = syn_ack();
    syn_ack.mss = Some(1440);
    let mut bench = Bench::established_with(config, syn_ack);
    bench.send(1440);
    bench.client.handle_packet_too_big(1279, bench.now);
    assert_eq!(bench.burst(), []);
    bench.client.handle_packet_too_big(1280, bench.now);
    assert_eq!(bench.burst(), [(1, 1220), (1221, 220)]);
}

#[test]
fn rfc1191_before_anything_is_sent_only_the_size_changes() {
    let mut bench = Bench::syn_sent(config());
    bench.client.handle_packet_too_big(600, bench.now);
    sent!(bench);
    recv!(bench, syn_ack());
    sent!(bench, flags: "");
    assert_eq!(bench.send(600), [(1, 560), (561, 40)]);
}
