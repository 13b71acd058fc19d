//! What the guard drops and copies, and what it lets pass.

use shadow_common::RecordKind;

use crate::bench::{Bench, DROP, NEXT};
use crate::frames::{DOT1Q, Shape, frame, packet, report, shaped};

const SHADOW4: &str = "198.51.100.9:8080";
const MIRROR4: &str = "192.0.2.80:20000";
const SHADOW6: &str = "[2001:db8::9]:8080";
const MIRROR6: &str = "[2001:db8::80]:20000";

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.guard(SHADOW4, "192.0.2.80", 16_384, 32_767);
    bench
}

#[test]
fn a_shadows_answer_is_copied_and_dropped() {
    let mut bench = bench();
    for tags in [&[][..], &[DOT1Q]] {
        let packet = packet(SHADOW4, MIRROR4, b"HTTP/1.1 200 OK\r\n\r\n");
        let run = bench.run("guard", &frame(tags, &packet));
        run.copied(DROP, &packet);
        assert_eq!(run.records[0].0.kind, RecordKind::Reply as u32);
    }
    bench.guard(SHADOW6, "2001:db8::80", 16_384, 32_767);
    let answer = packet(SHADOW6, MIRROR6, b"x");
    bench.run("guard", &frame(&[], &answer)).copied(DROP, &answer);
    // The rule that was replaced is gone.
    bench.run("guard", &frame(&[], &packet(SHADOW4, MIRROR4, b"x"))).ignored();
}

#[test]
fn each_field_of_the_rule_is_looked_at() {
    let mut bench = bench();
    for port in [16_384, 32_767] {
        let packet = packet(SHADOW4, &format!("192.0.2.80:{port}"), b"x");
        bench.run("guard", &frame(&[], &packet)).copied(DROP, &packet);
    }
    let udp = Shape { udp: true, ..Shape::default() };
    for (name, packet) in [
        ("the shadow's address", packet("198.51.100.8:8080", MIRROR4, b"x")),
        ("the shadow's port", packet("198.51.100.9:8081", MIRROR4, b"x")),
        ("the mirror's address", packet(SHADOW4, "192.0.2.81:20000", b"x")),
        ("below the range", packet(SHADOW4, "192.0.2.80:16383", b"x")),
        ("above the range", packet(SHADOW4, "192.0.2.80:32768", b"x")),
        ("the other direction", packet(MIRROR4, SHADOW4, b"x")),
        ("another family", packet(SHADOW6, MIRROR6, b"x")),
        ("another protocol", shaped(SHADOW4, MIRROR4, b"x", &udp)),
    ] {
        println!("{name}");
        bench.run("guard", &frame(&[], &packet)).ignored();
    }
}

#[test]
fn what_cannot_be_copied_is_dropped_all_the_same() {
    let dropped_as = |bench: &mut Bench, frame: &[u8], label| {
        let run = bench.run("guard", frame);
        assert_eq!((run.verdict, run.counted.as_slice()), (DROP, &[label][..]));
        assert!(run.records.is_empty());
    };
    let mut bench = bench();
    let whole = frame(&[], &packet(SHADOW4, MIRROR4, &[7; 100]));
    dropped_as(&mut bench, &whole[..whole.len() - 1], "unreadable");
    let mut short = whole.clone();
    short[16..18].copy_from_slice(&39_u16.to_be_bytes());
    dropped_as(&mut bench, &short, "malformed");
    let first = Shape { fragment: Some((true, 0)), ..Shape::default() };
    let first = shaped(SHADOW4, MIRROR4, &[7; 64], &first);
    dropped_as(&mut bench, &frame(&[], &first), "fragment");

    let mut bench = Bench::with_rings(1);
    bench.guard(SHADOW4, "192.0.2.80", 16_384, 32_767);
    let large = frame(&[], &packet(SHADOW4, MIRROR4, &[7; 3000]));
    assert_eq!(bench.verdict("guard", &large), DROP);
    let before = bench.programs.counters().unwrap();
    assert_eq!(bench.verdict("guard", &large), DROP);
    let after = bench.programs.counters().unwrap();
    assert_eq!(crate::bench::counted(&before, &after), ["ring_full"]);
}

