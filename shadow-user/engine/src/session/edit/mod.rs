//! The client's stream on its way to the shadow, edited: requests are left out, or get another head
//! or body; the client's address is added.
//!
//! An [`Editor`] goes with the flow's stream and is shown each captured piece of it ([`Editing`]), with
//! what the parser finds there, in order. The client's stream and the stream that is sent have offsets
//! of their own; everything else in a session counts in the client's.

mod address;
mod offsets;
mod piece;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::books::LeftOut;
use crate::config::{ClientAddress, EngineConfig};
use crate::exchange::Fate;
use crate::rules::{BodyPlan, Proposal, Rules};
use crate::time::Instant;
use offsets::Offsets;
pub(crate) use piece::Editing;

/// What is done to one stream.
#[derive(Debug)]
pub(crate) struct Editor {
    rules: Arc<Rules>,
    client: SocketAddr,
    production: SocketAddr,
    /// Requests whose heads were whole.
    number: u64,
    /// A header line for every request.
    line: Option<Box<[u8]>>,
    mode: Mode,
    /// Requests are read, rather than that the stream goes as it is.
    reads: bool,
    /// Octets of the client's stream that were shown.
    seen: u64,
    /// What was written, in both streams' offsets.
    offsets: Offsets,
    /// Octets that were left out.
    left_out: u64,
    /// What was decided on requests and nobody has asked for yet; none when nobody will.
    fates: Option<VecDeque<Fate>>,
}

/// What becomes of the stream's next octets.
#[derive(Debug, Default)]
enum Mode {
    /// Between two requests: they go as they are.
    #[default]
    Between,
    /// In a head, or behind a request that may have turned the connection into a tunnel.
    Held(Held),
    /// In the body of a request that is sent: they go as they are.
    Passing,
    /// In the trailer section of one, which begins here: it goes without its fields, since nobody has
    /// masked them.
    Trailing(u64),
    /// In a request that is left out, or in the tunnel behind it.
    LeavingOut(LeftOut),
    /// In the body of a request that is sent only when all of it is there.
    Collecting(Collected),
    /// Behind one about which a program is asked. Nothing is read until it has answered.
    Asked(Asked),
    /// In a stream that is not HTTP/1 (any more), and goes as it is.
    AsItIs,
    /// In one that must not.
    Refused,
}

/// Octets that wait for the end of a head.
#[derive(Debug)]
struct Held {
    /// Where they begin.
    at: u64,
    /// When the request in them began.
    since: Instant,
    /// They themselves, where they may be sent as they are.
    octets: Vec<u8>,
    /// They follow on a request that was left out and may have begun a tunnel.
    behind: Option<LeftOut>,
}

/// A request that is put together.
#[derive(Debug)]
struct Collected {
    /// Where it begins.
    at: u64,
    plan: Box<BodyPlan>,
    limit: usize,
    body: Vec<u8>,
}

/// A request about which a program is asked.
#[derive(Debug)]
struct Asked {
    /// Where it begins.
    at: u64,
    proposal: Arc<Proposal>,
    /// When nobody waits for the answer any more, once somebody was asked.
    deadline: Option<Instant>,
}

/// What is to become of a request about which a program was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answered {
    /// It is sent as it was proposed.
    Pass,
    /// This is sent in its place.
    Send(Proposal),
    /// It is left out.
    LeftOut(LeftOut),
}

/// Whether one more request may be sent.
pub(crate) type Admit<'a> = dyn FnMut() -> Result<(), LeftOut> + 'a;

/// An editor, and whom it tells and asks.
pub(crate) struct Pen<'a> {
    pub(crate) editor: &'a mut Editor,
    /// Takes what is to be sent.
    pub(crate) write: &'a mut dyn FnMut(&[u8]),
    /// Is asked for each request that nothing else stands against.
    pub(crate) admit: &'a mut Admit<'a>,
}

impl Pen<'_> {
    /// The same, for a while.
    pub(crate) fn lend(&mut self) -> Pen<'_> {
        Pen { editor: self.editor, write: self.write, admit: self.admit }
    }
}

/// What was decided on a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Decision {
    /// It is sent.
    Sent,
    /// It is left out.
    LeftOut(LeftOut),
    /// That will be known when it is whole.
    Open,
    /// That will be known when a program has answered; nothing more may be read before.
    Asked,
}

