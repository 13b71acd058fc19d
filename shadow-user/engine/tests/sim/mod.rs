//! A simulated network for tests: virtual time, links with faults, a smoltcp server.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod dice;
pub mod link;
pub mod shadow;
pub mod sink;
pub mod tso;

use shadow_engine::time::Instant;

/// Steps and virtual time that one conversation may take before it counts as a livelock.
pub const MAX_STEPS: u64 = 1_000_000;

/// A point in virtual time, from microseconds (smoltcp's unit).
pub fn micros(micros: u64) -> Instant {
    Instant::from_nanos(micros * 1000)
}

/// Runs `body` for each seed; on a panic says which one it was and how to run it alone.
///
/// With `SHADOWTAP_SEED=n` in the environment only that one is run.
pub fn for_each_seed(seeds: std::ops::Range<u64>, body: impl Fn(u64)) {
    if let Ok(seed) = std::env::var("SHADOWTAP_SEED") {
        let seed = seed.parse().expect("SHADOWTAP_SEED is a number");
        if seeds.contains(&seed) {
            body(seed);
        }
        return;
    }
    for seed in seeds {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        let guard = Guard { seed, name };
        body(seed);
        std::mem::forget(guard);
    }
}

struct Guard {
    seed: u64,
    name: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        eprintln!(
            "seed {seed} fails; alone: SHADOWTAP_SEED={seed} cargo test -p shadow-engine {name}",
            seed = self.seed,
            name = self.name
        );
    }
}
