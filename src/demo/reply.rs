//! HTTP heads of the demo servers: what a request's headers say, and the answers built from them.
//!
//! Pure. Refusals have the status codes and the JSON-RPC codes of the TypeScript SDK and its
//! examples, with `id` null as there, so that a client reacts as it does in the field.

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::events::{Body, Events};
use super::rpc::REVISIONS;

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: &str = "mcp-protocol-version";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// Which forms of an answer the client takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accept {
    pub(super) json: bool,
    pub(super) events: bool,
}

impl Accept {
    /// Of a POST. Ranges count, and no header takes all: a bare `curl` is welcome here.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if !headers.contains_key(ACCEPT) {
            return Self {
                json: true,
                events: true,
            };
        }
        Self {
            json: accepts(headers, &[JSON, "application/*", "*/*"]),
            events: accepts(headers, &[EVENTS, "text/*", "*/*"]),
        }
    }

    /// Of a GET, where `*/*` is what a browser says that wants a page.
    pub(super) fn names_events(headers: &HeaderMap) -> bool {
        accepts(headers, &[EVENTS])
    }
}

fn accepts(headers: &HeaderMap, ranges: &[&str]) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(media_type)
        .any(|given| ranges.iter().any(|range| given.eq_ignore_ascii_case(range)))
}

/// A media type without its parameters.
fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

pub(super) fn content_is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| media_type(value).eq_ignore_ascii_case(JSON))
}

/// The id that the request carries. One that is no text was made by no server: it reads as empty
/// and is then not found.
pub(super) fn session_id(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(SESSION_ID)?;
    Some(value.to_str().unwrap_or_default())
}

/// Whether the request is of a revision spoken here; without the header it is.
pub(super) fn revision_is_known(headers: &HeaderMap) -> bool {
    headers
        .get(PROTOCOL_VERSION)
        .is_none_or(|value| REVISIONS.iter().any(|revision| value == revision))
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: i32,
    pub(super) message: &'static str,
}

impl Refusal {
    const fn new(status: StatusCode, code: i32, message: &'static str) -> Self {
        Self {
            status,
            code,
            message,
        }
    }

    pub(super) const NOT_ACCEPTABLE: Self = Self::new(
        StatusCode::NOT_ACCEPTABLE,
        -32000,
        "Not Acceptable: Client must accept application/json or text/event-stream",
    );
    pub(super) const NOT_ACCEPTABLE_STREAM: Self = Self::new(
        StatusCode::NOT_ACCEPTABLE,
        -32000,
        "Not Acceptable: Client must accept text/event-stream",
    );
    pub(super) const NOT_JSON: Self = Self::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        -32000,
        "Unsupported Media Type: Content-Type must be application/json",
    );
    pub(super) const TOO_LARGE: Self = Self::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        -32000,
        "Payload Too Large: a message may have 1 MiB",
    );
    pub(super) const BROKEN_JSON: Self = Self::new(
        StatusCode::BAD_REQUEST,
        -32700,
        "Parse error: the body is no JSON",
    );
    pub(super) const NO_MESSAGE: Self = Self::new(
        StatusCode::BAD_REQUEST,
        -32600,
        "Invalid Request: the body is no single JSON-RPC 2.0 message",
    );
    pub(super) const ALREADY_INITIALIZED: Self = Self::new(
        StatusCode::BAD_REQUEST,
        -32600,
        "Invalid Request: Server already initialized",
    );
    pub(super) const SESSION_ID_MISSING: Self = Self::new(
        StatusCode::BAD_REQUEST,
        -32000,
        "Bad Request: Mcp-Session-Id header is required",
    );
    pub(super) const SESSION_NOT_FOUND: Self =
        Self::new(StatusCode::NOT_FOUND, -32001, "Session not found");
    pub(super) const REVISION_UNKNOWN: Self = Self::new(
        StatusCode::BAD_REQUEST,
        -32000,
        "Bad Request: Unsupported protocol version \
         (supported versions: 2025-11-25, 2025-06-18, 2025-03-26)",
    );
    pub(super) const STREAM_OPEN: Self = Self::new(
        StatusCode::CONFLICT,
        -32000,
        "Conflict: Only one SSE stream is allowed per session",
    );

    pub(super) fn into_response(self) -> Response<Body> {
        let body = json!({
            "jsonrpc": "2.0",
            "error": { "code": self.code, "message": self.message },
            "id": null,
        });
        let mut response = whole(self.status, body.to_string());
        set(&mut response, CONTENT_TYPE, JSON);
        response
    }
}

/// A message as the whole answer.
pub(super) fn json(id: &str, message: &Value) -> Response<Body> {
    let mut response = whole(StatusCode::OK, message.to_string());
    set(&mut response, CONTENT_TYPE, JSON);
    name_session(&mut response, id);
    response
}

/// A stream of messages.
pub(super) fn events(id: &str, events: Events) -> Response<Body> {
    let mut response = Response::new(Body::Events(events));
    set(&mut response, CONTENT_TYPE, EVENTS);
    set(&mut response, CACHE_CONTROL, "no-cache, no-transform");
    let buffering = HeaderName::from_static("x-accel-buffering");
    set(&mut response, buffering, "no");
    name_session(&mut response, id);
    response
}

/// Notifications and responses have no answer of their own.
pub(super) fn accepted() -> Response<Body> {
    whole(StatusCode::ACCEPTED, String::new())
}

/// With the id although it is gone now, as the Python SDK has it.
pub(super) fn deleted(id: &str) -> Response<Body> {
    let mut response = whole(StatusCode::OK, String::new());
    name_session(&mut response, id);
    response
}

pub(super) fn method_not_allowed() -> Response<Body> {
    let refusal = Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        -32000,
        "Method not allowed.",
    );
    let mut response = refusal.into_response();
    set(&mut response, ALLOW, "GET, POST, DELETE");
    response
}

/// Plain text: no MCP is spoken elsewhere (`/.well-known/…` above all).
pub(super) fn no_such_path() -> Response<Body> {
    let mut response = whole(StatusCode::NOT_FOUND, "Not Found\n".to_owned());
    set(&mut response, CONTENT_TYPE, "text/plain; charset=utf-8");
    response
}

fn whole(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &'static str) {
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}

fn name_session(response: &mut Response<Body>, id: &str) {
    let value = HeaderValue::from_str(id).expect("an id of the table is a UUID");
    response.headers_mut().insert(SESSION_ID, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))])
    }

    #[test]
    fn ranges_count_for_a_post_and_not_for_a_get() {
        let of = |value| {
            let accept = Accept::of(&accepting(value));
            (accept.json, accept.events)
        };
        assert_eq!(of("application/json, text/event-stream"), (true, true));
        assert_eq!(of("Text/Event-Stream;q=0.9"), (false, true));
        assert_eq!(of("*/*"), (true, true));
        assert_eq!(of("text/html"), (false, false));
        assert!(Accept::of(&HeaderMap::new()).json);
        assert!(Accept::names_events(&accepting(
            "text/html, text/event-stream"
        )));
        assert!(!Accept::names_events(&accepting("*/*")));
    }

    #[test]
    fn a_refused_revision_is_told_all_that_are_spoken() {
        for revision in REVISIONS {
            assert!(Refusal::REVISION_UNKNOWN.message.contains(revision));
        }
    }
}
