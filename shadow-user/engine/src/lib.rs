//! Shadowtap's protocol core.
//!
//! Knows no kernel, no socket and no clock: packets, time and seeds are handed
//! in, packets and counts are handed out, and the same inputs give the same
//! outputs. [`Engine`] is what the daemon drives.
#![forbid(unsafe_code)]

mod answers;
pub mod books;
mod circuit;
pub mod client;
pub mod compare;
mod config;
mod engine;
pub mod exchange;
pub mod http;
mod iss;
mod offload;
mod quota;
pub mod reassembly;
pub mod rules;
pub mod seq;
mod session;
mod sources;
pub mod time;
pub mod wire;

pub use answers::{Order, Want};
pub use config::{ClientAddress, EngineConfig, GateAction, Pace};
pub use engine::{Engine, Question, QuestionId};
pub use iss::Secret;
pub use offload::{Offload, Transmit};
pub use quota::Quota;
pub use session::Answered;
pub use sources::{Hosts, Network, Source};
