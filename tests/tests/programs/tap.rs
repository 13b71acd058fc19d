//! What the tap selects, copies and counts, and that it lets everything pass.

use shadow_common::RecordKind;

use crate::bench::{Bench, NEXT, counted};
use crate::frames::{DOT1AD, DOT1Q, Shape, frame, packet, shaped};

const CLIENT4: &str = "192.0.2.1:40000";
const CLIENT6: &str = "[2001:db8::1]:40000";
const SERVICE4: &str = "192.0.2.80:80";
const SERVICE6: &str = "[2001:db8::80]:80";

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.serve(&[SERVICE4, SERVICE6]);
    bench
}

/// Every shape in which a packet of a service may come, by name.
fn welcome() -> Vec<(&'static str, Vec<u8>)> {
    let options = Shape { options: vec![1; 8], ..Shape::default() };
    let all_options = Shape { options: vec![1; 40], ..Shape::default() };
    let extensions = Shape { extensions: true, ..Shape::default() };
    let atomic = Shape { fragment: Some((false, 0)), ..Shape::default() };
    vec![
        ("IPv4", packet(CLIENT4, SERVICE4, b"GET / HTTP/1.1\r\n\r\n")),
        ("IPv6", packet(CLIENT6, SERVICE6, b"GET / HTTP/1.1\r\n\r\n")),
        ("IPv4 without data", packet(CLIENT4, SERVICE4, b"")),
        ("IPv6 without data", packet(CLIENT6, SERVICE6, b"")),
        ("IPv4 with data", packet(CLIENT4, SERVICE4, &[7; 1460])),
        ("IPv6 with data", packet(CLIENT6, SERVICE6, &[7; 1440])),
        ("IPv4 with options", shaped(CLIENT4, SERVICE4, b"x", &options)),
        ("IPv4 with 40 bytes of options", shaped(CLIENT4, SERVICE4, b"x", &all_options)),
        ("IPv6 with extension headers", shaped(CLIENT6, SERVICE6, b"x", &extensions)),
        ("IPv6 atomic fragment (RFC 6946)", shaped(CLIENT6, SERVICE6, b"x", &atomic)),
    ]
}

#[test]
fn every_shape_of_a_services_packet_is_copied_behind_any_tags() {
    let mut bench = bench();
    for (name, packet) in welcome() {
        for tags in [&[][..], &[DOT1Q], &[DOT1AD], &[DOT1AD, DOT1Q], &[DOT1Q, DOT1Q]] {
            println!("{name}, tags {tags:x?}");
            let run = bench.run("tap", &frame(tags, &packet));
            run.copied(NEXT, &packet);
            assert_eq!(run.records[0].0.kind, RecordKind::Request as u32);
        }
    }
}

/// Some begin as an IP header does, and some go on like one of a TCP segment.
#[test]
fn whatever_the_hardware_address_begins_with_a_services_packet_is_copied_and_no_other() {
    let mut bench = bench();
    for (service, other) in [(SERVICE4, "192.0.2.80:81"), (SERVICE6, "[2001:db8::80]:81")] {
        let from = if service == SERVICE4 { CLIENT4 } else { CLIENT6 };
        let (ours, others) = (packet(from, service, b"x"), packet(from, other, b"x"));
        for first in [0, 2, 0x42, 0x45, 0x46, 0x4a, 0x60, 0x62, 0x6e, 0xfe] {
            let addressed = |packet: &[u8], protocol: u8| {
                let mut frame = frame(&[], packet);
                frame[0] = first;
                (frame[6], frame[9]) = (protocol, protocol);
                frame
            };
            println!("{first:x}, {service}");
            for protocol in [2, 6] {
                bench.run("tap", &addressed(&ours, protocol)).copied(NEXT, &ours);
                bench.run("tap", &addressed(&others, protocol)).ignored();
            }
        }
    }
}

#[test]
fn a_third_tag_is_none_of_ours() {
    let packet = packet(CLIENT4, SERVICE4, b"x");
    bench().run("tap", &frame(&[DOT1AD, DOT1Q, DOT1Q], &packet)).ignored();
}

#[test]
fn the_links_padding_is_not_copied() {
    let packet = packet(CLIENT4, SERVICE4, b"");
    let mut padded = frame(&[], &packet);
    padded.resize(60, 0xee);
    bench().run("tap", &padded).copied(NEXT, &packet);
}

