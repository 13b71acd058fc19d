//! The way of exchanges from the worker to the thread that compares them: bounded, and never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use shadow_engine::exchange::{Body, Exchange, Head, Response};

/// Exchanges that may wait.
const MAX_WAITING: usize = 8_192;

/// Octets of all that wait.
pub const MAX_QUEUED: usize = 8 << 20;

/// The worker's end.
#[derive(Debug)]
pub struct Sender {
    exchanges: SyncSender<(Exchange, usize)>,
    queued: Arc<AtomicUsize>,
    /// Exchanges that were taken.
    pub queued_total: u64,
    /// Exchanges for which there was no room, or that nobody takes any more.
    pub queue_full: u64,
}

/// The other end.
#[derive(Debug)]
pub struct Exchanges {
    exchanges: Receiver<(Exchange, usize)>,
    queued: Arc<AtomicUsize>,
}

/// Both ends.
#[must_use]
pub fn queue() -> (Sender, Exchanges) {
    let (sender, receiver) = sync_channel(MAX_WAITING);
    let queued = Arc::new(AtomicUsize::new(0));
    let sender =
        Sender { exchanges: sender, queued: Arc::clone(&queued), queued_total: 0, queue_full: 0 };
    (sender, Exchanges { exchanges: receiver, queued })
}

impl Sender {
    /// Hands an exchange over, or counts it as shed.
    pub fn send(&mut self, exchange: Exchange) {
        let len = memory(&exchange);
        let fits = self.queued.fetch_add(len, Ordering::Relaxed) + len <= MAX_QUEUED;
        let sent = fits
            && match self.exchanges.try_send((exchange, len)) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
            };
        if sent {
            self.queued_total += 1;
        } else {
            self.queued.fetch_sub(len, Ordering::Relaxed);
            self.queue_full += 1;
        }
    }
}

impl Exchanges {
    /// The next exchange, if one comes within `limit`.
    ///
    /// # Errors
    /// `Timeout` when none came, `Disconnected` when none will.
    pub fn next_within(&mut self, limit: Duration) -> Result<Exchange, RecvTimeoutError> {
        let (exchange, len) = self.exchanges.recv_timeout(limit)?;
        self.queued.fetch_sub(len, Ordering::Relaxed);
        Ok(exchange)
    }
}

/// Octets of an exchange, about.
fn memory(exchange: &Exchange) -> usize {
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

    fn exchange(body: usize) -> Exchange {
        Exchange {
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
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_makes_no_one_wait() {
        let (mut sender, mut exchanges) = queue();
        for _ in 0..9 {
            sender.send(exchange(1 << 20));
        }
        assert_eq!((sender.queued_total, sender.queue_full), (7, 2));
        exchanges.next_within(Duration::ZERO).unwrap();
        sender.send(exchange(1 << 20));
        assert_eq!((sender.queued_total, sender.queue_full), (8, 2));
        for _ in 0..=MAX_WAITING {
            sender.send(exchange(0));
        }
        assert!(sender.queue_full > 2);
        drop(exchanges);
        sender.send(exchange(0));
        let Sender { queued_total, queue_full, .. } = sender;
        assert_eq!(queued_total + queue_full, 9 + 1 + MAX_WAITING as u64 + 1 + 1);
    }
}
