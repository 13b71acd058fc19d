//! Questions to a program: what is to become of a request.

use std::sync::Arc;

use crate::books::LeftOut;
use crate::engine::Engine;
use crate::engine::flow::{Flow, Stage};
use crate::engine::timers::FlowId;
use crate::rules::Proposal;
use crate::session::Answered;
use crate::time::Instant;

/// Names a question of one engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuestionId {
    flow: FlowId,
    /// Counts the session's requests.
    number: u64,
}

/// What is to become of this request?
#[derive(Clone, Debug)]
pub struct Question {
    /// Names it in the answer.
    pub id: QuestionId,
    /// The request as it would be sent.
    pub proposal: Arc<Proposal>,
}

impl Engine {
    /// The next question. A flow asks one at a time, and its stream waits for the answer for as long as
    /// the configuration says; then the request is left out.
    pub fn poll_question(&mut self) -> Option<Question> {
        self.questions.pop_front()
    }

    /// Takes the answer to a question. False when nobody waits for it any more: it came too late, or
    /// the session has ended.
    pub fn answer(&mut self, id: QuestionId, answered: Answered, now: Instant) -> bool {
        let Self { flows, books, budget, .. } = self;
        let Some(Flow { stage: Stage::Open(session), .. }) = flows.get_mut(id.flow) else {
            return false;
        };
        let taken = session.answer(id.number, answered, &mut || budget.ask(now), books);
        if taken {
            self.advance(id.flow, now);
        }
        taken
    }

    /// Leaves the request out for which the program has taken too long.
    pub(super) fn give_up_asking(&mut self, id: FlowId, now: Instant) {
        let Self { flows, books, budget, .. } = self;
        let Some(Flow { stage: Stage::Open(session), .. }) = flows.get_mut(id) else { return };
        if let Some((number, deadline)) = session.asked()
            && now >= deadline
        {
            let late = Answered::LeftOut(LeftOut::FilterExecTimeout);
            session.answer(number, late, &mut || budget.ask(now), books);
        }
    }

    /// Takes a session's question, if it has one.
    pub(super) fn ask(&mut self, id: FlowId, now: Instant) {
        let Self { flows, questions, config, .. } = self;
        let Some(Flow { stage: Stage::Open(session), .. }) = flows.get_mut(id) else { return };
        if let Some((number, proposal)) = session.poll_question(now, config.filter_timeout) {
            questions.push_back(Question { id: QuestionId { flow: id, number }, proposal });
        }
    }
}