#[test]
fn another_port_address_direction_or_protocol_is_none_of_ours() {
    let mut bench = bench();
    let udp = Shape { udp: true, ..Shape::default() };
    for (name, packet) in [
        ("port", packet(CLIENT4, "192.0.2.80:81", b"x")),
        ("port's bytes swapped", packet(CLIENT4, "192.0.2.80:20480", b"x")),
        ("address", packet(CLIENT4, "192.0.2.81:80", b"x")),
        ("port, IPv6", packet(CLIENT6, "[2001:db8::80]:8080", b"x")),
        ("address, IPv6", packet(CLIENT6, "[2001:db8::81]:80", b"x")),
        ("IPv4-mapped", packet(CLIENT6, "[2001:db8::c000:250]:80", b"x")),
        ("production's answer", packet(SERVICE4, CLIENT4, b"x")),
        ("UDP", shaped(CLIENT4, SERVICE4, b"x", &udp)),
        ("UDP, IPv6", shaped(CLIENT6, SERVICE6, b"x", &udp)),
    ] {
        println!("{name}");
        bench.run("tap", &frame(&[], &packet)).ignored();
    }
    let mut arp = frame(&[], &packet(CLIENT4, SERVICE4, b""));
    arp[12..14].copy_from_slice(&0x0806_u16.to_be_bytes());
    bench.run("tap", &arp).ignored();
}

#[test]
fn ports_at_the_bitmaps_edges_are_told_apart() {
    let mut bench = Bench::new();
    let ports = [0, 1, 62, 63, 64, 65, 127, 128, 32_767, 32_768, 65_471, 65_472, 65_534, 65_535];
    for mirrored in ports {
        bench.serve(&[&format!("192.0.2.80:{mirrored}")]);
        for port in ports {
            let packet = packet(CLIENT4, &format!("192.0.2.80:{port}"), b"x");
            let run = bench.run("tap", &frame(&[], &packet));
            if port == mirrored {
                run.copied(NEXT, &packet);
            } else {
                run.ignored();
            }
        }
    }
}

#[test]
fn a_wildcard_is_every_address_of_its_family_alone() {
    let mut bench = Bench::new();
    let v4 = packet(CLIENT4, SERVICE4, b"x");
    let v6 = packet(CLIENT6, SERVICE6, b"x");
    bench.serve(&["0.0.0.0:80"]);
    bench.run("tap", &frame(&[], &v4)).copied(NEXT, &v4);
    bench.run("tap", &frame(&[], &v6)).ignored();
    bench.serve(&["[::]:80"]);
    bench.run("tap", &frame(&[], &v4)).ignored();
    bench.run("tap", &frame(&[], &v6)).copied(NEXT, &v6);
    bench.serve(&[]);
    bench.run("tap", &frame(&[], &v4)).ignored();
    bench.run("tap", &frame(&[], &v6)).ignored();
}

#[test]
fn fragments_pass_and_are_counted_unless_their_port_is_another() {
    let mut bench = bench();
    let shape = |fragment| Shape { fragment: Some(fragment), ..Shape::default() };
    for (from, to, other) in
        [(CLIENT4, SERVICE4, "192.0.2.80:81"), (CLIENT6, SERVICE6, "[2001:db8::80]:81")]
    {
        let first = shaped(from, to, &[7; 64], &shape((true, 0)));
        bench.run("tap", &frame(&[], &first)).passed_as("fragment");
        for (more, offset) in [(true, 1), (false, 1), (false, 8191)] {
            let later = shaped(from, to, &[7; 64], &shape((more, offset)));
            bench.run("tap", &frame(&[], &later)).passed_as("fragment");
        }
        let foreign = shaped(from, other, &[7; 64], &shape((true, 0)));
        bench.run("tap", &frame(&[], &foreign)).ignored();
        let udp = Shape { udp: true, ..shape((false, 5)) };
        if from == CLIENT4 {
            // The builder's IPv6 fragment header names TCP whatever follows.
            bench.run("tap", &frame(&[], &shaped(from, to, &[7; 64], &udp))).ignored();
        }
    }
}

#[test]
fn a_packet_cut_short_anywhere_passes_and_is_never_copied() {
    let mut bench = bench();
    for (name, packet) in welcome() {
        // Behind a tag, since the kernel refuses to run a program on an IP header cut short.
        let frame = frame(&[DOT1Q], &packet);
        for len in 14..frame.len() {
            let run = bench.run("tap", &frame[..len]);
            assert_eq!(run.verdict, NEXT, "{name} cut to {len}");
            assert!(run.records.is_empty(), "{name} cut to {len}: {run:?}");
            assert!(
                matches!(run.counted[..], [] | ["malformed" | "unreadable"]),
                "{name} cut to {len}: {run:?}"
            );
            if len >= 18 + 48 {
                // The headers of an ordinary packet are whole here.
                assert_eq!(run.counted.len(), 1, "{name} cut to {len}: {run:?}");
            }
        }
    }
}

