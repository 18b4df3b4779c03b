//! Refuses a request: in the log, and with an answer of pinring's own.

use http::{Response, StatusCode};

use super::{
    Proxy,
    body::{self, Answer},
    classify::Arrival,
    error::ProxyError,
};
use crate::{
    incoming::Incoming,
    limits::{Full, Reached},
    observe::{Exchange, Outcome, request_id, tally::Word as _},
    upstream::Failure,
};

impl Arrival {
    /// Refuses it, and takes what its client is still sending off its hands.
    pub(super) fn refuse(self, error: &ProxyError, reached: &Reached) -> Response<Answer> {
        let waits_for_continue = self.waits_for_continue();
        discard(self.body, waits_for_continue);
        let (client, exchange) = (self.client.address, self.exchange);
        let goes_on = self.message_id.as_ref().is_some_and(|id| id.goes_on());
        let id = self.message_id.and_then(|id| id.known());
        let request_id = exchange.request_id().map(request_id::text);
        let verdict = error.verdict();
        if let Some(limit) = verdict.limit {
            reached.count(limit);
        }
        match error {
            // A client that leaves within its own request's body is its own affair.
            ProxyError::Upstream(Failure::RequestBody(_)) | ProxyError::RequestBody(_) => {}
            ProxyError::Upstream(_) | ProxyError::BrokenHead(_) | ProxyError::Switched => {
                tracing::warn!(
                    reason = verdict.reason.as_str(),
                    request_id,
                    error = chain(error),
                    "no usable answer from the backend"
                );
            }
            ProxyError::Full(_)
            | ProxyError::TooLarge(_)
            | ProxyError::Ambiguous(_)
            | ProxyError::Unclassifiable(_)
            | ProxyError::ForeignOrigin(_)
            | ProxyError::NoPool
            | ProxyError::Refused(_)
            | ProxyError::StayedUnknown(_)
            | ProxyError::SessionForgotten
            | ProxyError::Unidentified
            | ProxyError::BodiesFull
            | ProxyError::NotReinitialized
            | ProxyError::Drained => {
                tracing::debug!(%client, reason = verdict.reason.as_str(), request_id, error = chain(error), "refused");
            }
        }
        let mut response = error.response(id.as_ref(), request_id);
        if goes_on && id.is_some() && verdict.status == StatusCode::BAD_GATEWAY {
            // The call has failed, and its session goes on, with clients that end themselves at a 502, too.
            *response.status_mut() = StatusCode::OK;
        }
        exchange.error(|| chain(error));
        exchange.answered_here(response.status(), Some(verdict.reason));
        // With its head all of it is there. Nobody asks for the body of an answer to HEAD.
        exchange.end(Outcome::Complete);
        response.map(|body| Answer::Own(Some(body), exchange))
    }
}

impl Proxy {
    /// The answer to a request of a connection for which there is no room. It has no line in the log: there may be many.
    #[must_use]
    pub fn turn_away(&self, full: Full) -> Response<Answer> {
        let error = ProxyError::Full(full);
        let (verdict, answer) = (error.verdict(), error.response(None, None));
        let exchange = Exchange::unlogged(&self.meter);
        exchange.answered_here(verdict.status, Some(verdict.reason));
        exchange.end(Outcome::Complete);
        answer.map(|body| Answer::Own(Some(body), exchange))
    }
}

/// Takes what a client is still sending off its hands, unless it waits to be asked for it.
pub(super) fn discard(unread: Option<Incoming>, waits_for_continue: bool) {
    if let Some(unread) = unread.filter(|_| !waits_for_continue) {
        body::discard(unread);
    }
}

/// An error with its causes, for one log line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
