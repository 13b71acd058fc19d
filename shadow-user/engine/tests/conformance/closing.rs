//! FIN-WAIT-1, FIN-WAIT-2, CLOSING, TIME-WAIT, CLOSE-WAIT, LAST-ACK.

use shadow_engine::client::{Close, Event};

use crate::vocabulary::{Bench, Seg, ack, data, fin, rst, syn_ack};

#[test]
fn rfc9293_3_6_client_closes_first() {
    let mut bench = Bench::established();
    bench.write(b"bye");
    bench.client.close();
    sent!(bench, seq: 1, data: b"bye".to_vec(), flags: "F");
    assert_eq!(bench.state(), "FIN-WAIT-1");
    recv!(bench, ack(5));
    assert_eq!(bench.state(), "FIN-WAIT-2");
    assert!(bench.client.fin_acknowledged());
    recv!(bench, fin(1), ack: Some(5));
    sent!(bench, seq: 5, ack: Some(2), flags: "");
    assert_eq!(bench.state(), "TIME-WAIT");
    event!(bench, Event::PeerClosed);
    event!(bench);
    assert_eq!(bench.timeout(), 1000);
    assert_eq!(bench.state(), "CLOSED");
    event!(bench, Event::Closed(Close::Finished));
}

#[test]
fn rfc9293_3_6_peer_closes_first() {
    let mut bench = Bench::close_wait();
    assert_eq!(bench.state(), "CLOSE-WAIT");
    // Half-closed: this end goes on.
    assert_eq!(bench.send(10), [(1, 10)]);
    recv!(bench, ack(11), seq: 2);
    bench.client.close();
    sent!(bench, seq: 11, ack: Some(2), flags: "F");
    assert_eq!(bench.state(), "LAST-ACK");
    recv!(bench, ack(12), seq: 2);
    assert_eq!(bench.state(), "CLOSED");
    event!(bench, Event::Closed(Close::Finished));
}

#[test]
fn rfc9293_3_6_simultaneous_close() {
    let mut bench = Bench::closing();
    assert_eq!(bench.state(), "CLOSING");
    recv!(bench, ack(2), seq: 2);
    assert_eq!(bench.state(), "TIME-WAIT");
    assert!(bench.client.fin_acknowledged());
}

#[test]
fn rfc9293_3_10_7_4_fin_and_its_acknowledgment_in_one_segment() {
    let mut bench = Bench::fin_wait_1();
    recv!(bench, fin(1), ack: Some(2));
    assert_eq!(bench.state(), "TIME-WAIT");
    sent!(bench, ack: Some(2));
}

#[test]
fn rfc9293_3_10_4_fin_waits_for_release() {
    let mut bench = Bench::established();
    bench.client.write(b"held back");
    bench.client.close();
    sent!(bench);
    bench.client.release(4);
    sent!(bench, data: b"held".to_vec(), flags: "");
    assert_eq!(bench.state(), "ESTABLISHED");
    bench.client.release(9);
    sent!(bench, data: b" back".to_vec(), flags: "F");
    // Nothing is taken after the end.
    bench.write(b"more");
    assert_eq!(bench.client.written(), 9);
}

#[test]
fn rfc9293_3_10_7_4_half_closed_data_is_received_in_fin_wait() {
    let mut bench = Bench::fin_wait_1();
    recv!(bench, data(1, b"one"));
    recv!(bench, data(4, b"two"), ack: Some(2));
    assert_eq!(bench.state(), "FIN-WAIT-2");
    recv!(bench, data(7, b"three"), ack: Some(2));
    assert_eq!(bench.received, b"onetwothree");
}

#[test]
fn rfc9293_3_10_7_4_fin_is_sent_again() {
    let mut bench = Bench::fin_wait_1();
    bench.timeout();
    sent!(bench, seq: 1, flags: "F");
    assert_eq!(bench.state(), "FIN-WAIT-1");
}

#[test]
fn rfc9293_3_10_7_4_fin_out_of_order_waits_for_the_data() {
    let mut bench = Bench::established();
    recv!(bench, data(6, b"world"), flags: "F");
    event!(bench);
    sent!(bench, ack: Some(1));
    // Data beyond the end is no data.
    recv!(bench, data(11, b"nonsense"));
    recv!(bench, data(1, b"hello"));
    assert_eq!(bench.received, b"helloworld");
    assert_eq!(bench.state(), "CLOSE-WAIT");
    event!(bench, Event::PeerClosed);
    sent!(bench, ack: Some(12));
}

