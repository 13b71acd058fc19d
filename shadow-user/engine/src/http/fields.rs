//! The header fields that decide where a message ends.

use httparse::Header;

use super::HttpError;

/// What a head's fields say about the message's length and connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Fields {
    pub content_length: Option<u64>,
    pub transfer_encoding: Option<TransferEncoding>,
    pub expects_continue: bool,
    /// `Upgrade` is there and `Connection` names it.
    pub upgrade: bool,
}

/// The transfer codings, in so far as they delimit the message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TransferEncoding {
    /// `chunked` is the last coding.
    Chunked,
    /// The last coding is another one.
    Other,
}

impl Fields {
    /// Reads the fields that matter.
    pub fn read(headers: &[Header<'_>]) -> Result<Self, HttpError> {
        let mut fields = Self::default();
        let (mut has_upgrade, mut connection_upgrade) = (false, false);
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                for value in list(header.value) {
                    fields.add_content_length(value)?;
                }
            } else if is("transfer-encoding") {
                for coding in list(header.value) {
                    fields.add_coding(coding)?;
                }
            } else if is("expect") {
                fields.expects_continue |= header.value.eq_ignore_ascii_case(b"100-continue");
            } else if is("upgrade") {
                has_upgrade = true;
            } else if is("connection") {
                connection_upgrade |=
                    list(header.value).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
            }
        }
        fields.upgrade = has_upgrade && connection_upgrade;
        Ok(fields)
    }

    /// RFC 9112, 6.3, 5: a list of the same valid number is that number; any
    /// other invalid value is an unrecoverable error.
    fn add_content_length(&mut self, value: &[u8]) -> Result<(), HttpError> {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let len = str::from_utf8(value)
            .ok()
            .filter(|_| digits)
            .and_then(|value| value.parse().ok())
            .ok_or(HttpError::ContentLength)?;
        if self.content_length.is_some_and(|known| known != len) {
            return Err(HttpError::ContentLength);
        }
        self.content_length = Some(len);
        Ok(())
    }

    /// RFC 9112, 6.1: "A sender MUST NOT apply the chunked transfer coding more
    /// than once to a message body".
    fn add_coding(&mut self, coding: &[u8]) -> Result<(), HttpError> {
        if self.transfer_encoding == Some(TransferEncoding::Chunked) {
            return Err(HttpError::TransferEncoding);
        }
        self.transfer_encoding = Some(if coding.eq_ignore_ascii_case(b"chunked") {
            TransferEncoding::Chunked
        } else {
            TransferEncoding::Other
        });
        Ok(())
    }
}

/// The elements of a comma-separated list (RFC 9110, 5.6.1), without white space.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
