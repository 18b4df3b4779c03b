//! The bytes of one connection, as its pace sees them.

use std::{
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

/// What is read of a request before HTTP takes it over: all of nearly each.
const BEGINNING: usize = 4 * 1024;

/// What has come from a client.
pub(super) enum Came {
    /// Something to read.
    Bytes,
    /// Its end, or a failure.
    End,
}

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

    /// Ready when the client has left. If it sends something instead, that is kept to be read again, and no more of it is
    /// read, so that nobody knows of its leaving before something is written.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.again.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.poll_more::<BEFORE_ITS_TIME>(cx)) {
            Came::Bytes => Poll::Pending,
            Came::End => Poll::Ready(()),
        }
    }

    /// Ready when more than `known` bytes have come that HTTP has not read, or nothing will. They are read in one go, and
    /// kept to be read again: to look first, and read then, is a system call more. With TLS it may also be something that
    /// TLS says to itself, and its end is HTTP's to find.
    pub(super) fn poll_come(&mut self, cx: &mut Context<'_>, known: usize) -> Poll<Came> {
        if self.again.len() > known {
            return Poll::Ready(Came::Bytes);
        }
        if self.socket.is_secure() {
            return self.socket.poll_peek(cx, &mut [0]).map(|_| Came::Bytes);
        }
        self.poll_more::<BEGINNING>(cx)
    }

    /// What has come that HTTP has not read, as far as it is known.
    pub(super) fn come(&self) -> &[u8] {
        &self.again
    }

    /// Reads up to `MOST` bytes to the end of what is to be read again.
    fn poll_more<const MOST: usize>(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        let mut space = [MaybeUninit::uninit(); MOST];
        let mut space = ReadBuf::uninit(&mut space);
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, space.unfilled()));
        if read.is_err() || space.filled().is_empty() {
            return Poll::Ready(Came::End);
        }
        self.again = if self.again.is_empty() {
            Bytes::copy_from_slice(space.filled())
        } else {
            [&self.again, space.filled()].concat().into()
        };
        Poll::Ready(Came::Bytes)
    }

    /// The connection's pace.
    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Whether both ends have agreed on HTTP/2 in the TLS handshake.
    pub(super) fn agreed_on_http2(&self) -> bool {
        self.socket.agreed_on_http2()
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
