//! When a client's bytes may go to the shadow: causality and pace.
//!
//! A client's bytes were sent after it had seen some of production's answer, so
//! they wait until the shadow has answered as far. Bytes that need no answer
//! keep their captured distance in time.

use std::collections::VecDeque;

use crate::answers::Known;
use crate::books::GateBooks;
use crate::circuit::Sign;
use crate::config::{GateAction, Pace};
use crate::time::{Duration, Instant};

/// A shadow that has answered more than production and then nothing for so long has
/// finished, where the protocol does not say so itself.
const QUIET: Duration = Duration::from_millis(10);

/// The same for one that has answered less: more may be on its way.
const QUIET_SHORT: Duration = Duration::from_millis(200);

/// Distances in time below this are not kept: a timer for each would cost more
/// than it gives.
const PACE_GRANULARITY: Duration = Duration::from_millis(1);

/// What the shadow must have answered before some bytes are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Need {
    /// Nothing: the client had seen no new answer.
    Nothing,
    /// So many whole HTTP/1 responses since the session began.
    Responses(u64),
    /// Any response head since the bytes before: the client waited for 100 (Continue).
    Continue,
    /// Exactly as many bytes since the bytes before as production had answered, or
    /// another number, and quiet. Where production's answers are known: each whole one of
    /// them.
    Answer {
        /// Octets of production's answers that the client had acknowledged, since the
        /// session began.
        production: u64,
    },
}

/// How the client ended its stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Close {
    /// With FIN.
    Fin,
    /// With RST.
    Reset,
}

/// A stretch of the stream that is released as a whole.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Stream offset of the stretch's end.
    until: u64,
    captured_at: Instant,
    need: Need,
    close: Option<Close>,
}

/// How far the shadow has answered.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    bytes: u64,
    responses: u64,
    /// Counted round: only a change matters.
    heads: u32,
}

/// A turn's bound was reached and the policy is to give the session up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct GateTimeout;

#[derive(Clone, Copy, Debug)]
pub(crate) struct GatePolicy {
    pub(crate) timeout: Duration,
    pub(crate) action: GateAction,
    pub(crate) pace: Pace,
}

/// The queue of stretches that wait, and what they wait for.
#[derive(Debug)]
pub(crate) struct Gate {
    marks: VecDeque<Mark>,
    /// How many of them are [`Need::Answer`].
    counting: usize,
    /// Capture time and session time of the session's beginning.
    origin: (Instant, Instant),
    /// How much later than its captured time the present turn began.
    shift: Duration,
    released: u64,
    close: Option<Close>,
    answers: Answers,
    /// Octets that had been answered when the last stretch was released.
    bytes_before: u64,
    /// Heads that had been answered then.
    heads_before: u32,
    /// Octets that production had answered then, as far as is known.
    production_before: u64,
    /// What is known of production's answers.
    known: Known,
    last_answer: Instant,
    /// The shadow has sent FIN: there is no further answer to wait for.
    shadow_closed: bool,
    /// The shadow's answers are not HTTP/1 (any more).
    unparsable: bool,
    /// A turn was not answered in time.
    timed_out: bool,
    /// Whether the last turn was answered, until it is taken.
    sign: Option<Sign>,
    /// Since when the first stretch waits for an answer; [`Instant::NEVER`] if it does not.
    waiting_since: Instant,
    /// When to look again, if nothing is heard before.
    wake: Instant,
}

impl Gate {
    /// A gate for a session that begins `now` with what was captured at `captured_at`.
    pub(crate) fn new(captured_at: Instant, now: Instant) -> Self {
        Self {
            marks: VecDeque::new(),
            counting: 0,
            origin: (captured_at, now),
            shift: Duration::ZERO,
            released: 0,
            close: None,
            answers: Answers::default(),
            bytes_before: 0,
            heads_before: 0,
            production_before: 0,
            known: Known::default(),
            last_answer: now,
            shadow_closed: false,
            unparsable: false,
            timed_out: false,
            sign: None,
            waiting_since: Instant::NEVER,
            wake: Instant::NEVER,
        }
    }

