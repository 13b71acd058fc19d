//! What a user wants done with requests: which are left out, and in what form the rest is sent.
//!
//! Pure functions of a request's head and body, shared by all sessions. A request is filtered as the
//! client sent it, then masked, then shaped; then a program may be asked about it. Masks are applied to reports as well, once the answers
//! have been compared.

mod ask;
mod filter;
mod mask;
mod message;
mod pattern;
mod query;
mod report;
mod shape;
#[cfg(test)]
mod tests;

pub use ask::{Parts, Proposal, Revision, Unsendable};
pub use filter::Filter;
pub use mask::{Action, MaskHeader, MaskJson, MaskParameter, MaskRegex};
pub use shape::{HeaderName, HostChange, Mark, RewritePath, SetHeader};

use std::borrow::Cow;
use std::net::SocketAddr;

use mask::{Content, Masks};
use message::Message;
use shape::Shape;

use crate::books::LeftOut;
use crate::exchange::Exchange;
use crate::iss::Secret;

/// Which requests are sent, and in what form; nothing is done by default.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    filters: Vec<Filter>,
    shape: Shape,
    masks: Masks,
    asks: bool,
    secret: Secret,
}

/// What a request is known by besides its octets.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The client's address and port.
    pub client: SocketAddr,
    /// Production's address and port, as the client knows it.
    pub production: SocketAddr,
    /// Unique per request of these two: [`request_id`](crate::exchange::request_id), so that the report
    /// of an exchange finds the correlation id that was sent.
    pub id: u64,
}

/// What is to be done with a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict<'h> {
    /// Leave it out: `requests.skipped.filtered`.
    Skip,
    /// A mask cannot be applied within its bounds, do not send: `requests.skipped.unmaskable`.
    Unmaskable(Unmaskable),
    /// Send this head in place of the client's, borrowed where it is the client's own; the body as it is.
    Send {
        /// The head with its empty line.
        head: Cow<'h, [u8]>,
    },
    /// Collect the body first, then [`Rules::mask_body`] and [`BodyPlan::head`].
    Collect {
        /// How the body is masked, and its head.
        plan: Box<BodyPlan>,
        /// Most octets of the body, transfer coding removed; a longer one is [`Unmaskable::TooLong`].
        limit: usize,
    },
}

/// A request whose body has to be collected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BodyPlan {
    /// Without framing and without the empty line, unless it [`is_whole`](Self::is_whole).
    head: Vec<u8>,
    /// None where the body goes as it is.
    content: Option<Content>,
    /// The head is the whole one, and fits the body.
    is_whole: bool,
}

/// Why a request cannot be masked, and so is not sent.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Unmaskable {
    /// The head is not HTTP/1.
    #[error("malformed head")]
    Head,
    /// The body, what its content coding hides, or what masks make of it, is longer than the bound.
    #[error("body longer than the bound")]
    TooLong,
    /// A coding that is not known, or malformed.
    #[error("coding that cannot be taken off")]
    Coding,
    /// The body is not of its content type.
    #[error("body that is not of its content type")]
    Malformed,
    /// A form whose fields are not looked for.
    #[error("multipart form")]
    Multipart,
    /// JSON of over 64 levels, or of more work than 16 MiB of parsing.
    #[error("JSON that takes too much work")]
    Work,
    /// What follows the head is not HTTP/1 (an upgrade, CONNECT).
    #[error("another protocol follows")]
    Tunnel,
}

/// Fields about a body that is not sent as it was: its framing, its codings, and its unkeyed hashes
/// (RFC 9530, RFC 3230, RFC 1864), by which a short one could be found by trying.
const OF_THE_BODY: [&str; 8] = [
    "content-digest",
    "content-encoding",
    "content-length",
    "content-md5",
    "digest",
    "repr-digest",
    "trailer",
    "transfer-encoding",
];

impl Rules {
    /// With the key of this run, which hashes and correlation ids depend on.
    #[must_use]
    pub fn with_secret(mut self, secret: Secret) -> Self {
        self.secret = secret;
        self
    }

    /// Only requests that pass are sent; with several filters, those that pass all.
    pub fn filter(&mut self, filter: Filter) {
        self.filters.push(filter);
    }

