//! Requests that are hostile, or that two servers could read differently.

use std::{collections::HashMap, io::Write as _};

use super::site::{Ledger, Next, Reader, echo};
use crate::support::{Backend, ONE_THREAD, Pinring, eventually};

/// What a client sends on a connection of its own, and what comes of it: its answers, each `200 <backend> <method> <target>
/// <body>` or the status and reason of an error, and then whether the connection is `closed` or `open` for another
/// request. `~<method> <target>` stands before them if the backend may have received the beginning of that request.
struct Case {
    sent: Vec<u8>,
    told: &'static [&'static str],
}

/// What nobody may ever take for a request.
const INNER: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

/// Refused by the parser.
const BAD: &[&str] = &["400", "closed"];
const BAD_HOST: &[&str] = &["400 host_invalid", "closed"];
const BAD_TARGET: &[&str] = &["400 target_invalid", "closed"];
const AMBIGUOUS: &[&str] = &["400 header_ambiguous", "closed"];
const UNKNOWN_CODING: &[&str] = &["501 transfer_coding", "closed"];
/// The body turned out to be none, after its beginning was passed on.
const BAD_BODY: &[&str] = &["~POST /mcp", "400 request_body_invalid", "closed"];
const SERVED: &[&str] = &["200 root POST /mcp", "open"];
const SERVED_AB: &[&str] = &["200 root POST /mcp ab", "open"];
const SERVED_ABC: &[&str] = &["200 root POST /mcp abc", "open"];
const GOT: &[&str] = &["200 root GET /mcp", "open"];

fn case(sent: impl AsRef<[u8]>, told: &'static [&'static str]) -> Case {
    let sent = sent.as_ref().to_vec();
    Case { sent, told }
}

/// A POST with these header lines, each ended, and what follows its head.
fn post(headers: &str, rest: &str, told: &'static [&'static str]) -> Case {
    let head = format!("POST /mcp HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
    case(head + rest, told)
}

/// A POST in chunks.
fn chunked(rest: &str, told: &'static [&'static str]) -> Case {
    post("transfer-encoding: chunked\r\n", rest, told)
}

/// A GET of this target.
fn get(target: &str, told: &'static [&'static str]) -> Case {
    case(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"), told)
}

/// A GET with this Host line and others.
fn with_host(lines: &str, told: &'static [&'static str]) -> Case {
    case(format!("GET /mcp HTTP/1.1\r\n{lines}\r\n"), told)
}

fn lengths() -> Vec<Case> {
    let abc = format!("abc{INNER}");
    let bad = |value: &str| post(&format!("content-length: {value}\r\n"), &abc, BAD);
    vec![
        post("content-length: 3\r\n", "abc", SERVED_ABC),
        post("content-length:3\r\n", "abc", SERVED_ABC),
        post("content-length: \t 3 \t\r\n", "abc", SERVED_ABC),
        post("content-length: 003\r\n", "abc", SERVED_ABC),
        post(
            "content-length: 00000000000000000000000000003\r\n",
            "abc",
            SERVED_ABC,
        ),
        post(
            "content-length: 3\r\ncontent-length: 3\r\n",
            "abc",
            SERVED_ABC,
        ),
        post(
            "content-length: 3\r\nContent-Length: 03\r\n",
            "abc",
            SERVED_ABC,
        ),
        post("content-length: 3\r\ncontent-length: 4\r\n", &abc, BAD),
        post("content-length: 0\r\ncontent-length: 3\r\n", &abc, BAD),
        post("content-length: 3\r\ncontent-length:\r\n", &abc, BAD),
        bad(""),
        bad("+3"),
        bad("-3"),
        bad("-0"),
        bad("3, 3"),
        bad("3,3"),
        bad("3, 4"),
        bad("3;"),
        bad("3 0"),
        bad("3 bytes"),
        bad("0x3"),
        bad("3h"),
        bad("3.0"),
        bad("3e0"),
        bad("\"3\""),
        bad("\u{0663}"),
        post(
            "content-length: 18446744073709551615\r\n",
            &abc,
            &["431", "closed"],
        ),
        bad("18446744073709551616"),
        bad("18446744073709551619"),
        bad("99999999999999999999999999999999999999999"),
        bad("3\0"),
        bad("3\u{b}"),
        bad("3\r\n 4"),
        bad("\r\n 3"),
        post("content-length : 3\r\n", &abc, BAD),
        post("content-length\t: 3\r\n", &abc, BAD),
        post(" content-length: 3\r\n", &abc, BAD),
        post("content_length: 3\r\n", &abc, AMBIGUOUS),
        post("content-length;: 3\r\n", &abc, BAD),
        post("\"content-length\": 3\r\n", &abc, BAD),
        post("content-length\0: 3\r\n", &abc, BAD),
        // Without a length there is no body: what follows is the next request, or none.
        post("", "abc\r\n\r\n", &["200 root POST /mcp", "400", "closed"]),
        case(
            "GET /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
            &["200 root GET /mcp abc", "open"],
        ),
        case(
            "DELETE /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
            &["200 root DELETE /mcp abc", "open"],
        ),
    ]
}

