//! Serves one connection that speaks HTTP/2: many requests at one time, each in a task of its own.
//!
//! Who asks, for how long, and what is answered at which limit is as with HTTP/1.1. hyper and h2 read the frames and hold
//! to the protocol; what they do not tell of is watched in `watched`.

mod frames;
mod streams;
mod translate;
mod watched;

use std::{
    convert::Infallible,
    error::Error as _,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use hyper::{
    body::{self, Body, Frame, SizeHint},
    rt::Executor,
    server::conn::http2,
    service::service_fn,
};

use self::{
    streams::{Expired, Open, Streams, TAKEN_BACK},
    translate::translated,
    watched::Watched,
};
use super::{Connection, Handler, Options, Pings, Server, metered::Metered};
use crate::{
    limits::{Full, Limit},
    net::{self, Deadline},
    shutdown::{Phase, Subscription},
};

/// What every client begins with (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client may send of one body before a backend takes it: what it assumes anyway before it is told.
const STREAM_WINDOW: u32 = 64 * 1024;

/// What it may send of all bodies of a connection: four of those that no backend takes hold up the others.
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Bytes of an answer that wait for the client to take them, from which on no more of it is asked for, as with HTTP/1.1.
/// Above it come two frames.
const UNWRITTEN: usize = 16 * 1024;

/// Streams that were taken back and have not been looked at yet: h2's own default.
const UNSEEN_RESETS: usize = 20;

impl<H: Handler> Server<H> {
    /// Serves until the connection ends.
    pub(super) async fn serve_streams(
        self: &Rc<Self>,
        bytes: Box<Metered>,
        connection: Rc<Connection<H>>,
    ) {
        let options = connection.options;
        let streams = Rc::new(Streams::new(
            self.ticker.deadline(),
            options.request_head,
            options.keep_alive,
        ));
        let peer = connection.client.peer;
        let bytes = Watched::new(*bytes, Rc::clone(&streams), self.reached.clone());
        let of_streams = Rc::clone(&streams);
        let service = service_fn(move |request| {
            let open = Streams::begin(&of_streams);
            Rc::clone(&connection).answer_stream(request, open)
        });
        let mut http = builder(&options).serve_connection(bytes, service);
        let mut linger = None;
        poll_fn(|cx| {
            if self.watch.phase() == Phase::Forced || streams.abused().is_some() {
                return Poll::Ready(Ok(()));
            }
            let mut polled = Pin::new(&mut http).poll(cx);
            if polled.is_pending() && !streams.is_closing() && self.is_over(&streams, &mut linger, cx) {
                streams.close();
                Pin::new(&mut http).graceful_shutdown();
                polled = Pin::new(&mut http).poll(cx);
            }
            if polled.is_ready() {
                return polled;
            }
            match ready!(streams.poll_expired(cx)) {
                Expired::Head => {
                    self.reached.count(Limit::RequestHead);
                    return Poll::Ready(Ok(()));
                }
                Expired::End => return Poll::Ready(Ok(())),
                Expired::Idle => self.reached.count(Limit::KeepAlive),
            }
            streams.close();
            Pin::new(&mut http).graceful_shutdown();
            if let Poll::Ready(ended) = Pin::new(&mut http).poll(cx) {
                return Poll::Ready(ended);
            }
            // Its deadline is a new one now, for which nobody waits yet.
            streams.poll_expired(cx).map(|_| Ok(()))
        })
        .await
        .unwrap_or_else(|error| {
            if error.is_timeout() {
                self.reached.count(Limit::UserTimeout); // the client has answered no ping
            }
            tracing::debug!(%peer, %error, cause = error.source(), "a connection with HTTP/2 ended");
        });
        if let Some(limit) = streams.abused() {
            self.reached.count(limit);
            tracing::info!(%peer, limit = limit.key(), "a connection with HTTP/2 was closed, for its client went beyond a limit");
        }
    }

    /// Whether a connection is to take no further request, with `linger` to wait for the moment. Its client is told so by a
    /// GOAWAY, which breaks off nothing; but some clients do so then (httpcore 1.0), so what is under way while the
    /// process drains has half of its time before.
    fn is_over(
        &self,
        streams: &Streams,
        linger: &mut Option<Deadline>,
        cx: &mut Context<'_>,
    ) -> bool {
        let Phase::Draining { since, until, .. } = self.watch.phase() else {
            return streams.is_at_end();
        };
        if streams.is_idle() {
            return true; // what is on its way is still taken
        }
        let deadline = linger.get_or_insert_with(|| {
            let deadline = self.ticker.deadline();
            let half = since + until.saturating_duration_since(since) / 2;
            deadline.set(half.saturating_duration_since(net::now()));
            deadline
        });
        deadline.poll_expired(cx).is_ready()
    }
}

fn builder(options: &Options) -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local);
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(options.http2_streams)
        .max_pending_accept_reset_streams(UNSEEN_RESETS)
        .max_local_error_reset_streams(TAKEN_BACK as usize)
        .max_send_buf_size(UNWRITTEN)
        // Twice as wide as the handler's own limit, which comes with an answer that says what to do.
        .max_header_list_size(u32::try_from(2 * options.header_bytes).unwrap_or(u32::MAX));
    if let Some(Pings { interval, timeout }) = options.pings {
        builder
            .timer(net::Timer::new())
            .keep_alive_interval(interval)
            .keep_alive_timeout(timeout);
    }
    builder
}

