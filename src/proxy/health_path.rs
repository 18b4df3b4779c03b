//! What balancers ask on the traffic port: whether this process takes clients.
//!
//! Before the six phases. It is never forwarded, and says nothing of the backends: else all proxies would be taken out at
//! once when a backend fails.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::{
    body::{self, Answer},
    classify::Arrival,
};
use crate::{observe::Outcome, shutdown::Phase};

impl Arrival {
    /// The answer, if this asks for `path`. `knows_backends` is false as long as a pool has none, because a DNS name was
    /// not answered yet.
    pub(super) fn health(
        &mut self,
        path: &str,
        phase: Phase,
        knows_backends: bool,
    ) -> Option<Response<Answer>> {
        let asks = matches!(self.head.method, Method::GET | Method::HEAD);
        if !asks || self.head.uri.path() != path {
            return None;
        }
        if let Some(unread) = self.body.take() {
            body::discard(unread);
        }
        let (status, text) = match phase {
            Phase::Running if !knows_backends => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            Phase::Running => (StatusCode::OK, "ready\n"),
            Phase::Leaving | Phase::Draining { .. } | Phase::Forced => {
                (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
            }
        };
        let exchange = self.exchange.clone();
        exchange.answered(status, true);
        exchange.end(Outcome::Complete);
        let mut response = Response::new(Answer::Own(
            Some(Bytes::from_static(text.as_bytes())),
            exchange,
        ));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }
}
