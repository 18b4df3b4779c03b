//! Accepts connections, with TLS or without, and serves HTTP/1.1 on them with a service that is given.
//!
//! It keeps the pace of each connection (time for a head, idle time), the number of connections, and the end
//! of them all when the process drains. What a request means is the service's business.

mod handshake;
mod metered;
mod pace;

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::SocketAddr,
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
    server::conn::http1,
    service::service_fn,
};

use self::{
    metered::Metered,
    pace::{Busy, Pace},
};
use crate::{
    net::{
        self, Deadline, Listener, Liveness, Stream, Ticker,
        tls::{Acceptor, Socket},
    },
    shutdown::{Phase, Watch},
};

/// After a failed accept; doubled up to the longest while failures go on.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);
const ACCEPT_AGAIN_LONGEST: Duration = Duration::from_millis(500);

/// For the first request behind a TLS handshake, while the process drains: it is on its way, as that of a connection
/// without TLS was when it was accepted.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

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
    /// Its IP address as `X-Forwarded-For` has it.
    pub forwarded_for: HeaderValue,
    /// Whether it speaks TLS.
    pub is_secure: bool,
}

impl Downstream {
    fn new(peer: SocketAddr, is_secure: bool) -> Self {
        // A dual-stack socket shows IPv4 clients as ::ffff:a.b.c.d.
        let address = peer.ip().to_canonical().to_string();
        Self {
            peer,
            forwarded_for: HeaderValue::try_from(address).expect("an IP address is visible ASCII"),
            is_secure,
        }
    }
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
    /// Accepts and serves until draining begins, then closes the socket. With `tls`, that is spoken. Runs within a
    /// local task set.
    pub async fn accept(self: Rc<Self>, listener: Listener, tls: Option<Acceptor>) {
        let mut pause = ACCEPT_AGAIN;
        loop {
            let options = self.handler.options();
            let accepted = tokio::select! {
                biased;
                () = self.watch.draining() => return self.accept_waiting(listener, tls, options).await,
                accepted = listener.accept(options.liveness) => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = ACCEPT_AGAIN;
                    self.admit(stream, peer, tls.clone(), options);
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
    async fn accept_waiting(
        self: &Rc<Self>,
        listener: Listener,
        tls: Option<Acceptor>,
        options: Options,
    ) {
        tokio::task::yield_now().await; // the runtime looks at the socket once more
        while let Some(accepted) = listener.accept_waiting(options.liveness) {
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, tls.clone(), options),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn admit(
        self: &Rc<Self>,
        stream: Stream,
        peer: SocketAddr,
        tls: Option<Acceptor>,
        options: Options,
    ) {
        let Some(connected) = self.connections.try_enter(options.connections) else {
            tracing::warn!(%peer, limit = options.connections, "too many connections: this one is closed; see limits.connections");
            return;
        };
        let server = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let socket = match tls {
                None => Some(Socket::clear(stream)),
                // In a box of its own: who speaks no TLS does not pay for it.
                Some(tls) => Box::pin(server.secured(stream, peer, &tls, options)).await,
            };
            if let Some(socket) = socket {
                server.serve(socket, peer, options).await;
            }
            drop(connected);
        });
    }

    async fn serve(self: &Rc<Self>, socket: Socket, peer: SocketAddr, options: Options) {
        let is_secure = socket.is_secure();
        let pace = Rc::new(Pace::new(
            self.ticker.deadline(),
            options.request_head,
            options.keep_alive,
        ));
        let connection = Rc::new(Connection {
            server: Rc::clone(self),
            client: Downstream::new(peer, is_secure),
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
                .serve_connection(Metered::new(socket, Rc::clone(&pace)), service)
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
            let is_awaited = is_secure && pace.is_fresh();
            if polled.is_pending() && !closing && self.closes(is_awaited, &mut linger, cx) {
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
                    log_end(peer, &error);
                    return Poll::Ready(());
                }
                Poll::Pending => {}
            }
            pace.poll_expired(cx) // nothing is under way then: closing it loses nothing
        })
        .await;
    }

    /// Whether a connection is to take no further request, with `linger` to wait for the moment. `is_awaited`: its first
    /// one is on its way.
    fn closes(
        &self,
        is_awaited: bool,
        linger: &mut Option<Deadline>,
        cx: &mut Context<'_>,
    ) -> bool {
        let Phase::Draining { idle_until, .. } = self.watch.phase() else {
            return false;
        };
        let mut left = idle_until.saturating_duration_since(net::now());
        if is_awaited {
            left = left.max(FIRST_REQUEST);
        }
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
