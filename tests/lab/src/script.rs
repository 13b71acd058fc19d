//! A server that misbehaves as told.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;

/// How often a connection without traffic looks whether the server has ended.
const LOOK: Duration = Duration::from_millis(100);

const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n\
    0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What a connection meets; read when it is accepted, and kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Behaviour {
    /// A small page for every read; requests are not parsed, and must come one by one.
    Answers,
    /// Reads everything and says nothing.
    Hangs,
    /// The page, ten octets a second.
    Trickles,
    /// FIN right after the handshake.
    ClosesAtOnce,
    /// RST at the first octets of a request.
    Resets,
    /// A page whose end is missing, then FIN.
    ClosesEarly,
    /// Octets that are no HTTP, for every read.
    Garbage,
    /// A response of this many octets for the first read.
    Floods(u64),
    /// Never reads, so that its window closes.
    ShutsWindow,
}

/// A TCP server of the lab's own. Ends, with its connections, when dropped.
#[derive(Debug)]
pub struct ScriptedServer {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    behaviour: Mutex<Behaviour>,
    ended: AtomicBool,
    accepted: AtomicU64,
    written: AtomicU64,
    read: AtomicU64,
}

impl ScriptedServer {
    /// Listens on `port` of `host`, IPv4 and IPv6.
    ///
    /// # Errors
    /// When the port is in use.
    pub fn start(host: &Host, port: u16, behaviour: Behaviour) -> Result<Self> {
        let listener = host.enter(|| TcpListener::bind(("::", port)))?.context("bind")?;
        listener.set_nonblocking(true)?;
        if behaviour == Behaviour::ShutsWindow {
            // Accepted sockets inherit it; the kernel takes at least 2,304 octets.
            rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 4_096)?;
        }
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            ended: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            written: AtomicU64::new(0),
            read: AtomicU64::new(0),
        });
        let seen = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &seen));
        Ok(Self { shared, acceptor: Some(acceptor) })
    }

    /// What connections meet from now on.
    pub fn set(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// Connections accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Octets read.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.shared.read.load(Ordering::Relaxed)
    }

    /// Octets that the kernel took.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections = Vec::new();
    while !shared.ended.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            sleep(Duration::from_millis(1));
            continue;
        };
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(shared);
        connections.retain(|connection: &JoinHandle<()>| !connection.is_finished());
        connections.push(std::thread::spawn(move || {
            let behaviour = *shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner);
            // A peer that goes away ends the scene.
            let _ = serve(stream, behaviour, &shared);
        }));
    }
    for connection in connections {
        let _ = connection.join();
    }
}

fn serve(mut stream: TcpStream, behaviour: Behaviour, shared: &Shared) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(LOOK))?;
    stream.set_nodelay(true)?;
    match behaviour {
        Behaviour::ClosesAtOnce => return Ok(()),
        Behaviour::ShutsWindow => {
            while !shared.ended.load(Ordering::Relaxed) && stream.take_error()?.is_none() {
                sleep(LOOK);
            }
            return Ok(());
        }
        _ => {}
    }
    let mut piece = vec![0; 64 << 10];
    while read(&mut stream, &mut piece, shared)? > 0 {
        match behaviour {
            Behaviour::Answers => write(&mut stream, PAGE, shared)?,
            Behaviour::Trickles => {
                for octet in PAGE {
                    write(&mut stream, std::slice::from_ref(octet), shared)?;
                    sleep(LOOK);
                }
            }
            Behaviour::Resets => {
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
                return Ok(());
            }
            Behaviour::ClosesEarly => return write(&mut stream, &PAGE[..60], shared),
            Behaviour::Garbage => write(&mut stream, b"\x16\x03\x00 no HTTP\n\n\n", shared)?,
            Behaviour::Floods(len) => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n");
                write(&mut stream, head.as_bytes(), shared)?;
                let mut left = len;
                while left > 0 {
                    let now = left.min(piece.len() as u64);
                    write(&mut stream, &piece[..usize::try_from(now).unwrap_or(0)], shared)?;
                    left -= now;
                }
            }
            Behaviour::Hangs | Behaviour::ClosesAtOnce | Behaviour::ShutsWindow => {}
        }
    }
    Ok(())
}

/// Reads what has come; 0 at the end of the connection or of the server.
fn read(stream: &mut TcpStream, piece: &mut [u8], shared: &Shared) -> io::Result<usize> {
    while !shared.ended.load(Ordering::Relaxed) {
        match stream.read(piece) {
            Err(error) if is_timeout(&error) => {}
            other => {
                let len = other?;
                shared.read.fetch_add(len as u64, Ordering::Relaxed);
                return Ok(len);
            }
        }
    }
    Ok(0)
}

fn write(stream: &mut TcpStream, mut bytes: &[u8], shared: &Shared) -> io::Result<()> {
    while !bytes.is_empty() {
        if shared.ended.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match stream.write(bytes) {
            Ok(len) => {
                shared.written.fetch_add(len as u64, Ordering::Relaxed);
                bytes = &bytes[len..];
            }
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
