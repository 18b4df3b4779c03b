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

use super::{Connection, Handler, held::Begun, metered::Metered};
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

/// An answer on its way, and then the connection, if another request may follow.
pub(super) struct Chunked<H: Handler> {
    connection: Rc<Connection<H>>,
    /// `None` once it was given back.
    bytes: Option<Box<Metered>>,
    /// `None` once its end was reached.
    begun: Option<Box<Begun<H::Body>>>,
    /// What the socket has not taken yet.
    rest: Bytes,
}

/// How an answer came to its end.
enum End {
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
    pub(super) fn new(
        connection: Rc<Connection<H>>,
        bytes: Box<Metered>,
        begun: Box<Begun<H::Body>>,
    ) -> Self {
        Self {
            connection,
            bytes: Some(bytes),
            begun: Some(begun),
            rest: Bytes::new(),
        }
    }

    /// Writes what comes, until the end.
    fn poll_end(&mut self, bytes: &mut Metered, cx: &mut Context<'_>) -> Poll<End> {
        let server = Rc::clone(&self.connection.server);
        if server.watch.phase() == Phase::Forced || bytes.poll_left(cx).is_ready() {
            return Poll::Ready(End::Cut);
        }
        let mut waits = false;
        loop {
            match self.poll_written(bytes, cx) {
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
            let mut chunks = server.scratch.take();
            let asked = gather(&mut begun.body, &mut chunks, cx);
            self.write(bytes, &chunks, cx);
            server.scratch.keep(chunks);
            match asked {
                Asked::Waits => waits = true,
                Asked::GoesOn => {}
                Asked::Ends => {
                    self.begun = None;
                    self.connection.pace.rest_now();
                }
                Asked::Breaks => return Poll::Ready(End::Cut),
            }
        }
    }

    /// Ready when nothing is left to be written.
    fn poll_written(&mut self, bytes: &mut Metered, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let written = ready!(Pin::new(&mut *bytes).poll_write(cx, &self.rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest.advance(written);
            if self.rest.is_empty() {
                self.rest = Bytes::new(); // else it would hold its buffer
            }
        }
        Pin::new(bytes).poll_flush(cx)
    }

    /// Writes `chunks`; what the socket does not take now is kept. That it failed is found when that is written.
    fn write(&mut self, bytes: &mut Metered, mut chunks: &[u8], cx: &mut Context<'_>) {
        if chunks.is_empty() {
            return;
        }
        if let Poll::Ready(Ok(written)) = Pin::new(bytes).poll_write(cx, chunks) {
            chunks.advance(written);
        }
        if !chunks.is_empty() {
            self.rest = Bytes::copy_from_slice(chunks);
        }
    }

    /// The client is not waited for without end once the answer has ended.
    fn poll_given_up(&self, cx: &mut Context<'_>) -> Poll<End> {
        if self.begun.is_some() {
            return Poll::Pending;
        }
        let expired = self.connection.pace.poll_expired(cx, false);
        expired.map(|_| End::Cut)
    }

    /// Whether no request may follow. Its client is told so by the connection's end, as far as the socket takes it at once.
    fn closes(&self, bytes: &mut Metered, cx: &mut Context<'_>) -> bool {
        let Connection { server, pace, .. } = &*self.connection;
        let closes = pace.is_last() || server.closes(false, &mut None, cx);
        if closes {
            let _at_once = Pin::new(bytes).poll_shutdown(cx).is_ready();
        }
        closes
    }
}

impl<H: Handler> Future for Chunked<H> {
    type Output = Option<Box<Metered>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mut bytes) = self.bytes.take() else {
            return Poll::Ready(None);
        };
        match self.poll_end(&mut bytes, cx) {
            Poll::Pending => {
                self.bytes = Some(bytes);
                Poll::Pending
            }
            Poll::Ready(End::Cut) => Poll::Ready(None),
            Poll::Ready(End::Whole) => {
                let goes_on = !self.closes(&mut bytes, cx);
                Poll::Ready(goes_on.then_some(bytes))
            }
        }
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

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible, task::Waker};

    use hyper::body::Frame;

    use super::*;

    /// What is there at one time; with an end, or more to come.
    struct Ready(VecDeque<&'static [u8]>, bool);

    impl Body for Ready {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(data) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(data))))),
                None if self.1 => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn gathered(frames: &[&'static [u8]], ends: bool) -> (Asked, String) {
        let mut chunks = Vec::new();
        let mut body = Ready(frames.iter().copied().collect(), ends);
        let asked = gather(
            &mut body,
            &mut chunks,
            &mut Context::from_waker(Waker::noop()),
        );
        (asked, String::from_utf8(chunks).unwrap())
    }

    #[test]
    fn what_comes_together_leaves_together_and_nothing_is_no_chunk() {
        let frames: [&[u8]; 3] = [b"data: 1\n\n", b"", b"data: 123456789\n\n"];
        let (asked, chunks) = gathered(&frames, false);
        assert!(matches!(asked, Asked::Waits));
        assert_eq!(chunks, "9\r\ndata: 1\n\n\r\n11\r\ndata: 123456789\n\n\r\n");
        let (asked, chunks) = gathered(&frames[..1], true);
        assert!(matches!(asked, Asked::Ends));
        assert_eq!(chunks, "9\r\ndata: 1\n\n\r\n0\r\n\r\n");
    }

    #[test]
    fn no_more_is_taken_than_may_leave_together() {
        let (asked, chunks) = gathered(&[&[b'x'; TOGETHER], b"later"], true);
        assert!(matches!(asked, Asked::GoesOn));
        assert!(!chunks.contains("later"));
    }
}
