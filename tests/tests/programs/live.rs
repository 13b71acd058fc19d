//! Attached to interfaces of hosts in network namespaces.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use shadow_common::{GuardCounter, RecordKind, TapCounter};
use shadow_lab::Lab;
use shadow_user::kernel::{
    AttachMode, KernelError, LoadOptions, Programs, ResponseOptions, Sender, Unsent,
};

use crate::bench::Bench;
use crate::frames::packet;

const LIMIT: Duration = Duration::from_secs(10);

impl Bench {
    /// Drains until there are `count` packets.
    fn collect(&mut self, count: usize) -> Result<Vec<Vec<u8>>> {
        let deadline = Instant::now() + LIMIT;
        let mut packets = Vec::new();
        while packets.len() < count {
            ensure!(Instant::now() < deadline, "{} of {count} packets", packets.len());
            self.rings.wait(Duration::from_millis(20))?;
            packets.extend(self.drain().into_iter().map(|(_, packet)| packet));
        }
        Ok(packets)
    }
}

/// Sends packets from one host's raw sockets.
fn send(packets: &[Vec<u8>]) -> Result<Sender> {
    let mut sender = Sender::new()?;
    for packet in packets {
        sender.push(packet);
    }
    sender.flush();
    Ok(sender)
}

#[test]
fn packets_of_64_kilobytes_arrive_whole_in_parts() -> Result<()> {
    let lab = Lab::new()?;
    // Without the answers: they are the loopback's own RSTs.
    let mut bench = Bench::load(1 << 20, None);
    bench.serve(&["127.0.0.1:80", "[::1]:80"]);
    let payload: Vec<u8> = (0..65_496_u32).map(|i| ((i * 31) >> 3) as u8).collect();
    let mut sent = Vec::new();
    for len in [32_695, 32_696, 32_697, 65_431, 65_432, 65_433, 65_495] {
        sent.push(packet("127.0.0.2:40000", "127.0.0.1:80", &payload[..len]));
    }
    for len in [32_676, 32_677, 65_412, 65_413, 65_476] {
        sent.push(packet("[::1]:40000", "[::1]:80", &payload[..len]));
    }
    lab.production.enter(|| {
        bench.programs.attach_tap("lo")?;
        let sender = send(&sent)?;
        ensure!(sender.stats().packets == sent.len() as u64, "{:?}", sender.stats());
        let packets = bench.collect(sent.len())?;
        ensure!(packets.len() == sent.len());
        for (number, (packet, sent)) in packets.iter().zip(&sent).enumerate() {
            // The kernel writes an identification and checksum into an IPv4 header.
            let same = packet.len() == sent.len() && packet[20..] == sent[20..];
            ensure!(same, "packet {number} of {} bytes differs", sent.len());
        }
        ensure!(bench.rings.incomplete() == 0);
        Ok(())
    })?
}

#[test]
fn a_packet_whose_rest_does_not_fit_is_lost_once() -> Result<()> {
    let lab = Lab::new()?;
    let mut bench = Bench::load(1 << 16, None);
    bench.serve(&["127.0.0.1:80"]);
    let large = packet("127.0.0.2:40000", "127.0.0.1:80", &[7; 65_495]);
    let small = packet("127.0.0.2:40000", "127.0.0.1:80", b"x");
    lab.production.enter(|| {
        // One CPU, so that the small packet follows the large one's head on it.
        let mut one = rustix::thread::CpuSet::new();
        one.set(0);
        rustix::thread::sched_setaffinity(None, &one)?;
        bench.programs.attach_tap("lo")?;
        send(&[large])?;
        ensure!(bench.drain().is_empty());
        let counters = bench.programs.counters()?;
        ensure!(counters.tap.get(TapCounter::RingFull) == 1 && counters.tap.total() == 1);
        send(&[small])?;
        ensure!(bench.collect(1)?.len() == 1);
        ensure!(bench.rings.incomplete() == 1);
        Ok(())
    })?
}

