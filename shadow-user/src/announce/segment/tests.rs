use super::*;

const OURS: Mac = Mac([2, 0, 0, 0, 0, 5]);
const SHADOW: Mac = Mac([2, 0, 0, 0, 0, 9]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// As a host hears it that has `mac` and the pool.
fn segment(mac: Mac, pool: &str, prefix: u8) -> Segment {
    Segment::new(Network::new(ip(pool), prefix).unwrap(), mac)
}

fn v4() -> Segment {
    segment(OURS, "10.0.0.128", 25)
}

fn v6() -> Segment {
    segment(OURS, "fd00::5:0", 112)
}

/// A request of `mac`, who has the address `sender`, for `target`.
fn arp(mac: Mac, sender: &str, target: &str) -> Vec<u8> {
    let (IpAddr::V4(sender), IpAddr::V4(target)) = (ip(sender), ip(target)) else { panic!() };
    segment(mac, "10.0.0.128", 25).arp(Mac::BROADCAST, false, sender, target)
}

/// A solicitation of `mac`, who has the address `sender`, for `target`.
fn solicitation(mac: Mac, sender: &str, target: &str) -> Vec<u8> {
    let (IpAddr::V6(sender), IpAddr::V6(target)) = (ip(sender), ip(target)) else { panic!() };
    let other = segment(mac, "fd00::5:0", 112);
    let mut message = other.solicitation(target)[ETHERNET_LEN + IPV6_LEN..].to_vec();
    message.extend([1, 1, 2, 0, 0, 0, 0, 9]);
    message[2..4].fill(0);
    let group = "ff02::1:ff05:7".parse().unwrap();
    other.icmpv6(Mac::of_group(group), sender, group, &mut message)
}

fn answer(segment: &mut Segment, frame: &[u8]) -> Vec<u8> {
    match segment.hear(frame) {
        Heard::Asked(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_shadow_is_answered_for_an_address_of_the_pool() {
    let frame = answer(&mut v4(), &arp(SHADOW, "10.0.0.9", "10.0.0.200"));
    let ethernet = EthernetPacket::new(&frame).unwrap();
    assert_eq!(Mac(ethernet.get_destination().octets()), SHADOW);
    let arp = ArpPacket::new(ethernet.payload()).unwrap();
    assert_eq!(arp.get_operation(), ArpOperations::Reply);
    assert_eq!(Mac(arp.get_sender_hw_addr().octets()), OURS);
    assert_eq!(IpAddr::from(arp.get_sender_proto_addr()), ip("10.0.0.200"));
    assert_eq!(Mac(arp.get_target_hw_addr().octets()), SHADOW);
    assert_eq!(IpAddr::from(arp.get_target_proto_addr()), ip("10.0.0.9"));

    let frame = answer(&mut v6(), &solicitation(SHADOW, "fe80::9", "fd00::5:7"));
    let ethernet = EthernetPacket::new(&frame).unwrap();
    assert_eq!(Mac(ethernet.get_destination().octets()), SHADOW);
    let packet = Ipv6Packet::new(ethernet.payload()).unwrap();
    assert_eq!(IpAddr::from(packet.get_destination()), ip("fe80::9"));
    assert_eq!(packet.get_hop_limit(), 255);
    let (advert, option) = packet.payload().split_at(NDP_LEN);
    let sum = checksum(
        &Icmpv6Packet::new(packet.payload()).unwrap(),
        &packet.get_source(),
        &packet.get_destination(),
    );
    let advert = NeighborAdvertPacket::new(advert).unwrap();
    assert_eq!(advert.get_checksum(), sum);
    assert_eq!(advert.get_flags(), NeighborAdvertFlags::Solicited);
    assert_eq!(IpAddr::from(advert.get_target_addr()), ip("fd00::5:7"));
    assert_eq!(option, [2, 1, 2, 0, 0, 0, 0, 5]);
}

#[test]
fn nothing_else_is_answered() {
    // Not the pool's, its first and last, and others of the segment.
    for target in ["10.0.0.5", "10.0.0.127", "10.0.0.128", "10.0.0.255", "10.0.1.200"] {
        assert_eq!(v4().hear(&arp(SHADOW, "10.0.0.9", target)), Heard::Nothing, "{target}");
    }
    for target in ["fd00::9", "fd00::5:0", "fd00::5:ffff", "fd00::6:7", "fe80::5:7"] {
        let frame = solicitation(SHADOW, "fe80::9", target);
        assert_eq!(v6().hear(&frame), Heard::Nothing, "{target}");
    }
    // Of this host, and answers.
    assert_eq!(v4().hear(&arp(OURS, "10.0.0.5", "10.0.0.200")), Heard::Nothing);
    assert_eq!(v6().hear(&solicitation(OURS, "fe80::5", "fd00::5:7")), Heard::Nothing);
    let reply = v4().arp(OURS, true, Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 200));
    assert_eq!(v4().hear(&reply), Heard::Nothing);
    // Through a router, and damaged.
    let frame = solicitation(SHADOW, "fe80::9", "fd00::5:7");
    for (at, value) in [(ETHERNET_LEN + 7, 254), (ETHERNET_LEN + IPV6_LEN + 2, 0x55)] {
        let mut frame = frame.clone();
        frame[at] = value;
        assert_eq!(v6().hear(&frame), Heard::Nothing);
    }
}

#[test]
fn frames_that_end_early_are_nothing() {
    let frames =
        [arp(SHADOW, "10.0.0.9", "10.0.0.200"), solicitation(SHADOW, "fe80::9", "fd00::5:7")];
    for frame in frames {
        for len in 0..frame.len() {
            assert_eq!(v4().hear(&frame[..len]), Heard::Nothing);
            assert_eq!(v6().hear(&frame[..len]), Heard::Nothing);
        }
    }
}

#[test]
fn who_is_about_to_use_an_address_is_told_that_it_is_in_use() {
    let probe = segment(SHADOW, "10.0.0.128", 25).probe(ip("10.0.0.200"));
    let frame = answer(&mut v4(), &probe);
    assert_eq!(Mac(EthernetPacket::new(&frame).unwrap().get_destination().octets()), SHADOW);

    let probe = segment(SHADOW, "fd00::5:0", 112).probe(ip("fd00::5:7"));
    let frame = answer(&mut v6(), &probe);
    let ethernet = EthernetPacket::new(&frame).unwrap();
    assert_eq!(ethernet.get_destination().octets(), [0x33, 0x33, 0, 0, 0, 1]);
    let packet = Ipv6Packet::new(ethernet.payload()).unwrap();
    assert_eq!(IpAddr::from(packet.get_destination()), ip("ff02::1"));
    assert_eq!(NeighborAdvertPacket::new(packet.payload()).unwrap().get_flags(), 0);
}

#[test]
fn an_address_that_somebody_uses_is_theirs() {
    let other = Mac([2, 0, 0, 0, 0, 7]);
    // Heard as the sender of a question, in an answer, or in an announcement of its own.
    for frame in [
        arp(other, "10.0.0.200", "10.0.0.9"),
        arp(other, "10.0.0.200", "10.0.0.200"),
        answer(&mut segment(other, "10.0.0.128", 25), &arp(OURS, "0.0.0.0", "10.0.0.200")),
    ] {
        let mut segment = v4();
        let taken = Heard::Taken { address: ip("10.0.0.200"), by: other };
        assert_eq!(segment.hear(&frame), taken);
        assert_eq!(segment.hear(&frame), Heard::Nothing, "said once");
        assert_eq!(segment.hear(&arp(SHADOW, "10.0.0.9", "10.0.0.200")), Heard::Nothing);
        answer(&mut segment, &arp(SHADOW, "10.0.0.9", "10.0.0.201"));
    }
    for frame in [
        solicitation(other, "fd00::5:7", "fd00::9"),
        answer(&mut segment(other, "fd00::5:0", 112), &v6().probe(ip("fd00::5:7"))),
    ] {
        let mut segment = v6();
        let taken = Heard::Taken { address: ip("fd00::5:7"), by: other };
        assert_eq!(segment.hear(&frame), taken);
        assert_eq!(segment.hear(&solicitation(SHADOW, "fe80::9", "fd00::5:7")), Heard::Nothing);
        answer(&mut segment, &solicitation(SHADOW, "fe80::9", "fd00::5:8"));
    }
}

#[test]
fn where_too_many_addresses_are_used_none_is_answered_for() {
    let mut segment = segment(OURS, "10.0.0.0", 16);
    for number in 0..MAX_TAKEN as u16 + 9 {
        let [high, low] = number.to_be_bytes();
        let frame = arp(SHADOW, &format!("10.0.{}.{low}", high + 1), "192.0.2.1");
        segment.hear(&frame);
    }
    assert_eq!(segment.taken.len(), MAX_TAKEN);
    assert_eq!(segment.hear(&arp(SHADOW, "192.0.2.9", "10.0.200.1")), Heard::Nothing);
}
