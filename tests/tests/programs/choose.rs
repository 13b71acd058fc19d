//! Which flows the tap chooses, that nothing of the others is copied, and that a flow keeps what was
//! decided at its SYN.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use etherparse::PacketBuilder;
use shadow_common::{Address, TapCounter, place};
use shadow_user::choice::{Clients, List, Sample, SampleBy, Selection, network};
use shadow_user::kernel::{LoadOptions, Programs, ResponseOptions};

use crate::bench::{Bench, NEXT};
use crate::frames::{frame, packet};

const SERVICE4: &str = "192.0.2.80:80";
const SERVICE6: &str = "[2001:db8::80]:80";

fn load(sample_by: SampleBy, seed: u64, service: &str) -> Bench {
    let bytes = 1 << 24;
    let responses = Some(ResponseOptions { bytes, flows: 1 });
    let options =
        LoadOptions { requests_bytes: bytes, responses, sample_by, seed, ..LoadOptions::default() };
    let mut programs = Programs::load(options).unwrap();
    let rings = programs.take_rings().unwrap().unwrap();
    let mut bench = Bench { programs, rings };
    bench.serve(&[service, SERVICE6]);
    bench
}

fn sample(text: &str) -> Selection {
    Selection { sample: Sample::parse(text).unwrap(), ..Selection::default() }
}

fn clients(client: &[&str], exclude: &[&str]) -> Selection {
    let mut clients = Clients::default();
    for (list, nets) in [(List::Client, client), (List::Exclude, exclude)] {
        for net in nets {
            clients.add(network(net).unwrap(), list).unwrap();
        }
    }
    Selection { clients, ..Selection::default() }
}

/// A client's segment to [`SERVICE4`].
fn segment(client: SocketAddrV4, syn: bool, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(client.ip().octets(), [192, 0, 2, 80], 64).tcp(
        client.port(),
        80,
        1,
        512,
    );
    let builder = if syn { builder.syn() } else { builder.ack(1) };
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    frame(&[], &bytes)
}

/// Runs a segment; how it was counted.
fn counted(bench: &mut Bench, frame: &[u8]) -> &'static str {
    let run = bench.run("tap", frame);
    assert_eq!(run.verdict, NEXT);
    let [label] = run.counted[..] else { panic!("{run:?}") };
    assert_eq!(run.records.len(), usize::from(label == "captured"), "{run:?}");
    label
}

/// The clients of 10.0.0.0/15, by number.
fn client(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + number), 40_000)
}

/// Of the first `count` clients, those whose packets the tap copies.
fn chosen(bench: &mut Bench, service: [u8; 4], count: u32) -> BTreeSet<u32> {
    let mut frame = segment(client(0), true, b"");
    frame[14 + 16..14 + 20].copy_from_slice(&service);
    let mut chosen = BTreeSet::new();
    let mut records = 0;
    for number in 0..count {
        frame[14 + 12..14 + 16].copy_from_slice(&client(number).ip().octets());
        assert_eq!(bench.verdict("tap", &frame), NEXT);
        if number % 10_000 == 9_999 || number + 1 == count {
            for (_, packet) in bench.drain() {
                let from: [u8; 4] = packet[12..16].try_into().unwrap();
                chosen.insert(u32::from_be_bytes(from) - 0x0a00_0000);
                records += 1;
            }
        }
    }
    assert_eq!(records, chosen.len());
    chosen
}

/// Within five standard deviations of as many draws.
#[track_caller]
fn is_a_share(count: usize, of: u32, share: f64) {
    let (expected, draws) = (f64::from(of) * share, f64::from(of));
    let deviation = (draws * share * (1.0 - share)).sqrt();
    let off = (count as f64 - expected) / deviation;
    println!("{count} of {of} at {share}: {off:+.2} standard deviations");
    assert!(off.abs() <= 5.0, "{count} of {of} at {share}");
}

