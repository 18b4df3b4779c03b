//! JSON-RPC, as far as an intermediary speaks it: the body of an error of pinring's own.

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

/// `Session not found`, the code that the SDKs' servers answer with and their clients know.
pub const SESSION_NOT_FOUND: i32 = -32001;

/// The code of an error: [`SESSION_NOT_FOUND`], or the HTTP status as a positive number, for the
/// specification reserves all others (2026-07-28: −32020 to −32099; JSON-RPC 2.0, section 5.1).
#[must_use]
pub fn code_of(status: StatusCode) -> i32 {
    i32::from(status.as_u16())
}

/// An error response. `reason` is the word that log and metrics use too; its `id` is null, because the
/// request's body has not been read.
#[must_use]
pub fn error_body(code: i32, message: &str, reason: &str) -> Bytes {
    let body = json!({
        "jsonrpc": "2.0",
        "id": null,
        "error": { "code": code, "message": message, "data": { "source": "pinring", "reason": reason } },
    });
    Bytes::from(body.to_string())
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
        );
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value["error"]["code"], 502);
        assert_eq!(value["error"]["message"], "say \"why\"");
        assert_eq!(value["error"]["data"]["source"], "pinring");
        assert_eq!(value["error"]["data"]["reason"], "broken_answer");
        assert!(value["id"].is_null());
    }
}
