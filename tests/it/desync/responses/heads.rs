//! Heads, and what comes before and instead of them.

use super::{
    BAD_ID, Case, GONE, INVALID, Step,
    Then::{Closed, Kept},
    UNASKED, hello,
};

fn status_lines() -> Vec<Case> {
    let bad = |line: &str| {
        let answer = format!("{line}\r\ncontent-length: 5\r\n\r\nhello{UNASKED}");
        Case::new(answer, INVALID, Closed)
    };
    vec![
        bad("garbage"),
        bad("HTTP/1.1"),
        bad("HTTP/1.1 "),
        bad("HTTP/1.1 20"),
        bad("HTTP/1.1 2000 OK"),
        bad("HTTP/1.1 2x0 OK"),
        bad("HTTP/1.1 +20 OK"),
        bad("HTTP/1.1 -20 OK"),
        bad("HTTP/1.1 099 Low"),
        bad("HTTP/1.1 000 None"),
        bad("HTTP/1.2 200 OK"),
        bad("HTTP/2 200 OK"),
        bad("HTTP/0.9 200 OK"),
        bad("http/1.1 200 OK"),
        bad("ICY 200 OK"),
        bad("HTTP/1.1  200 OK"),
        bad("HTTP/1.1\t200 OK"),
        bad(" HTTP/1.1 200 OK"),
        bad("HTTP/1.1 200 O\0K"),
        bad("HTTP/1.1 200 OK\rx: y"),
        bad("GET / HTTP/1.1"),
        bad("<html>no HTTP at all</html>"),
        bad("\x15\x03\x03\0\x02\x02\x46"),
        Case::new(
            "HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello",
            "200 hello",
            Kept,
        ),
        Case::new(
            "HTTP/1.1 200 \r\ncontent-length: 5\r\n\r\nhello",
            "200 hello",
            Kept,
        ),
        Case::new(
            "HTTP/1.1 299 Own words\r\ncontent-length: 5\r\n\r\nhello",
            "299 hello",
            Kept,
        ),
        Case::new(
            "HTTP/1.1 200 OK\ncontent-length: 5\n\nhello",
            "200 hello",
            Kept,
        ),
    ]
}

fn header_lines() -> Vec<Case> {
    let bad = |line: &str| Case::new(hello(&format!("{line}\r\n")), INVALID, Closed);
    vec![
        bad("x"),
        bad("x : y"),
        bad(" x: y"),
        bad("x: y\r\n folded"),
        bad("x: y\r\n\tfolded"),
        bad("a b: c"),
        bad(": c"),
        bad("x\0: y"),
        bad("x: \0"),
        bad("x: a\rb"),
        bad("x: \x7f"),
        bad("x\u{e4}: y"),
        bad(&"x: y\r\n".repeat(101)),
        bad(&format!("x: {}", "y".repeat(70_000))),
        bad(&format!("x: {}", "y".repeat(1_000_000))),
        Case::new(
            format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(1_000_000)),
            INVALID,
            Closed,
        ),
        bad(&"x".repeat(100_000)),
    ]
}

fn interim() -> Vec<Case> {
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    let switched =
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n";
    vec![
        Case::new([go_on, &hello("")].concat(), "200 hello", Kept),
        Case::new(
            [early, early, go_on, &hello("")].concat(),
            "200 hello",
            Kept,
        ),
        Case::new([go_on, go_on, "garbage\r\n\r\n"].concat(), INVALID, Closed),
        Case::new(
            ["HTTP/1.1 199 x\r\ncontent-length: 5\r\n\r\n", &hello("")].concat(),
            "200 hello",
            Kept,
        ),
        Case::new(
            ["HTTP/1.1 102 x\r\nmcp-session-id: x\r\n\r\n", &hello("")].concat(),
            "200 hello",
            Kept,
        ),
        Case::new([go_on, switched].concat(), INVALID, Closed),
        Case::new(switched, INVALID, Closed),
        Case::new([switched, UNASKED].concat(), INVALID, Closed),
        Case::new(go_on, GONE, Closed).then(Step::Close),
        Case::new("", INVALID, Closed).then(Step::Flood(go_on.into())),
        Case::new("", INVALID, Closed).then(Step::Flood(early.repeat(100).into())),
        Case::new("", INVALID, Closed).then(Step::Flood(b"\r\n".repeat(1000))),
        Case::new("", INVALID, Closed).then(Step::Flood(b"x".repeat(1000))),
    ]
}

fn early_ends() -> Vec<Case> {
    let gone = |bytes: &str| {
        [Step::Close, Step::Reset].map(|end| Case::new(bytes, GONE, Closed).then(end))
    };
    [
        "",
        "HTTP",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n",
        "\r\n",
    ]
    .into_iter()
    .flat_map(gone)
    .collect()
}

fn ids() -> Vec<Case> {
    let issued = |ids: &str, told: &str, then| Case::new(hello(ids), told, then);
    let id = |value: &str| format!("mcp-session-id: {value}\r\n");
    vec![
        issued(&id("x"), "200 id:34 hello", Kept),
        issued(&id(&"x".repeat(4096)), "200 id:4129 hello", Kept),
        issued(&[id("x"), id("x")].concat(), "200 id:34 hello", Kept),
        issued(&[id("x"), id("y")].concat(), BAD_ID, Kept),
        issued(
            &[id("x"), "MCP-SESSION-ID: y\r\n".into()].concat(),
            BAD_ID,
            Kept,
        ),
        issued(&[id("x"), id("")].concat(), BAD_ID, Kept),
        issued(&id(&"x".repeat(4097)), BAD_ID, Kept),
        issued(&id(""), BAD_ID, Kept),
        issued(&id("x y"), BAD_ID, Kept),
        issued(&id("x, y"), BAD_ID, Kept),
        issued(&id("x\ty"), BAD_ID, Kept),
        issued(&id("\u{e4}"), BAD_ID, Kept),
        issued(&id("x\0"), INVALID, Closed),
        issued(&id("x\x7f"), INVALID, Closed),
        Case::new(
            "HTTP/1.1 404 No\r\nmcp-session-id: x\r\nmcp-session-id: y\r\ncontent-length: 0\r\n\r\n",
            BAD_ID,
            Kept,
        ),
    ]
}

/// All of them.
pub(super) fn all() -> Vec<Case> {
    [
        status_lines(),
        header_lines(),
        interim(),
        early_ends(),
        ids(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
