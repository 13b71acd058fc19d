//! A bounded run of what the fuzz targets check, on stable Rust: the committed
//! corpus, and seeded mutations of it.
//!
//! `SHADOWTAP_SEED=<n>` replays one seed, `SHADOWTAP_ROUNDS=<n>` asks for more.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../fuzz/src/lib.rs"]
mod checks;

use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Mutated inputs per target; a debug build takes a second or two.
const ROUNDS: u64 = 20_000;

/// Longest mutated input, bytes.
const MAX_LEN: usize = 2_000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The committed inputs of a target, in order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn below(random: &mut ChaCha8Rng, bound: usize) -> usize {
    (random.next_u64() % bound.max(1) as u64) as usize
}

/// A few random edits of a random input: flips, inserts, removals, splices.
fn mutate(random: &mut ChaCha8Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[below(random, corpus.len())].clone();
    for _ in 0..=below(random, 6) {
        let at = below(random, input.len());
        match below(random, 6) {
            0 if !input.is_empty() => input[at] ^= 1 << below(random, 8),
            1 if !input.is_empty() => input[at] = random.next_u32() as u8,
            2 => input.insert(at, random.next_u32() as u8),
            3 if !input.is_empty() => {
                let end = (at + below(random, 16)).min(input.len());
                input.drain(at..end);
            }
            4 => {
                let other = &corpus[below(random, corpus.len())];
                let from = below(random, other.len());
                let end = (from + below(random, 64)).min(other.len());
                input.splice(at..at, other[from..end].iter().copied());
            }
            _ => input.extend((0..below(random, 40)).map(|_| random.next_u32() as u8)),
        }
    }
    input.truncate(MAX_LEN);
    input
}

fn replay(target: &str, rounds: u64, check: fn(&[u8])) {
    let corpus = corpus(target);
    for input in &corpus {
        check(input);
    }
    let seeds = match variable("SHADOWTAP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("SHADOWTAP_ROUNDS").unwrap_or(rounds),
    };
    for seed in seeds {
        let input = mutate(&mut ChaCha8Rng::seed_from_u64(seed), &corpus);
        let outcome = std::panic::catch_unwind(|| check(&input));
        assert!(
            outcome.is_ok(),
            "seed {seed} fails; alone: SHADOWTAP_SEED={seed} cargo test -p shadow-engine \
             --test corpus {target}; the input is {input:02x?}"
        );
    }
}

#[test]
fn wire() {
    replay("wire", ROUNDS, checks::wire::check);
}

#[test]
fn reassembly() {
    replay("reassembly", ROUNDS, checks::reassembly::check);
}

#[test]
fn http() {
    replay("http", ROUNDS, checks::http::check);
}

#[test]
fn exchange() {
    // Each input is read many times over.
    replay("exchange", ROUNDS / 10, checks::exchange::check);
}

#[test]
fn compare() {
    replay("compare", ROUNDS / 4, checks::compare::check);
}

#[test]
fn rules() {
    replay("rules", ROUNDS / 4, checks::rules::check);
}

#[test]
fn engine() {
    // Each input is a whole conversation.
    replay("engine", ROUNDS / 10, checks::engine::check);
}
