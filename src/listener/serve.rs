//! Serves one connection: HTTP/1.1 while requests come, and no more than a socket while none does.

use std::{
    future::poll_fn,
    net::SocketAddr,
    ops::Deref,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::{rt::Write as _, server::conn::http1, service::service_fn};

use super::{
    Connection, Downstream, Handler, Options, Peer, Server,
    http2::PREFACE,
    metered::Metered,
    pace::{Expired, Pace},
};
use crate::{
    limits::{Full, Limit},
    net::{self, Deadline, tls::Socket},
    shutdown::Phase,
};

/// For the first request behind a TLS handshake, while the process drains: it is on its way, as that of a connection
/// without TLS was when it was accepted.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// hyper reads bodies into a buffer of at least this size.
const MIN_BUFFER: usize = 64 * 1024;

/// What a client is told whose head does not end in time. What is no request has no answer with a reason.
const LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What has come of a request.
#[derive(Default)]
struct Begin {
    bytes: [u8; PREFACE.len()],
    length: usize,
}

impl Deref for Begin {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.split_at(self.length).0
    }
}

/// How HTTP on a connection came to its end.
enum End {
    /// With the connection.
    Over,
    /// Nothing has come for a while: the connection goes on without it.
    Idle,
    /// The client did not finish a head in time.
    Late,
}

impl<H: Handler> Server<H> {
    /// Serves until the connection ends. With `full`, every request is turned away.
    pub(super) async fn serve(
        self: &Rc<Self>,
        socket: Socket,
        peer: Peer,
        full: Option<Full>,
        options: Options,
    ) {
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
            full,
        });
        let _subscription = poll_fn(|cx| Poll::Ready(self.watch.subscribe(cx))).await;
        let mut bytes = Metered::new(socket, pace);
        // Of a new connection with TLS, the first bytes may have been decrypted with the handshake.
        let speaks_http2 = if is_secure {
            Some(bytes.agreed_on_http2())
        } else {
            self.begins_with_preface(&mut bytes).await
        };
        let Some(speaks_http2) = speaks_http2 else {
            return;
        };
        if speaks_http2 {
            return Box::pin(self.serve_streams(bytes, connection, options)).await;
        }
        // hyper's buffers and the room for a request are 26 KiB, all the rest 2.
        while let Some(idle) = Box::pin(self.converse(bytes, &connection, options)).await {
            bytes = idle;
            if self.begins(&mut bytes).await.is_none() {
                return;
            }
        }
    }

    /// Waits until it is clear what a new connection speaks: whether HTTP/2, which its client knows beforehand that it may.
    /// `None` if the connection is to end instead.
    async fn begins_with_preface(&self, bytes: &mut Metered) -> Option<bool> {
        let mut read = Vec::new();
        loop {
            let begin = self.begins(bytes).await?;
            let wanted = PREFACE.split_at(read.len()).1;
            let is_it = begin.starts_with(wanted);
            if is_it || begin.is_empty() || !wanted.starts_with(&begin) {
                bytes.rewind(read.into());
                return Some(is_it);
            }
            // The rest may be long in coming, and what is there would be found again at once.
            bytes.take(begin.len(), &mut read).await;
        }
    }

    /// Waits for the first bytes of a request, and gives those that are there, up to the length of HTTP/2's preface; `None`
    /// if the connection is to end instead.
    async fn begins(&self, bytes: &mut Metered) -> Option<Begin> {
        let mut linger = None;
        poll_fn(|cx| {
            if self.watch.phase() == Phase::Forced {
                return Poll::Ready(None);
            }
            let mut begin = Begin::default();
            if let Poll::Ready(length) = bytes.poll_peek(cx, &mut begin.bytes) {
                begin.length = length.unwrap_or_default(); // nothing is also the end, which is HTTP's to find
                return Poll::Ready(Some(begin));
            }
            if self.closes(false, &mut linger, cx) {
                return Poll::Ready(None);
            }
            let expired = ready!(bytes.pace().poll_expired(cx, true));
            self.reached.count(expired.limit());
            Poll::Ready(None)
        })
        .await
    }

    /// Serves requests until the connection ends, or nothing has come for a while: then it is given back.
    async fn converse(
        self: &Rc<Self>,
        bytes: Metered,
        connection: &Rc<Connection<H>>,
        options: Options,
    ) -> Option<Metered> {
        let pace = &connection.pace;
        let is_secure = connection.client.is_secure;
        let answering = Rc::clone(connection);
        let service = service_fn(move |request| Rc::clone(&answering).answer(request));
        let mut http = http1::Builder::new()
            // Small messages leave in one plain write: CPU per request ×0.8 against writev.
            .writev(false)
            // hyper's own timer would be made anew for each request; `Pace` keeps the time.
            .header_read_timeout(None)
            // Twice as wide as the handler's own limits, which come with an answer that says what to do.
            .max_headers(2 * options.headers)
            .max_header_size(2 * options.header_bytes)
            .max_buf_size((2 * options.header_bytes).max(MIN_BUFFER))
            .serve_connection(bytes, service);
        let mut closing = false;
        let mut linger = None;
        let end = poll_fn(|cx| {
            if self.watch.phase() == Phase::Forced {
                pace.cut();
                return Poll::Ready(End::Over);
            }
            let was_idle = pace.is_idle();
            let mut polled = Pin::new(&mut http).poll(cx);
            let is_awaited = is_secure && pace.is_fresh();
            if polled.is_pending() && !closing && self.closes(is_awaited, &mut linger, cx) {
                // Only now: a request that waits in the socket has begun by the poll above.
                closing = true;
                Pin::new(&mut http).graceful_shutdown();
                polled = Pin::new(&mut http).poll(cx);
            }
            match polled {
                Poll::Ready(Ok(())) => return Poll::Ready(End::Over),
                Poll::Ready(Err(error)) => {
                    if error.is_user() {
                        pace.cut(); // the answer broke off
                    }
                    self.ended_by(&error, connection.client.peer);
                    return Poll::Ready(End::Over);
                }
                Poll::Pending => {}
            }
            let expired = ready!(pace.poll_expired(cx, was_idle));
            // Nothing is under way then: closing it loses nothing.
            match expired {
                Expired::Resting => {}
                Expired::Idle | Expired::Silent => {
                    self.reached.count(expired.limit());
                    return Poll::Ready(End::Over);
                }
                Expired::Head => {
                    self.reached.count(expired.limit());
                    return Poll::Ready(End::Late);
                }
            }
            if closing || !was_idle || pace.is_blocked() {
                pace.stay();
                return pace.poll_expired(cx, false).map(|_| End::Over);
            }
            // hyper has found out above, and says now, that it owes nothing to anybody. If it does, it takes no further
            // request.
            pace.rest();
            closing = true;
            pace.set_parking(true);
            Pin::new(&mut http).graceful_shutdown();
            let polled = Pin::new(&mut http).poll(cx);
            pace.set_parking(false);
            match polled {
                Poll::Ready(Ok(())) if pace.is_idle() => Poll::Ready(End::Idle),
                Poll::Ready(_) => Poll::Ready(End::Over),
                Poll::Pending => pace.poll_expired(cx, was_idle).map(|_| End::Over),
            }
        })
        .await;
        match end {
            End::Over => None,
            End::Idle => {
                let mut parts = http.into_parts();
                parts.io.rewind(parts.read_buf);
                Some(parts.io)
            }
            End::Late => {
                tell_late(http.into_parts().io).await;
                None
            }
        }
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