#[test]
fn of_a_hundred_thousand_clients_the_share_is_chosen_and_the_same_on_every_host() {
    const CLIENTS: u32 = 100_000;
    let mut one = load(SampleBy::Client, 0, SERVICE4);
    one.programs.set_selection(&sample("10%")).unwrap();
    let tenth = chosen(&mut one, [192, 0, 2, 80], CLIENTS);
    is_a_share(tenth.len(), CLIENTS, 0.1);
    let bound = Sample::parse("10%").unwrap().bound();
    let expected = |number: &u32| {
        let address = Address::from_v4(client(*number).ip().octets());
        u64::from(place(0, &address, [0; 2])) < bound
    };
    assert_eq!(tenth, (0..CLIENTS).filter(expected).collect(), "what user space expects");
    let counters = one.programs.counters().unwrap();
    assert_eq!(counters.tap.get(TapCounter::SampledOut), u64::from(CLIENTS) - tenth.len() as u64);
    assert_eq!(counters.tap.total(), u64::from(CLIENTS));

    // Another host with another service, in another run.
    let mut other = load(SampleBy::Client, 0, "198.51.100.7:80");
    other.programs.set_selection(&sample("10%")).unwrap();
    let few = CLIENTS / 5;
    let fifth: BTreeSet<u32> = tenth.iter().copied().filter(|number| *number < few).collect();
    assert_eq!(chosen(&mut other, [198, 51, 100, 7], few), fifth);
    // A larger share has all of a smaller one.
    let mut larger = load(SampleBy::Client, 0, SERVICE4);
    larger.programs.set_selection(&sample("30%")).unwrap();
    let third = chosen(&mut larger, [192, 0, 2, 80], few);
    is_a_share(third.len(), few, 0.3);
    assert!(third.is_superset(&fifth));
    // Another seed has others: as many of them in both as chance has it.
    let mut seeded = load(SampleBy::Client, 1, SERVICE4);
    seeded.programs.set_selection(&sample("10%")).unwrap();
    let seeded = chosen(&mut seeded, [192, 0, 2, 80], few);
    is_a_share(seeded.len(), few, 0.1);
    is_a_share(seeded.intersection(&fifth).count(), few, 0.01);
}

#[test]
fn by_client_all_connections_of_one_are_chosen_and_by_connection_a_share_of_them() {
    const PORTS: u32 = 20_000;
    for (by, expected) in [(SampleBy::Client, None), (SampleBy::Connection, Some(0.25))] {
        let mut bench = load(by, 9, SERVICE4);
        bench.programs.set_selection(&sample("25%")).unwrap();
        let mut counts = Vec::new();
        for number in 0..8 {
            let before = bench.programs.counters().unwrap().tap.get(TapCounter::Captured);
            for port in 0..PORTS / 8 {
                let client = SocketAddrV4::new(*client(number).ip(), 10_000 + port as u16);
                bench.verdict("tap", &segment(client, true, b""));
            }
            bench.drain();
            let after = bench.programs.counters().unwrap().tap.get(TapCounter::Captured);
            counts.push((after - before) as u32);
        }
        match expected {
            None => {
                assert!(counts.iter().all(|count| [0, PORTS / 8].contains(count)), "{counts:?}");
                assert!(counts.contains(&0) && counts.contains(&(PORTS / 8)), "{counts:?}");
            }
            Some(share) => is_a_share(counts.iter().sum::<u32>() as usize, PORTS, share),
        }
    }
}

#[test]
fn every_packet_of_a_flow_is_judged_as_its_first_in_both_families() {
    let mut bench = load(SampleBy::Connection, 0, SERVICE4);
    bench.programs.set_selection(&sample("50%")).unwrap();
    let (mut copied, mut passed) = (0, 0);
    for port in 40_000..40_100 {
        for (client, service) in
            [(format!("203.0.113.9:{port}"), SERVICE4), (format!("[2001:db8::9]:{port}"), SERVICE6)]
        {
            let address = match client.parse().unwrap() {
                SocketAddr::V4(v4) => Address::from_v4(v4.ip().octets()),
                SocketAddr::V6(v6) => Address(v6.ip().octets()),
            };
            let is_chosen = place(0, &address, u16::to_be_bytes(port)) < 1 << 31;
            for payload in [&b""[..], b"GET", &[7; 1400]] {
                let packet = packet(&client, service, payload);
                let label = counted(&mut bench, &frame(&[], &packet));
                assert_eq!(label, if is_chosen { "captured" } else { "sampled_out" }, "{client}");
            }
            if is_chosen { copied += 1 } else { passed += 1 }
        }
    }
    assert!(copied > 60 && passed > 60, "{copied} and {passed}");
}

