//! Sends one request to one named backend over a pooled connection, of HTTP/1.1 or HTTP/2.
//!
//! Fourth of the six phases of a request. Each thread has its own [`Client`], so that no lock and no other
//! thread is involved. It chooses nothing: the backend is given. It tells for every failure whether the
//! backend can have seen the request, and gives an unseen one back.

pub mod connect;
mod http2;
mod intake;
pub mod names;
mod open;
mod pool;

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use self::{
    connect::{ConnectError, Connection},
    http2::Unfinished,
    names::Names,
    pool::Pool,
};
pub use self::{
    http2::{NoHttp2, Replay},
    open::Open,
};
use crate::{
    backend::{BackendId, Endpoint},
    net::{self, Deadline, Liveness},
};

/// What a client's connections are made with. Made anew where it is needed: the future of a request has no room for it.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Longest time for one connect.
    pub connect: Duration,
    /// Longest idle time of a pooled connection.
    pub keep_alive: Duration,
    /// What the kernel watches for.
    pub liveness: Liveness,
    /// Most bytes of an answer's head.
    pub header_bytes: usize,
    /// Most header lines of an answer.
    pub headers: usize,
    /// In HTTP/2: silence on a connection with streams before the backend is asked whether it is there, and how long it
    /// may take to say so; `None` never asks.
    pub pings: Option<(Duration, Duration)>,
}

/// Why a backend gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection could be made: the backend has seen nothing.
    #[error("cannot connect")]
    Connect(#[source] ConnectError),
    /// The backend closed or reset the connection before it answered. It may have seen the request.
    #[error("the backend closed the connection before it answered")]
    Closed(#[source] Interrupted),
    /// The backend says that it takes no more requests at the moment, and has not looked at this one.
    #[error("the backend takes no more requests at the moment")]
    Refused(#[source] hyper::Error),
    /// What came is no answer by the rules of HTTP.
    #[error("the backend's answer is not valid HTTP")]
    Malformed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request's body ended early: the client left, or fell silent.
    #[error("the request's body broke off")]
    RequestBody(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer began in time.
    #[error("the backend did not begin to answer within {0:?}")]
    HeadTimeout(Duration),
}

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted {
    /// The connection is gone, the stream was reset, or what came is not HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The backend reset the stream and said that all is well, but the answer had not ended.
    #[error("the backend ended the stream before its answer had ended")]
    Unended,
}

impl Failure {
    /// Whether the same backend may soon be there again: nobody listens, as while a process restarts, or it
    /// closed a connection that was just made.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connect(error) => error.may_pass(),
            Self::Closed(_) | Self::Refused(_) => true,
            Self::Malformed(_) | Self::RequestBody(_) | Self::HeadTimeout(_) => false,
        }
    }
}

/// Which backend, for connections and for messages.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// What its connections are kept by.
    pub id: BackendId,
    /// Where it listens.
    pub endpoint: &'a Endpoint,
}

/// The connections of one thread to all backends. None at first. Clones share them.
pub struct Client<B> {
    pool: Rc<Pool<B>>,
    http2: Rc<http2::Pool<B>>,
    names: Names,
    open: Open,
}

