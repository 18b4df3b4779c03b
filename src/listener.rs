//! Accepts connections and serves HTTP/1.1 on them with a service that is given.
//!
//! It keeps the pace of each connection (time for a head, idle time), the number of connections, and the end
//! of them all when the process drains. What a request means is the service's business.

mod pace;
mod proxy_protocol;

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
    service::service_fn,
};

use self::{
    pace::{Busy, Pace},
    proxy_protocol::Unreadable,
};
use crate::{
    net::{self, Deadline, Listener, Liveness, Stream, Ticker},
    shutdown::{Phase, Watch},
};

/// After a failed accept; doubled up to the longest while failures go on.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);
const ACCEPT_AGAIN_LONGEST: Duration = Duration::from_millis(500);

/// hyper reads bodies into a buffer of at least this size.
const MIN_BUFFER: usize = 64 * 1024;

/// What a connection is served by. Read anew for each connection.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// For a request's head, from its first byte; for the first head, from the connection's beginning.
    pub request_head: Duration,
    /// For an idle connection.
    pub keep_alive: Duration,
    /// What the kernel watches for.
    pub liveness: Liveness,
    /// Most bytes of a head.
    pub header_bytes: usize,
    /// Most header lines.
    pub headers: usize,
    /// Most connections of the process.
    pub connections: usize,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

/// Connections of the whole process, over all threads and listeners.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<AtomicUsize>);

impl Connections {
    /// How many there are now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn try_enter(&self, limit: usize) -> Option<Connected> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let connected = Connected(self.clone());
        (before < limit).then_some(connected)
    }
}

struct Connected(Connections);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What serves requests: called with the request and what is known of its client.
pub trait Handler: 'static {
    /// The answer's body.
    type Body: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>
        + Unpin
        + 'static;

    /// The options of this moment.
    fn options(&self) -> Options;

    /// Whether whoever connects from `address` is believed whose connection it passes on.
    fn trusts(&self, address: IpAddr) -> bool;

    /// Answers one request.
    fn handle(
        &self,
        request: Request<Incoming>,
        client: &Downstream,
    ) -> impl Future<Output = Response<Self::Body>>;
}

/// The client side of one connection.
#[derive(Debug)]
pub struct Downstream {
    /// The client's address.
    pub peer: SocketAddr,
    /// Whether that is so: a balancer that does not say whose connection it passes on only lends its own, and nothing
    /// that comes over it is to be believed.
    pub is_known: bool,
    /// Its IP address as `X-Forwarded-For` has it.
    pub forwarded_for: HeaderValue,
}

impl Downstream {
    fn new(
        Peer {
            address: peer,
            is_known,
        }: Peer,
    ) -> Self {
        // A dual-stack socket shows IPv4 clients as ::ffff:a.b.c.d.
        let address = peer.ip().to_canonical().to_string();
        Self {
            peer,
            is_known,
            forwarded_for: HeaderValue::try_from(address).expect("an IP address is visible ASCII"),
        }
    }
}

/// Who is at the other end of a connection: see [`Downstream`].
#[derive(Debug, Clone, Copy)]
struct Peer {
    address: SocketAddr,
    is_known: bool,
}

/// Everything that the connections of one thread share.
#[derive(Debug)]
pub struct Server<H> {
    /// What answers.
    pub handler: H,
    /// The deadlines of this thread.
    pub ticker: Ticker,
    /// The phase of the process.
    pub watch: Watch,
    /// How many connections there are.
    pub connections: Connections,
}

