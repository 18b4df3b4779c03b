//! Clients that speak HTTP/2: what is the same for them as for others, and what is theirs alone.

mod costs;
mod ends;
mod floods;

use std::{io::Write as _, process::Command, time::Duration};

use crate::support::{
    Arrivals, Asked, Backend, Client, Pinring, ask,
    http2::{
        CANCEL, DATA, END_HEADERS, END_STREAM, End, HEADERS, Http2, PREFACE, SETTINGS, fields,
        frame, request,
    },
    ok,
};

/// How often a limit was reached.
fn reached(pinring: &Pinring, key: &str) -> u64 {
    let (_, limits) = ask(&pinring.admin(), "GET", "/limits", "");
    limits["reached"][key].as_u64().unwrap()
}

/// Opens an event stream.
fn open(client: &mut Http2, arrivals: &Arrivals, method: &str) -> (u32, Asked) {
    let body = if method == "POST" { "{}" } else { "" };
    let stream = client.ask(method, &[], body);
    let mut asked = arrivals.next();
    asked.begin_stream();
    client.until("the stream begins", |client| {
        client.of(stream).status() == 200
    });
    (stream, asked)
}

/// What curl says to be the version, the status and the body.
fn curl(pinring: &Pinring, args: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--noproxy", "*"])
        .args(["-w", " %{http_version} %{http_code}"])
        .args(args)
        .arg(format!("http://{}/mcp", pinring.address()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn who_knows_beforehand_speaks_http_2_and_others_as_before() {
    let backend = Backend::answering(ok("", "hello"));
    let pinring = Pinring::before(&[&backend], "");
    let knows = curl(&pinring, &["--http2-prior-knowledge", "-d", "{}"]);
    assert_eq!(knows, "hello 2 200");
    assert_eq!(curl(&pinring, &["-d", "{}"]), "hello 1.1 200");
    // Upgrades are not answered.
    assert_eq!(curl(&pinring, &["--http2", "-d", "{}"]), "hello 1.1 200");
}

#[test]
fn a_session_is_the_same_over_both() {
    let backends = ["a", "b"].map(Backend::stateful);
    let pinring = Pinring::before(&backends.each_ref(), "");
    let mut client = Http2::connect(pinring.address());
    for _ in 0..6 {
        let opened = client.call("POST", &[], "{}");
        let id = opened.header("mcp-session-id").unwrap();
        let again = client.call("POST", &[("mcp-session-id", id)], "{}");
        assert_eq!((again.status(), again.text()), (200, opened.text()));
        assert_eq!(again.header("mcp-session-id"), Some(id));
        assert_eq!(
            Client::in_session(pinring.address(), id).text(),
            opened.text()
        );
        let id = Client::initialize(pinring.address());
        assert_eq!(
            client
                .call("POST", &[("mcp-session-id", &id)], "{}")
                .status(),
            200
        );
    }
    let mut id = Client::initialize(pinring.address());
    let last = if id.pop() == Some('a') { 'i' } else { 'a' };
    id.push(last);
    let bad = client.call("POST", &[("mcp-session-id", &id)], "{}");
    assert_eq!((bad.status(), &*bad.reason()), (404, "tag_invalid"));
}

#[test]
fn the_backend_sees_the_same_request_as_over_http_1() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Http2::connect(pinring.address());
    let crumbs = [
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("te", "trailers"),
        ("x-forwarded-for", "1.2.3.4"),
    ];
    client.call(
        "POST",
        &[&crumbs[..], &[("content-length", "2")]].concat(),
        "{}",
    );
    client.call("POST", &crumbs, "{}");
    client.call("GET", &[], "");
    // A body whose end comes behind it, and trailers.
    let stream = client.number();
    let head = fields(&request("POST", &[]));
    let trailers = fields(&[("x-trailer", "1")]);
    client.send(
        [
            frame(HEADERS, END_HEADERS, stream, &head),
            frame(DATA, 0, stream, b"{"),
            frame(DATA, 0, stream, b"}"),
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers),
        ]
        .concat(),
    );
    assert_eq!(client.answer(stream).status(), 200);
    let stream = client.number();
    client.send(
        [
            frame(HEADERS, END_HEADERS, stream, &head),
            frame(DATA, 0, stream, b"{}"),
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &[]),
        ]
        .concat(),
    );
    assert_eq!(client.answer(stream).status(), 200);

    let received = backend.received();
    assert_eq!(received.len(), 5);
    for (number, request) in received.iter().enumerate() {
        assert_eq!(request.header("host"), Some("pinring.test"));
        assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(request.header("x-forwarded-proto"), Some("http"));
        assert_eq!(request.header("x-forwarded-host"), Some("pinring.test"));
        let is_get = number == 2;
        assert_eq!(
            request.line(),
            if is_get {
                "GET /mcp HTTP/1.1"
            } else {
                "POST /mcp HTTP/1.1"
            }
        );
        assert_eq!(request.body, if is_get { &b""[..] } else { b"{}" });
        for absent in ["te", "x-trailer", "connection", ":path"] {
            assert_eq!(request.header(absent), None);
        }
    }
    for request in &received[..2] {
        assert_eq!(request.header("cookie"), Some("a=1; b=2"));
    }
    assert_eq!(received[0].header("content-length"), Some("2"));
    assert_eq!(received[2].header("transfer-encoding"), None);
}

