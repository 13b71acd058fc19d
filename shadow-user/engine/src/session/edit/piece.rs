//! One captured piece of a client's stream while it is read.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Admit, Answered, Asked, Collected, Decision, Editor, Held, Mode, Pen, address};
use crate::books::{LeftOut, Tally};
use crate::exchange::{Fate, request_id};
use crate::rules::{Context, Proposal, Verdict};
use crate::time::Instant;

/// The next piece of the stream. What the parser finds in it is told in order, and each octet goes
/// where the last that was told sends it; [`Self::finish`] sees to the rest.
pub(crate) struct Editing<'a> {
    editor: &'a mut Editor,
    /// What of the piece has not gone anywhere.
    rest: &'a [u8],
    captured_at: Instant,
    /// What was decided on the request whose head was read last.
    decision: Decision,
    /// Octets of the trailer section in the piece.
    trailers: u64,
    write: &'a mut dyn FnMut(&[u8]),
    admit: &'a mut Admit<'a>,
    tally: &'a mut Tally<LeftOut>,
}

impl<'a> Editing<'a> {
    /// Begins with a piece that was captured at `captured_at`; octets that are left out are counted in
    /// `tally`.
    pub(crate) fn new(
        pen: Pen<'a>,
        piece: &'a [u8],
        captured_at: Instant,
        tally: &'a mut Tally<LeftOut>,
    ) -> Self {
        let Pen { editor, write, admit } = pen;
        Self {
            editor,
            rest: piece,
            captured_at,
            decision: Decision::Sent,
            trailers: 0,
            write,
            admit,
            tally,
        }
    }

    /// A request begins at `offset`.
    pub(crate) fn started(&mut self, offset: u64) {
        self.read_to(offset);
        match &mut self.editor.mode {
            Mode::AsItIs => {}
            // Behind one that may have begun a tunnel, its octets are held already.
            Mode::Held(held) => held.since = self.captured_at,
            _ => self.hold(offset, None),
        }
    }

    /// Its head is whole.
    pub(crate) fn head(&mut self, octets: Cow<'_, [u8]>) {
        let Mode::Held(Held { at, since, .. }) = self.editor.mode else { return };
        let len = octets.len() as u64;
        self.read_to(at + len);
        let Editor { client, production, number, .. } = *self.editor;
        let context = Context { client, production, id: request_id(since, number) };
        self.editor.number += 1;
        let verdict = self.editor.rules.judge(&octets, &context);
        let admitted = match verdict {
            Verdict::Send { .. } | Verdict::Collect { .. } => (self.admit)(),
            Verdict::Skip | Verdict::Unmaskable(_) => Ok(()),
        };
        self.decision = match verdict {
            _ if let Err(reason) = admitted => self.leave_out(at, reason),
            Verdict::Send { head: Cow::Borrowed(head) } if self.editor.line.is_none() => {
                (self.write)(head);
                self.editor.mode = Mode::Passing;
                self.decide(Fate::Sent);
                Decision::Sent
            }
            Verdict::Send { head } => {
                self.editor.mode = Mode::Passing;
                self.send(at, len, head.into_owned(), &[]);
                Decision::Sent
            }
            Verdict::Collect { plan, limit } => {
                let collected = Collected { at, plan, limit, body: Vec::new() };
                self.editor.mode = Mode::Collecting(collected);
                Decision::Open
            }
            Verdict::Skip => self.leave_out(at, LeftOut::Filtered),
            Verdict::Unmaskable(why) => self.leave_out(at, self.editor.rules.left_out(why)),
        };
    }

    /// What was decided on it.
    pub(crate) fn head_ended(&self) -> Decision {
        self.decision
    }

