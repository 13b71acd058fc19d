//! The files of a comparison: opened before anything is attached, so that a run does not end with
//! nothing to show.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

use shadow_engine::compare::Learnt;

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
    /// Opens the file and starts its writer; `bodies` and values are in it when asked for.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn open(config: &config::Report, bodies: bool) -> Result<Self, Refusal> {
        let writer = Sink::open(config.target.value.clone()).and_then(Writer::start);
        let writer = writer.map_err(|error| {
            config.target.refuse(
                format!("cannot be written: {error}"),
                "give a file in a directory that exists and is writable, or -",
            )
        })?;
        let pick = Pick::new(config.only, config.share);
        Ok(Self { pick, bodies, writer })
    }
}

/// The noise that an earlier run has learnt.
///
/// # Errors
/// When the file cannot be read, or is none of `--learn-noise`.
pub fn read_noise(config: &config::Judge) -> Result<Option<Learnt>, Refusal> {
    let Some(setting) = &config.noise else { return Ok(None) };
    let octets = std::fs::read(&setting.value).map_err(|error| {
        let remedy = "give a file that --learn-noise has written";
        setting.refuse(format!("cannot be read: {error}"), remedy)
    })?;
    match Learnt::read(&octets) {
        Ok(learnt) => Ok(Some(learnt)),
        Err(error) => {
            let text = error.to_string();
            let (what, remedy) = text.split_once("; ").unwrap_or((&text, "learn it again"));
            Err(setting.refuse(format!("is {what}"), remedy))
        }
    }
}

/// The file that noise is written to at the end.
///
/// # Errors
/// When it cannot be written.
pub fn create_noise(config: &config::Judge) -> Result<Option<(Setting<PathBuf>, File)>, Refusal> {
    let Some(setting) = &config.learn_noise else { return Ok(None) };
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&setting.value);
    let file = file.map_err(|error| {
        setting.refuse(
            format!("cannot be written: {error}"),
            "give a file in a directory that exists and is writable",
        )
    })?;
    Ok(Some((setting.clone(), file)))
}
