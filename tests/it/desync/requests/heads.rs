//! Lines, hosts and targets.

use super::{BAD, BAD_HOST, BAD_TARGET, Case, GOT, INNER, SERVED_ABC, case, get, with_host};

fn lines() -> Vec<Case> {
    vec![
        // Bare line feeds end lines (RFC 9112, section 2.2 allows it), and none goes on.
        case(
            "POST /mcp HTTP/1.1\nhost: a\ncontent-length: 3\n\nabc",
            SERVED_ABC,
        ),
        case("GET /mcp HTTP/1.1\r\nhost: a\nx: y\r\n\n", GOT),
        case(
            format!("\r\n\r\n\n{}", "GET /mcp HTTP/1.1\r\nhost: a\r\n\r\n"),
            GOT,
        ),
        case("GET /mcp HTTP/1.1\rhost: a\r\r", BAD),
        case(format!("GET /mcp HTTP/1.1\rhost: a\r\n\r\n{INNER}"), BAD),
        case(
            format!("GET /mcp HTTP/1.1\r\nhost: a\r\nx: y\rz\r\n\r\n{INNER}"),
            BAD,
        ),
        case(
            format!("GET /mcp HTTP/1.1\r\nhost: a\r\nx: y\r\rz: 1\r\n\r\n{INNER}"),
            BAD,
        ),
        case(
            format!("GET /mcp HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n{INNER}"),
            BAD,
        ),
        case(
            format!("GET /mcp HTTP/1.1\r\nhost: a\r\nx\0y: z\r\n\r\n{INNER}"),
            BAD,
        ),
        case(
            format!("GET /mcp HTTP/1.1\r\nhost: a\r\nx: \x7f\r\n\r\n{INNER}"),
            BAD,
        ),
        case(
            format!("GET /mcp HTTP/1.1\r\nhost: a\r\nx: \x1b\r\n\r\n{INNER}"),
            BAD,
        ),
        case(
            format!("GET /mcp HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n{INNER}"),
            BAD,
        ),
        case(
            format!("GET /mcp HTTP/1.1\r\nhost: a\r\nx\u{e4}: z\r\n\r\n{INNER}"),
            BAD,
        ),
        case(
            format!("GET /mcp HTTP/1.1\r\nhost: a\r\n: z\r\n\r\n{INNER}"),
            BAD,
        ),
        case(
            format!("GET /mcp HTTP/1.1\r\nhost: a\r\nx\r\n\r\n{INNER}"),
            BAD,
        ),
        case(
            format!("GET /mcp HTTP/1.1\r\nhost: a\r\n x: folded\r\n\r\n{INNER}"),
            BAD,
        ),
        case(
            format!("GET /mcp HTTP/1.1\r\nhost: a\r\nx: y\r\n\tfolded\r\n\r\n{INNER}"),
            BAD,
        ),
        case(
            format!("GET /mcp HTTP/1.1\r\nhost: a\r\nx: y\r\n \r\n\r\n{INNER}"),
            BAD,
        ),
        case(format!("GET /mcp HTTP/1.1\r\n host: a\r\n\r\n{INNER}"), BAD),
        case(format!("GET /mcp HTTP/1.1 \r\nhost: a\r\n\r\n{INNER}"), BAD),
        case(format!("GET  /mcp HTTP/1.1\r\nhost: a\r\n\r\n{INNER}"), BAD),
        case(format!("GET /mcp  HTTP/1.1\r\nhost: a\r\n\r\n{INNER}"), BAD),
        case(
            format!("GET\t/mcp\tHTTP/1.1\r\nhost: a\r\n\r\n{INNER}"),
            BAD,
        ),
        case(format!(" GET /mcp HTTP/1.1\r\nhost: a\r\n\r\n{INNER}"), BAD),
        case(format!("GET /mcp\r\n\r\n{INNER}"), BAD),
        case("GET /mcp\r\n", BAD),
        case(format!("GET /mcp HTTP/0.9\r\nhost: a\r\n\r\n{INNER}"), BAD),
        case(format!("GET /mcp HTTP/1.2\r\nhost: a\r\n\r\n{INNER}"), BAD),
        case(format!("GET /mcp HTTP/1.10\r\nhost: a\r\n\r\n{INNER}"), BAD),
        case(format!("GET /mcp HTTP/1\r\nhost: a\r\n\r\n{INNER}"), BAD),
        case(format!("GET /mcp HTTP/2.0\r\nhost: a\r\n\r\n{INNER}"), BAD),
        case(format!("GET /mcp http/1.1\r\nhost: a\r\n\r\n{INNER}"), BAD),
        case(format!("GET /mcp HTTPS/1.1\r\nhost: a\r\n\r\n{INNER}"), BAD),
        case(
            format!("G\u{e4}T /mcp HTTP/1.1\r\nhost: a\r\n\r\n{INNER}"),
            BAD,
        ),
        case(format!("G(T /mcp HTTP/1.1\r\nhost: a\r\n\r\n{INNER}"), BAD),
        case(
            "get /mcp HTTP/1.1\r\nhost: a\r\n\r\n",
            &["200 root get /mcp", "open"],
        ),
        case(
            "MERGE /mcp HTTP/1.1\r\nhost: a\r\n\r\n",
            &["200 root MERGE /mcp", "open"],
        ),
        // The preface of HTTP/2, and then HTTP/1.1: what is answered are frames.
        case(
            format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{INNER}"),
            &["cut within a head"],
        ),
        case(
            format!("\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03{INNER}"),
            BAD,
        ),
        case(format!("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n{INNER}"), BAD),
    ]
}

