//! Shadowtap's protocol core.
//!
//! Knows no kernel, no socket and no clock: packets, time and seeds are handed
//! in, packets and events are handed out, and the same inputs give the same
//! outputs.
#![forbid(unsafe_code)]

pub mod client;
pub mod http;
pub mod reassembly;
pub mod seq;
pub mod time;
pub mod wire;
