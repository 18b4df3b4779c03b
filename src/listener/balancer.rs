//! Connections that a balancer passes on: whose they are.

use std::{future::poll_fn, net::SocketAddr, pin::pin, task::Poll};

use super::{
    Handler, Options, Peer, Server,
    proxy_protocol::{self, Unreadable},
};
use crate::{
    net::{self, Stream},
    shutdown::Phase,
};

impl<H: Handler> Server<H> {
    /// Who is behind the balancer that has connected; `None` where it does not say, or is not believed.
    pub(super) async fn behind(
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
}
