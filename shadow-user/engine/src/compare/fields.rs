//! A head as names and values, however it was written.

use httparse::{EMPTY_HEADER, Error, Header, Status};

use crate::exchange::Head;

/// Most fields of one head; a head with more is compared as octets.
const MAX_FIELDS: usize = 1_024;

/// Fields for which no memory is asked for.
const FEW: usize = 64;

/// A head that has no fields to show: malformed, or too many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unreadable;

/// Calls `f` with the fields of a response's head or of a trailer section.
pub(super) fn with<T>(head: &Head, f: impl FnOnce(&[Header<'_>]) -> T) -> Result<T, Unreadable> {
    match head {
        Head::Http1(octets) => with_octets(behind_status_line(octets), f),
        Head::Fields(fields) if fields.len() > MAX_FIELDS => Err(Unreadable),
        Head::Fields(fields) => {
            let headers: Result<Vec<_>, _> = fields
                .iter()
                .map(|(name, value)| str::from_utf8(name).map(|name| Header { name, value }))
                .collect();
            headers.map(|headers| f(&headers)).map_err(|_| Unreadable)
        }
    }
}

/// A trailer section has no status line.
fn behind_status_line(octets: &[u8]) -> &[u8] {
    let octets = octets.trim_ascii_start();
    if !octets.starts_with(b"HTTP/") {
        return octets;
    }
    octets.iter().position(|byte| *byte == b'\n').map_or(&[], |end| &octets[end + 1..])
}

fn with_octets<T>(octets: &[u8], f: impl FnOnce(&[Header<'_>]) -> T) -> Result<T, Unreadable> {
    let mut few = [EMPTY_HEADER; FEW];
    match httparse::parse_headers(octets, &mut few) {
        Ok(Status::Complete((_, headers))) => Ok(f(headers)),
        Ok(Status::Partial) if octets.trim_ascii().is_empty() => Ok(f(&[])),
        Err(Error::TooManyHeaders) => {
            let mut many = vec![EMPTY_HEADER; MAX_FIELDS];
            match httparse::parse_headers(octets, &mut many) {
                Ok(Status::Complete((_, headers))) => Ok(f(headers)),
                _ => Err(Unreadable),
            }
        }
        _ => Err(Unreadable),
    }
}

/// The first value of a field, or none where the head is unreadable.
pub(super) fn value(head: &Head, name: &str) -> Option<Vec<u8>> {
    with(head, |headers| {
        let field = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        field.map(|header| header.value.to_vec())
    })
    .ok()
    .flatten()
}

/// All values of a field as one list (RFC 9110, 5.3).
pub(super) fn list(head: &Head, name: &str) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = with(head, |headers| {
        for header in headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)) {
            if !all.is_empty() {
                all.push(b',');
            }
            all.extend_from_slice(header.value);
        }
    });
    all
}
