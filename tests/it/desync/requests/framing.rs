//! Where bodies end.

use super::{
    AMBIGUOUS, BAD, BAD_BODY, Case, INNER, SERVED, SERVED_AB, SERVED_ABC, UNKNOWN_CODING, case,
    chunked, post,
};

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
            &format!("0\r\n{}\r\n{INNER}", format!("x: {long}\r\n").repeat(10)),
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

/// All of them.
pub(super) fn all() -> Vec<Case> {
    [lengths(), codings(), chunks()]
        .into_iter()
        .flatten()
        .collect()
}
