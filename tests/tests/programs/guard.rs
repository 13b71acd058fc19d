//! What the guard drops and copies, and what it lets pass.

use shadow_common::RecordKind;

use crate::bench::{Bench, DROP, NEXT};
use crate::frames::{DOT1Q, Shape, frame, packet, shaped};

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