impl<H: Handler> Server<H> {
    /// Accepts and serves until draining begins, then closes the socket. Runs within a local task set.
    pub async fn accept(self: Rc<Self>, listener: Listener) {
        let mut pause = ACCEPT_AGAIN;
        loop {
            let options = self.handler.options();
            let accepted = tokio::select! {
                biased;
                () = self.watch.draining() => return self.accept_waiting(listener, options).await,
                accepted = listener.accept(options.liveness) => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = ACCEPT_AGAIN;
                    self.admit(stream, peer, options);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection; if descriptors have run out, raise `ulimit -n`");
                    net::sleep(pause).await;
                    pause = (pause * 2).min(ACCEPT_AGAIN_LONGEST);
                }
            }
        }
    }

    /// Accepts who has connected before the socket closes: it would be reset.
    async fn accept_waiting(self: &Rc<Self>, listener: Listener, options: Options) {
        tokio::task::yield_now().await; // the runtime looks at the socket once more
        while let Some(accepted) = listener.accept_waiting(options.liveness) {
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, options),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn admit(self: &Rc<Self>, stream: Stream, peer: SocketAddr, options: Options) {
        let Some(connected) = self.connections.try_enter(options.connections) else {
            tracing::warn!(%peer, limit = options.connections, "too many connections: this one is closed; see limits.connections");
            return;
        };
        let server = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let mut stream = stream;
            let peer = if options.proxy_protocol {
                // In a box of its own: who speaks directly does not pay for it.
                Box::pin(server.behind(&mut stream, peer, options)).await
            } else {
                Some(Peer {
                    address: peer,
                    is_known: true,
                })
            };
            if let Some(peer) = peer {
                server.serve(stream, peer, options).await;
            }
            drop(connected);
        });
    }

    /// Who is behind the balancer that has connected; `None` where it does not say, or is not believed.
    async fn behind(
        &self,
        stream: &mut Stream,
        balancer: SocketAddr,
        options: Options,
    ) -> Option<Peer> {
        if !self.handler.trusts(balancer.ip()) {
            tracing::info!(
                peer = %balancer,
                "a connection was closed: it is not from server.trusted_proxies, and with server.proxy_protocol only those may connect"
            );
            return None;
        }
        let mut reading = pin!(net::within(
            options.request_head,
            proxy_protocol::read(stream)
        ));
        let mut subscription = None;
        let read = poll_fn(|cx| {
            subscription.get_or_insert_with(|| self.watch.subscribe(cx));
            match self.watch.phase() {
                Phase::Forced => Poll::Ready(None),
                Phase::Running | Phase::Leaving | Phase::Draining { .. } => {
                    reading.as_mut().poll(cx).map(Some)
                }
            }
        });
        match read.await? {
            Some(Ok(client)) => Some(Peer {
                address: client.unwrap_or(balancer),
                is_known: client.is_some(),
            }),
            Some(Err(error @ Unreadable::Ended(_))) => {
                tracing::debug!(peer = %balancer, %error, "a connection ended");
                None
            }
            Some(Err(error)) => {
                tracing::info!(peer = %balancer, %error, "a connection was closed");
                None
            }
            None => {
                tracing::info!(
                    peer = %balancer,
                    "a connection was closed: its header of the PROXY protocol did not come within timeouts.request_head"
                );
                None
            }
        }
    }

    async fn serve(self: &Rc<Self>, stream: Stream, peer: Peer, options: Options) {
        let pace = Rc::new(Pace::new(
            self.ticker.deadline(),
            options.request_head,
            options.keep_alive,
        ));
        let connection = Rc::new(Connection {
            server: Rc::clone(self),
            client: Downstream::new(peer),
            pace: Rc::clone(&pace),
        });
        let service = service_fn(move |request| Rc::clone(&connection).answer(request));
        let mut connection = pin!(
            http1::Builder::new()
                // Small messages leave in one plain write: CPU per request ×0.8 against writev.
                .writev(false)
                // hyper's own timer would be made anew for each request; `Pace` keeps the time.
                .header_read_timeout(None)
                // Twice as wide as the handler's own limits, which come with an answer that says what to do.
                .max_headers(2 * options.headers)
                .max_header_size(2 * options.header_bytes)
                .max_buf_size((2 * options.header_bytes).max(MIN_BUFFER))
                .serve_connection(
                    Metered {
                        stream,
                        pace: Rc::clone(&pace)
                    },
                    service
                )
        );
        let mut subscription = None;
        let mut closing = false;
        let mut linger = None;
        poll_fn(|cx| {
            subscription.get_or_insert_with(|| self.watch.subscribe(cx));
            if self.watch.phase() == Phase::Forced {
                pace.cut();
                return Poll::Ready(());
            }
            let mut polled = connection.as_mut().poll(cx);
            if polled.is_pending() && !closing && self.closes(&mut linger, cx) {
                // Only now: a request that waits in the socket has begun by the poll above.
                closing = true;
                connection.as_mut().graceful_shutdown();
                polled = connection.as_mut().poll(cx);
            }
            match polled {
                Poll::Ready(Ok(())) => return Poll::Ready(()),
                Poll::Ready(Err(error)) => {
                    if error.is_user() {
                        pace.cut(); // the answer broke off
                    }
                    log_end(peer.address, &error);
                    return Poll::Ready(());
                }
                Poll::Pending => {}
            }
            pace.poll_expired(cx) // nothing is under way then: closing it loses nothing
        })
        .await;
    }

    /// Whether a connection is to take no further request, with `linger` to wait for the moment.
    fn closes(&self, linger: &mut Option<Deadline>, cx: &mut Context<'_>) -> bool {
        let Phase::Draining { idle_until, .. } = self.watch.phase() else {
            return false;
        };
        let left = idle_until.saturating_duration_since(net::now());
        if left.is_zero() {
            return true;
        }
        let deadline = linger.get_or_insert_with(|| {
            let deadline = self.ticker.deadline();
            deadline.set(left);
            deadline
        });
        deadline.poll_expired(cx).is_ready()
    }
}

/// Whether the client of the connection that was to be accepted had left already.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::InvalidInput
    )
}

/// Most ends are a client's affair: one that leaves, or sends garbage, which hyper has answered with 400,
/// 414 or 431.
fn log_end(peer: SocketAddr, error: &hyper::Error) {
    if error.is_parse() {
        tracing::info!(%peer, %error, "a client sent what is not valid HTTP/1.1; it was answered 4xx");
    } else {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}

/// One connection: who is at its other end, and its pace.
struct Connection<H> {
    server: Rc<Server<H>>,
    client: Downstream,
    pace: Rc<Pace>,
}

impl<H: Handler> Connection<H> {
    async fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Held<H::Body>>, Infallible> {
        let busy = Pace::begin(&self.pace);
        let http_10 = request.version() == Version::HTTP_10;
        let mut response = self.server.handler.handle(request, &self.client).await;
        // HTTP/1.0 knows no chunks: without a length, the answer ends with its connection.
        let close_delimited = http_10 && response.body().size_hint().exact().is_none();
        self.pace.answer(close_delimited);
        if close_delimited || self.server.watch.phase() != Phase::Running {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| Held { body, _busy: busy }))
    }
}

/// An answer's body, which keeps its connection busy until it ends.
#[derive(Debug)]
pub struct Held<B> {
    body: B,
    _busy: Busy,
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection's bytes, watched for when the client begins a head.
struct Metered {
    stream: Stream,
    pace: Rc<Pace>,
}

impl Read for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
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
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if self.pace.must_reset()
            && let Err(error) = self.stream.reset_on_close()
        {
            tracing::debug!(%error, "cannot reset a connection"); // it is gone already
        }
    }
}
