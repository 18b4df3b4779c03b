//! Bodies of answers: whole, or a script of server-sent events at a steady pace.
//!
//! A script is an iterator of messages, decided beforehand without a clock; only [`Events`] waits.
//! hyper drops the body when the client goes, and with it everything that the stream held.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Frame, SizeHint};
use serde_json::Value;

use super::sessions::Closed;
use crate::net;

/// The body of any answer of a replica.
#[derive(Debug)]
pub(super) enum Body {
    Whole(Full<Bytes>),
    Events(Events),
}

/// Sends the first message at once and each further one a pace later.
pub(super) struct Events {
    stream: u64,
    sent: u64,
    pace: Duration,
    next: Option<Value>,
    messages: Box<dyn Iterator<Item = Value>>,
    pause: Option<Pin<Box<dyn Future<Output = ()>>>>,
    closed: Option<Closed>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("stream", &self.stream)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn new(
        stream: u64,
        pace: Duration,
        mut messages: impl Iterator<Item = Value> + 'static,
    ) -> Self {
        Self {
            stream,
            sent: 0,
            pace,
            next: messages.next(),
            messages: Box::new(messages),
            pause: None,
            closed: None,
        }
    }

    /// Ends the stream, as SDK servers do, when its session is deleted.
    pub(super) fn until(self, closed: Closed) -> Self {
        Self {
            closed: Some(closed),
            ..self
        }
    }

    fn session_is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        self.closed
            .as_mut()
            .is_some_and(|closed| Pin::new(closed).poll(cx).is_ready())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.session_is_gone(cx) {
            return Poll::Ready(None);
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
        }
        let Some(message) = self.next.take() else {
            return Poll::Ready(None);
        };
        self.sent += 1;
        // Looked up now, so that the last event takes the end of the body with it.
        self.next = self.messages.next();
        self.pause = match self.next {
            Some(_) => Some(Box::pin(net::sleep(self.pace))),
            None => None,
        };
        Poll::Ready(Some(encode(self.stream, self.sent, &message)))
    }
}

/// One event, its fields in the order of the TypeScript SDK. The id is unique within the session.
fn encode(stream: u64, number: u64, message: &Value) -> Bytes {
    format!("event: message\nid: {stream}-{number}\ndata: {message}\n\n").into()
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(whole) => Pin::new(whole).poll_frame(cx),
            Self::Events(events) => events
                .poll_next(cx)
                .map(|event| event.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Events(events) => events.next.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Events(_) => SizeHint::default(),
        }
    }
}
