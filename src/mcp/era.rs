//! The revisions of MCP as an intermediary sees them, and the names of their headers.
//!
//! A revision that behaves otherwise on the wire becomes another variant of [`Era`], which is matched
//! without a wildcard everywhere: the compiler then names every place that must think of it.

use http::{HeaderName, HeaderValue};

/// `Mcp-Session-Id`: names a session (2025-03-26 and later, Transports, "Session Management").
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// `MCP-Protocol-Version`: the revision of a request (2025-06-18 and later, Transports, "Protocol Version Header").
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// `Mcp-Method`: the method of the body (2026-07-28, Streamable HTTP, "Standard Request Headers"). Servers check it.
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");

/// `Mcp-Name`: what the method is about (the same; of a task its id, SEP-2663, "Streamable HTTP: Routing Headers").
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// `Last-Event-ID`: where a stream is to be resumed (2025-03-26 and later, Transports, "Resumability").
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The first revision without sessions.
const FIRST_MODERN: &[u8; 10] = b"2026-07-28";

/// A family of revisions with the same behaviour on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// With a handshake, and a session that lives in one process: 2024-11-05 to 2025-11-25.
    Legacy,
    /// Without sessions; every request stands alone: 2026-07-28 and later.
    Modern,
}

impl Era {
    /// The era of a request with this `MCP-Protocol-Version`. Anything that is not a date counts as legacy.
    ///
    /// `Mcp-Method` is no proof: the Ruby client sends it in every era.
    #[must_use]
    pub fn of(version: Option<&HeaderValue>) -> Self {
        match version.map(HeaderValue::as_bytes) {
            Some(date) if is_date(date) && date >= FIRST_MODERN.as_slice() => Self::Modern,
            Some(_) | None => Self::Legacy,
        }
    }
}

/// Whether `text` has the form `YYYY-MM-DD`; such texts sort as their dates do.
fn is_date(text: &[u8]) -> bool {
    text.len() == FIRST_MODERN.len()
        && text.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_era_is_the_date_s() {
        let era = |text: &'static str| Era::of(Some(&HeaderValue::from_static(text)));
        for legacy in [
            "2024-11-05",
            "2025-03-26",
            "2025-06-18",
            "2025-11-25",
            "2026-07-27",
            "DRAFT-2026",
            "",
            "2026-07-280",
        ] {
            assert_eq!(era(legacy), Era::Legacy, "{legacy:?}");
        }
        for modern in ["2026-07-28", "2026-08-01", "2031-01-01"] {
            assert_eq!(era(modern), Era::Modern, "{modern:?}");
        }
        assert_eq!(Era::of(None), Era::Legacy);
    }
}
