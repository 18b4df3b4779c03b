//! Serves one connection: HTTP/1.1 while requests come, and no more than a socket while none does.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{
    Connection, Handler, Server,
    converse::{Left, converse},
    http2::PREFACE,
    metered::{Came, Metered},
};
use crate::{
    net::{self, Deadline},
    shutdown::Phase,
};

/// For the first request behind a TLS handshake, while the process drains: it is on its way, as that of a connection
/// without TLS was when it was accepted.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Serves a connection until it ends. If there is no room for it, every request is turned away.
///
/// This is all of a connection that waits: each state of it has to be small.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` would keep the place that the connection was passed in, too"
)]
pub(super) fn serve<H: Handler>(
    mut bytes: Box<Metered>,
    connection: Rc<Connection<H>>,
) -> impl Future<Output = ()> {
    async move {
        let server = &connection.server;
        let _subscription = poll_fn(|cx| Poll::Ready(server.watch.subscribe(cx))).await;
        // Of a new connection with TLS, the first bytes may have been decrypted with the handshake.
        let speaks_http2 = if connection.client.is_secure {
            Some(bytes.agreed_on_http2())
        } else {
            server.begins_with_preface(&mut bytes).await
        };
        let Some(speaks_http2) = speaks_http2 else {
            return;
        };
        if speaks_http2 {
            return Box::pin(server.serve_streams(bytes, Rc::clone(&connection))).await;
        }
        // hyper's buffers and the room for a request are 26 KiB, all the rest 2.
        loop {
            let left = Box::pin(converse(bytes, &connection)).await;
            let idle = match left {
                None => None,
                Some(Left::Idle(idle)) => Some(idle),
                Some(Left::Answer(answer)) => answer.await,
            };
            let Some(idle) = idle else { return };
            bytes = idle;
            if server.begins(&mut bytes, 0).await.is_none() {
                return;
            }
        }
    }
}

impl<H: Handler> Server<H> {
    /// Waits until it is clear what a new connection speaks: whether HTTP/2, which its client knows beforehand that it may.
    /// `None` if the connection is to end instead.
    async fn begins_with_preface(&self, bytes: &mut Metered) -> Option<bool> {
        self.begins(bytes, 0).await?;
        loop {
            let come = bytes.come();
            let known = come.len();
            if known >= PREFACE.len() || !PREFACE.starts_with(come) {
                return Some(come.starts_with(PREFACE));
            }
            Box::pin(self.begins(bytes, known)).await?; // boxed: few send a part of it
            if bytes.come().len() == known {
                return Some(false); // that was all
            }
        }
    }

    /// Waits until more than `known` bytes of a request have come, or no more will; `None` if the connection is to end
    /// instead.
    fn begins(&self, bytes: &mut Metered, known: usize) -> impl Future<Output = Option<()>> {
        let mut linger = None;
        poll_fn(move |cx| {
            if self.watch.phase() == Phase::Forced {
                return Poll::Ready(None);
            }
            match bytes.poll_come(cx, known) {
                Poll::Ready(Came::Bytes) => return Poll::Ready(Some(())),
                // Within a request, that is for HTTP to say.
                Poll::Ready(Came::End) => return Poll::Ready((known > 0).then_some(())),
                Poll::Pending => {}
            }
            if self.closes(false, &mut linger, cx) {
                return Poll::Ready(None);
            }
            let expired = ready!(bytes.pace().poll_expired(cx, true));
            self.reached.count(expired.limit());
            Poll::Ready(None)
        })
    }

    /// Whether a connection is to take no further request, with `linger` to wait for the moment. `is_awaited`: its first
    /// one is on its way.
    pub(super) fn closes(
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Empty;

    use super::*;
    use crate::{
        incoming::Incoming,
        limits::Full,
        listener::{Downstream, Lasting, Options, chunked::Chunked},
    };

    struct Nobody;

    impl Handler for Nobody {
        type Body = Empty<Bytes>;

        fn options(&self) -> Options {
            unreachable!()
        }

        fn trusts(&self, _: IpAddr) -> bool {
            unreachable!()
        }

        async fn handle(&self, _: Request<Incoming>, _: &Downstream) -> Response<Empty<Bytes>> {
            unreachable!()
        }

        fn turn_away(&self, _: Full) -> Response<Empty<Bytes>> {
            unreachable!()
        }

        fn lasting(_: &Empty<Bytes>) -> Lasting {
            unreachable!()
        }
    }

    fn size_of_future<F: Future>(_: impl Fn(Box<Metered>, Rc<Connection<Nobody>>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_that_waits_takes_little_memory() {
        let sizes = [
            size_of_future(serve::<Nobody>),
            size_of::<Chunked<Nobody>>(),
            size_of::<Connection<Nobody>>(),
            size_of::<Metered>(),
        ];
        assert!(sizes.iter().sum::<usize>() <= 704, "{sizes:?}");
    }
}
