//! The reasons: why an item is in the bucket in which it is.

use shadow_common::counters;

counters! {
    /// Why a captured packet contributed nothing to a flow.
    IgnoredPacket {
        /// Headers are cut short or contradict themselves.
        Malformed = "malformed",
        /// A checksum is wrong: production's stack throws the packet away too.
        Checksum = "checksum",
        /// Belongs to no flow and opens none (a bare ACK, FIN or RST of an unknown connection).
        NoFlow = "no_flow",
        /// Belongs to a flow that has already ended or was given up.
        FlowEnded = "flow_ended",
        /// Beyond any window that production can have offered.
        OutOfWindow = "out_of_window",
        /// A RST that production's stack ignores too (RFC 5961, 3.2).
        BlindReset = "blind_reset",
        /// Has no ACK, an impossible one (RFC 5961, 5.2), or an old timestamp (RFC 7323,
        /// 5): production's stack throws it away too.
        Unacceptable = "unacceptable",
        /// Arrived after capture was told to stop.
        Stopped = "stopped",
    }
}

counters! {
    /// Why a packet of the shadow contributed nothing to a session.
    IgnoredReply {
        /// Headers are cut short or contradict themselves.
        Malformed = "malformed",
        /// A checksum is wrong.
        Checksum = "checksum",
        /// Belongs to no open session; answered with RST (RFC 9293, 3.10.7.1).
        NoSession = "no_session",
    }
}

counters! {
    /// Why a packet of production's contributed nothing to an exchange.
    IgnoredResponse {
        /// Headers are cut short or contradict themselves.
        Malformed = "malformed",
        /// A checksum is wrong.
        Checksum = "checksum",
        /// Belongs to no flow whose exchanges are followed.
        NoSession = "no_session",
        /// Belongs to another connection with the same addresses and ports.
        OutOfWindow = "out_of_window",
    }
}

counters! {
    /// Why a flow never became a session.
    Skipped {
        /// Was open before the mirror and never showed an HTTP/1 request to join at.
        Midstream = "midstream",
        /// The client never completed the handshake with production.
        Handshake = "handshake",
        /// Every port of the mirror's range was in use.
        NoPort = "no_port",
        /// The client's address is preserved and of another family than the shadow's.
        AddressFamily = "address_family",
        /// The table of flows was full.
        MaxFlows = "max_flows",
        /// The memory limit was reached.
        Memory = "memory",
        /// The shadow was down; no new sessions were begun.
        CircuitOpen = "circuit_open",
        /// Nothing is sent in a dry run.
        DryRun = "dry_run",
        /// The mirror was paused.
        Paused = "paused",
        /// Sessions are begun as often as they may.
        MaxRate = "max_rate",
        /// What open sessions send has waited for the bandwidth for too long.
        MaxBandwidth = "max_bandwidth",
    }
}

counters! {
    /// Why a session was reset before the whole stream had arrived.
    Aborted {
        /// Bytes are missing from the capture.
        CaptureGap = "capture_gap",
        /// The client's segments contradict each other: what production reads is unknown.
        Ambiguous = "ambiguous",
        /// The shadow answered SYN with RST.
        ShadowRefused = "shadow_refused",
        /// The shadow reset the established connection.
        ShadowReset = "shadow_reset",
        /// The shadow did not acknowledge within the user timeout.
        ShadowTimeout = "shadow_timeout",
        /// The network reported the shadow as unreachable.
        ShadowUnreachable = "shadow_unreachable",
        /// The shadow did not answer as far as production had within the gate timeout.
        GateTimeout = "gate_timeout",
        /// Too many bytes waited for a slow shadow in this flow.
        FlowBuffer = "flow_buffer",
        /// The memory limit was reached.
        Memory = "memory",
        /// The client was silent for longer than the idle timeout.
        Idle = "idle",
        /// This host was under pressure, and to begin no more sessions was not enough.
        Pressure = "pressure",
        /// The client opened a new connection with the same addresses and ports.
        Superseded = "superseded",
        /// The mirror was stopped in the middle of a message, or the drain's grace ended.
        Stopped = "stopped",
        /// The stream is not HTTP/1, so that it can neither be filtered nor masked, nor a program be asked.
        Unmaskable = "unmaskable",
    }
}

counters! {
    /// Why a request was left out of its flow's mirror.
    LeftOut {
        /// The filters do not choose it.
        Filtered = "filtered",
        /// It cannot be masked within its bounds, so it must not be sent.
        Unmaskable = "unmaskable",
        /// Requests are sent as often as they may.
        MaxRequestRate = "max_request_rate",
        /// What is to be sent has waited for the bandwidth for too long.
        MaxBandwidth = "max_bandwidth",
        /// The program that is asked about requests does not want it sent.
        FilterExecDropped = "filter_exec_dropped",
        /// The program cannot be asked about it within the bounds.
        FilterExecUnaskable = "filter_exec_unaskable",
        /// The program did not answer in time.
        FilterExecTimeout = "filter_exec_timeout",
        /// Too many requests were waiting for the program.
        FilterExecBusy = "filter_exec_busy",
        /// The program was not running, or ended before it had answered.
        FilterExecDown = "filter_exec_down",
        /// What the program answered is no request that may be sent.
        FilterExecMalformed = "filter_exec_malformed",
    }
}

counters! {
    /// Why a delivered request has no answer.
    Unanswered {
        /// The session ended, with every byte delivered, before the shadow had answered.
        Closed = "closed",
        /// The session was reset.
        Aborted = "aborted",
        /// The shadow's answers stopped being HTTP/1.
        Unparsable = "unparsable",
    }
}
