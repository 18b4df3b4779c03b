//! The bytes of one connection, as its pace sees them.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::pace::Pace;
use crate::net::tls::Socket;

/// A connection's bytes, watched for when the client begins a head.
pub(super) struct Metered {
    socket: Socket,
    pace: Rc<Pace>,
}

impl Metered {
    pub(super) fn new(socket: Socket, pace: Rc<Pace>) -> Self {
        Self { socket, pace }
    }
}

impl Read for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
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
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
