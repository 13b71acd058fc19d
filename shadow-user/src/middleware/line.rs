//! The lines of JSON between the mirror and the program.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use shadow_engine::rules::{Proposal, Revision, Unsendable};

/// What the program makes of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// It is sent as it was proposed.
    Pass,
    /// It is left out.
    Drop,
    /// This is sent in its place.
    Send(Proposal),
}

/// Why a line is no reply.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It does not even have an id.
    #[error("no object with an id: {0}")]
    NoReply(serde_json::Error),
    /// The reply to this question cannot be used.
    #[error("{why}")]
    Malformed {
        /// The question.
        id: u64,
        /// What is wrong.
        why: Wrong,
    },
}

/// What is wrong with a reply.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// It is not of the form.
    #[error(transparent)]
    Form(serde_json::Error),
    /// A text has a character beyond U+00FF, which is no octet.
    #[error("{0} has a character beyond U+00FF")]
    Text(&'static str),
    /// The body is no base64.
    #[error("the body is no base64: {0}")]
    Body(base64::DecodeError),
    /// It is no request that may be sent.
    #[error("would be {0}")]
    Request(#[from] Unsendable),
}

#[derive(Serialize)]
struct Asking<'a> {
    id: u64,
    method: &'a str,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

#[derive(Deserialize)]
struct Named {
    id: u64,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Pass,
    Drop,
    Send,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answering {
    #[serde(rename = "id")]
    _id: u64,
    action: Action,
    method: Option<String>,
    target: Option<String>,
    headers: Option<Vec<(String, String)>>,
    body: Option<String>,
}

/// The line for a request, with its end; none for a head that cannot be read.
pub fn write(id: u64, proposal: &Proposal) -> Option<Vec<u8>> {
    let parts = proposal.parts()?;
    let headers = parts.fields.iter().map(|(name, value)| (text(name), text(value)));
    let asking = Asking {
        id,
        method: parts.method,
        target: text(&parts.target),
        headers: headers.collect(),
        body: BASE64_STANDARD.encode(parts.body),
    };
    let mut line = serde_json::to_vec(&asking).ok()?;
    line.push(b'\n');
    Some(line)
}

/// The question that a line answers.
///
/// # Errors
/// When it names none.
pub fn id(line: &[u8]) -> Result<u64, Unreadable> {
    serde_json::from_slice::<Named>(line).map(|named| named.id).map_err(Unreadable::NoReply)
}

/// What a line says about a proposal; a body of more than `limit` octets is none.
///
/// # Errors
/// When it cannot be used.
pub fn read(line: &[u8], proposal: &Proposal, limit: usize) -> Result<Reply, Wrong> {
    let answering: Answering = serde_json::from_slice(line).map_err(Wrong::Form)?;
    let Answering { action, method, target, headers, body, .. } = answering;
    match action {
        Action::Pass => return Ok(Reply::Pass),
        Action::Drop => return Ok(Reply::Drop),
        Action::Send => {}
    }
    let target = target.map(|target| octets("target", &target)).transpose()?;
    let field = |(name, value): (String, String)| -> Result<_, Wrong> {
        Ok((octets("headers", &name)?, octets("headers", &value)?))
    };
    let fields = headers.map(|list| list.into_iter().map(field).collect::<Result<Vec<_>, _>>());
    let fields = fields.transpose()?;
    let body = body.map(|body| BASE64_STANDARD.decode(body)).transpose().map_err(Wrong::Body)?;
    let revision = Revision { method, target, fields, body };
    Ok(Reply::Send(proposal.revise(revision, limit)?))
}

/// Octets as a text with a character for each, as WSGI has them (PEP 3333): a head need not be UTF-8.
fn text(octets: &[u8]) -> String {
    octets.iter().map(|octet| char::from(*octet)).collect()
}

fn octets(what: &'static str, text: &str) -> Result<Vec<u8>, Wrong> {
    let octets = text.chars().map(|c| u8::try_from(c).map_err(|_| Wrong::Text(what)));
    octets.collect()
}
