//! Bodies, and what comes behind them.

use super::{
    Case, GONE, INVALID, Step,
    Then::{Closed, Kept},
    UNASKED, chunked, hello, ok,
};

fn lengths() -> Vec<Case> {
    let bad = |value: &str| {
        Case::new(
            ok(&format!("content-length: {value}\r\n"), "hello"),
            INVALID,
            Closed,
        )
    };
    let twice = |one: &str, other: &str, told, then| {
        let headers = format!("content-length: {one}\r\ncontent-length: {other}\r\n");
        Case::new(ok(&headers, "hello"), told, then)
    };
    let long = "18446744073709551616";
    vec![
        bad(""),
        bad("+5"),
        bad("-5"),
        bad("0x5"),
        bad("5x"),
        bad("5 5"),
        bad("5,"),
        bad("5, 6"),
        bad("5\u{e4}"),
        bad(long),
        bad("18446744073709551615"),
        twice("5", "6", INVALID, Closed),
        twice("5", "x", INVALID, Closed),
        twice("5", "5", "200 hello", Kept),
        twice("5", "05", "200 hello", Kept),
        Case::new(ok("content-length: 5, 5\r\n", "hello"), "200 hello", Kept),
        Case::new(ok("content-length: 005\r\n", "hello"), "200 hello", Kept),
        // Too little, and too much.
        Case::new(
            ok("content-length: 9\r\n", "hello"),
            "cut 200 hello",
            Closed,
        )
        .then(Step::Close),
        Case::new(
            ok("content-length: 9\r\n", "hello"),
            "cut 200 hello",
            Closed,
        )
        .then(Step::Reset),
        Case::new(ok("content-length: 9\r\n", ""), "cut 200", Closed).then(Step::Close),
        Case::new(ok("content-length: 3\r\n", "hello"), "200 hel", Closed),
        Case::new(ok("content-length: 0\r\n", "hello"), "200", Closed),
        Case::new(ok("content-length: 0\r\n", "\r\n"), "200", Closed),
        Case::new(ok("content-length: 0\r\n", UNASKED), "200", Closed),
        Case::new(
            ok("content-length: 5\r\n", &format!("hello{UNASKED}")),
            "200 hello",
            Closed,
        ),
        Case::new(
            ok(
                "content-length: 5\r\n",
                &format!("hello{}", UNASKED.repeat(10_000)),
            ),
            "200 hello",
            Closed,
        ),
        // None: until the connection ends, if it ends in order.
        Case::new(ok("", "hello"), "200 hello", Closed).then(Step::Close),
        Case::new(ok("", ""), "200", Closed).then(Step::Close),
        Case::new(ok("", "hello"), "cut 200 hello", Closed).then(Step::Reset),
        Case::new("HTTP/1.0 200 OK\r\n\r\nhello", "200 hello", Closed).then(Step::Close),
        Case::new(
            "HTTP/1.0 200 OK\r\ncontent-length: 9\r\n\r\nhello",
            "cut 200 hello",
            Closed,
        )
        .then(Step::Close),
        Case::new(
            "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "200 hello",
            Closed,
        ),
        Case::new(
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello",
            "200 hello",
            Closed,
        ),
        Case::new(hello("connection: close\r\n"), "200 hello", Closed),
        Case::new(
            hello("connection: keep-alive\r\nconnection: close\r\n"),
            "200 hello",
            Closed,
        ),
    ]
}

