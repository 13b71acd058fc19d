//! The noise that a run of production's version against itself has shown, kept in a file.

use serde::{Deserialize, Serialize};

use super::Kind;

/// The version of the file's format.
const VERSION: u32 = 1;

/// What `--learn-noise` writes and later runs read: how often each field differed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Learnt {
    version: u32,
    /// By endpoint.
    pub endpoints: Vec<LearntEndpoint>,
}

/// One endpoint's noise.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LearntEndpoint {
    /// Its name.
    pub endpoint: String,
    /// Exchanges compared.
    pub exchanges: u64,
    /// Fields that differed.
    pub fields: Vec<LearntField>,
}

/// One field's noise.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LearntField {
    /// Its path.
    pub path: String,
    /// How it differed.
    pub kind: Kind,
    /// In how many exchanges.
    pub differed: u64,
}

/// Why a noise file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LearntError {
    /// It is no noise file, or was damaged.
    #[error("not a noise file ({0}); learn it again with --learn-noise")]
    Malformed(#[from] serde_json::Error),
    /// Another version of Shadowtap wrote it.
    #[error("its format is version {0}, not {VERSION}; learn it again with --learn-noise")]
    Version(u32),
}

impl Learnt {
    pub(super) fn new(endpoints: Vec<LearntEndpoint>) -> Self {
        Self { version: VERSION, endpoints }
    }

    /// Reads a noise file.
    ///
    /// # Errors
    ///
    /// It is none, or of another version.
    pub fn read(json: &[u8]) -> Result<Self, LearntError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(json)?;
        if version != VERSION {
            return Err(LearntError::Version(version));
        }
        Ok(serde_json::from_slice(json)?)
    }

    /// The file's contents: JSON for people to read and to edit.
    #[must_use]
    pub fn write(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}
