//! The way of exchanges from the worker to the thread that compares them, and back: bounded, and never
//! waited for.
//!
//! They go back because memory is given back cheapest by the thread that has asked for it: in another one, the
//! allocator takes a lock for which the worker then waits. And one by one, as new ones are asked for: then each takes
//! the place of the last, which the allocator has at hand, where many at once go to its heap and are cut out of it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use shadow_engine::exchange::{Body, Exchange, Head, Response};

use crate::shadows::Role;

/// Exchanges that may wait.
const MAX_WAITING: usize = 8_192;

/// Octets of all that wait.
pub const MAX_QUEUED: usize = 8 << 20;

/// With exchanges, they are left to gather for this long: waking this thread for a few of them costs the worker
/// more than handing them over does.
const NAP: Duration = Duration::from_millis(2);

/// Exchanges that go back together.
const SPENT: usize = 64;

/// Exchanges that go back as they came.
type Batch = Vec<Box<Exchange>>;

/// There is no room for an exchange, or nobody takes any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Full;

/// An exchange that is to be compared, and with whom it was.
#[derive(Debug)]
pub struct Handed {
    /// What the shadow is there for.
    pub role: Role,
    /// The shadow, as its user calls it.
    pub shadow: Arc<str>,
    /// What was asked, and both answers.
    pub exchange: Box<Exchange>,
}

/// The worker's end.
#[derive(Debug)]
pub struct Sender {
    exchanges: SyncSender<(Handed, usize)>,
    queued: Arc<AtomicUsize>,
    spent: Receiver<Batch>,
    /// Those of [`Self::spent`] that go next.
    next: Batch,
}

/// The other end.
#[derive(Debug)]
pub struct Exchanges {
    exchanges: Receiver<(Handed, usize)>,
    queued: Arc<AtomicUsize>,
    /// Whether there were some since the last rest.
    is_busy: bool,
    back: SyncSender<Batch>,
}

/// The way back.
#[derive(Debug)]
pub struct Spent {
    /// Those that go next.
    next: Batch,
    back: SyncSender<Batch>,
}

/// Both ends.
#[must_use]
pub fn queue() -> (Sender, Exchanges) {
    let (sender, receiver) = sync_channel(MAX_WAITING);
    let (back, spent) = sync_channel(MAX_WAITING / SPENT);
    let queued = Arc::new(AtomicUsize::new(0));
    let exchanges =
        Exchanges { exchanges: receiver, queued: Arc::clone(&queued), is_busy: false, back };
    (Sender { exchanges: sender, queued, spent, next: Batch::new() }, exchanges)
}

impl Sender {
    /// Hands over an exchange.
    ///
    /// # Errors
    /// When it is lost, and to be counted.
    pub fn send(&mut self, handed: Handed) -> Result<(), Full> {
        let len = memory(&handed.exchange);
        let fits = self.queued.fetch_add(len, Ordering::Relaxed) + len <= MAX_QUEUED;
        let sent = fits && self.exchanges.try_send((handed, len)).is_ok();
        if sent {
            return Ok(());
        }
        self.queued.fetch_sub(len, Ordering::Relaxed);
        Err(Full)
    }

    /// Gives the memory of up to `count` exchanges back that were compared.
    pub fn free(&mut self, count: usize) {
        for _ in 0..count {
            if self.next.is_empty() {
                let Ok(next) = self.spent.try_recv() else { return };
                self.next = next;
            }
            self.next.pop();
        }
    }

    /// Gives the memory of all exchanges back that were compared.
    pub fn free_all(&mut self) {
        self.next.clear();
        self.spent.try_iter().for_each(drop);
    }
}

impl Exchanges {
    /// The next exchange, if one comes within `limit`.
    ///
    /// # Errors
    /// `Timeout` when none came, `Disconnected` when none will.
    pub fn next_within(&mut self, limit: Duration) -> Result<Handed, RecvTimeoutError> {
        let (handed, len) = match self.exchanges.try_recv() {
            Ok(handed) => handed,
            Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => {
                if std::mem::take(&mut self.is_busy) {
                    thread::sleep(NAP.min(limit));
                }
                self.exchanges.recv_timeout(limit)?
            }
        };
        self.is_busy = true;
        self.queued.fetch_sub(len, Ordering::Relaxed);
        Ok(handed)
    }

