//! One file per verb.
fn main() {}
