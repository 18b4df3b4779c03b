//! JSON-RPC, as far as an intermediary speaks it: the body of an error of pinring's own.

use std::fmt;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

/// `Session not found`, the code that the SDKs' servers answer with and their clients know.
pub const SESSION_NOT_FOUND: i32 = -32001;

/// The code of an error: [`SESSION_NOT_FOUND`], or the HTTP status as a positive number, for the
/// specification reserves all others (2026-07-28: −32020 to −32099; JSON-RPC 2.0, section 5.1).
#[must_use]
pub fn code_of(status: StatusCode) -> i32 {
    i32::from(status.as_u16())
}

/// Longest id that is repeated, in bytes as written. Those of SDKs have 36 at most; an error is no place for a body.
const LONGEST_ID: usize = 1024;

/// The id of a request, as its client wrote it: a string or a number (JSON-RPC 2.0, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(Box<str>);

impl Id {
    /// The id that this JSON text is; `None` if it is none that can be repeated.
    #[must_use]
    pub fn try_new(written: &[u8]) -> Option<Self> {
        let is_one = matches!(written.first()?, b'"' | b'-' | b'0'..=b'9');
        if !is_one || written.len() > LONGEST_ID {
            return None;
        }
        let valid: &RawValue = serde_json::from_slice(written).ok()?;
        Some(Self(valid.get().into()))
    }

    /// The id of a request; `None` for a notification, a batch, and a client's answer, whose id is the server's.
    #[must_use]
    pub fn of(message: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Message<'a> {
            #[serde(borrow)]
            id: &'a RawValue,
            #[serde(borrow, rename = "method")]
            _method: &'a RawValue,
        }
        let message: Message<'_> = serde_json::from_slice(message).ok()?;
        Self::try_new(message.id.get().as_bytes())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An error response. `reason` is the word that log and metrics use too, and `request_id` what the log knows the request
/// by; `id` is that of the request, if its body has been read, and else null.
#[must_use]
pub fn error_body(
    code: i32,
    message: &str,
    reason: &str,
    id: Option<&Id>,
    request_id: Option<&str>,
) -> Bytes {
    let mut data = json!({ "source": "pinring", "reason": reason });
    if let Some(request_id) = request_id {
        data["request_id"] = request_id.into();
    }
    let error = json!({ "code": code, "message": message, "data": data });
    let id: &dyn fmt::Display = id.map_or(&"null", |id| id);
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_who_made_it_and_why() {
        let body = error_body(
            code_of(StatusCode::BAD_GATEWAY),
            "say \"why\"",
            "broken_answer",
            None,
            Some("7a"),
        );
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value["error"]["code"], 502);
        assert_eq!(value["error"]["message"], "say \"why\"");
        assert_eq!(value["error"]["data"]["source"], "pinring");
        assert_eq!(value["error"]["data"]["reason"], "broken_answer");
        assert_eq!(value["error"]["data"]["request_id"], "7a");
        assert!(value["id"].is_null());
    }

    #[test]
    fn the_id_of_a_request_is_repeated_as_it_was_written() {
        for id in [
            "7",
            "-1.50e+3",
            "1e400",
            "\"a\\u0022\\\\b\"",
            "\"\"",
            "\"\u{e9}\"",
        ] {
            let message = format!(r#"{{"method":"m","params":{{"id":0}}, "id" : {id} }}"#);
            let found = Id::of(message.as_bytes());
            let body = error_body(503, "m", "r", found.as_ref(), None);
            let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":"#);
            assert!(body.starts_with(expected.as_bytes()), "{id}");
            assert!(serde_json::from_slice::<&RawValue>(&body).is_ok(), "{id}");
        }
        let long = format!(r#"{{"method":"m","id":"{}"}}"#, "x".repeat(LONGEST_ID));
        for message in [
            r#"{"method":"m","id":null}"#,
            r#"{"method":"m","id":true}"#,
            r#"{"method":"m","id":{"a":1}}"#,
            r#"{"method":"notifications/x"}"#,
            r#"{"id":1,"result":{}}"#,
            r#"[{"method":"m","id":1}]"#,
            r#"{"method":"m","id":1"#,
            "",
            &long,
        ] {
            assert_eq!(Id::of(message.as_bytes()), None, "{message}");
        }
        assert_eq!(Id::try_new(b"1 2"), None);
        assert_eq!(Id::try_new(b"1,\"x\":2"), None);
    }
}
