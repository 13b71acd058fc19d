//! One loaded pair of programs, with hands to feed it and eyes on everything it does.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aya::programs::{TestRun as _, TestRunOptions};
use shadow_common::{Address, FlowKey, FlowRule, GuardRule, RecordHeader, ServiceKey, ShadowKey};
use shadow_user::kernel::{KernelCounters, LoadOptions, Programs, ResponseOptions, Rings};

/// "Go on with the next program."
pub const NEXT: i32 = -1;
/// "Drop."
pub const DROP: i32 = 2;

/// What one packet led to.
#[derive(Debug)]
pub struct Run {
    pub verdict: i32,
    /// The labels of the counters that went up, once for each time.
    pub counted: Vec<&'static str>,
    /// What came out of the rings.
    pub records: Vec<(RecordHeader, Vec<u8>)>,
}

pub struct Bench {
    pub programs: Programs,
    pub rings: Rings,
}

impl Bench {
    pub fn new() -> Self {
        Self::with_rings(1 << 20)
    }

    pub fn with_rings(bytes: u32) -> Self {
        Self::load(bytes, Some(ResponseOptions { bytes, flows: 1 }))
    }

    /// Without comparing, or with.
    pub fn load(bytes: u32, responses: Option<ResponseOptions>) -> Self {
        let options = LoadOptions {
            requests_bytes: bytes,
            replies_bytes: bytes,
            responses,
            ..LoadOptions::default()
        };
        let mut programs = Programs::load(options).unwrap();
        let rings = programs.take_rings().unwrap().unwrap();
        Self { programs, rings }
    }

    pub fn serve(&mut self, services: &[&str]) {
        let keys: Vec<_> = services.iter().map(|service| key(service)).collect();
        self.programs.set_services(&keys).unwrap();
    }

    /// Makes `shadow` (address and port) answer to `local`, ports `min..=max`.
    pub fn guard(&mut self, shadow: &str, local: &str, min: u16, max: u16) {
        let ServiceKey { address, port, reserved } = key(shadow);
        let rule = GuardRule::own(address_of(local.parse().unwrap()), min, max);
        self.programs.set_guard_rules(&[(ShadowKey { address, port, reserved }, rule)]).unwrap();
    }

    /// Makes the guard drop what `shadow` sends to any address but those of `own`.
    pub fn guard_foreign(&mut self, shadow: &str, own: &[&str]) {
        let own: Vec<_> = own.iter().map(|own| address_of(own.parse().unwrap())).collect();
        self.programs.set_own_addresses(&own).unwrap();
        let ServiceKey { address, port, reserved } = key(shadow);
        let shadow = ShadowKey { address, port, reserved };
        self.programs.set_guard_rules(&[(shadow, GuardRule::foreign())]).unwrap();
    }

    /// Says what is wanted of production's answers in a flow.
    pub fn want(&mut self, client: &str, production: &str, rule: FlowRule) {
        let (client, production) = (key(client), key(production));
        let flow = FlowKey {
            client: client.address,
            production: production.address,
            client_port: client.port,
            production_port: production.port,
        };
        self.programs.set_flow_rule(&flow, rule).unwrap();
    }

    /// Runs a program once. The packet must come out as it went in.
    pub fn run(&mut self, program: &'static str, frame: &[u8]) -> Run {
        let before = self.programs.counters().unwrap();
        let verdict = self.verdict(program, frame);
        let counted = counted(&before, &self.programs.counters().unwrap());
        Run { verdict, counted, records: self.drain() }
    }

    pub fn verdict(&mut self, program: &'static str, frame: &[u8]) -> i32 {
        let mut out = vec![0; frame.len() + 64];
        let result = self
            .programs
            .program(program)
            .unwrap()
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ..TestRunOptions::default()
            })
            .unwrap();
        out.truncate(result.data_size_out as usize);
        assert_eq!(out, frame, "{program} changed the packet");
        result.return_value.cast_signed()
    }

    pub fn drain(&mut self) -> Vec<(RecordHeader, Vec<u8>)> {
        let mut records = Vec::new();
        while self.rings.drain(64, |header, packet| records.push((*header, packet.to_vec()))).more {
        }
        records
    }

    /// The mean run time of a program over `repeat` runs.
    pub fn time(&mut self, program: &'static str, frame: &[u8], repeat: u32) -> Duration {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        self.programs.program(program).unwrap().test_run(options).unwrap().duration
    }
}

impl Run {
    /// Passed on, counted under `label`, nothing in the ring.
    #[track_caller]
    pub fn passed_as(&self, label: &str) {
        assert_eq!((self.verdict, self.counted.as_slice()), (NEXT, &[label][..]), "{self:?}");
        assert!(self.records.is_empty(), "{self:?}");
    }

    /// Passed on as none of ours.
    #[track_caller]
    pub fn ignored(&self) {
        assert_eq!(self.verdict, NEXT, "{self:?}");
        assert!(self.counted.is_empty() && self.records.is_empty(), "{self:?}");
    }

    /// Copied: exactly `packet` (from the IP header on) is in the ring, once.
    #[track_caller]
    pub fn copied(&self, verdict: i32, packet: &[u8]) {
        assert_eq!((self.verdict, self.counted.as_slice()), (verdict, &["captured"][..]));
        let [(header, copy)] = self.records.as_slice() else { panic!("{self:?}") };
        assert_eq!(copy, packet);
        assert_eq!(header.packet_len as usize, packet.len());
        assert_ne!(header.captured_at, 0);
    }
}

/// What went up between two snapshots.
pub fn counted(before: &KernelCounters, after: &KernelCounters) -> Vec<&'static str> {
    use shadow_common::Counter as _;
    let tap = after.tap.iter().map(|(counter, n)| (counter.label(), n - before.tap.get(counter)));
    let guard =
        after.guard.iter().map(|(counter, n)| (counter.label(), n - before.guard.get(counter)));
    let responses = after
        .responses
        .iter()
        .map(|(counter, n)| (counter.label(), n - before.responses.get(counter)));
    tap.chain(guard)
        .chain(responses)
        .flat_map(|(label, n)| std::iter::repeat_n(label, n as usize))
        .collect()
}

fn key(service: &str) -> ServiceKey {
    let service: SocketAddr = service.parse().unwrap();
    ServiceKey {
        address: address_of(service.ip()),
        port: service.port().to_be_bytes(),
        reserved: [0; 2],
    }
}

fn address_of(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => Address::from_v4(v4.octets()),
        IpAddr::V6(v6) => Address(v6.octets()),
    }
}
