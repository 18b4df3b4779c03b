//! Small stateful MCP servers inside the process, for `pinring demo` and for tests.
//!
//! A [`Replica`] behaves on the wire like the SDK servers that keep sessions in memory: endpoint
//! `/mcp`, 400 without an id, 404 for an id that another replica made, answers as JSON or SSE, one
//! GET stream per session, DELETE. It knows no proxy: what it cannot do alone is the demonstration.
//! The revisions with sessions only; a request of 2026-07-28 gets the 400 on which clients of both
//! eras fall back. No resumption: `Last-Event-ID` is ignored, as by the Ruby SDK.

mod events;
mod reply;
mod rpc;
mod sessions;
mod tour;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use serde_json::Value;
use tokio::task::{LocalSet, spawn_local};

use self::events::{Body, Events};
use self::reply::{Accept, Refusal};
use self::rpc::{Message, Reply};
use self::sessions::{Session, Sessions};
use crate::net::{self, Liveness, Stream};

pub use self::tour::tour;

const PATH: &str = "/mcp";

/// Of a POST. SDK servers allow about 4 MiB; nothing that these tools take comes near either.
const BODY_BYTES: usize = 1024 * 1024;

/// What one replica remembers at most; it runs for as long as somebody plays with it.
const SESSIONS: usize = 10_000;

/// Between the events of `countdown`.
const COUNTDOWN_PACE: Duration = Duration::from_secs(1);

/// Between the events of a GET stream: short, so that a reader at a terminal sees it live.
const TICK_PACE: Duration = Duration::from_secs(2);

/// The pause after an accept error doubles between these two. The usual one is `EMFILE`, which
/// passes when a connection ends and would spin until then.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// A bound MCP server that keeps its sessions in memory and says its name in its answers.
#[derive(Debug)]
pub struct Replica {
    name: String,
    socket: net::Bound,
    address: SocketAddr,
}

impl Replica {
    /// Binds `address`; port 0 takes a free one. Needs no runtime.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub fn bind(name: &str, address: SocketAddr) -> std::io::Result<Self> {
        let socket = net::Bound::bind(address)?;
        let address = socket.address()?;
        Ok(Self {
            name: name.to_owned(),
            socket,
            address,
        })
    }

    /// The address that was bound, with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the future is dropped. Its connections are its children: dropping it cuts them
    /// all, streams included, and forgets the sessions, like the death of a real replica.
    ///
    /// Not `Send`: run it on a single-threaded runtime, or on any thread by `block_on`. It brings
    /// its own [`LocalSet`], so the caller needs none.
    pub async fn serve(self) {
        let server = Rc::new(Server {
            name: self.name,
            sessions: RefCell::new(Sessions::new(SESSIONS)),
        });
        LocalSet::new()
            .run_until(accept_loop(self.socket, server))
            .await;
    }
}

async fn accept_loop(socket: net::Bound, server: Rc<Server>) {
    let listener = match socket.into_listener() {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, replica = %server.name, "demo replica cannot listen");
            return;
        }
    };
    let mut pause = ACCEPT_PAUSE.0;
    loop {
        match listener.accept(Liveness::default()).await {
            Ok((stream, _)) => {
                pause = ACCEPT_PAUSE.0;
                spawn_local(serve_connection(stream, Rc::clone(&server)));
            }
            Err(error) => {
                tracing::warn!(%error, replica = %server.name, "demo replica cannot accept");
                net::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE.1);
            }
        }
    }
}

async fn serve_connection(stream: Stream, server: Rc<Server>) {
    let service = service_fn(|request| {
        let server = Rc::clone(&server);
        async move { Ok::<_, Infallible>(server.respond(request).await) }
    });
    // An error here is a client that went away or sent no HTTP: nobody is left to be told.
    if let Err(error) = http1::Builder::new()
        .serve_connection(stream, service)
        .await
    {
        tracing::debug!(%error, replica = %server.name, "demo connection ended");
    }
}

/// What the connections of one replica share. The table is borrowed for single lookups only,
/// never across an await.
struct Server {
    name: String,
    sessions: RefCell<Sessions>,
}

