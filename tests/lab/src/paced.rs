//! A client that sends at a rate of its own, whatever the server does.
//!
//! A request's latency counts from when it was due, not from when a connection was free to take it:
//! a server that stalls is charged for every request that came due meanwhile (Tene's "coordinated
//! omission").

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::host::Host;

/// How long after the end a request may still be answered.
const GRACE: Duration = Duration::from_secs(3);
const PIECE: usize = 256 << 10;
const MAX_HEAD: usize = 16 << 10;
const CONNECT: Duration = Duration::from_secs(5);

/// What to send, and when.
#[derive(Clone, Debug)]
pub struct Paced {
    /// The server.
    pub target: SocketAddr,
    /// The request, the same each time.
    pub request: Vec<u8>,
    /// The most connections at a time.
    pub connections: usize,
    /// Requests per second, evenly spaced; `None`: the next when one is answered.
    pub rate: Option<u32>,
    /// A connection for each request, closed by the server.
    pub short: bool,
    /// How long requests come due.
    pub duration: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct PacedResult {
    /// Requests that came due.
    pub due: u64,
    /// Requests answered with 2xx or 3xx.
    pub answered: u64,
    /// Requests answered otherwise, not at all, or never sent.
    pub failed: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// From when a request was due to the end of its answer, nanoseconds. One without an answer
    /// counts with the time until it was given up.
    pub latency: Histogram<u64>,
}

impl PacedResult {
    /// The latency that this share (0 to 1) of requests did not exceed.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.latency.value_at_quantile(share))
    }
}

/// Sends from `client` what `paced` says.
///
/// # Errors
/// When the connections cannot be opened, or the kernel refuses what it needs.
pub fn paced(client: &Host, paced: &Paced) -> Result<PacedResult> {
    client.enter(|| {
        // Due times are 50 µs apart, which is what a timer may slip by default.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).context("timer slack")?;
        Run::new(paced)?.go()
    })?
}

struct Connection {
    stream: TcpStream,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Idle,
    Writing { due: Instant, at: usize },
    Reading { due: Instant, answer: Answer },
}

#[derive(Clone, Copy)]
enum Answer {
    Head,
    Body { left: u64, good: bool },
}

