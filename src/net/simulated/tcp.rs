//! TCP between simulated machines.

use std::{
    collections::VecDeque,
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Buf;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{self, Instant, Sleep};

use super::{
    machine,
    pipe::{End, Pipe, lock},
    with,
};
use crate::net::Liveness;

/// A connection is asked for again after this long; a kernel's first time is a second.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// There is no limit here.
///
/// # Errors
///
/// None.
pub fn raise_open_files() -> io::Result<u64> {
    Ok(u64::MAX)
}

/// There are no names here.
///
/// # Errors
///
/// Always.
pub async fn resolve(_host: &str) -> io::Result<Vec<IpAddr>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A bound socket that is not accepting yet.
#[derive(Debug)]
pub struct Bound(Arc<Socket>);

/// A port that is open as long as this lives.
#[derive(Debug)]
pub(super) struct Socket {
    address: SocketAddr,
    // Never across an await.
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    connections: VecDeque<(Stream, SocketAddr)>,
    waker: Option<Waker>,
}

impl Bound {
    /// Opens a port of the current machine.
    ///
    /// # Errors
    ///
    /// Outside of a simulated machine, or when the port is open already.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        if machine().is_none() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this program was built for simulations, with no real network: build it without the feature `simulation`",
            ));
        }
        let socket = Arc::new(Socket {
            address,
            waiting: Mutex::default(),
        });
        with(|network| {
            let earlier = network.sockets.get(&address);
            if earlier.is_some_and(|earlier| earlier.strong_count() > 0) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            network.sockets.insert(address, Arc::downgrade(&socket));
            Ok(Self(socket))
        })
    }

    /// Nobody passes sockets on here.
    ///
    /// # Errors
    ///
    /// None.
    pub fn inherited() -> io::Result<Vec<Self>> {
        Ok(Vec::new())
    }

    /// The address.
    ///
    /// # Errors
    ///
    /// None.
    pub fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.0.address)
    }

    /// Another handle of the same socket and queue.
    ///
    /// # Errors
    ///
    /// None.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(Arc::clone(&self.0)))
    }

    /// Begins to accept.
    ///
    /// # Errors
    ///
    /// None.
    pub fn into_listener(self) -> io::Result<Listener> {
        Ok(Listener(self.0))
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener(Arc<Socket>);

impl Listener {
    pub(in crate::net) fn poll_accept(
        &self,
        cx: &mut Context<'_>,
        liveness: Liveness,
    ) -> Poll<io::Result<(Stream, SocketAddr)>> {
        let mut waiting = lock(&self.0.waiting);
        match waiting.connections.pop_front() {
            Some((mut stream, peer)) => {
                stream.patience = liveness.user_timeout;
                Poll::Ready(Ok((stream, peer)))
            }
            None => {
                waiting.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A connection on its way to another thread: there is but one here.
#[derive(Debug)]
pub struct Moving(Stream);

impl Stream {
    /// Is ready to be moved.
    ///
    /// # Errors
    ///
    /// None.
    pub fn leave(self) -> io::Result<Moving> {
        Ok(Moving(self))
    }
}

impl Moving {
    /// Is where it was.
    ///
    /// # Errors
    ///
    /// None.
    pub fn arrive(self) -> io::Result<Stream> {
        Ok(self.0)
    }
}

/// Connects to `address`. Cancel safe. Has no deadline of its own: see [`within`](crate::net::within).
///
/// # Errors
///
/// When the port is closed, or outside of a simulated machine.
pub async fn connect(address: SocketAddr, liveness: Liveness) -> io::Result<Stream> {
    let own = machine().ok_or(io::ErrorKind::Unsupported)?.address;
    let way = || with(|network| network.latency(own, address.ip()));
    time::sleep(way()).await;
    while with(|network| network.link(own, address.ip()).cut.is_some()) {
        time::sleep(ASK_AGAIN).await;
    }
    let socket = with(|network| network.sockets.get(&address)?.upgrade());
    let Some(socket) = socket else {
        time::sleep(way()).await;
        return Err(io::ErrorKind::ConnectionRefused.into());
    };
    let port = with(|network| {
        network.ports = network.ports.wrapping_add(1);
        network.ports
    });
    let (there, back) = (Pipe::new(own, address.ip()), Pipe::new(address.ip(), own));
    let stream = Stream::new(Arc::clone(&back), Arc::clone(&there), liveness.user_timeout);
    let waker = {
        let mut waiting = lock(&socket.waiting);
        let accepted = (Stream::new(there, back, None), SocketAddr::new(own, port));
        waiting.connections.push_back(accepted);
        waiting.waker.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
    drop(socket);
    time::sleep(way()).await;
    Ok(stream)
}

/// A connection, as hyper reads and writes it.
pub struct Stream {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    /// Wakes the reader when the next part is there.
    timer: Option<Pin<Box<Sleep>>>,
    /// How long the link may be cut before the connection fails.
    patience: Option<Duration>,
    reset: AtomicBool,
}

impl Stream {
    /// Ready when there is something to read: bytes, the end, or a failure. Copies what there is to `begin`, as far as it
    /// goes, and gives how much; takes nothing.
    ///
    /// # Errors
    ///
    /// When the link was cut for too long.
    pub fn poll_peek(&mut self, cx: &mut Context<'_>, begin: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_arrived(cx))?;
        let flow = lock(&self.incoming.flow);
        let come = flow.parts.front().map_or(&[][..], |(_, part)| &part[..]);
        let length = come.len().min(begin.len());
        begin[..length].copy_from_slice(&come[..length]);
        Poll::Ready(Ok(length))
    }

    fn new(incoming: Arc<Pipe>, outgoing: Arc<Pipe>, patience: Option<Duration>) -> Self {
        Self {
            incoming,
            outgoing,
            timer: None,
            patience,
            reset: AtomicBool::new(false),
        }
    }

    /// Makes closing this connection visible as a failure: a reset instead of an orderly end.
    ///
    /// # Errors
    ///
    /// None.
    pub fn reset_on_close(&self) -> io::Result<()> {
        self.reset.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether nothing has come that is not read yet.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let next = {
            let flow = lock(&self.incoming.flow);
            let part = flow.parts.front().map(|(due, _)| *due);
            part.or(flow.end.map(|(due, _)| due))
        };
        let link = with(|network| network.link(self.incoming.from, self.incoming.to));
        let arrival = next.and_then(|due| link.arrival(due));
        arrival.is_none_or(|at| at > Instant::now())
    }

    /// Has the reader woken at `at`; ready if that has passed.
    fn poll_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if at <= Instant::now() {
            return Poll::Ready(());
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx)
    }

    /// Ready when what is next in line has got through the link.
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let next = {
            let mut flow = lock(&self.incoming.flow);
            flow.reader = Some(cx.waker().clone());
            let part = flow.parts.front().map(|(due, _)| *due);
            part.or(flow.end.map(|(due, _)| due))
        };
        let link = with(|network| network.link(self.incoming.from, self.incoming.to));
        if let Some(arrival) = next.and_then(|due| link.arrival(due)) {
            return self.poll_until(arrival, cx).map(Ok);
        }
        if let (Some(since), Some(patience)) = (link.cut, self.patience) {
            ready!(self.poll_until(since + patience, cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_arrived(cx))?;
        let mut flow = lock(&self.incoming.flow);
        let Some((_, part)) = flow.parts.front_mut() else {
            return Poll::Ready(match flow.end {
                Some((_, End::Reset)) => Err(io::ErrorKind::ConnectionReset.into()),
                Some((_, End::Orderly)) | None => Ok(()),
            });
        };
        let length = part.len().min(buffer.remaining());
        buffer.put_slice(&part[..length]);
        part.advance(length);
        if part.is_empty() {
            flow.parts.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.outgoing.send(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.end(End::Orderly);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let end = self.incoming.close();
        let reset = self.reset.load(Ordering::Relaxed);
        self.outgoing.end(if reset { End::Reset } else { end });
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("from", &self.incoming.from)
            .field("to", &self.incoming.to)
            .finish_non_exhaustive()
    }
}