/// The far end of an interface: what is written here arrives there, behind a `virtio_net_hdr`.
fn tuntap(lab: &Lab, name: &str, ethernet: bool) -> Result<std::fs::File> {
    use std::os::fd::AsRawFd as _;
    let mode = if ethernet { "tap" } else { "tun" };
    lab.production.run("ip", ["tuntap", "add", "dev", name, "mode", mode])?;
    lab.production.run("ip", ["link", "set", name, "mtu", "9000", "up"])?;
    lab.production.enter(|| {
        let file = std::fs::File::options().read(true).write(true).open("/dev/net/tun")?;
        // SAFETY: an `ifreq` of zeros is valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        let mode = if ethernet { libc::IFF_TAP } else { libc::IFF_TUN };
        request.ifr_ifru.ifru_flags = (mode | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;
        // SAFETY: the request outlives the call, which only reads it.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &request) };
        ensure!(result == 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
        Ok(file)
    })?
}

/// A tun device has no link header, and of packets longer than a page both leave as much in the
/// linear part as they are told.
#[test]
fn headers_are_found_on_any_link_and_outside_the_linear_part() -> Result<()> {
    let lab = Lab::new()?;
    for ethernet in [false, true] {
        let mut bench = Bench::new();
        bench.serve(&["192.0.2.80:80", "[2001:db8::80]:80"]);
        let name = if ethernet { "tap0" } else { "tun0" };
        let mut far_end = tuntap(&lab, name, ethernet)?;
        lab.production.enter(|| bench.programs.attach_tap(name))??;
        for (len, linear) in [(10, 0), (1000, 0), (5000, 0), (5000, 14), (8000, 14), (8000, 60)] {
            // 8.0.x.x and 2001:db8:86dd:… stand where an Ethernet header has its type; then, as of
            // another protocol, 69.x and 6000:… where the IP header behind it would begin.
            for packet in [
                packet("192.0.2.1:40000", "192.0.2.80:80", &vec![7; len]),
                packet("8.0.2.1:40000", "192.0.2.80:80", &vec![7; len]),
                packet("8.0.69.1:40000", "192.0.2.80:80", &vec![7; len]),
                packet("[2001:db8::1]:40000", "[2001:db8::80]:80", &vec![7; len]),
                packet("[2001:db8:86dd::1]:40000", "[2001:db8::80]:80", &vec![7; len]),
                packet("[2001:db8:86dd:6000::1100:1]:40000", "[2001:db8::80]:80", &vec![7; len]),
            ] {
                let mut message = vec![0, 0, linear, 0, 0, 0, 0, 0, 0, 0];
                message.extend(match ethernet {
                    true => crate::frames::frame(&[], &packet),
                    false => packet.clone(),
                });
                far_end.write_all(&message)?;
                let what = || format!("{name}, {len} bytes, {linear}: {:x?}", &packet[..20]);
                ensure!(bench.collect(1).with_context(what)?[0] == packet, what());
            }
        }
    }
    Ok(())
}

/// A connection through the tap, and the books of it, in either way of attaching.
#[test]
fn a_connection_passes_the_tap_and_is_in_the_ring() -> Result<()> {
    for mode in [AttachMode::Auto, AttachMode::Clsact] {
        let lab = Lab::new()?;
        let mut programs = Programs::load(LoadOptions { attach: mode, ..LoadOptions::default() })?;
        let rings = programs.take_rings()?.context("first time")?;
        let mut bench = Bench { programs, rings };
        let service = lab.production.at4(80);
        bench.serve(&[&service.to_string()]);
        let upload: Vec<u8> = (0..300_000_u32).map(|i| ((i * 31) >> 3) as u8).collect();

        let listener = lab.production.enter(|| TcpListener::bind(service))??;
        lab.production.enter(|| bench.programs.attach_tap("eth0"))??;
        let mut client = lab.client.connect(service, LIMIT)?;
        let (mut server, _) = listener.accept()?;
        let received = std::thread::scope(|scope| -> Result<Vec<u8>> {
            scope.spawn(|| {
                let _ = client.write_all(&upload);
                drop(client);
            });
            let mut received = Vec::new();
            server.set_read_timeout(Some(LIMIT))?;
            server.read_to_end(&mut received)?;
            Ok(received)
        })?;
        ensure!(received == upload);

        lab.production.enter(|| bench.programs.detach_taps())?;
        // A program of clsact may finish a packet after it was detached; not after a whole handshake.
        lab.client.connect(service, LIMIT)?;
        let counters = bench.programs.counters()?;
        let captured = counters.tap.get(TapCounter::Captured);
        ensure!(captured == counters.tap.total(), "{counters:?}");
        let packets = bench.drain();
        ensure!(packets.len() as u64 == captured, "{mode:?}: {} of {captured}", packets.len());
        let bytes: usize = packets
            .iter()
            .map(|(_, packet)| packet.len() - 20 - usize::from(packet[32] >> 4) * 4)
            .sum();
        ensure!(bytes >= upload.len(), "{bytes} bytes of {}", upload.len());

        lab.client.connect(service, LIMIT)?;
        ensure!(bench.programs.counters()? == counters, "{mode:?}: still attached");
    }
    Ok(())
}

/// Production's answers through the tap's other half, in either way of attaching.
#[test]
fn an_answer_passes_the_egress_and_is_in_the_ring() -> Result<()> {
    for attach in [AttachMode::Auto, AttachMode::Clsact] {
        let lab = Lab::new()?;
        let responses = Some(ResponseOptions { bytes: 4 << 20, flows: 1 });
        let mut programs =
            Programs::load(LoadOptions { attach, responses, ..LoadOptions::default() })?;
        let rings = programs.take_rings()?.context("first time")?;
        let mut bench = Bench { programs, rings };
        let service = lab.production.at4(80);
        bench.serve(&[&service.to_string()]);
        lab.production.enter(|| bench.programs.attach_tap("eth0"))??;
        let attached = |direction| {
            let filters = lab.production.run("tc", ["filter", "show", "dev", "eth0", direction])?;
            Ok::<_, anyhow::Error>(filters.contains("direct-action"))
        };
        let is_clsact = attach == AttachMode::Clsact;
        ensure!(attached("egress")? == is_clsact && attached("ingress")? == is_clsact);

        let answer: Vec<u8> = (0..300_000_u32).map(|i| ((i * 31) >> 3) as u8).collect();
        let listener = lab.production.enter(|| TcpListener::bind(service))??;
        let converse = || -> Result<()> {
            let mut client = lab.client.connect(service, LIMIT)?;
            let (mut server, _) = listener.accept()?;
            client.set_read_timeout(Some(LIMIT))?;
            server.set_read_timeout(Some(LIMIT))?;
            client.write_all(b"?")?;
            server.read_exact(&mut [0])?;
            let mut received = vec![0; answer.len()];
            std::thread::scope(|scope| {
                scope.spawn(|| server.write_all(&answer));
                client.read_exact(&mut received)
            })?;
            ensure!(received == answer, "{attach:?}: the client's answer");
            Ok(())
        };
        converse()?;
        let mut copied = vec![false; answer.len()];
        let mut first = None;
        for (header, packet) in bench.drain() {
            if header.kind == RecordKind::Response as u32 {
                let payload = &packet[20 + usize::from(packet[32] >> 4) * 4..];
                let seq = u32::from_be_bytes([packet[24], packet[25], packet[26], packet[27]]);
                let at = seq.wrapping_sub(*first.get_or_insert(seq)) as usize;
                ensure!(payload.is_empty() || answer[at..at + payload.len()] == *payload);
                copied[at..at + payload.len()].fill(true);
            }
        }
        ensure!(copied.iter().all(|is_copied| *is_copied), "{attach:?}: not all is in the ring");

        lab.production.enter(|| bench.programs.detach_taps_out())?;
        ensure!(!attached("egress")?, "{attach:?}: still attached");
        let before = bench.programs.counters()?.responses.total();
        converse()?;
        ensure!(bench.programs.counters()?.responses.total() == before, "{attach:?}: still counts");
        lab.production.enter(|| drop(bench))?;
    }
    Ok(())
}

#[test]
fn only_a_qdisc_of_our_own_is_removed_and_only_when_nothing_else_uses_it() -> Result<()> {
    let lab = Lab::new()?;
    let tc = |args: &str| lab.production.run("tc", args.split_whitespace());
    let has_clsact = || Ok::<_, anyhow::Error>(tc("qdisc show dev eth0")?.contains("clsact"));
    let clsact = LoadOptions { attach: AttachMode::Clsact, ..LoadOptions::default() };
    let attached = || -> Result<Programs> {
        let mut programs = Programs::load(clsact)?;
        lab.production.enter(|| {
            programs.attach_tap("eth0")?;
            programs.attach_guard("eth0")
        })??;
        Ok(programs)
    };
    let detach = |mut programs: Programs| -> Result<()> {
        lab.production.enter(|| programs.detach_taps())?;
        ensure!(has_clsact()?, "the guard is still attached");
        lab.production.enter(|| drop(programs))
    };

    ensure!(!has_clsact()?);
    detach(attached()?)?;
    ensure!(!has_clsact()?, "added here, so removed here");

    let programs = attached()?;
    let another = attached()?;
    detach(programs)?;
    ensure!(has_clsact()?, "removed below another's filter");
    lab.production.enter(|| drop(another))?;
    tc("qdisc del dev eth0 clsact")?;

    tc("qdisc add dev eth0 clsact")?;
    detach(attached()?)?;
    ensure!(has_clsact()?, "it was there before");
    Ok(())
}

#[test]
fn the_guard_swallows_answers_so_that_the_kernel_sends_no_reset() -> Result<()> {
    let lab = Lab::new()?;
    let mut bench = Bench::new();
    let shadow = lab.shadow.at4(8080);
    let mirror = lab.production.at4(20_000);
    bench.guard(&shadow.to_string(), &lab.production.v4.to_string(), 16_384, 32_767);
    let listener = lab.shadow.enter(|| TcpListener::bind(shadow))??;
    listener.set_nonblocking(true)?;
    let segment = |sequence, acknowledgment: u32, syn: bool| {
        use etherparse::PacketBuilder;
        let (std::net::IpAddr::V4(from), std::net::IpAddr::V4(to)) = (mirror.ip(), shadow.ip())
        else {
            panic!("IPv4");
        };
        let builder = PacketBuilder::ipv4(from.octets(), to.octets(), 64).tcp(
            mirror.port(),
            shadow.port(),
            sequence,
            60_000,
        );
        let builder = if syn { builder.syn() } else { builder.ack(acknowledgment) };
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &[]).map(|()| bytes)
    };
    let syn = segment(1000, 0, true)?;
    lab.production.enter(|| -> Result<()> {
        bench.programs.attach_guard("eth0")?;
        send(&[syn])?;
        let answer = bench.collect(1)?.swap_remove(0);
        ensure!(answer[33] == 0x12, "a SYN-ACK: {answer:x?}");
        let sequence = u32::from_be_bytes([answer[24], answer[25], answer[26], answer[27]]);
        send(&[segment(1001, sequence.wrapping_add(1), false)?])?;
        Ok(())
    })??;
    // Had the kernel answered the SYN-ACK with RST, there would be nothing to accept.
    let deadline = Instant::now() + LIMIT;
    while listener.accept().is_err() {
        ensure!(Instant::now() < deadline, "the shadow never saw the connection");
        std::thread::sleep(Duration::from_millis(5));
    }
    let counters = bench.programs.counters()?;
    ensure!(counters.guard.get(GuardCounter::Captured) >= 1);
    ensure!(counters.guard.get(GuardCounter::Captured) == counters.guard.total());
    Ok(())
}

#[test]
fn a_sleeping_reader_is_woken_by_the_first_packet() {
    let mut bench = Bench::new();
    bench.serve(&["192.0.2.80:80"]);
    let frame = crate::frames::frame(&[], &packet("192.0.2.1:4000", "192.0.2.80:80", b"x"));
    let Bench { mut programs, mut rings } = bench;
    let program = programs.program("tap").unwrap();
    let (ready, start) = std::sync::mpsc::sync_channel::<()>(0);
    let (rounds, mut late) = (50, 0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            use aya::programs::{TestRun as _, TestRunOptions};
            while start.recv().is_ok() {
                // Long enough for the reader to fall asleep, most times.
                std::thread::sleep(Duration::from_millis(2));
                let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() };
                program.test_run(options).unwrap();
            }
        });
        for _ in 0..rounds {
            ready.send(()).unwrap();
            let asleep = Instant::now();
            let mut packets = 0;
            while packets == 0 {
                rings.wait(Duration::from_millis(100)).unwrap();
                packets += rings.drain(8, |_, _| ()).packets;
            }
            late += usize::from(asleep.elapsed() >= Duration::from_millis(95));
        }
        drop(ready);
    });
    // Without a wake-up every round would last the whole timeout.
    assert!(late < rounds / 2, "{late} of {rounds} rounds ended by the timeout");
}

