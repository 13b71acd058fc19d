//! What the RFCs say, case by case: grouped by the state in which it matters, each test named
//! after its clause. Numbers are relative: this end's stream begins at 1, the peer's too.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
mod vocabulary;

mod closing;
mod established;
mod offload;
mod path;
mod recovery;
mod syn_sent;
mod window;
