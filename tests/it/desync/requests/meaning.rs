//! What is of the connection, whose a request is, and what follows it.

use super::{AMBIGUOUS, BAD, BAD_HOST, Case, GOT, INNER, SERVED, SERVED_ABC, UPGRADE, case, post};

fn of_the_connection() -> Vec<Case> {
    let connection = |options: &str, told| post(&format!("connection: {options}\r\n"), "", told);
    let closing: &[&str] = &["200 root POST /mcp", "closed"];
    vec![
        connection("close", closing),
        connection("CLOSE", closing),
        connection("x, close", closing),
        connection("keep-alive, x-nothing", SERVED),
        connection("keep-alive\r\nconnection: close", closing),
        connection("\"a b\", ,,", SERVED),
        connection("host", AMBIGUOUS),
        connection("content-length", AMBIGUOUS),
        connection("transfer-encoding", SERVED),
        connection("authorization", AMBIGUOUS),
        connection("origin", AMBIGUOUS),
        connection("Mcp-Session-Id", AMBIGUOUS),
        connection("mcp-protocol-version", AMBIGUOUS),
        connection("mcp-name", AMBIGUOUS),
        connection("close, mcp-method", AMBIGUOUS),
        connection("x-forwarded-for, forwarded", SERVED),
        connection(
            "te, trailer, upgrade\r\nte: trailers\r\ntrailer: x\r\nkeep-alive: timeout=5",
            SERVED,
        ),
        post(
            "proxy-connection: keep-alive\r\nproxy-authorization: Basic x\r\n",
            "",
            SERVED,
        ),
        // Java's client asks for it in every first request: the answer is that it was not heard.
        connection(
            "Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA",
            SERVED,
        ),
        connection(
            "upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x",
            UPGRADE,
        ),
        connection("upgrade\r\nupgrade: h2c, WebSocket", UPGRADE),
        connection("upgrade\r\nupgrade: h2c\r\nupgrade: x/1", UPGRADE),
        connection("upgrade\r\nupgrade: H2C, , TLS/1.2", SERVED),
        connection("upgrade\r\nupgrade: TLS/1.0", SERVED),
        connection("upgrade\r\nupgrade:", SERVED),
        connection("upgrade", SERVED),
        post(
            "upgrade: websocket\r\ncontent-length: 3\r\n",
            "abc",
            UPGRADE,
        ),
        case(
            "GET /mcp HTTP/1.0\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            UPGRADE,
        ),
        connection("upgrade, close\r\nupgrade: h2c", closing),
        post("upgrade: h2c\r\ncontent-length: 3\r\n", "abc", SERVED_ABC),
        post(
            "expect: 100-continue\r\ncontent-length: 3\r\n",
            "abc",
            &["100", "200 root POST /mcp abc", "open"],
        ),
        post(
            "expect: 100-Continue\r\ntransfer-encoding: chunked\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            &["100", "200 root POST /mcp abc", "open"],
        ),
        post("expect: 100-continue\r\n", "", SERVED),
        post(
            "expect: 100-continue\r\nexpect: x\r\ncontent-length: 3\r\n",
            "abc",
            SERVED_ABC,
        ),
        post("expect: 200-ok\r\ncontent-length: 3\r\n", "abc", SERVED_ABC),
        post("expect:\r\ncontent-length: 3\r\n", "abc", SERVED_ABC),
        case(
            "POST /mcp HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
            &["200 root POST /mcp abc", "closed"],
        ),
        case(
            format!("GET /mcp HTTP/1.0\r\n\r\n{INNER}"),
            &["200 root GET /mcp", "closed"],
        ),
        case("GET /mcp HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", GOT),
        case(
            "POST /mcp HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nabc",
            SERVED_ABC,
        ),
        case(
            format!(
                "POST /mcp HTTP/1.0\r\nhost: a\r\nconnection: keep-alive, close\r\n\r\n{INNER}"
            ),
            closing,
        ),
        case(
            format!("GET http://a/mcp HTTP/1.0\r\n\r\n{INNER}"),
            &["200 root GET /mcp", "closed"],
        ),
        case(
            format!("GET /mcp HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n{INNER}"),
            BAD_HOST,
        ),
    ]
}

