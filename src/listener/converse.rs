//! HTTP/1.1 on one connection, by hyper: from a request's first bytes until nothing more comes, or until an answer goes on
//! for so long that it is better off without.

use std::{
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use hyper::{
    body,
    rt::Write as _,
    server::conn::http1,
    service::{HttpService, service_fn},
};

use super::{
    Connection, Handler, Server,
    chunked::Chunked,
    held::{Begun, Held},
    metered::Metered,
    pace::Expired,
};
use crate::{limits::Limit, net::Deadline, shutdown::Phase};

/// hyper reads bodies into a buffer of at least this size.
const MIN_BUFFER: usize = 64 * 1024;

/// Header fields that hyper has room for if it is not told how many there may be.
const HYPERS_HEADERS: usize = 100;

/// What a client is told whose head does not end in time. What is no request has no answer with a reason.
const LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// A connection that goes on without hyper.
pub(super) enum Left<H: Handler> {
    /// Nothing has come for a while.
    Idle(Box<Metered>),
    /// An answer lasts long. All that there was of it has been written.
    Answer(Chunked<H>),
}

/// How HTTP on a connection came to its end.
enum End<B> {
    /// With the connection.
    Over,
    /// Nothing has come for a while: the connection goes on without it.
    Idle,
    /// The client did not finish a head in time.
    Late,
    /// The connection goes on with this answer.
    Lasting(Box<Begun<B>>),
}

/// A connection while hyper has it.
struct Conversation<'a, H: Handler, S: HttpService<body::Incoming>> {
    connection: &'a Connection<H>,
    http: http1::Connection<Box<Metered>, S>,
    /// No further request is taken.
    closing: bool,
    linger: Option<Deadline>,
}

/// Serves requests until the connection ends, or can go on without HTTP for a while: then it is given back.
pub(super) async fn converse<H: Handler>(
    bytes: Box<Metered>,
    connection: &Rc<Connection<H>>,
) -> Option<Left<H>> {
    let options = &connection.options;
    let answering = Rc::clone(connection);
    let service = service_fn(move |request| Rc::clone(&answering).answer(request));
    let mut http = http1::Builder::new();
    // Wider than the handler's own limits, which come with an answer that says what to do. hyper is not told so where
    // it has room for as many by itself: it would allocate that for each request, 3 % of a call's instructions.
    let headers = options.headers + options.headers / 4;
    if headers > HYPERS_HEADERS {
        http.max_headers(headers);
    }
    let http = http
        // Small messages leave in one plain write: CPU per request ×0.8 against writev.
        .writev(false)
        // hyper's own timer would be made anew for each request; `Pace` keeps the time.
        .header_read_timeout(None)
        .max_header_size(2 * options.header_bytes)
        .max_buf_size((2 * options.header_bytes).max(MIN_BUFFER))
        .serve_connection(bytes, service);
    let mut conversation = Conversation {
        connection,
        http,
        closing: false,
        linger: None,
    };
    let end = poll_fn(|cx| conversation.poll(cx)).await;
    let http1::Parts {
        io: mut bytes,
        read_buf: read,
        ..
    } = conversation.http.into_parts();
    match end {
        End::Over => None,
        End::Late => {
            tell_late(*bytes).await;
            None
        }
        End::Idle => {
            bytes.rewind(read);
            Some(Left::Idle(bytes))
        }
        End::Lasting(begun) => {
            bytes.rewind(read);
            let answer = Chunked::new(Rc::clone(connection), bytes, begun);
            Some(Left::Answer(answer))
        }
    }
}

