//! A request's body on its way to the backend.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::{
    net::{Deadline, DeadlineHandle, Ticker},
    observe::Exchange,
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
}

impl RequestBodyError {
    /// Finds this error behind one of hyper's.
    #[must_use]
    pub fn behind(error: &hyper::Error) -> Option<&Self> {
        error.source()?.downcast_ref()
    }
}

/// Passes a request's body on, counts it, and ends it when the client falls silent.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    exchange: Exchange,
    idle: Duration,
    ticker: Ticker,
    /// Made when there is something to wait for: most bodies are there with their head.
    deadline: Option<Deadline>,
    /// The backend's time to begin its answer, which does not run while the request is still coming in.
    head: (DeadlineHandle, Duration),
}

impl RequestBody {
    /// A body that may be silent for `idle` at most. Each of its frames sets the deadline of `head` anew.
    #[must_use]
    pub fn new(
        incoming: Incoming,
        exchange: Exchange,
        idle: Duration,
        ticker: Ticker,
        head: (DeadlineHandle, Duration),
    ) -> Self {
        Self {
            incoming,
            exchange,
            idle,
            ticker,
            deadline: None,
            head,
        }
    }

    /// The client's body as it is.
    pub fn into_incoming(self) -> Incoming {
        self.incoming
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
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Pending => return self.poll_idle(cx),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(RequestBodyError::Broken(error))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        self.exchange.received(data.len());
                        let (head, limit) = &self.head;
                        head.set(*limit);
                        if let Some(deadline) = &self.deadline {
                            deadline.set(self.idle);
                        }
                        return Poll::Ready(Some(Ok(frame)));
                    } // else a trailer: dropped (RFC 9110, section 6.5.1 allows it)
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
