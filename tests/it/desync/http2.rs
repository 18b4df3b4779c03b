//! Requests of HTTP/2 that would be others in HTTP/1.1, in which backends are asked.

use std::{collections::BTreeMap, io::Write as _};

use super::site::{Ledger, Next, echo};
use crate::support::{
    ONE_THREAD, Pinring, eventually,
    http2::{DATA, END_HEADERS, END_STREAM, End, HEADERS, Http2, PROTOCOL_ERROR, fields, frame},
};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// What is sent, and what comes of it: `200 <method> <target> <body>`, the status and reason of an error, or `reset`, where
/// also the whole connection may end. A `~` before that: the backend may have received the beginning.
struct Case {
    fields: Fields,
    /// Pieces of the body, with the last of which it ends; none: it ends with the head.
    body: &'static [&'static str],
    told: &'static str,
}

const BASE: [(&str, &str); 4] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "a"),
    (":path", "/mcp"),
];

const RESET: &str = "reset";
const SERVED: &str = "200 POST /mcp";
const BAD_HOST: &str = "400 host_invalid";
const BAD_TARGET: &str = "400 target_invalid";
const AMBIGUOUS: &str = "400 header_ambiguous";

fn owned(fields: &[(&str, &str)]) -> Fields {
    let owned = fields
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    owned.collect()
}

/// With these fields behind the usual ones.
fn with(more: &[(&str, &str)], told: &'static str) -> Case {
    Case {
        fields: owned(&[&BASE[..], more].concat()),
        body: &[],
        told,
    }
}

/// With these values of one pseudo-header field instead of the usual.
fn pseudo(name: &str, values: &[&str], told: &'static str) -> Case {
    let mut all: Vec<(&str, &str)> = BASE
        .into_iter()
        .filter(|(known, _)| *known != name)
        .collect();
    all.splice(0..0, values.iter().map(|value| (name, *value)));
    Case {
        fields: owned(&all),
        body: &[],
        told,
    }
}

fn with_body(more: &[(&str, &str)], body: &'static [&'static str], told: &'static str) -> Case {
    Case {
        body,
        ..with(more, told)
    }
}

const SMUGGLED: &str = "x\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

