//! Clients that are ambiguous, slow or too large: refused before a backend sees them.

use std::time::{Duration, Instant};

use crate::support::{Backend, Client, Pinring, ok, request};

/// What comes between `POST /mcp HTTP/1.1` and the blank line, and the reason of the 400.
const AMBIGUOUS: &[(&str, &str)] = &[
    ("", "host_invalid"),
    ("host: a\r\nhost: a\r\n", "host_invalid"),
    ("host: a\r\nHost: b\r\n", "host_invalid"),
    ("host: \r\n", "host_invalid"),
    ("host: a b\r\n", "host_invalid"),
    ("host: a/b\r\n", "host_invalid"),
    ("host: a,b\r\n", "host_invalid"),
    ("host: user@a\r\n", "host_invalid"),
    ("host: a:80x\r\n", "host_invalid"),
    ("host: :80\r\n", "host_invalid"),
    ("host: [::1\r\n", "host_invalid"),
    (
        "host: a\r\nmcp-session-id: x\r\nmcp-session-id: y\r\n",
        "several_session_ids",
    ),
    (
        "host: a\r\nmcp-session-id: x\r\nMcp-Session-Id: x\r\n",
        "several_session_ids",
    ),
    ("host: a\r\nmcp_session_id: x\r\n", "header_ambiguous"),
    ("host: a\r\nMcp_Session-Id: x\r\n", "header_ambiguous"),
    ("host: a\r\nmcp_protocol_version: x\r\n", "header_ambiguous"),
    ("host: a\r\ncontent_length: 3\r\n", "header_ambiguous"),
    (
        "host: a\r\ntransfer_encoding: chunked\r\n",
        "header_ambiguous",
    ),
    (
        "host: a\r\nx_forwarded_for: 1.2.3.4\r\n",
        "header_ambiguous",
    ),
    (
        "host: a\r\nconnection: mcp-session-id\r\n",
        "header_ambiguous",
    ),
    (
        "host: a\r\nconnection: close, Mcp-Session-Id\r\n",
        "header_ambiguous",
    ),
    (
        "host: a\r\nconnection: close\r\nconnection: host\r\n",
        "header_ambiguous",
    ),
    (
        "host: a\r\nconnection: authorization\r\n",
        "header_ambiguous",
    ),
    ("host: a\r\nconnection: origin\r\n", "header_ambiguous"),
];

#[test]
fn ambiguous_heads_answer_400_and_close() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    for (headers, reason) in AMBIGUOUS {
        let mut client = Client::connect(pinring.address());
        client.send(format!("POST /mcp HTTP/1.1\r\n{headers}\r\n"));
        let answer = client.answer();
        assert_eq!(
            (answer.status, &*answer.reason()),
            (400, *reason),
            "{headers:?}"
        );
        assert_eq!(answer.header("connection"), Some("close"), "{headers:?}");
        assert!(client.is_closed(), "{headers:?}");
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let error = &body["error"];
        assert_eq!(
            (
                &body["jsonrpc"],
                &body["id"],
                &error["code"],
                &error["data"]["source"]
            ),
            (
                &"2.0".into(),
                &serde_json::Value::Null,
                &400.into(),
                &"pinring".into()
            )
        );
    }
    assert!(backend.received().is_empty());
}

#[test]
fn a_target_that_disagrees_with_host_answers_400() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    for target in ["http://b/mcp", "http://a:81/mcp", "http://user@a/mcp"] {
        let mut client = Client::connect(pinring.address());
        client.send(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"));
        let answer = client.answer();
        assert_eq!(
            (answer.status, &*answer.reason()),
            (400, "host_invalid"),
            "{target}"
        );
    }
    assert!(backend.received().is_empty());
}

#[test]
fn connect_answers_405() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    client.send("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n");
    assert_eq!(client.answer().status, 405);
    assert!(backend.received().is_empty());
}

#[test]
fn a_length_beside_chunks_reaches_no_backend() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    for headers in [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
    ] {
        let mut client = Client::connect(pinring.address());
        client.send(format!(
            "POST /mcp HTTP/1.1\r\nhost: a\r\n{headers}\r\n2\r\nab\r\n0\r\n\r\n"
        ));
        let answer = client.answer();
        assert_eq!(answer.status, 200, "{}", answer.head);
    }
    for seen in backend.received() {
        assert_eq!(
            (seen.header("content-length"), &*seen.body),
            (None, &b"ab"[..])
        );
    }
}

