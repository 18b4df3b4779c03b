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
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioTimer;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use self::api::Fault;
use crate::{
    config,
    net::{
        self,
        unix::{self, Listener, Stream},
    },
    reload::command::{Command, Commander},
    router::membership::{Changed, Unchanged},
};

/// Connections at one time.
const CONNECTIONS: usize = 32;

/// For a request's head, and for an idle connection.
const REQUEST_HEAD: Duration = Duration::from_secs(30);

/// The longest body of a request.
const LONGEST_BODY: usize = 64 * 1024;

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
        let user = unix::peer_user(&stream);
        let service = service_fn(move |request| {
            let admin = self.clone();
            async move {
                let answer = admin.answer(request, user).await;
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

    async fn answer(&self, request: Request<Incoming>, user: Option<u32>) -> Answered {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/backends") => self.backends().await,
            (&Method::POST, "/drain") => self.drain(read(request).await?, user).await,
            (&Method::POST, "/undrain") => self.undrain(read(request).await?, user).await,
            (_, path @ "/backends") => Err(Fault::method(path, &Method::GET)),
            (_, path @ ("/drain" | "/undrain")) => Err(Fault::method(path, &Method::POST)),
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

    async fn drain(&self, wanted: api::Drain, user: Option<u32>) -> Answered {
        let backend = wanted.backend;
        let timeout = wanted.timeout.as_deref().map(config::parse_duration);
        let timeout = timeout
            .transpose()
            .map_err(|error| Fault::body(&format!("timeout: {error}")))?;
        let within = if wanted.now {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        let done = self.writer.ask(|answer| Command::Drain {
            backend: backend.clone(),
            within,
            answer,
        });
        changed("drain", &backend, done.await?, user)
    }

    async fn undrain(&self, wanted: api::Undrain, user: Option<u32>) -> Answered {
        let backend = wanted.backend;
        let done = self.writer.ask(|answer| Command::Undrain {
            backend: backend.clone(),
            answer,
        });
        changed("undrain", &backend, done.await?, user)
    }
}

/// The answer to a change, and its line in the log.
fn changed(
    action: &str,
    backend: &str,
    done: Result<Changed, Unchanged>,
    user: Option<u32>,
) -> Answered {
    let changes = match done {
        Ok(changed) => api::Changes::of(&changed, net::now()),
        Err(why) => return Err(Fault::unchanged(backend, &why)),
    };
    let shown = changes.backends.first();
    tracing::info!(
        target: "pinring::audit",
        action,
        backend,
        user,
        state = shown.map(|shown| &*shown.state),
        sessions = shown.map(|shown| shown.sessions),
        lost_in_s = shown.and_then(|shown| shown.lost_in_s),
        open_left = changes.open_left,
        "changed through the admin socket",
    );
    Ok(api::json(StatusCode::OK, &changes))
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Fault> {
    let body = Limited::new(request.into_body(), LONGEST_BODY);
    let body = body.collect().await.map_err(|error| Fault::body(&error))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| Fault::body(&error))
}
