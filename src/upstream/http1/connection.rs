//! A connection to a backend, and what all connections of a thread share.
//!
//! No task belongs to a connection: whoever has it reads and writes it, and nobody does while it is idle.

use std::{
    cell::RefCell,
    io, mem,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use http::HeaderMap;
use hyper::rt::{Read, ReadBuf, Write};
use hyper_util::rt::TokioIo;
use tokio_util::io::poll_read_buf;

use super::pool::Pool;
use crate::{
    net::{Instant, tls::Socket},
    upstream::open::Entered,
};

/// What is read at once. The kernel is asked for a little less, see `net::Stream`.
const READ: usize = 32 * 1024;

/// Maps for headers that are kept: more requests than this are seldom under way at once.
const SPARE: usize = 64;

/// One that has grown for more headers than this is not kept.
const ROOM: usize = 128;

/// What the connections of one thread share: while something is read or written, nothing else is.
pub(in crate::upstream) struct Shared {
    pub(super) pool: Pool,
    pub(super) reading: RefCell<Box<[u8]>>,
    pub(super) writing: RefCell<Vec<u8>>,
    /// The maps of requests' headers, once those have gone. They have room for those of answers, and the connection to the
    /// client takes them for its next request: nearly none is made, and none grows.
    spare: RefCell<Vec<HeaderMap>>,
}

impl Shared {
    pub(in crate::upstream) fn new() -> Self {
        Self {
            pool: Pool::new(),
            reading: RefCell::new(vec![0; READ].into()),
            writing: RefCell::default(),
            spare: RefCell::default(),
        }
    }

    /// An empty map for headers.
    pub(super) fn map(&self) -> HeaderMap {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a map for [`Self::map`].
    pub(super) fn keep(&self, mut map: HeaderMap) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE && map.capacity() <= ROOM {
            map.clear();
            spare.push(map);
        }
    }

    /// Closes idle connections that are not to be used again.
    pub(in crate::upstream) fn sweep(&self, now: Instant) {
        self.pool.sweep(now);
    }
}

/// A connection that takes one request after the other.
pub(in crate::upstream) struct Connection {
    socket: Socket,
    /// The task that has it wakes when something comes.
    is_watched: bool,
    _entered: Entered,
}

impl Connection {
    pub(in crate::upstream) fn new(socket: Socket, entered: Entered) -> Self {
        Self {
            socket,
            is_watched: false,
            _entered: entered,
        }
    }

    /// Whether nothing has come and the backend has not closed it, as far as the runtime knows: it looks at sockets
    /// whenever it has nothing else to do. To ask the kernel would cost a system call for each request, and what comes on
    /// the way to the backend is not seen by that either. If so, the task of `cx` wakes when that changes.
    pub(super) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        let reading = std::future::poll_fn(|cx| {
            let mut byte = [0];
            let mut byte = ReadBuf::new(&mut byte);
            Poll::Ready(
                Pin::new(&mut self.socket)
                    .poll_read(cx, byte.unfilled())
                    .is_pending(),
            )
        });
        // Without this, a task that has done much in its turn is told that nothing has come.
        let reading = pin!(tokio::task::unconstrained(reading));
        self.is_watched = matches!(reading.poll(cx), Poll::Ready(true));
        self.is_watched
    }

    /// Whether the task that has it wakes without another look when something comes: asked once.
    pub(super) fn is_watched(&mut self) -> bool {
        mem::take(&mut self.is_watched)
    }

    /// Reads into `buffer`; 0 is the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer.unfilled()))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Reads into memory of its own, which is passed on without a copy.
    pub(super) fn poll_read_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<BytesMut>> {
        let mut buffer = BytesMut::with_capacity(READ);
        let socket = pin!(TokioIo::new(&mut self.socket));
        ready!(poll_read_buf(socket, cx, &mut buffer))?;
        Poll::Ready(Ok(buffer))
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut self.socket).poll_write(cx, bytes)) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => Poll::Ready(written),
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }
}
