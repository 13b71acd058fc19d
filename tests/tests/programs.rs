//! The eBPF programs in this host's kernel, packet by packet (`BPF_PROG_TEST_RUN`). Needs root.

use shadow_user::kernel::{LoadOptions, Programs};

#[test]
fn the_verifier_accepts_both() {
    for log_level in [log::LevelFilter::Off, log::LevelFilter::Trace] {
        Programs::load(LoadOptions { log_level, ..LoadOptions::default() }).unwrap();
    }
}
