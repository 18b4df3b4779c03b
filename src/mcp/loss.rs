//! Recognises what servers say of a session that they do not know, where it is not the 404 that the
//! specification wants (2025-03-26 and later, Transports, "Session Management"), or where that may mean the route.
//!
//! Conservative: only answers to a request that named a session, only the statuses that servers were seen to
//! take, and only texts that can mean nothing else. Seen in: `server-everything` of every release and the
//! examples of the TypeScript SDK up to 1.32 (400 `No valid session ID provided`, or the plain text `Invalid or
//! missing session ID`), the transport of that SDK and of its ports (400 `Server not initialized`), the Python
//! SDK's manager up to 1.24 (400 `No valid session ID provided`), mcp-go (400 with the plain text `Invalid session
//! ID`), and in many servers that were written after these. With 404: JSON-RPC `Session not found` (TypeScript, Python,
//! Ruby) or the plain text (`Not Found: Session not found` of rmcp).

use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_ENCODING, WWW_AUTHENTICATE},
};
use serde_json::Value;

use super::sse;

/// The longest answer that is looked into, in bytes: what is longer is no short notice.
pub const MAX_LEN: usize = 8 * 1024;

/// The longest plain text that is taken for a notice, in bytes.
const MAX_TEXT: usize = 200;

/// JSON-RPC 2.0, section 5.1: what the client sent is at fault, not its session.
const PARSE_ERROR: i64 = -32700;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;

/// Servers put the status' name in front.
const PREFIXES: [&str; 3] = ["bad request:", "not found:", "unauthorized:"];

/// What a notice begins with, in lower case.
const NOTICES: [&str; 17] = [
    "no valid session id",
    "no valid session",
    "invalid or missing session id",
    "missing or invalid session id",
    "missing session id",
    "session id missing",
    "mcp-session-id header is required",
    "invalid session id",
    "invalid or expired session id",
    "invalid session",
    "unknown session",
    "session not found",
    "session id not found",
    "session terminated",
    "session has been terminated",
    "session expired",
    "server not initialized",
];

/// What may follow it; anything else makes it a sentence about something else, such as "invalid session token".
const CONTINUATIONS: [&str; 9] = [
    "provided",
    "for ",
    "or expired",
    "or has expired",
    "or terminated",
    "(",
    ":",
    ".",
    ",",
];

/// Whether an answer with this head may say that the session is unknown, so that its body is worth reading.
///
/// A 401 that names a way to log in starts a login and never means the session.
#[must_use]
pub fn is_worth_reading(status: StatusCode, headers: &HeaderMap) -> bool {
    let is_suspect = match status {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => true,
        StatusCode::UNAUTHORIZED => !headers.contains_key(WWW_AUTHENTICATE),
        _ => false,
    };
    is_suspect && !headers.contains_key(CONTENT_ENCODING) && !sse::announced(headers)
}

/// Whether the whole `body` of such an answer says that the session is unknown.
#[must_use]
pub fn is_told_by(status: StatusCode, body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else {
        return false;
    };
    match serde_json::from_str::<Value>(text) {
        Ok(json) => is_told_by_json(status, &json),
        // A page for people to log in at may be short too; servers of MCP say 401 in JSON-RPC.
        Err(_) => status != StatusCode::UNAUTHORIZED && text.len() <= MAX_TEXT && is_notice(text),
    }
}

fn is_told_by_json(status: StatusCode, json: &Value) -> bool {
    let error = &json["error"];
    if json["jsonrpc"] != "2.0" {
        // { "error": "Invalid or missing session ID" }
        return status != StatusCode::UNAUTHORIZED && error.as_str().is_some_and(is_notice);
    }
    let is_about_the_message = matches!(
        error["code"].as_i64(),
        None | Some(PARSE_ERROR | METHOD_NOT_FOUND | INVALID_PARAMS)
    );
    !is_about_the_message && error["message"].as_str().is_some_and(is_notice)
}