#[test]
fn headers_that_contradict_themselves_pass_and_are_counted() {
    let mut bench = bench();
    let v4 = packet(CLIENT4, SERVICE4, b"data");
    let v6 = packet(CLIENT6, SERVICE6, b"data");
    let with = |packet: &[u8], at: usize, byte: u8| {
        let ethertype = frame(&[], packet)[12..14].to_vec();
        let mut packet = packet.to_vec();
        packet[at] = byte;
        let mut frame = frame(&[], &packet);
        frame[12..14].copy_from_slice(&ethertype);
        frame
    };
    for (name, frame) in [
        ("IPv4: version", with(&v4, 0, 0x55)),
        ("IPv4: header length", with(&v4, 0, 0x44)),
        ("IPv4: total length below the headers", with(&v4, 3, 39)),
        ("IPv4: total length zero", with(&v4, 3, 0)),
        ("IPv6: version", with(&v6, 0, 0x50)),
        ("IPv6: payload length below the header", with(&v6, 5, 19)),
        ("IPv6: payload length zero", with(&v6, 5, 0)),
    ] {
        println!("{name}");
        bench.run("tap", &frame).passed_as("malformed");
    }
    for (name, frame) in [
        ("IPv4: total length beyond the frame", with(&v4, 3, 200)),
        ("IPv6: payload length beyond the frame", with(&v6, 5, 200)),
    ] {
        println!("{name}");
        bench.run("tap", &frame).passed_as("unreadable");
    }
}

#[test]
fn an_endless_chain_of_extension_headers_is_given_up() {
    let mut v6 = packet(CLIENT6, SERVICE6, b"");
    let tcp = v6.split_off(40);
    v6[6] = 60;
    for _ in 0..40 {
        v6.extend([60, 0, 1, 4, 0, 0, 0, 0]);
    }
    v6.extend(tcp);
    let payload = (v6.len() - 40) as u16;
    v6[4..6].copy_from_slice(&payload.to_be_bytes());
    bench().run("tap", &frame(&[], &v6)).passed_as("malformed");
}

#[test]
fn a_full_ring_is_counted_and_changes_no_verdict() {
    let mut bench = Bench::with_rings(1);
    bench.serve(&[SERVICE4]);
    let packet = packet(CLIENT4, SERVICE4, &[7; 1400]);
    let frame = frame(&[], &packet);
    let before = bench.programs.counters().unwrap();
    for _ in 0..10 {
        assert_eq!(bench.verdict("tap", &frame), NEXT);
    }
    let counted = crate::bench::counted(&before, &bench.programs.counters().unwrap());
    // A page holds two.
    assert_eq!(counted, [vec!["captured"; 2], vec!["ring_full"; 8]].concat());
    assert_eq!(bench.drain().len(), 2);
    bench.run("tap", &frame).copied(NEXT, &packet);
}

/// Without a reader, so that the ring only gets fuller: a flow that has lost a packet loses all that
/// follow, and none loses any while a quarter of the ring is free.
#[test]
fn as_the_ring_fills_up_more_and_more_flows_are_left_out_as_a_whole() {
    const RING: u32 = 1 << 18;
    let mut bench = Bench::with_rings(RING);
    bench.serve(&[SERVICE4]);
    let flows: Vec<_> = (0..64)
        .map(|port| packet(&format!("192.0.2.1:{}", 40_000 + port), SERVICE4, &[7; 460]))
        .map(|packet| frame(&[], &packet))
        .collect();
    // 500 bytes of packet, 32 of ours, 8 of the ring's and what aligns it.
    let record = 544;
    let (mut in_ring, mut left_out, mut shared) = (0, Vec::new(), 0);
    for round in 0..200 {
        let mut lost = Vec::new();
        for (flow, frame) in flows.iter().enumerate() {
            let before = bench.programs.counters().unwrap();
            assert_eq!(bench.verdict("tap", frame), NEXT);
            match counted(&before, &bench.programs.counters().unwrap())[..] {
                ["captured"] => in_ring += record,
                ["ring_full"] => lost.push(flow),
                ref other => panic!("{other:?}"),
            }
        }
        assert!(left_out.iter().all(|flow| lost.contains(flow)), "round {round}: {lost:?}");
        if in_ring <= RING / 4 * 3 {
            assert!(lost.is_empty(), "{lost:?} at {in_ring} of {RING}");
        }
        if in_ring < RING / 8 * 7 {
            assert!(lost.len() < 48, "{} of 64 at {in_ring} of {RING}", lost.len());
        }
        shared += usize::from((4..60).contains(&lost.len()));
        left_out = lost;
    }
    // A ring that just becomes full divides the flows of one round at most.
    assert!(shared > 2, "in {shared} rounds some were left out and some not");
    assert!(left_out.len() > 48, "{} of 64 at {in_ring} of {RING}", left_out.len());
    bench.drain();
    for frame in &flows {
        bench.run("tap", frame).copied(NEXT, &frame[14..]);
    }
}
