//! A generated mix of HTTP/1.1 traffic in which every answer is checked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::content;
use crate::host::Host;
use crate::http::{Body, Connection, Request, Response};
use crate::nginx::FILES;

const TIMEOUT: Duration = Duration::from_secs(30);
/// Failures kept with their text; more are counted only.
const KEPT_FAILURES: usize = 100;

/// What to send. The same seed gives the same requests per worker; which worker takes the next one of
/// the total is left to the scheduler.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Servers; each new connection draws one.
    pub targets: Vec<SocketAddr>,
    /// Connections open at a time.
    pub connections: usize,
    /// Requests in total; `None` until told to stop.
    pub requests: Option<u64>,
    /// Requests per second in total; `None` as fast as they are answered.
    pub rate: Option<u32>,
    /// The largest request body, bytes, at most 16 MiB. Sizes are drawn by magnitude: most are small.
    pub max_body: usize,
    /// Connections that carry a single request, percent.
    pub short_percent: u64,
    /// The most requests on one of the other connections.
    pub max_per_connection: u64,
    /// Leave out `Expect: 100-continue` and pipelining, which curl and browsers rarely use.
    pub plain: bool,
    /// Begins each request id, and seeds the choice.
    pub seed: u64,
}

impl Mix {
    /// Eight connections with everything in it, bodies up to 1 MiB, until told to stop.
    #[must_use]
    pub fn new(targets: Vec<SocketAddr>, seed: u64) -> Self {
        Self {
            targets,
            connections: 8,
            requests: None,
            rate: None,
            max_body: 1 << 20,
            short_percent: 50,
            max_per_connection: 40,
            plain: false,
            seed,
        }
    }
}

/// What runs, readable while it does.
#[derive(Debug, Default)]
pub struct Progress {
    /// Set it to end the run after the requests under way.
    pub stop: AtomicBool,
    /// Requests begun.
    pub sent: AtomicU64,
    /// Requests answered as expected.
    pub completed: AtomicU64,
    /// Requests without an answer or with a wrong one.
    pub failed: AtomicU64,
    /// Connections opened.
    pub connections: AtomicU64,
    /// Bytes of request content sent.
    pub body_bytes: AtomicU64,
}

/// A request that was answered as expected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Completed {
    /// Its `X-Request-Id`.
    pub id: String,
    /// `GET`, …
    pub method: &'static str,
    /// Path and query.
    pub uri: String,
    /// The status answered.
    pub status: u16,
    /// Of the body sent, when the location hashes it.
    pub body_sha256: Option<String>,
    /// Bytes of content sent.
    pub body_len: usize,
    /// From before the first write (or connect) to the end of the response.
    pub latency: Duration,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every request answered as expected.
    pub completed: Vec<Completed>,
    /// What went wrong, the first hundred.
    pub failures: Vec<String>,
    /// Connections opened.
    pub connections: u64,
}

impl Report {
    /// The latency that `percent` of the requests stayed below.
    #[must_use]
    pub fn latency(&self, percent: usize) -> Duration {
        let mut all: Vec<_> = self.completed.iter().map(|request| request.latency).collect();
        all.sort_unstable();
        let index = (all.len() * percent.min(100) / 100).min(all.len().saturating_sub(1));
        all.get(index).copied().unwrap_or_default()
    }
}

/// Runs `mix` from `client` until its number of requests is reached or `progress.stop` is set.
///
/// # Errors
/// When the client's namespace cannot be entered. Failed requests are in the report.
pub fn run(client: &Host, mix: &Mix, progress: &Progress) -> Result<Report> {
    ensure!(mix.max_body <= 16 << 20, "bodies are at most 16 MiB");
    ensure!(!mix.targets.is_empty(), "no target");
    let tickets = AtomicU64::new(0);
    let workers: Vec<Result<Report>> = std::thread::scope(|scope| {
        let start = |number| {
            let tickets = &tickets;
            scope.spawn(move || {
                client.enter_for_good()?;
                Ok(Worker::new(mix, progress, tickets, number).run())
            })
        };
        let handles: Vec<_> = (0..mix.connections.max(1)).map(start).collect();
        let join = |handle: std::thread::ScopedJoinHandle<'_, _>| {
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        handles.into_iter().map(join).collect()
    });
    let mut total = Report::default();
    for worker in workers {
        let worker = worker?;
        total.completed.extend(worker.completed);
        total.failures.extend(worker.failures);
        total.connections += worker.connections;
    }
    total.failures.truncate(KEPT_FAILURES);
    Ok(total)
}