#[test]
fn the_tap_and_the_guard_do_not_see_each_others_packets() {
    let mut bench = bench();
    bench.serve(&["192.0.2.80:80"]);
    let request = packet("192.0.2.1:40000", "192.0.2.80:80", b"x");
    let answer = packet(SHADOW4, MIRROR4, b"x");
    bench.run("guard", &frame(&[], &request)).ignored();
    bench.run("tap", &frame(&[], &answer)).ignored();
    bench.run("tap", &frame(&[], &request)).copied(NEXT, &request);
}

/// Copied to the ring, and passed on.
#[track_caller]
fn reported(bench: &mut Bench, packet: &[u8]) {
    let run = bench.run("guard", &frame(&[], packet));
    assert_eq!((run.verdict, run.counted.as_slice()), (NEXT, &["icmp"][..]));
    let [(header, copy)] = run.records.as_slice() else { panic!("{run:?}") };
    assert_eq!((copy.as_slice(), header.kind), (packet, RecordKind::Reply as u32));
}

#[test]
fn a_routers_report_about_the_mirrors_packet_is_copied_and_passed_on() {
    let mut bench = bench();
    let sent = packet(MIRROR4, SHADOW4, &[7; 1460]);
    for (code, quoted) in [(4, 28), (4, 548), (1, 28), (13, 60)] {
        reported(&mut bench, &report("192.0.2.80", 3, code, &sent[..quoted]));
    }
    bench.guard(SHADOW6, "2001:db8::80", 16_384, 32_767);
    let sent6 = packet(MIRROR6, SHADOW6, &[7; 1440]);
    for (kind, code, quoted) in [(2, 0, 48), (2, 0, 1232), (1, 0, 48)] {
        reported(&mut bench, &report("2001:db8::80", kind, code, &sent6[..quoted]));
    }
}

#[test]
fn any_other_icmp_message_is_none_of_ours() {
    let mut bench = bench();
    let sent = packet(MIRROR4, SHADOW4, &[7; 100]);
    let udp = Shape { udp: true, ..Shape::default() };
    for (name, packet) in [
        ("echo request", report("192.0.2.80", 8, 0, &sent[..28])),
        ("time exceeded", report("192.0.2.80", 11, 0, &sent[..28])),
        ("another port", report("192.0.2.80", 3, 4, &packet(MIRROR4, "198.51.100.9:80", b"x"))),
        ("another shadow", report("192.0.2.80", 3, 4, &packet(MIRROR4, "192.0.2.9:8080", b"x"))),
        (
            "not the mirror's port",
            report("192.0.2.80", 3, 4, &packet("192.0.2.80:9", SHADOW4, b"")),
        ),
        ("UDP", report("192.0.2.80", 3, 4, &shaped(MIRROR4, SHADOW4, b"x", &udp))),
        ("the quote is cut short", report("192.0.2.80", 3, 4, &sent[..23])),
        ("nothing is quoted", report("192.0.2.80", 3, 4, &[])),
    ] {
        println!("{name}");
        bench.run("guard", &frame(&[], &packet)).ignored();
    }
    // The tap has nothing to do with any of them.
    bench.serve(&["192.0.2.80:20000"]);
    bench.run("tap", &frame(&[], &report("192.0.2.80", 3, 4, &sent[..28]))).ignored();
}

const CLIENT4: &str = "203.0.113.7:40000";
const CLIENT6: &str = "[2001:db8:7::7]:40000";

fn foreign() -> Bench {
    let mut bench = Bench::new();
    bench.guard_foreign(SHADOW4, &["192.0.2.80", "2001:db8::80"]);
    bench
}

#[test]
fn what_a_shadow_sends_to_another_is_copied_and_dropped_whatever_its_port() {
    let mut bench = foreign();
    for client in [CLIENT4, "203.0.113.7:1", "10.0.0.1:65535", "192.0.2.81:20000"] {
        let answer = packet(SHADOW4, client, b"HTTP/1.1 200 OK\r\n\r\n");
        bench.run("guard", &frame(&[], &answer)).copied(DROP, &answer);
    }
    bench.guard_foreign(SHADOW6, &["192.0.2.80", "2001:db8::80"]);
    let answer = packet(SHADOW6, CLIENT6, b"x");
    bench.run("guard", &frame(&[DOT1Q], &answer)).copied(DROP, &answer);
}