/// Runs what hyper starts on the thread of its connection.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future<Output: 'static> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

impl<H: Handler> Connection<H> {
    async fn answer_stream(
        self: Rc<Self>,
        request: Request<body::Incoming>,
        mut open: Open,
    ) -> Result<Response<Streamed<H::Body>>, Infallible> {
        let watch = &self.server.watch;
        // Its task is not the connection's, and is to be woken, too.
        let subscription = poll_fn(|cx| Poll::Ready(watch.subscribe(cx))).await;
        let is_head = request.method() == Method::HEAD;
        let request = translated(request);
        let mut response = match self.enter(&open) {
            Ok(()) => self.server.handler.handle(request, &self.client).await,
            Err(full) => self.server.handler.turn_away(full),
        };
        open.answered();
        if self.full.is_some() || watch.phase() != Phase::Running {
            open.end_when_idle();
        }
        response.headers_mut().remove(header::CONNECTION);
        if is_head
            && let Some(length) = response
                .body()
                .size_hint()
                .exact()
                .filter(|length| *length > 0)
        {
            let headers = response.headers_mut();
            headers
                .entry(header::CONTENT_LENGTH)
                .or_insert_with(|| HeaderValue::from(length));
        }
        Ok(response.map(|body| Streamed {
            body: (!is_head).then_some(body),
            _open: open,
            _subscription: subscription,
        }))
    }

    /// Takes room for a request. One of a connection has the connection's; another one beside it takes as much as if
    /// it had come over a connection of its own, for it may need a backend's as that would.
    fn enter(&self, open: &Open) -> Result<(), Full> {
        if let Some(full) = self.full {
            return Err(full);
        }
        if !open.is_beside_another() {
            return Ok(());
        }
        let Server {
            handler,
            connections,
            reached,
            ..
        } = &*self.server;
        let room = self.server.room(self.client.peer, handler.options());
        let entered = connections.enter(room, self.client.peer.ip());
        entered
            .inspect_err(|full| reached.count(full.limit()))
            .map(|room| open.takes(room))
    }
}

/// An answer's body, which keeps its request under way until it ends. Nobody asks for that of an answer to HEAD.
#[derive(Debug)]
struct Streamed<B> {
    body: Option<B>,
    _open: Open,
    _subscription: Subscription,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Streamed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}
