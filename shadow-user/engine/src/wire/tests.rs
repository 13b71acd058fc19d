//! What is emitted is parsed back; what the kernel would drop is refused.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::checksum::Sum;
use super::*;
use crate::seq::SeqNum;

const V4: [&str; 2] = ["192.0.2.1:40000", "198.51.100.7:80"];
const V6: [&str; 2] = ["[2001:db8::1]:40000", "[2001:db8:1::7]:80"];

fn tuple(of: [&str; 2]) -> (SocketAddr, SocketAddr) {
    (of[0].parse().unwrap(), of[1].parse().unwrap())
}

fn packet(of: [&str; 2], payload: &[u8]) -> Vec<u8> {
    let (source, destination) = tuple(of);
    let flags = Flags { ack: true, psh: true, ..Flags::default() };
    let segment = Segment { seq: SeqNum::new(1), ack: SeqNum::new(2), flags, ..Segment::default() };
    let mut bytes = Vec::new();
    emit(source, destination, &segment, [payload, &[]], &mut bytes);
    bytes
}

/// Makes the IPv4 header checksum right again after an edit.
fn fix_header(bytes: &mut [u8]) {
    let len = usize::from(bytes[0] & 0xf) * 4;
    bytes[10..12].fill(0);
    let checksum = Sum::default().bytes(&bytes[..len]).checksum();
    bytes[10..12].copy_from_slice(&checksum);
}

fn endpoints() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    prop_oneof![
        any::<([u8; 4], u16, [u8; 4], u16)>()
            .prop_map(|(a, p, b, q)| ((a, p).into(), (b, q).into())),
        any::<([u8; 16], u16, [u8; 16], u16)>()
            .prop_map(|(a, p, b, q)| ((a, p).into(), (b, q).into())),
    ]
}

prop_compose! {
    fn flags()(bits in any::<[bool; 6]>()) -> Flags {
        let [urg, ack, psh, rst, syn, fin] = bits;
        Flags { urg, ack, psh, rst, syn, fin }
    }
}

prop_compose! {
    /// Options that fit one header and belong in such a segment.
    fn options(syn: bool)(
        mss in prop::option::of(1u16..),
        window_scale in prop::option::of(0u8..=14),
        sack_permitted in any::<bool>(),
        timestamps in prop::option::of(any::<(u32, u32)>()),
        blocks in prop::collection::vec(any::<(u32, u32)>(), 0..=4),
    ) -> Options {
        let timestamps = timestamps.map(|(value, echo_reply)| Timestamps { value, echo_reply });
        let mut sack = SackBlocks::default();
        let room = if syn { 0 } else if timestamps.is_some() { 3 } else { 4 };
        for (left, right) in blocks.into_iter().take(room) {
            sack.push(SeqNum::new(left), SeqNum::new(right));
        }
        if syn {
            Options { mss, window_scale, sack_permitted, timestamps, sack }
        } else {
            Options { timestamps, sack, ..Options::default() }
        }
    }
}

prop_compose! {
    fn segment()(flags in flags())(
        options in options(flags.syn),
        flags in Just(flags),
        seq in any::<u32>(),
        ack in any::<u32>(),
        wnd in any::<u16>(),
        up in any::<u16>(),
    ) -> Segment<'static> {
        let (seq, ack) = (SeqNum::new(seq), SeqNum::new(ack));
        Segment { seq, ack, flags, wnd, up, options, payload: &[] }
    }
}

proptest! {
    #[test]
    fn parse_inverts_emit(
        (source, destination) in endpoints(),
        segment in segment(),
        payload in prop::collection::vec(any::<u8>(), 0..3000),
        split in any::<prop::sample::Index>(),
        padding in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let (front, back) = payload.split_at(split.index(payload.len() + 1));
        let mut bytes = vec![0xaa; 3];
        emit(source, destination, &segment, [front, back], &mut bytes);
        prop_assert_eq!(&bytes[..3], &[0xaa; 3]);
        bytes.extend_from_slice(&padding);
        let expected = Packet {
            source,
            destination,
            segment: Segment { payload: &payload, ..segment },
        };
        prop_assert_eq!(Packet::parse(&bytes[3..]), Ok(expected));
    }

    #[test]
    fn one_flipped_bit_is_noticed(
        (source, destination) in endpoints(),
        segment in segment(),
        payload in prop::collection::vec(any::<u8>(), 0..100),
        bit in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        emit(source, destination, &segment, [&payload, &[]], &mut bytes);
        // IPv6 has no header checksum: what the pseudo-header lacks is free, and a length
        // that shrinks by as much as the data it cuts off sums alike.
        let unprotected = |at: usize| source.is_ipv6() && (at < 6 || at == 7);
        let at = bit.index(bytes.len() * 8);
        prop_assume!(!unprotected(at / 8));
        bytes[at / 8] ^= 1 << (at % 8);
        // A flip may turn the sum into the partial form only where they differ by one bit.
        prop_assume!(!is_partial(&bytes));
        prop_assert!(Packet::parse(&bytes).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), v6: bool) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = if v6 { 0x60 } else { 0x40 | (*first & 0xf) };
        }
        let _ = Packet::parse(&bytes);
        let _ = IcmpError::parse(&bytes);
        if !v6 && bytes.len() >= 60 {
            fix_header(&mut bytes);
            let _ = Packet::parse(&bytes);
            let _ = IcmpError::parse(&bytes);
        }
    }
}