#[test]
fn what_is_no_http_answers_400_and_closes() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    for bytes in [
        "hello\r\n\r\n",
        "GET /mcp HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET /mcp HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n",
        "GET /m cp HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n",
        "POST /mcp HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut client = Client::connect(pinring.address());
        assert_eq!(client.send(bytes).answer().status, 400, "{bytes:?}");
        assert!(client.is_closed(), "{bytes:?}");
    }
    assert!(backend.received().is_empty());
}

#[test]
fn heads_beyond_the_limits_are_told_which() {
    let backend = Backend::answering(ok("", "a"));
    let many = "[limits]\nheaders = 200\n";
    let wide = "[limits]\nheader_bytes = \"256KiB\"\n";
    let short = "[limits]\ntarget_bytes = \"1KiB\"\n";
    let long = "[limits]\ntarget_bytes = \"63KiB\"\n";
    let header = |length| format!("x: {}\r\n", "y".repeat(length));
    let target = |length| format!("/{}", "u".repeat(length));
    // Without a reason: hyper's own limits, which are wider, and whose answers have no body.
    let cases = [
        (
            "",
            "/mcp".to_owned(),
            "x: y\r\n".repeat(81),
            431,
            "headers_too_large",
        ),
        ("", "/mcp".to_owned(), "x: y\r\n".repeat(101), 431, ""),
        (many, "/mcp".to_owned(), "x: y\r\n".repeat(150), 200, ""),
        (
            "",
            "/mcp".to_owned(),
            header(70_000),
            431,
            "headers_too_large",
        ),
        ("", "/mcp".to_owned(), header(1_000_000), 431, ""),
        ("", target(17_000), String::new(), 414, "target_too_long"),
        ("", target(70_000), String::new(), 414, ""),
        (wide, "/mcp".to_owned(), header(70_000), 200, ""),
        (short, target(1025), String::new(), 414, "target_too_long"),
        (long, target(40_000), String::new(), 200, ""),
    ];
    for (limits, target, headers, status, reason) in cases {
        let pinring = Pinring::before(&[&backend], limits);
        let mut client = Client::connect(pinring.address());
        client.send_what_is_taken(format!("GET {target} HTTP/1.1\r\nhost: a\r\n{headers}\r\n"));
        let answer = client.answer();
        let lengths = (target.len(), headers.len());
        assert_eq!(
            (answer.status, &*answer.reason()),
            (status, reason),
            "{lengths:?}, {limits}"
        );
        assert!(status == 200 || client.is_closed(), "{lengths:?}, {limits}");
    }
    assert_eq!(backend.received().len(), 3);
}

#[test]
fn a_head_of_almost_the_limit_passes() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    let large = format!("x: {}\r\n", "y".repeat(60_000));
    let many: String = (0..70).map(|number| format!("x-{number}: y\r\n")).collect();
    for headers in [large, many] {
        assert_eq!(
            Client::once(pinring.address(), "POST", &headers, "{}").status,
            200
        );
    }
    assert_eq!(backend.received().len(), 2);
}

#[test]
fn a_head_that_does_not_end_in_time_answers_408_and_closes() {
    let backend = Backend::answering(ok("", "a"));
    let timeouts = "[timeouts]\nrequest_head = \"400ms\"\n";
    let pinring = Pinring::before(&[&backend], timeouts);
    let before = [String::new(), request("POST", "", "{}")];
    for first in &before {
        let mut client = Client::connect(pinring.address());
        if !first.is_empty() {
            client.send(first).answer();
        }
        client.send("GET /mcp HTTP/1.1\r\nhost: a\r\n");
        let begun = Instant::now();
        // A byte now and then is no excuse.
        while client.is_quiet_for(Duration::from_millis(50))
            && begun.elapsed() < Duration::from_secs(3)
        {
            client.send_what_is_taken("x");
        }
        assert_eq!(client.answer().status, 408);
        assert!(client.is_closed());
    }
    assert!(
        Client::connect(pinring.address()).is_closed(),
        "who says nothing"
    );
}

