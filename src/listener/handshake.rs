//! The TLS handshake with a client, beside all others: nobody waits for it but its client.

use std::{error::Error as _, future::poll_fn, net::SocketAddr, pin::pin, task::Poll};

use super::{Handler, Options, Server};
use crate::{
    net::{
        Stream,
        tls::{Acceptor, Socket},
    },
    shutdown::Phase,
};

impl<H: Handler> Server<H> {
    /// Shakes hands with a client; `None` where that came to nothing.
    pub(super) async fn secured(
        &self,
        stream: Stream,
        peer: SocketAddr,
        tls: &Acceptor,
        options: Options,
    ) -> Option<Socket> {
        let mut accepting = pin!(tls.accept(stream, options.request_head));
        let mut subscription = None;
        let accepted = poll_fn(|cx| {
            subscription.get_or_insert_with(|| self.watch.subscribe(cx));
            match self.watch.phase() {
                Phase::Forced => Poll::Ready(None),
                Phase::Running | Phase::Leaving | Phase::Draining { .. } => {
                    accepting.as_mut().poll(cx).map(Some)
                }
            }
        });
        match accepted.await? {
            Ok(socket) => Some(socket),
            // Whoever scans ports must not fill the log.
            Err(error) => {
                let cause = error.source().map(ToString::to_string);
                tracing::debug!(%peer, %error, cause, "a client could not connect");
                None
            }
        }
    }
}
