//! The emulated TCP client against other stacks, on simulated links.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../sim/mod.rs"]
mod sim;

mod adversary;
mod clean;
mod conversation;
mod lossy;
mod throughput;
