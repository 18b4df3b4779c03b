//! Turns every error into its answer: status, JSON-RPC body, reason, and what the client may do.
//!
//! One place, one exhaustive match. What a client is told decides whether it heals (design, section 4):
//! 404 for a session that is lost, forged or never was, and for nothing else about sessions; 503 with
//! `Retry-After` for what will pass; never 401 or 403 for a session that exists or existed.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::{
    body::RequestBodyError,
    cors::ForeignOrigin,
    headers::{Ambiguous, BrokenHead, TooLarge},
};
use crate::{
    limits::{Full, Limit},
    mcp::{
        Unclassifiable,
        jsonrpc::{self, Id},
    },
    observe::{tally::Word as _, word::Reason},
    router::Refusal,
    upstream::{Failure, NoHttp2, connect::ConnectError},
};

/// Seconds after which a client may try again what will pass.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// What is passed on; whether a backend knows it, that says itself.
const ALLOWED: HeaderValue =
    HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT");

/// Why a request gets an answer of pinring's own.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// There is no room for the connection.
    #[error("{}", full(*.0))]
    Full(Full),
    /// There is too much of the head.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The head could mean different things to different servers.
    #[error(transparent)]
    Ambiguous(#[from] Ambiguous),
    /// The headers that MCP routes by are unusable.
    #[error(transparent)]
    Unclassifiable(#[from] Unclassifiable),
    /// It comes from a page that may not ask.
    #[error(transparent)]
    ForeignOrigin(#[from] ForeignOrigin),
    /// No pool serves this host and path.
    #[error("no pool is configured for this host and path")]
    NoPool,
    /// The router refuses, for good or for now.
    #[error(transparent)]
    Refused(Refusal),
    /// The pin stayed unknown for longer than its grace.
    #[error(transparent)]
    StayedUnknown(Refusal),
    /// The session's backend is lost, and its handshake could not be repeated at another one for now.
    #[error("the session's backend is lost, and no other one can take it over at the moment")]
    NotReinitialized,
    /// The backend gave no answer.
    #[error(transparent)]
    Upstream(#[from] Failure),
    /// The request's body broke off while it was looked into.
    #[error(transparent)]
    RequestBody(#[from] RequestBodyError),
    /// Sessions are bound to principals, and the request that has opened one does not say whose it is.
    #[error("sessions are bound to their users here: come with a token that says who you are")]
    Unidentified,
    /// The request's body has to be looked into, and so many others are that there is no room for it.
    #[error("too much of other requests' bodies is being read at the moment")]
    BodiesFull,
    /// The backend says in words of its own that it does not know the session.
    #[error("the backend does not know the session")]
    SessionForgotten,
    /// The backend was drained, and its time ran out before it answered.
    #[error("the backend was drained before it answered")]
    Drained,
    /// The head of the backend's answer cannot be passed on.
    #[error(transparent)]
    BrokenHead(#[from] BrokenHead),
    /// The backend answered 101, though nobody asked for another protocol.
    #[error("the backend switched protocols unasked")]
    Switched,
}

/// What a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The status.
    pub status: StatusCode,
    /// The word for body, log and metrics.
    pub reason: Reason,
    /// Whether this is about a session that is gone, in the words that SDK clients know.
    pub session_gone: bool,
    /// Whether to try again soon.
    pub retry: bool,
    /// Whether the connection is in doubt.
    pub close: bool,
    /// The limit that was reached, if it is about one.
    pub limit: Option<Limit>,
}

impl Verdict {
    const fn of(status: StatusCode, reason: Reason) -> Self {
        Self {
            status,
            reason,
            session_gone: false,
            retry: false,
            close: false,
            limit: None,
        }
    }

    const fn at(self, limit: Limit) -> Self {
        Self {
            limit: Some(limit),
            ..self
        }
    }

    const fn bad_request(reason: Reason) -> Self {
        Self {
            close: true,
            ..Self::of(StatusCode::BAD_REQUEST, reason)
        }
    }

    const fn gone(reason: Reason) -> Self {
        Self {
            session_gone: true,
            ..Self::of(StatusCode::NOT_FOUND, reason)
        }
    }

    const fn for_now(reason: Reason) -> Self {
        Self {
            retry: true,
            ..Self::of(StatusCode::SERVICE_UNAVAILABLE, reason)
        }
    }
}

impl ProxyError {
    /// Whether the session was genuine, and its backend is gone with it.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_loss(),
            Self::StayedUnknown(refusal) => *refusal == Refusal::UnknownCoordinate,
            Self::Full(_)
            | Self::TooLarge(_)
            | Self::Ambiguous(_)
            | Self::Unclassifiable(_)
            | Self::ForeignOrigin(_)
            | Self::NoPool
            | Self::NotReinitialized
            | Self::Unidentified
            | Self::SessionForgotten
            | Self::Drained
            | Self::RequestBody(_)
            | Self::BodiesFull
            | Self::Upstream(_)
            | Self::BrokenHead(_)
            | Self::Switched => false,
        }
    }

    /// What the client is told.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Full(full) => full_verdict(*full),
            Self::TooLarge(TooLarge::Target(_)) => Verdict {
                status: StatusCode::URI_TOO_LONG,
                ..Verdict::bad_request(Reason::TargetTooLong).at(Limit::TargetBytes)
            },
            Self::TooLarge(TooLarge::Fields(_)) => headers_too_large(Limit::Headers),
            Self::TooLarge(TooLarge::Bytes(_)) => headers_too_large(Limit::HeaderBytes),
            Self::Ambiguous(Ambiguous::Connect) => Verdict {
                status: StatusCode::METHOD_NOT_ALLOWED,
                ..Verdict::bad_request(Reason::ConnectMethod)
            },
            Self::Ambiguous(Ambiguous::Trace) => Verdict {
                status: StatusCode::METHOD_NOT_ALLOWED,
                ..Verdict::bad_request(Reason::TraceMethod)
            },
            Self::Ambiguous(Ambiguous::Upgrade) => Verdict::bad_request(Reason::Upgrade),
            Self::Ambiguous(Ambiguous::Target) => Verdict::bad_request(Reason::TargetInvalid),
            Self::Ambiguous(Ambiguous::TransferCoding) => Verdict {
                status: StatusCode::NOT_IMPLEMENTED,
                ..Verdict::bad_request(Reason::TransferCoding)
            },
            Self::Ambiguous(
                Ambiguous::HostMissing
                | Ambiguous::SeveralHosts
                | Ambiguous::HostMalformed
                | Ambiguous::HostDisagrees,
            ) => Verdict::bad_request(Reason::HostInvalid),
            Self::Ambiguous(
                Ambiguous::Underscore(_) | Ambiguous::Nominated(_) | Ambiguous::Repeated(_),
            ) => Verdict::bad_request(Reason::HeaderAmbiguous),
            Self::Unclassifiable(Unclassifiable::SeveralSessionIds) => {
                Verdict::bad_request(Reason::SeveralSessionIds)
            }
            Self::Unclassifiable(Unclassifiable::SeveralVersions) => {
                Verdict::bad_request(Reason::SeveralVersions)
            }
            Self::Unclassifiable(Unclassifiable::SessionId(_)) => {
                Verdict::gone(Reason::SessionIdInvalid)
            }
            Self::ForeignOrigin(_) => Verdict::of(StatusCode::FORBIDDEN, Reason::OriginNotAllowed),
            Self::NoPool => Verdict::of(StatusCode::NOT_FOUND, Reason::NoPool),
            Self::Refused(refusal) => refused(*refusal),
            Self::NotReinitialized => Verdict::for_now(Reason::NotReinitialized),
            Self::StayedUnknown(refusal) => Verdict::gone(refused(*refusal).reason),
            Self::Upstream(failure) => upstream(failure),
            Self::RequestBody(error) => broken_off(Some(error)),
            Self::Unidentified => Verdict::of(StatusCode::UNAUTHORIZED, Reason::PrincipalRequired),
            Self::BodiesFull => Verdict::for_now(Reason::BodiesFull).at(Limit::BodyBytesTotal),
            Self::SessionForgotten => Verdict::gone(Reason::BackendForgotSession),
            Self::Drained => Verdict::of(StatusCode::BAD_GATEWAY, Reason::BackendDrained),
            Self::BrokenHead(BrokenHead::SessionId(_)) => {
                Verdict::of(StatusCode::BAD_GATEWAY, Reason::BackendSessionIdInvalid)
            }
            Self::BrokenHead(BrokenHead::TransferCoding | BrokenHead::Length) => {
                Verdict::of(StatusCode::BAD_GATEWAY, Reason::BackendAnswerInvalid)
            }
            Self::Switched => Verdict::of(StatusCode::BAD_GATEWAY, Reason::BackendAnswerInvalid),
        }
    }

    /// The answer to the request with this id, if that is known; `request_id` is what the log knows it by.
    #[must_use]
    pub fn response(&self, id: Option<&Id>, request_id: Option<&str>) -> Response<Bytes> {
        let verdict = self.verdict();
        let body = if verdict.session_gone {
            jsonrpc::error_body(
                jsonrpc::SESSION_NOT_FOUND,
                "Session not found",
                verdict.reason.as_str(),
                id,
                request_id,
            )
        } else {
            jsonrpc::error_body(
                jsonrpc::code_of(verdict.status),
                &self.to_string(),
                verdict.reason.as_str(),
                id,
                request_id,
            )
        };
        let mut response = Response::new(body);
        *response.status_mut() = verdict.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if verdict.status == StatusCode::UNAUTHORIZED {
            // RFC 9110, section 15.5.2, wants it; RFC 6750, section 3: no error, for there was no token.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if verdict.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, ALLOWED); // RFC 9110, section 15.5.6, wants it
        }
        if verdict.retry {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if verdict.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn full(full: Full) -> &'static str {
    match full {
        Full::All => "there are as many connections as limits.connections allows",
        Full::OfAddress => {
            "this address has as many connections as limits.connections_per_address allows"
        }
    }
}

fn full_verdict(full: Full) -> Verdict {
    let reason = match full {
        Full::All => Reason::ConnectionsFull,
        Full::OfAddress => Reason::AddressConnectionsFull,
    };
    Verdict {
        close: true,
        ..Verdict::for_now(reason)
    } // whoever refused the connection has counted it
}

fn headers_too_large(limit: Limit) -> Verdict {
    Verdict {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ..Verdict::bad_request(Reason::HeadersTooLarge).at(limit)
    }
}

fn refused(refusal: Refusal) -> Verdict {
    match refusal {
        Refusal::Forged => Verdict::gone(Reason::TagInvalid),
        Refusal::OtherPrincipal => Verdict::gone(Reason::PrincipalOther),
        Refusal::PrincipalMissing => Verdict::gone(Reason::PrincipalMissing),
        Refusal::Unbound => Verdict::gone(Reason::PinUnbound),
        Refusal::WrongPool => Verdict::gone(Reason::WrongPool),
        Refusal::KeyRemoved => Verdict::gone(Reason::KeyRemoved),
        Refusal::BackendRemoved | Refusal::BackendDown => Verdict::gone(Reason::BackendLost),
        Refusal::Unpinned | Refusal::UnpinnedMessage => Verdict::gone(Reason::Unpinned),
        Refusal::UnknownCoordinate => Verdict::for_now(Reason::UnknownCoordinate),
        Refusal::Undiscovered => Verdict::for_now(Reason::Undiscovered),
        Refusal::UnknownKey => Verdict::for_now(Reason::UnknownKey),
        Refusal::NoBackend => Verdict::for_now(Reason::NoBackend),
        Refusal::SessionsFull => {
            Verdict::for_now(Reason::SessionsFull).at(Limit::SessionsPerBackend)
        }
        Refusal::PrincipalSessionsFull => {
            Verdict::for_now(Reason::PrincipalSessionsFull).at(Limit::SessionsPerPrincipal)
        }
    }
}

/// What the client is told where no backend is left to be asked.
pub(super) fn upstream(failure: &Failure) -> Verdict {
    match failure {
        Failure::Connect(ConnectError::Refused { .. }) => Verdict::for_now(Reason::ConnectRefused),
        Failure::Connect(ConnectError::TimedOut { .. }) => Verdict::for_now(Reason::ConnectTimeout),
        Failure::Connect(ConnectError::Failed { .. }) => Verdict::for_now(Reason::ConnectFailed),
        Failure::Connect(ConnectError::Certificate { .. }) => {
            Verdict::for_now(Reason::BackendCertificateInvalid)
        }
        Failure::Connect(ConnectError::Tls { .. }) => Verdict::for_now(Reason::BackendTlsFailed),
        Failure::Connect(ConnectError::Unresolved { .. }) => {
            Verdict::for_now(Reason::HostUnresolved)
        }
        Failure::Connect(ConnectError::Http2(NoHttp2::Silent(_))) => {
            Verdict::of(StatusCode::GATEWAY_TIMEOUT, Reason::BackendTimeout)
        }
        Failure::Connect(ConnectError::Http2(_)) => {
            Verdict::of(StatusCode::BAD_GATEWAY, Reason::BackendNotHttp2)
        }
        Failure::Connect(ConnectError::SeveralAddresses { .. }) => {
            Verdict::for_now(Reason::HostSeveralAddresses)
        }
        Failure::Refused(_) => Verdict::for_now(Reason::BackendRefused),
        Failure::Closed(_) => Verdict::of(StatusCode::BAD_GATEWAY, Reason::BackendClosed),
        Failure::Malformed(_) => Verdict::of(StatusCode::BAD_GATEWAY, Reason::BackendAnswerInvalid),
        Failure::HeadTimeout(_) => Verdict::of(StatusCode::GATEWAY_TIMEOUT, Reason::BackendTimeout),
        Failure::RequestBody(error) => broken_off(RequestBodyError::behind(&**error)),
    }
}

fn broken_off(error: Option<&RequestBodyError>) -> Verdict {
    match error {
        Some(RequestBodyError::Idle(_)) => Verdict {
            close: true,
            ..Verdict::of(StatusCode::REQUEST_TIMEOUT, Reason::RequestBodyTimeout)
                .at(Limit::RequestBodyIdle)
        },
        Some(RequestBodyError::Broken(_) | RequestBodyError::Unended) | None => {
            Verdict::bad_request(Reason::RequestBodyInvalid)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gone_session_is_told_in_the_words_that_clients_know() {
        let response = ProxyError::Refused(Refusal::BackendRemoved).response(None, None);
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            (&body["error"]["code"], &body["error"]["message"]),
            (&(-32001).into(), &"Session not found".into())
        );
        assert_eq!(body["error"]["data"]["reason"], "backend_lost");
    }

    #[test]
    fn what_will_pass_may_be_tried_again() {
        let unknown = ProxyError::Refused(Refusal::UnknownCoordinate).response(None, None);
        assert_eq!(unknown.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(unknown.headers()[header::RETRY_AFTER], "1");
        let stayed = ProxyError::StayedUnknown(Refusal::UnknownCoordinate).verdict();
        assert_eq!(
            (stayed.status, stayed.reason),
            (StatusCode::NOT_FOUND, Reason::UnknownCoordinate)
        );
    }

    #[test]
    fn who_asks_by_a_method_that_is_not_allowed_is_told_which_are() {
        for refused in [Ambiguous::Connect, Ambiguous::Trace] {
            let response = ProxyError::Ambiguous(refused).response(None, None);
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
            let allowed = response.headers()[header::ALLOW].to_str().unwrap();
            assert!(
                allowed.contains("POST") && !allowed.contains("TRACE"),
                "{allowed}"
            );
        }
    }

    #[test]
    fn a_connection_in_doubt_is_closed() {
        let response = ProxyError::Ambiguous(Ambiguous::SeveralHosts).response(None, None);
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()[header::CONNECTION], "close");
    }
}