#[test]
fn what_cannot_be_sent_is_counted_by_reason() -> Result<()> {
    let lab = Lab::new()?;
    lab.production.enter(|| {
        let from = lab.production.at4(20_000).to_string();
        let too_long = packet(&from, &lab.shadow.at4(80).to_string(), &[7; 1461]);
        let fits = packet(&from, &lab.shadow.at4(80).to_string(), &[7; 1460]);
        let nowhere = packet(&from, "203.0.113.1:80", b"x");
        let fits6 = packet(
            &lab.production.at6(20_000).to_string(),
            &lab.shadow.at6(80).to_string(),
            &[7; 1440],
        );
        let batch =
            [fits.clone(), too_long, nowhere, b"no packet".to_vec(), Vec::new(), fits6, fits];
        let sender = send(&batch)?;
        let stats = sender.stats();
        ensure!(stats.packets == 3 && stats.bytes == 3 * 1500, "{stats:?}");
        ensure!(stats.unsent(Unsent::TooLong) == 1, "{stats:?}");
        ensure!(stats.unsent(Unsent::Unreachable) == 1, "{stats:?}");
        ensure!(stats.unsent(Unsent::NotIp) == 2, "{stats:?}");
        let unsent: u64 = stats.iter_unsent().map(|(_, count)| count).sum();
        ensure!(stats.packets + unsent == batch.len() as u64);
        Ok(())
    })?
}

