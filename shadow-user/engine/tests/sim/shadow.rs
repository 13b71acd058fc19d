//! The shadow: smoltcp as a TCP server on a raw IP device.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use shadow_engine::time::Instant;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::micros;

thread_local! {
    /// smoltcp asks a plain function for its timestamp clock.
    static TSVAL: Cell<u32> = const { Cell::new(0) };
}

/// How the server is set up.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    pub listen: SocketAddr,
    pub seed: u64,
    pub mtu: u16,
    pub receive_buffer: usize,
    pub send_buffer: usize,
    pub ack_delay: Option<Duration>,
    pub nagle: bool,
    pub timestamps: bool,
    pub timestamp_base: u32,
}

/// A smoltcp host with one listening socket.
pub struct Shadow {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    wire: Wire,
    timestamp_base: u32,
}

struct Wire {
    mtu: usize,
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let result = f(&mut bytes);
        self.0.push_back(bytes);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Rx, Tx<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Rx(packet), Tx(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

fn time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros((now.as_nanos() / 1000) as i64)
}

impl Shadow {
    pub fn new(config: ServerConfig, now: Instant) -> Self {
        let mut wire = Wire {
            mtu: usize::from(config.mtu),
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
        };
        let mut interface_config = Config::new(HardwareAddress::Ip);
        interface_config.random_seed = config.seed;
        let mut interface = Interface::new(interface_config, &mut wire, time(now));
        interface.update_ip_addrs(|addresses| {
            let prefix = if config.listen.is_ipv4() { 24 } else { 64 };
            addresses.push(IpCidr::new(config.listen.ip().into(), prefix)).expect("room");
        });
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; config.receive_buffer]),
            tcp::SocketBuffer::new(vec![0; config.send_buffer]),
        );
        socket.set_ack_delay(config.ack_delay.map(Into::into));
        socket.set_nagle_enabled(config.nagle);
        if config.timestamps {
            socket.set_tsval_generator(Some(|| TSVAL.get()));
        }
        socket.listen(config.listen.port()).expect("listens");
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self { interface, sockets, handle, wire, timestamp_base: config.timestamp_base }
    }

    /// The server's socket.
    pub fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// A packet arrives.
    pub fn handle_packet(&mut self, packet: Vec<u8>) {
        self.wire.incoming.push_back(packet);
    }

    /// Lets the stack work.
    pub fn poll(&mut self, now: Instant) {
        TSVAL.set((now.as_millis() as u32).wrapping_add(self.timestamp_base));
        self.interface.poll(time(now), &mut self.wire, &mut self.sockets);
    }

    /// When the stack wants to work again.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(time(now), &self.sockets)?;
        Some(micros(at.total_micros().max(0) as u64).max(now))
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.wire.outgoing.pop_front()
    }
}
