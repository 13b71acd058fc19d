//! The application behind nginx: it hashes each body that arrives and makes content on demand.
//!
//! nginx puts the hash into its access log, so that bodies can be compared without keeping them.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::content;

/// The response field with the hash of the request's body.
pub(crate) const HASH_FIELD: &str = "X-Body-Sha256";

/// An HTTP/1.1 server on a Unix socket, reached by nginx from any network namespace.
///
/// Paths: `…/made/<offset>/<len>` answers with that window of [`crate::content`], with a `chunked`
/// query in chunks; anything else with the hash and length of the request's body,
/// `/pause/<before>/<within>` after so many ms, and so many more in the middle of the answer.
#[derive(Debug)]
pub struct DigestServer {
    listener: Arc<UnixListener>,
    acceptor: Option<JoinHandle<()>>,
}

impl DigestServer {
    /// Listens on `path`. Connections are served until the peer closes them.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub fn start(path: &Path) -> Result<Self> {
        // Left by a predecessor of the same place.
        let _ = std::fs::remove_file(path);
        let listener =
            UnixListener::bind(path).with_context(|| format!("bind {}", path.display()))?;
        let listener = Arc::new(listener);
        let shared = Arc::clone(&listener);
        let acceptor = std::thread::spawn(move || {
            // An error is the end, see `drop`.
            for stream in shared.incoming().map_while(Result::ok) {
                std::thread::spawn(move || serve(stream));
            }
        });
        Ok(Self { listener, acceptor: Some(acceptor) })
    }
}

impl Drop for DigestServer {
    fn drop(&mut self) {
        // Wakes the acceptor with EINVAL, also when the socket's file is gone.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn serve(stream: UnixStream) {
    let Ok(mut output) = stream.try_clone() else { return };
    let mut input = BufReader::with_capacity(64 << 10, stream);
    // An error is nginx gone or a request that nginx would not send; it shows as a 502 in its log.
    while let Ok(true) = answer(&mut input, &mut output) {}
}

/// Answers one request. False at the end of the connection.
fn answer(input: &mut impl BufRead, output: &mut impl Write) -> Result<bool> {
    let Some((uri, len)) = read_head(input)? else { return Ok(false) };
    let hash = content::hex(&hash_of(input, len)?);
    let made = made(&uri)?;
    let digest = format!("{hash} {len}\n");
    let body = made.unwrap_or(digest.as_bytes());
    let [before, within] = pauses(&uri)?;
    sleep(before);
    let mut head = format!("HTTP/1.1 200 OK\r\n{HASH_FIELD}: {hash}\r\n");
    if uri.ends_with("?chunked") {
        head += "Transfer-Encoding: chunked\r\n\r\n";
        output.write_all(head.as_bytes())?;
        for chunk in body.chunks(7_000) {
            write!(output, "{:x}\r\n", chunk.len())?;
            output.write_all(chunk)?;
            output.write_all(b"\r\n")?;
        }
        output.write_all(b"0\r\n\r\n")?;
    } else {
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        let mut message = head.into_bytes();
        message.extend_from_slice(body);
        let (first, rest) = message.split_at(message.len() - body.len() / 2);
        if within.is_zero() {
            output.write_all(&message)?;
        } else {
            output.write_all(first)?;
            sleep(within);
            output.write_all(rest)?;
        }
    }
    Ok(true)
}

/// URI and content length of the next request; nginx sends no chunks toward its upstream here.
fn read_head(input: &mut impl BufRead) -> Result<Option<(String, usize)>> {
    let mut head = Vec::new();
    loop {
        let read = input.read_until(b'\n', &mut head)?;
        if read == 0 && head.is_empty() {
            return Ok(None);
        }
        ensure!(read > 0 && head.len() < 64 << 10, "head cut short or too long");
        if head.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    request.parse(&head)?;
    let mut len = 0;
    for field in request.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            len = std::str::from_utf8(field.value)?.parse()?;
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("chunked request");
        }
    }
    Ok(Some((request.path.unwrap_or_default().to_owned(), len)))
}

fn hash_of(input: &mut impl Read, len: usize) -> Result<Vec<u8>> {
    let mut hash = Sha256::new();
    let mut left = len;
    let mut piece = [0; 64 << 10];
    while left > 0 {
        let wanted = left.min(piece.len());
        let read = input.read(&mut piece[..wanted])?;
        ensure!(read > 0, "body cut short");
        hash.update(&piece[..read]);
        left -= read;
    }
    Ok(hash.finalize().to_vec())
}

/// The content that a `…/made/<offset>/<len>` path names.
fn made(uri: &str) -> Result<Option<&'static [u8]>> {
    let Some((_, window)) = uri.split('?').next().unwrap_or_default().split_once("/made/") else {
        return Ok(None);
    };
    let (offset, len) = window.split_once('/').context("made/<offset>/<len>")?;
    let (offset, len): (usize, usize) = (offset.parse()?, len.parse()?);
    ensure!(offset.saturating_add(len) <= content::POOL_LEN, "beyond the pool");
    Ok(Some(content::bytes(offset, len)))
}

/// Before the answer and in its middle, as a `/pause/<before>/<within>` path has them.
fn pauses(uri: &str) -> Result<[Duration; 2]> {
    let path = uri.split('?').next().unwrap_or_default();
    let Some((before, within)) = path.strip_prefix("/pause/").and_then(|it| it.split_once('/'))
    else {
        return Ok([Duration::ZERO; 2]);
    };
    Ok([Duration::from_millis(before.parse()?), Duration::from_millis(within.parse()?)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: &[u8]) -> String {
        let mut output = Vec::new();
        assert!(answer(&mut &request[..], &mut output).unwrap());
        String::from_utf8_lossy(&output).into_owned()
    }

    #[test]
    fn ends_when_its_folder_is_gone_already() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = DigestServer::start(&path).unwrap();
        drop(folder);
        drop(server);
    }

    #[test]
    fn answers_with_the_hash_of_the_body() {
        let response = ask(b"POST /digest HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
        let hash = content::sha256_hex(b"abc");
        assert!(response.contains(&format!("{HASH_FIELD}: {hash}\r\n")), "{response}");
        assert!(response.ends_with(&format!("{hash} 3\n")), "{response}");
    }

    #[test]
    fn a_body_cut_short_is_an_error() {
        let request = b"POST /digest HTTP/1.1\r\nContent-Length: 4\r\n\r\nabc";
        assert!(answer(&mut &request[..], &mut Vec::new()).is_err());
    }

    #[test]
    fn pauses_are_read_from_the_path() {
        let millis = |before, within| [before, within].map(Duration::from_millis);
        assert_eq!(pauses("/pause/20/3?id=1").unwrap(), millis(20, 3));
        assert_eq!(pauses("/digest").unwrap(), millis(0, 0));
        assert!(pauses("/pause/x/3").is_err());
        let begun = std::time::Instant::now();
        assert!(ask(b"GET /pause/2/3 HTTP/1.1\r\n\r\n").ends_with(" 0\n"));
        assert!(begun.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    fn a_window_beyond_the_pool_is_an_error() {
        assert!(made("/made/33554432/1").is_err());
        assert_eq!(made("/app/made/5/4?chunked").unwrap(), Some(content::bytes(5, 4)));
    }
}
