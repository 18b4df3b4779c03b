//! What a request is to MCP, told from its head alone: its era, its kind, and the carriers that it holds.
//!
//! First of the six phases of a request. It reads what the client sent and decides nothing: where a
//! request goes is the router's business. What each revision does is in [`era`].

pub mod endpoint;
pub mod era;
pub mod initialize;
pub mod jsonrpc;
pub mod listen;
pub mod loss;
pub mod modern;
pub mod sentinel;
pub mod session;
pub mod splice;
pub mod sse;

use http::{HeaderMap, Method, header::ACCEPT, request::Parts};

use self::{
    endpoint::PinnedQuery,
    modern::Carries,
    session::{ClientSessionId, InvalidSessionId},
};
pub use self::{era::Era, modern::Modern};

/// What is asked for, as far as the head tells. Design, section 3, "the request".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestKind {
    /// A request of the stateless revisions.
    Modern(Modern),
    /// A request of a session.
    Session(ClientSessionId),
    /// A message to the `endpoint` URL of an HTTP+SSE stream (2024-11-05).
    Endpoint(PinnedQuery),
    /// A request without a session by a client that can take an event stream: it begins something.
    NewWork,
    /// Anything else: metadata, OAuth, preflights, a browser.
    Other,
}

/// Why a request cannot be classified: the session id is no such thing, or there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unclassifiable {
    /// More than one `Mcp-Session-Id`.
    #[error("more than one Mcp-Session-Id header")]
    SeveralSessionIds,
    /// More than one `MCP-Protocol-Version`.
    #[error("more than one MCP-Protocol-Version header")]
    SeveralVersions,
    /// A session id that no server can have issued.
    #[error(transparent)]
    SessionId(#[from] InvalidSessionId),
}

/// Tells what a request is.
///
/// # Errors
///
/// When the headers that decide are ambiguous, or the session id cannot be one.
pub fn classify(head: &Parts) -> Result<RequestKind, Unclassifiable> {
    let era = era_of(&head.headers)?;
    let session = session_of(&head.headers)?;
    Ok(match (era, session) {
        (Era::Modern, session) => RequestKind::Modern(Modern {
            session: session.and_then(Result::ok),
            carries: Carries::of(head),
            carriers: Vec::new(),
            affinity: None,
        }),
        (Era::Legacy, Some(session)) => RequestKind::Session(session?),
        (Era::Legacy, None) => match head.uri.query().and_then(PinnedQuery::find) {
            Some(query) => RequestKind::Endpoint(query),
            None if begins_something(head) => RequestKind::NewWork,
            None => RequestKind::Other,
        },
    })
}

fn era_of(headers: &HeaderMap) -> Result<Era, Unclassifiable> {
    let mut versions = headers.get_all(&era::PROTOCOL_VERSION).iter();
    let era = Era::of(versions.next());
    match versions.next() {
        None => Ok(era),
        Some(_) => Err(Unclassifiable::SeveralVersions),
    }
}

/// The session id, if one is there. An empty one counts as none: servers take it so.
fn session_of(
    headers: &HeaderMap,
) -> Result<Option<Result<ClientSessionId, InvalidSessionId>>, Unclassifiable> {
    let mut ids = headers.get_all(&era::SESSION_ID).iter();
    let Some(id) = ids.next() else {
        return Ok(None);
    };
    if ids.next().is_some() {
        return Err(Unclassifiable::SeveralSessionIds);
    }
    Ok((!id.is_empty()).then(|| ClientSessionId::try_from(id.clone())))
}

/// Whether a session-less request opens a session or a stream: POST and GET by a client that names
/// `text/event-stream`. `*/*` does not count, for every browser and curl sends it.
fn begins_something(head: &Parts) -> bool {
    matches!(head.method, Method::POST | Method::GET) && accepts_event_stream(&head.headers)
}

fn accepts_event_stream(headers: &HeaderMap) -> bool {
    let ranges = headers
        .get_all(ACCEPT)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    ranges
        .map(|range| range.split(|byte| *byte == b';').next().unwrap_or_default())
        .any(sse::is_event_stream)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn head(method: &str, headers: &[(&str, &[u8])]) -> Parts {
        let mut request = Request::builder().method(method).uri("/mcp");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const SSE: (&str, &[u8]) = ("accept", b"application/json, text/event-stream");

    #[test]
    fn the_session_header_makes_a_session_request_whatever_the_method() {
        for method in ["GET", "POST", "DELETE", "OPTIONS"] {
            let kind = classify(&head(method, &[("Mcp-Session-Id", b"abc")])).unwrap();
            assert!(
                matches!(kind, RequestKind::Session(id) if id.as_bytes() == b"abc"),
                "{method}"
            );
        }
    }

    #[test]
    fn only_clients_that_name_event_streams_begin_something() {
        assert_eq!(classify(&head("POST", &[SSE])), Ok(RequestKind::NewWork));
        assert_eq!(
            classify(&head("GET", &[("accept", b"TEXT/Event-Stream;q=0.9")])),
            Ok(RequestKind::NewWork)
        );
        assert_eq!(
            classify(&head("GET", &[("accept", b"*/*")])),
            Ok(RequestKind::Other)
        );
        assert_eq!(
            classify(&head("GET", &[("accept", b"text/event-streams")])),
            Ok(RequestKind::Other)
        );
        assert_eq!(classify(&head("DELETE", &[SSE])), Ok(RequestKind::Other));
        assert_eq!(classify(&head("POST", &[])), Ok(RequestKind::Other));
    }

    #[test]
    fn the_version_header_tells_the_era_and_the_method_header_does_not() {
        let modern = [("mcp-protocol-version", &b"2026-07-28"[..]), SSE];
        assert_eq!(
            classify(&head("POST", &modern)),
            Ok(RequestKind::Modern(Modern::default()))
        );
        let ruby = [("mcp-method", &b"initialize"[..]), SSE];
        assert_eq!(classify(&head("POST", &ruby)), Ok(RequestKind::NewWork));
    }

    #[test]
    fn ambiguous_headers_are_refused() {
        let twice = [("mcp-session-id", &b"a"[..]), ("Mcp-Session-Id", b"a")];
        assert_eq!(
            classify(&head("POST", &twice)),
            Err(Unclassifiable::SeveralSessionIds)
        );
        let versions = [
            ("mcp-protocol-version", &b"2025-06-18"[..]),
            ("mcp-protocol-version", b"2026-07-28"),
        ];
        assert_eq!(
            classify(&head("POST", &versions)),
            Err(Unclassifiable::SeveralVersions)
        );
    }

    #[test]
    fn an_id_that_no_server_can_have_issued_is_refused_in_legacy_and_ignored_in_modern_requests() {
        let bad = ("mcp-session-id", &b"a b"[..]);
        assert!(matches!(
            classify(&head("POST", &[bad])),
            Err(Unclassifiable::SessionId(_))
        ));
        let modern = classify(&head(
            "POST",
            &[bad, ("mcp-protocol-version", b"2026-07-28")],
        ));
        assert_eq!(modern, Ok(RequestKind::Modern(Modern::default())));
        assert_eq!(
            classify(&head("GET", &[("mcp-session-id", b"")])),
            Ok(RequestKind::Other)
        );
    }

    proptest! {
        #[test]
        fn any_header_bytes_are_classified_without_panic(
            id in prop::collection::vec((0x20_u8..).prop_filter("no control character", |byte| *byte != 0x7f), 0..80),
        ) {
            let _kind = classify(&head("POST", &[("mcp-session-id", &id)]));
        }
    }
}
