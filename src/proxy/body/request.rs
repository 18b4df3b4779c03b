//! A request's body on its way to the backend.

use std::{
    error::Error,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::{
    Budget, Held, discard,
    kept::{Keeping, Kept},
    pieces::Pieces,
    read_on,
};
use crate::{
    incoming::Incoming,
    net::{Deadline, DeadlineHandle, Ticker},
    observe::Exchange,
    upstream::Replay,
};

/// Why a request's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// The client sent nothing for too long.
    #[error("no byte of the request's body came for {0:?}")]
    Idle(Duration),
    /// The client left, or what it sent is no HTTP.
    #[error("the client left within the request's body, or its framing is invalid")]
    Broken(#[source] hyper::Error),
    /// What stands behind the last chunk is no trailer.
    #[error("the request's body does not end as it should")]
    Unended,
}

impl RequestBodyError {
    /// Finds this error: it may stand behind one of hyper's.
    #[must_use]
    pub fn behind<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        error
            .downcast_ref()
            .or_else(|| error.source()?.downcast_ref())
    }
}

/// What is read of a request that no backend has seen, at most: beyond it, no copy is kept (`limits.replay_bytes`).
const KEEP_BYTES: usize = 16 * 1024 * 1024;
const KEEP_TIME: Duration = Duration::from_secs(2);

/// A request's body.
#[derive(Debug)]
pub enum RequestBody {
    /// A client's, as it comes.
    Passing(Passing),
    /// One whose beginning was read already; empty once that is on its way.
    Begun(Bytes, Passing),
    /// One that is all there: a request of pinring's own, one that was looked into, or one that is sent again.
    Whole(Bytes),
}

/// What was read of a body before it goes anywhere.
#[derive(Debug)]
pub enum Collected {
    /// All of it.
    Whole(Bytes, Held),
    /// It is longer than that: the whole of it, as it comes.
    Longer(RequestBody),
    /// There is no room for it. What still comes of it is taken off the client's hands.
    NoRoom,
}

impl RequestBody {
    /// Waits for all of it that `kept` has room for, which then still is to be sent. Not cancel safe: what was read is lost.
    ///
    /// # Errors
    ///
    /// When it breaks off.
    pub async fn gather(&mut self, kept: &Kept) -> Result<(), RequestBodyError> {
        let Self::Passing(passing) = self else {
            return Ok(());
        };
        let mut read = Pieces::default();
        while kept.is_coming()
            && let Some(frame) = poll_fn(|cx| passing.poll(cx)).await
        {
            if let Ok(data) = frame?.into_data() {
                read.push(data);
            }
        }
        if !read.is_empty() {
            self.put_back(kept.whole().unwrap_or_else(|| read.into_bytes())); // one copy is enough
        }
        Ok(())
    }

    /// Reads what nobody was sent, so that it is kept where it is to be kept.
    pub async fn keep(self) {
        match self {
            Self::Passing(_) | Self::Begun(..) => read_on(self, KEEP_BYTES, KEEP_TIME).await,
            Self::Whole(_) => {}
        }
    }

    /// Takes what a client is still sending off its hands: see [`super::discard`]. Who waits for 100-continue sends
    /// nothing until the first byte is asked for.
    pub fn discard(self, waits_for_continue: bool) {
        match self {
            Self::Passing(_) if waits_for_continue => {}
            Self::Passing(passing) | Self::Begun(_, passing) => discard(passing.incoming),
            Self::Whole(_) => {}
        }
    }
}

