//! What stands in place of values that must not leave production.

mod body;
mod json;

use std::borrow::Cow;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::message::{Fields, Message, Target};
use super::query::{self, Fate};
use super::shape::field_name;
use crate::compare::{JsonPath, RuleError};
use crate::iss::Secret;

pub use body::MaskRegex;
pub(super) use body::{BodyMasks, Content};

/// Longest text that stands in a value's place, octets.
const MAX_TEXT: usize = 1_024;

/// Fields whose value is a URL, and so has a query.
const URLS: [&str; 3] = ["referer", "location", "content-location"];

/// What becomes of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// A keyed hash: within a run equal values have equal hashes, and nobody can try values out.
    Hash,
    /// It goes, with its name.
    Remove,
    /// This text.
    Text(Box<str>),
}

impl Action {
    /// Reads `hash`, `remove`, or the text.
    fn parse(flag: &'static str, whole: &str, text: &str) -> Result<Self, RuleError> {
        let error = |what| {
            Err(RuleError::new(flag, whole, what, "write hash, remove, or the text in its place"))
        };
        match text {
            "" => error("has nothing behind ="),
            "hash" => Ok(Self::Hash),
            "remove" => Ok(Self::Remove),
            text if text.chars().any(char::is_control) => error("has a control character"),
            text if text.len() > MAX_TEXT => error("is longer than 1,024 octets"),
            text => Ok(Self::Text(text.into())),
        }
    }

    /// What stands in place of `value`; none where it goes.
    fn mask(&self, secret: &Secret, value: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Hash => Some(hash(secret, value).into_bytes()),
            Self::Remove => None,
            Self::Text(text) => Some(text.as_bytes().to_vec()),
        }
    }

    fn fate(&self, secret: &Secret, value: &str) -> Fate {
        self.mask(secret, value.as_bytes()).map_or(Fate::Remove, Fate::Set)
    }
}

/// HMAC-SHA-256 (RFC 2104), its first 96 bits as hexadecimal digits. RustCrypto's `hmac` and `sha2`:
/// the tree has the latter already, and neither needs a C compiler, as BLAKE3's crate does.
fn hash(secret: &Secret, value: &[u8]) -> String {
    // Keys of every length are taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(b"mask");
    mac.update(value);
    let digest = mac.finalize().into_bytes();
    digest.iter().take(12).fold(String::with_capacity(24), |mut text, octet| {
        use std::fmt::Write as _;
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// A mask for a header field: `--mask-header`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MaskHeader {
    name: Box<str>,
    action: Action,
}

impl MaskHeader {
    /// Reads `NAME`, `NAME=hash`, `NAME=remove` or `NAME=TEXT`.
    ///
    /// # Errors
    ///
    /// It is none of these, or the field is not to be changed.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let flag = "--mask-header";
        let (name, action) = text.split_once('=').unwrap_or((text, "hash"));
        let action = Action::parse(flag, text, action)?;
        Ok(Self { name: field_name(flag, text, name)?, action })
    }

    /// The field's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A mask for a parameter of queries or forms: `--mask-query`, `--mask-form`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MaskParameter {
    name: Box<str>,
    action: Action,
}

impl MaskParameter {
    /// Reads `NAME`, `NAME=hash`, `NAME=remove` or `NAME=TEXT`; the name is a decoded one.
    ///
    /// # Errors
    ///
    /// It is none of these.
    pub fn parse(flag: &'static str, text: &str) -> Result<Self, RuleError> {
        let (name, action) = text.split_once('=').unwrap_or((text, "hash"));
        if name.is_empty() || name.contains(['&', '?', '#']) {
            let remedy = "write the parameter's name alone, such as token, or token=remove";
            return Err(RuleError::new(flag, text, "has no parameter's name", remedy));
        }
        Ok(Self { name: name.into(), action: Action::parse(flag, text, action)? })
    }
}

/// A mask for places in JSON bodies: `--mask-json`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MaskJson {
    path: JsonPath,
    action: Action,
}

