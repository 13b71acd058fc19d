//! Answers whose session has ended before production had answered.

use std::collections::{HashMap, VecDeque};

use super::{Answers, Want};
use crate::engine::{FlowKey, SeededHash};
use crate::time::{Duration, Instant};

/// How long production may take to answer after the session.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most that are kept; the oldest is given up first.
const MAX_TRAILING: usize = 4_096;

/// Answers without a session, by their flow. Bounded.
#[derive(Debug)]
pub(crate) struct Trailing {
    answers: HashMap<FlowKey, One, SeededHash>,
    /// When they are given up, in order; some have gone before.
    queue: VecDeque<(Instant, FlowKey)>,
    memory: usize,
    /// Of the one that was removed last, for when it is put back.
    deadline: Instant,
}

#[derive(Debug)]
struct One {
    answers: Box<Answers>,
    deadline: Instant,
    accounted: usize,
}

/// Why answers are given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum GivenUp {
    /// Production has not answered in time.
    Late,
    /// There were too many.
    Crowded,
}

impl Trailing {
    pub(crate) fn new(hash: SeededHash) -> Self {
        Self {
            answers: HashMap::with_hasher(hash),
            queue: VecDeque::new(),
            memory: 0,
            deadline: Instant::NEVER,
        }
    }

    /// Adds what a session has left.
    pub(crate) fn insert(&mut self, key: FlowKey, answers: Box<Answers>, now: Instant) {
        self.deadline = now + PATIENCE;
        if self.queue.len() >= 2 * MAX_TRAILING {
            // One that stays would keep the places of all behind it that have gone.
            let Self { answers, queue, .. } = self;
            queue.retain(|(deadline, key)| {
                answers.get(key).is_some_and(|one| one.deadline == *deadline)
            });
        }
        self.queue.push_back((self.deadline, key));
        self.put_back(key, answers);
    }

    /// Adds again what was removed last; its time goes on.
    pub(crate) fn put_back(&mut self, key: FlowKey, answers: Box<Answers>) {
        let accounted = answers.memory();
        self.memory += accounted;
        self.answers.insert(key, One { answers, deadline: self.deadline, accounted });
    }

    pub(crate) fn remove(&mut self, key: &FlowKey) -> Option<Box<Answers>> {
        let One { answers, deadline, accounted } = self.answers.remove(key)?;
        self.memory -= accounted;
        self.deadline = deadline;
        Some(answers)
    }

    /// What is wanted for a flow.
    pub(crate) fn wanted(&self, key: &FlowKey) -> Option<Want> {
        self.answers.get(key)?.answers.wanted()
    }

    /// The flows of all.
    pub(crate) fn keys(&self) -> Vec<FlowKey> {
        self.answers.keys().copied().collect()
    }

    /// The next that is to be given up `now`, since it is late, or since all take more than `most`.
    pub(crate) fn pop_due(
        &mut self,
        now: Instant,
        most: usize,
    ) -> Option<(FlowKey, Box<Answers>, GivenUp)> {
        while let Some((deadline, key)) = self.queue.front().copied() {
            // Another of the same flow may have come since.
            let is_there = self.answers.get(&key).is_some_and(|one| one.deadline == deadline);
            let is_crowded = self.answers.len() > MAX_TRAILING || self.memory > most;
            if is_there && now < deadline && !is_crowded {
                return None;
            }
            self.queue.pop_front();
            if is_there {
                let why = if now >= deadline { GivenUp::Late } else { GivenUp::Crowded };
                return self.remove(&key).map(|answers| (key, answers, why));
            }
        }
        None
    }

