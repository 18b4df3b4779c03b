//! The bytes of one connection, as its pace sees them.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::pace::Pace;
use crate::net::tls::Socket;

/// What is read of a request that comes before the last one is answered, when HTTP does not wait for it.
const BEFORE_ITS_TIME: usize = 1024;

/// A connection's bytes, watched for when the client begins a head, and how much of an answer it takes.
pub(super) struct Metered {
    socket: Socket,
    pace: Rc<Pace>,
    /// What was read before, and is to be read again.
    again: Bytes,
}

impl Metered {
    pub(super) fn new(socket: Socket, pace: Rc<Pace>) -> Self {
        Self {
            socket,
            pace,
            again: Bytes::new(),
        }
    }

    /// `read` is to be read once more before what follows.
    pub(super) fn rewind(&mut self, read: Bytes) {
        if !read.is_empty() {
            self.again = read; // an empty one may hold its buffer all the same
        }
    }

    /// Reads `length` bytes, which are there, to the end of `read`.
    pub(super) async fn take(&mut self, length: usize, read: &mut Vec<u8>) {
        let begun = read.len();
        read.resize(begun + length, 0);
        let (_, space) = read.split_at_mut(begun);
        let mut space = ReadBuf::new(space);
        let taken = poll_fn(|cx| Pin::new(&mut *self).poll_read(cx, space.unfilled())).await;
        let length = taken.map_or(0, |()| space.filled().len());
        read.truncate(begun + length);
    }

    /// Ready when the client has left. If it sends something instead, that is kept to be read again, and no more of it is
    /// read, so that nobody knows of its leaving before something is written.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.again.is_empty() {
            return Poll::Pending;
        }
        let mut space = [MaybeUninit::uninit(); BEFORE_ITS_TIME];
        let mut space = ReadBuf::uninit(&mut space);
        match ready!(Pin::new(&mut self.socket).poll_read(cx, space.unfilled())) {
            Ok(()) if !space.filled().is_empty() => {
                self.again = Bytes::copy_from_slice(space.filled());
                Poll::Pending
            }
            Ok(()) | Err(_) => Poll::Ready(()),
        }
    }

    /// The connection's pace.
    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Whether both ends have agreed on HTTP/2 in the TLS handshake.
    pub(super) fn agreed_on_http2(&self) -> bool {
        self.socket.agreed_on_http2()
    }

    /// Ready when there is something to read, the end included. Copies what has come to `begin`, unless it is to be read
    /// again, and gives how much.
    pub(super) fn poll_peek(
        &mut self,
        cx: &mut Context<'_>,
        begin: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if !self.again.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.socket.poll_peek(cx, begin)
    }
}

impl Read for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.again.is_empty() {
            let length = self.again.len().min(buffer.remaining());
            buffer.put_slice(&self.again.split_to(length));
            self.pace.read();
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if polled.is_ready() {
            self.pace.read(); // bytes, or the end, after which the pace does not matter
        }
        polled
    }
}

impl Write for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        match &polled {
            Poll::Ready(Ok(written)) => self.pace.wrote(*written),
            Poll::Ready(Err(_)) | Poll::Pending => self.pace.block(),
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.pace.wrote_all(); // hyper flushes when its buffer is empty
        if flushed.is_pending() {
            self.pace.block(); // TLS has taken it, and holds some of it
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pace.is_parking() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if self.pace.must_reset()
            && let Err(error) = self.socket.reset_on_close()
        {
            tracing::debug!(%error, "cannot reset a connection"); // it is gone already
        }
    }
}