#[test]
fn an_unknown_interface_is_named() {
    let mut programs = Programs::load(LoadOptions::default()).unwrap();
    let error = programs.attach_tap("nosuchif0").unwrap_err();
    assert!(matches!(&error, KernelError::NoSuchInterface(name) if name == "nosuchif0"));
    assert!(error.to_string().contains("nosuchif0"));
}

#[test]
fn missing_rights_are_named() {
    let lab = Lab::new().unwrap();
    // A program that is loaded may be attached by TCX without any.
    let clsact = LoadOptions { attach: AttachMode::Clsact, ..LoadOptions::default() };
    let mut programs = Programs::load(clsact).unwrap();
    let errors = std::thread::scope(|scope| {
        // Capabilities belong to a thread.
        let thread = scope.spawn(|| {
            lab.production.enter_for_good().unwrap();
            caps::clear(None, caps::CapSet::Effective).unwrap();
            [
                Programs::load(LoadOptions::default()).map(drop),
                programs.attach_tap("eth0"),
                Sender::new().map(drop),
            ]
        });
        thread.join().unwrap()
    });
    for (what, error) in ["load", "attach", "send"].into_iter().zip(errors) {
        assert!(matches!(error, Err(KernelError::NotPermitted { .. })), "{what}: {error:?}");
    }
}