#[test]
fn half_a_head_behind_a_whole_request_has_its_time_too() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    let next = request("POST", "x-next: 1\r\n", "{}");
    let (half, rest) = next.split_at(40);
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", "", "{}") + half);
    assert_eq!(client.answer().status, 200);
    // Longer than the buffers are kept of a connection on which nothing comes.
    assert!(client.is_quiet_for(Duration::from_millis(700)));
    assert_eq!(client.send(rest).answer().status, 200);
    assert_eq!(backend.received()[1].header("x-next"), Some("1"));
}

#[test]
fn a_connection_serves_again_after_any_silence() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "[timeouts]\nkeep_alive = \"2s\"\n");
    let mut client = Client::connect(pinring.address());
    for silence in [0, 50, 200, 300, 500, 1000] {
        assert!(client.is_quiet_for(Duration::from_millis(silence.max(1))));
        assert_eq!(client.call("POST", "", "{}").status, 200, "{silence} ms");
    }
    let idle = Instant::now();
    assert!(client.is_closed());
    let idle = idle.elapsed();
    let wanted = Duration::from_millis(1900)..Duration::from_secs(4);
    assert!(wanted.contains(&idle), "{idle:?}");
}

#[test]
fn a_refusal_can_be_read_while_a_large_body_is_still_sent_and_the_connection_used_again() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "[affinity]\nunpinned = \"reject\"\n");
    let body = "x".repeat(200 * 1024);
    for framing in ["content-length", "chunked"] {
        let mut client = Client::connect(pinring.address());
        let (head, tail) = if framing == "chunked" {
            let rest = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
            ("transfer-encoding: chunked".to_owned(), rest)
        } else {
            (format!("content-length: {}", body.len()), body.clone())
        };
        client.send(format!(
            "POST /mcp HTTP/1.1\r\nhost: a\r\nmcp-session-id: x\r\n{head}\r\n\r\n"
        ));
        let answer = client.answer(); // before the body
        assert_eq!(
            (answer.status, &*answer.reason()),
            (404, "unpinned"),
            "{framing}"
        );
        let answer = client.send(tail).call("POST", "", "{}");
        assert_eq!(
            (answer.status, answer.text()),
            (200, "a".into()),
            "{framing}"
        );
    }
    assert_eq!(backend.received().len(), 2);
}

#[test]
fn a_400_can_be_read_although_a_large_body_follows_it() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", "host: b\r\n", &"x".repeat(200 * 1024)));
    let answer = client.answer();
    assert_eq!((answer.status, &*answer.reason()), (400, "host_invalid"));
    assert!(answer.complete && client.is_closed() && !client.was_reset());
}

#[test]
fn a_body_smuggled_behind_a_request_is_a_request_of_its_own_or_none() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    // Answered before its body is read: what follows must not be taken for a request.
    let inner = request("POST", "x-inner: 1\r\n", "");
    client.send(request("POST", "mcp-session-id: a b\r\n", &inner));
    assert_eq!(client.answer().reason(), "session_id_invalid");
    assert_eq!(client.call("POST", "x-outer: 1\r\n", "").status, 200);
    let seen = backend.received();
    assert!(
        seen.len() == 1 && seen[0].header("x-outer").is_some(),
        "{seen:?}"
    );
}

#[test]
fn the_rest_of_a_body_is_no_request_however_late_it_comes() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "[affinity]\nunpinned = \"reject\"\n");
    let inner = request("POST", "x-inner: 1\r\n", "");
    let outer = request("POST", "mcp-session-id: x\r\n", &inner);
    let head = outer.len() - inner.len();
    for (silence, of_body) in [(0, 0), (300, 0), (300, 10), (1000, 10), (4000, 10)] {
        let mut client = Client::connect(pinring.address());
        client.send(&outer.as_bytes()[..head + of_body]);
        assert_eq!(client.answer().reason(), "unpinned");
        client.is_quiet_for(Duration::from_millis(silence.max(1)));
        // The connection may have been closed meanwhile.
        client.send_what_is_taken(&outer.as_bytes()[head + of_body..]);
        client.send_what_is_taken(request("POST", "x-outer: 1\r\n", ""));
        while client.fill() && !client.take_buffered().is_empty() {
            if !backend.received().is_empty() {
                break;
            }
        }
        let seen = backend.received();
        assert!(
            seen.iter().all(|seen| seen.header("x-inner").is_none()),
            "{silence} ms"
        );
    }
}