fn codings() -> Vec<Case> {
    let body = "3\r\nabc\r\n0\r\n\r\n";
    let smuggling = format!("0\r\n\r\n{INNER}");
    let coded =
        |value: &str, told| post(&format!("transfer-encoding: {value}\r\n"), &smuggling, told);
    let closed_after: &[&str] = &["200 root POST /mcp abc", "closed"];
    vec![
        chunked(body, SERVED_ABC),
        post("Transfer-Encoding: Chunked\r\n", body, SERVED_ABC),
        post("transfer-encoding: CHUNKED \t\r\n", body, SERVED_ABC),
        post("transfer-encoding:\tchunked\r\n", body, SERVED_ABC),
        // The length is void, and nothing after such a request is trusted (RFC 9112, section 6.1).
        post(
            "content-length: 3\r\ntransfer-encoding: chunked\r\n",
            &format!("{body}{INNER}"),
            closed_after,
        ),
        post(
            "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
            &format!("{body}{INNER}"),
            closed_after,
        ),
        post(
            "content-length: 6\r\ntransfer-encoding: chunked\r\n",
            &smuggling,
            &["200 root POST /mcp", "closed"],
        ),
        post(
            "content-length: x\r\ntransfer-encoding: chunked\r\n",
            &smuggling,
            BAD,
        ),
        post(
            "transfer-encoding: chunked\r\ncontent-length: x\r\n",
            &smuggling,
            &["200 root POST /mcp", "closed"],
        ),
        post(
            "content-length: 6\r\ntransfer-encoding : chunked\r\n",
            &smuggling,
            BAD,
        ),
        post(
            "content-length: 6\r\ntransfer-encoding\t:chunked\r\n",
            &smuggling,
            BAD,
        ),
        post(
            "content-length: 6\r\n transfer-encoding: chunked\r\n",
            &smuggling,
            BAD,
        ),
        post(
            "content-length: 6\r\nx: y\r\n\ttransfer-encoding: chunked\r\n",
            &smuggling,
            BAD,
        ),
        post(
            "content-length: 6\r\nx: y\rtransfer-encoding: chunked\r\n",
            &smuggling,
            BAD,
        ),
        post(
            "content-length: 6\r\ntransfer_encoding: chunked\r\n",
            &smuggling,
            AMBIGUOUS,
        ),
        post(
            "content-length: 6\r\ntransfer-encoding\0: chunked\r\n",
            &smuggling,
            BAD,
        ),
        post(
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            &smuggling,
            UNKNOWN_CODING,
        ),
        post(
            "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
            &smuggling,
            BAD,
        ),
        post(
            "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
            &smuggling,
            UNKNOWN_CODING,
        ),
        post(
            "transfer-encoding:\r\ntransfer-encoding: chunked\r\n",
            &smuggling,
            UNKNOWN_CODING,
        ),
        post(
            "content-length: 6\r\ntransfer-encoding: identity\r\n",
            &smuggling,
            BAD,
        ),
        post(
            "content-length: 6\r\ntransfer-encoding: chunked, identity\r\n",
            &smuggling,
            BAD,
        ),
        coded("", BAD),
        coded("identity", BAD),
        coded("chunked, chunked", UNKNOWN_CODING),
        coded("chunked,chunked", UNKNOWN_CODING),
        coded("identity, chunked", UNKNOWN_CODING),
        coded("gzip, chunked", UNKNOWN_CODING),
        coded("gzip", BAD),
        coded(",chunked", UNKNOWN_CODING),
        coded("chunked,", BAD),
        coded("chunked;", BAD),
        coded("chunked;q=1", BAD),
        coded("xchunked", BAD),
        coded("chunkedx", BAD),
        coded("chunk", BAD),
        coded("\"chunked\"", BAD),
        coded("'chunked'", BAD),
        coded("chunked\0", BAD),
        coded("\u{b}chunked", BAD),
        coded("\u{c}chunked", BAD),
        coded("\u{a0}chunked", BAD),
        coded("ch\u{fc}nked", BAD),
        coded("\r\n chunked", BAD),
        coded("chunked\r\n ", BAD),
        // A body in chunks goes on whole, whatever the method.
        case(
            format!("GET /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}"),
            &["200 root GET /mcp abc", "open"],
        ),
        case(
            format!("DELETE /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}"),
            &["200 root DELETE /mcp abc", "open"],
        ),
        case(
            format!("OPTIONS /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}"),
            &["200 root OPTIONS /mcp abc", "open"],
        ),
        case(
            format!(
                "POST /mcp HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}{INNER}"
            ),
            BAD,
        ),
        case(
            format!(
                "POST /mcp HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n{body}{INNER}"
            ),
            BAD,
        ),
    ]
}