fn hosts() -> Vec<Case> {
    let host = |value: &str, told| with_host(&format!("host: {value}\r\n"), told);
    vec![
        with_host("", BAD_HOST),
        with_host("host: a\r\nhost: a\r\n", BAD_HOST),
        with_host("host: a\r\nHOST: b\r\n", BAD_HOST),
        with_host("host:\r\n", BAD_HOST),
        host("a", GOT),
        host("a:80", GOT),
        host("a:", GOT),
        host("[::1]:80", GOT),
        host("127.0.0.1", GOT),
        host("a_b.example", GOT),
        host("a, b", BAD_HOST),
        host("a b", BAD_HOST),
        host("a\tb", BAD_HOST),
        host("a/b", BAD_HOST),
        host("a\\b", BAD_HOST),
        host("a?b", BAD_HOST),
        host("a#b", BAD_HOST),
        host("u@a", BAD_HOST),
        host("u:p@a", BAD_HOST),
        host("http://a", BAD_HOST),
        host("a:80:80", BAD_HOST),
        host("a:-1", BAD_HOST),
        host("a:+80", BAD_HOST),
        host("a:http", BAD_HOST),
        host("a:65536", BAD_HOST),
        host("a:99999999999999999999", BAD_HOST),
        host(":80", BAD_HOST),
        host("[::1", BAD_HOST),
        host("::1", BAD_HOST),
        host("[::1]x", BAD_HOST),
        host("[x]", BAD_HOST),
        host("[]", BAD_HOST),
        host("a[b]", BAD_HOST),
        host("a]", BAD_HOST),
        host("[fe80::1%25eth0]", BAD_HOST),
        host("a%00", BAD_HOST),
        host("a%", BAD_HOST),
        host("\u{e4}", BAD_HOST),
        host("a\"", BAD_HOST),
        host("<a>", BAD_HOST),
        host("a\0", BAD),
        case("GET http://a/mcp HTTP/1.1\r\nhost: a\r\n\r\n", GOT),
        case("GET http://A/mcp HTTP/1.1\r\nhost: a\r\n\r\n", GOT),
        case(
            "GET https://a/mcp?x HTTP/1.1\r\nhost: a\r\n\r\n",
            &["200 root GET /mcp?x", "open"],
        ),
        case(
            "GET http://a HTTP/1.1\r\nhost: a\r\n\r\n",
            &["200 root GET /", "open"],
        ),
        case(
            "GET http://a?x HTTP/1.1\r\nhost: a\r\n\r\n",
            &["200 root GET /?x", "open"],
        ),
        case("GET http://a:80/mcp HTTP/1.1\r\nhost: a\r\n\r\n", BAD_HOST),
        case("GET http://a/mcp HTTP/1.1\r\nhost: a:80\r\n\r\n", BAD_HOST),
        case("GET http://b/mcp HTTP/1.1\r\nhost: a\r\n\r\n", BAD_HOST),
        case("GET http://a/mcp HTTP/1.1\r\n\r\n", BAD_HOST),
        case("GET http://u@a/mcp HTTP/1.1\r\nhost: a\r\n\r\n", BAD_HOST),
        case("GET http://u@a/mcp HTTP/1.1\r\nhost: u@a\r\n\r\n", BAD_HOST),
        case("GET http:///mcp HTTP/1.1\r\nhost: a\r\n\r\n", BAD),
        case("GET http:/mcp HTTP/1.1\r\nhost: a\r\n\r\n", BAD),
        case(
            "GET http://a:99999/mcp HTTP/1.1\r\nhost: a:99999\r\n\r\n",
            BAD_HOST,
        ),
        case("GET ftp://a/mcp HTTP/1.1\r\nhost: a\r\n\r\n", BAD_TARGET),
        case("GET file:///mcp HTTP/1.1\r\nhost: a\r\n\r\n", BAD),
    ]
}

