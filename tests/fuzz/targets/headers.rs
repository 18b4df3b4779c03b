//! Heads of requests and answers: nothing of one connection passes, and one session id at most.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use libfuzzer_sys::fuzz_target;
use pinring::{
    backend::Scheme,
    mcp,
    proxy::headers::{Forwarded, Seen, scan, to_backend, to_client},
};

const STOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// Lines of `name:value`.
fn headers(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').take(60) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts
            .next()
            .and_then(|name| HeaderName::from_bytes(name).ok());
        let value = parts
            .next()
            .and_then(|value| HeaderValue::from_bytes(value.trim_ascii()).ok());
        if let (Some(name), Some(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

fn assert_end_to_end(headers: &HeaderMap) {
    for name in STOP {
        assert!(!headers.contains_key(name), "{name}");
    }
    assert!(headers.get_all("mcp-session-id").iter().count() <= 1);
}

fuzz_target!(|lines: &[u8]| {
    let headers = headers(lines);
    let mut head = Request::post("/mcp?a=b").body(()).unwrap().into_parts().0;
    head.headers.clone_from(&headers);
    let coded = headers.contains_key(header::TRANSFER_ENCODING);
    let _kind = mcp::classify(&head);
    let by_trusted = lines.len().is_multiple_of(2);
    if let Ok(scan) = scan(&head, Seen::of(&head.headers), by_trusted) {
        assert_eq!(headers.get_all(header::HOST).iter().count(), 1);
        to_backend(
            &mut head,
            &scan,
            Forwarded {
                scheme: Scheme::Http,
                peer: &HeaderValue::from_static("192.0.2.1"),
            },
            None,
            None,
        );
        assert_end_to_end(&head.headers);
        assert!(!head.headers.contains_key("mcp-session-id"));
        assert_eq!(head.headers.get_all("x-forwarded-for").iter().count(), 1);
        assert!(!coded || !head.headers.contains_key(header::CONTENT_LENGTH));
    }
    let mut answer = headers;
    let pinned = HeaderValue::from_static("pinned");
    if let Ok(issued) = to_client(&mut answer, None, |_| pinned.clone()) {
        assert_end_to_end(&answer);
        assert_eq!(issued.map(|_| &pinned), answer.get("mcp-session-id"));
        assert!(!coded || !answer.contains_key(header::CONTENT_LENGTH));
    }
});
