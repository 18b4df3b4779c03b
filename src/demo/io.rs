//! All that the demo servers ask of the operating system: sockets and timers.
//!
//! Kept in one file so that it can be exchanged for the crate's own network layer as a whole.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// One read of a connection. A demo's messages are far smaller.
const READ_BYTES: usize = 8 * 1024;

pub(super) fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Hands a bound listener to the running runtime.
pub(super) fn register(listener: StdListener) -> io::Result<TcpListener> {
    TcpListener::from_std(listener)
}

pub(super) async fn accept(listener: &TcpListener) -> io::Result<Connection> {
    let (stream, _) = listener.accept().await?;
    Connection::try_new(stream)
}

#[cfg(test)]
pub(super) async fn connect(address: SocketAddr) -> io::Result<Connection> {
    Connection::try_new(TcpStream::connect(address).await?)
}

pub(super) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// A TCP connection in the shape that hyper wants.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// hyper's cursor can be advanced over bytes read in place by `unsafe` only, which this crate
    /// forbids; a copy through here costs nothing that a demo notices.
    scratch: Box<[u8]>,
}

impl Connection {
    fn try_new(stream: TcpStream) -> io::Result<Self> {
        // Events are small writes that are waited for.
        stream.set_nodelay(true)?;
        let scratch = vec![0; READ_BYTES].into_boxed_slice();
        Ok(Self { stream, scratch })
    }
}

impl Read for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, scratch } = self.get_mut();
        let room = cursor.remaining().min(scratch.len());
        let mut buffer = ReadBuf::new(&mut scratch[..room]);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        cursor.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