    /// The next octets of its body, transfer coding removed; whether that is decided by them that it
    /// is left out.
    pub(crate) fn body(&mut self, octets: &[u8]) -> Option<LeftOut> {
        let Mode::Collecting(collected) = &mut self.editor.mode else { return None };
        if octets.len() <= collected.limit - collected.body.len() {
            collected.body.extend_from_slice(octets);
            return None;
        }
        let at = collected.at;
        let reason = match collected.plan.is_masked() {
            true => LeftOut::Unmaskable,
            false => LeftOut::FilterExecUnaskable,
        };
        self.leave_out(at, reason);
        Some(reason)
    }

    /// The next octets of its trailer section, with which it ends.
    pub(crate) fn trailers(&mut self, octets: &[u8]) {
        if matches!(self.editor.mode, Mode::Passing) && self.editor.rules.masks() {
            self.trailers += octets.len() as u64;
        }
    }

    /// The request ends at `offset`; behind it there may be a tunnel.
    pub(crate) fn ended(&mut self, offset: u64, may_tunnel: bool) -> Decision {
        self.read_to_trailers(offset);
        self.read_to(offset);
        let decision = match std::mem::take(&mut self.editor.mode) {
            Mode::Trailing(at) => {
                (self.write)(b"\r\n");
                self.editor.offsets.replace(at, offset - at, 2);
                Decision::Sent
            }
            Mode::Collecting(collected) => {
                let Collected { at, plan, body, .. } = collected;
                let body = match plan.is_masked() {
                    true => self.editor.rules.mask_body(&plan, &body),
                    false => Ok(body),
                };
                match body {
                    Ok(body) if self.editor.rules.asks() => {
                        let proposal = Arc::new(Proposal::new(plan.head(body.len()), body));
                        let asked = Asked { at, proposal, deadline: None };
                        self.editor.mode = Mode::Asked(asked);
                        return Decision::Asked;
                    }
                    Ok(body) => {
                        self.send(at, offset - at, plan.head(body.len()), &body);
                        Decision::Sent
                    }
                    Err(_) => self.leave_out(at, LeftOut::Unmaskable),
                }
            }
            Mode::LeavingOut(reason) => Decision::LeftOut(reason),
            Mode::AsItIs => {
                self.editor.mode = Mode::AsItIs;
                return Decision::Sent;
            }
            _ => Decision::Sent,
        };
        self.editor.mode = Mode::Between;
        if may_tunnel {
            let behind = match decision {
                Decision::LeftOut(reason) => Some(reason),
                Decision::Sent | Decision::Open | Decision::Asked => None,
            };
            self.hold(offset, behind);
        }
        decision
    }

    /// What becomes of the request about which a program was asked.
    pub(crate) fn answered(&mut self, answered: Answered) -> Decision {
        let Mode::Asked(Asked { at, proposal, .. }) = std::mem::take(&mut self.editor.mode) else {
            debug_assert!(false, "nobody was asked");
            return Decision::Sent;
        };
        let (head, body) = match answered {
            Answered::Pass => Arc::unwrap_or_clone(proposal).into_octets(),
            Answered::Send(proposal) => proposal.into_octets(),
            Answered::LeftOut(reason) => {
                let decision = self.leave_out(at, reason);
                self.editor.mode = Mode::Between;
                return decision;
            }
        };
        self.send(at, self.editor.seen - at, head, &body);
        Decision::Sent
    }

    /// What follows on the last request is not HTTP/1; whether it is left out, as that was.
    pub(crate) fn tunnelled(&mut self) -> bool {
        if let Mode::Held(Held { at, behind: Some(reason), .. }) = self.editor.mode {
            self.file(at, reason);
            self.editor.mode = Mode::LeavingOut(reason);
            return true;
        }
        self.unread();
        false
    }

    /// The stream is not HTTP/1, from where it has been read to.
    pub(crate) fn unread(&mut self) {
        let passes = self.editor.passes_unread();
        self.editor.mode = match std::mem::take(&mut self.editor.mode) {
            Mode::LeavingOut(_)
            | Mode::Collecting(_)
            | Mode::Asked(_)
            | Mode::Trailing(_)
            | Mode::Refused => Mode::Refused,
            _ if !passes => Mode::Refused,
            mode => {
                if let Mode::Held(held) = mode {
                    (self.write)(&held.octets);
                }
                Mode::AsItIs
            }
        };
    }