fn is_notice(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    let text = PREFIXES
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(&text)
        .trim_start();
    NOTICES
        .iter()
        .filter_map(|notice| text.strip_prefix(notice))
        .map(str::trim_start)
        .any(|rest| {
            rest.is_empty()
                || CONTINUATIONS
                    .iter()
                    .any(|continuation| rest.starts_with(continuation))
        })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn told(status: u16, body: &str) -> bool {
        is_told_by(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    fn rpc(code: i32, message: &str) -> String {
        serde_json::json!({
            "jsonrpc": "2.0", "id": null, "error": { "code": code, "message": message },
        })
        .to_string()
    }

    #[test]
    fn what_servers_in_the_field_say_is_recognised() {
        for (code, message) in [
            (-32000, "Bad Request: No valid session ID provided"), // TypeScript examples, everything
            (-32600, "Bad Request: No valid session ID provided"), // Python up to 1.24
            (-32000, "Bad Request: Server not initialized"),
            (-32600, "Bad Request: Missing session ID"),
            (-32000, "Bad Request: Mcp-Session-Id header is required"),
            (-32000, "Invalid or missing session ID"),
            (
                -32000,
                "Bad Request: no valid session ID provided (send initialize first)",
            ),
            (
                -32000,
                "Bad Request: No valid session ID provided for non-initialize request",
            ),
            (-32001, "Session not found"),
            (-32603, "Session not found: 3f0c"), // Java
            (-32600, "Not Found: Invalid or expired session ID"),
            (-32600, "Not Found: Session has been terminated"),
            (-32000, "Invalid session"),
            (-32000, "Session expired."),
        ] {
            assert!(told(400, &rpc(code, message)), "{message}");
            assert!(told(401, &rpc(code, message)), "{message}");
        }
        for text in ["Invalid session ID\n", "Invalid or missing session ID"] {
            assert!(told(400, text), "{text}"); // mcp-go; the TypeScript examples for GET and DELETE
        }
        assert!(told(
            400,
            r#"{"error":"Invalid or missing session ID for GET request"}"#
        ));
    }

    #[test]
    fn what_means_something_else_is_not() {
        for (code, message) in [
            (
                -32000,
                "Bad Request: Unsupported protocol version: 2024-11-05 (supported versions: 2025-06-18)",
            ),
            (-32700, "Parse error"),
            (-32700, "Session not found"),
            (-32602, "Invalid session id"),
            (-32601, "Session not found"),
            (-32600, "Invalid Request: Server already initialized"),
            (
                -32000,
                "Bad Request: Mcp-Session-Id header must be a single value",
            ),
            (
                -32000,
                "Bad Request: Session exists but uses a different transport protocol",
            ),
            (-32000, "Invalid session token"),
            (-32000, "Invalid session_id argument"),
            (-32000, "Your session not found"),
            (-32000, ""),
        ] {
            assert!(!told(400, &rpc(code, message)), "{message}");
        }
        for body in [
            "",
            "null",
            "[]",
            "\"Session not found\"",
            "Bad Request",
            r#"{"jsonrpc":"2.0","id":1,"result":{"content":"Session not found"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"message":"Session not found"}}"#,
            r#"{"message":"Session not found"}"#,
        ] {
            assert!(!told(400, body), "{body}");
        }
        assert!(!told(
            400,
            &format!("Session not found: {}", "x".repeat(MAX_TEXT))
        ));
    }

    #[test]
    fn a_404_of_the_session_is_told_from_one_of_the_route() {
        assert!(is_worth_reading(StatusCode::NOT_FOUND, &HeaderMap::new()));
        for body in [
            rpc(-32001, "Session not found"), // TypeScript
            rpc(-32600, "Session not found"), // Python, Ruby
            rpc(-32600, "Not Found: Session has been terminated"),
            "Not Found: Session not found".into(), // rmcp
            "session not found\n".into(),          // Go
            "Session terminated\n".into(),         // mcp-go
            r#"{"error":"Session not found"}"#.into(),
        ] {
            assert!(told(404, &body), "{body}");
        }
        for body in [
            "",
            "Cannot GET /mcp",
            "Not Found",
            "404 page not found\n",
            "<!DOCTYPE html>\n<pre>Cannot GET /mcp</pre>\n",
            r#"{"message":"Route GET:/mcp not found","error":"Not Found","statusCode":404}"#,
            r#"{"detail":"Not Found"}"#,
        ] {
            assert!(!told(404, body), "{body}");
        }
    }

    #[test]
    fn a_login_is_no_session() {
        for body in [
            "Invalid session. Please log in again.",
            r#"{"error":"Invalid session"}"#,
        ] {
            assert!(!told(401, body), "{body}");
        }
        let mut headers = HeaderMap::new();
        assert!(is_worth_reading(StatusCode::UNAUTHORIZED, &headers));
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        assert!(!is_worth_reading(StatusCode::UNAUTHORIZED, &headers));
        assert!(is_worth_reading(StatusCode::BAD_REQUEST, &headers));
    }

    #[test]
    fn other_answers_are_not_worth_reading() {
        let none = HeaderMap::new();
        for status in [200, 202, 403, 405, 409, 500, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(!is_worth_reading(status, &none), "{status}");
        }
        for (name, value) in [
            ("content-encoding", "gzip"),
            ("content-type", "text/event-stream"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            assert!(
                !is_worth_reading(StatusCode::BAD_REQUEST, &headers),
                "{name}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_body_is_judged_without_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _told = is_told_by(StatusCode::BAD_REQUEST, &body);
        }
    }
}
