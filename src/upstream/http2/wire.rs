//! The bytes of one connection, which hyper reads and writes, as far as hyper does not say what is wanted of them.
//!
//! Whether the backend speaks HTTP/2 at all is seen by what it sends first (RFC 9113, section 3.4). And it may not
//! send without end what nobody hears: interim answers, pings, empty frames.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::handshake::{NoHttp2, STREAM_WINDOW};
use crate::net::tls::Socket;

/// Bytes of frames that nobody hears, beside what may lie in the windows of streams.
const MOST_UNHEARD: usize = 256 * 1024;

/// The length of a frame's head, and the type that comes first (RFC 9113, sections 4.1 and 6.5).
const FRAME_HEAD: usize = 9;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;

/// What is known of one connection's bytes.
pub(in crate::upstream) struct Wire {
    socket: RefCell<Socket>,
    greeting: RefCell<Greeting>,
    waker: RefCell<Option<Waker>>,
    reads: Cell<u64>,
    unheard: Cell<usize>,
    /// Streams that are open, each of which may hold a window full of what nobody has read yet.
    pub(super) streams: Cell<usize>,
}

/// What the backend has said first.
enum Greeting {
    /// As much of it as has come of the head of its first frame.
    Begun([u8; FRAME_HEAD], usize),
    /// So many bytes of that frame are yet to come.
    Settings(usize),
    /// All of that frame.
    Whole,
    /// It is no HTTP/2.
    Other(NoHttp2),
}

impl Wire {
    pub(super) fn new(socket: Socket) -> Rc<Self> {
        Rc::new(Self {
            socket: RefCell::new(socket),
            greeting: RefCell::new(Greeting::Begun([0; FRAME_HEAD], 0)),
            waker: RefCell::new(None),
            reads: Cell::new(0),
            unheard: Cell::new(0),
            streams: Cell::new(0),
        })
    }

    /// Ready once the backend has greeted.
    pub(super) fn poll_greeted(&self, cx: &mut Context<'_>) -> Poll<Result<(), NoHttp2>> {
        match &*self.greeting.borrow() {
            Greeting::Whole => Poll::Ready(Ok(())),
            Greeting::Other(why) => Poll::Ready(Err(*why)),
            Greeting::Begun(..) | Greeting::Settings(_) => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// How often something was read.
    pub(super) fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// Whether something has come that hyper has not read yet.
    pub(super) fn has_news(&self) -> bool {
        self.socket.borrow().has_news()
    }

    /// Somebody got something of what came, or has sent something that it may be an answer to.
    pub(in crate::upstream) fn heard(&self) {
        self.unheard.set(0);
    }

    /// The connection is over: who waits for a greeting waits in vain.
    pub(super) fn ended(&self) {
        drop(self.greet(&[])); // nobody is left to be told of an error
    }

    fn read(&self, bytes: &[u8]) -> io::Result<()> {
        self.reads.set(self.reads.get() + 1);
        let unheard = self.unheard.get() + bytes.len();
        self.unheard.set(unheard);
        self.greet(bytes)?;
        if unheard > MOST_UNHEARD + self.streams.get() * STREAM_WINDOW as usize {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "frames without end that say nothing",
            ));
        }
        Ok(())
    }

    fn greet(&self, bytes: &[u8]) -> io::Result<()> {
        let mut greeting = self.greeting.borrow_mut();
        if matches!(*greeting, Greeting::Whole) {
            return Ok(());
        }
        *greeting = greeting.with(bytes);
        let failed = match &*greeting {
            Greeting::Whole => false,
            Greeting::Other(_) => true,
            Greeting::Begun(..) | Greeting::Settings(_) => return Ok(()),
        };
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        if failed {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}

impl Greeting {
    /// What it is after these bytes, none of which is the end.
    fn with(&self, bytes: &[u8]) -> Self {
        match *self {
            Self::Begun(..) if bytes.is_empty() => Self::Other(NoHttp2::Closed),
            Self::Settings(_) if bytes.is_empty() => Self::Other(NoHttp2::Closed),
            Self::Begun(mut head, have) => {
                let more = bytes.len().min(FRAME_HEAD - have);
                head[have..have + more].copy_from_slice(&bytes[..more]);
                if have + more < FRAME_HEAD {
                    return Self::Begun(head, have + more);
                }
                if head.starts_with(b"HTTP/") {
                    return Self::Other(NoHttp2::Http1);
                }
                let [a, b, c, kind, flags, stream @ ..] = head;
                if kind != SETTINGS || flags & ACK != 0 || stream != [0; 4] {
                    return Self::Other(NoHttp2::Other);
                }
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                Self::Settings(length).with_rest(&bytes[more..])
            }
            Self::Settings(_) => self.with_rest(bytes),
            Self::Whole => Self::Whole,
            Self::Other(why) => Self::Other(why),
        }
    }

    fn with_rest(&self, bytes: &[u8]) -> Self {
        match *self {
            Self::Settings(length) if bytes.len() < length => Self::Settings(length - bytes.len()),
            Self::Settings(_) => Self::Whole,
            Self::Begun(head, have) => Self::Begun(head, have),
            Self::Whole => Self::Whole,
            Self::Other(why) => Self::Other(why),
        }
    }
}

/// A connection, for hyper.
pub(super) struct Io(pub(super) Rc<Wire>);

impl Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut piece = [0; 8 * 1024];
        let room = piece.len().min(buffer.remaining());
        let mut read = ReadBuf::new(&mut piece[..room]);
        ready!(Pin::new(&mut *self.0.socket.borrow_mut()).poll_read(cx, read.unfilled()))?;
        self.0.read(read.filled())?;
        buffer.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.socket.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.socket.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.socket.borrow_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeted(pieces: &[&[u8]]) -> &'static str {
        let start = Greeting::Begun([0; FRAME_HEAD], 0);
        let greeting = pieces
            .iter()
            .fold(start, |greeting, piece| greeting.with(piece));
        match greeting {
            Greeting::Begun(..) | Greeting::Settings(_) => "waits",
            Greeting::Whole => "h2",
            Greeting::Other(NoHttp2::Http1) => "http/1",
            Greeting::Other(NoHttp2::Closed) => "closed",
            Greeting::Other(
                NoHttp2::Other | NoHttp2::NotChosen | NoHttp2::Silent(_) | NoHttp2::NoStreams,
            ) => "other",
        }
    }

    #[test]
    fn a_backend_is_known_by_its_first_frame() {
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
        assert_eq!(greeted(&[settings]), "h2");
        assert_eq!(greeted(&[b"\0\0\0\x04\0\0\0\0\0\0\0"]), "h2");
        assert_eq!(greeted(&[&settings[..14]]), "waits");
        for at in 1..settings.len() {
            assert_eq!(greeted(&[&settings[..at], &settings[at..]]), "h2", "{at}");
            assert_eq!(greeted(&[&settings[..at], b""]), "closed", "{at}");
        }
        assert_eq!(greeted(&[b""]), "closed");
        assert_eq!(greeted(&[b"HTTP/1.1 400 Bad Request\r\n"]), "http/1");
        assert_eq!(greeted(&[b"HTTP/1.0 ", b"505"]), "http/1");
        assert_eq!(greeted(&[b"SSH-2.0-OpenSSH"]), "other");
        assert_eq!(greeted(&[b"\0\0\0\x04\x01\0\0\0\0"]), "other"); // an acknowledgement
        assert_eq!(greeted(&[b"\0\0\x08\x06\0\0\0\0\0"]), "other"); // a ping
    }
}