fn without_body() -> Vec<Case> {
    let answer = |status: &str, headers: &str| format!("HTTP/1.1 {status} x\r\n{headers}\r\n");
    let five = "content-length: 5\r\n";
    let coded = "transfer-encoding: chunked\r\n";
    let after = |head: String, more: &str| [&*head, more].concat();
    vec![
        Case::new(answer("204", ""), "204", Kept),
        Case::new(answer("304", ""), "304", Kept),
        Case::new(answer("204", five), "204", Closed),
        Case::new(answer("204", coded), "204", Closed),
        Case::new(after(answer("204", five), "hello"), "204", Closed),
        Case::new(after(answer("204", ""), "hello"), "204", Closed),
        Case::new(
            after(answer("204", coded), "5\r\nhello\r\n0\r\n\r\n"),
            "204",
            Closed,
        ),
        Case::new(after(answer("204", ""), UNASKED), "204", Closed),
        Case::new(answer("304", five), "304", Closed).to("GET"),
        Case::new(after(answer("304", five), "hello"), "304", Closed).to("GET"),
        Case::new(answer("304", "content-length: x\r\n"), INVALID, Closed).to("GET"),
        Case::new(
            answer("204", "content-length: 1\r\ncontent-length: 2\r\n"),
            INVALID,
            Closed,
        ),
        Case::new(answer("200", ""), "200", Kept).to("HEAD"),
        Case::new(answer("200", five), "200", Closed).to("HEAD"),
        Case::new(answer("200", coded), "200", Closed).to("HEAD"),
        Case::new(after(answer("200", five), "hello"), "200", Closed).to("HEAD"),
        Case::new(after(answer("200", five), UNASKED), "200", Closed).to("HEAD"),
        Case::new(
            answer("200", "content-length: 5\r\ncontent-length: 5\r\n"),
            "200",
            Closed,
        )
        .to("HEAD"),
        Case::new(answer("200", "content-length: 5, 6\r\n"), "502", Closed).to("HEAD"),
        Case::new(answer("200", "content-length: x\r\n"), "502", Closed).to("HEAD"),
        Case::new(answer("200", "transfer-encoding: gzip\r\n"), "502", Closed).to("HEAD"),
    ]
}

fn codings() -> Vec<Case> {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let coded = |value: &str| {
        Case::new(
            ok(&format!("transfer-encoding: {value}\r\n"), body),
            INVALID,
            Closed,
        )
    };
    let both = |headers: &str| Case::new(ok(headers, body), "200 hello", Closed);
    vec![
        Case::new(chunked(body), "200 hello", Kept),
        coded("gzip"),
        coded("identity"),
        coded("gzip, chunked"),
        coded("chunked, chunked"),
        coded("chunked, identity"),
        coded("chunked\r\ntransfer-encoding: chunked"),
        coded("xchunked"),
        coded("\"chunked\""),
        coded("chunked;x"),
        coded(""),
        coded("chunked\0"),
        both("content-length: 5\r\ntransfer-encoding: chunked\r\n"),
        both("transfer-encoding: chunked\r\ncontent-length: 3\r\n"),
        both("transfer-encoding: chunked\r\ncontent-length: 100000\r\n"),
        Case::new(
            format!("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}"),
            INVALID,
            Closed,
        ),
    ]
}