fn targets() -> Vec<Case> {
    let inner =
        |target: &str, told| case(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"), told);
    vec![
        // Which pool a request is of is decided by the path as it stands, and the backend gets just that.
        get(
            "/mcp?a=%00&b=../..//",
            &["200 root GET /mcp?a=%00&b=../..//", "open"],
        ),
        get("/%6dcp", &["200 root GET /%6dcp", "open"]),
        get("/files%20of/a", &["200 root GET /files%20of/a", "open"]),
        get("/team", &["200 team GET /", "open"]),
        get("/team/mcp", &["200 team GET /mcp", "open"]),
        get("/teams", &["200 root GET /teams", "open"]),
        get("/TEAM/mcp", &["200 root GET /TEAM/mcp", "open"]),
        get("/%74eam/mcp", &["200 root GET /%74eam/mcp", "open"]),
        get("//team/mcp", &["200 root GET //team/mcp", "open"]),
        get("/x//y", &["200 root GET /x//y", "open"]),
        get("/.well-known/x", &["200 root GET /.well-known/x", "open"]),
        get(
            "/a/.b/..c/d../...",
            &["200 root GET /a/.b/..c/d../...", "open"],
        ),
        get("/a%2fb", &["200 root GET /a%2fb", "open"]),
        get("/team//mcp", &["200 team GET //mcp", "open"]),
        get("/mcp%00", &["200 root GET /mcp%00", "open"]),
        get(
            "/mcp%0d%0aX:%20y",
            &["200 root GET /mcp%0d%0aX:%20y", "open"],
        ),
        get("/mcp%", &["200 root GET /mcp%", "open"]),
        get("/mcp%zz", &["200 root GET /mcp%zz", "open"]),
        get("/mcp%252e%252e/", &["200 root GET /mcp%252e%252e/", "open"]),
        // A fragment is not the server's business, and does not reach one.
        get("/mcp#x", GOT),
        get("/mcp?x#y", &["200 root GET /mcp?x", "open"]),
        // What servers may resolve to another path than the one that was matched.
        get("/team/../mcp", BAD_TARGET),
        get("/../mcp", BAD_TARGET),
        get("/..", BAD_TARGET),
        get("/.", BAD_TARGET),
        get("/x/./mcp", BAD_TARGET),
        get("/team/%2e%2e/mcp", BAD_TARGET),
        get("/team/.%2E/mcp", BAD_TARGET),
        get("/team/%2e", BAD_TARGET),
        get("/team%2f../mcp", BAD_TARGET),
        get("/team/..%2fmcp", BAD_TARGET),
        get("/team/..%5Cmcp", BAD_TARGET),
        get("/team\\..\\mcp", BAD_TARGET),
        get("/team/..;/mcp", BAD_TARGET),
        get("/mcp\\x", BAD_TARGET),
        get("/mcp\u{e4}", BAD_TARGET),
        get("/mcp\x7f", BAD),
        get("/mcp\0", BAD),
        get("/mcp\x01", BAD),
        get("/a<b>", BAD),
        get("mcp", BAD_TARGET),
        get("a", BAD_TARGET),
        get("a:80", BAD_TARGET),
        get("?x", BAD),
        get("*", BAD_TARGET),
        inner("", BAD),
        case("POST * HTTP/1.1\r\nhost: a\r\n\r\n", BAD_TARGET),
        case(
            "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
            &["200 root OPTIONS *", "open"],
        ),
        case(
            format!("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n{INNER}"),
            &["405 connect_method", "closed"],
        ),
        case(
            format!("CONNECT /mcp HTTP/1.1\r\nhost: a\r\n\r\n{INNER}"),
            &["405 connect_method", "closed"],
        ),
        case(
            format!("TRACE /mcp HTTP/1.1\r\nhost: a\r\n\r\n{INNER}"),
            &["405 trace_method", "closed"],
        ),
        case(
            format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(17_000)),
            &["414 target_too_long", "closed"],
        ),
    ]
}

/// All of them.
pub(super) fn all() -> Vec<Case> {
    [lines(), hosts(), targets()]
        .into_iter()
        .flatten()
        .collect()
}