impl Replay for RequestBody {
    fn put_back(&mut self, read: Bytes) {
        let join = |rest: &Bytes| {
            if rest.is_empty() {
                read.clone()
            } else {
                [&read[..], rest].concat().into()
            }
        };
        *self = match std::mem::replace(self, Self::Whole(Bytes::new())) {
            Self::Passing(passing) => Self::Begun(read, passing),
            Self::Begun(rest, passing) => Self::Begun(join(&rest), passing),
            Self::Whole(rest) => Self::Whole(join(&rest)),
        };
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match &mut *self {
            Self::Passing(passing) => passing.poll(cx),
            Self::Begun(read, passing) if read.is_empty() => passing.poll(cx),
            Self::Begun(bytes, _) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Passing(passing) => passing.incoming.is_end_stream(),
            Self::Begun(read, passing) => read.is_empty() && passing.incoming.is_end_stream(),
            Self::Whole(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Passing(passing) => passing.incoming.size_hint(),
            Self::Begun(read, passing) => super::longer(&passing.incoming.size_hint(), read.len()),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

/// Passes a client's body on, counts it, and ends it when the client falls silent.
#[derive(Debug)]
pub struct Passing {
    incoming: Incoming,
    exchange: Exchange,
    idle: Duration,
    ticker: Ticker,
    /// Made when there is something to wait for: most bodies are there with their head.
    deadline: Option<Deadline>,
    /// The backend's time to begin its answer, which does not run while the request is still coming in.
    head: (DeadlineHandle, Duration),
    keeping: Option<Keeping>,
}

impl Passing {
    /// A body that may be silent for `idle` at most. Each of its frames sets the deadline of `head` anew, and
    /// goes into `kept`, if that is wanted.
    #[must_use]
    pub fn new(
        incoming: Incoming,
        exchange: Exchange,
        idle: Duration,
        ticker: Ticker,
        head: (DeadlineHandle, Duration),
        kept: Option<Kept>,
    ) -> Self {
        let passing = Self {
            incoming,
            exchange,
            idle,
            ticker,
            deadline: None,
            head,
            keeping: kept.map(Keeping),
        };
        passing.note_end();
        passing
    }

    /// Reads the body, if it has no more than `most` bytes, and `budget` has room for it.
    ///
    /// # Errors
    ///
    /// When it breaks off.
    pub async fn collect(
        mut self,
        most: usize,
        budget: Budget<'_>,
    ) -> Result<Collected, RequestBodyError> {
        if self.incoming.size_hint().lower() > most as u64 {
            return Ok(Collected::Longer(RequestBody::Passing(self)));
        }
        let (mut read, mut held) = (Pieces::default(), Held::default());
        while let Some(frame) = poll_fn(|cx| self.poll(cx)).await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            let is_one_piece = read.is_empty() && self.incoming.is_end_stream();
            let has_room = is_one_piece || held.take(data.len(), budget);
            read.push(data);
            if read.len() > most {
                let begun = held.until_dropped(read.into_bytes());
                let begun = RequestBody::Begun(begun, self);
                return Ok(Collected::Longer(begun));
            }
            if !has_room {
                discard(self.incoming);
                return Ok(Collected::NoRoom);
            }
        }
        Ok(Collected::Whole(read.into_bytes(), held))
    }

    /// Nobody polls a body again that says that it has ended.
    fn note_end(&self) {
        if let Some(keeping) = &self.keeping
            && self.incoming.is_end_stream()
        {
            keeping.ends();
        }
    }

    fn passed(&self, data: &Bytes) {
        self.exchange.received(data.len());
        let (head, limit) = &self.head;
        head.set(*limit);
        if let Some(deadline) = &self.deadline {
            deadline.set(self.idle);
        }
        if let Some(keeping) = &self.keeping {
            keeping.passes(data);
        }
        self.note_end();
    }

    fn poll_idle(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let deadline = self.deadline.get_or_insert_with(|| {
            let deadline = self.ticker.deadline();
            deadline.set(self.idle);
            deadline
        });
        deadline
            .poll_expired(cx)
            .map(|()| Some(Err(RequestBodyError::Idle(self.idle))))
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Pending => return self.poll_idle(cx),
                Poll::Ready(None) => {
                    if let Some(keeping) = &self.keeping {
                        keeping.ends();
                    }
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(RequestBodyError::Broken(error))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        self.passed(data);
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    // hyper takes a bare line feed behind the last chunk for the end of the trailers, and drops whatever
                    // comes before the next empty line: another server would see a request there.
                    if frame.trailers_ref().is_some_and(HeaderMap::is_empty) {
                        return Poll::Ready(Some(Err(RequestBodyError::Unended)));
                    } // else trailers: dropped (RFC 9110, section 6.5.1 allows it)
                }
            }
        }
    }
}