#[test]
fn the_answer_has_nothing_of_another_connection_and_no_trailers() {
    let backend = Backend::answering(
        "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\nx-end: 2\r\n\
         transfer-encoding: chunked\r\ntrailer: x-late\r\n\r\n5\r\nhello\r\n0\r\nx-late: 1\r\n\r\n",
    );
    let pinring = Pinring::before(&[&backend], "");
    let answer = Http2::connect(pinring.address()).call("POST", &[], "{}");
    assert_eq!(
        (answer.text(), answer.end),
        ("hello".into(), Some(End::Whole))
    );
    for absent in [
        "connection",
        "keep-alive",
        "transfer-encoding",
        "trailer",
        "x-hop",
        "x-late",
    ] {
        assert_eq!(answer.header(absent), None);
    }
    assert_eq!(answer.header("x-end"), Some("2"));
}

#[test]
fn an_answer_to_head_has_its_length_and_no_body() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Http2::connect(pinring.address());
    let own = client.call("HEAD", &[("x_forwarded_for", "1")], "");
    assert_eq!((own.status(), &*own.body), (400, &b""[..]));
    assert!(
        own.header("content-length")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 0
    );
    let other = client.call("HEAD", &[], "");
    assert_eq!(
        (other.status(), other.header("content-length")),
        (200, Some("5"))
    );
}

#[test]
fn an_answer_comes_before_the_request_s_body_is_read() {
    let backend = Backend::stateful("a");
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Http2::connect(pinring.address());
    let stream = client.number();
    let head = fields(&request("POST", &[("x_forwarded_for", "1")]));
    client.send(frame(HEADERS, END_HEADERS, stream, &head));
    let answer = client.answer(stream);
    assert_eq!(
        (answer.status(), &*answer.reason()),
        (400, "header_ambiguous")
    );
    assert_eq!(
        client.call("POST", &[], "{}").status(),
        200,
        "the connection goes on"
    );
}

#[test]
fn the_preface_may_come_in_pieces_and_what_resembles_it_is_http_1() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Http2::silent(pinring.address());
    for byte in PREFACE {
        client.send([*byte]);
        std::thread::sleep(Duration::from_millis(2)); // so that they come one by one
    }
    client.send(frame(SETTINGS, 0, 0, &[]));
    assert_eq!(client.call("POST", &[], "{}").status(), 200);
    for (begin, rest) in [("P", "OST"), ("PO", "ST"), ("PR", "OPFIND")] {
        let mut client = Client::connect(pinring.address());
        client.send(begin);
        assert!(client.is_quiet_for(Duration::from_millis(20)));
        client.send(format!(
            "{rest} /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{{}}"
        ));
        assert_eq!(client.answer().status, 200, "{begin}{rest}");
    }
}

#[test]
fn a_wrong_preface_reaches_no_backend_and_its_connection_ends() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "[timeouts]\nrequest_head = \"500ms\"\n");
    let settings = frame(SETTINGS, 0, 0, &[]);
    for sent in [
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
        b"PRI * HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\nhost: a\r\n\r\nSM\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n".to_vec(), // and nothing more
        [PREFACE, PREFACE].concat(),
        [PREFACE, &frame(SETTINGS, 0, 0, &[0; 5])].concat(),
        [PREFACE, &settings, b"GET /mcp HTTP/1.1\r\nhost: a\r\n\r\n"].concat(),
    ] {
        let mut client = Http2::silent(pinring.address());
        client.send(&sent);
        client.until_closed();
        assert_eq!(client.of(1).status(), 0);
    }
    assert!(backend.received().is_empty());
}