    /// When [`Self::pop_due`] has something.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.queue.front().map(|(deadline, _)| *deadline)
    }

    /// Octets of all.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::exchange::{Depth, Limits, Unpaired};
    use crate::seq::SeqNum;

    const ROOM: usize = 1 << 20;

    fn at(seconds: u64) -> Instant {
        Instant::default() + Duration::from_secs(seconds)
    }

    fn ends(port: u16) -> (SocketAddr, SocketAddr) {
        (([192, 0, 2, 1], port).into(), ([192, 0, 2, 80], 80).into())
    }

    fn key(port: u16) -> FlowKey {
        let (client, production) = ends(port);
        FlowKey::new(client, production)
    }

    /// Of a flow with one request that the shadow did not answer.
    fn answers(port: u16) -> Box<Answers> {
        let (client, production) = ends(port);
        let limits = Limits { depth: Depth::Body, ..Limits::default() };
        let mut answers = Answers::new(limits, client, production, SeqNum::new(1));
        answers.requested(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", at(0));
        answers.shadow_ended(Unpaired::Aborted, at(0));
        Box::new(answers)
    }

    fn trailing() -> Trailing {
        Trailing::new(SeededHash::new([7; 16]))
    }

    fn due(trailing: &mut Trailing, now: Instant, most: usize) -> Vec<(FlowKey, GivenUp)> {
        std::iter::from_fn(|| trailing.pop_due(now, most)).map(|(key, _, why)| (key, why)).collect()
    }

    #[test]
    fn production_has_thirty_seconds() {
        let mut trailing = trailing();
        trailing.insert(key(1), answers(1), at(0));
        trailing.insert(key(2), answers(2), at(10));
        assert_eq!(trailing.poll_timeout(), Some(at(30)));
        assert_eq!(due(&mut trailing, at(29), ROOM), []);
        // An answer that has come in part gives no more time.
        let taken = trailing.remove(&key(1)).unwrap();
        trailing.put_back(key(1), taken);
        assert_eq!(due(&mut trailing, at(30), ROOM), [(key(1), GivenUp::Late)]);
        assert_eq!(trailing.wanted(&key(1)), None);
        assert_eq!(trailing.wanted(&key(2)), Some(Want::All));
        assert_eq!(due(&mut trailing, at(40), ROOM), [(key(2), GivenUp::Late)]);
        assert_eq!((trailing.memory(), trailing.poll_timeout()), (0, None));
    }

    #[test]
    fn a_later_session_of_the_same_flow_has_its_own_time() {
        let mut trailing = trailing();
        trailing.insert(key(1), answers(1), at(0));
        assert!(trailing.remove(&key(1)).is_some());
        trailing.insert(key(1), answers(1), at(20));
        assert_eq!(due(&mut trailing, at(30), ROOM), []);
        assert_eq!(due(&mut trailing, at(50), ROOM), [(key(1), GivenUp::Late)]);
    }

    #[test]
    fn those_that_have_gone_take_no_place() {
        let mut trailing = trailing();
        trailing.insert(key(1), answers(1), at(0));
        for _ in 0..10 * MAX_TRAILING {
            trailing.insert(key(2), answers(2), at(1));
            assert!(trailing.remove(&key(2)).is_some());
        }
        assert!(trailing.queue.len() <= 2 * MAX_TRAILING, "{}", trailing.queue.len());
        assert_eq!(due(&mut trailing, at(31), ROOM), [(key(1), GivenUp::Late)]);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let mut trailing = trailing();
        let one = answers(0).memory();
        let crowded = |ports: std::ops::Range<u16>| -> Vec<_> {
            ports.map(|port| (key(port), GivenUp::Crowded)).collect()
        };
        for port in 0..10 {
            trailing.insert(key(port), answers(port), at(1));
        }
        assert_eq!(trailing.memory(), 10 * one);
        assert_eq!(due(&mut trailing, at(2), 7 * one), crowded(0..3));
        assert_eq!(trailing.memory(), 7 * one);
        for port in 10..MAX_TRAILING as u16 + 5 {
            trailing.insert(key(port), answers(port), at(3));
        }
        let found = due(&mut trailing, at(4), usize::MAX);
        assert_eq!(found, crowded(3..5));
        assert_eq!(trailing.keys().len(), MAX_TRAILING);
    }
}