#[test]
fn the_longest_prefix_of_both_lists_decides() {
    let mut bench = load(SampleBy::Client, 0, SERVICE4);
    let lists = clients(
        &["10.0.0.0/8", "10.1.2.0/24", "2001:db8::/32", "192.0.2.7"],
        &["10.1.0.0/16", "2001:db8:1::/48"],
    );
    bench.programs.set_selection(&lists).unwrap();
    for (client, label) in [
        ("10.0.0.1:40000", "captured"),
        ("10.255.0.1:40000", "captured"),
        ("10.1.0.1:40000", "client"),
        ("10.1.2.1:40000", "captured"),
        ("11.0.0.1:40000", "client"),
        ("192.0.2.7:40000", "captured"),
        ("192.0.2.6:40000", "client"),
        ("[2001:db8::9]:40000", "captured"),
        ("[2001:db8:1::9]:40000", "client"),
        ("[2001:db9::9]:40000", "client"),
        // No IPv4 address, though its last bits are.
        ("[::10.0.0.1]:40000", "client"),
    ] {
        let service = if client.starts_with('[') { SERVICE6 } else { SERVICE4 };
        let frame = frame(&[], &packet(client, service, b"x"));
        assert_eq!(counted(&mut bench, &frame), label, "{client}");
    }
}

/// `::/0` holds the mapped addresses of IPv4, by which the tap knows them.
#[test]
fn all_of_one_family_is_nothing_of_the_other() {
    let v4 = frame(&[], &packet("10.0.0.1:40000", SERVICE4, b"x"));
    let v6 = frame(&[], &packet("[2001:db8::9]:40000", SERVICE6, b"x"));
    for (lists, labels) in [
        (clients(&["::/0"], &[]), ["client", "captured"]),
        (clients(&["0.0.0.0/0"], &[]), ["captured", "client"]),
        (clients(&[], &["::/0"]), ["captured", "client"]),
        (clients(&[], &["0.0.0.0/0"]), ["client", "captured"]),
        (clients(&[], &["192.0.2.0/24"]), ["captured", "captured"]),
        (clients(&["192.0.2.0/24"], &[]), ["client", "client"]),
    ] {
        let mut bench = load(SampleBy::Client, 0, SERVICE4);
        bench.programs.set_selection(&lists).unwrap();
        assert_eq!([counted(&mut bench, &v4), counted(&mut bench, &v6)], labels, "{lists:?}");
    }
}

#[test]
fn twenty_thousand_networks_are_told_apart_and_changed_while_running() {
    let mut bench = load(SampleBy::Client, 0, SERVICE4);
    let mut selection = Selection::default();
    bench.programs.set_selection(&selection).unwrap();
    let net = |number: u32| network(&format!("{}/28", Ipv4Addr::from(0x0a00_0000 + number * 16)));
    for number in (0..40_000).step_by(2) {
        selection.clients.add(net(number).unwrap(), List::Client).unwrap();
    }
    let begun = std::time::Instant::now();
    bench.programs.set_selection(&selection).unwrap();
    println!("20,000 networks are set in {:?}", begun.elapsed());
    let syn = |bench: &mut Bench, number: u32, port: u16| {
        let client = SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + number * 16 + 5), port);
        counted(bench, &segment(client, true, b""))
    };
    for number in (0..40_000).step_by(997) {
        let label = if number % 2 == 0 { "captured" } else { "client" };
        assert_eq!(syn(&mut bench, number, 40_000), label, "{number}");
    }
    for number in 0..1_000 {
        if number % 2 == 0 {
            selection.clients.remove(net(number).unwrap(), List::Client).unwrap();
        } else {
            selection.clients.add(net(number).unwrap(), List::Client).unwrap();
        }
    }
    bench.programs.set_selection(&selection).unwrap();
    for number in (0..3_000).step_by(97) {
        let label = if (number % 2 == 0) == (number < 1_000) { "client" } else { "captured" };
        assert_eq!(syn(&mut bench, number, 40_001), label, "{number}");
    }
}

