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
