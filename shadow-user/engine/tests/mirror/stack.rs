//! A host with smoltcp as its TCP: an implementation that knows nothing of ours.

use std::collections::VecDeque;
use std::net::SocketAddr;

use shadow_engine::time::Instant;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpCidr};

/// One host on the simulated network.
pub struct Stack {
    interface: Interface,
    pub sockets: SocketSet<'static>,
    device: Queues,
}

struct Queues {
    mtu: usize,
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

pub fn clock(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(now.as_nanos() / 1_000).unwrap())
}

impl Stack {
    pub fn new(address: std::net::IpAddr, mtu: usize, seed: u64, now: Instant) -> Self {
        let mut device = Queues { mtu, received: VecDeque::new(), sent: VecDeque::new() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, clock(now));
        interface.update_ip_addrs(|addresses| {
            let prefix = if address.is_ipv4() { 24 } else { 64 };
            addresses.push(IpCidr::new(address.into(), prefix)).unwrap();
        });
        Self { interface, sockets: SocketSet::new(Vec::new()), device }
    }

    fn socket(buffer: usize) -> tcp::Socket<'static> {
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; buffer]),
            tcp::SocketBuffer::new(vec![0; buffer]),
        );
        socket.set_nagle_enabled(false);
        socket
    }

    pub fn listen(&mut self, port: u16, buffer: usize) -> SocketHandle {
        let mut socket = Self::socket(buffer);
        socket.listen(port).unwrap();
        self.sockets.add(socket)
    }

    pub fn connect(&mut self, local: u16, remote: SocketAddr, buffer: usize) -> SocketHandle {
        let mut socket = Self::socket(buffer);
        socket.connect(self.interface.context(), (remote.ip(), remote.port()), local).unwrap();
        self.sockets.add(socket)
    }

    pub fn receive(&mut self, packet: Vec<u8>) {
        self.device.received.push_back(packet);
    }

    /// Lets the stack work; returns what it sends.
    pub fn poll(&mut self, now: Instant) -> VecDeque<Vec<u8>> {
        self.interface.poll(clock(now), &mut self.device, &mut self.sockets);
        std::mem::take(&mut self.device.sent)
    }

    pub fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(clock(now), &self.sockets)?;
        Some(Instant::from_nanos(u64::try_from(at.total_micros()).unwrap() * 1_000).max(now))
    }

    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }
}

struct Received(Vec<u8>);

struct Sender<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Sender<'_>)> {
        let packet = self.received.pop_front()?;
        Some((Received(packet), Sender(&mut self.sent)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Sender<'_>> {
        Some(Sender(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}