    /// The rest of the piece goes where it belongs.
    pub(crate) fn finish(mut self) {
        self.read_to_trailers(self.editor.seen + self.rest.len() as u64);
        self.read_to(u64::MAX);
    }

    /// The end of the client's stream: what waits goes as it is, or not at all.
    pub(crate) fn end(mut self) {
        match std::mem::take(&mut self.editor.mode) {
            Mode::Held(Held { at, behind: Some(reason), .. }) => self.file(at, reason),
            Mode::Held(held) if self.editor.passes_unread() => (self.write)(&held.octets),
            Mode::Held(Held { at, .. })
            | Mode::Collecting(Collected { at, .. })
            | Mode::Asked(Asked { at, .. })
            | Mode::Trailing(at) => self.file(at, self.editor.rules.not_understood()),
            mode => self.editor.mode = mode,
        }
    }

    /// Reads on to `offset`, within the piece.
    fn read_to(&mut self, offset: u64) {
        let Editor { mode, seen, offsets, left_out, rules, .. } = &mut *self.editor;
        let len = usize::try_from(offset.saturating_sub(*seen)).unwrap_or(usize::MAX);
        let (octets, rest) = self.rest.split_at(len.min(self.rest.len()));
        if octets.is_empty() {
            return;
        }
        match mode {
            Mode::Between | Mode::Passing | Mode::AsItIs => (self.write)(octets),
            Mode::Held(held) if !rules.must_understand() => held.octets.extend_from_slice(octets),
            Mode::LeavingOut(reason) => {
                offsets.leave_out(*seen, octets.len() as u64);
                *left_out += octets.len() as u64;
                self.tally.add(*reason, octets.len() as u64);
            }
            Mode::Held(_)
            | Mode::Collecting(_)
            | Mode::Asked(_)
            | Mode::Trailing(_)
            | Mode::Refused => {}
        }
        *seen += octets.len() as u64;
        self.rest = rest;
    }

    /// Reads on to where the trailer section begins that stands before `offset`.
    fn read_to_trailers(&mut self, offset: u64) {
        if self.trailers != 0 {
            self.read_to(offset - self.trailers);
            self.editor.mode = Mode::Trailing(self.editor.seen);
            self.trailers = 0;
        }
    }

    /// Keeps back what follows from `offset` on, to which has been read.
    fn hold(&mut self, offset: u64, behind: Option<LeftOut>) {
        let (at, since) = (offset, self.captured_at);
        self.editor.mode = Mode::Held(Held { at, since, octets: Vec::new(), behind });
    }

    /// Sends a head, and as much of a body as is there, in the place of `removed` octets from `at` on.
    fn send(&mut self, at: u64, removed: u64, mut head: Vec<u8>, body: &[u8]) {
        if let Some(line) = &self.editor.line {
            address::add_line(&mut head, line);
        }
        (self.write)(&head);
        (self.write)(body);
        self.editor.offsets.replace(at, removed, (head.len() + body.len()) as u64);
        self.decide(Fate::Sent);
    }

    /// Leaves the present request out, which began at `at`.
    fn leave_out(&mut self, at: u64, reason: LeftOut) -> Decision {
        self.file(at, reason);
        self.editor.mode = Mode::LeavingOut(reason);
        self.decide(Fate::LeftOut);
        Decision::LeftOut(reason)
    }

    /// Files what was read from `at` on.
    fn file(&mut self, at: u64, reason: LeftOut) {
        let len = self.editor.seen - at;
        self.editor.offsets.leave_out(at, len);
        self.editor.left_out += len;
        self.tally.add(reason, len);
    }

    fn decide(&mut self, fate: Fate) {
        if let Some(fates) = &mut self.editor.fates {
            fates.push_back(fate);
        }
    }
}
