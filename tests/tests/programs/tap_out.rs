//! Of production's packets, only the answers of flows whose requests were copied are copied, whole
//! or their headers; and everything passes.

use etherparse::PacketBuilder;
use shadow_common::{FlowRule, RecordKind};

use crate::bench::{Bench, NEXT, Run};
use crate::frames::{DOT1Q, Shape, frame, packet, shaped};

const CLIENT4: &str = "192.0.2.1:40000";
const CLIENT6: &str = "[2001:db8::1]:40000";
const SERVICE4: &str = "192.0.2.80:80";
const SERVICE6: &str = "[2001:db8::80]:80";

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.serve(&[SERVICE4, SERVICE6]);
    bench
}

fn request(bench: &mut Bench, client: &str, service: &str) {
    bench.run("tap", &frame(&[], &packet(client, service, b"GET / HTTP/1.1\r\n\r\n")));
}

/// A packet between [`CLIENT4`] and [`SERVICE4`] with the given flags.
fn flagged(from_client: bool, flags: &str, seq: u32, payload: &[u8]) -> Vec<u8> {
    let (client, service) = ([192, 0, 2, 1], [192, 0, 2, 80]);
    let builder = if from_client {
        PacketBuilder::ipv4(client, service, 64).tcp(40_000, 80, seq, 512)
    } else {
        PacketBuilder::ipv4(service, client, 64).tcp(80, 40_000, seq, 512)
    };
    let mut builder = builder.ack(1);
    for flag in flags.chars() {
        builder = match flag {
            'S' => builder.syn(),
            'F' => builder.fin(),
            _ => builder.rst(),
        };
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

/// Passed on, of which exactly `headers` octets are in the ring.
#[track_caller]
fn abridged(run: &Run, packet: &[u8], headers: usize) {
    assert_eq!((run.verdict, run.counted.as_slice()), (NEXT, &["abridged"][..]), "{run:?}");
    let [(header, copy)] = run.records.as_slice() else { panic!("{run:?}") };
    assert_eq!(header.kind, RecordKind::ResponseHeaders as u32);
    assert_eq!(copy, &packet[..headers]);
}

#[test]
fn an_answer_is_copied_once_its_flow_has_asked() {
    let extensions = Shape { extensions: true, ..Shape::default() };
    for (client, service, shape) in [
        (CLIENT4, SERVICE4, Shape::default()),
        (CLIENT4, SERVICE4, Shape { options: vec![1; 8], ..Shape::default() }),
        (CLIENT6, SERVICE6, Shape::default()),
        (CLIENT6, SERVICE6, extensions),
    ] {
        for tags in [&[][..], &[DOT1Q]] {
            let mut bench = bench();
            let answer = shaped(service, client, b"HTTP/1.1 200 OK\r\n\r\n", &shape);
            bench.run("tap_out", &frame(tags, &answer)).ignored();
            request(&mut bench, client, service);
            let run = bench.run("tap_out", &frame(tags, &answer));
            run.copied(NEXT, &answer);
            assert_eq!(run.records[0].0.kind, RecordKind::Response as u32);
        }
    }
}

#[test]
fn nothing_of_other_flows_is_copied() {
    let mut bench = bench();
    request(&mut bench, CLIENT4, SERVICE4);
    for (name, from, to) in [
        ("another port of production", "192.0.2.80:81", CLIENT4),
        ("another address of production", "192.0.2.81:80", CLIENT4),
        ("another client", SERVICE4, "192.0.2.2:40000"),
        ("another connection of the client", SERVICE4, "192.0.2.1:40001"),
        ("the other direction", CLIENT4, SERVICE4),
        ("another family", SERVICE6, CLIENT6),
    ] {
        println!("{name}");
        bench.run("tap_out", &frame(&[], &packet(from, to, b"x"))).ignored();
    }
}

#[test]
fn a_flow_is_noted_with_data_alone() {
    let mut bench = bench();
    let answer = frame(&[], &packet(SERVICE4, CLIENT4, b"x"));
    bench.run("tap", &frame(&[], &flagged(true, "S", 7, b"")));
    bench.run("tap", &frame(&[], &flagged(true, "", 8, b"")));
    bench.run("tap_out", &answer).ignored();
    bench.run("tap", &frame(&[], &flagged(true, "S", 7, b"fast open")));
    assert_eq!(bench.run("tap_out", &answer).counted, ["captured"]);
}

#[test]
fn what_carries_nothing_is_not_copied() {
    let mut bench = bench();
    request(&mut bench, CLIENT4, SERVICE4);
    for flags in ["", "S"] {
        bench.run("tap_out", &frame(&[], &flagged(false, flags, 1, b""))).ignored();
    }
    for flags in ["F", "R"] {
        let end = flagged(false, flags, 1, b"");
        bench.run("tap_out", &frame(&[], &end)).copied(NEXT, &end);
    }
}

#[test]
fn only_what_lies_wholly_within_the_range_is_abridged() {
    for from in [5_000, u32::MAX - 20] {
        let at = |ahead: u32| from.wrapping_add(ahead);
        let mut bench = bench();
        request(&mut bench, CLIENT4, SERVICE4);
        bench.want(CLIENT4, SERVICE4, FlowRule::all_but(from, at(100)));
        for (flags, begin, len, within) in [
            ("", 0, 100, true),
            ("", 30, 70, true),
            ("F", 30, 70, true),
            ("", 30, 71, false),
            ("", 100, 10, false),
            ("", u32::MAX, 10, false),
            ("F", 50, 0, false),
        ] {
            println!("from {from}, {begin} + {len}");
            let answer = flagged(false, flags, at(begin), &vec![7; len]);
            let run = bench.run("tap_out", &frame(&[], &answer));
            if within { abridged(&run, &answer, 40) } else { run.copied(NEXT, &answer) }
        }
        // The numbers of the next connection are others.
        bench.run("tap", &frame(&[], &flagged(true, "S", 7, b"")));
        let answer = flagged(false, "", at(30), b"new");
        bench.run("tap_out", &frame(&[], &answer)).copied(NEXT, &answer);
    }
}

#[test]
fn what_is_wanted_can_be_told_at_any_time() {
    let mut bench = bench();
    let answer = frame(&[], &packet(SERVICE4, CLIENT4, b"x"));
    // Of a flow that is not there, nothing.
    bench.want(CLIENT4, SERVICE4, FlowRule::ALL);
    bench.run("tap_out", &answer).ignored();
    request(&mut bench, CLIENT4, SERVICE4);
    bench.want(CLIENT4, SERVICE4, FlowRule::NOTHING);
    bench.run("tap_out", &answer).ignored();
    request(&mut bench, CLIENT4, SERVICE4);
    bench.run("tap_out", &answer).ignored();
    bench.want(CLIENT4, SERVICE4, FlowRule::ALL);
    assert_eq!(bench.run("tap_out", &answer).counted, ["captured"]);
}

#[test]
fn what_cannot_be_copied_is_counted_and_passes() {
    let mut bench = bench();
    request(&mut bench, CLIENT4, SERVICE4);
    let whole = frame(&[], &packet(SERVICE4, CLIENT4, &[7; 100]));
    bench.run("tap_out", &whole[..whole.len() - 1]).passed_as("unreadable");
    let mut short = whole.clone();
    short[16..18].copy_from_slice(&39_u16.to_be_bytes());
    bench.run("tap_out", &short).passed_as("malformed");
    let first = Shape { fragment: Some((true, 0)), ..Shape::default() };
    let first = shaped(SERVICE4, CLIENT4, &[7; 64], &first);
    bench.run("tap_out", &frame(&[], &first)).passed_as("fragment");

    let mut bench = Bench::with_rings(1);
    bench.serve(&[SERVICE4]);
    request(&mut bench, CLIENT4, SERVICE4);
    let big = frame(&[], &packet(SERVICE4, CLIENT4, &[7; 3_000]));
    let mut counted = Vec::new();
    for _ in 0..3 {
        let before = bench.programs.counters().unwrap();
        assert_eq!(bench.verdict("tap_out", &big), NEXT);
        counted.extend(crate::bench::counted(&before, &bench.programs.counters().unwrap()));
    }
    assert_eq!(counted, ["captured", "ring_full", "ring_full"]);
    // A client's packets have a ring of their own.
    bench.run("tap", &frame(&[], &packet(CLIENT4, SERVICE4, b"x")));
    assert_eq!(bench.programs.counters().unwrap().tap.total(), 2);
}

#[test]
fn without_comparing_nothing_is_noted() {
    let mut bench = Bench::load(1 << 20, None);
    bench.serve(&[SERVICE4]);
    request(&mut bench, CLIENT4, SERVICE4);
    bench.run("tap_out", &frame(&[], &packet(SERVICE4, CLIENT4, b"x"))).ignored();
}
