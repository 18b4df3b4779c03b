//! Accepts and serves connections, on the Unix socket and on TCP.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioTimer;
use tokio::sync::Semaphore;

use super::{Admin, api::Body, guard::Visitor};
use crate::net::{
    self, Liveness,
    unix::{self, Listener},
};

/// What a listener has for those who ask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Connections at one time.
    connections: usize,
    /// For a request's head, and for an idle connection.
    request_head: Duration,
}

/// For operators.
const OPERATORS: Patience = Patience {
    connections: 64,
    request_head: Duration::from_secs(30),
};

/// For probes, which others than they can connect to: silent connections are not to keep them out, for an orchestrator
/// kills whom it cannot ask.
pub(super) const PROBES: Patience = Patience {
    connections: 1024,
    request_head: Duration::from_secs(3),
};

/// After a failed accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// Who looks on and is gone without a word is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

impl Admin {
    /// Accepts on the Unix socket and serves, for ever. Runs within a local task set.
    pub async fn serve_owner(self, listener: Listener) {
        let accept = async || listener.accept().await;
        let serve = |stream| {
            let (admin, visitor) = (self.clone(), Visitor::Owner(unix::peer_user(&stream)));
            async move {
                let answer = async |request| admin.answer(request, visitor).await;
                let service = service_fn(|request| infallible(answer(request)));
                // With upgrades: a process that takes over asks here.
                let connection = http(OPERATORS)
                    .serve_connection(stream, service)
                    .with_upgrades();
                ended(connection.await);
            }
        };
        accept_all("the admin socket", OPERATORS, accept, serve).await;
    }

    /// Accepts on TCP and serves, for ever. Runs within a local task set.
    pub async fn serve_network(self, listener: net::Listener) {
        let accept = async || listener.accept(liveness()).await;
        let serve = |(stream, peer)| {
            let (admin, visitor) = (self.clone(), Visitor::Remote(peer));
            async move {
                let answer = async |request| admin.answer(request, visitor).await;
                converse(stream, OPERATORS, answer).await;
            }
        };
        accept_all("the admin address", OPERATORS, accept, serve).await;
    }
}

/// Accepts connections and serves each in a task of its own, for ever.
pub(super) async fn accept_all<C, S>(
    place: &str,
    patience: Patience,
    accept: impl AsyncFn() -> io::Result<C>,
    serve: impl Fn(C) -> S,
) where
    S: Future<Output = ()> + 'static,
{
    let room = Arc::new(Semaphore::new(patience.connections));
    loop {
        let permit = Arc::clone(&room).acquire_owned().await;
        match accept().await {
            Ok(connection) => {
                let served = serve(connection);
                tokio::task::spawn_local(async move {
                    served.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection at {place}");
                net::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Serves one TCP connection.
pub(super) async fn converse(
    stream: net::Stream,
    patience: Patience,
    answer: impl AsyncFn(Request<Incoming>) -> Response<Body>,
) {
    let service = service_fn(|request| infallible(answer(request)));
    ended(http(patience).serve_connection(stream, service).await);
}

pub(super) fn liveness() -> Liveness {
    Liveness::new(Some(KEEP_ALIVE), Some(2 * KEEP_ALIVE), Duration::ZERO)
}

fn http(patience: Patience) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(patience.request_head);
    http
}

async fn infallible(
    answer: impl Future<Output = Response<Body>>,
) -> Result<Response<Body>, Infallible> {
    Ok(answer.await)
}

fn ended(connection: hyper::Result<()>) {
    if let Err(error) = connection {
        tracing::debug!(%error, "a connection of the admin listener ended");
    }
}
