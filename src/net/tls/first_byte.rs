//! A connection that knows with which byte it began: whether its other end speaks TLS at all.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::net::Stream;

/// The type of the record that every TLS connection begins with (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;

/// A connection. Where the other end speaks no TLS, nothing of TLS is written to it: it would be
/// garbage to read.
#[derive(Debug)]
pub(super) struct FirstByte {
    stream: Stream,
    first: Option<u8>,
}

impl FirstByte {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            first: None,
        }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The same, to be asked something that it remembers.
    pub(super) fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Whether nothing has come.
    pub(super) fn is_silent(&self) -> bool {
        self.first.is_none()
    }

    /// Whether it began as a request does: with the first letter of a method.
    pub(super) fn is_http(&self) -> bool {
        self.first.is_some_and(|first| first.is_ascii_uppercase())
    }

    fn is_foreign(&self) -> bool {
        self.first.is_some_and(|first| first != HANDSHAKE)
    }
}

impl Read for FirstByte {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_some() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let mut byte = [0];
        let mut own = hyper::rt::ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.stream).poll_read(cx, own.unfilled()))?;
        self.first = own.filled().first().copied();
        buffer.put_slice(own.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for FirstByte {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_foreign() {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
