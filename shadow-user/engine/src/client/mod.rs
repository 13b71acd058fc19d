//! The emulated TCP client: one connection from the mirror to a shadow.

mod arrive;
mod config;
mod congestion;
mod event;
mod recovery;
mod recv;
mod resent;
mod rto;
mod sack;
mod send;
mod state;
mod timer;
mod transmit;

pub use config::{Config, Offer};
pub use event::{Close, Event, Unreachable};
pub use state::State;
pub use transmit::Outgoing;

use std::net::SocketAddr;

use crate::time::{Duration, Instant};

use config::Settings;
use congestion::Congestion;
use event::Events;
use recovery::{Phase, TailProbe};
use recv::Rcv;
use rto::Rto;
use sack::Scoreboard;
use send::Snd;
use timer::{Timer, Timers};
use transmit::{Force, Reset};

/// One TCP connection, opened actively (RFC 9293).
///
/// To drive it: hand in what happened with [`write`](Self::write), [`release`](Self::release),
/// [`close`](Self::close), [`abort`](Self::abort), [`handle_segment`](Self::handle_segment),
/// [`handle_packet_too_big`](Self::handle_packet_too_big),
/// [`handle_unreachable`](Self::handle_unreachable), or
/// [`handle_timeout`](Self::handle_timeout) once [`poll_timeout`](Self::poll_timeout) has passed;
/// then call [`poll_transmit`](Self::poll_transmit) until `None` (also after `CLOSED`: an RST may
/// be due) and [`poll_event`](Self::poll_event) until `None`; then read `poll_timeout` again.
///
/// The order matters in one point: timers that depend on what could be sent are started
/// by `poll_transmit`, so `poll_timeout` is only right after it returned `None`.
#[derive(Debug)]
pub struct Client {
    config: Settings,
    state: State,
    snd: Snd,
    rcv: Rcv,
    rto: Rto,
    congestion: Congestion,
    scoreboard: Scoreboard,
    phase: Phase,
    timers: Timers,
    events: Events,
    /// Duplicate acknowledgments in a row.
    duplicates: u32,
    /// The one measurement under way: the end of the segment timed, and when it was sent.
    timed: Option<(SeqNum, Instant)>,
    tail: Option<TailProbe>,
    /// When something that occupies sequence space was sent last.
    last_sent: Instant,
    /// Since when the peer's window is shut while there is something to send.
    shut_since: Option<Instant>,
    /// How often the persist timer expired in a row.
    persists: u8,
    challenges: Challenges,
    /// Both ends sent the SACK permitted option.
    sack: bool,
    /// Both ends sent the timestamps option.
    timestamps: bool,
    /// An ICMP error came since the peer was heard last.
    unreachable: bool,
    /// The SYN is to be sent.
    syn_due: bool,
    /// An acknowledgment is to be sent at once.
    ack_due: bool,
    reset_due: Option<Reset>,
    force: Option<Force>,
}

use crate::seq::SeqNum;

/// Bound on challenge acknowledgments.
///
/// RFC 5961, 7: "an implementation SHOULD include an ACK throttling mechanism ... no more than 10
/// ACKs ... in any 5 second window" (its example). Counted per connection, so that no other
/// connection can be told from this one's silence (CVE-2016-5696).
#[derive(Clone, Debug, Default)]
struct Challenges {
    since: Instant,
    count: u8,
}

impl Challenges {
    const PERIOD: Duration = Duration::from_secs(5);
    const LIMIT: u8 = 10;

    fn allow(&mut self, now: Instant) -> bool {
        if now.since(self.since) >= Self::PERIOD {
            *self = Self { since: now, count: 0 };
        }
        let allowed = self.count < Self::LIMIT;
        self.count += u8::from(allowed);
        allowed
    }
}

impl Client {
    /// Opens a connection: the SYN is due at once.
    #[must_use]
    pub fn connect(config: Config, now: Instant) -> Self {
        let settings = Settings::from(&config);
        let mut timers = Timers::new();
        timers.set(Timer::User, now + settings.user_timeout());
        Self {
            state: State::SynSent,
            snd: Snd::new(config.iss, settings.default_mss()),
            rcv: Rcv::new(config.receive_limit, config.offer.window_scale),
            rto: Rto::new(),
            congestion: Congestion::new(),
            scoreboard: Scoreboard::new(config.iss + 1),
            phase: Phase::Open,
            timers,
            events: Events::default(),
            duplicates: 0,
            timed: None,
            tail: None,
            last_sent: now,
            shut_since: None,
            persists: 0,
            challenges: Challenges::default(),
            sack: false,
            timestamps: false,
            unreachable: false,
            syn_due: true,
            ack_due: false,
            reset_due: None,
            force: None,
            config: settings,
        }
    }

