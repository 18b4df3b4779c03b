//! Answers that are broken, or that two readers could take for different ones.

use std::{
    fmt,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    time::{Duration, Instant},
};

use super::{
    site::{Ledger, Next, Reader, echo},
    strict,
};
use crate::support::{
    Backend, ONE_THREAD, Pinring, anywhere, eventually, reset_on_close, uninterrupted,
};

/// For how long a connection is waited for that is to be closed: less than idle ones are kept.
const CLOSED_WITHIN: Duration = Duration::from_secs(3);

/// What a backend does to a request.
#[derive(Clone)]
enum Step {
    /// Sends bytes as they are.
    Send(Vec<u8>),
    /// Sends them again and again, until nobody takes them.
    Flood(Vec<u8>),
    /// Waits until the client has its answer.
    Heard,
    /// Ends its side.
    Close,
    /// Goes away as a process that was killed.
    Reset,
}

/// What becomes of the backend's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It may be used again.
    Kept,
    /// It is closed, and brings no other request.
    Closed,
}

use Then::{Closed, Kept};

/// A request, what the backend does, what the client is told, and what becomes of the backend's connection.
struct Case {
    method: &'static str,
    headers: &'static str,
    steps: Vec<Step>,
    told: String,
    then: Then,
}

impl Case {
    fn new(bytes: impl AsRef<[u8]>, told: impl Into<String>, then: Then) -> Self {
        Self {
            method: "POST",
            headers: "",
            steps: vec![Step::Send(bytes.as_ref().to_vec())],
            told: told.into(),
            then,
        }
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn to(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// Asked for by a client of the era without sessions, whose answers may hold carriers.
    fn modern(mut self) -> Self {
        self.headers = "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\n";
        self
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.steps.first();
        let said = match first {
            Some(Step::Send(bytes)) => String::from_utf8_lossy(&bytes[..bytes.len().min(200)]),
            _ => "nothing at once".into(),
        };
        write!(
            f,
            "{} answered {said:?}: {}, {:?}",
            self.method, self.told, self.then
        )
    }
}

const INVALID: &str = "502 backend_answer_invalid";
const BAD_ID: &str = "502 backend_session_id_invalid";
const GONE: &str = "502 backend_closed";

/// An answer that nobody asked for.
const UNASKED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nUNASKED";

/// An answer with these header lines, each ended, and this behind its head.
fn ok(headers: &str, rest: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{headers}\r\n{rest}")
}

fn chunked(rest: &str) -> String {
    ok("transfer-encoding: chunked\r\n", rest)
}

fn hello(headers: &str) -> String {
    ok(&format!("{headers}content-length: 5\r\n"), "hello")
}

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
        issued(&[id("x"), id("y")].concat(), BAD_ID, Closed),
        issued(
            &[id("x"), "MCP-SESSION-ID: y\r\n".into()].concat(),
            BAD_ID,
            Closed,
        ),
        issued(&[id("x"), id("")].concat(), BAD_ID, Closed),
        issued(&id(&"x".repeat(4097)), BAD_ID, Closed),
        issued(&id(""), BAD_ID, Closed),
        issued(&id("x y"), BAD_ID, Closed),
        issued(&id("x, y"), BAD_ID, Closed),
        issued(&id("x\ty"), BAD_ID, Closed),
        issued(&id("\u{e4}"), BAD_ID, Closed),
        issued(&id("x\0"), INVALID, Closed),
        issued(&id("x\x7f"), INVALID, Closed),
        Case::new(
            "HTTP/1.1 404 No\r\nmcp-session-id: x\r\nmcp-session-id: y\r\ncontent-length: 0\r\n\r\n",
            BAD_ID,
            Kept,
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

fn all() -> Vec<Case> {
    [
        status_lines(),
        header_lines(),
        lengths(),
        without_body(),
        codings(),
        chunks(),
        interim(),
        early_ends(),
        ids(),
        idle(),
        looked_into(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A backend that does to `/case/<number>` what the case says, and answers anything else.
fn scripted(ledger: &Ledger, heard: Receiver<()>) -> Backend {
    let cases: Vec<(Vec<Step>, Then)> = all()
        .into_iter()
        .map(|case| (case.steps, case.then))
        .collect();
    let heard = Mutex::new(heard);
    ledger.backend("other", move |message, stream| {
        let number = message.asked.split("/case/").nth(1);
        let Some(number) = number.map(|number| number.parse::<usize>().unwrap()) else {
            let _gone = stream.write_all(&echo("other", message));
            return Next::Serve;
        };
        let (steps, then) = &cases[number];
        for step in steps {
            take(step, stream, &heard);
        }
        match then {
            Kept => Next::Serve,
            Closed if matches!(steps.last(), Some(Step::Reset)) => Next::Leave,
            Closed => Next::Listen,
        }
    })
}

fn take(step: &Step, stream: &mut TcpStream, heard: &Mutex<Receiver<()>>) {
    match step {
        Step::Send(bytes) => {
            let _gone = stream.write_all(bytes);
        }
        Step::Flood(bytes) => while stream.write_all(bytes).is_ok() {},
        Step::Heard => heard.lock().unwrap().recv().unwrap(),
        Step::Close => {
            let _gone = stream.shutdown(Shutdown::Write);
        }
        Step::Reset => reset_on_close(stream),
    }
}

fn ask(client: &mut Reader, case: &Case, number: usize) -> String {
    let body = if case.method == "POST" { "{}" } else { "" };
    client.send(format!(
        "{} /case/{number} HTTP/1.1\r\nhost: a\r\n{}content-length: {}\r\n\r\n{body}",
        case.method,
        case.headers,
        body.len()
    ));
    client.next(case.method == "HEAD")
}

/// What is wrong with a case.
fn faults(
    pinring: &Pinring,
    ledger: &Ledger,
    heard: &Sender<()>,
    (number, case): (usize, &Case),
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut hold = |holds: bool, fault: String| {
        if !holds {
            faults.push(fault);
        }
    };
    let [mut client, mut other] = [(); 2].map(|()| Reader::connect(pinring.address()));
    let target = format!("/other/{number}");
    let answered = format!("200 other GET {target}");

    let told = ask(&mut client, case, number);
    hold(told == case.told, format!("told {told:.200}"));
    if case.steps.iter().any(|step| matches!(step, Step::Heard)) {
        heard.send(()).unwrap();
    } else {
        let told = other.get(&target);
        hold(told == answered, format!("another client: {told:.200}"));
        let (told, wanted) = match case.told.starts_with("cut ") {
            true => (client.next(false), "closed"),
            false => (client.get(&target), &*answered),
        };
        hold(told == wanted, format!("and then {told:.200}"));
    }
    if case.then == Closed {
        let case = format!("/case/{number}");
        let deadline = Instant::now() + CLOSED_WITHIN;
        while !ledger.of(&case).ended && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let arrived = ledger.of(&case);
        hold(arrived.ended, "the connection stays open".into());
        let last = arrived.messages.last();
        let is_last = last.is_some_and(|last| last.asked.ends_with(&case));
        hold(
            is_last && arrived.rest.is_empty(),
            "the connection was used again".into(),
        );
        let told = other.get(&target);
        hold(
            told == answered,
            format!("another client, later: {told:.200}"),
        );
    }
    faults
}

#[test]
fn a_broken_answer_is_never_taken_for_a_whole_one_and_reaches_nobody_else() {
    let ledger = Ledger::default();
    let (sender, receiver) = mpsc::channel();
    let backend = scripted(&ledger, receiver);
    let toml = format!("{ONE_THREAD}[timeouts]\nupstream_keep_alive = \"1m\"\n");
    let pinring = Pinring::before(&[&backend], &toml);
    let mut failures = Vec::new();
    let cases = all();
    for (number, case) in cases.iter().enumerate() {
        let faults = faults(&pinring, &ledger, &sender, (number, case));
        if !faults.is_empty() {
            failures.push(format!("{case:?}\n    {}", faults.join("\n    ")));
        }
    }
    let faults = ledger
        .connections()
        .into_iter()
        .filter_map(|arrived| arrived.fault);
    failures.extend(faults);
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// A backend that answers `/early` as soon as it has its head, and gives the number of its connections that have ended.
fn hasty() -> (Backend, Arc<AtomicUsize>) {
    let ended: Arc<AtomicUsize> = Arc::default();
    let noted = Arc::clone(&ended);
    let backend = Backend::raw(anywhere(), move |mut stream, _| {
        let (mut unread, mut answered) = (Vec::new(), false);
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = uninterrupted(|| stream.read(&mut bytes)) {
            unread.extend_from_slice(&bytes[..length]);
            if unread.starts_with(b"POST /early ") && !answered {
                answered = stream.write_all(hello("").as_bytes()).is_ok();
            }
            while let Some((message, length)) = strict::read(&unread).unwrap() {
                unread.drain(..length);
                if !std::mem::take(&mut answered) {
                    let _gone = stream.write_all(&echo("other", &message));
                }
            }
        }
        noted.fetch_add(1, Ordering::SeqCst);
    });
    (backend, ended)
}

#[test]
fn an_answer_before_the_end_of_its_request_leaves_no_doubt() {
    // What follows the answer, and whether the backend's connection may be used again.
    let cases = [
        ("content-length: 4\r\n\r\nab", "cd", true),
        (
            "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
            "0\r\n\r\n",
            true,
        ),
        ("content-length: 4\r\n\r\nab", "", false),
        ("transfer-encoding: chunked\r\n\r\n2\r\nab\r\n", "", false),
        (
            "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
            "x\r\n",
            false,
        ),
    ];
    for (begun, rest, is_whole) in cases {
        let (backend, ended) = hasty();
        let pinring = Pinring::before(&[&backend], ONE_THREAD);
        let mut client = Reader::connect(pinring.address());
        client.send(format!("POST /early HTTP/1.1\r\nhost: a\r\n{begun}"));
        assert_eq!(client.next(false), "200 hello", "{begun:?}");
        let mut other = Reader::connect(pinring.address());
        // The connection is still taken by the rest of the request.
        assert_eq!(other.get("/other"), "200 other GET /other", "{begun:?}");
        client.send(rest);
        if is_whole {
            assert_eq!(client.get("/next"), "200 other GET /next", "{begun:?}");
            assert_eq!(ended.load(Ordering::SeqCst), 0, "{begun:?}");
        } else {
            drop(client);
            eventually("the backend's connection has ended", || {
                ended.load(Ordering::SeqCst) == 1
            });
        }
        assert_eq!(other.get("/later"), "200 other GET /later", "{begun:?}");
    }
}
