//! What a user wants done with requests: which are left out, and in what form the rest is sent.
//!
//! Pure functions of a request's head and body, shared by all sessions.

use std::borrow::Cow;
use std::net::SocketAddr;

/// Which requests are sent, and in what form; nothing is done by default.
#[derive(Clone, Debug, Default)]
pub struct Rules {}

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
    head: Vec<u8>,
}

/// Why a request cannot be masked, and so is not sent.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Unmaskable {
    /// The head is not HTTP/1.
    #[error("malformed head")]
    Head,
    /// The body, or what its content coding hides, is longer than the bound.
    #[error("body longer than the bound")]
    TooLong,
    /// A content coding that is not known, or malformed.
    #[error("content coding that cannot be taken off")]
    Coding,
    /// The body is not of its content type.
    #[error("body that is not of its content type")]
    Malformed,
    /// What follows the head is not HTTP/1 (an upgrade, CONNECT).
    #[error("another protocol follows")]
    Tunnel,
}

impl Rules {
    /// Whether nothing is filtered, shaped or masked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Whether every request must be understood: requests are filtered or masked, so that what is
    /// not HTTP/1 cannot be sent.
    #[must_use]
    pub fn must_understand(&self) -> bool {
        false
    }

    /// What is to be done with a request; `head` is the whole head, its empty line included (HTTP/1).
    #[must_use]
    pub fn judge<'h>(&self, head: &'h [u8], _context: &Context) -> Verdict<'h> {
        Verdict::Send { head: Cow::Borrowed(head) }
    }

    /// Masks a whole body, transfer coding removed, content coding not. What is given is to be sent
    /// without any content coding, behind [`BodyPlan::head`].
    ///
    /// # Errors
    ///
    /// It cannot be masked, and must not be sent.
    pub fn mask_body(&self, _plan: &BodyPlan, body: &[u8]) -> Result<Vec<u8>, Unmaskable> {
        Ok(body.to_vec())
    }
}

impl BodyPlan {
    /// The head to send before a body of `len` octets: with `Content-Length`, without
    /// `Transfer-Encoding`, `Trailer` and `Content-Encoding`.
    #[must_use]
    pub fn head(&self, _len: usize) -> Vec<u8> {
        self.head.clone()
    }
}