impl<H, S> Conversation<'_, H, S>
where
    H: Handler,
    S: HttpService<body::Incoming, ResBody = Held<H>, Error = Infallible>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End<H::Body>> {
        let connection = self.connection;
        let Connection { server, pace, .. } = connection;
        if server.watch.phase() == Phase::Forced {
            pace.cut();
            return Poll::Ready(End::Over);
        }
        let was_idle = pace.is_idle();
        let mut polled = self.poll_http(cx);
        let is_awaited = connection.client.is_secure && pace.is_fresh();
        if polled.is_pending() && !self.closing && server.closes(is_awaited, &mut self.linger, cx) {
            // Only now: a request that waits in the socket has begun by the poll above.
            self.close();
            polled = self.poll_http(cx);
        }
        if polled.is_ready() {
            return polled;
        }
        let expired = ready!(pace.poll_expired(cx, was_idle));
        // Nothing is under way then, except in the last case: closing it loses nothing.
        match expired {
            Expired::Resting => self.poll_rest(cx, was_idle),
            Expired::Idle | Expired::Silent => {
                server.reached.count(expired.limit());
                Poll::Ready(End::Over)
            }
            Expired::Head => {
                server.reached.count(expired.limit());
                Poll::Ready(End::Late)
            }
            Expired::Lasting => {
                pace.last_long();
                self.poll(cx) // the answer leaves when it is asked for more
            }
        }
    }

    fn poll_http(&mut self, cx: &mut Context<'_>) -> Poll<End<H::Body>> {
        let Connection {
            server,
            client,
            pace,
            left,
            ..
        } = self.connection;
        let polled = Pin::new(&mut self.http).poll(cx);
        let left = left.take();
        match polled {
            Poll::Ready(Ok(())) => Poll::Ready(End::Over),
            Poll::Ready(Err(error)) => {
                if error.is_user() {
                    pace.cut(); // the answer broke off
                }
                server.ended_by(&error, client.peer);
                Poll::Ready(End::Over)
            }
            Poll::Pending => {
                let Some(begun) = left else {
                    return Poll::Pending;
                };
                if self.closing {
                    pace.end_after_this();
                }
                Poll::Ready(End::Lasting(begun))
            }
        }
    }

    /// Has the connection go on without HTTP while nothing comes.
    fn poll_rest(&mut self, cx: &mut Context<'_>, was_idle: bool) -> Poll<End<H::Body>> {
        let pace = &self.connection.pace;
        if self.closing || !was_idle || pace.is_blocked() {
            pace.stay();
            return pace.poll_expired(cx, false).map(|_| End::Over);
        }
        // hyper has found out before, and says now, that it owes nothing to anybody. If it does, it takes no further
        // request.
        pace.rest();
        pace.set_parking(true);
        self.close();
        let polled = Pin::new(&mut self.http).poll(cx);
        pace.set_parking(false);
        match polled {
            Poll::Ready(Ok(())) if pace.is_idle() => Poll::Ready(End::Idle),
            Poll::Ready(_) => Poll::Ready(End::Over),
            Poll::Pending => pace.poll_expired(cx, was_idle).map(|_| End::Over),
        }
    }

    fn close(&mut self) {
        self.closing = true;
        Pin::new(&mut self.http).graceful_shutdown();
    }
}

impl<H: Handler> Server<H> {
    /// Most ends are a client's affair: one that leaves, or sends garbage, which hyper has answered with 400,
    /// 414 or 431.
    fn ended_by(&self, error: &hyper::Error, peer: SocketAddr) {
        if error.is_parse_too_large() {
            self.reached.count(Limit::HeaderBytes);
        }
        if error.is_parse() {
            tracing::info!(%peer, %error, "a client sent what is not valid HTTP/1.1; it was answered 4xx");
        } else {
            tracing::debug!(%peer, %error, "a connection ended");
        }
    }
}

/// Says so, as far as the socket takes it at once, unless an answer is still on its way.
async fn tell_late(mut bytes: Metered) {
    if bytes.pace().is_blocked() {
        return;
    }
    poll_fn(|cx| {
        if let Poll::Ready(Ok(_)) = Pin::new(&mut bytes).poll_write(cx, LATE) {
            let _may_wait = Pin::new(&mut bytes).poll_flush(cx).is_ready()
                && Pin::new(&mut bytes).poll_shutdown(cx).is_ready();
        }
        Poll::Ready(())
    })
    .await;
}
