//! The admin listener: tells how this process stands, and takes changes to it.
//!
//! A small JSON interface on a Unix socket that only its owner may open. It reads and changes nothing itself:
//! the table's writer is asked, and stays the only one that writes. Every change leaves one line in the log,
//! under `pinring::audit`. A new endpoint is one more arm in [`Admin::answer`].

pub mod api;
pub mod client;

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioTimer;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc};

use self::api::Fault;
use crate::{
    config,
    net::{
        self,
        unix::{self, Listener, Stream},
    },
    reload::command::{Command, Commander, Stopping},
    router::membership::{Changed, Unchanged},
    takeover::{self, Claim},
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
    claims: mpsc::Sender<Claim>,
    /// One process may take over at a time.
    claimed: Arc<Semaphore>,
}

type Answered = Result<Response<Full<Bytes>>, Fault>;

impl Admin {
    /// An admin that asks `writer`, and gives on to `claims` who wants to take this process's place.
    #[must_use]
    pub fn new(writer: Commander, claims: mpsc::Sender<Claim>) -> Self {
        Self {
            writer,
            claims,
            claimed: Arc::new(Semaphore::new(1)),
        }
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
            .with_upgrades()
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
            (&Method::POST, takeover::TARGET) => self.take_over(request),
            (_, path @ "/backends") => Err(Fault::method(path, &Method::GET)),
            (_, path @ ("/drain" | "/undrain" | takeover::TARGET)) => {
                Err(Fault::method(path, &Method::POST))
            }
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

    /// Lets the connection become the one over which another process takes over.
    fn take_over(&self, request: Request<Incoming>) -> Answered {
        let wanted = request.headers().get(header::UPGRADE);
        if wanted.is_none_or(|wanted| wanted != takeover::PROTOCOL) {
            return Err(Fault::no_upgrade());
        }
        let alone = Arc::clone(&self.claimed).try_acquire_owned();
        let alone = alone.map_err(|_| Fault::taken())?;
        if self.claims.is_closed() {
            return Err(Stopping.into());
        }
        let claims = self.claims.clone();
        tokio::spawn(async move {
            let Ok(upgraded) = hyper::upgrade::on(request).await else {
                return; // it has gone
            };
            if let Ok(parts) = upgraded.downcast() {
                let claim = Claim {
                    stream: parts.io,
                    alone,
                };
                drop(claims.send(claim).await); // else this process is stopping
            }
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let protocol = HeaderValue::from_static(takeover::PROTOCOL);
        response.headers_mut().insert(header::UPGRADE, protocol);
        let upgrade = HeaderValue::from_static("upgrade");
        response.headers_mut().insert(header::CONNECTION, upgrade);
        Ok(response)
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