    /// Rewrites paths; of several rules the first that matches.
    pub fn rewrite_path(&mut self, rule: RewritePath) {
        self.shape.rewrite.push(rule);
    }

    /// Changes the host.
    pub fn change_host(&mut self, host: HostChange) {
        self.shape.host = Some(host);
    }

    /// Removes a field.
    pub fn remove_header(&mut self, name: HeaderName) {
        self.shape.remove.push(name);
    }

    /// Sets a field, in place of the client's.
    pub fn set_header(&mut self, header: SetHeader) {
        self.shape.set.push(header);
    }

    /// Gives requests a correlation id in this field, where clients gave none.
    pub fn add_request_id(&mut self, name: HeaderName) {
        self.shape.request_id = Some(name);
    }

    /// Marks requests as mirrored.
    pub fn mark(&mut self, mark: Mark) {
        self.shape.mark = Some(mark);
    }

    /// Masks a field of heads and trailers.
    pub fn mask_header(&mut self, mask: MaskHeader) {
        self.masks.headers.push(mask);
    }

    /// Masks a parameter of request targets, `Referer`, `Location` and `Content-Location`.
    pub fn mask_query(&mut self, mask: MaskParameter) {
        self.masks.query.push(mask);
    }

    /// Masks a parameter of URL-encoded forms.
    pub fn mask_form(&mut self, mask: MaskParameter) {
        self.masks.body.form.push(mask);
    }

    /// Masks places in JSON bodies.
    pub fn mask_json(&mut self, mask: MaskJson) {
        self.masks.body.json.push(mask);
    }

    /// Masks what matches in any body, after all other masks.
    pub fn mask_regex(&mut self, mask: MaskRegex) {
        self.masks.body.regex.push(mask);
    }

    /// A program is asked about each request that would be sent.
    pub fn ask(&mut self) {
        self.asks = true;
    }

    /// Most octets of a body that is masked or shown to a program, as it comes and behind its content coding.
    pub fn limit_masks(&mut self, octets: usize) {
        self.masks.body.limit = octets;
    }