/// Whether the TCP checksum field holds the pseudo-header's folded sum.
fn is_partial(bytes: &[u8]) -> bool {
    super::ip::Ip::parse(bytes).is_ok_and(|ip| {
        let len = ip.payload.len() as u32;
        ip.payload.get(16..18)
            == Some(&Sum::pseudo_header(ip.source, ip.destination, 6, len).fold()[..])
    })
}

#[test]
fn partial_checksum_is_accepted_with_the_right_length_only() {
    for of in [V4, V6] {
        let (source, destination) = tuple(of);
        let mut bytes = packet(of, b"hello");
        let tcp = if source.is_ipv4() { 20 } else { 40 };
        let mut write = |len: u32| {
            let sum = Sum::pseudo_header(source.ip(), destination.ip(), 6, len).fold();
            bytes[tcp + 16..tcp + 18].copy_from_slice(&sum);
            Packet::parse(&bytes).map(|packet| packet.segment.payload.to_vec())
        };
        assert_eq!(write(25), Ok(b"hello".to_vec()));
        assert_eq!(write(24), Err(Malformed::Checksum));
        assert_eq!(write(0), Err(Malformed::Checksum));
    }
}

/// What a client sent, captured at the other end of a veth on Linux 6.18: the
/// sender's stack left the checksums partial, but for the ACK from TIME-WAIT.
const CAPTURED: [(&str, &str); 6] = [
    (
        "v4 SYN",
        "4500003cc9c9400040065c560a4d00010a4d000280e61fa3a32bbf7400000000a002faf014cb0000\
         020405b40402080a4b584e6e000000000103030a",
    ),
    (
        "v4 data",
        "45000046c9cb400040065c4a0a4d00010a4d000280e61fa3a32bbf75ec199cf88018003f14d50000\
         0101080a4b584e6f0343f66b474554202f20485454502f312e310d0a0d0a",
    ),
    (
        "v4 FIN",
        "45000034c9cc400040065c5b0a4d00010a4d000280e61fa3a32bbf87ec199cf88011003f14c30000\
         0101080a4b584e6f0343f66c",
    ),
    (
        "v4 ACK from TIME-WAIT",
        "4500003400004000400626280a4d00010a4d000280e61fa3a32bbf88ec199cfb8010003f42130000\
         0101080a4b584e710343f66e",
    ),
    (
        "v6 SYN",
        "600dee3800280640fd770000000000000000000000000001fd770000000000000000000000000002\
         97d41fa3774270f500000000a002fd20fb200000020405a00402080a623f5d72000000000103030a",
    ),
    (
        "v6 data",
        "600dee3800320640fd770000000000000000000000000001fd770000000000000000000000000002\
         97d41fa3774270f6dc01506580180040fb2a00000101080a623f5d7b99176e5f474554202f204854\
         54502f312e310d0a0d0a",
    ),
];

#[test]
fn frames_of_a_real_kernel() {
    for (name, hex) in CAPTURED {
        let frame: Vec<u8> = hex
            .as_bytes()
            .chunks(2)
            .map(|digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap())
            .collect();
        let packet = Packet::parse(&frame).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut bytes = Vec::new();
        emit(
            packet.source,
            packet.destination,
            &packet.segment,
            [packet.segment.payload, &[]],
            &mut bytes,
        );
        assert_eq!(Packet::parse(&bytes), Ok(packet), "{name}");
        // But for the checksum the segment is Linux's own, octet by octet.
        let tcp = if packet.source.is_ipv4() { 20 } else { 40 };
        assert_eq!(bytes[tcp..tcp + 16], frame[tcp..tcp + 16], "{name}");
        assert_eq!(bytes[tcp + 18..], frame[tcp + 18..], "{name}");
    }
}

