//! What the programs cost a packet, printed: `cargo test … cost -- --ignored --nocapture`.

use std::time::Duration;

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
    let v4 = |to: &str, len| frame(&[], &packet("192.0.2.1:40000", to, &vec![7; len]));
    let v6 = |to: &str, len| frame(&[], &packet("[2001:db8::1]:40000", to, &vec![7; len]));
    let out = |from: &str, len| frame(&[], &packet(from, "192.0.2.1:40000", &vec![7; len]));
    bench.run("tap", &v4("192.0.2.80:80", 100));
    for (name, program, frame, repeat) in [
        ("tap: ARP, as good as an empty program", "tap", arp.clone(), 1_000_000),
        ("tap: IPv4, another port", "tap", v4("192.0.2.80:81", 100), 1_000_000),
        ("tap: IPv6, another port", "tap", v6("[2001:db8::80]:81", 100), 1_000_000),
        ("tap: IPv4, our port, another address", "tap", v4("192.0.2.81:80", 100), 1_000_000),
        ("tap: IPv4, copied, 100 bytes", "tap", v4("192.0.2.80:80", 60), 100_000),
        ("tap: IPv4, copied, 1,500 bytes", "tap", v4("192.0.2.80:80", 1460), 100_000),
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