    /// Queues the stretch that ends at stream offset `until`.
    pub(crate) fn push(&mut self, until: u64, need: Need, captured_at: Instant) {
        if need == Need::Nothing
            && let Some(last) = self.marks.back_mut()
            && last.close.is_none()
            && captured_at.since(last.captured_at) < PACE_GRANULARITY
        {
            last.until = until;
            return;
        }
        self.queue(Mark { until, captured_at, need, close: None });
    }

    /// Queues the end of the stream at offset `until`.
    pub(crate) fn push_close(
        &mut self,
        until: u64,
        close: Close,
        need: Need,
        captured_at: Instant,
    ) {
        self.queue(Mark { until, captured_at, need, close: Some(close) });
    }

    fn queue(&mut self, mark: Mark) {
        self.counting += usize::from(matches!(mark.need, Need::Answer { .. }));
        self.marks.push_back(mark);
    }

    /// Whether a stretch waits that is released by how much was answered.
    pub(crate) const fn counts_octets(&self) -> bool {
        self.counting != 0
    }

    /// What is known by now of production's answers, and of those that the shadow has to give.
    pub(crate) fn know(&mut self, known: Known) {
        self.known = known;
    }

    /// The shadow has accepted the connection: it can be waited for from `now` on.
    pub(crate) fn connected(&mut self, now: Instant) {
        if self.waiting_since != Instant::NEVER {
            self.waiting_since = now;
        }
    }

    /// The shadow sent `bytes` in order.
    pub(crate) fn answered(&mut self, bytes: usize, now: Instant) {
        self.answers.bytes += bytes as u64;
        self.last_answer = now;
    }

    /// The shadow sent a response head, interim or final.
    pub(crate) fn answered_head(&mut self) {
        self.answers.heads = self.answers.heads.wrapping_add(1);
    }

    /// The shadow finished a final response.
    pub(crate) fn answered_response(&mut self) {
        self.answers.responses += 1;
    }

    /// The shadow's answers cannot be counted as messages.
    pub(crate) fn answers_unparsable(&mut self) {
        self.unparsable = true;
    }

    /// The shadow sent FIN.
    pub(crate) fn shadow_closed(&mut self) {
        self.shadow_closed = true;
    }

    /// Stream offset up to which bytes may be sent.
    pub(crate) fn released(&self) -> u64 {
        self.released
    }

    /// The end of the stream, once it may be sent.
    pub(crate) fn close(&self) -> Option<Close> {
        self.close
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Whether the last turn that waited was answered, once.
    pub(crate) fn take_sign(&mut self) -> Option<Sign> {
        self.sign.take()
    }

    /// Whether any turn was not answered in time.
    pub(crate) fn has_timed_out(&self) -> bool {
        self.timed_out
    }

    /// The wait for an answer, if there is one, begins `now`.
    pub(crate) fn restart(&mut self, now: Instant) {
        if self.waiting_since != Instant::NEVER {
            self.waiting_since = now;
        }
    }

    /// When [`Self::advance`] is to be called again at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        (self.wake != Instant::NEVER).then_some(self.wake)
    }

    /// Heap octets.
    pub(crate) fn memory(&self) -> usize {
        self.marks.capacity() * size_of::<Mark>()
    }