    /// The connection's state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The mirror's address and port.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.config.local
    }

    /// The shadow's address and port.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.config.remote
    }

    /// Appends to the stream. Nothing is sent before it is released; nothing is taken after
    /// [`close`](Self::close).
    pub fn write(&mut self, bytes: &[u8]) {
        if self.state != State::Closed && !self.snd.closing {
            self.snd.write(bytes);
        }
    }

    /// Lets the stream's octets before offset `upto` be sent. Never takes back; what is
    /// not written yet cannot be released.
    pub fn release(&mut self, upto: u64) {
        self.snd.release(upto);
    }

    /// Ends the stream: FIN follows once every octet written was released and sent.
    ///
    /// RFC 9293, 3.10.4 deletes a connection that is closed in SYN-SENT. Here the stream may be
    /// complete before the shadow has answered the SYN, so it is queued as in SYN-RECEIVED.
    pub fn close(&mut self) {
        self.snd.closing = true;
    }

    /// Gives the connection up (RFC 9293, 3.10.5).
    pub fn abort(&mut self) {
        // "ESTABLISHED, FIN-WAIT-1, FIN-WAIT-2, CLOSE-WAIT: Send a reset segment:
        // <SEQ=SND.NXT><CTL=RST>"; SYN-SENT: "Delete the TCB"; CLOSING, LAST-ACK, TIME-WAIT:
        // "Respond with "ok" and delete the TCB, enter CLOSED state."
        match self.state {
            State::Closed => return,
            State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait => {
                self.send_reset();
            }
            State::SynSent | State::Closing | State::LastAck | State::TimeWait => {}
        }
        self.enter_closed(Close::Aborted);
    }

    /// Ends TIME-WAIT before its time, for a connection that needs the port: its sequence numbers and timestamps
    /// are beyond this one's, so that the peer accepts it (RFC 6191).
    pub fn leave_time_wait(&mut self) {
        if self.state == State::TimeWait {
            self.enter_closed(Close::Finished);
        }
    }

    /// Handles the timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for timer in Timer::ALL {
            if self.timers.expire(timer, now) {
                self.expired(timer, now);
            }
        }
    }

    fn expired(&mut self, timer: Timer, now: Instant) {
        match timer {
            Timer::User => self.give_up(),
            // RFC 9293, 3.10.8: "If the time-wait timeout expires on a connection, delete the
            // TCB, enter the CLOSED state, and return."
            Timer::Wait if self.state == State::TimeWait => self.enter_closed(Close::Finished),
            Timer::Wait => self.give_up(),
            Timer::DelayedAck => self.ack_due = true,
            Timer::Retransmit if self.state == State::SynSent => {
                self.rto.back_off();
                self.timed = None;
                self.syn_due = true;
            }
            Timer::Retransmit => self.retransmission_timeout(),
            Timer::Persist => {
                if self.snd.wnd == 0 {
                    self.persists = self.persists.saturating_add(1);
                }
                self.force = Some(Force::Persist);
            }
            Timer::TailLoss => {
                self.force = Some(Force::Tail);
                self.timers.set(Timer::Retransmit, now + self.rto.get());
            }
        }
    }

    /// Path MTU discovery: a packet was too big, the next hop takes `mtu` octets (RFC 1191,
    /// RFC 8201). Values below 552 (IPv4: Linux's `min_pmtu`) or 1280 (IPv6) are not
    /// believed, nor are values that are no decrease.
    ///
    /// The caller checks that the packet quoted is one of this connection's, with a sequence
    /// number in flight (RFC 5927, 7).
    pub fn handle_packet_too_big(&mut self, mtu: u16, now: Instant) {
        // RFC 8201, 4: "A node MUST NOT reduce its estimate of the Path MTU below the IPv6 minimum
        // link MTU", and "must not increase ... in response to the contents of a Packet Too Big".
        if mtu < self.config.least_mtu() || mtu >= self.config.path_mtu {
            return;
        }
        self.config.path_mtu = mtu;
        if self.state != State::SynSent && self.snd.flight() > 0 && self.snd.wnd > 0 {
            // RFC 1191, 6.4: "the retransmission ... a Datagram Too Big message ... should not be
            // treated as congestion": everything in flight goes again in smaller segments at
            // once, and cwnd stays.
            self.resend(now);
        }
    }

    /// ICMP says that the shadow cannot be reached. The caller checks that the packet quoted is
    /// one of this connection's (RFC 5927, 4.1).
    pub fn handle_unreachable(&mut self, error: Unreachable, _now: Instant) {
        match (self.state, error) {
            (State::Closed, _) => {}
            // RFC 1122, 4.2.3.9: "Destination Unreachable -- codes 2-4: These are hard error
            // conditions, so TCP SHOULD abort the connection."
            (State::SynSent, Unreachable::Hard) => self.enter_closed(Close::Unreachable),
            // RFC 1122, 4.2.3.9: "Destination Unreachable -- codes 0, 1, 5: Since these Unreachable
            // messages indicate soft error conditions, TCP MUST NOT abort the connection". And RFC
            // 5461, 4.1 takes hard errors as soft ones once the connection is synchronized.
            _ => self.unreachable = true,
        }
    }

    /// SND.NXT: the next sequence number to be sent for the first time.
    #[must_use]
    pub fn snd_nxt(&self) -> SeqNum {
        self.snd.nxt
    }

    /// Whether the octet `seq` was sent and is not acknowledged.
    #[must_use]
    pub fn has_in_flight(&self, seq: SeqNum) -> bool {
        seq.after_or_at(self.snd.una) && seq.before(self.snd.nxt)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next event, until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.poll()
    }

    /// Stream octets written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.snd.written()
    }

    /// Stream octets released.
    #[must_use]
    pub fn released(&self) -> u64 {
        self.snd.released()
    }

    /// Stream octets acknowledged by the shadow.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.snd.acknowledged()
    }

    /// Stream octets received from the shadow in order.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.rcv.received
    }

    /// Whether the shadow acknowledged our FIN.
    #[must_use]
    pub fn fin_acknowledged(&self) -> bool {
        self.snd.fin_acknowledged
    }

    /// Heap octets held, beside the size of `Client` itself.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.snd.memory() + self.rcv.memory() + self.scoreboard.memory()
    }

    /// The user timeout: RFC 9293, 3.10.8 "flush all queues, signal the user "error: connection
    /// aborted due to user timeout" ..., delete the TCB, enter the CLOSED state". An RST tells
    /// the shadow, should it be reachable again.
    fn give_up(&mut self) {
        if self.state != State::SynSent {
            self.send_reset();
        }
        let close = if self.unreachable { Close::Unreachable } else { Close::TimedOut };
        self.enter_closed(close);
    }

    /// When to give up if nothing is heard from now on.
    fn patience(&self, now: Instant) -> Instant {
        let user = now + self.config.user_timeout();
        match self.shut_since {
            Some(since) => user.min(since + self.config.zero_window_timeout()),
            None => user,
        }
    }

    fn enter_closed(&mut self, close: Close) {
        self.state = State::Closed;
        self.timers.stop_all();
        self.snd.clear();
        self.rcv.clear();
        self.scoreboard = Scoreboard::new(self.snd.una);
        self.syn_due = false;
        self.ack_due = false;
        self.force = None;
        self.events.closed = Some(close);
    }

    /// Octets of data in a full segment: SMSS.
    ///
    /// RFC 9293, 3.7.1 (MUST-16): "Eff.snd.MSS = min(SendMSS+20, MMS_S) - TCPhdrsize -
    /// IPoptionsize".
    fn smss(&self) -> u32 {
        let mms_s = self.config.path_mtu.saturating_sub(self.config.ip_header());
        let segment = self.snd.mss.saturating_add(20).min(mms_s);
        let header = 20 + if self.timestamps { 12 } else { 0 };
        u32::from(segment.saturating_sub(header)).max(1)
    }

    /// TSval now (RFC 7323, 5.4: a clock between 1 ms and 1 s a tick).
    fn timestamp(&self, now: Instant) -> u32 {
        (now.as_millis() as u32).wrapping_add(self.config.timestamp_base)
    }
}
