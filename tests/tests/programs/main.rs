//! The eBPF programs in this host's kernel. Needs root.
//!
//! Most run packet by packet (`BPF_PROG_TEST_RUN`); what that cannot show (super-frames,
//! attaching, wake-ups) runs in network namespaces.

#![expect(clippy::unwrap_used, reason = "all of this is a test, its helpers included")]

mod bench;
mod choose;
mod cost;
mod frames;
mod guard;
mod live;
mod tap;
mod tap_out;

use shadow_user::kernel::{LoadOptions, Programs};

#[test]
fn the_verifier_accepts_both() {
    for log_level in [log::LevelFilter::Off, log::LevelFilter::Trace] {
        Programs::load(LoadOptions { log_level, ..LoadOptions::default() }).unwrap();
    }
}