    /// Releases what may be sent `now`.
    ///
    /// # Errors
    /// [`GateTimeout`] when a turn has waited for its bound and is not to be sent all the same.
    pub(crate) fn advance(
        &mut self,
        now: Instant,
        policy: GatePolicy,
        books: &mut GateBooks,
    ) -> Result<(), GateTimeout> {
        self.wake = Instant::NEVER;
        while let Some(mark) = self.marks.front().copied() {
            let gated = mark.need != Need::Nothing;
            let shift = if gated { Duration::ZERO } else { self.shift };
            let due = self.origin.1 + mark.captured_at.since(self.origin.0) + shift;
            if policy.pace == Pace::AsCaptured && due > now + PACE_GRANULARITY {
                self.wake = due;
                break;
            }
            if let Err(look_again) = self.satisfied(mark.need, now) {
                if self.waiting_since == Instant::NEVER {
                    books.gated += 1;
                    self.waiting_since = now;
                }
                let bound = self.waiting_since + policy.timeout;
                if now < bound {
                    self.wake = look_again.map_or(bound, |at| at.min(bound));
                    break;
                }
                books.timed_out += 1;
                self.timed_out = true;
                self.sign = Some(Sign::Unanswered);
                // The end of a stream carries no bytes, so it cannot come too early for them.
                if policy.action == GateAction::Abort && mark.close.is_none() {
                    return Err(GateTimeout);
                }
            } else if gated && !self.shadow_closed {
                self.sign = Some(Sign::Answered);
            }
            if gated {
                self.shift = now.since(due);
            }
            self.marks.pop_front();
            self.waiting_since = Instant::NEVER;
            self.bytes_before = self.answers.bytes;
            self.heads_before = self.answers.heads;
            if let Need::Answer { production } = mark.need {
                self.production_before = production;
                self.counting -= 1;
            }
            self.released = mark.until;
            self.close = self.close.or(mark.close);
        }
        if self.marks.is_empty() {
            self.marks = VecDeque::new();
        }
        Ok(())
    }

    /// `Err` names the time at which silence alone will satisfy the need, if it will.
    fn satisfied(&self, need: Need, now: Instant) -> Result<(), Option<Instant>> {
        if self.shadow_closed {
            return Ok(());
        }
        match need {
            Need::Nothing => Ok(()),
            Need::Responses(count) if self.answers.responses >= count => Ok(()),
            Need::Continue if self.answers.heads != self.heads_before => Ok(()),
            Need::Responses(_) | Need::Continue if !self.unparsable => Err(None),
            Need::Responses(_) | Need::Continue => self.quiet(0, now),
            Need::Answer { production } if self.known.owed_from <= production => Err(None),
            // A server of these protocols speaks first, and the client's next octets answer that.
            Need::Answer { production }
                if production <= self.known.to && self.answers.bytes > 0 =>
            {
                Ok(())
            }
            Need::Answer { production } => self.quiet(production, now),
        }
    }