#[test]
fn ipv4_reasons() {
    let good = packet(V4, b"hello");
    let with = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        edit(&mut bytes);
        if bytes.len() >= 20 {
            fix_header(&mut bytes);
        }
        Packet::parse(&bytes).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(&|bytes| bytes.clear()), Malformed::Version);
    assert_eq!(with(&|bytes| bytes[0] = 0x55), Malformed::Version);
    assert_eq!(with(&|bytes| bytes[0] = 0x44), Malformed::IpHeaderLength);
    assert_eq!(with(&|bytes| bytes.truncate(19)), Malformed::Truncated);
    assert_eq!(with(&|bytes| bytes.truncate(44)), Malformed::Truncated);
    assert_eq!(with(&|bytes| bytes[2..4].fill(0)), Malformed::IpLength);
    assert_eq!(with(&|bytes| bytes[6] = 0x20), Malformed::Fragment);
    assert_eq!(with(&|bytes| bytes[7] = 1), Malformed::Fragment);
    assert_eq!(with(&|bytes| bytes[9] = 17), Malformed::Protocol);
    assert_eq!(with(&|bytes| bytes[3] = 39), Malformed::Header);
    assert_eq!(with(&|bytes| bytes[32] = 0x40), Malformed::DataOffset);
    assert_eq!(with(&|bytes| bytes[32] = 0xf0), Malformed::DataOffset);
    assert_eq!(with(&|bytes| bytes[44] ^= 1), Malformed::Checksum);

    let mut bytes = good.clone();
    bytes[8] ^= 1;
    assert_eq!(Packet::parse(&bytes), Err(Malformed::IpChecksum));
}

/// `packet` with extension headers put behind the IPv6 header.
fn extended(extensions: &[&[u8]]) -> Vec<u8> {
    let mut bytes = packet(V6, b"hello");
    let mut at = 40;
    let mut next = 6;
    let mut holder = 6;
    for extension in extensions {
        bytes[holder] = extension[0];
        holder = at;
        let mut extension = extension[1..].to_vec();
        extension[0] = next;
        bytes.splice(at..at, extension.iter().copied());
        at += extension.len();
        next = 6;
    }
    let len = (bytes.len() - 40) as u16;
    bytes[4..6].copy_from_slice(&len.to_be_bytes());
    bytes
}