impl<B> Client<B>
where
    B: Replay + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// No connections yet; the hosts of backends are looked up in `names`, and connections counted in `open`.
    #[must_use]
    pub fn new(names: Names, open: Open) -> Self {
        Self {
            pool: Rc::new(Pool::new()),
            http2: Rc::new(http2::Pool::new()),
            names,
            open,
        }
    }

    /// Closes connections that were idle too long, for ever. One task of the thread runs this, for nobody
    /// polls an idle connection.
    pub async fn sweep(&self) {
        loop {
            net::sleep(pool::SWEEP_INTERVAL).await;
            self.pool.sweep(net::now());
            self.http2.sweep(net::now());
        }
    }

    /// Sends `request` and waits for the head of its answer, until the deadline, which is set to expire after
    /// the time beside it and may be moved meanwhile. `request` is taken when it is handed to a connection, and put
    /// back if the backend has seen nothing of it.
    ///
    /// A pooled connection that the backend has closed meanwhile is replaced by a fresh one without
    /// the caller noticing, as long as nothing was sent.
    ///
    /// # Errors
    ///
    /// See [`Failure`]. Then too `request` tells whether the backend may have seen it.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the connection is closed, or in HTTP/2 the stream alone, and the backend has seen nothing if the request is still in
    /// `request`; else it may have.
    pub async fn send(
        &self,
        target: Target<'_>,
        request: &mut Option<Request<B>>,
        options: impl Fn() -> Options,
        head: (&Deadline, Duration),
    ) -> Result<Response<Body<B>>, Failure> {
        let (deadline, limit) = head;
        deadline.set(limit);
        if target.endpoint.http2 {
            // Boxed: those of HTTP/1.1 are not to have room for it.
            let made_with = (options(), &self.names, &self.open);
            let sent = http2::send(&self.http2, target, request, made_with, head);
            return Box::pin(sent).await;
        }
        if let Some(pooled) = self.pool.checkout(target.id) {
            let answered = self
                .exchange(pooled, target.id, request, &options, head)
                .await;
            if answered.is_ok() || request.is_none() {
                return answered;
            }
        }
        // Boxed: a pooled connection is the rule, and a connect makes many allocations anyway.
        let connecting = connect::connect(target.endpoint, options(), &self.names, &self.open);
        let connecting = Box::pin(connecting);
        let fresh = connecting.await.map_err(Failure::Connect)?;
        self.exchange(fresh, target.id, request, &options, head)
            .await
    }

    async fn exchange(
        &self,
        mut connection: Connection<B>,
        id: BackendId,
        request: &mut Option<Request<B>>,
        options: &impl Fn() -> Options,
        (deadline, limit): (&Deadline, Duration),
    ) -> Result<Response<Body<B>>, Failure> {
        let asked = request.as_ref().map(Request::method);
        let of_head = asked.is_some_and(|method| *method == Method::HEAD);
        let taken = request.take().expect("a request is sent once");
        connection.intake.begin();
        let answered = {
            let mut answer = pin!(connection.sender.try_send_request(taken));
            poll_fn(|cx| match answer.as_mut().poll(cx) {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                Poll::Pending => deadline.poll_expired(cx).map(|()| None),
            })
            .await
        };
        connection.intake.end();
        match answered {
            Some(Ok(response)) => {
                let lease = (!is_in_doubt(&response, of_head)).then(|| Lease {
                    connection,
                    id,
                    pool: Rc::clone(&self.pool),
                    keep_alive: options().keep_alive,
                });
                Ok(response.map(|incoming| Body::new(incoming, lease)))
            }
            Some(Err(mut error)) => {
                *request = error.take_message();
                Err(failure_of(error.into_error()))
            }
            None => Err(Failure::HeadTimeout(limit)),
        }
    }
}

impl<B> Clone for Client<B> {
    fn clone(&self) -> Self {
        Self {
            pool: Rc::clone(&self.pool),
            http2: Rc::clone(&self.http2),
            names: self.names.clone(),
            open: self.open.clone(),
        }
    }
}

impl<B> fmt::Debug for Client<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

fn failure_of(error: hyper::Error) -> Failure {
    let source = std::error::Error::source(&error);
    let io = source.and_then(|source| source.downcast_ref::<io::Error>());
    if error.is_user() {
        Failure::RequestBody(error.into())
    } else if error.is_parse() || io.is_some_and(|io| io.kind() == io::ErrorKind::InvalidData) {
        Failure::Malformed(error.into())
    } else {
        Failure::Closed(error.into())
    }
}