    /// Whether the shadow has answered and fallen silent.
    fn quiet(&self, production: u64, now: Instant) -> Result<(), Option<Instant>> {
        let answered = self.answers.bytes - self.bytes_before;
        let expected = production.saturating_sub(self.production_before);
        if answered == expected {
            return Ok(());
        }
        // A server may speak before it is asked: then the answer has already come.
        if answered == 0 && self.answers.bytes < production {
            return Err(None);
        }
        let quiet = if answered > expected { QUIET } else { QUIET_SHORT };
        let quiet_at = self.last_answer + quiet;
        if now >= quiet_at { Ok(()) } else { Err(Some(quiet_at)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: GatePolicy = GatePolicy {
        timeout: Duration::from_secs(5),
        action: GateAction::Abort,
        pace: Pace::AsCaptured,
    };

    fn at(millis: u64) -> Instant {
        Instant::from_nanos((1_000 + millis) * 1_000_000)
    }

    fn gate() -> (Gate, GateBooks) {
        (Gate::new(at(0), at(0)), GateBooks::default())
    }

    #[test]
    fn bytes_without_a_need_go_at_once() {
        let (mut gate, mut books) = gate();
        gate.push(10, Need::Nothing, at(0));
        gate.advance(at(0), POLICY, &mut books).unwrap();
        assert_eq!(gate.released(), 10);
        assert_eq!(books, GateBooks::default());
    }

    #[test]
    fn the_bound_begins_with_the_connection() {
        let (mut gate, mut books) = gate();
        let unconnected = GatePolicy { timeout: Duration::MAX, ..POLICY };
        gate.push(10, Need::Nothing, at(0));
        gate.push(20, Need::Responses(1), at(5));
        gate.advance(at(20_000), unconnected, &mut books).unwrap();
        gate.connected(at(20_000));
        gate.advance(at(24_999), POLICY, &mut books).unwrap();
        assert_eq!(gate.take_sign(), None);
        assert_eq!(gate.advance(at(25_000), POLICY, &mut books), Err(GateTimeout));
        assert_eq!(gate.take_sign(), Some(Sign::Unanswered));
        assert_eq!((books.gated, books.timed_out), (1, 1));
    }

    #[test]
    fn a_second_request_waits_for_the_first_response() {
        let (mut gate, mut books) = gate();
        gate.push(10, Need::Nothing, at(0));
        gate.push(20, Need::Responses(1), at(5));
        gate.advance(at(5), POLICY, &mut books).unwrap();
        assert_eq!(gate.released(), 10);
        assert_eq!(books.gated, 1);
        gate.answered(100, at(6));
        gate.advance(at(6), POLICY, &mut books).unwrap();
        assert_eq!(gate.released(), 10, "half a response is none");
        gate.answered_response();
        gate.advance(at(7), POLICY, &mut books).unwrap();
        assert_eq!(gate.released(), 20);
    }

    #[test]
    fn the_bound_aborts_or_sends_as_told() {
        for (action, expected) in
            [(GateAction::Abort, Err(GateTimeout)), (GateAction::Send, Ok(()))]
        {
            let (mut gate, mut books) = gate();
            let policy = GatePolicy { action, ..POLICY };
            gate.push(10, Need::Responses(1), at(0));
            gate.advance(at(0), policy, &mut books).unwrap();
            assert_eq!(gate.poll_timeout(), Some(at(5_000)));
            assert_eq!(gate.advance(at(5_000), policy, &mut books), expected);
            assert_eq!(books.timed_out, 1);
        }
    }

    #[test]
    fn the_end_of_a_stream_is_not_aborted_by_the_bound() {
        let (mut gate, mut books) = gate();
        gate.push_close(0, Close::Fin, Need::Responses(1), at(0));
        gate.advance(at(0), POLICY, &mut books).unwrap();
        gate.advance(at(5_000), POLICY, &mut books).unwrap();
        assert_eq!(gate.close(), Some(Close::Fin));
    }

    #[test]
    fn captured_distances_are_kept() {
        let (mut gate, mut books) = gate();
        gate.push(10, Need::Nothing, at(0));
        gate.push(20, Need::Nothing, at(50));
        gate.advance(at(0), POLICY, &mut books).unwrap();
        assert_eq!((gate.released(), gate.poll_timeout()), (10, Some(at(50))));
        gate.advance(at(50), POLICY, &mut books).unwrap();
        assert_eq!(gate.released(), 20);
    }

    #[test]
    fn without_pace_they_are_not() {
        let (mut gate, mut books) = gate();
        let policy = GatePolicy { pace: Pace::Off, ..POLICY };
        gate.push(10, Need::Nothing, at(0));
        gate.push(20, Need::Nothing, at(50));
        gate.advance(at(0), policy, &mut books).unwrap();
        assert_eq!(gate.released(), 20);
    }

    #[test]
    fn a_late_turn_keeps_the_distances_within_it() {
        let (mut gate, mut books) = gate();
        gate.push(10, Need::Nothing, at(0));
        gate.push(20, Need::Responses(1), at(10));
        gate.push(30, Need::Nothing, at(40));
        gate.advance(at(0), POLICY, &mut books).unwrap();
        gate.answered_response();
        gate.advance(at(100), POLICY, &mut books).unwrap();
        assert_eq!((gate.released(), gate.poll_timeout()), (20, Some(at(130))));
    }

    #[test]
    fn an_answer_of_the_same_length_opens_at_once_and_another_when_quiet() {
        let (mut gate, mut books) = gate();
        gate.push(10, Need::Nothing, at(0));
        gate.push(20, Need::Answer { production: 100 }, at(0));
        gate.advance(at(0), POLICY, &mut books).unwrap();
        gate.answered(99, at(1));
        gate.advance(at(1), POLICY, &mut books).unwrap();
        assert_eq!((gate.released(), gate.poll_timeout()), (10, Some(at(201))));
        gate.answered(1, at(2));
        gate.advance(at(2), POLICY, &mut books).unwrap();
        assert_eq!(gate.released(), 20);

        gate.push(30, Need::Answer { production: 150 }, at(2));
        gate.answered(51, at(3));
        gate.advance(at(12), POLICY, &mut books).unwrap();
        assert_eq!(gate.released(), 20);
        gate.advance(at(13), POLICY, &mut books).unwrap();
        assert_eq!(gate.released(), 30);
    }

    #[test]
    fn an_answer_that_is_owed_is_waited_for_however_quiet_it_is() {
        let (mut gate, mut books) = gate();
        gate.push(10, Need::Nothing, at(0));
        gate.push(20, Need::Answer { production: 100 }, at(0));
        gate.push_close(20, Close::Fin, Need::Answer { production: 200 }, at(0));
        assert!(gate.counts_octets());
        gate.advance(at(0), POLICY, &mut books).unwrap();
        gate.answered(40, at(1));
        let owed_from = |owed_from| Known { owed_from, ..Known::default() };
        gate.know(owed_from(100));
        gate.advance(at(900), POLICY, &mut books).unwrap();
        assert_eq!((gate.released(), gate.poll_timeout()), (10, Some(at(5_000))));
        // The client had not seen the one that is still owed when it sent this.
        gate.know(owed_from(101));
        gate.answered(60, at(1_000));
        gate.advance(at(1_000), POLICY, &mut books).unwrap();
        assert_eq!((gate.released(), gate.close()), (20, None));
        gate.know(Known::default());
        gate.answered(100, at(1_100));
        gate.advance(at(1_100), POLICY, &mut books).unwrap();
        assert_eq!(gate.close(), Some(Close::Fin));
        assert!(!gate.counts_octets());
    }

    #[test]
    fn where_answers_are_known_their_length_does_not_matter() {
        let (mut gate, mut books) = gate();
        gate.push(10, Need::Nothing, at(0));
        gate.push(20, Need::Answer { production: 100 }, at(0));
        gate.push(30, Need::Answer { production: 200 }, at(0));
        gate.advance(at(0), POLICY, &mut books).unwrap();
        gate.know(Known { to: 150, ..Known::default() });
        gate.advance(at(0), POLICY, &mut books).unwrap();
        assert_eq!(gate.released(), 10, "the shadow has not said a word");
        gate.answered(1, at(1));
        gate.advance(at(1), POLICY, &mut books).unwrap();
        assert_eq!(gate.released(), 20, "of the next turn not all is known");
        gate.answered(1, at(2));
        gate.advance(at(2), POLICY, &mut books).unwrap();
        assert_eq!(gate.poll_timeout(), Some(at(202)));
        gate.know(Known { to: 200, ..Known::default() });
        gate.advance(at(3), POLICY, &mut books).unwrap();
        assert_eq!(gate.released(), 30);
    }

    #[test]
    fn lengths_are_compared_turn_by_turn() {
        let (mut gate, mut books) = gate();
        gate.push(10, Need::Nothing, at(0));
        gate.advance(at(0), POLICY, &mut books).unwrap();
        gate.answered(500, at(0));
        gate.push(20, Need::Answer { production: 100 }, at(0));
        gate.advance(at(20), POLICY, &mut books).unwrap();
        gate.push(30, Need::Answer { production: 200 }, at(20));
        gate.answered(99, at(21));
        gate.advance(at(21), POLICY, &mut books).unwrap();
        assert_eq!(gate.released(), 20);
        gate.answered(1, at(22));
        gate.advance(at(22), POLICY, &mut books).unwrap();
        assert_eq!(gate.released(), 30);
    }

    #[test]
    fn a_closed_shadow_opens_every_gate() {
        let (mut gate, mut books) = gate();
        gate.push(10, Need::Answer { production: 100 }, at(0));
        gate.shadow_closed();
        gate.advance(at(0), POLICY, &mut books).unwrap();
        assert_eq!(gate.released(), 10);
    }

    #[test]
    fn stretches_captured_together_are_one() {
        let (mut gate, _) = gate();
        gate.push(10, Need::Nothing, at(0));
        gate.push(20, Need::Nothing, at(0));
        assert_eq!(gate.marks.len(), 1);
    }
}
