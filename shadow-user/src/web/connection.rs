//! Connections of browsers, bounded in number and in patience: whoever does not read is dropped.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections at once; more wait in the kernel.
const MOST: usize = 64;
/// How long a connection may take nothing of what is written to it.
const UNREAD: Duration = Duration::from_secs(10);
/// How long a connection may neither ask nor be answered.
const IDLE: Duration = Duration::from_secs(60);

/// A listener that accepts so many connections at once.
#[derive(Debug)]
pub struct Connections {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Connections {
    /// Of this listener.
    #[must_use]
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(MOST)) }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        // axum's own waits when file descriptors have run out.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection::new(stream, place, UNREAD, IDLE), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when nothing moves for too long.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
    unread: Patience,
    idle: Patience,
}

impl Connection {
    fn new(
        stream: TcpStream,
        place: Option<OwnedSemaphorePermit>,
        unread: Duration,
        idle: Duration,
    ) -> Self {
        let (unread, idle) = (Patience::new(unread), Patience::new(idle));
        Self { stream, _place: place, unread, idle }
    }

    /// What a write came to; one that waits, waits only so long.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_pending() {
            return self.unread.poll(cx).map(Err);
        }
        self.unread.end();
        self.idle.end();
        result
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if result.is_pending() {
            return self.idle.poll(cx).map(Err);
        }
        self.idle.end();
        result
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Runs out when it is polled again and again without an end.
#[derive(Debug)]
struct Patience {
    limit: Duration,
    sleep: Pin<Box<Sleep>>,
    waits: bool,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self { limit, sleep: Box::pin(sleep(limit)), waits: false }
    }

    fn end(&mut self) {
        self.waits = false;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !self.waits {
            self.waits = true;
            self.sleep.as_mut().reset(Instant::now() + self.limit);
        }
        self.sleep.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn pair(unread: Duration, idle: Duration) -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
        let client = TcpStream::connect(listener.local_addr().expect("address")).await;
        let (stream, _) = listener.accept().await.expect("stream");
        (Connection::new(stream, None, unread, idle), client.expect("client"))
    }

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(600);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
    }

    #[test]
    fn a_reader_that_does_not_read_is_dropped() {
        runtime().block_on(async {
            let (mut connection, _client) = pair(SHORT, LONG).await;
            let error = connection.write_all(&vec![0; 64 << 20]).await.expect_err("dropped");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_client_that_says_nothing_is_dropped() {
        runtime().block_on(async {
            let (mut connection, mut client) = pair(LONG, SHORT).await;
            client.write_all(b"GET").await.expect("written");
            let mut bytes = [0; 16];
            assert_eq!(connection.read(&mut bytes).await.expect("read"), 3);
            let error = connection.read(&mut bytes).await.expect_err("dropped");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }
}
