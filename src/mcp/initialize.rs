//! The handshake that begins a session, as far as it is repeated for one whose server is gone.
//!
//! 2025-11-25, Lifecycle, "Initialization": `initialize`, its result, `notifications/initialized`.

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

/// What follows the result of `initialize`.
pub const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// What a server answered to `initialize`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The session goes by this revision.
    Version(String),
    /// It refuses.
    Error,
}

/// The request to be sent again, if `body` is an `initialize`: with its parameters byte for byte and an id of
/// pinring's own. So those of one client program are equal, though some number their requests by UUIDs.
#[must_use]
pub fn repeatable(body: &[u8]) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct Request<'a> {
        method: &'a str,
        #[serde(borrow)]
        id: &'a RawValue,
        #[serde(borrow)]
        params: &'a RawValue,
    }
    let request: Request<'_> = serde_json::from_slice(body).ok()?;
    if request.method != "initialize" || request.id.get() == "null" {
        return None;
    }
    let params = request.params.get();
    Some(Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{params}}}"#
    )))
}

/// Reads a message of the answer; `None` if it is not the one that was waited for.
#[must_use]
pub fn reply(message: &[u8]) -> Option<Reply> {
    #[derive(Deserialize)]
    struct Response {
        method: Option<IgnoredAny>,
        result: Option<Negotiated>,
        error: Option<IgnoredAny>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Negotiated {
        protocol_version: String,
    }
    match serde_json::from_slice(message).ok()? {
        Response {
            method: Some(_), ..
        } => None,
        Response {
            result: Some(Negotiated { protocol_version }),
            ..
        } => Some(Reply::Version(protocol_version)),
        Response { error: Some(_), .. } => Some(Reply::Error),
        Response { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_parameters_make_equal_requests_whatever_their_ids() {
        let body = |id: &str| {
            let params = r#"{"protocolVersion":"2025-11-25", "clientInfo":{"name":"\u00e9"}}"#;
            repeatable(
                format!(r#" {{"params":{params},"id":{id},"method":"initialize"}} "#).as_bytes(),
            )
        };
        let expected = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25", "clientInfo":{"name":"\u00e9"}}}"#;
        assert_eq!(body("7").unwrap(), expected);
        assert_eq!(body("\"0193c2e6\""), body("7"));
    }

    #[test]
    fn nothing_else_is_a_handshake() {
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#,
            r#"{"jsonrpc":"2.0","method":"initialize","params":{}}"#,
            r#"[{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}]"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}"#,
            "grant_type=client_credentials",
            "",
        ] {
            assert_eq!(repeatable(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn the_reply_is_the_response_and_no_other_message() {
        let version = br#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","capabilities":{}}}"#;
        assert_eq!(reply(version), Some(Reply::Version("2025-06-18".into())));
        let error = br#"{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no"}}"#;
        assert_eq!(reply(error), Some(Reply::Error));
        let log = br#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
        assert_eq!(reply(log), None);
        assert_eq!(reply(b""), None);
    }
}
