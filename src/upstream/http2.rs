//! Sends one request over a connection of HTTP/2 that it shares with others.
//!
//! Such a pool's requests come here, and those of HTTP/1.1 never do. Three things differ from there. A connection is
//! taken together with a stream of it, see [`pool`], and goes on when a stream is given up. A request is only lent to
//! hyper, see [`lent`], for a backend may say afterwards that it has not looked at it: only then it is sent again. And
//! the head is another one, see [`head`].

mod answer;
mod connection;
mod handshake;
mod head;
mod lent;
mod pool;
mod wire;

use std::{future::poll_fn, io, pin::pin, task::Poll, time::Duration};

use http::{Request, Response};

pub(super) use self::{answer::Answer, pool::Pool};
pub use self::{handshake::NoHttp2, lent::Replay};
use super::{Failure, Interrupted, Open, Options, Target, names::Names};
use crate::net::Deadline;

/// Connections that may turn out to be closing when a request is handed to them, before it is given up.
const MOST_CLOSING: usize = 3;

/// Sends `request` as [`super::Client::send`] does.
pub(super) async fn send<B>(
    pool: &Pool<B>,
    target: Target<'_>,
    request: &mut Option<Request<B>>,
    made_with: (Options, &Names, &Open),
    head: (&Deadline, Duration),
) -> Result<Response<Answer<B>>, Failure>
where
    B: Replay + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut closing = 0;
    loop {
        let connection = pool.reserve(target, made_with).await?;
        let answered = exchange(connection, target, request, &made_with.0, head).await;
        closing += 1;
        match answered {
            // Another connection may do. One that refuses is another matter: it is full, and so is its backend.
            Err(Failure::Closed(_)) if request.is_some() && closing < MOST_CLOSING => {}
            answered => return answered,
        }
    }
}

async fn exchange<B>(
    connection: connection::Reserved<B>,
    target: Target<'_>,
    request: &mut Option<Request<B>>,
    options: &Options,
    (deadline, limit): (&Deadline, Duration),
) -> Result<Response<Answer<B>>, Failure>
where
    B: Replay + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (own, body) = request.take().expect("a request is sent once").into_parts();
    let sent = head::to_http2(&own, target.endpoint);
    let (unfinished, lent) = lent::lend(body, connection);
    let connection = unfinished.connection();
    let before = connection.wire().reads();
    let answered = {
        let mut sender = connection.sender();
        let mut answer = pin!(sender.try_send_request(Request::from_parts(sent, lent)));
        poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answered) => Poll::Ready(Some(answered)),
            Poll::Pending => deadline.poll_expired(cx).map(|()| None),
        })
        .await
    };
    let Some(answered) = answered else {
        if connection.wire().reads() == before {
            connection.retire(); // not a word to anybody: the next request is not to wait for that
        }
        return Err(Failure::HeadTimeout(limit));
    };
    match answered {
        Ok(response) if response.headers().len() > options.headers => Err(Failure::Malformed(
            Malformed::Fields(response.headers().len()).into(),
        )),
        Ok(response) => {
            connection.wire().heard();
            unfinished.is_taken();
            Ok(response.map(|incoming| Answer::new(incoming, unfinished)))
        }
        Err(mut error) => {
            let is_unsent = error.take_message().is_some();
            let error = error.into_error();
            if let Some(error) = unfinished.broken_off() {
                return Err(Failure::RequestBody(error));
            }
            let what = What::of(&error);
            if is_unsent || what.is_unsent() {
                let body = unfinished.take_back();
                *request = body.map(|body| Request::from_parts(own, body));
            }
            if what.ends_connection() {
                connection.retire();
            }
            Err(what.failure(error))
        }
    }
}

/// What an answer is that is none.
#[derive(Debug, thiserror::Error)]
enum Malformed {
    #[error("it has {0} header fields, which is more than limits.headers allows")]
    Fields(usize),
}

/// What became of a request that got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// The backend says that it has not looked at this request, and goes on with others (RFC 9113, section 8.7).
    Refused,
    /// The same, for it takes no more requests on this connection (section 6.8).
    GoesAway,
    /// It gave this one up.
    Reset,
    /// What it sent is not HTTP/2, or not an answer.
    Malformed,
    /// The connection is gone.
    Closed,
}

impl What {
    fn of(error: &hyper::Error) -> Self {
        let source = std::error::Error::source(error);
        let Some(error) = source.and_then(|source| source.downcast_ref::<h2::Error>()) else {
            return Self::Closed; // given up by hyper itself: no answer to a ping, or it was closed before
        };
        if let Some(error) = error.get_io() {
            return match error.kind() {
                io::ErrorKind::InvalidData => Self::Malformed,
                _ => Self::Closed,
            };
        }
        match (error.is_remote(), error.is_go_away()) {
            (true, true) => Self::GoesAway,
            (true, false) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => Self::Refused,
            (true, false) => Self::Reset,
            (false, _) => Self::Malformed,
        }
    }

    fn is_unsent(self) -> bool {
        match self {
            Self::Refused | Self::GoesAway => true,
            Self::Reset | Self::Malformed | Self::Closed => false,
        }
    }

    fn ends_connection(self) -> bool {
        match self {
            Self::GoesAway | Self::Closed => true,
            Self::Refused | Self::Reset | Self::Malformed => false,
        }
    }

    fn failure(self, error: hyper::Error) -> Failure {
        match self {
            Self::Refused => Failure::Refused(error),
            Self::GoesAway | Self::Reset | Self::Closed => {
                Failure::Closed(Interrupted::Http(error))
            }
            Self::Malformed => Failure::Malformed(error.into()),
        }
    }
}
