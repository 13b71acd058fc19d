//! A small HTTP/1.1 client with full control over its connection (RFC 9112).

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

const MAX_HEADERS: usize = 64;

/// What a request carries.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Body {
    /// No body, no `Content-Length`.
    #[default]
    None,
    /// A body of known length.
    Length(Vec<u8>),
    /// The same bytes cut into chunks of the given size.
    Chunked(Vec<u8>, usize),
}

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET`, `HEAD`, `POST`, …
    pub method: &'static str,
    /// Path and query.
    pub uri: String,
    /// Header fields beside `Host` and those of the body.
    pub headers: Vec<(&'static str, String)>,
    /// The content.
    pub body: Body,
    /// Send `Expect: 100-continue` and wait for the answer before the body.
    pub expect_continue: bool,
}

/// A final response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Fields with lower-case names, in the order received.
    pub headers: Vec<(String, String)>,
    /// The content, chunks joined.
    pub body: Vec<u8>,
    /// The server closes the connection after it.
    pub close: bool,
}

impl Request {
    /// `GET uri`.
    #[must_use]
    pub fn get(uri: &str) -> Self {
        Self { method: "GET", uri: uri.to_owned(), ..Self::default() }
    }

    /// `POST uri` with a body of known length.
    #[must_use]
    pub fn post(uri: &str, body: Vec<u8>) -> Self {
        Self { method: "POST", uri: uri.to_owned(), body: Body::Length(body), ..Self::default() }
    }

    /// Adds a field.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The content without its framing.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        match &self.body {
            Body::None => &[],
            Body::Length(bytes) | Body::Chunked(bytes, _) => bytes,
        }
    }

    /// Request line and header section.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: lab.test\r\n", self.method, self.uri);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        match &self.body {
            Body::None => {}
            Body::Length(bytes) => head += &format!("Content-Length: {}\r\n", bytes.len()),
            Body::Chunked(..) => head += "Transfer-Encoding: chunked\r\n",
        }
        if self.expect_continue {
            head += "Expect: 100-continue\r\n";
        }
        head += "\r\n";
        head.into_bytes()
    }

    /// The content with its framing.
    #[must_use]
    pub fn framed_body(&self) -> Vec<u8> {
        match &self.body {
            Body::None => Vec::new(),
            Body::Length(bytes) => bytes.clone(),
            Body::Chunked(bytes, size) => {
                let mut framed = Vec::with_capacity(bytes.len() + 64);
                for chunk in bytes.chunks((*size).max(1)) {
                    framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    framed.extend_from_slice(chunk);
                    framed.extend_from_slice(b"\r\n");
                }
                framed.extend_from_slice(b"0\r\n\r\n");
                framed
            }
        }
    }
}

impl Response {
    /// The first field of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let field = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }
}

/// One TCP connection that speaks HTTP/1.1.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Received and not yet consumed.
    buffer: Vec<u8>,
}

impl Connection {
    /// Takes over an open connection; every read and write has the limit `timeout`.
    ///
    /// # Errors
    /// When the socket refuses its options.
    pub fn new(stream: TcpStream, timeout: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// The socket, for what this client does not offer.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends `request` and reads its response.
    ///
    /// # Errors
    /// When the connection breaks, times out, or the answer is not HTTP/1.
    pub fn exchange(&mut self, request: &Request) -> Result<Response> {
        let to_head = request.method == "HEAD";
        if request.expect_continue {
            self.write(&request.head())?;
            let interim = self.read_head()?;
            if interim.status != 100 {
                return self.read_body(interim, to_head);
            }
            self.write(&request.framed_body())?;
        } else {
            let mut message = request.head();
            message.extend_from_slice(&request.framed_body());
            self.write(&message)?;
        }
        self.receive(to_head)
    }

    /// Writes raw bytes.
    ///
    /// # Errors
    /// When the connection breaks or times out.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("send")
    }

    /// Reads one final response; `to_head` when it answers a `HEAD`.
    ///
    /// # Errors
    /// As [`Connection::exchange`].
    pub fn receive(&mut self, to_head: bool) -> Result<Response> {
        loop {
            let response = self.read_head()?;
            if response.status >= 200 {
                return self.read_body(response, to_head);
            }
        }
    }

    fn read_head(&mut self) -> Result<Response> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut parsed = httparse::Response::new(&mut fields);
            if let httparse::Status::Complete(len) =
                parsed.parse(&self.buffer).context("parse response")?
            {
                let headers: Vec<_> = parsed
                    .headers
                    .iter()
                    .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into()))
                    .collect();
                let mut response = Response {
                    status: parsed.code.unwrap_or_default(),
                    headers,
                    ..Response::default()
                };
                response.close = response.header("connection") == Some("close");
                self.buffer.drain(..len);
                return Ok(response);
            }
            self.fill().context("read response head")?;
        }
    }

    /// RFC 9112 section 6.3, the cases a client of one method at a time can meet.
    fn read_body(&mut self, mut response: Response, to_head: bool) -> Result<Response> {
        if to_head || matches!(response.status, 204 | 304) {
            return Ok(response);
        }
        if response.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            response.body = self.read_chunks()?;
        } else if let Some(value) = response.header("content-length") {
            let len: usize = value.parse().context("Content-Length")?;
            self.fill_to(len).context("read response body")?;
            response.body = self.buffer.drain(..len).collect();
        } else {
            response.close = true;
            while self.fill().is_ok() {}
            response.body = std::mem::take(&mut self.buffer);
        }
        Ok(response)
    }

    fn read_chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            match httparse::parse_chunk_size(&self.buffer) {
                Ok(httparse::Status::Complete((start, len))) => {
                    let len = usize::try_from(len)?;
                    // No server in the lab sends trailers.
                    self.fill_to(start + len + 2).context("read chunk")?;
                    body.extend_from_slice(&self.buffer[start..start + len]);
                    self.buffer.drain(..start + len + 2);
                    if len == 0 {
                        return Ok(body);
                    }
                }
                Ok(httparse::Status::Partial) => self.fill().context("read chunk size")?,
                Err(_) => bail!("invalid chunk size"),
            }
        }
    }

    fn fill_to(&mut self, len: usize) -> io::Result<()> {
        while self.buffer.len() < len {
            self.fill()?;
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 64 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                self.buffer.extend_from_slice(&piece[..len]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_framed_as_rfc_9112_says() {
        let body = Body::Chunked(b"abcde".to_vec(), 4);
        let request = Request { method: "POST", uri: "/".into(), body, ..Request::default() };
        assert_eq!(request.framed_body(), b"4\r\nabcd\r\n1\r\ne\r\n0\r\n\r\n");
    }

    #[test]
    fn no_content_is_still_a_last_chunk() {
        let request = Request { body: Body::Chunked(Vec::new(), 4), ..Request::get("/") };
        assert_eq!(request.framed_body(), b"0\r\n\r\n");
    }
}
