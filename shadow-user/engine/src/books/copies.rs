//! One shadow's books out of those of several engines.

use std::ops::AddAssign;

use shadow_common::Counter;

use super::{
    Books, ByteBooks, CircuitBooks, ExchangeBooks, FlowBooks, GateBooks, PacketBooks, ReplyBooks,
    RequestBooks, ResponseBooks, Tally, Undelivered,
};

impl Books {
    /// Adds what another copy of the same flows came to. What was captured was captured once, for
    /// both: that stays as it is.
    pub fn add_copy(&mut self, copy: &Self) {
        let Self {
            packets: _,
            responses: _,
            replies,
            exchanges,
            flows,
            bytes,
            requests,
            gates,
            circuit,
            transmitted,
            retransmitted,
        } = copy;
        self.replies += replies;
        self.exchanges += exchanges;
        self.flows += flows;
        self.bytes += bytes;
        self.requests += requests;
        self.gates += gates;
        self.circuit.join(circuit);
        self.transmitted += transmitted;
        self.retransmitted += retransmitted;
    }
}

impl CircuitBooks {
    /// Each copy finds out for itself: most of them at the same time, and it is one shadow.
    fn join(&mut self, copy: &Self) {
        self.open |= copy.open;
        self.opened = self.opened.max(copy.opened);
    }
}

/// Each field to its own; a field that is left out does not compile.
macro_rules! add_fields {
    ($($books:ident { $($field:ident),+ })+) => {$(
        impl AddAssign<&Self> for $books {
            fn add_assign(&mut self, other: &Self) {
                let Self { $($field),+ } = other;
                $(self.$field += $field;)+
            }
        }
    )+};
}

add_fields! {
    PacketBooks { captured, used, ignored }
    ReplyBooks { captured, used, ignored }
    ResponseBooks { captured, used, ignored }
    ExchangeBooks { seen, paired, unpaired_production, unpaired_shadow }
    FlowBooks { seen, mirrored, skipped, aborted, unshaped }
    ByteBooks { captured, delivered, skipped, undelivered, answered }
    RequestBooks { seen, delivered, skipped, undelivered, answered, unanswered }
    GateBooks { gated, timed_out }
    Undelivered { skipped, aborted }
}

impl<C: Counter> AddAssign<&Self> for Tally<C> {
    fn add_assign(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::books::{Aborted, IgnoredPacket};

    #[test]
    fn two_copies_of_a_balanced_book_balance() {
        let mut books = Books::default();
        books.packets.captured = 3;
        books.packets.used = 2;
        books.packets.ignored.add(IgnoredPacket::NoFlow, 1);
        books.flows.seen = 2;
        books.flows.mirrored = 1;
        books.flows.aborted.add(Aborted::GateTimeout, 1);
        books.bytes.captured = 10;
        books.bytes.delivered = 4;
        books.bytes.undelivered.aborted.add(Aborted::GateTimeout, 6);
        books.circuit.opened = 1;
        let copy = books.clone();
        books.add_copy(&copy);
        assert_eq!(books.check(true), Ok(()));
        assert_eq!((books.packets.captured, books.flows.seen), (3, 4));
        assert_eq!(books.bytes.undelivered.aborted.get(Aborted::GateTimeout), 12);
        assert_eq!(books.circuit.opened, 1);
    }
}
