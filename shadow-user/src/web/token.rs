//! What opens the page and the API to those who have it.

use std::fmt;
use std::path::PathBuf;

use subtle::ConstantTimeEq as _;

use crate::setting::{Refusal, Setting};

/// The variable that can hold the token.
pub const VARIABLE: &str = "SHADOWTAP_LISTEN_TOKEN";
/// A shorter token can be guessed.
const SHORTEST: usize = 16;
const REMEDY: &str = "put one there that `openssl rand -hex 16` makes";

/// A secret text that is compared in constant time and never printed.
#[derive(Clone)]
pub struct Token(Box<str>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// The text in the file of `--listen-token-file`, else in `$SHADOWTAP_LISTEN_TOKEN`, else none.
    ///
    /// # Errors
    /// A file that cannot be read, or a token that is none.
    pub fn load(file: Option<&Setting<PathBuf>>) -> Result<Option<Self>, Refusal> {
        let Some(file) = file else {
            return match std::env::var(VARIABLE) {
                Ok(text) => Self::new(&text)
                    .map(Some)
                    .map_err(|what| Refusal::new(format!("${VARIABLE}"), what, REMEDY)),
                Err(_) => Ok(None),
            };
        };
        let text = std::fs::read_to_string(&file.value).map_err(|error| {
            file.refuse(format!("cannot be read: {error}"), "give a readable file with the token")
        })?;
        Self::new(&text).map(Some).map_err(|what| file.refuse(what, REMEDY))
    }

    /// From a file's or variable's text; white space around it does not count.
    ///
    /// # Errors
    /// What is wrong with it, when it is short or cannot stand in a header field.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() < SHORTEST {
            return Err(format!("holds {} characters of a token, not {SHORTEST}", text.len()));
        }
        if !text.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err("holds a token with other than visible ASCII characters".to_owned());
        }
        Ok(Self(text.into()))
    }

    /// Of a text that this process has made itself.
    pub(super) fn from_secret(text: String) -> Self {
        Self(text.into())
    }

    /// Whether `given` is the same; takes as long whichever character differs.
    pub(super) fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::Origin;

    #[test]
    fn a_token_that_can_be_guessed_is_refused() {
        assert!(Token::new("secret\n").is_err());
        assert!(Token::new("0123456789 abcdef").is_err());
        assert_eq!(Token::new(" 0123456789abcdef\n").expect("token").text(), "0123456789abcdef");
    }

    #[test]
    fn a_file_that_holds_none_is_refused_by_its_flag() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let setting = |path: &std::path::Path| Setting {
            name: "listen-token-file",
            text: "FILE".to_owned(),
            origin: Origin::Flag,
            value: path.to_path_buf(),
        };
        let refusal = Token::load(Some(&setting(file.path()))).expect_err("refused").to_string();
        assert!(refusal.starts_with("--listen-token-file FILE: holds 0 characters"), "{refusal}");
        std::fs::write(file.path(), "0123456789abcdef\n").expect("written");
        assert!(Token::load(Some(&setting(file.path()))).expect("token").is_some());
    }
}
