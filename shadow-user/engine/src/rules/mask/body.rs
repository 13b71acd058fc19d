//! Masks of bodies.

use super::json::mask as mask_json;
use super::{MaskJson, MaskParameter, media_type, parameters};
use crate::compare::content::decode;
use crate::compare::{Bounds, Opaque, RuleError};
use crate::iss::Secret;
use crate::rules::Unmaskable;
use crate::rules::message::Fields;
use crate::rules::pattern::Replace;

/// What a body is, as far as masks are concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Media {
    /// By its content type.
    Json,
    /// It has no content type: JSON if it looks like that.
    Unnamed,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `multipart/form-data`, whose fields are not looked for.
    Multipart,
    /// Anything else.
    Other,
}

/// What a head says of its body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Content {
    media: Media,
    /// Content codings, in the order in which they were applied, with commas between them.
    codings: Vec<u8>,
}

impl Content {
    /// As a head has it.
    pub fn of(fields: &Fields<'_>) -> Self {
        let is_json = |media: &str| media.ends_with("/json") || media.ends_with("+json");
        let mut media = Media::Unnamed;
        // Of several lines a server may take any.
        for name in media_type(fields) {
            media = match &*name {
                name if is_json(name) => Media::Json,
                _ if media == Media::Json => Media::Json,
                "application/x-www-form-urlencoded" => Media::Form,
                "multipart/form-data" => Media::Multipart,
                _ => Media::Other,
            };
        }
        let codings: Vec<_> = fields.elements("content-encoding").collect();
        Self { media, codings: codings.join(&b',') }
    }

    /// Whether it is `multipart/form-data`.
    pub fn is_multipart(&self) -> bool {
        self.media == Media::Multipart
    }
}

/// `--mask-regex`: `REGEX => TEXT`.
#[derive(Clone, Debug)]
pub struct MaskRegex(pub(in crate::rules) Replace);

impl MaskRegex {
    /// Reads `REGEX => TEXT`, in which `$1` is the first group.
    ///
    /// # Errors
    ///
    /// It is not of that form.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let remedy = "write REGEX => TEXT, as \\d{16} => CARD";
        Replace::parse("--mask-regex", text, remedy).map(Self)
    }
}

/// All masks of bodies.
#[derive(Clone, Debug)]
pub struct BodyMasks {
    pub json: Vec<MaskJson>,
    pub form: Vec<MaskParameter>,
    pub regex: Vec<MaskRegex>,
    /// Most octets of a body, as it comes and decoded: `--mask-limit`.
    pub limit: usize,
}

impl Default for BodyMasks {
    fn default() -> Self {
        Self { json: Vec::new(), form: Vec::new(), regex: Vec::new(), limit: 1 << 20 }
    }
}

impl BodyMasks {
    pub fn is_empty(&self) -> bool {
        self.json.is_empty() && self.form.is_empty() && self.regex.is_empty()
    }

    /// Whether any mask has to do with such a body.
    pub fn concern(&self, content: &Content) -> bool {
        !self.regex.is_empty()
            || match content.media {
                Media::Json | Media::Unnamed => !self.json.is_empty(),
                Media::Form | Media::Multipart => !self.form.is_empty(),
                Media::Other => false,
            }
    }

    /// Masks a whole body; what is given has no content coding any more.
    pub fn apply(
        &self,
        content: &Content,
        body: &[u8],
        secret: &Secret,
    ) -> Result<Vec<u8>, Unmaskable> {
        if content.media == Media::Multipart && !self.form.is_empty() {
            return Err(Unmaskable::Multipart);
        }
        if body.len() > self.limit {
            return Err(Unmaskable::TooLong);
        }
        let decoded = decode(body, &content.codings, self.limit, Bounds::default().codings);
        let mut body = decoded.map_err(|opaque| match opaque {
            Opaque::TooLong => Unmaskable::TooLong,
            _ => Unmaskable::Coding,
        })?;
        // Masks make a body longer, but not beyond all measure.
        let bound = self.limit.saturating_mul(2);
        if self.is_json(content, &body) {
            body = mask_json(&body, &self.json, secret, bound)?.into();
        }
        if content.media == Media::Form
            && let Some(form) = parameters(&self.form, &body, secret)
        {
            body = form.into();
        }
        for MaskRegex(replace) in &self.regex {
            let mut out = Vec::with_capacity(body.len());
            let mut copied = 0;
            for captures in replace.pattern.captures_iter(&body) {
                let range = captures.get_match().range();
                out.extend_from_slice(&body[copied..range.start]);
                replace.expand(&captures, &mut out);
                copied = range.end;
                if out.len() > bound {
                    return Err(Unmaskable::TooLong);
                }
            }
            if copied > 0 || !out.is_empty() {
                out.extend_from_slice(&body[copied..]);
                body = out.into();
            }
        }
        if body.len() > bound { Err(Unmaskable::TooLong) } else { Ok(body.into_owned()) }
    }

    fn is_json(&self, content: &Content, body: &[u8]) -> bool {
        let text = body.trim_ascii_start();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        !self.json.is_empty()
            && match content.media {
                Media::Json => !text.trim_ascii().is_empty(),
                Media::Unnamed => matches!(text.first(), Some(b'{' | b'[')),
                Media::Form | Media::Multipart | Media::Other => false,
            }
    }
}