impl Server {
    async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        if head.uri.path() != PATH {
            return reply::no_such_path();
        }
        let answer = match head.method {
            Method::POST => match read(&head, body).await {
                Ok((accept, message)) => self.post(&head, accept, message),
                Err(refusal) => Err(refusal),
            },
            Method::GET => self.listen(&head),
            Method::DELETE => self.delete(&head),
            _ => return reply::method_not_allowed(),
        };
        answer.unwrap_or_else(Refusal::into_response)
    }

    fn post(
        &self,
        head: &Parts,
        accept: Accept,
        message: Message,
    ) -> Result<Response<Body>, Refusal> {
        let request = match message {
            Message::Request(request) if request.is_initialize() => {
                return self.initialize(head, accept, &request);
            }
            Message::Request(request) => request,
            Message::OneWay => return self.with_session(head, |_, _| reply::accepted()),
        };
        self.with_session(head, |id, session| {
            let answer = rpc::answer(session, &self.name, &request);
            render(id, session, accept, answer)
        })?
    }

    fn initialize(
        &self,
        head: &Parts,
        accept: Accept,
        request: &rpc::Request,
    ) -> Result<Response<Body>, Refusal> {
        let mut sessions = self.sessions.borrow_mut();
        if let Some(id) = reply::session_id(&head.headers) {
            return Err(match sessions.find(id) {
                Some(_) => Refusal::ALREADY_INITIALIZED,
                None => Refusal::SESSION_NOT_FOUND,
            });
        }
        let (id, session) = sessions.open(fastrand::u128(..));
        let answer = rpc::initialize(&self.name, request);
        render(&id, session, accept, answer)
    }

    fn listen(&self, head: &Parts) -> Result<Response<Body>, Refusal> {
        if !Accept::names_events(&head.headers) {
            return Err(Refusal::NOT_ACCEPTABLE_STREAM);
        }
        let ticks = rpc::ticks(self.name.clone(), TICK_PACE);
        self.with_session(head, |id, session| {
            let closed = session.listen().ok_or(Refusal::STREAM_OPEN)?;
            let events = Events::new(session.next_stream(), TICK_PACE, ticks).until(closed);
            Ok(reply::events(id, events))
        })?
    }

    fn delete(&self, head: &Parts) -> Result<Response<Body>, Refusal> {
        let id = self.with_session(head, |id, _| id.to_owned())?;
        self.sessions.borrow_mut().close(&id);
        Ok(reply::deleted(&id))
    }

    /// The checks that every request but `initialize` passes, in the order of the TypeScript SDK.
    fn with_session<T>(
        &self,
        head: &Parts,
        act: impl FnOnce(&str, &mut Session) -> T,
    ) -> Result<T, Refusal> {
        let Some(id) = reply::session_id(&head.headers) else {
            return Err(Refusal::SESSION_ID_MISSING);
        };
        let mut sessions = self.sessions.borrow_mut();
        let session = sessions.find(id).ok_or(Refusal::SESSION_NOT_FOUND)?;
        if !reply::revision_is_known(&head.headers) {
            return Err(Refusal::REVISION_UNKNOWN);
        }
        Ok(act(id, session))
    }
}

/// Reads and checks a POST up to its message: what can be refused without knowing any session.
async fn read(head: &Parts, body: Incoming) -> Result<(Accept, Message), Refusal> {
    let accept = Accept::of(&head.headers);
    if !(accept.json || accept.events) {
        return Err(Refusal::NOT_ACCEPTABLE);
    }
    if !reply::content_is_json(&head.headers) {
        return Err(Refusal::NOT_JSON);
    }
    let message = rpc::parse(&collect(body).await?)?;
    Ok((accept, message))
}

async fn collect(body: Incoming) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > BODY_BYTES as u64 {
        return Err(Refusal::TOO_LARGE);
    }
    match Limited::new(body, BODY_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::TOO_LARGE),
        Err(_) => Err(Refusal::BROKEN_JSON),
    }
}

/// One result goes out as JSON where the client takes that, like the Ruby SDK's; else as SSE.
fn render(
    id: &str,
    session: &mut Session,
    accept: Accept,
    answer: Reply,
) -> Result<Response<Body>, Refusal> {
    let messages: Vec<Value> = match answer {
        Reply::One(message) if accept.json => return Ok(reply::json(id, &message)),
        Reply::One(message) => vec![message],
        Reply::Paced(_) if !accept.events => return Err(Refusal::NOT_ACCEPTABLE_STREAM),
        Reply::Paced(messages) => messages,
    };
    let events = Events::new(session.next_stream(), COUNTDOWN_PACE, messages.into_iter());
    Ok(reply::events(id, events))
}
