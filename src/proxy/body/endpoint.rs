//! The beginning of an HTTP+SSE stream on its way to the client: its `endpoint` event gets the pin of the
//! backend that holds the session, which lives as long as the stream does.

use std::fmt;

use bytes::Bytes;
use http::HeaderValue;

use crate::{
    config::PathPrefix,
    mcp::endpoint::{Opening, Origin},
    pin::TEXT_LEN,
    sessions::Visit,
};

/// Makes the pin of a raw query, and counts its session.
type Issue = Box<dyn FnMut(&[u8]) -> ([u8; TEXT_LEN], Visit)>;

/// An event stream that may begin with `endpoint`.
pub struct Endpoint {
    opening: Opening,
    /// As the client asked for it; the proxy has refused what is no host.
    host: HeaderValue,
    prefix: Option<PathPrefix>,
    /// Until the event has passed.
    issue: Option<Issue>,
    session: Option<Visit>,
}

impl Endpoint {
    /// A stream that a client asked `host` for, whose path lost `prefix` on the way to the backend.
    #[must_use]
    pub fn new(host: HeaderValue, prefix: Option<PathPrefix>, issue: Issue) -> Self {
        Self {
            opening: Opening::default(),
            host,
            prefix,
            issue: Some(issue),
            session: None,
        }
    }

    /// The bytes that may leave in place of `data`, possibly none.
    pub(super) fn pass(&mut self, data: Bytes) -> Bytes {
        let Some(issue) = &mut self.issue else {
            return data;
        };
        let origin = Origin {
            authority: self.host.to_str().unwrap_or_default(),
            prefix: self.prefix.as_ref().map_or("", PathPrefix::as_str),
        };
        let session = &mut self.session;
        let passed = self.opening.push(&data, origin, |query| {
            let (pin, visit) = issue(query);
            *session = Some(visit);
            pin
        });
        if self.opening.is_over() {
            self.issue = None;
        }
        passed
    }

    /// Whether there is nothing to be done any more, not even at the stream's end.
    pub(super) fn is_over(&self) -> bool {
        self.issue.is_none() && self.session.is_none()
    }

    /// Whether the beginning of an event is held back.
    pub(super) fn holds_back(&self) -> bool {
        self.opening.holds_back()
    }

    /// What was held back when the stream ended.
    pub(super) fn finish(&mut self) -> Bytes {
        self.opening.finish()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.end_session(); // servers drop it with its stream
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.opening).finish()
    }
}