#[test]
fn streams_of_one_connection_flow_at_once_and_do_not_hold_each_other_up() {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Http2::connect(pinring.address());
    let mut streams: Vec<_> = (0..20)
        .map(|_| open(&mut client, &arrivals, "GET"))
        .collect();
    for round in 0..3 {
        for (stream, asked) in streams.iter_mut().rev() {
            let event = format!("data: {round} of {stream}\n\n");
            asked.chunk(&event);
            let begun = std::time::Instant::now();
            client.until("the event comes", |client| {
                client.of(*stream).text() == event
            });
            assert!(begun.elapsed() < Duration::from_secs(2));
            client.take_body(*stream);
        }
    }
    // One that the client does not read, of which pinring takes no more, and the others.
    let (stuck, asked) = streams.pop().unwrap();
    let mut writing = asked.stream.try_clone().unwrap();
    let flood = std::thread::spawn(move || {
        let event = format!(
            "{:x}\r\ndata: {}\n\n\r\n",
            32 * 1024 + 8,
            "x".repeat(32 * 1024)
        );
        while writing.write_all(event.as_bytes()).is_ok() {}
    });
    client.until("its window is full", |client| {
        client.of(stuck).body.len() >= 60_000
    });
    // What is left of the window of the connection.
    client.send(frame(8, 0, 0, &1_000_000_u32.to_be_bytes()));
    for (stream, asked) in &mut streams {
        asked.chunk("data: still here\n\n");
        client.until("the event comes", |client| {
            client.of(*stream).text() == "data: still here\n\n"
        });
    }
    client.reset(stuck, CANCEL);
    flood.join().unwrap();
    drop(asked);
}

#[test]
fn who_takes_a_stream_back_has_left_it_and_no_other() {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Http2::connect(pinring.address());
    let (left, mut asked) = open(&mut client, &arrivals, "GET");
    let (stays, mut other) = open(&mut client, &arrivals, "GET");
    let unanswered = client.ask("POST", &[], "{}");
    let mut waits = arrivals.next();
    client.reset(left, CANCEL).reset(unanswered, CANCEL);
    for asked in [&mut asked, &mut waits] {
        assert!(asked.is_closed_within(Duration::from_secs(10)));
    }
    other.chunk("data: 1\n\n");
    client.until("the other goes on", |client| {
        client.of(stays).text() == "data: 1\n\n"
    });
    let ends = || {
        let logs = pinring.find_logs("end").into_iter();
        logs.filter(|line| line["end"] == "client_left").count()
    };
    crate::support::eventually("the log says so", || ends() == 2);
}

#[test]
fn a_backend_s_broken_answer_is_a_reset_and_no_end() {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Http2::connect(pinring.address());
    let (broken, mut asked) = open(&mut client, &arrivals, "GET");
    let (stays, mut other) = open(&mut client, &arrivals, "GET");
    asked.chunk("data: 1\n\n");
    client.until("the event comes", |client| {
        !client.of(broken).body.is_empty()
    });
    drop(asked);
    assert!(matches!(client.answer(broken).end, Some(End::Reset(_))));
    other.chunk("data: 2\n\n").send("0\r\n\r\n");
    let answer = client.answer(stays);
    assert_eq!(
        (answer.text(), answer.end),
        ("data: 2\n\n".into(), Some(End::Whole))
    );
}

#[test]
fn a_body_that_stops_coming_is_told_so_and_others_come() {
    let backend = Backend::stateful("a");
    let pinring = Pinring::before(&[&backend], "[timeouts]\nrequest_body_idle = \"300ms\"\n");
    let mut client = Http2::connect(pinring.address());
    let stream = client.number();
    let head = fields(&request("POST", &[]));
    client.send(
        [
            frame(HEADERS, END_HEADERS, stream, &head),
            frame(DATA, 0, stream, b"{"),
        ]
        .concat(),
    );
    assert_eq!(client.answer(stream).status(), 408);
    assert_eq!(client.call("POST", &[], "{}").status(), 200);
}

#[test]
fn a_long_body_flows_as_the_backend_takes_it() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Http2::connect(pinring.address());
    let stream = client.number();
    client.send(frame(
        HEADERS,
        END_HEADERS,
        stream,
        &fields(&request("POST", &[])),
    ));
    let piece = "x".repeat(16 * 1024);
    for sent in (0..200).map(|number| number * piece.len()) {
        client.until("there is room for more", |client| {
            let allowed = |stream| 65_535 + client.allowed.get(&stream).copied().unwrap_or(0);
            sent + piece.len() <= allowed(stream).min(allowed(0))
        });
        client.send(frame(DATA, 0, stream, piece.as_bytes()));
    }
    client.send(frame(DATA, END_STREAM, stream, b""));
    assert_eq!(client.answer(stream).status(), 200);
    assert_eq!(backend.received()[0].body.len(), 200 * piece.len());
}
