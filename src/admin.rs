//! The admin listener: tells how this process stands, and takes changes to it.
//!
//! A small JSON interface on a Unix socket that only its owner may open. It reads and changes nothing itself:
//! the table's writer is asked, and stays the only one that writes. Every change leaves one line in the log,
//! under `pinring::audit`. A new endpoint is one more arm in `Admin::answer`.

pub mod api;
pub mod client;
mod log;

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioTimer;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc};

use self::api::Fault;
use crate::{
    config,
    limits::{Connections, Reached},
    net::{
        self,
        unix::{self, Listener, Stream},
    },
    observe::metrics::{self, Metrics},
    reload::command::{Command, Commander, Stopping},
    router::membership::{Changed, Unchanged},
    takeover::{self, Claim},
};

/// Connections at one time.
const CONNECTIONS: usize = 32;

/// For a request's head, and for an idle connection.
const REQUEST_HEAD: Duration = Duration::from_secs(30);

/// For a request's body, once its head is there.
const REQUEST_BODY: Duration = Duration::from_secs(5);

/// The longest body of a request.
const LONGEST_BODY: usize = 64 * 1024;

/// After a failed accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// What answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admin {
    writer: Commander,
    claims: mpsc::Sender<Claim>,
    counters: Counters,
    metrics: Metrics,
    limits: (Connections, Reached),
    /// One process may take over at a time.
    claimed: Arc<Semaphore>,
}

/// Reads what the process counts. Cheap to clone.
#[derive(Clone)]
pub struct Counters(Arc<dyn Fn() -> api::Counts + Send + Sync>);

impl Counters {
    /// Reads by calling `read`.
    pub fn new(read: impl Fn() -> api::Counts + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counters").field(&(self.0)()).finish()
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Answered = Result<Response<Full<Bytes>>, Fault>;

impl Admin {
    /// An admin that asks `writer`, tells what `counters` and `metrics` read and how the `limits` stand, and gives on to `claims` who
    /// wants to take this process's place.
    #[must_use]
    pub fn new(
        writer: Commander,
        claims: mpsc::Sender<Claim>,
        (counters, metrics): (Counters, Metrics),
        limits: (Connections, Reached),
    ) -> Self {
        Self {
            writer,
            claims,
            counters,
            metrics,
            limits,
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
            (&Method::GET, "/limits") => Ok(self.limits()),
            (&Method::GET, "/metrics") => Ok(self.metrics()),
            (&Method::POST, "/drain") => {
                let wanted = read(request.into_body()).await?;
                to_its_end(self.clone().drain(wanted, user)).await
            }
            (&Method::POST, "/undrain") => {
                let wanted = read(request.into_body()).await?;
                to_its_end(self.clone().undrain(wanted, user)).await
            }
            (&Method::GET, "/log") => log::show(),
            (&Method::POST, "/log") => log::change(read(request.into_body()).await?, user),
            (&Method::POST, takeover::TARGET) => self.take_over(request),
            (_, path @ ("/backends" | "/limits" | "/log" | "/metrics")) => {
                Err(Fault::method(path, &Method::GET))
            }
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
            counts: (self.counters.0)(),
        };
        Ok(api::json(StatusCode::OK, &backends))
    }

    fn limits(&self) -> Response<Full<Bytes>> {
        let (connections, reached) = &self.limits;
        let limits = api::Limits::of(connections.count(), reached);
        api::json(StatusCode::OK, &limits)
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.metrics.openmetrics()));
        let text = HeaderValue::from_static(metrics::CONTENT_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        response
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

    async fn drain(self, wanted: api::Drain, user: Option<u32>) -> Answered {
        let within = time_left(&wanted)?;
        let backend = wanted.backend;
        let done = self.writer.ask(|answer| Command::Drain {
            backend: backend.clone(),
            within,
            answer,
        });
        changed("drain", &backend, done.await?, user)
    }

    async fn undrain(self, wanted: api::Undrain, user: Option<u32>) -> Answered {
        let backend = wanted.backend;
        let done = self.writer.ask(|answer| Command::Undrain {
            backend: backend.clone(),
            answer,
        });
        changed("undrain", &backend, done.await?, user)
    }
}

/// After which time what a backend holds is lost; zero is at once, `None` never.
fn time_left(wanted: &api::Drain) -> Result<Option<Duration>, Fault> {
    let timeout = wanted.timeout.as_deref().map(config::parse_duration);
    let timeout = timeout
        .transpose()
        .map_err(|error| Fault::body(&format!("timeout: {error}")))?;
    Ok(if wanted.now {
        Some(Duration::ZERO)
    } else {
        timeout.filter(|timeout| !timeout.is_zero())
    })
}

/// Carries a change through, also when whoever asked for it leaves meanwhile: its line is to be in the log.
async fn to_its_end(change: impl Future<Output = Answered> + Send + 'static) -> Answered {
    let done = tokio::spawn(change).await;
    done.unwrap_or_else(|_| Err(Stopping.into())) // the runtime has ended
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

async fn read<T: DeserializeOwned>(body: impl Body<Error: Into<BoxError>>) -> Result<T, Fault> {
    let body = Limited::new(body, LONGEST_BODY).collect();
    let body = net::within(REQUEST_BODY, body).await;
    let body = body.ok_or_else(|| Fault::late(REQUEST_BODY))?;
    let body = body.map_err(|error| Fault::body(&error))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| Fault::body(&error))
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use hyper::body::Frame;

    use super::*;

    /// A body that never comes.
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_change_is_carried_through_when_who_asked_for_it_leaves() {
        let (done, carried_through) = tokio::sync::oneshot::channel();
        let change = async {
            tokio::task::yield_now().await;
            done.send(()).unwrap();
            Err(Fault::taken())
        };
        tokio::select! {
            biased;
            _ = to_its_end(change) => panic!("it takes longer"),
            () = std::future::ready(()) => {} // and leaves
        }
        carried_through.await.unwrap();
    }

    #[test]
    fn no_time_is_no_deadline_unless_it_is_to_be_now() {
        let left = |timeout: Option<&str>, now| {
            let (backend, timeout) = ("a".to_owned(), timeout.map(str::to_owned));
            time_left(&api::Drain {
                backend,
                timeout,
                now,
            })
        };
        let minute = Some(Duration::from_secs(60));
        assert_eq!(left(Some("1m"), false), Ok(minute));
        assert_eq!(left(Some("0s"), false), Ok(None));
        assert_eq!(left(None, false), Ok(None));
        assert_eq!(left(Some("0s"), true), Ok(Some(Duration::ZERO)));
        assert_eq!(left(None, true), Ok(Some(Duration::ZERO)));
        assert!(left(Some("10"), false).is_err());
    }

    #[test]
    fn a_body_that_does_not_come_is_not_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let a_minute = Duration::from_secs(60);
        let read = net::within(a_minute, read::<api::Undrain>(Silent));
        let read = runtime.block_on(read).expect("it has a deadline");
        assert_eq!(read, Err(Fault::late(REQUEST_BODY)));
    }
}
