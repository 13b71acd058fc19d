//! Counters that the programs keep, one `u64` per CPU and variant.
//!
//! A variant is the index into the per-CPU array and its label in the books.

/// A counter enum that both sides can walk.
pub trait Counter: Copy + Sized + 'static {
    /// Every variant, in order of its index.
    const ALL: &'static [Self];
    /// The index into the per-CPU array.
    fn index(self) -> u32;
    /// The label in metrics and in the summary.
    fn label(self) -> &'static str;
}

/// Defines an enum and its [`Counter`]: each variant with its label in the books.
#[macro_export]
macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[repr(u32)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $crate::Counter for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            #[inline(always)]
            fn index(self) -> u32 { self as u32 }
            fn label(self) -> &'static str { match self { $(Self::$variant => $label,)+ } }
        }
    };
}

counters! {
    /// What became of a packet in the tap. A packet that is none of ours is not counted.
    TapCounter {
        /// A whole packet of a mirrored service reached the ring.
        Captured = "captured",
        /// The ring had no room, or so little that this flow was left out so that others stay
        /// whole; production's packet went on.
        RingFull = "ring_full",
        /// Longer than [`crate::MAX_PACKET_LEN`] (BIG TCP, kernel 5.19).
        Oversize = "oversize",
        /// The packet's bytes could not be read.
        Unreadable = "unreadable",
        /// An IP fragment that may belong to a mirrored service.
        Fragment = "fragment",
        /// An IP packet whose headers are cut short or contradict themselves.
        Malformed = "malformed",
        /// Of a mirrored service, but its flow is not in the sample.
        SampledOut = "sampled_out",
        /// Of a mirrored service, but its client is not among those that are mirrored.
        Client = "client",
        /// Of a mirrored service, but its flow began in a pause.
        Paused = "paused",
    }
}

counters! {
    /// What became of a packet of production's in the tap at egress. A packet that is of no flow
    /// whose answers are wanted, or that carries nothing, is not counted. All went on.
    ResponseCounter {
        /// A whole packet reached the ring.
        Captured = "captured",
        /// Its headers reached the ring; its payload is of no use.
        Abridged = "abridged",
        /// The ring had no room.
        RingFull = "ring_full",
        /// Longer than [`crate::MAX_PACKET_LEN`] (BIG TCP, kernel 5.19).
        Oversize = "oversize",
        /// The packet's bytes could not be read.
        Unreadable = "unreadable",
        /// An IP fragment.
        Fragment = "fragment",
        /// Its headers are cut short or contradict themselves.
        Malformed = "malformed",
    }
}

counters! {
    /// What became of a shadow's packet in the guard, or of a report about the mirror's own. All but
    /// the reports to this host were dropped.
    GuardCounter {
        /// Copied to the ring, then dropped.
        Captured = "captured",
        /// The ring had no room; dropped, the shadow will send it again.
        RingFull = "ring_full",
        /// Longer than [`crate::MAX_PACKET_LEN`].
        Oversize = "oversize",
        /// The packet's bytes could not be read.
        Unreadable = "unreadable",
        /// A fragment. To this host only the first of a packet, without which the rest is never
        /// put together; to others every one.
        Fragment = "fragment",
        /// Its headers are cut short or contradict themselves.
        Malformed = "malformed",
        /// An ICMP error about a packet of the mirror reached the ring; passed on.
        Icmp = "icmp",
        /// An ICMP error about a packet of the mirror could not be copied; passed on.
        IcmpLost = "icmp_lost",
        /// An ICMP error to another's address, from which the mirror had sent, reached the ring;
        /// dropped, lest it be forwarded.
        IcmpForeign = "icmp_foreign",
        /// The same could not be copied; dropped.
        IcmpForeignLost = "icmp_foreign_lost",
    }
}
