//! What the programs cost a packet, printed: `cargo test … cost -- --ignored --nocapture`.

use std::time::Duration;

use shadow_user::choice::{List, Sample, Selection, network};

use crate::bench::Bench;
use crate::frames::{frame, packet};

#[test]
#[ignore = "a measurement: its figures depend on the machine and what else runs on it"]
fn of_a_packet() {
    let mut bench = Bench::with_rings(1 << 28);
    bench.serve(&["192.0.2.80:80", "[2001:db8::80]:80"]);
    bench.guard("198.51.100.9:8080", "192.0.2.80", 16_384, 32_767);
    let mut arp = frame(&[], &packet("192.0.2.1:40000", "192.0.2.80:80", b""));
    arp[12..14].copy_from_slice(&0x0806_u16.to_be_bytes());
    let mut like_a_header = frame(&[], &packet("192.0.2.1:40000", "192.0.2.80:81", &[7; 100]));
    like_a_header[0] = 0x4a;
    let v4 = |to: &str, len| frame(&[], &packet("192.0.2.1:40000", to, &vec![7; len]));
    let v6 = |to: &str, len| frame(&[], &packet("[2001:db8::1]:40000", to, &vec![7; len]));
    let out = |from: &str, len| frame(&[], &packet(from, "192.0.2.1:40000", &vec![7; len]));
    bench.run("tap", &v4("192.0.2.80:80", 100));
    for (name, program, frame, repeat) in [
        ("tap: ARP, as good as an empty program", "tap", arp.clone(), 1_000_000),
        ("tap: IPv4, another port", "tap", v4("192.0.2.80:81", 100), 1_000_000),
        ("tap: the same to a hardware address 4a:…", "tap", like_a_header, 1_000_000),
        ("tap: IPv6, another port", "tap", v6("[2001:db8::80]:81", 100), 1_000_000),
        ("tap: IPv4, our port, another address", "tap", v4("192.0.2.81:80", 100), 1_000_000),
        ("tap: IPv4, copied, 100 bytes", "tap", v4("192.0.2.80:80", 60), 100_000),
        ("tap: IPv4, copied, 1,500 bytes", "tap", v4("192.0.2.80:80", 1460), 80_000),
        ("tap_out: IPv4, another port", "tap_out", out("192.0.2.80:81", 100), 1_000_000),
        ("tap_out: IPv4, no flow of ours", "tap_out", out("192.0.2.81:80", 100), 1_000_000),
        ("tap_out: IPv4, copied, 1,500 bytes", "tap_out", out("192.0.2.80:80", 1460), 100_000),
        ("guard: IPv4, another port", "guard", v4("192.0.2.80:81", 100), 1_000_000),
    ] {
        // What is in the way of other programs only ever adds: the smallest of several.
        let least = (0..7)
            .map(|_| {
                bench.drain();
                bench.time(program, &frame, repeat)
            })
            .min()
            .unwrap_or(Duration::ZERO);
        println!("{name:45} {:4} ns", least.as_nanos());
    }
}

#[test]
#[ignore = "a measurement: its figures depend on the machine and what else runs on it"]
fn of_a_packet_that_is_not_chosen() {
    let v4 = |to: &str| frame(&[], &packet("203.0.113.9:40000", to, &[7; 1460]));
    let v6 = frame(&[], &packet("[2001:db8:9::1]:40000", "[2001:db8::80]:80", &[7; 1440]));
    let mut arp = v4("192.0.2.80:80");
    arp[12..14].copy_from_slice(&0x0806_u16.to_be_bytes());
    let all = Selection::default();
    let nobody = Selection { sample: Sample::parse("0.0000001%").unwrap(), ..all.clone() };
    let mut excluded = all.clone();
    excluded.clients.add(network("203.0.113.0/24").unwrap(), List::Exclude).unwrap();
    excluded.clients.add(network("2001:db8:9::/48").unwrap(), List::Exclude).unwrap();
    let mut thousands = excluded.clone();
    for number in 0..10_000_u32 {
        // All around the client.
        let net = std::net::Ipv4Addr::from(0xcb00_0000 - 5_000 * 256 + number * 256);
        thousands.clients.add(network(&format!("{net}/24")).unwrap(), List::Exclude).unwrap();
    }
    let service = v4("192.0.2.80:80");
    let table = |name: &str, selection: [&Selection; 2], frame: &[u8], repeat| {
        // What was chosen first is part of it: a mirror of its own for each row.
        let mut bench = Bench::with_rings(1 << 28);
        bench.serve(&["192.0.2.80:80", "[2001:db8::80]:80"]);
        for selection in selection {
            bench.programs.set_selection(selection).unwrap();
        }
        let least = (0..7).map(|_| {
            bench.drain();
            bench.time("tap", frame, repeat)
        });
        println!("{name:45} {:4} ns", least.min().unwrap_or_default().as_nanos());
    };
    table("ARP, as good as an empty program", [&all, &all], &arp, 1_000_000);
    table("another port", [&all, &all], &v4("192.0.2.80:81"), 1_000_000);
    table("our port, another address", [&all, &all], &v4("192.0.2.81:80"), 1_000_000);
    table("not in the sample", [&nobody, &nobody], &service, 1_000_000);
    table("not in the sample, IPv6", [&nobody, &nobody], &v6, 1_000_000);
    table("excluded", [&excluded, &excluded], &service, 1_000_000);
    table("excluded, one of 10,000 networks", [&thousands, &thousands], &service, 1_000_000);
    table("excluded, one of 10,000 networks, IPv6", [&thousands, &thousands], &v6, 1_000_000);
    table("not in the sample, after a change", [&nobody, &excluded], &service, 1_000_000);
    table("copied, everything chosen", [&all, &all], &service, 100_000);
    let half = Selection { sample: Sample::parse("99%").unwrap(), ..all.clone() };
    table("copied, in the sample", [&half, &half], &service, 100_000);
    table("copied, after a change", [&all, &nobody], &service, 100_000);
}
