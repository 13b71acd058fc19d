//! `recv!` a segment, look at what is `sent!`, let time pass.

use std::net::SocketAddr;
use std::time::Duration;

use shadow_engine::client::{Client, Config, Event, Offer};
use shadow_engine::seq::SeqNum;
use shadow_engine::time::Instant;
use shadow_engine::wire::{Flags, Options, SackBlocks, Segment, Timestamps};

pub const ISS: u32 = 0xffff_fff0;
pub const IRS: u32 = 0x7fff_fff0;
pub const MSS: u16 = 1000;

/// A segment with relative numbers: what `recv!` takes and `sent!` compares.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seg {
    pub seq: u32,
    pub ack: Option<u32>,
    /// Of `SFRP`, in this order; ACK is told by `ack`.
    pub flags: &'static str,
    pub wnd: u16,
    pub data: Vec<u8>,
    pub sack: Vec<(u32, u32)>,
    pub ts: Option<(u32, u32)>,
    pub mss: Option<u16>,
    pub scale: Option<u8>,
    pub sackok: bool,
}

/// An acknowledgment from the peer with its usual window, and no data.
pub fn ack(ack: u32) -> Seg {
    Seg { seq: 1, ack: Some(ack), wnd: 50_000, ..Seg::default() }
}

/// Data from the peer that acknowledges the SYN only.
pub fn data(seq: u32, data: &[u8]) -> Seg {
    Seg { seq, data: data.to_vec(), ..ack(1) }
}

/// A FIN from the peer.
pub fn fin(seq: u32) -> Seg {
    Seg { seq, flags: "F", ..ack(1) }
}

/// A reset from the peer.
pub fn rst(seq: u32) -> Seg {
    Seg { seq, flags: "R", ack: None, ..Seg::default() }
}

/// The peer's answer to the SYN.
pub fn syn_ack() -> Seg {
    Seg { seq: 0, ack: Some(1), flags: "S", wnd: 50_000, mss: Some(MSS), ..Seg::default() }
}

/// A client with the world around it.
pub struct Bench {
    pub client: Client,
    pub now: Instant,
    pub received: Vec<u8>,
    /// Data octets that go at once, in several segments.
    pub most: u32,
}

pub fn config() -> Config {
    let local: SocketAddr = "10.0.0.1:16384".parse().unwrap();
    let remote: SocketAddr = "10.0.0.2:80".parse().unwrap();
    let offer = Offer { mss: 1460, window_scale: None, sack_permitted: false, timestamps: false };
    Config::new(local, remote, SeqNum::new(ISS), offer)
}

impl Bench {
    /// SYN-SENT: the SYN was sent.
    pub fn syn_sent(config: Config) -> Self {
        let start = Instant::from_nanos(1_000_000_000);
        let client = Client::connect(config, start);
        let mut bench = Self { client, now: start, received: Vec::new(), most: 0 };
        let syn = bench.sent().unwrap();
        assert_eq!((syn.seq, syn.ack, syn.flags), (0, None, "S"));
        bench
    }

    /// ESTABLISHED, without options.
    pub fn established() -> Self {
        Self::established_with(config(), syn_ack())
    }

    /// ESTABLISHED with what the two SYNs agree on.
    pub fn established_with(config: Config, syn_ack: Seg) -> Self {
        let mut bench = Self::syn_sent(config);
        bench.now += Duration::from_millis(10);
        bench.recv(syn_ack);
        let ack = bench.sent().unwrap();
        assert_eq!((ack.seq, ack.ack, ack.flags), (1, Some(1), ""));
        assert_eq!(bench.client.poll_event(), Some(Event::Connected));
        bench
    }

    /// ESTABLISHED with SACK.
    pub fn established_sack() -> Self {
        let mut config = config();
        config.offer.sack_permitted = true;
        Self::established_with(config, Seg { sackok: true, ..syn_ack() })
    }

    /// ESTABLISHED with timestamps; the peer's first TSval is 100.
    pub fn established_timestamps() -> Self {
        let mut config = config();
        config.offer.timestamps = true;
        Self::established_with(config, Seg { ts: Some((100, 1000)), ..syn_ack() })
    }

    /// FIN-WAIT-1: FIN was sent, at 1.
    pub fn fin_wait_1() -> Self {
        let mut bench = Self::established();
        bench.client.close();
        let fin = bench.sent().unwrap();
        assert_eq!((fin.seq, fin.flags), (1, "F"));
        bench
    }

    /// FIN-WAIT-2: FIN was acknowledged.
    pub fn fin_wait_2() -> Self {
        let mut bench = Self::fin_wait_1();
        bench.recv(ack(2));
        bench
    }

    /// CLOSE-WAIT: the peer's FIN, at 1, was acknowledged.
    pub fn close_wait() -> Self {
        let mut bench = Self::established();
        bench.recv(fin(1));
        assert_eq!(bench.sent().unwrap().ack, Some(2));
        assert_eq!(bench.client.poll_event(), Some(Event::PeerClosed));
        bench
    }

    /// LAST-ACK: our FIN, at 1, was sent after the peer's.
    pub fn last_ack() -> Self {
        let mut bench = Self::close_wait();
        bench.client.close();
        assert_eq!(bench.sent().unwrap().flags, "F");
        bench
    }