/// A request and the answer it must get.
struct Planned {
    id: String,
    request: Request,
    status: u16,
    answer: Option<Vec<u8>>,
    body_sha256: Option<String>,
}

struct Worker<'a> {
    mix: &'a Mix,
    progress: &'a Progress,
    tickets: &'a AtomicU64,
    number: usize,
    drawn: u64,
    random: ChaCha8Rng,
    report: Report,
    began: Instant,
}

impl<'a> Worker<'a> {
    fn new(mix: &'a Mix, progress: &'a Progress, tickets: &'a AtomicU64, number: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(mix.seed);
        random.set_stream(number as u64);
        let (report, began) = (Report::default(), Instant::now());
        Self { mix, progress, tickets, number, drawn: 0, random, report, began }
    }

    fn run(mut self) -> Report {
        let mut left = self.take_tickets(1);
        while left > 0 {
            if let Err(error) = self.run_connection(&mut left) {
                self.progress.failed.fetch_add(1, Ordering::Relaxed);
                if self.report.failures.len() < KEPT_FAILURES {
                    self.report.failures.push(format!("{error:#}"));
                }
                left = self.take_tickets(1);
            }
        }
        self.report
    }

    /// One connection with its requests. `left` is the number of requests that may be sent at once;
    /// on return it is zero when the run is over.
    fn run_connection(&mut self, left: &mut u64) -> Result<()> {
        let target = self.mix.targets[self.below(self.mix.targets.len() as u64) as usize];
        let mut budget = if self.below(100) < self.mix.short_percent {
            1
        } else {
            2 + self.below(self.mix.max_per_connection.max(2) - 1)
        };
        // Either side closes first, as in life.
        let announce_close = self.below(2) == 0;
        let mut connection: Option<Connection> = None;
        while *left > 0 && budget > 0 {
            budget -= 1;
            let mut batch = vec![self.plan()];
            if budget == 0 && announce_close {
                batch[0].request.headers.push(("Connection", "close".into()));
            } else if !self.mix.plain && is_bare_get(&batch[0].request) && self.below(20) == 0 {
                self.pipeline(&mut batch);
            }
            let sent_at = Instant::now();
            let connection = match &mut connection {
                Some(open) => open,
                empty => {
                    let stream = std::net::TcpStream::connect_timeout(&target, TIMEOUT);
                    self.progress.connections.fetch_add(1, Ordering::Relaxed);
                    self.report.connections += 1;
                    empty.insert(Connection::new(stream.context("connect")?, TIMEOUT)?)
                }
            };
            self.progress.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
            self.send(connection, &batch)?;
            for planned in batch {
                let id = planned.id.clone();
                self.receive(connection, planned, sent_at)
                    .with_context(|| format!("request {id}"))?;
            }
            *left = self.take_tickets(1);
        }
        Ok(())
    }

    /// Adds up to three more bare GETs to be sent in the same segment.
    fn pipeline(&mut self, batch: &mut Vec<Planned>) {
        for _ in 0..self.below(3) {
            if self.take_tickets(1) == 0 {
                break;
            }
            let planned = self.plan_get();
            batch.push(planned);
        }
    }

    fn send(&mut self, connection: &mut Connection, batch: &[Planned]) -> Result<()> {
        if let [one] = batch
            && one.request.expect_continue
        {
            // `receive` runs the whole exchange.
            return Ok(());
        }
        let mut bytes = Vec::new();
        let mut head_len = 0;
        for planned in batch {
            bytes.extend_from_slice(&planned.request.head());
            head_len = bytes.len();
            bytes.extend_from_slice(&planned.request.framed_body());
        }
        // Cuts that do and do not fall on message boundaries.
        let cut = match self.below(4) {
            0 => head_len,
            1 => self.below(bytes.len() as u64) as usize,
            _ => 0,
        };
        connection.write(&bytes[..cut])?;
        connection.write(&bytes[cut..])
    }

    fn receive(
        &mut self,
        connection: &mut Connection,
        planned: Planned,
        sent_at: Instant,
    ) -> Result<()> {
        let response = if planned.request.expect_continue {
            connection.exchange(&planned.request)?
        } else {
            connection.receive(planned.request.method == "HEAD")?
        };
        check(&planned, &response)?;
        let body_len = planned.request.content().len();
        self.progress.completed.fetch_add(1, Ordering::Relaxed);
        self.progress.body_bytes.fetch_add(body_len as u64, Ordering::Relaxed);
        self.report.completed.push(Completed {
            id: planned.id,
            method: planned.request.method,
            uri: planned.request.uri,
            status: planned.status,
            body_sha256: planned.body_sha256,
            body_len,
            latency: sent_at.elapsed(),
        });
        Ok(())
    }

