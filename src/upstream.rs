//! Sends one request to one named backend over a pooled connection, of HTTP/1.1 or HTTP/2.
//!
//! Fourth of the six phases of a request. Each thread has its own [`Client`], so that no lock and no other
//! thread is involved. It chooses nothing: the backend is given. It tells for every failure whether the
//! backend can have seen the request, and gives an unseen one back.

pub mod connect;
pub mod http1;
mod http2;
pub mod names;
mod open;

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use self::{connect::ConnectError, names::Names};
pub use self::{
    http2::{NoHttp2, Replay},
    open::Open,
};
use crate::{
    backend::{BackendId, Endpoint},
    net::{self, Deadline, Liveness},
};

/// How often idle connections are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

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
    /// In HTTP/2: the connection is gone, the stream was reset, or what came is not HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The backend closed the connection.
    #[error("the backend closed the connection before its answer had ended")]
    Closed,
    /// The connection is gone.
    #[error("the connection to the backend was lost")]
    Lost(#[from] io::Error),
    /// What came is no body by the rules.
    #[error(transparent)]
    Invalid(#[from] http1::framing::Invalid),
    /// The backend has begun to answer, and the rest of the request does not come.
    #[error("the request broke off while it was answered")]
    Request(#[source] Box<Failure>),
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
    http1: Rc<http1::Shared>,
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
            http1: Rc::new(http1::Shared::new()),
            http2: Rc::new(http2::Pool::new()),
            names,
            open,
        }
    }

    /// Closes connections that were idle too long, for ever. One task of the thread runs this, for nobody
    /// polls an idle connection.
    pub async fn sweep(&self) {
        loop {
            net::sleep(SWEEP_INTERVAL).await;
            self.http1.sweep(net::now());
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
            let answered = Box::pin(sent).await;
            return answered.map(|answer| answer.map(|body| Body(Of::Http2(body))));
        }
        loop {
            let checkout = |cx: &mut Context<'_>| http1::checkout(&self.http1, target.id, cx);
            let pooled = poll_fn(|cx| Poll::Ready(checkout(cx))).await;
            let is_fresh = pooled.is_none();
            let connection = match pooled {
                Some(pooled) => pooled,
                None => {
                    // Boxed: a pooled connection is the rule, and a connect makes many allocations anyway.
                    let made_with = options();
                    let connecting =
                        connect::connect(target.endpoint, made_with, &self.names, &self.open);
                    Box::pin(connecting).await.map_err(Failure::Connect)?
                }
            };
            let exchanged =
                http1::exchange(&self.http1, connection, target.id, request, &options, head);
            let answered = exchanged.await;
            if is_fresh || answered.is_ok() || request.is_none() {
                return answered.map(|answer| answer.map(|body| Body(Of::Http1(body))));
            }
        }
    }
}

impl<B> Clone for Client<B> {
    fn clone(&self) -> Self {
        Self {
            http1: Rc::clone(&self.http1),
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

/// The body of a backend's answer, without trailers. Dropped before its end, it closes the backend's connection at once,
/// or in HTTP/2 its stream.
pub struct Body<B>(Of<B>);

/// What is spoken with the backend.
enum Of<B> {
    Http1(http1::Answer<B>),
    Http2(http2::Answer<B>),
}

impl<B> Body<B> {
    /// Whether all of it has come.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match &self.0 {
            Of::Http1(answer) => answer.is_read(),
            Of::Http2(answer) => answer.is_over(),
        }
    }
}

impl<B> HttpBody for Body<B>
where
    B: Replay + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let data = match &mut self.0 {
            Of::Http1(answer) => answer.poll(cx),
            Of::Http2(answer) => answer.poll(cx),
        };
        data.map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Of::Http1(answer) => answer.is_over(),
            Of::Http2(answer) => answer.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Of::Http1(answer) => answer.size_hint(),
            Of::Http2(answer) => answer.size_hint(),
        }
    }
}

impl<B> fmt::Debug for Body<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(feature = "simulation")))]
mod tests;