fn all() -> Vec<Case> {
    let bytes = |name: &[u8], value: &[u8]| {
        let mut case = with(&[], RESET);
        case.fields.push((name.to_vec(), value.to_vec()));
        case
    };
    vec![
        with(&[], SERVED),
        with_body(&[], &["abc"], "200 POST /mcp abc"),
        with_body(&[], &["a", "", "bc", ""], "200 POST /mcp abc"),
        with_body(
            &[("content-length", "3")],
            &["ab", "c"],
            "200 POST /mcp abc",
        ),
        with_body(
            &[("content-length", "3"), ("content-length", "3")],
            &["abc"],
            "200 POST /mcp abc",
        ),
        with_body(
            &[],
            &["0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"],
            "200 POST /mcp 0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a",
        ),
        // Line ends and other controls.
        with(&[("x", SMUGGLED)], RESET),
        with(&[("x", "a\nb: c")], RESET),
        with(&[("x", "a\rb")], RESET),
        with(&[("x", "a\0b")], RESET),
        with(&[("x\r\ny: z", "a")], RESET),
        with(&[("x:y", "a")], RESET),
        with(&[("x y", "a")], RESET),
        with(&[("", "a")], RESET),
        with(&[("x\0", "a")], RESET),
        bytes(b"x\xff", b"a"),
        with(&[("cookie", "a=1\r\nx: y")], RESET),
        pseudo(":path", &["/mcp HTTP/1.1\r\nx: y"], RESET),
        pseudo(":path", &["/mcp\r\n"], RESET),
        pseudo(":path", &["/mcp\0"], RESET),
        pseudo(
            ":method",
            &["GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\nPOST"],
            RESET,
        ),
        pseudo(":method", &["GE T"], RESET),
        pseudo(":method", &[""], RESET),
        pseudo(":authority", &["a\r\nx: y"], RESET),
        pseudo(":authority", &["a b"], RESET),
        pseudo(":scheme", &["http\r\nx: y"], RESET),
        // Names in upper case.
        with(&[("X-Y", "a")], RESET),
        with(&[("Content-Length", "3")], RESET),
        with(&[("Transfer-Encoding", "chunked")], RESET),
        // What is of one connection.
        with(&[("transfer-encoding", "chunked")], RESET),
        with(&[("transfer-encoding", "identity")], RESET),
        with_body(
            &[("transfer-encoding", "chunked")],
            &["0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"],
            RESET,
        ),
        with_body(
            &[("transfer-encoding", "chunked"), ("content-length", "3")],
            &["abc"],
            RESET,
        ),
        with(&[("connection", "close")], RESET),
        with(&[("connection", "content-length")], RESET),
        with(&[("keep-alive", "timeout=5")], RESET),
        with(&[("proxy-connection", "close")], RESET),
        with(&[("upgrade", "h2c")], RESET),
        with(&[("te", "trailers, deflate")], RESET),
        with(&[("te", "chunked")], RESET),
        with(&[("te", "trailers")], SERVED),
        // Lengths that are not the body's.
        with(&[("content-length", "3")], RESET),
        with_body(&[("content-length", "3")], &["abcd"], "~reset"),
        with_body(&[("content-length", "3")], &["ab", "cd"], "~reset"),
        with_body(&[("content-length", "3")], &["ab"], "~reset"),
        with_body(&[("content-length", "0")], &["abc"], "~reset"),
        with_body(
            &[("content-length", "3"), ("content-length", "4")],
            &["abc"],
            RESET,
        ),
        with_body(&[("content-length", "-3")], &["abc"], RESET),
        with_body(&[("content-length", "3, 3")], &["abc"], RESET),
        with_body(&[("content-length", "0x3")], &["abc"], RESET),
        with_body(&[("content-length", "")], &["abc"], RESET),
        with_body(&[("content_length", "3")], &["abc"], AMBIGUOUS),
        with_body(&[("transfer_encoding", "chunked")], &["abc"], AMBIGUOUS),
        // Pseudo-header fields.
        pseudo(":path", &[], RESET),
        pseudo(":path", &[""], RESET),
        pseudo(":path", &["/mcp", "/mcp"], RESET),
        pseudo(":method", &[], RESET),
        pseudo(":method", &["POST", "GET"], RESET),
        pseudo(":scheme", &[], RESET),
        pseudo(":authority", &["a", "b"], RESET),
        pseudo(":authority", &["a", "a"], RESET),
        pseudo(":status", &["200"], RESET),
        pseudo(":unknown", &["1"], RESET),
        pseudo(":protocol", &["websocket"], RESET),
        with(&[("x", "y"), (":path", "/smuggled")], RESET),
        pseudo(":path", &["/a b"], RESET),
        pseudo(":path", &["/mcp#a"], SERVED),
        pseudo(":path", &["mcp"], RESET),
        pseudo(":path", &["*"], BAD_TARGET),
        pseudo(":path", &["http://b/mcp"], RESET),
        pseudo(":path", &["/../mcp"], BAD_TARGET),
        pseudo(":path", &["/%2e%2e/mcp"], BAD_TARGET),
        pseudo(":path", &["/a\\b"], BAD_TARGET),
        pseudo(":scheme", &["ftp"], BAD_TARGET),
        pseudo(":scheme", &["https"], SERVED),
        pseudo(":method", &["TRACE"], "405 trace_method"),
        // Authority and Host.
        with(&[("host", "a")], SERVED),
        with(&[("host", "A")], SERVED),
        with(&[("host", "b")], BAD_HOST),
        with(&[("host", "a"), ("host", "a")], BAD_HOST),
        with(&[("host", "")], BAD_HOST),
        pseudo(":authority", &[], BAD_HOST),
        pseudo(":authority", &["u@a"], BAD_HOST),
        pseudo(":authority", &["a:b"], BAD_HOST),
        pseudo(":authority", &["a,b"], BAD_HOST),
        pseudo(":authority", &["a:99999"], BAD_HOST),
        // What says where a request goes, twice.
        with(&[("mcp-name", "a"), ("mcp-name", "b")], AMBIGUOUS),
        with(&[("authorization", "a"), ("authorization", "b")], AMBIGUOUS),
        with(&[("mcp_session_id", "a")], AMBIGUOUS),
        with(&[("cookie", "a=1"), ("cookie", "b=2")], SERVED),
    ]
}