/// Whether the connection is better not used again. The backend may send more than hyper will read of this answer: it
/// says two things of its body, or there is none by the rules (RFC 9112, section 6.3) and it speaks of one. Some
/// servers then send it, and the next answer would begin with it.
fn is_in_doubt<T>(response: &Response<T>, of_head: bool) -> bool {
    let headers = response.headers();
    let is_coded = headers.contains_key(header::TRANSFER_ENCODING);
    let length = headers.get(header::CONTENT_LENGTH);
    let bare = of_head
        || response.status() == StatusCode::NO_CONTENT
        || response.status() == StatusCode::NOT_MODIFIED;
    let says_too_much = if bare {
        is_coded || length.is_some_and(|length| length.as_bytes() != b"0")
    } else {
        is_coded && length.is_some()
    };
    // To one that speaks HTTP/1.0, hyper would send the next request so too: without its body, if that is in chunks.
    says_too_much || response.version() == Version::HTTP_10
}

/// A connection in use, which goes back to the pool when both messages have ended.
struct Lease<B> {
    connection: Connection<B>,
    id: BackendId,
    pool: Rc<Pool<B>>,
    keep_alive: Duration,
}

impl<B> Lease<B> {
    fn give_back(self) {
        if !self.connection.sender.is_closed() {
            self.pool
                .give_back(self.id, self.connection, self.keep_alive);
        }
    }
}

/// The body of a backend's answer. Dropped before its end, it closes the backend's connection at once, or in HTTP/2 its
/// stream.
pub struct Body<B> {
    incoming: Incoming,
    held: Held<B>,
}

/// What belongs to an answer until it has ended.
enum Held<B> {
    /// A connection of HTTP/1.1; `None` if it ends with the answer.
    Connection(Option<Lease<B>>),
    /// A stream of HTTP/2.
    Stream(Option<Unfinished<B>>),
}

impl<B> Body<B> {
    /// Without a lease, the connection ends with the body.
    fn new(incoming: Incoming, lease: Option<Lease<B>>) -> Self {
        let held = Held::Connection(lease);
        let mut body = Self { incoming, held };
        body.give_back_at_the_end();
        body
    }

    fn of_stream(incoming: Incoming, unfinished: Unfinished<B>) -> Self {
        let held = Held::Stream(Some(unfinished));
        let mut body = Self { incoming, held };
        body.give_back_at_the_end();
        body
    }

    /// The connection is free as soon as the last byte is read. A reader that knows the length does not ask
    /// again after it, so that waiting for the end of the stream would close every such connection.
    fn give_back_at_the_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.held.give_back();
        }
    }
}

impl<B> Held<B> {
    /// Something of the answer has arrived.
    fn heard(&self) {
        match self {
            Self::Stream(Some(unfinished)) => unfinished.connection().wire().heard(),
            Self::Stream(None) | Self::Connection(_) => {}
        }
    }

    fn give_back(&mut self) {
        match self {
            Self::Connection(lease) => {
                if let Some(lease) = lease.take() {
                    lease.give_back();
                }
            }
            Self::Stream(unfinished) => {
                if let Some(unfinished) = unfinished.take() {
                    unfinished.finish();
                }
            }
        }
    }
}

impl<B> HttpBody for Body<B> {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        let is_over = self.incoming.is_end_stream();
        match (&frame, &mut self.held) {
            // Something stands behind the last chunk that hyper has skipped, and that is no trailer.
            (Some(Ok(frame)), Held::Connection(lease))
                if frame.trailers_ref().is_some_and(HeaderMap::is_empty) =>
            {
                *lease = None;
            }
            (Some(Ok(_)), held) => {
                held.heard();
                if is_over {
                    held.give_back();
                }
            }
            (Some(Err(_)), Held::Connection(lease)) => *lease = None,
            (Some(Err(_)), Held::Stream(unfinished)) => *unfinished = None,
            // hyper believes a reset that says that all is well, also of an answer that has not ended: RFC 9113, section
            // 8.1, is about those that have.
            (None, Held::Stream(unfinished @ Some(_))) if !is_over => {
                *unfinished = None;
                return Poll::Ready(Some(Err(Interrupted::Unended)));
            }
            (None, held) => held.give_back(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Interrupted::Http)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl<B> fmt::Debug for Body<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Body").field(&self.incoming).finish()
    }
}

#[cfg(all(test, not(feature = "simulation")))]
mod tests;
