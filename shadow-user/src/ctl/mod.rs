//! `shadowtap ctl`, and its other end in a running mirror: a socket for root alone, on which settings
//! are shown and changed.
//!
//! What can be changed is in one place: [`settings`]. The worker owns the settings; the server turns a
//! request into a [`Change`](settings::Change), and answers when the worker has made it.

mod client;
mod protocol;
mod server;
pub mod settings;
mod socket;

pub use client::run;
pub use server::{Run, serve};
pub use socket::{Place, Socket};