    /// The right to send `count` requests, or 0 when the run is over. Waits for the rate.
    fn take_tickets(&mut self, count: u64) -> u64 {
        if self.progress.stop.load(Ordering::Relaxed) {
            return 0;
        }
        let ticket = self.tickets.fetch_add(count, Ordering::Relaxed);
        if self.mix.requests.is_some_and(|total| ticket + count > total) {
            return 0;
        }
        if let Some(rate) = self.mix.rate {
            let due = Duration::from_secs_f64(ticket as f64 / f64::from(rate.max(1)));
            sleep(due.saturating_sub(self.began.elapsed()));
        }
        count
    }

    fn plan(&mut self) -> Planned {
        match self.below(100) {
            0..45 => self.plan_get(),
            45..60 => self.plan_made(),
            60..65 => self.plan_file("HEAD", FILES[1]),
            65..68 => self.plan_file("GET", FILES[2]),
            68..70 => self.plan_missing(),
            _ => self.plan_upload(),
        }
    }

    fn plan_get(&mut self) -> Planned {
        let file = FILES[self.below(2) as usize];
        self.plan_file("GET", file)
    }

    fn plan_file(&mut self, method: &'static str, file: (&str, usize, usize)) -> Planned {
        let (name, offset, len) = file;
        let answer = (method != "HEAD").then(|| content::bytes(offset, len).to_vec());
        let request = Request { method, ..Request::get(&format!("/{name}")) };
        self.planned(request, 200, answer, false)
    }

    fn plan_made(&mut self) -> Planned {
        let len = self.size(1 << 18);
        let offset = self.below((content::POOL_LEN - len) as u64) as usize;
        let query = if self.below(2) == 0 { "?chunked" } else { "" };
        let request = Request::get(&format!("/made/{offset}/{len}{query}"));
        self.planned(request, 200, Some(content::bytes(offset, len).to_vec()), true)
    }

    fn plan_missing(&mut self) -> Planned {
        self.planned(Request::get("/no-such-file"), 404, None, false)
    }

    fn plan_upload(&mut self) -> Planned {
        let len = self.size(self.mix.max_body);
        let offset = self.below((content::POOL_LEN - len) as u64) as usize;
        let bytes = content::bytes(offset, len).to_vec();
        let answer = format!("{} {len}\n", content::sha256_hex(&bytes)).into_bytes();
        let mut request = Request::post("/digest", bytes);
        if let (0, Body::Length(bytes)) = (self.below(4), &mut request.body) {
            let chunk = 1 + self.below(20_000) as usize;
            request.body = Body::Chunked(std::mem::take(bytes), chunk);
        }
        request.expect_continue = !self.mix.plain && len > 0 && self.below(16) == 0;
        self.planned(request, 200, Some(answer), true)
    }

    fn planned(
        &mut self,
        request: Request,
        status: u16,
        answer: Option<Vec<u8>>,
        hashed: bool,
    ) -> Planned {
        let id = format!("{:x}-{}-{}", self.mix.seed, self.number, self.drawn);
        self.drawn += 1;
        let body_sha256 = hashed.then(|| content::sha256_hex(request.content()));
        let request = request.header("X-Request-Id", id.clone());
        Planned { id, request, status, answer, body_sha256 }
    }

    /// A size up to `max`: one in eight is zero, the others are even over the orders of magnitude.
    fn size(&mut self, max: usize) -> usize {
        if max == 0 || self.below(8) == 0 {
            return 0;
        }
        let magnitude = self.below(u64::from(max.ilog2()) + 1);
        let least = 1u64 << magnitude;
        let size = usize::try_from(least + self.below(least)).unwrap_or(max);
        size.min(max)
    }

    /// An even number below `limit`, near enough for traffic.
    fn below(&mut self, limit: u64) -> u64 {
        self.random.next_u64() % limit.max(1)
    }
}

fn is_bare_get(request: &Request) -> bool {
    request.method == "GET" && request.body == Body::None
}

fn check(planned: &Planned, response: &Response) -> Result<()> {
    ensure!(
        response.status == planned.status,
        "{} answered {} instead of {}",
        planned.request.uri,
        response.status,
        planned.status
    );
    if let Some(answer) = &planned.answer {
        ensure!(
            response.body == *answer,
            "{} answered {} other bytes than the {} expected",
            planned.request.uri,
            response.body.len(),
            answer.len()
        );
    }
    Ok(())
}
