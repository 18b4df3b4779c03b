//! What the target of a request may be: a path and a query that every server behind pinring takes for the same.

use std::borrow::Cow;

use http::{Method, request::Parts};

use crate::mcp::session::is_graphic;

/// Whether the target names one path of an HTTP server, whoever reads it.
///
/// It goes on as it came, and which pool it is of is decided by its path as it stands. A server that resolves `..`, or
/// decodes before it does, would serve another path than the one that was matched: URL libraries resolve dots
/// before they send, so that none is left in what a client means.
pub(super) fn is_plain(head: &Parts) -> bool {
    let uri = &head.uri;
    match (uri.scheme_str(), uri.authority()) {
        (None, None) | (Some("http" | "https"), Some(_)) => {}
        (None, Some(_)) | (Some(_), _) => return false, // `host:port`, which is CONNECT's, or another protocol
    }
    let path = uri.path();
    if path == "*" {
        return head.method == Method::OPTIONS;
    }
    // hyper lets bytes beyond ASCII through; the query may hold a backslash.
    let query = uri.query().unwrap_or_default();
    path.starts_with('/')
        && is_graphic(path.as_bytes())
        && !has(path, b'\\')
        && is_graphic(query.as_bytes())
        && !has_dot_segment(path)
}

fn has(text: &str, byte: u8) -> bool {
    memchr::memchr(byte, text.as_bytes()).is_some()
}

/// Whether there is a segment `.` or `..`, also where it or a slash beside it is percent-encoded, or where `;` and
/// parameters follow it, which some servers take off first.
fn has_dot_segment(path: &str) -> bool {
    if !has(path, b'.') && !has(path, b'%') {
        return false;
    }
    let decoded = if path.contains('%') {
        let lower = path.to_ascii_lowercase();
        let dotted = lower.replace("%2e", ".");
        Cow::Owned(dotted.replace("%2f", "/").replace("%5c", "/"))
    } else {
        Cow::Borrowed(path)
    };
    let mut segments = decoded.split('/');
    segments.any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn is_plain_get(target: &str) -> bool {
        let request = Request::get(target).body(()).unwrap();
        is_plain(&request.into_parts().0)
    }

    #[test]
    fn a_path_that_servers_would_resolve_is_not_plain() {
        for target in [
            "/..",
            "/a/../b",
            "/./a",
            "/a/.",
            "/a/%2E./b",
            "/a%2f..%2Fb",
            "/a%5c..",
            "/a/..;x=y/b",
        ] {
            assert!(!is_plain_get(target), "{target}");
        }
        for target in [
            "/",
            "/mcp",
            "/...",
            "/.well-known/x",
            "/a.b/c..d/..e",
            "/a?/../b",
            "/%2e%2e%2e",
            "//a",
            "/a;b",
        ] {
            assert!(is_plain_get(target), "{target}");
        }
    }

    #[test]
    fn only_paths_of_http_servers_are_plain() {
        for target in [
            "a",
            "a:80",
            "*",
            "ftp://a/b",
            "/\u{e4}",
            "/a\\b",
            "/?\u{e4}",
        ] {
            assert!(!is_plain_get(target), "{target}");
        }
        for target in ["http://a/b", "https://a", "/a?b\\c"] {
            assert!(is_plain_get(target), "{target}");
        }
    }
}
