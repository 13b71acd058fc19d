//! How the shadow's application learns the client's address.

use std::net::SocketAddr;

use ppp::v2::{Builder, Command, Protocol, Version};

/// The PROXY protocol's header, version 2, for a proxied TCP connection.
pub(super) fn proxy_header(client: SocketAddr, production: SocketAddr) -> Vec<u8> {
    let command = Version::Two | Command::Proxy;
    // Addresses of one connection are of one family, so the header can always be built.
    Builder::with_addresses(command, Protocol::Stream, (client, production))
        .build()
        .unwrap_or_default()
}

/// The header line for a client, with its line end.
pub(super) fn forwarded_for(client: SocketAddr) -> Box<[u8]> {
    format!("X-Forwarded-For: {}\r\n", client.ip()).into_bytes().into()
}

/// Adds a header line to a whole head, before the empty line that ends it: RFC 9112, 2.2 lets a
/// recipient take a lone LF for a line's end.
pub(super) fn add_line(head: &mut Vec<u8>, line: &[u8]) {
    let empty = if head.ends_with(b"\r\n") { 2 } else { 1 };
    let at = head.len().saturating_sub(empty);
    head.splice(at..at, line.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_header_names_both_ends() {
        let header =
            proxy_header("192.0.2.7:4000".parse().unwrap(), "10.0.0.5:80".parse().unwrap());
        assert_eq!(
            header,
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x05\x0f\xa0\x00\x50"
        );
    }

    #[test]
    fn a_line_stands_before_the_empty_one() {
        for (head, expected) in [
            (
                &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
                &b"GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n"[..],
            ),
            (b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\nHost: a\nB: c\r\n\n"),
        ] {
            let mut head = head.to_vec();
            add_line(&mut head, b"B: c\r\n");
            assert_eq!(head, expected);
        }
    }
}