    /// Whether nothing is filtered, shaped or masked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.must_understand() && self.shape.is_empty()
    }

    /// Whether every request must be understood: requests are filtered or masked, or a program is asked
    /// about them, so that what is not HTTP/1 cannot be sent.
    #[must_use]
    pub fn must_understand(&self) -> bool {
        !self.filters.is_empty() || self.masks() || self.asks
    }

    /// Whether a program is asked about each request that would be sent.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.asks
    }

    /// The bucket of what cannot be understood.
    #[must_use]
    pub(crate) fn not_understood(&self) -> LeftOut {
        match self.filters.is_empty() && !self.masks() && self.asks {
            true => LeftOut::FilterExecUnaskable,
            false => LeftOut::Unmaskable,
        }
    }

    /// The bucket of a request that [`Self::judge`] did not take.
    #[must_use]
    pub(crate) fn left_out(&self, why: Unmaskable) -> LeftOut {
        match why {
            Unmaskable::Head => self.not_understood(),
            _ if self.masks() => LeftOut::Unmaskable,
            _ => LeftOut::FilterExecUnaskable,
        }
    }

    /// Whether anything is masked.
    #[must_use]
    pub fn masks(&self) -> bool {
        !self.masks.is_empty()
    }

    /// Whether bodies are masked.
    #[must_use]
    pub fn masks_bodies(&self) -> bool {
        !self.masks.body.is_empty()
    }

    /// Most octets of one body that [`Verdict::Collect`] asks for; 0 where it asks for none.
    #[must_use]
    pub fn collects(&self) -> usize {
        if self.masks.is_empty() && !self.asks { 0 } else { self.masks.body.limit }
    }

    /// What is to be done with a request; `head` is the whole head, its empty line included (HTTP/1).
    #[must_use]
    pub fn judge<'h>(&'h self, head: &'h [u8], context: &Context) -> Verdict<'h> {
        if self.is_empty() {
            return Verdict::Send { head: Cow::Borrowed(head) };
        }
        let Ok(mut message) = Message::parse(head) else {
            return match self.must_understand() {
                true => Verdict::Unmaskable(Unmaskable::Head),
                false => Verdict::Send { head: Cow::Borrowed(head) },
            };
        };
        if !self.filters.iter().all(|filter| filter.passes(&message)) {
            return Verdict::Skip;
        }
        let plan = match self.content_to_mask(&message) {
            Ok(content) => content,
            Err(why) => return Verdict::Unmaskable(why),
        };
        self.masks.head(&mut message, &self.secret);
        self.shape.apply(&mut message, &self.secret, context);
        if plan.is_none() && !self.asks {
            return Verdict::Send { head: message.finish() };
        }
        let is_whole = plan.is_none() && !message.fields.has("transfer-encoding");
        let head = if is_whole {
            message.finish().into_owned()
        } else {
            let goes = if plan.is_some() { &OF_THE_BODY[..] } else { &ask::ENDS };
            message.fields.retain(|field| !goes.iter().any(|name| field.is(name)));
            let mut head = Vec::with_capacity(512);
            message.write(&mut head);
            head
        };
        Verdict::Collect {
            plan: Box::new(BodyPlan { head, content: plan, is_whole }),
            limit: self.masks.body.limit,
        }
    }

    /// Masks a whole body, transfer coding removed, content coding not. What is given is to be sent
    /// without any content coding, behind [`BodyPlan::head`].
    ///
    /// # Errors
    ///
    /// It cannot be masked, and must not be sent.
    pub fn mask_body(&self, plan: &BodyPlan, body: &[u8]) -> Result<Vec<u8>, Unmaskable> {
        match &plan.content {
            Some(content) => self.masks.body.apply(content, body, &self.secret),
            None => Ok(body.to_vec()),
        }
    }

    /// The correlation id of an exchange's request, where there is to be one: the client's, if it
    /// gave one.
    #[must_use]
    pub fn request_id(&self, exchange: &Exchange) -> Option<String> {
        let name = self.shape.request_id.as_ref()?;
        let given = report::value(&exchange.request.head, name.name());
        let context =
            Context { client: exchange.client, production: exchange.server, id: exchange.id() };
        Some(match given.filter(|value| !value.is_empty()) {
            Some(value) => String::from_utf8_lossy(&value).into_owned(),
            None => shape::request_id(&self.secret, &context),
        })
    }

    /// What of a request's body masks have to do with; none where they have nothing to do with it.
    fn content_to_mask(&self, message: &Message<'_>) -> Result<Option<Content>, Unmaskable> {
        if self.masks.is_empty() && !self.asks {
            return Ok(None);
        }
        if message.may_tunnel() {
            return Err(Unmaskable::Tunnel);
        }
        let fields = &message.fields;
        let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        let is_readable = fields.elements("transfer-encoding").all(is_chunked);
        if self.asks && !is_readable {
            return Err(Unmaskable::Coding);
        }
        let content = Content::of(fields);
        // Fields behind a body would go unmasked; what is collected is sent without them.
        let trailing = fields.elements("trailer").any(|name| self.masks.names(name));
        if !message.has_body() || !(trailing || self.masks.body.concern(&content)) {
            return Ok(None);
        }
        if !is_readable {
            return Err(Unmaskable::Coding);
        }
        match content.is_multipart() && self.masks.body.concern(&content) {
            true if !self.masks.body.form.is_empty() => Err(Unmaskable::Multipart),
            _ => Ok(Some(content)),
        }
    }
}

impl BodyPlan {
    /// Whether the body is masked.
    #[must_use]
    pub fn is_masked(&self) -> bool {
        self.content.is_some()
    }

    /// The head to send before a body of `len` octets: with `Content-Length`, without
    /// `Transfer-Encoding` and `Trailer`, and without `Content-Encoding` where the body is masked; as it
    /// is where the body is neither masked nor chunked.
    #[must_use]
    pub fn head(&self, len: usize) -> Vec<u8> {
        if self.is_whole {
            return self.head.clone();
        }
        [&*self.head, format!("Content-Length: {len}\r\n\r\n").as_bytes()].concat()
    }
}