    /// The way back for those that were compared.
    #[must_use]
    pub fn spent(&self) -> Spent {
        Spent { next: Vec::with_capacity(SPENT), back: self.back.clone() }
    }
}

impl Spent {
    /// Takes an exchange that was compared.
    pub fn take(&mut self, exchange: Box<Exchange>) {
        self.next.push(exchange);
        if self.next.len() == SPENT {
            let spent = std::mem::replace(&mut self.next, Vec::with_capacity(SPENT));
            // With no room there they are given back here.
            let _ = self.back.try_send(spent);
        }
    }
}

/// Octets of an exchange, about.
#[must_use]
pub fn memory(exchange: &Exchange) -> usize {
    let body = |body: &Body| body.kept.capacity();
    let response = |response: &Response| {
        head(&response.head) + head(&response.trailers) + body(&response.body)
    };
    let Exchange { request, production, shadow, .. } = exchange;
    let texts = request.method.len() + request.target.len();
    let responses = [production, shadow].into_iter().flatten().map(response).sum::<usize>();
    size_of::<Exchange>() + texts + head(&request.head) + body(&request.body) + responses
}

fn head(head: &Head) -> usize {
    match head {
        Head::Http1(octets) => octets.len(),
        Head::Fields(fields) => fields
            .iter()
            .map(|(name, value)| size_of_val(name) * 2 + name.len() + value.len())
            .sum(),
    }
}

#[cfg(test)]
mod tests {
    use shadow_engine::exchange::{Protocol, Request, Unpaired};
    use shadow_engine::time::Instant;

    use super::*;

    fn handed(body: usize) -> Handed {
        let exchange = Exchange {
            protocol: Protocol::Http1,
            client: "192.0.2.1:40000".parse().unwrap(),
            server: "192.0.2.2:80".parse().unwrap(),
            number: 0,
            request: Request {
                at: Instant::default(),
                method: "GET".into(),
                target: "/".into(),
                head: Head::default(),
                body: Body { len: body as u64, kept: vec![0; body], hash: None },
            },
            production: Err(Unpaired::Closed),
            shadow: Err(Unpaired::Closed),
        };
        Handed { role: Role::Shadow, shadow: "10.0.0.9:80".into(), exchange: Box::new(exchange) }
    }

    #[test]
    fn what_was_compared_is_freed_piece_by_piece_and_at_rest_all_of_it() {
        let (mut sender, exchanges) = queue();
        let mut spent = exchanges.spent();
        for _ in 0..2 * SPENT {
            spent.take(handed(0).exchange);
        }
        sender.free(SPENT - 1);
        assert_eq!(sender.next.len(), 1);
        sender.free(3);
        assert_eq!(sender.next.len(), SPENT - 2);
        sender.free_all();
        sender.free(1);
        assert_eq!(sender.next.len(), 0);
        assert!(sender.spent.try_recv().is_err());
    }

    #[test]
    fn what_does_not_fit_is_counted_and_makes_no_one_wait() {
        let (mut sender, mut exchanges) = queue();
        let mut send = |body| sender.send(handed(body));
        for index in 0..9 {
            assert_eq!(send(1 << 20).is_ok(), index < 7, "{index}");
        }
        exchanges.next_within(Duration::ZERO).unwrap();
        assert_eq!(send(1 << 20), Ok(()));
        let taken = (0..=MAX_WAITING).filter(|_| send(0).is_ok()).count();
        assert!(taken < MAX_WAITING, "{taken}");
        for _ in 0..2 {
            exchanges.next_within(Duration::ZERO).unwrap();
        }
        assert_eq!(send(0), Ok(()));
        drop(exchanges);
        assert_eq!(send(0), Err(Full));
    }
}
