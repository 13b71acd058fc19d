//! Whether bytes begin an HTTP/1 request.

use httparse::Request;

/// How many octets are looked at for the end of the request line: RFC 9112, 3
/// recommends to support 8,000 at least, and servers take little more.
const MAX_REQUEST_LINE_LEN: usize = 8 * 1024;

/// The IANA registry's methods, and those of caches (PURGE, BAN) and UPnP. Any
/// token could be one, but then so could the rest of one: "OST" is none.
const METHODS: [&str; 45] = [
    "ACL",
    "BAN",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "NOTIFY",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// What bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recognition {
    /// The beginning of a request: a whole valid request line, and behind it the
    /// name of a first header field or the end of the head.
    Yes,
    /// So far they could be; at most 8 KiB (and one field name) are asked for.
    NeedMore,
    /// They are not.
    No,
}

/// Whether a stream's next bytes begin an HTTP/1 request.
///
/// Used where a flow is joined in its middle, so it is stricter than a server:
/// the method is a known one, the target has one of the forms of RFC 9112, 3.2,
/// and no empty line comes before the request line.
#[must_use]
pub fn looks_like_request(bytes: &[u8]) -> Recognition {
    let line = bytes.get(..MAX_REQUEST_LINE_LEN).unwrap_or(bytes);
    let (line, fields) = match line.iter().position(|byte| *byte == b'\n') {
        Some(line_feed) => bytes.split_at(line_feed + 1),
        None if line.len() < MAX_REQUEST_LINE_LEN => (line, &[][..]),
        None => return Recognition::No,
    };
    // Of the line alone: what is wrong further on was not asked.
    let mut request = Request::new(&mut []);
    let Ok(_) = request.parse(line) else { return Recognition::No };
    let Some(method) = request.method else {
        let begun = METHODS.iter().any(|method| method.as_bytes().starts_with(bytes));
        return if begun { Recognition::NeedMore } else { Recognition::No };
    };
    // httparse skips empty lines.
    if !bytes.starts_with(method.as_bytes()) || !METHODS.contains(&method) {
        return Recognition::No;
    }
    let target_ok = match request.path {
        Some(target) => is_target(method, target),
        // Its first octet is there to be judged.
        None => bytes.get(method.len() + 1).is_none_or(|first| can_begin_target(method, *first)),
    };
    if !target_ok {
        return Recognition::No;
    }
    if line.ends_with(b"\n") { judge_field(fields) } else { Recognition::NeedMore }
}

fn can_begin_target(method: &str, first: u8) -> bool {
    match first {
        _ if method == "CONNECT" => true,
        b'*' => method == "OPTIONS",
        b'/' | b'h' | b'H' => true,
        _ => false,
    }
}

/// RFC 9112, 3.2: origin-form, absolute-form, authority-form or asterisk-form.
fn is_target(method: &str, target: &str) -> bool {
    let scheme = |scheme: &str| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    match method {
        "CONNECT" => target.contains(':'),
        "OPTIONS" if target == "*" => true,
        _ => target.starts_with('/') || scheme("http://") || scheme("https://"),
    }
}

/// Judges what follows a request line: an empty line, or a field name.
fn judge_field(bytes: &[u8]) -> Recognition {
    // RFC 9110, 5.6.2: the characters of a token.
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    match (bytes.iter().take_while(|byte| in_token(byte)).count(), bytes) {
        (0, [] | [b'\r']) => Recognition::NeedMore,
        (0, [b'\n', ..] | [b'\r', b'\n', ..]) => Recognition::Yes,
        (len @ 1..MAX_REQUEST_LINE_LEN, _) => match bytes.get(len) {
            None => Recognition::NeedMore,
            Some(b':') => Recognition::Yes,
            Some(_) => Recognition::No,
        },
        _ => Recognition::No,
    }
}
