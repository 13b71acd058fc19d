//! What the fuzz targets check, as plain functions: the targets call them under
//! libFuzzer, and the engine's `corpus` test replays the corpus through them with
//! seeded mutations on stable Rust.

pub mod compare;
pub mod engine;
pub mod exchange;
pub mod http;
pub mod reassembly;
pub mod rules;
pub mod wire;
