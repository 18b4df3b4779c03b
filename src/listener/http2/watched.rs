//! The bytes of one connection with HTTP/2, watched for what hyper does not tell of.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::{
    PREFACE,
    frames::{Frames, Kind},
    streams::Streams,
};
use crate::{
    limits::{Limit, Reached},
    listener::metered::Metered,
};

/// What is read at one time.
const READ: usize = 16 * 1024;

/// A connection's bytes.
pub(super) struct Watched {
    bytes: Metered,
    streams: Rc<Streams>,
    reached: Reached,
    incoming: Frames,
    outgoing: Frames,
    /// The fields of a head go on in the next frame.
    continues: bool,
}

impl Watched {
    pub(super) fn new(bytes: Metered, streams: Rc<Streams>, reached: Reached) -> Self {
        Self {
            bytes,
            streams,
            reached,
            incoming: Frames::behind(PREFACE.len()),
            outgoing: Frames::behind(0),
            continues: false,
        }
    }

    fn received(&mut self, bytes: &[u8]) {
        let Self {
            streams,
            incoming,
            continues,
            ..
        } = self;
        incoming.pass(bytes, |frame| {
            if frame.kind == Kind::Headers {
                *continues = !frame.ends_headers();
            }
            streams.received(frame);
        });
        streams.set_within_head(*continues || incoming.is_within_headers());
    }

    fn sent<'a>(&mut self, parts: impl IntoIterator<Item = &'a [u8]>, mut written: usize) {
        self.streams.wrote(written);
        for part in parts {
            let (sent, _) = part.split_at(part.len().min(written));
            written -= sent.len();
            self.outgoing.pass(sent, |frame| {
                if frame.refuses() {
                    self.reached.count(Limit::Http2Streams);
                } else if let Some(limit) = frame.limit() {
                    self.reached.count(limit);
                }
            });
        }
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(limit) = self.streams.abused() {
            return Poll::Ready(Err(io::Error::other(limit.key())));
        }
        let mut space = [MaybeUninit::uninit(); READ];
        let (space, _) = space.split_at_mut(READ.min(buffer.remaining()));
        let mut own = ReadBuf::uninit(space);
        ready!(Pin::new(&mut self.bytes).poll_read(cx, own.unfilled()))?;
        self.received(own.filled());
        buffer.put_slice(own.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.bytes).poll_write(cx, bytes))?;
        self.sent([bytes], written);
        Poll::Ready(Ok(written))
    }

    /// hyper's choice between one write and two for a frame of some size, and it writes no more than two parts at once.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.bytes).poll_write_vectored(cx, parts))?;
        self.sent(parts.iter().map(|part| &**part), written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}
