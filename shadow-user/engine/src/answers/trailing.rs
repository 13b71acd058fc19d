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
