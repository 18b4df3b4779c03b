//! Streams: events leave as they come, ends are told truly, and nobody waits for who has left.

use std::{io::Write as _, time::Duration};

use crate::support::{
    Asked, Backend, Chunk, Client, ONE_THREAD, Pinring, eventually, request, reset_on_close,
};

const SOON: Duration = Duration::from_secs(1);
const MODERN: &str = "mcp-protocol-version: 2026-07-28\r\n";

fn data(text: &str) -> Chunk {
    Chunk::Data(text.into())
}

#[test]
fn a_head_leaves_before_any_byte_of_its_stream() {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    client.send(request("GET", "", ""));
    let mut asked = arrivals.next();
    asked.begin_stream();
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    asked.chunk("data: 1\n\n");
    assert_eq!(client.chunk(), data("data: 1\n\n"));
}

#[test]
fn each_event_leaves_the_moment_it_arrives() {
    for method in ["GET", "POST"] {
        let (backend, arrivals) = Backend::manual();
        let pinring = Pinring::before(&[&backend], "");
        let mut client = Client::connect(pinring.address());
        client.send(request(method, "", ""));
        let mut asked = arrivals.next();
        asked.begin_stream();
        client.head();
        for number in 0..20 {
            let event = format!("data: {number}\n\n");
            asked.chunk(&event);
            assert_eq!(client.chunk(), data(&event)); // the next is sent only after this has come
        }
        asked.send("0\r\n\r\n");
        assert_eq!(client.chunk(), Chunk::Last);
    }
}

/// Opens a stream with one event, through to the client.
fn open(method: &str, headers: &str) -> (Backend, Pinring, Client, Asked) {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], ONE_THREAD);
    let mut client = Client::connect(pinring.address());
    client.send(request(method, headers, ""));
    let mut asked = arrivals.next();
    asked.begin_stream().chunk("data: 1\n\n");
    client.head();
    assert_eq!(client.chunk(), data("data: 1\n\n"));
    (backend, pinring, client, asked)
}

#[test]
fn when_the_client_leaves_the_backends_side_is_closed() {
    let kinds = [("GET", ""), ("GET", MODERN), ("POST", MODERN), ("POST", "")];
    for ((method, headers), by_reset) in kinds.iter().flat_map(|kind| [(kind, false), (kind, true)])
    {
        let (_backend, pinring, client, mut asked) = open(method, headers);
        assert!(!asked.is_closed_within(Duration::from_millis(50)));
        if by_reset {
            reset_on_close(&client.stream);
        }
        drop(client);
        assert!(
            asked.is_closed_within(SOON),
            "{method} {headers} {by_reset}"
        );
        pinring.wait_for_log("client_left");
    }
}

#[test]
fn when_the_client_leaves_before_the_head_the_backends_side_is_closed() {
    for (method, headers) in [("GET", ""), ("POST", ""), ("POST", MODERN)] {
        let (backend, arrivals) = Backend::manual();
        let pinring = Pinring::before(&[&backend], "");
        let mut client = Client::connect(pinring.address());
        client.send(request(method, headers, "{}"));
        let mut asked = arrivals.next();
        drop(client);
        assert!(asked.is_closed_within(SOON), "{method} {headers}");
    }
}

/// Writes more of a legacy POST's answer after the client has left.
fn goes_on_after_the_client_left(more: &'static str) -> (Backend, Pinring) {
    let (gone, left) = std::sync::mpsc::channel::<()>();
    let left = std::sync::Mutex::new(left);
    let backend = Backend::start(move |request, stream| {
        if request.line().starts_with("GET") {
            return stream.write_all(&crate::support::ok("", "a")).is_ok();
        }
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        left.lock().unwrap().recv().unwrap();
        stream.write_all(more.as_bytes()).is_ok()
    });
    let pinring = Pinring::before(&[&backend], ONE_THREAD);
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", "", "{}"));
    client.head();
    assert_eq!(client.chunk(), data("x"));
    drop(client);
    gone.send(()).unwrap();
    (backend, pinring)
}

/// Whether the connection of that answer was used again, although its client had left.
fn is_used_again(backend: &Backend, pinring: &Pinring) -> bool {
    pinring.wait_for_log("\"end\":");
    let ends = pinring.find_logs("end");
    // The end may have overtaken the client's leaving: then nothing had to be read on.
    let left = ends[0]["end"] == "client_left";
    Client::once(pinring.address(), "GET", "", "");
    left && backend.received()[1].connection == 0
}

#[test]
fn the_short_rest_of_a_legacy_answer_is_read_and_the_connection_used_again() {
    eventually(
        "a connection is used again after its client has left",
        || {
            let (backend, pinring) = goes_on_after_the_client_left("0\r\n\r\n");
            is_used_again(&backend, &pinring)
        },
    );
}

