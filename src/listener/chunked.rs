//! Writes the rest of a long answer without hyper, in chunks (RFC 9112, section 7.1).
//!
//! Only the framing is here. Whatever an answer does, such as comments into silence or its end in a drain, its body does,
//! which is the one that hyper held. What the client does not take is not asked for.

use std::{
    cell::Cell,
    fmt,
    io::{self, Write as _},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use hyper::{body::Body, rt::Write as _};

use super::{Handler, Server, held::Begun, metered::Metered};
use crate::shutdown::Phase;

/// What is taken of an answer before it is written: small events that come together leave together.
const TOGETHER: usize = 16 * 1024;

/// What a thread keeps for putting chunks together. One chunk may be longer.
const KEPT: usize = 64 * 1024;

/// What follows the last chunk, there being no trailers.
const LAST: &[u8] = b"0\r\n\r\n";

/// Where the answers of one thread are put together, one after the other: what the socket takes at once, needs no room of
/// its own.
#[derive(Default)]
pub struct Scratch(Cell<Vec<u8>>);

/// An answer on its way.
pub(super) struct Chunked<H: Handler> {
    server: Rc<Server<H>>,
    bytes: Metered,
    /// `None` once its end was reached.
    begun: Option<Box<Begun<H::Body>>>,
    /// What the socket has not taken yet.
    rest: Bytes,
}

/// How an answer came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All of it was written.
    Whole,
    /// It broke off, or nobody is there any more to take it: the connection ends without the last chunk.
    Cut,
}

/// What was found when an answer was asked for more.
enum Asked {
    /// There is nothing at the moment.
    Waits,
    /// There may be more.
    GoesOn,
    /// Its end.
    Ends,
    /// It broke off.
    Breaks,
}

impl<H: Handler> Chunked<H> {
    /// Of an answer of which nothing waits to be written.
    pub(super) fn new(server: Rc<Server<H>>, bytes: Metered, begun: Box<Begun<H::Body>>) -> Self {
        Self {
            server,
            bytes,
            begun: Some(begun),
            rest: Bytes::new(),
        }
    }

    /// The connection.
    pub(super) fn into_bytes(self) -> Metered {
        self.bytes
    }

    /// Writes what comes, until the end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.server.watch.phase() == Phase::Forced || self.bytes.poll_left(cx).is_ready() {
            return Poll::Ready(End::Cut);
        }
        let mut waits = false;
        loop {
            match self.poll_written(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(End::Cut), // the client has left
                Poll::Pending => return self.poll_given_up(cx),
            }
            if waits {
                return Poll::Pending;
            }
            let Some(begun) = &mut self.begun else {
                return Poll::Ready(End::Whole);
            };
            let mut chunks = self.server.scratch.take();
            let asked = gather(&mut begun.body, &mut chunks, cx);
            self.write(&chunks, cx);
            self.server.scratch.keep(chunks);
            match asked {
                Asked::Waits => waits = true,
                Asked::GoesOn => {}
                Asked::Ends => {
                    self.begun = None;
                    self.bytes.pace().rest_now();
                }
                Asked::Breaks => return Poll::Ready(End::Cut),
            }
        }
    }

    /// The client is not waited for without end after the answer's.
    fn poll_given_up(&self, cx: &mut Context<'_>) -> Poll<End> {
        if self.begun.is_some() {
            return Poll::Pending;
        }
        let expired = self.bytes.pace().poll_expired(cx, false);
        expired.map(|_| End::Cut)
    }

    /// Writes `chunks`; what the socket does not take now is kept. That it failed is found when more is written.
    fn write(&mut self, mut chunks: &[u8], cx: &mut Context<'_>) {
        if chunks.is_empty() {
            return;
        }
        if let Poll::Ready(Ok(written)) = Pin::new(&mut self.bytes).poll_write(cx, chunks) {
            chunks.advance(written);
        }
        if !chunks.is_empty() {
            self.rest = Bytes::copy_from_slice(chunks);
        }
    }

    /// Ready when nothing is left to be written.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let written = ready!(Pin::new(&mut self.bytes).poll_write(cx, &self.rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest.advance(written);
        }
        self.rest = Bytes::new(); // an empty one may hold its buffer all the same
        Pin::new(&mut self.bytes).poll_flush(cx)
    }
}

/// Takes what there is of `body`, as chunks.
fn gather<B: Body<Data = Bytes> + Unpin>(
    body: &mut B,
    chunks: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Asked {
    while chunks.len() < TOGETHER {
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending => return Asked::Waits,
            Poll::Ready(None) => {
                chunks.extend_from_slice(LAST);
                return Asked::Ends;
            }
            Poll::Ready(Some(Err(_))) => return Asked::Breaks,
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    push(chunks, data);
                }
            }
        }
    }
    Asked::GoesOn
}

/// Adds a chunk. Without data it would be the last one.
fn push(chunks: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        write!(chunks, "{:X}\r\n", data.len()).expect("memory takes what is written");
        chunks.extend_from_slice(data);
        chunks.extend_from_slice(b"\r\n");
    }
}

impl Scratch {
    fn take(&self) -> Vec<u8> {
        self.0.take()
    }

    fn keep(&self, mut room: Vec<u8>) {
        if room.capacity() <= KEPT {
            room.clear();
            self.0.set(room);
        }
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}