impl MaskJson {
    /// Reads a path as [`JsonPath`] does, and `=hash`, `=remove` or `=TEXT` behind it.
    ///
    /// # Errors
    ///
    /// It is not of that form.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let flag = "--mask-json";
        // A quoted name may have the sign as well.
        let split = text.match_indices('=').find_map(|(at, _)| {
            JsonPath::parse(&text[..at]).ok().map(|path| (path, &text[at + 1..]))
        });
        let (path, action) = match split {
            Some(split) => split,
            None => JsonPath::parse(text).map(|path| (path, "hash")).map_err(|wrong| {
                let remedy = "write a path such as $.user.email, or $.items[*].card=remove";
                RuleError::new(flag, text, wrong.to_string(), remedy)
            })?,
        };
        Ok(Self { path, action: Action::parse(flag, text, action)? })
    }
}

/// All masks.
#[derive(Clone, Debug, Default)]
pub(super) struct Masks {
    pub headers: Vec<MaskHeader>,
    pub query: Vec<MaskParameter>,
    pub body: BodyMasks,
}

impl Masks {
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.query.is_empty() && self.body.is_empty()
    }

    /// Whether a field of this name is masked.
    pub fn names(&self, name: &[u8]) -> bool {
        self.headers.iter().any(|mask| mask.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Masks a request's target and fields.
    pub fn head(&self, message: &mut Message<'_>, secret: &Secret) {
        if let Some(target) = self.url(&message.target, secret) {
            message.target = target.into();
        }
        self.fields(&mut message.fields, secret);
    }

    /// Masks the fields of a head or trailer section.
    pub fn fields(&self, fields: &mut Fields<'_>, secret: &Secret) {
        for mask in &self.headers {
            if mask.action == Action::Remove {
                fields.remove(&mask.name);
                continue;
            }
            for field in fields.list.iter_mut().filter(|field| field.is(&mask.name)) {
                let masked = mask.action.mask(secret, &field.value);
                field.set(masked.unwrap_or_default());
            }
        }
        for field in fields.list.iter_mut().filter(|field| URLS.iter().any(|name| field.is(name))) {
            if let Some(url) = self.url(&field.value, secret) {
                field.set(url);
            }
        }
    }

    /// A target or URL with its query masked; none where nothing is to be masked.
    pub fn url(&self, url: &[u8], secret: &Secret) -> Option<Vec<u8>> {
        if self.query.is_empty() {
            return None;
        }
        // A relative reference has no scheme and need not begin with a slash.
        let (before, query) = match Target::parse(url) {
            Some(target) => (url.len() - target.query?.len() - 1, target.query?),
            None => {
                let mark = url.iter().position(|octet| *octet == b'?')?;
                (mark, &url[mark + 1..])
            }
        };
        let query = parameters(&self.query, query, secret)?;
        let mut out = url[..before].to_vec();
        if !query.is_empty() {
            out.push(b'?');
            out.extend_from_slice(&query);
        }
        Some(out)
    }
}

/// A query or form with its parameters masked; none where nothing is to be masked. Names are compared
/// without regard to case, as some frameworks do: rather too much is masked than too little.
fn parameters(masks: &[MaskParameter], query: &[u8], secret: &Secret) -> Option<Vec<u8>> {
    query::edit(query, &mut |name, value| {
        let mask = masks.iter().find(|mask| mask.name.eq_ignore_ascii_case(name));
        mask.map_or(Fate::Keep, |mask| mask.action.fate(secret, value))
    })
}

/// A body's type, as its head has it.
fn media_type<'a>(fields: &'a Fields<'_>) -> impl Iterator<Item = Cow<'a, str>> {
    fields.values("content-type").map(|value| {
        let media = value.split(|octet| *octet == b';').next().unwrap_or_default();
        String::from_utf8_lossy(media.trim_ascii()).to_ascii_lowercase().into()
    })
}