impl Editor {
    /// What a session of `client` with `production` needs; none when the stream goes as it is.
    pub(crate) fn new(
        config: &EngineConfig,
        client: SocketAddr,
        production: SocketAddr,
        write: impl FnOnce(&[u8]),
    ) -> Option<Self> {
        if config.rules.is_empty() && config.client_address == ClientAddress::None {
            return None;
        }
        let mut editor = Self::midway(config, client, production, 0);
        match config.client_address {
            ClientAddress::None => {}
            ClientAddress::ProxyProtocolV2 => {
                let header = address::proxy_header(client, production);
                write(&header);
                editor.offsets.replace(0, 0, header.len() as u64);
            }
            ClientAddress::XForwardedFor => editor.line = Some(address::forwarded_for(client)),
        }
        if editor.changes_requests() {
            editor.begin_to_read();
        }
        Some(editor)
    }

    /// One that is shown a stream from offset `seen` on.
    pub(crate) fn midway(
        config: &EngineConfig,
        client: SocketAddr,
        production: SocketAddr,
        seen: u64,
    ) -> Self {
        Self {
            rules: Arc::clone(&config.rules),
            client,
            production,
            number: 0,
            line: None,
            mode: Mode::AsItIs,
            reads: false,
            seen,
            offsets: Offsets::default(),
            left_out: 0,
            fates: None,
        }
    }

    /// Reads requests from now on, which begin with the next octet; whether it has not until now.
    pub(crate) fn begin_to_read(&mut self) -> bool {
        if self.reads {
            return false;
        }
        self.reads = true;
        self.mode = Mode::Between;
        true
    }

    /// Keeps what is decided on requests for [`Self::take_fate`]; false when nothing is.
    pub(crate) fn keep_fates(&mut self) -> bool {
        self.fates = self.reads.then(VecDeque::new);
        self.fates.is_some()
    }

    /// Nobody asks for decisions any more.
    pub(crate) fn drop_fates(&mut self) {
        self.fates = None;
    }

    /// What became of the next request.
    pub(crate) fn take_fate(&mut self) -> Option<Fate> {
        self.fates.as_mut()?.pop_front()
    }

    /// Whether the stream must not be sent any further.
    pub(crate) fn has_refused(&self) -> bool {
        matches!(self.mode, Mode::Refused)
    }

    /// Whether the stream was to be edited, and could not be read to its end.
    pub(crate) fn is_unshaped(&self) -> bool {
        self.changes_requests() && matches!(self.mode, Mode::AsItIs)
    }

    /// A request that a program is to be asked about, once, and its number. Its answer is waited for
    /// until `deadline`.
    pub(crate) fn poll_question(&mut self, deadline: Instant) -> Option<(u64, Arc<Proposal>)> {
        let Mode::Asked(asked) = &mut self.mode else { return None };
        if asked.deadline.is_some() {
            return None;
        }
        asked.deadline = Some(deadline);
        Some((self.number, Arc::clone(&asked.proposal)))
    }

    /// The number of the request that a program was asked about, and until when its answer is waited for.
    pub(crate) fn asked(&self) -> Option<(u64, Instant)> {
        match &self.mode {
            Mode::Asked(Asked { deadline: Some(deadline), .. }) => Some((self.number, *deadline)),
            _ => None,
        }
    }

    /// Whether the stream's last octets were left out.
    pub(crate) fn is_leaving_out(&self) -> bool {
        matches!(self.mode, Mode::LeavingOut(_))
    }

    /// Octets of the client's stream that were left out.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Where offset `octets` of the client's stream stands in the stream that is sent, with what was
    /// added there.
    pub(crate) fn sent(&self, octets: u64) -> u64 {
        self.offsets.sent(octets)
    }

    /// How much of the client's stream is settled when the shadow has acknowledged `sent` octets, and
    /// how much of that was left out. Must not go back from call to call.
    pub(crate) fn received(&mut self, sent: u64) -> (u64, u64) {
        let received = self.offsets.received(sent);
        (received, self.offsets.left_out())
    }

    /// How far the first `sent` octets that are sent come in the client's stream.
    pub(crate) fn covered(&self, sent: u64) -> u64 {
        self.offsets.covered(sent)
    }

    /// Heap octets.
    pub(crate) fn memory(&self) -> usize {
        let mode = match &self.mode {
            Mode::Held(held) => held.octets.capacity(),
            Mode::Collecting(collected) => size_of::<BodyPlan>() + collected.body.capacity(),
            Mode::Asked(asked) => size_of::<Proposal>() + asked.proposal.memory(),
            _ => 0,
        };
        let fates = self.fates.as_ref().map_or(0, |fates| fates.capacity() * size_of::<Fate>());
        size_of::<Self>()
            + mode
            + fates
            + self.line.as_ref().map_or(0, |line| line.len())
            + self.offsets.memory()
    }

    /// Whether there is more to do than to leave requests out, or to add something before the stream.
    fn changes_requests(&self) -> bool {
        self.line.is_some() || !self.rules.is_empty()
    }

    /// Whether what is not understood may be sent as it is.
    fn passes_unread(&self) -> bool {
        !self.rules.must_understand()
    }
}