fn chunks() -> Vec<Case> {
    let end = format!("\r\nabc\r\n0\r\n\r\n{INNER}");
    let sized = |size: &str, told| chunked(&format!("{size}{end}"), told);
    let after = |rest: &str, told| chunked(&format!("3\r\nabc\r\n{rest}"), told);
    let and_inner: &[&str] = &["200 root POST /mcp abc", "200 root GET /smuggled", "open"];
    let long = "x".repeat(20_000);
    vec![
        chunked("1\r\na\r\n1\r\nb\r\n0\r\n\r\n", SERVED_AB),
        chunked("0\r\n\r\n", SERVED),
        chunked("000\r\n\r\n", SERVED),
        chunked(
            "0000000000000000000000000003\r\nabc\r\n0\r\n\r\n",
            SERVED_ABC,
        ),
        chunked("3;name=value\r\nabc\r\n0;x\r\n\r\n", SERVED_ABC),
        chunked("3;name=\"quoted; value\"\r\nabc\r\n0\r\n\r\n", SERVED_ABC),
        chunked("3 \t;x\r\nabc\r\n0 \r\n\r\n", SERVED_ABC),
        chunked(
            "A\r\n0123456789\r\n0\r\n\r\n",
            &["200 root POST /mcp 0123456789", "open"],
        ),
        sized("+3", BAD_BODY),
        sized("-3", BAD_BODY),
        sized("0x3", BAD_BODY),
        sized("3h", BAD_BODY),
        sized("g", BAD_BODY),
        sized("", BAD_BODY),
        sized(" 3", BAD_BODY),
        sized("\t3", BAD_BODY),
        sized("3 3", BAD_BODY),
        sized("3_0", BAD_BODY),
        sized("3,", BAD_BODY),
        sized("3\0", BAD_BODY),
        sized("3\n", BAD_BODY),
        sized("3\rx", BAD_BODY),
        sized("\r\n3", BAD_BODY),
        sized("\u{ff13}", BAD_BODY),
        sized("10000000000000003", BAD_BODY),
        sized("100000000000000000000003", BAD_BODY),
        sized("3;a\nb", BAD_BODY),
        sized("3;a\rb", BAD_BODY),
        sized(&format!("3;{long}"), BAD_BODY),
        chunked(&format!("3\nabc\r\n0\r\n\r\n{INNER}"), BAD_BODY),
        chunked(&format!("3\rabc\r\n0\r\n\r\n{INNER}"), BAD_BODY),
        chunked(&format!("2\r\nabc\r\n0\r\n\r\n{INNER}"), BAD_BODY),
        chunked(&format!("4\r\nabc\r\n0\r\n\r\n{INNER}"), BAD_BODY),
        after(&format!("0\r\n\r\n{INNER}"), and_inner),
        after(&format!("0\n\r\n{INNER}"), BAD_BODY),
        after(&format!("0\r\n\n{INNER}"), BAD_BODY),
        after(&format!("0\r\n\r{INNER}"), BAD_BODY),
        after(&format!("0\r\nx\r\n\r\n{INNER}"), BAD_BODY),
        after(&format!("0\r\n: x\r\n\r\n{INNER}"), BAD_BODY),
        after(&format!("0\r\nx y: z\r\n\r\n{INNER}"), BAD_BODY),
        after(&format!("0\r\nx : z\r\n\r\n{INNER}"), BAD_BODY),
        after(&format!("0\r\n x: z\r\n\r\n{INNER}"), BAD_BODY),
        after(&format!("0\r\nx: \0\r\n\r\n{INNER}"), BAD_BODY),
        after(
            &format!("0\r\n{}\r\n{INNER}", format!("x: {long}\r\n").repeat(8)),
            BAD_BODY,
        ),
        after(
            &format!("0\r\n{}\r\n{INNER}", "x: y\r\n".repeat(500)),
            BAD_BODY,
        ),
        // Trailers stop here, whatever they pretend to be.
        after(
            &format!("0\r\ncontent-length: 5\r\ntransfer-encoding: gzip\r\n\r\n{INNER}"),
            and_inner,
        ),
        after(
            &format!("0\r\nhost: b\r\nmcp-session-id: x\r\nauthorization: y\r\n\r\n{INNER}"),
            and_inner,
        ),
        after("0\r\nx: y\r\n\r\n", SERVED_ABC),
        // The terminating CRLF is no beginning of the next request.
        after(&format!("0\r\n\r\n\r\n\r\n{INNER}"), and_inner),
    ]
}

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
        // The preface of HTTP/2, and then HTTP/1.1.
        case(
            format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{INNER}"),
            &["closed"],
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
            SERVED,
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

fn all() -> Vec<Case> {
    [
        lengths(),
        codings(),
        chunks(),
        lines(),
        hosts(),
        targets(),
        of_the_connection(),
        ids(),
        pipelines(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn start(ledger: &Ledger) -> (Pinring, [Backend; 2]) {
    let [root, team] = ["root", "team"].map(|name| {
        ledger.backend(name, move |message, stream| {
            let _gone = stream.write_all(&echo(name, message));
            Next::Serve
        })
    });
    let pool = |name: &str, keys: &str, backend: &Backend| {
        let url = backend.address();
        format!(
            "[[pools]]\nname = \"{name}\"\n{keys}\
             backends = [{{ name = \"{name}\", url = \"http://{url}\" }}]\n"
        )
    };
    let team_keys = "match = { path = \"/team\" }\nstrip_prefix = \"/team\"\n";
    let pools = [pool("root", "", &root), pool("team", team_keys, &team)];
    (
        Pinring::start(&[ONE_THREAD, &pools.concat()].concat()),
        [root, team],
    )
}

/// What the backends have received, against what they may have.
#[derive(Default)]
struct Audit {
    failures: Vec<String>,
    /// How often each request was to come, less how often it came.
    missing: HashMap<String, i32>,
    may_be_cut: Vec<&'static str>,
}

impl Audit {
    fn expect(&mut self, echo: &str) {
        *self.missing.entry(echo.to_owned()).or_default() += 1;
    }

    /// Asks for something as another client, which must get just that.
    fn check_other(&mut self, other: &mut Reader, number: usize, sent: &str) {
        let asked = format!("GET /other/{number}");
        let told = other.get(&format!("/other/{number}"));
        if told != format!("200 root {asked}") {
            self.failures
                .push(format!("another client after {sent:?}: {told}"));
        }
        self.expect(&asked);
    }

    /// Ends pinring, so that nothing more can come, and judges.
    fn end(mut self, pinring: Pinring, ledger: &Ledger) {
        drop(pinring);
        eventually("all connections to the backends have ended", || {
            ledger.connections().iter().all(|arrived| arrived.ended)
        });
        for arrived in ledger.connections() {
            if let Some(fault) = &arrived.fault {
                self.failures.push(format!("a backend received {fault}"));
            }
            for message in &arrived.messages {
                *self.missing.entry(message.echo()).or_default() -= 1;
            }
            let rest = String::from_utf8_lossy(&arrived.rest);
            if !rest.is_empty() && !self.may_be_cut.iter().any(|cut| rest.starts_with(cut)) {
                self.failures
                    .push(format!("a backend received the beginning of {rest:.200}"));
            }
        }
        self.missing.retain(|_, missing| *missing != 0);
        assert!(
            self.failures.is_empty() && self.missing.is_empty(),
            "{} failures:\n{}\nrequests that came too seldom or, below zero, too often: {:#?}",
            self.failures.len(),
            self.failures.join("\n"),
            self.missing
        );
    }
}

#[test]
fn what_is_in_doubt_never_reaches_a_backend() {
    let ledger = Ledger::default();
    let (pinring, _backends) = start(&ledger);
    let mut other = Reader::connect(pinring.address());
    let mut audit = Audit::default();
    for (number, case) in all().iter().enumerate() {
        let sent = String::from_utf8_lossy(&case.sent[..case.sent.len().min(200)]);
        let mut client = Reader::connect(pinring.address());
        client.send(&case.sent);
        for wanted in case.told {
            if let Some(cut) = wanted.strip_prefix('~') {
                audit.may_be_cut.push(cut);
                continue;
            }
            let (told, wanted, came) = if *wanted == "open" {
                let told = client.get("/probe");
                (told, "200 root GET /probe", Some("GET /probe"))
            } else {
                let echo = wanted.strip_prefix("200 root ");
                let came = echo.or(wanted.strip_prefix("200 team "));
                (client.next(false), *wanted, came)
            };
            if told != wanted {
                let fault = format!("{sent:?} was told {told:?}, not {wanted:?}");
                audit.failures.push(fault);
            }
            came.inspect(|came| audit.expect(came));
        }
        audit.check_other(&mut other, number, &sent);
    }
    audit.end(pinring, &ledger);
}

/// The beginnings of requests.
const BROKEN_OFF: &[&str] = &[
    "",
    "POST",
    "POST /mcp HTTP/1.1",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nab",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n",
    "POST /mcp HTTP/1.1\r\nhost: a\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\ncontent-length: 3\r\n\r\nab",
];

#[test]
fn a_request_that_breaks_off_is_whole_for_no_backend() {
    let ledger = Ledger::default();
    let (pinring, _backends) = start(&ledger);
    let mut other = Reader::connect(pinring.address());
    let mut audit = Audit {
        may_be_cut: vec!["POST /mcp HTTP/1.1\r\n"],
        ..Audit::default()
    };
    for (number, sent) in BROKEN_OFF.iter().enumerate() {
        for is_reset in [false, true] {
            let mut client = Reader::connect(pinring.address());
            client.send(sent);
            if is_reset {
                client.reset();
            } else {
                client.end();
                let told = client.next(false);
                if told.starts_with('2') || told == "quiet" {
                    audit.failures.push(format!("{sent:?} was told {told:?}"));
                }
            }
            audit.check_other(&mut other, number, sent);
        }
    }
    audit.end(pinring, &ledger);
}