#[test]
fn the_long_rest_of_a_legacy_answer_is_given_up() {
    let (_backend, pinring, client, mut asked) = open("POST", "");
    drop(client);
    let block = "x".repeat(1024);
    let mut sent = 0;
    eventually("the backend's side is closed", || {
        sent += block.len();
        write!(asked.stream, "400\r\n{block}\r\n").is_err()
    });
    pinring.wait_for_log("client_left");
    assert!(sent < 8 << 20, "{sent} bytes were taken");
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
const SHORT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc";
const BAD_CHUNK: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n";

#[test]
fn an_answer_that_breaks_off_is_never_seen_complete_and_nothing_of_it_is_lost() {
    for broken in [CHUNKED, SHORT, BAD_CHUNK] {
        let backend = Backend::start(move |_, stream| {
            stream.write_all(broken.as_bytes()).unwrap();
            false
        });
        let pinring = Pinring::before(&[&backend], "");
        for _ in 0..20 {
            let answer = Client::once(pinring.address(), "POST", "", "{}");
            assert_eq!(
                (answer.text(), answer.complete),
                ("abc".into(), false),
                "{broken:?}"
            );
        }
        pinring.wait_for_log("backend_gone");
    }
}

#[test]
fn an_answer_that_its_backend_resets_is_never_seen_complete() {
    for begun in [CHUNKED, SHORT, "HTTP/1.1 200 OK\r\n\r\nuntil the end"] {
        let (backend, arrivals) = Backend::manual();
        let pinring = Pinring::before(&[&backend], "");
        let mut client = Client::connect(pinring.address());
        client.send(request("POST", "", "{}"));
        let mut asked = arrivals.next();
        asked.send(begun);
        let head = client.head();
        reset_on_close(&asked.stream);
        drop(asked);
        let complete = if head.contains("chunked") {
            std::iter::repeat_with(|| client.chunk()).find(|chunk| !matches!(chunk, Chunk::Data(_)))
                == Some(Chunk::Last)
        } else {
            while client.fill() {}
            client.take_buffered().len() == 10
        };
        assert!(!complete, "{begun:?}");
    }
}

#[test]
fn an_answer_that_breaks_off_resets_an_http_1_0_client() {
    for broken in [CHUNKED, BAD_CHUNK] {
        let (backend, arrivals) = Backend::manual();
        let pinring = Pinring::before(&[&backend], "");
        let mut client = Client::connect(pinring.address());
        client.send("GET /mcp HTTP/1.0\r\n\r\n");
        arrivals.next().send(broken);
        client.head();
        while !client.is_closed() {
            client.take_buffered();
        }
        assert!(client.was_reset(), "{broken:?} looks complete");
    }
}

#[test]
fn a_stream_that_stays_silent_for_too_long_is_cut_visibly() {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], "[timeouts]\nstream_idle = \"1s\"\n");
    let mut client = Client::connect(pinring.address());
    client.send(request("GET", "", ""));
    let mut asked = arrivals.next();
    asked.begin_stream();
    client.head();
    assert_eq!(client.chunk(), Chunk::Truncated);
    assert!(asked.is_closed_within(SOON));
}

#[test]
fn an_answer_without_framing_reaches_the_client_with_one() {
    let backend = Backend::start(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
            .unwrap();
        false
    });
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    for _ in 0..2 {
        let answer = client.call("POST", "", "{}");
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        assert!(answer.complete && answer.text() == "until the end");
    }
}

#[test]
fn a_silent_stream_gets_comments_between_events_and_a_counted_one_none() {
    let backend = Backend::start(|request, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
        let (framing, event) = match request.header("x-length") {
            Some(length) => (format!("content-length: {length}"), ""),
            None => (
                "transfer-encoding: chunked".to_owned(),
                "9\r\ndata: 1\n\n\r\n",
            ),
        };
        write!(stream, "{head}{framing}\r\n\r\n{event}").is_ok()
    });
    let pinring = Pinring::before(&[&backend], "[timeouts]\nstream_comment = \"1s\"\n");
    let mut client = Client::connect(pinring.address());
    client.send(request("GET", "", ""));
    client.head();
    assert_eq!(client.chunk(), Chunk::Data(b"data: 1\n\n".to_vec()));
    for _ in 0..2 {
        assert_eq!(client.chunk(), Chunk::Data(b":\n\n".to_vec()));
    }
    let mut counted = Client::connect(pinring.address());
    counted.send(request("GET", "x-length: 3\r\n", ""));
    counted.head();
    assert!(counted.is_quiet_for(Duration::from_millis(1500)));
}
