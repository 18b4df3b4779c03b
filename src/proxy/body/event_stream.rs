//! What pinring itself does in an event stream: comments into its silence, and its early end in a drain.
//!
//! Both only between two events, and never where the length of the body was announced.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;

use super::endpoint::Endpoint;
use crate::{
    mcp::sse,
    net::{self, Deadline, Ticker},
    shutdown::Phase,
};

/// A comment with its blank line: clients ignore it, and balancers on the way see that the stream lives
/// (WHATWG HTML, 9.2.7, "authoring notes").
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// An event stream on its way to the client.
#[derive(Debug)]
pub struct EventStream {
    boundary: sse::Boundary,
    comments: Option<(Duration, Deadline)>,
    ending: Option<Ending>,
    /// Boxed: few streams are of this kind, and none needs the room for long.
    endpoint: Option<Box<Endpoint>>,
}

/// The end of a stream in a drain: each at a moment of its own, so that clients do not all come back at once.
#[derive(Debug)]
pub struct Ending {
    ticker: Ticker,
    /// From 0 to 1: this stream's place among all.
    place: f32,
    deadline: Option<Deadline>,
}

/// What is to be done in a silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// These bytes are to be sent.
    Comment(Bytes),
    /// The stream is to be ended.
    End,
}

impl EventStream {
    /// A stream that begins now, with a comment after each silence of this length.
    #[must_use]
    pub fn new(comments: Option<(Duration, Deadline)>, ending: Option<Ending>) -> Self {
        if let Some((silence, deadline)) = &comments {
            deadline.set(*silence);
        }
        Self {
            boundary: sse::Boundary::new(),
            comments,
            ending,
            endpoint: None,
        }
    }

    /// The same, of one that may begin with an `endpoint` event.
    #[must_use]
    pub fn with_endpoint(self, endpoint: Option<Endpoint>) -> Self {
        Self {
            endpoint: endpoint.map(Box::new),
            ..self
        }
    }

    /// The bytes that may leave in place of `data`, possibly none.
    pub(super) fn pass(&mut self, data: Bytes) -> Bytes {
        let Some(endpoint) = &mut self.endpoint else {
            return data;
        };
        let passed = endpoint.pass(data);
        if endpoint.is_over() {
            self.endpoint = None;
        }
        passed
    }

    /// What was held back when the backend's stream ended.
    pub(super) fn finish(&mut self) -> Bytes {
        self.endpoint
            .as_mut()
            .map(|endpoint| endpoint.finish())
            .unwrap_or_default()
    }

    /// Takes note of bytes that pass.
    pub fn passed(&mut self, data: &[u8]) {
        self.boundary.push(data);
        self.rest();
    }

    /// Whether the stream stays open until its client or a drain ends it.
    pub(super) fn lasts(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether the stream can be opened again, and ended here without loss.
    pub(super) fn may_end(&self) -> bool {
        self.ending.is_some() && self.boundary.between_events()
    }

    /// Nothing has come from the backend: is there something to be done?
    pub fn poll_silence(&mut self, phase: Phase, cx: &mut Context<'_>) -> Poll<Silence> {
        let held = self.endpoint.as_ref();
        let between_events =
            self.boundary.between_events() && !held.is_some_and(|first| first.holds_back());
        if let Some(ending) = &mut self.ending
            && ending.poll_due(phase, cx).is_ready()
            && between_events
        {
            return Poll::Ready(Silence::End);
        }
        let Some((_, deadline)) = &self.comments else {
            return Poll::Pending;
        };
        ready!(deadline.poll_expired(cx));
        self.rest();
        if between_events {
            Poll::Ready(Silence::Comment(COMMENT))
        } else {
            Poll::Pending
        }
    }

    /// The silence begins anew.
    fn rest(&self) {
        if let Some((silence, deadline)) = &self.comments {
            deadline.set(*silence);
        }
    }
}

impl Ending {
    /// Of a stream whose place among all is `place`, a random number from 0 to 1.
    #[must_use]
    pub fn new(ticker: Ticker, place: f32) -> Self {
        Self {
            ticker,
            place,
            deadline: None,
        }
    }

    fn poll_due(&mut self, phase: Phase, cx: &mut Context<'_>) -> Poll<()> {
        let Phase::Draining { since, until, .. } = phase else {
            return Poll::Pending;
        };
        let deadline = self.deadline.get_or_insert_with(|| {
            // The first half of the time is theirs, so that the second is left for those that were busy.
            let time = until
                .saturating_duration_since(since)
                .mul_f32(self.place / 2.0);
            let deadline = self.ticker.deadline();
            deadline.set((since + time).saturating_duration_since(net::now()));
            deadline
        });
        deadline.poll_expired(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Waker};

    use super::*;

    fn poll_now(stream: &mut EventStream) -> Poll<Silence> {
        stream.poll_silence(Phase::Running, &mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn comments_come_after_silence_between_events_only() {
        let test = async {
            let ticker = Ticker::new();
            let mut stream =
                EventStream::new(Some((Duration::from_secs(25), ticker.deadline())), None);
            let story = async {
                net::sleep(Duration::from_secs(24)).await;
                stream.passed(b"data: 1\n\n");
                net::sleep(Duration::from_secs(24)).await;
                assert_eq!(
                    poll_now(&mut stream),
                    Poll::Pending,
                    "the event began the silence anew"
                );
                let comment = poll_fn(|cx| stream.poll_silence(Phase::Running, cx)).await;
                assert_eq!(comment, Silence::Comment(COMMENT));
                stream.passed(b"data: half of an ev");
                net::sleep(Duration::from_secs(60)).await;
                assert_eq!(poll_now(&mut stream), Poll::Pending);
                stream.passed(b"ent\n\n");
                net::sleep(Duration::from_secs(26)).await;
                assert_eq!(
                    poll_now(&mut stream),
                    Poll::Ready(Silence::Comment(COMMENT))
                );
            };
            tokio::select! {
                () = story => {}
                () = ticker.run() => {}
            }
        };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(test);
    }
}