struct Run<'a> {
    plan: &'a Paced,
    poll: OwnedFd,
    /// By token; `None` between two short connections.
    connections: Vec<Option<Connection>>,
    /// The beginnings of answers, by token.
    heads: Vec<Vec<u8>>,
    idle: VecDeque<usize>,
    piece: Vec<u8>,
    began: Instant,
    begun: u64,
    result: PacedResult,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Paced) -> Result<Self> {
        ensure!(plan.connections > 0 && plan.rate != Some(0), "nothing to send: {plan:?}");
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?;
        let mut connections = Vec::with_capacity(plan.connections);
        for token in 0..plan.connections {
            if plan.short {
                connections.push(None);
                continue;
            }
            let stream = TcpStream::connect_timeout(&plan.target, CONNECT)
                .with_context(|| format!("connection {token} to {}", plan.target))?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            watch(&poll, &stream, token)?;
            connections.push(Some(Connection { stream, state: State::Idle }));
        }
        Ok(Self {
            plan,
            poll,
            idle: (0..plan.connections).collect(),
            heads: vec![Vec::new(); plan.connections],
            connections,
            piece: vec![0; PIECE],
            began: Instant::now(),
            begun: 0,
            result: PacedResult {
                due: 0,
                answered: 0,
                failed: 0,
                elapsed: Duration::ZERO,
                latency: Histogram::new(3).context("histogram")?,
            },
        })
    }

    fn go(mut self) -> Result<PacedResult> {
        let mut events = Vec::with_capacity(1_024);
        self.began = Instant::now();
        let end = self.began + self.plan.duration;
        let mut last_answer = self.began;
        loop {
            let now = Instant::now();
            let last = end + GRACE;
            let mut next = last;
            while let Some(&token) = self.idle.front() {
                let due = self.due(self.begun).unwrap_or(now);
                // Late ones are sent all the same.
                if due >= end || now > last {
                    break;
                }
                if due > now {
                    next = due;
                    break;
                }
                self.idle.pop_front();
                self.begun += 1;
                self.begin(token, due)?;
            }
            let is_done = self.due(self.begun).unwrap_or(now) >= end
                && self.idle.len() == self.connections.len();
            if is_done || now > last {
                break;
            }
            let wait = next.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: wait.as_secs().try_into()?,
                tv_nsec: wait.subsec_nanos().into(),
            };
            events.clear();
            let buffer = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.poll, buffer, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll"),
            }
            for event in &events {
                self.advance(usize::try_from(event.data.u64())?)?;
            }
            if !events.is_empty() {
                last_answer = Instant::now();
            }
        }
        self.give_up(end)?;
        self.result.elapsed = last_answer - self.began;
        Ok(self.result)
    }

    /// When request `number` is due; `None` when that is as soon as it can be sent.
    fn due(&self, number: u64) -> Option<Instant> {
        let rate = self.plan.rate?;
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate);
        Some(self.began + Duration::from_nanos(nanos as u64))
    }

    fn begin(&mut self, token: usize, due: Instant) -> Result<()> {
        self.heads[token].clear();
        if self.plan.short {
            match connect(self.plan.target) {
                Ok(stream) => {
                    watch(&self.poll, &stream, token)?;
                    let state = State::Writing { due, at: 0 };
                    self.connections[token] = Some(Connection { stream, state });
                    return Ok(()); // what comes next is that it is writable
                }
                Err(_) => return self.done(token, due, false),
            }
        }
        if let Some(connection) = &mut self.connections[token] {
            connection.state = State::Writing { due, at: 0 };
            return self.advance(token);
        }
        self.done(token, due, false)
    }

    /// Writes and reads what can be.
    fn advance(&mut self, token: usize) -> Result<()> {
        loop {
            let Some(connection) = &mut self.connections[token] else { return Ok(()) };
            match connection.state {
                State::Idle => {
                    // Nothing is due to come: the server has closed it.
                    match connection.stream.read(&mut self.piece) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        _ => self.connections[token] = None,
                    }
                    return Ok(());
                }
                State::Writing { due, at } => {
                    match connection.stream.write(&self.plan.request[at..]) {
                        Ok(len) if at + len == self.plan.request.len() => {
                            connection.state = State::Reading { due, answer: Answer::Head };
                        }
                        Ok(len) => connection.state = State::Writing { due, at: at + len },
                        Err(error) if is_early(&error) => return Ok(()),
                        Err(_) => return self.done(token, due, false),
                    }
                }
                State::Reading { due, answer } => {
                    let len = match connection.stream.read(&mut self.piece) {
                        Ok(0) => return self.done(token, due, false),
                        Ok(len) => len,
                        Err(error) if is_early(&error) => return Ok(()),
                        Err(_) => return self.done(token, due, false),
                    };
                    let answer = match answer {
                        Answer::Head => {
                            let head = &mut self.heads[token];
                            head.extend_from_slice(&self.piece[..len]);
                            parse(head).unwrap_or(Some(Answer::Body { left: 0, good: false }))
                        }
                        Answer::Body { left, good } => {
                            Some(Answer::Body { left: left.saturating_sub(len as u64), good })
                        }
                    };
                    match answer {
                        Some(Answer::Body { left: 0, good }) => {
                            return self.done(token, due, good);
                        }
                        Some(answer) => connection.state = State::Reading { due, answer },
                        None => {}
                    }
                }
            }
        }
    }

    fn done(&mut self, token: usize, due: Instant, good: bool) -> Result<()> {
        self.record(due.elapsed(), good)?;
        if self.plan.short || !good {
            // Dropped, it leaves the epoll set.
            self.connections[token] = None;
        } else if let Some(connection) = &mut self.connections[token] {
            connection.state = State::Idle;
        }
        self.idle.push_back(token);
        Ok(())
    }

    fn record(&mut self, latency: Duration, good: bool) -> Result<()> {
        self.result.due += 1;
        *if good { &mut self.result.answered } else { &mut self.result.failed } += 1;
        self.result.latency.record(u64::try_from(latency.as_nanos())?).context("histogram")
    }

    /// Counts what was not answered, and what came due and was never sent.
    fn give_up(&mut self, end: Instant) -> Result<()> {
        let now = Instant::now();
        for token in 0..self.connections.len() {
            let Some(connection) = self.connections[token].take() else { continue };
            if let State::Writing { due, .. } | State::Reading { due, .. } = connection.state {
                self.record(now - due, false)?;
            }
        }
        while let Some(due) = self.due(self.begun).filter(|due| *due < end) {
            self.begun += 1;
            self.record(now - due, false)?;
        }
        Ok(())
    }
}

/// What comes after this much of an answer: `None` when its head is not whole, an error when it is none.
fn parse(head: &[u8]) -> Result<Option<Answer>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(len) = response.parse(head)? else {
        ensure!(head.len() < MAX_HEAD, "a head of {} octets", head.len());
        return Ok(None);
    };
    let status = response.code.unwrap_or(0);
    let length = response.headers.iter().find(|it| it.name.eq_ignore_ascii_case("content-length"));
    let body = match length {
        Some(header) => std::str::from_utf8(header.value)?.trim().parse::<u64>()?,
        None => 0,
    };
    let left = body.saturating_sub((head.len() - len) as u64);
    Ok(Some(Answer::Body { left, good: (200..400).contains(&status) }))
}

fn watch(poll: &OwnedFd, stream: &TcpStream, token: usize) -> Result<()> {
    let data = epoll::EventData::new_u64(token as u64);
    let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
    epoll::add(poll, stream, data, flags).context("epoll")
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}

fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_followed_to_its_end() {
        let parse = |text: &str| parse(text.as_bytes()).unwrap();
        assert!(parse("HTTP/1.1 200 OK\r\nContent-").is_none());
        let Some(Answer::Body { left, good }) =
            parse("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab")
        else {
            panic!("a whole head")
        };
        assert_eq!((left, good), (3, true));
        let Some(Answer::Body { left, good }) = parse("HTTP/1.1 503 No\r\n\r\n") else {
            panic!("a whole head")
        };
        assert_eq!((left, good), (0, false));
    }
}