#[test]
fn the_hosts_own_traffic_with_the_shadow_passes_and_so_does_that_of_others() {
    let mut bench = foreign();
    let udp = Shape { udp: true, ..Shape::default() };
    let later = Shape { fragment: Some((false, 8)), ..Shape::default() };
    for (name, packet) in [
        ("to this host", packet(SHADOW4, MIRROR4, b"x")),
        ("to this host's other port", packet(SHADOW4, "192.0.2.80:40000", b"x")),
        ("a later fragment to this host", shaped(SHADOW4, MIRROR4, &[7; 64], &later)),
        ("from another port", packet("198.51.100.9:22", CLIENT4, b"x")),
        ("from another host", packet("198.51.100.8:8080", CLIENT4, b"x")),
        ("a later fragment from another", shaped("198.51.100.8:1", CLIENT4, &[7; 64], &later)),
        ("the other direction", packet(CLIENT4, SHADOW4, b"x")),
        ("another protocol", shaped(SHADOW4, CLIENT4, b"x", &udp)),
    ] {
        println!("{name}");
        bench.run("guard", &frame(&[], &packet)).ignored();
    }
    // An address that comes later is this host's own from then on.
    bench.guard_foreign(SHADOW4, &["203.0.113.7"]);
    bench.run("guard", &frame(&[], &packet(SHADOW4, CLIENT4, b"x"))).ignored();
    let other = packet(SHADOW4, MIRROR4, b"x");
    bench.run("guard", &frame(&[], &other)).copied(DROP, &other);
}

#[test]
fn no_fragment_of_a_shadow_is_forwarded_to_another() {
    let dropped = |bench: &mut Bench, packet: &[u8]| {
        let run = bench.run("guard", &frame(&[], packet));
        assert_eq!((run.verdict, run.counted.as_slice()), (DROP, &["fragment"][..]));
    };
    let mut bench = foreign();
    for fragment in [(true, 0), (true, 8), (false, 100)] {
        let shape = Shape { fragment: Some(fragment), ..Shape::default() };
        dropped(&mut bench, &shaped(SHADOW4, CLIENT4, &[7; 64], &shape));
    }
    bench.guard_foreign(SHADOW6, &["192.0.2.80"]);
    let shape = Shape { fragment: Some((false, 100)), ..Shape::default() };
    dropped(&mut bench, &shaped(SHADOW6, CLIENT6, &[7; 64], &shape));
}

#[test]
fn an_error_about_a_packet_from_anothers_address_is_not_forwarded_to_it() {
    let mut bench = foreign();
    let sent = packet(CLIENT4, SHADOW4, &[7; 100]);
    for (kind, code) in [(3, 1), (3, 4), (4, 0), (5, 1), (11, 0), (12, 0)] {
        let report = report("203.0.113.7", kind, code, &sent[..28]);
        let run = bench.run("guard", &frame(&[], &report));
        assert_eq!((run.verdict, run.counted.as_slice()), (DROP, &["icmp_foreign"][..]));
        assert_eq!(run.records.len(), 1);
        let run = bench.run("guard_out", &frame(&[], &report));
        assert_eq!((run.verdict, run.counted.as_slice()), (DROP, &["icmp_foreign"][..]));
    }
    let own = packet(MIRROR4, SHADOW4, &[7; 100]);
    let other = packet(CLIENT4, "198.51.100.9:80", &[7; 100]);
    for (name, report) in [
        ("about the host's own packet", report("192.0.2.80", 3, 1, &own[..28])),
        ("about another service", report("203.0.113.7", 3, 1, &other[..28])),
        ("no error", report("203.0.113.7", 8, 0, &sent[..28])),
        ("no ICMP", packet("192.0.2.80:80", CLIENT4, b"x")),
    ] {
        println!("{name}");
        bench.run("guard", &frame(&[], &report)).ignored();
        bench.run("guard_out", &frame(&[], &report)).ignored();
    }
    bench.guard_foreign(SHADOW6, &["2001:db8::80"]);
    let sent6 = packet(CLIENT6, SHADOW6, &[7; 100]);
    for kind in [1, 2, 3, 4] {
        let report = report("2001:db8:7::7", kind, 0, &sent6[..48]);
        let run = bench.run("guard", &frame(&[], &report));
        assert_eq!((run.verdict, run.counted.as_slice()), (DROP, &["icmp_foreign"][..]));
    }
}
