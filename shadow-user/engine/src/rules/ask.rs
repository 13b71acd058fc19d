//! A request about which a program is asked, and what the program may make of it.

use super::message::Message;
use crate::compare::ignore::is_token;
use crate::http::{Method, RequestEvent, Requests};

/// Fields that say where a message ends: a program neither sees nor sets them.
pub(super) const ENDS: [&str; 3] = ["content-length", "trailer", "transfer-encoding"];

/// A request as it would be sent: filtered, masked and shaped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proposal {
    /// With its empty line.
    head: Vec<u8>,
    /// Without transfer coding.
    body: Vec<u8>,
}

/// A request in parts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parts<'p> {
    /// The method.
    pub method: &'p str,
    /// The request target (RFC 9112, 3.2), its query included.
    pub target: Vec<u8>,
    /// Names and values, but for the fields that say where the message ends.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body, without transfer coding.
    pub body: &'p [u8],
}

/// What a program wants changed; what it does not name stays.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Revision {
    /// The method.
    pub method: Option<String>,
    /// The request target.
    pub target: Option<Vec<u8>>,
    /// All fields; those that say where the message ends are not taken.
    pub fields: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    /// The body.
    pub body: Option<Vec<u8>>,
}

/// Why a revised request is not sent.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Unsendable {
    /// The method is no token, CONNECT, or another than before where HEAD is one of both: whether the
    /// answer has a body must not change.
    #[error("a method that cannot stand there")]
    Method,
    /// The target has a space or a control character, or is empty.
    #[error("a target that is none")]
    Target,
    /// A field's name is no token, or its value has a control character.
    #[error("a header line that is none")]
    Field,
    /// HTTP/1.1 asks for exactly one (RFC 9112, 3.2).
    #[error("not exactly one Host")]
    Host,
    /// It asks for another protocol.
    #[error("an upgrade to another protocol")]
    Upgrade,
    /// The body is longer than one that is collected.
    #[error("a body that is too long")]
    TooLong,
    /// What comes of it is not read as one request.
    #[error("no request")]
    Request,
}

impl Proposal {
    /// Of a whole head and the body behind it.
    pub(crate) fn new(head: Vec<u8>, body: Vec<u8>) -> Self {
        Self { head, body }
    }

    /// Of a whole head and the body behind it; none unless these are one request.
    #[must_use]
    pub fn of(head: &[u8], body: &[u8]) -> Option<Self> {
        let message = Message::parse(head).ok()?;
        one_request(head, body, message.method).ok()?;
        Some(Self::new(head.to_vec(), body.to_vec()))
    }

    /// The head with its empty line, and the body as the head frames it.
    pub(crate) fn into_octets(self) -> (Vec<u8>, Vec<u8>) {
        (self.head, self.body)
    }

    /// Octets of head and body.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.head.capacity() + self.body.capacity()
    }

    /// The request in parts. None for a head that cannot be read, which is never proposed.
    #[must_use]
    pub fn parts(&self) -> Option<Parts<'_>> {
        let message = Message::parse(&self.head).ok()?;
        let fields = message.fields.list.iter().filter(|field| !ends(&field.name));
        Some(Parts {
            method: message.method,
            target: message.target.to_vec(),
            fields: fields.map(|field| (field.name.to_vec(), field.value.to_vec())).collect(),
            body: &self.body,
        })
    }

    /// The request as a program wants it, with a body of `limit` octets at most. Whatever the program
    /// gives, what comes of it is one request that ends where its head says.
    ///
    /// # Errors
    ///
    /// It is no request that may be sent in the place of this one.
    pub fn revise(&self, revision: Revision, limit: usize) -> Result<Self, Unsendable> {
        let message = Message::parse(&self.head).map_err(|_| Unsendable::Request)?;
        let Parts { method: old, target, fields, body } =
            self.parts().ok_or(Unsendable::Request)?;
        let method = revision.method.unwrap_or_else(|| old.to_owned());
        let target = revision.target.unwrap_or(target);
        let is_new = revision.fields.is_some();
        let mut fields = revision.fields.unwrap_or(fields);
        let body = revision.body.unwrap_or_else(|| body.to_vec());
        if !is_token(&method)
            || method == "CONNECT"
            || (method != old && [&*method, old].contains(&"HEAD"))
        {
            return Err(Unsendable::Method);
        }
        if target.is_empty() || target.iter().any(|octet| *octet <= b' ' || *octet == 0x7f) {
            return Err(Unsendable::Target);
        }
        let is_name = |name: &[u8]| std::str::from_utf8(name).is_ok_and(is_token);
        let is_control = |octet: &u8| octet.is_ascii_control() && *octet != b'\t';
        if fields.iter().any(|(name, value)| !is_name(name) || value.iter().any(is_control)) {
            return Err(Unsendable::Field);
        }
        fields.retain(|(name, _)| !ends(name));
        let hosts = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"host"));
        if is_new && message.minor == 1 && hosts.count() != 1 {
            return Err(Unsendable::Host);
        }
        if body.len() > limit {
            return Err(Unsendable::TooLong);
        }
        let mut head = format!("{method} ").into_bytes();
        head.extend_from_slice(&target);
        head.extend_from_slice(format!(" HTTP/1.{}\r\n", message.minor).as_bytes());
        for (name, value) in &fields {
            for part in [&**name, b": ", &**value, b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        // RFC 9110, 8.6: a method that anticipates content says so when there is none.
        if !body.is_empty() || matches!(&*method, "POST" | "PUT" | "PATCH") {
            head.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        one_request(&head, &body, &method)?;
        Ok(Self { head, body })
    }
}

/// Whether octets are read as exactly one request, after which HTTP/1 goes on.
fn one_request(head: &[u8], body: &[u8], method: &str) -> Result<(), Unsendable> {
    let mut requests = Requests::new();
    let (mut heads, mut is_upgrade, mut is_head, mut end) = (0, false, false, None);
    for octets in [head, body] {
        let read = requests.push(octets, &mut |event| match event {
            RequestEvent::Head { upgrade, method, .. } => {
                heads += 1;
                is_upgrade |= upgrade || method == Method::Connect;
                is_head = method == Method::Head;
            }
            RequestEvent::Ended { offset } => end = Some(offset),
            RequestEvent::Started { .. } | RequestEvent::Tunnel { .. } => {}
        });
        read.map_err(|_| Unsendable::Request)?;
    }
    let len = (head.len() + body.len()) as u64;
    match (heads, end) {
        (1, _) if is_upgrade => Err(Unsendable::Upgrade),
        (1, Some(end)) if end == len && is_head == (method == "HEAD") => Ok(()),
        _ => Err(Unsendable::Request),
    }
}

fn ends(name: &[u8]) -> bool {
    ENDS.iter().any(|ends| ends.as_bytes().eq_ignore_ascii_case(name))
}