/// A flow that began under each of several selections, and one that began unseen.
#[test]
fn a_flow_keeps_what_was_decided_at_its_syn() {
    let flow = |port| SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), port);
    let one = clients(&["203.0.113.0/24"], &[]);
    let other = clients(&["198.51.100.0/24"], &[]);
    let excluded = clients(&[], &["203.0.113.9"]);
    let paused = Selection { paused: true, ..Selection::default() };
    // Nobody is in the place of a billionth but one in a billion.
    let nobody = sample("0.0000001%");
    let all = Selection::default;
    for (first, then) in [
        (all(), vec![(nobody.clone(), "sampled_out"), (all(), "captured")]),
        (nobody.clone(), vec![(all(), "captured"), (nobody.clone(), "sampled_out")]),
        (all(), vec![(paused.clone(), "paused"), (all(), "captured"), (other.clone(), "client")]),
        (one.clone(), vec![(other.clone(), "client"), (one.clone(), "captured")]),
        (other, vec![(one, "captured"), (excluded.clone(), "client"), (all(), "captured")]),
        (excluded, vec![(all(), "captured"), (paused, "client"), (nobody, "client")]),
    ] {
        let mut bench = load(SampleBy::Client, 0, SERVICE4);
        bench.programs.set_selection(&first).unwrap();
        let mut begun = Vec::new();
        let label = counted(&mut bench, &segment(flow(1), true, b""));
        begun.push((flow(1), label));
        for (number, (selection, expected)) in then.into_iter().enumerate() {
            println!("{selection:?}");
            bench.programs.set_selection(&selection).unwrap();
            let new = flow(2 + number as u16);
            assert_eq!(counted(&mut bench, &segment(new, true, b"")), expected);
            begun.push((new, expected));
            // One that began before the mirror is decided as at the start, whenever it shows.
            let unseen = flow(100 + number as u16);
            assert_eq!(counted(&mut bench, &segment(unseen, false, b"x")), label);
            begun.push((unseen, label));
            for (flow, label) in &begun {
                let later = counted(&mut bench, &segment(*flow, false, b"more"));
                assert_eq!(later, *label, "{flow}");
            }
        }
        // A new connection with the same ends is decided anew.
        bench.programs.set_selection(&Selection::default()).unwrap();
        for (flow, _) in begun {
            assert_eq!(counted(&mut bench, &segment(flow, true, b"")), "captured");
            assert_eq!(counted(&mut bench, &segment(flow, false, b"x")), "captured");
        }
    }
}

#[test]
fn nothing_of_production_is_copied_in_a_flow_that_is_not_chosen() {
    let mut bench = load(SampleBy::Client, 0, SERVICE4);
    let client = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 40_000);
    let answer = frame(&[], &packet(SERVICE4, &client.to_string(), b"HTTP/1.1 200 OK\r\n\r\n"));
    bench.programs.set_selection(&clients(&[], &["203.0.113.0/24"])).unwrap();
    bench.run("tap", &segment(client, true, b""));
    bench.run("tap", &segment(client, false, b"GET"));
    bench.run("tap_out", &answer).ignored();

    // What an earlier connection with the same ends left behind does not count.
    bench.programs.set_selection(&Selection::default()).unwrap();
    bench.run("tap", &segment(client, true, b""));
    bench.run("tap", &segment(client, false, b"GET"));
    assert_eq!(bench.run("tap_out", &answer).counted, ["captured"]);
    bench.programs.set_selection(&Selection { paused: true, ..Selection::default() }).unwrap();
    assert_eq!(bench.run("tap_out", &answer).counted, ["captured"], "it goes on");
    assert_eq!(counted(&mut bench, &segment(client, true, b"")), "client");
    assert_eq!(counted(&mut bench, &segment(client, false, b"GET")), "client");
    bench.run("tap_out", &answer).ignored();
}