fn chunks() -> Vec<Case> {
    let cut = |rest: &str| {
        Case::new(
            chunked(&format!("5\r\nhello\r\n{rest}")),
            "cut 200 hello",
            Closed,
        )
    };
    let long = "x".repeat(20_000);
    vec![
        cut("x\r\n"),
        cut("+5\r\nhello\r\n0\r\n\r\n"),
        cut("-5\r\nhello\r\n0\r\n\r\n"),
        cut("0x5\r\nhello\r\n0\r\n\r\n"),
        cut(" 5\r\nhello\r\n0\r\n\r\n"),
        cut("\r\n0\r\n\r\n"),
        cut("5\nhello\r\n0\r\n\r\n"),
        cut("5;a\nb\r\nhello\r\n0\r\n\r\n"),
        cut("10000000000000005\r\nhello\r\n0\r\n\r\n"),
        cut(&format!("5;{long}\r\nhello\r\n0\r\n\r\n")),
        cut("0\n\r\n"),
        Case::new(
            chunked(&format!("5\r\nhello\r\n0\r\n\n{UNASKED}")),
            "200 hello",
            Closed,
        ),
        cut("0\r\nx\r\n\r\n"),
        cut("0\r\nx: \0\r\n\r\n"),
        cut(&format!("0\r\nx: {}\r\n\r\n", "y".repeat(100_000))),
        cut(&format!("0\r\n{}\r\n", "x: y\r\n".repeat(200))),
        cut("").then(Step::Close),
        cut("").then(Step::Reset),
        cut("5").then(Step::Close),
        cut("5\r\n").then(Step::Close),
        cut("0").then(Step::Close),
        cut("0\r\n").then(Step::Close),
        cut("0\r\n\r").then(Step::Close),
        cut("0\r\nx: y\r\n").then(Step::Close),
        cut("0\r\n").then(Step::Reset),
        Case::new(chunked("9\r\nhello"), "cut 200 hello", Closed).then(Step::Close),
        Case::new(
            chunked("5\r\nhelloworld\r\n0\r\n\r\n"),
            "cut 200 hello",
            Closed,
        ),
        Case::new(chunked(""), "cut 200", Closed).then(Step::Close),
        Case::new(
            chunked("5;x=\"y\"\r\nhello\r\n0;z\r\n\r\n"),
            "200 hello",
            Kept,
        ),
        Case::new(chunked("005\r\nhello\r\n000\r\n\r\n"), "200 hello", Kept),
        Case::new(
            chunked("5\r\nhello\r\n0\r\nmcp-session-id: x\r\nset-cookie: y\r\n\r\n"),
            "200 hello",
            Kept,
        ),
        Case::new(
            chunked(&format!("5\r\nhello\r\n0\r\n\r\n{UNASKED}")),
            "200 hello",
            Closed,
        ),
        Case::new(chunked("5\r\nhello\r\n0\r\n\r\n\r\n"), "200 hello", Closed),
        Case::new(
            chunked("5\r\nhello\r\n0\r\n\r\n0\r\n\r\n"),
            "200 hello",
            Closed,
        ),
    ]
}

fn idle() -> Vec<Case> {
    let later = |bytes: &str| {
        Case::new(hello(""), "200 hello", Closed)
            .then(Step::Heard)
            .then(Step::Send(bytes.into()))
    };
    vec![
        later(UNASKED),
        later("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"),
        later("HTTP/1.1 100 Continue\r\n\r\n"),
        later("\r\n"),
        later("x"),
        later(&UNASKED.repeat(10_000)),
        Case::new(hello(""), "200 hello", Closed)
            .then(Step::Heard)
            .then(Step::Close),
        Case::new(hello(""), "200 hello", Closed)
            .then(Step::Heard)
            .then(Step::Reset),
    ]
}

fn looked_into() -> Vec<Case> {
    let json = "content-type: application/json\r\n";
    let events = "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n";
    let body = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}";
    let of_length = |length| ok(&format!("{json}content-length: {length}\r\n"), body);
    vec![
        Case::new(of_length(body.len()), format!("200 {body}"), Kept).modern(),
        Case::new(of_length(body.len() + 9), GONE, Closed)
            .then(Step::Close)
            .modern(),
        Case::new(
            of_length(body.len() - 1),
            format!("200 {}", body.strip_suffix("}").unwrap()),
            Closed,
        )
        .modern(),
        Case::new(
            ok(
                &format!("{json}transfer-encoding: chunked\r\n"),
                "5\r\n{\"a\":\r\nx",
            ),
            "cut 200 {\"a\":",
            Closed,
        )
        .modern(),
        Case::new(ok(events, "8\r\ndata: x\n\r\n"), "cut 200 data: x", Closed)
            .then(Step::Close)
            .modern(),
        Case::new(
            ok(&format!("{json}content-length: 5, 6\r\n"), "hello"),
            INVALID,
            Closed,
        )
        .modern(),
    ]
}

/// All of them.
pub(super) fn all() -> Vec<Case> {
    [
        lengths(),
        without_body(),
        codings(),
        chunks(),
        idle(),
        looked_into(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
