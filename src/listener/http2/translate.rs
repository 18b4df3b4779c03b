//! A request of HTTP/2 in the terms of HTTP/1.1, in which backends are asked (RFC 9113, sections 8.2 and 8.3).
//!
//! What h2 has refused never comes here: names in upper case, control characters, fields of one connection, `TE` other
//! than trailers, pseudo-header fields that are unknown, missing or repeated, and a length that is not the body's.

use http::{
    HeaderMap, HeaderValue, Request, Version,
    header::{self, Entry},
};
use hyper::body::{self, Body as _};

use crate::incoming::Incoming;

/// The same request, as if it had come over HTTP/1.1. Whether its Host and target agree is not looked at here.
pub(super) fn translated(request: Request<body::Incoming>) -> Request<Incoming> {
    let (mut head, body) = request.into_parts();
    if let Entry::Vacant(host) = head.headers.entry(header::HOST)
        && let Some(authority) = head.uri.authority()
        && let Ok(authority) = HeaderValue::from_str(authority.as_str())
    {
        host.insert(authority);
    }
    join_cookies(&mut head.headers);
    if !body.is_end_stream() && !head.headers.contains_key(header::CONTENT_LENGTH) {
        let chunked = HeaderValue::from_static("chunked");
        head.headers.insert(header::TRANSFER_ENCODING, chunked);
    }
    head.version = Version::HTTP_11;
    Request::from_parts(head, Incoming::of_stream(body))
}

/// Clients may split cookies, to compress them; servers of HTTP/1.1 read one line (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs = headers.get_all(header::COOKIE).iter();
    let crumbs: Vec<&[u8]> = match crumbs.size_hint() {
        (0 | 1, Some(0 | 1)) => return,
        _ => crumbs.map(HeaderValue::as_bytes).collect(),
    };
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(crumbs: &[&'static str]) -> Vec<HeaderValue> {
        let mut headers = HeaderMap::new();
        for crumb in crumbs {
            headers.append(header::COOKIE, HeaderValue::from_static(crumb));
        }
        join_cookies(&mut headers);
        headers.get_all(header::COOKIE).iter().cloned().collect()
    }

    #[test]
    fn crumbs_become_one_cookie() {
        assert!(joined(&[]).is_empty());
        assert_eq!(joined(&["a=1"]), ["a=1"]);
        assert_eq!(joined(&["a=1", "b=2; c=3", "d=4"]), ["a=1; b=2; c=3; d=4"]);
    }
}