#[test]
fn ipv6_extension_headers() {
    // The first octet is the header's own kind.
    let hop_by_hop: &[u8] = &[0, 0, 0, 1, 4, 0, 0, 0, 0];
    let destination: &[u8] = &[60, 0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let routed: &[u8] = &[43, 0, 0, 0, 0, 0, 0, 0, 0];
    let on_its_way: &[u8] = &[43, 0, 0, 0, 1, 0, 0, 0, 0];
    let atomic: &[u8] = &[44, 0, 0, 0, 0, 0, 0, 0, 9];
    let fragment: &[u8] = &[44, 0, 0, 0, 1, 0, 0, 0, 9];
    let parse = |extensions: &[&[u8]]| {
        Packet::parse(&extended(extensions)).map(|packet| packet.segment.payload.to_vec())
    };
    assert_eq!(parse(&[hop_by_hop]), Ok(b"hello".to_vec()));
    assert_eq!(parse(&[hop_by_hop, destination, routed, atomic]), Ok(b"hello".to_vec()));
    assert_eq!(parse(&[fragment]), Err(Malformed::Fragment));
    assert_eq!(parse(&[on_its_way]), Err(Malformed::Ipv6Extension));
    assert_eq!(parse(&[hop_by_hop; 20]), Err(Malformed::Ipv6Extension));
    let mut bytes = extended(&[hop_by_hop]);
    bytes[41] = 200;
    assert_eq!(Packet::parse(&bytes), Err(Malformed::Ipv6Extension));
}

/// BIG TCP: the length field is zero and the frame goes to the end of the bytes.
#[test]
fn super_frames_beyond_the_length_field() {
    let payload = vec![7; 65_600];
    for of in [V4, V6] {
        let (source, destination) = tuple(of);
        let mut bytes = packet(of, &[]);
        bytes.extend_from_slice(&payload);
        let (tcp, len) = if source.is_ipv4() { (20, 2..4) } else { (40, 4..6) };
        bytes[len].fill(0);
        if source.is_ipv4() {
            fix_header(&mut bytes);
        }
        bytes[tcp + 16..tcp + 18].fill(0);
        let sum = Sum::pseudo_header(source.ip(), destination.ip(), 6, 65_620);
        let partial = sum.fold();
        let whole = sum.bytes(&bytes[tcp..]).checksum();
        for field in [partial, whole] {
            bytes[tcp + 16..tcp + 18].copy_from_slice(&field);
            assert_eq!(Packet::parse(&bytes).unwrap().segment.payload, payload);
        }
    }
}

#[test]
fn largest_packet_is_emitted_and_a_larger_one_is_not() {
    let (source, destination) = tuple(V4);
    assert_eq!(packet(V4, &vec![1; 65_495]).len(), 65_535);
    assert_eq!(packet(V6, &vec![1; 65_515]).len(), 65_575);
    let payload = vec![1; 65_496];
    let refused = std::panic::catch_unwind(|| {
        let mut bytes = vec![1, 2];
        emit(source, destination, &Segment::default(), [&payload, &[]], &mut bytes);
        bytes
    });
    if !cfg!(debug_assertions) {
        assert_eq!(refused.unwrap(), [1, 2]);
    } else {
        assert!(refused.is_err());
    }
}

#[test]
fn emitted_ipv4_header_is_atomic() {
    let bytes = packet(V4, b"x");
    assert_eq!(bytes[0], 0x45);
    assert_eq!(bytes[4..10], [0, 0, 0x40, 0, 64, 6]);
}

/// An ICMP message from `reporter`, with right checksums, that quotes `quoted`.
fn icmp(of: [&str; 2], head: [u8; 8], quoted: &[u8]) -> Vec<u8> {
    // emit() only writes TCP; its IP header is taken over.
    let (source, destination) = tuple(of);
    let body = [&head, quoted].concat();
    let ip = if source.is_ipv4() { 20 } else { 40 };
    let mut bytes = packet(of, &[])[..ip].to_vec();
    bytes.extend_from_slice(&body);
    let sum = if source.is_ipv4() {
        let len = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        bytes[9] = 1;
        fix_header(&mut bytes);
        Sum::default()
    } else {
        bytes[4..6].copy_from_slice(&(body.len() as u16).to_be_bytes());
        bytes[6] = 58;
        Sum::pseudo_header(source.ip(), destination.ip(), 58, body.len() as u32)
    };
    let checksum = sum.bytes(&body).checksum();
    bytes[ip + 2..ip + 4].copy_from_slice(&checksum);
    bytes
}

#[test]
fn icmp_errors_name_the_segment() {
    let too_big = IcmpReason::PacketTooBig { mtu: 1400 };
    let unreachable = IcmpReason::Unreachable { code: 1 };
    for (of, head, reason) in [
        (V4, [3, 4, 0, 0, 0, 0, 5, 0x78], too_big),
        (V4, [3, 1, 0, 0, 0, 0, 0, 0], unreachable),
        (V6, [2, 0, 0, 0, 0, 0, 5, 0x78], too_big),
        (V6, [1, 1, 0, 0, 0, 0, 0, 0], unreachable),
    ] {
        let (source, destination) = tuple(of);
        let quoted = packet(of, &[1; 1440]);
        // Whole, or only the first eight octets of TCP.
        let ip = if source.is_ipv4() { 20 } else { 40 };
        for quoted in [&quoted[..], &quoted[..ip + 8]] {
            let seq = SeqNum::new(1);
            let expected = IcmpError { reporter: source.ip(), source, destination, seq, reason };
            assert_eq!(IcmpError::parse(&icmp(of, head, quoted)), Ok(expected));
        }
        assert_eq!(IcmpError::parse(&icmp(of, head, &quoted[..ip + 7])), Err(Malformed::Header));
        let mut broken = icmp(of, head, &quoted);
        *broken.last_mut().unwrap() ^= 1;
        assert_eq!(IcmpError::parse(&broken), Err(Malformed::Checksum));
        let echo = if source.is_ipv4() { [8; 8] } else { [128; 8] };
        assert_eq!(IcmpError::parse(&icmp(of, echo, &quoted)), Err(Malformed::Protocol));
        assert_eq!(IcmpError::parse(&quoted), Err(Malformed::Protocol));
    }
}
