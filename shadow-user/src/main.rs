//! Shadowtap's daemon.

fn main() {}