/// What came of a case.
fn told(client: &mut Http2, case: &Case) -> String {
    let stream = client.number();
    let flags = END_HEADERS | if case.body.is_empty() { END_STREAM } else { 0 };
    let mut sent = frame(HEADERS, flags, stream, &fields(&case.fields));
    for (number, piece) in case.body.iter().enumerate() {
        let last = if number + 1 == case.body.len() {
            END_STREAM
        } else {
            0
        };
        sent.extend(frame(DATA, last, stream, piece.as_bytes()));
    }
    client.send(sent);
    let answer = client.answer(stream);
    match answer.end {
        Some(End::Reset(PROTOCOL_ERROR)) => RESET.into(),
        Some(End::Reset(code)) => format!("reset {code}"),
        None if case.told == RESET && client.code().is_some() => RESET.into(),
        None => "closed".into(),
        Some(End::Whole) if answer.status() == 200 => format!("200 {}", answer.text()),
        Some(End::Whole) => format!("{} {}", answer.status(), answer.reason()),
    }
}

#[test]
fn what_http_1_would_read_otherwise_never_reaches_a_backend() {
    let ledger = Ledger::default();
    let backend = ledger.backend("a", |message, stream| {
        let answer = echo("", message);
        let _gone = stream.write_all(&answer);
        Next::Serve
    });
    let pinring = Pinring::before(&[&backend], ONE_THREAD);
    let mut other = Http2::connect(pinring.address());
    let (mut failures, mut wanted) = (Vec::new(), BTreeMap::<String, i32>::new());
    for case in all() {
        let sent = String::from_utf8_lossy(&fields(&case.fields)).into_owned();
        let mut client = Http2::connect(pinring.address());
        let found = told(&mut client, &case).replace("200  ", "200 ");
        if found.trim_end() != case.told.trim_start_matches('~') {
            failures.push(format!(
                "{sent:?} {:?} was told {found:?}, not {:?}",
                case.body, case.told
            ));
        }
        if let Some(echo) = case.told.strip_prefix("200 ") {
            *wanted.entry(echo.to_owned()).or_default() += 1;
        }
        // The others of its connection, and other connections, are as if nothing had been.
        for client in [&mut client, &mut other] {
            if client.is_closed {
                continue;
            }
            let served = client.call("GET", &[], "");
            if served.text().trim() != "GET /mcp" {
                failures.push(format!("behind {sent:?}: {served:?}"));
            }
            *wanted.entry("GET /mcp".into()).or_default() += 1;
        }
    }
    drop(pinring);
    eventually("all connections to the backend have ended", || {
        ledger.connections().iter().all(|arrived| arrived.ended)
    });
    for arrived in ledger.connections() {
        failures.extend(arrived.fault);
        for message in &arrived.messages {
            *wanted.entry(message.echo()).or_default() -= 1;
        }
        if !arrived.rest.is_empty() && !arrived.rest.starts_with(b"POST /mcp HTTP/1.1") {
            failures.push(String::from_utf8_lossy(&arrived.rest).into_owned());
        }
    }
    wanted.retain(|_, missing| *missing != 0);
    assert!(
        failures.is_empty() && wanted.is_empty(),
        "{}\n{wanted:?}",
        failures.join("\n")
    );
}