fn ids() -> Vec<Case> {
    let id = |value: &str, told| post(&format!("mcp-session-id: {value}\r\n"), "", told);
    let gone: &[&str] = &["404 session_id_invalid", "open"];
    vec![
        id("abc", SERVED),
        id("", SERVED),
        id(&"x".repeat(4096), SERVED),
        id(&"x".repeat(4097), &["404 unpinned", "open"]),
        id(&"x".repeat(4129), &["404 unpinned", "open"]),
        id(&"x".repeat(4130), gone),
        id(&"x".repeat(9000), gone),
        id("a b", gone),
        id("a\tb", gone),
        id("\u{e4}", gone),
        id("a\x7f", BAD),
        id("a\0", BAD),
        id(
            "a\r\nmcp-session-id: a",
            &["400 several_session_ids", "closed"],
        ),
        id(
            "a\r\nMCP-SESSION-ID: b",
            &["400 several_session_ids", "closed"],
        ),
        id(
            "\r\nmcp-session-id: b",
            &["400 several_session_ids", "closed"],
        ),
        id("a\r\nmcp_session_id: b", AMBIGUOUS),
        id("a\r\nmcp_session-id: b", AMBIGUOUS),
        post(
            "mcp-protocol-version: 2025-06-18\r\nmcp-protocol-version: 2026-07-28\r\n",
            "",
            &["400 several_versions", "closed"],
        ),
        post(
            "mcp-protocol-version: 2026-07-28\r\nmcp-protocol-version: 2026-07-28\r\n",
            "",
            &["400 several_versions", "closed"],
        ),
        post(
            "mcp-protocol-version: 2026-07-28\r\nmcp-session-id: a b\r\n",
            "",
            SERVED,
        ),
        post(
            "mcp-protocol-version: 2026-07-28\r\nmcp-method: tasks/get\r\nmcp-name: a\r\nmcp-name: b\r\n",
            "",
            AMBIGUOUS,
        ),
        post(
            "mcp-method: tasks/get\r\nmcp-method: tools/call\r\n",
            "",
            AMBIGUOUS,
        ),
        post("mcp-param-x: a\r\nmcp-param-x: b\r\n", "", AMBIGUOUS),
        post(
            "authorization: Bearer a\r\nauthorization: Bearer b\r\n",
            "",
            AMBIGUOUS,
        ),
        post("origin: http://a\r\norigin: http://b\r\n", "", AMBIGUOUS),
        post("x_forwarded_for: 1.2.3.4\r\n", "", AMBIGUOUS),
        post(
            "x-forwarded-for: 1.2.3.4\r\nx-forwarded-for: 5.6.7.8\r\nx-forwarded-host: b\r\nx-forwarded-proto: https\r\n",
            "",
            SERVED,
        ),
    ]
}

fn pipelines() -> Vec<Case> {
    let one = "POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
    let two =
        "POST /two HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let refused = |body: &str| {
        let length = body.len();
        format!(
            "POST /mcp HTTP/1.1\r\nhost: a\r\nmcp-session-id: a b\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    vec![
        case(
            format!("{one}{two}{one}"),
            &[
                "200 root POST /one abc",
                "200 root POST /two abc",
                "200 root POST /one abc",
                "open",
            ],
        ),
        case(
            format!("{one}\r\n\r\n{two}"),
            &["200 root POST /one abc", "200 root POST /two abc", "open"],
        ),
        case(
            format!("{one}x{two}"),
            &["200 root POST /one abc", "200 root xPOST /two abc", "open"],
        ),
        case(
            format!("{one}{}{INNER}", "GET /mcp HTTP/1.1\r\n\r\n"),
            &["200 root POST /one abc", "400 host_invalid", "closed"],
        ),
        case(
            format!("{one}{}{INNER}", "GET /mcp\r\n\r\n"),
            &["200 root POST /one abc", "400", "closed"],
        ),
        // A body that was not asked for is no request.
        case(
            format!("{}{one}", refused(INNER)),
            &["404 session_id_invalid", "200 root POST /one abc", "open"],
        ),
        case(
            format!("{}{one}", refused(&INNER.repeat(1000))),
            &["404 session_id_invalid", "200 root POST /one abc", "open"],
        ),
        case(
            refused(&INNER.repeat(30_000)),
            &["404 session_id_invalid", "closed"],
        ),
        case(
            format!(
                "POST /mcp HTTP/1.1\r\nhost: a\r\nmcp-session-id: a b\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{INNER}\r\n0\r\n\r\n{one}",
                INNER.len()
            ),
            &["404 session_id_invalid", "200 root POST /one abc", "open"],
        ),
        case(
            format!(
                "POST /mcp HTTP/1.1\r\nhost: a\r\nmcp-session-id: a b\r\ntransfer-encoding: chunked\r\n\r\nx\r\n{INNER}"
            ),
            &["404 session_id_invalid", "closed"],
        ),
        case(
            format!(
                "POST /mcp HTTP/1.1\r\nhost: a\r\nmcp-session-id: a b\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n{INNER}",
                INNER.len()
            ),
            &["404 session_id_invalid", "open"],
        ),
        case(
            format!(
                "POST /mcp HTTP/1.1\r\nhost: b b\r\ncontent-length: {}\r\n\r\n{INNER}",
                INNER.len()
            ),
            BAD_HOST,
        ),
    ]
}

/// All of them.
pub(super) fn all() -> Vec<Case> {
    [of_the_connection(), ids(), pipelines()]
        .into_iter()
        .flatten()
        .collect()
}