#[test]
fn rfc9293_3_10_7_4_data_beyond_fin_is_not_kept() {
    let mut bench = Bench::established();
    recv!(bench, data(6, b"world and more"));
    recv!(bench, fin(11));
    recv!(bench, data(1, b"hello"));
    assert_eq!(bench.received, b"helloworld");
    assert_eq!(bench.state(), "CLOSE-WAIT");
}

#[test]
fn rfc9293_3_10_7_4_text_after_fin_is_ignored() {
    let mut bench = Bench::close_wait();
    recv!(bench, data(2, b"ghost"));
    assert!(bench.received.is_empty());
    assert_eq!(bench.client.received(), 0);
}

#[test]
fn rfc9293_3_10_7_4_time_wait_acknowledges_a_fin_again_and_starts_anew() {
    let mut bench = Bench::time_wait();
    assert_eq!(bench.state(), "TIME-WAIT");
    bench.pass(900);
    recv!(bench, fin(1), ack: Some(2));
    sent!(bench, seq: 2, ack: Some(2), flags: "");
    assert_eq!(bench.timeout(), 1000);
    event!(bench, Event::Closed(Close::Finished));
}

#[test]
fn rfc9293_3_10_7_4_reset_in_time_wait_changes_nothing_that_counts() {
    let mut bench = Bench::time_wait();
    recv!(bench, rst(2));
    event!(bench, Event::Closed(Close::Finished));
}

#[test]
fn rfc6191_a_syn_in_time_wait_is_challenged() {
    // The mirror opens no port; a SYN on this one is stray.
    let mut bench = Bench::time_wait();
    recv!(bench, syn_ack(), seq: 100_000, ack: None);
    sent!(bench, seq: 2, ack: Some(2), flags: "");
    assert_eq!(bench.state(), "TIME-WAIT");
}

#[test]
fn rfc9293_3_10_7_4_reset_before_the_end_is_a_reset() {
    for (mut bench, seq) in
        [(Bench::fin_wait_1(), 1), (Bench::fin_wait_2(), 1), (Bench::close_wait(), 2)]
    {
        recv!(bench, rst(seq));
        event!(bench, Event::Closed(Close::Reset));
    }
    for mut bench in [Bench::last_ack(), Bench::closing()] {
        recv!(bench, rst(2));
        event!(bench, Event::Closed(Close::Reset));
        assert!(!bench.client.fin_acknowledged());
    }
}

#[test]
fn rfc9293_3_10_5_abort_by_state() {
    for (mut bench, seq) in
        [(Bench::fin_wait_1(), 2), (Bench::fin_wait_2(), 2), (Bench::close_wait(), 1)]
    {
        bench.client.abort();
        sent!(bench, seq: seq, flags: "R");
        event!(bench, Event::Closed(Close::Aborted));
    }
    for mut bench in [Bench::closing(), Bench::last_ack()] {
        bench.client.abort();
        sent!(bench);
        event!(bench, Event::Closed(Close::Aborted));
    }
}

#[test]
fn fin_wait_2_does_not_wait_for_ever() {
    let mut bench = Bench::fin_wait_2();
    bench.pass(50_000);
    // A peer that still sends is not silent.
    recv!(bench, data(1, b"slow"), ack: Some(2));
    bench.pass(50_000);
    assert_eq!(bench.state(), "FIN-WAIT-2");
    bench.pass(10_000);
    event!(bench, Event::Closed(Close::TimedOut));
}

#[test]
fn rfc9293_3_8_6_1_fin_waits_for_the_window() {
    let mut bench = Bench::established();
    recv!(bench, ack(1), wnd: 3, seq: 1);
    bench.write(b"abc");
    bench.client.close();
    sent!(bench, data: b"abc".to_vec(), flags: "");
    recv!(bench, ack(4), wnd: 0);
    sent!(bench);
    recv!(bench, ack(4), wnd: 100);
    sent!(bench, seq: 4, flags: "F");
}

#[test]
fn rfc9293_3_10_7_4_old_acknowledgment_in_last_ack_does_not_end_it() {
    let mut bench = Bench::last_ack();
    recv!(bench, ack(1), seq: 2);
    assert_eq!(bench.state(), "LAST-ACK");
    recv!(bench, Seg { seq: 2, ..ack(2) });
    assert_eq!(bench.state(), "CLOSED");
}
