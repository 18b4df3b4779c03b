//! The admin listener: tells how this process stands, and takes changes to it.
//!
//! A small JSON interface on a Unix socket that only its owner may open. It reads and changes nothing itself:
//! the table's writer is asked, and stays the only one that writes. Every change leaves one line in the log,
//! under `pinring::audit`. A new endpoint is one more arm in [`Admin::answer`].

pub mod api;
pub mod client;

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioTimer;
use tokio::sync::Semaphore;

use self::api::Fault;
use crate::{
    net::{
        self,
        unix::{Listener, Stream},
    },
    reload::command::{Command, Commander},
};

/// Connections at one time.
const CONNECTIONS: usize = 32;

/// For a request's head, and for an idle connection.
const REQUEST_HEAD: Duration = Duration::from_secs(30);

/// After a failed accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// What answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admin {
    writer: Commander,
}

type Answered = Result<Response<Full<Bytes>>, Fault>;

impl Admin {
    /// An admin that asks `writer`.
    #[must_use]
    pub fn new(writer: Commander) -> Self {
        Self { writer }
    }

    /// Accepts and serves, for ever. Runs within a runtime.
    pub async fn serve(self, listener: Listener) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let permit = Arc::clone(&room).acquire_owned().await;
            match listener.accept().await {
                Ok(stream) => {
                    let admin = self.clone();
                    tokio::spawn(async move {
                        admin.connection(stream).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of the admin socket");
                    net::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    async fn connection(self, stream: Stream) {
        let service = service_fn(move |request| {
            let admin = self.clone();
            async move {
                let answer = admin.answer(request).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(|fault| fault.response()))
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_HEAD)
            .serve_connection(stream, service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection of the admin socket ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answered {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/backends") => self.backends().await,
            (_, path @ "/backends") => Err(Fault::method(path, &Method::GET)),
            (_, path) => Err(Fault::not_found(path)),
        }
    }

    async fn backends(&self) -> Answered {
        let views = self.writer.ask(Command::Backends).await?;
        let now = net::now();
        let backends = views.iter().map(|view| api::Backend::of(view, now));
        let backends = api::Backends {
            backends: backends.collect(),
        };
        Ok(api::json(StatusCode::OK, &backends))
    }
}