    /// CLOSING: both FINs, each at 1, crossed.
    pub fn closing() -> Self {
        let mut bench = Self::fin_wait_1();
        bench.recv(fin(1));
        assert_eq!(bench.sent().unwrap().ack, Some(2));
        assert_eq!(bench.client.poll_event(), Some(Event::PeerClosed));
        bench
    }

    /// TIME-WAIT: both FINs, each at 1, were acknowledged.
    pub fn time_wait() -> Self {
        let mut bench = Self::closing();
        bench.recv(Seg { seq: 2, ..ack(2) });
        bench
    }

    /// Writes and releases.
    pub fn write(&mut self, bytes: &[u8]) {
        self.client.write(bytes);
        self.client.release(u64::MAX);
    }

    /// Writes, releases, and takes all that can be sent at once; returns `(seq, len)` each.
    pub fn send(&mut self, len: usize) -> Vec<(u32, usize)> {
        self.write(&vec![b'x'; len]);
        self.burst()
    }

    /// All that is due, as `(seq, len)`.
    pub fn burst(&mut self) -> Vec<(u32, usize)> {
        std::iter::from_fn(|| self.sent()).map(|seg| (seg.seq, seg.data.len())).collect()
    }

    pub fn recv(&mut self, seg: Seg) {
        let mut sack = SackBlocks::default();
        for &(left, right) in &seg.sack {
            sack.push(SeqNum::new(ISS) + left, SeqNum::new(ISS) + right);
        }
        let segment = Segment {
            seq: SeqNum::new(IRS) + seg.seq,
            ack: SeqNum::new(ISS) + seg.ack.unwrap_or(0),
            flags: Flags {
                syn: seg.flags.contains('S'),
                fin: seg.flags.contains('F'),
                rst: seg.flags.contains('R'),
                psh: seg.flags.contains('P'),
                ack: seg.ack.is_some(),
                urg: false,
            },
            wnd: seg.wnd,
            up: 0,
            options: Options {
                mss: seg.mss,
                window_scale: seg.scale,
                sack_permitted: seg.sackok,
                timestamps: seg.ts.map(|(value, echo_reply)| Timestamps { value, echo_reply }),
                sack,
            },
            payload: &seg.data,
        };
        let received = &mut self.received;
        self.client.handle_segment(&segment, self.now, &mut |bytes| {
            received.extend_from_slice(bytes);
        });
    }

    /// The next segment due.
    pub fn sent(&mut self) -> Option<Seg> {
        let outgoing = self.client.poll_transmit_up_to(self.most, self.now)?;
        let segment = outgoing.segment;
        let flags = segment.flags;
        let names = [(flags.syn, "S"), (flags.fin, "F"), (flags.rst, "R")];
        Some(Seg {
            seq: segment.seq.distance(SeqNum::new(ISS)).cast_unsigned(),
            ack: flags.ack.then(|| segment.ack.distance(SeqNum::new(IRS)).cast_unsigned()),
            flags: names.into_iter().find(|name| name.0).map_or("", |name| name.1),
            wnd: segment.wnd,
            data: outgoing.payload.concat(),
            sack: segment
                .options
                .sack
                .iter()
                .map(|(left, right)| {
                    let relative = |seq: SeqNum| seq.distance(SeqNum::new(IRS)).cast_unsigned();
                    (relative(left), relative(right))
                })
                .collect(),
            ts: segment.options.timestamps.map(|ts| (ts.value, ts.echo_reply)),
            mss: segment.options.mss,
            scale: segment.options.window_scale,
            sackok: segment.options.sack_permitted,
        })
    }

    /// Lets time pass; every timer on the way is handled, and what it sends is dropped.
    pub fn pass(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while let Some(at) = self.client.poll_timeout().filter(|at| *at <= until) {
            self.now = at;
            self.client.handle_timeout(at);
            while self.sent().is_some() {}
        }
        self.now = until;
    }

    /// Waits for the next timer and handles it; returns how long that took, in milliseconds.
    pub fn timeout(&mut self) -> u64 {
        let at = self.client.poll_timeout().expect("a timer runs");
        let waited = at.since(self.now).as_millis() as u64;
        self.now = at;
        self.client.handle_timeout(at);
        waited
    }

    pub fn state(&self) -> String {
        self.client.state().to_string()
    }
}

/// A segment arrives.
macro_rules! recv {
    ($bench:expr, $seg:expr) => {
        $bench.recv($seg)
    };
    ($bench:expr, $seg:expr, $($field:ident: $value:expr),+) => {
        $bench.recv(Seg { $($field: $value,)+ ..$seg })
    };
}

/// The next segment sent has these fields; or nothing is sent.
macro_rules! sent {
    ($bench:expr) => {
        assert_eq!($bench.sent(), None)
    };
    ($bench:expr, $($field:ident: $value:expr),+ $(,)?) => {
        let seg = $bench.sent().expect("something is sent");
        $(assert_eq!(seg.$field, $value, "{} of {seg:?}", stringify!($field));)+
    };
}

/// The next event is this one; or there is none.
macro_rules! event {
    ($bench:expr) => {
        assert_eq!($bench.client.poll_event(), None)
    };
    ($bench:expr, $event:expr) => {
        assert_eq!($bench.client.poll_event(), Some($event))
    };
}
