//! Event streams that last go on without hyper: nobody is to notice, but for the memory.

use std::{
    io::{Read as _, Write as _},
    sync::{Mutex, mpsc},
    time::Duration,
};

use crate::support::{
    Asked, Backend, Chunk, Client, PATIENCE, Pinring, anywhere, ok, request, reset_on_close,
};

const SOON: Duration = Duration::from_secs(1);
const MODERN: &str = "mcp-protocol-version: 2026-07-28\r\n";

/// By then, the answer to a call lasts long.
const LONG: Duration = Duration::from_millis(500);

fn data(text: &str) -> Chunk {
    Chunk::Data(text.into())
}

/// A request whose answer the test writes. Its connection goes on behind it.
struct Call {
    asked: Asked,
    whole: mpsc::Sender<()>,
}

impl Call {
    /// Ends a stream.
    fn end(mut self) {
        self.asked.send("0\r\n\r\n");
        self.whole.send(()).unwrap();
    }

    fn answer(mut self, text: &str) {
        self.asked.send(ok("", text));
        self.whole.send(()).unwrap();
    }
}

/// A backend, and what it is asked.
fn backend() -> (Backend, mpsc::Receiver<Call>) {
    let (sender, arrivals) = mpsc::channel();
    let sender = Mutex::new(sender);
    let backend = Backend::start(move |_, stream| {
        let (whole, is_whole) = mpsc::channel();
        let asked = Asked::of(stream);
        sender.lock().unwrap().send(Call { asked, whole }).unwrap();
        is_whole.recv().is_ok()
    });
    (backend, arrivals)
}

/// A stream through pinring, and what it is of.
struct Open {
    arrivals: mpsc::Receiver<Call>,
    client: Client,
    call: Call,
    pinring: Pinring,
    _backend: Backend,
}

/// Opens a stream with one event, which has lasted long.
fn open(method: &str, headers: &str) -> Open {
    let (backend, arrivals) = backend();
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    client.send(request(method, headers, ""));
    let mut call = arrivals.recv_timeout(PATIENCE).unwrap();
    call.asked.begin_stream().chunk("data: 1\n\n");
    client.head();
    assert_eq!(client.chunk(), data("data: 1\n\n"));
    assert!(client.is_quiet_for(LONG));
    Open {
        arrivals,
        client,
        call,
        pinring,
        _backend: backend,
    }
}

#[test]
fn a_connection_is_used_again_after_a_stream_that_lasted_long() {
    for method in ["GET", "POST"] {
        let mut open = open(method, "");
        for _ in 0..2 {
            open.call.asked.chunk("data: 2\n\n");
            assert_eq!(open.client.chunk(), data("data: 2\n\n"), "{method}");
            open.client = after(open.client, open.call, method);
            open.call = open.arrivals.recv_timeout(PATIENCE).unwrap();
            open.call.asked.begin_stream();
            open.client.head();
            assert!(open.client.is_quiet_for(LONG));
        }
        open.client = after(open.client, open.call, "POST");
        open.arrivals
            .recv_timeout(PATIENCE)
            .unwrap()
            .answer("whole");
        assert_eq!(open.client.answer().text(), "whole", "{method}");
    }
}

/// Ends the stream, and asks again.
fn after(mut client: Client, call: Call, method: &str) -> Client {
    call.end();
    assert_eq!(client.chunk(), Chunk::Last, "{method}");
    client.send(request(method, "", ""));
    client
}

#[test]
fn a_request_that_comes_behind_a_stream_is_answered_after_it() {
    // The long one does not fit into what is read before its time.
    for body in ["{}".to_owned(), "x".repeat(100_000)] {
        let mut open = open("GET", "");
        let mut sending = open.client.stream.try_clone().unwrap();
        let next = request("POST", "", &body);
        let sent = std::thread::spawn(move || sending.write_all(next.as_bytes()).unwrap());
        assert!(open.client.is_quiet_for(Duration::from_millis(100)));
        open.call.asked.chunk("data: 2\n\n");
        assert_eq!(open.client.chunk(), data("data: 2\n\n"));
        open.call.end();
        assert_eq!(open.client.chunk(), Chunk::Last);
        open.arrivals
            .recv_timeout(PATIENCE)
            .unwrap()
            .answer("after it");
        assert_eq!(open.client.answer().text(), "after it");
        sent.join().unwrap();
    }
}

#[test]
fn a_stream_whose_backend_dies_is_never_seen_complete_and_nothing_of_it_is_lost() {
    for (method, by_reset) in [
        ("GET", false),
        ("GET", true),
        ("POST", false),
        ("POST", true),
    ] {
        let mut open = open(method, "");
        open.call.asked.send("20\r\ndata: half");
        assert_eq!(open.client.chunk(), data("data: half"), "{method}");
        if by_reset {
            reset_on_close(&open.call.asked.stream);
        }
        drop(open.call);
        assert_eq!(open.client.chunk(), Chunk::Truncated, "{method}");
        assert_eq!(open.client.take_buffered(), b"", "{method}");
        open.pinring.wait_for_log("backend_gone");
    }
}

#[test]
fn who_leaves_a_stream_that_lasted_long_closes_its_backends_side() {
    let kinds = [("GET", ""), ("GET", MODERN), ("POST", MODERN), ("POST", "")];
    for ((method, headers), by_reset) in kinds.iter().flat_map(|kind| [(kind, false), (kind, true)])
    {
        let mut open = open(method, headers);
        if by_reset {
            reset_on_close(&open.client.stream);
        }
        drop(open.client);
        let is_closed = open.call.asked.is_closed_within(SOON);
        assert!(is_closed, "{method} {headers} {by_reset}");
        open.pinring.wait_for_log("client_left");
    }
}

#[test]
fn a_client_that_wants_no_other_answer_gets_none() {
    for headers in ["connection: close\r\n", "connection: x, Close\r\n"] {
        let mut open = open("GET", headers);
        open.call.asked.chunk("data: 2\n\n");
        open.call.end();
        assert_eq!(open.client.chunk(), data("data: 2\n\n"));
        assert_eq!(open.client.chunk(), Chunk::Last);
        assert!(
            open.client.is_closed() && !open.client.was_reset(),
            "{headers:?}"
        );
    }
}

#[test]
fn a_stream_that_begins_within_its_request_leaves_nothing_of_that_behind() {
    let (sender, arrivals) = mpsc::channel();
    let sender = Mutex::new(sender);
    let backend = Backend::raw(anywhere(), move |stream, _| {
        sender.lock().unwrap().send(Asked::of(&stream)).unwrap();
    });
    let pinring = Pinring::before(
        &[&backend],
        "[server]\nlisten = \"127.0.0.1:0\"\nhealth_path = \"/health\"\n",
    );
    let mut client = Client::connect(pinring.address());
    let whole = request("POST", "", &"x".repeat(1000));
    let (begin, rest) = whole.split_at(whole.len() - 500);
    client.send(begin);
    let mut asked = arrivals.recv().unwrap();
    asked.begin_stream().chunk("data: 1\n\n");
    client.head();
    assert_eq!(client.chunk(), data("data: 1\n\n"));
    assert!(client.is_quiet_for(LONG));
    client.send(rest);
    let mut read = Vec::new();
    while !read.ends_with(&[b'x'; 1000]) {
        let mut bytes = [0; 4096];
        let length = asked.stream.read(&mut bytes).unwrap();
        assert!(length > 0, "the request broke off");
        read.extend_from_slice(&bytes[..length]);
    }
    for _ in 0..2 {
        asked.chunk("data: 2\n\n");
        assert_eq!(client.chunk(), data("data: 2\n\n"));
        assert!(client.is_quiet_for(LONG));
    }
    asked.send("0\r\n\r\n");
    assert_eq!(client.chunk(), Chunk::Last);
    client.send("GET /health HTTP/1.1\r\nhost: pinring.test\r\n\r\n");
    assert_eq!(client.answer().status, 200);
}

#[test]
fn large_events_arrive_whole_at_a_client_that_is_slow() {
    const EVENT: usize = 300_000;
    let Open {
        arrivals,
        mut client,
        mut call,
        pinring: _pinring,
        _backend,
    } = open("GET", "");
    let socket = socket2::SockRef::from(&client.stream);
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let event = format!("data: {}\n\n", "x".repeat(EVENT));
    let all = event.repeat(30);
    let writing = std::thread::spawn(move || {
        for _ in 0..30 {
            call.asked.chunk(&event);
        }
        call.end();
    });
    assert!(!client.is_quiet_for(SOON));
    std::thread::sleep(LONG); // everything on the way is full
    let mut read = Vec::new();
    while let Chunk::Data(chunk) = client.chunk() {
        read.extend_from_slice(&chunk);
    }
    assert!(
        read == all.as_bytes(),
        "{} of {} bytes",
        read.len(),
        all.len()
    );
    writing.join().unwrap();
    client.send(request("POST", "", "{}"));
    arrivals.recv_timeout(PATIENCE).unwrap().answer("whole");
    assert_eq!(client.answer().text(), "whole");
}

#[test]
fn a_stream_without_a_single_event_ends_in_chunks_too() {
    let backend = Backend::start(|_, stream| {
        let empty = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        stream.write_all(empty.as_bytes()).is_ok()
    });
    let pinring = Pinring::before(&[&backend], "");
    for method in ["GET", "POST"] {
        let mut client = Client::connect(pinring.address());
        client.send(request(method, MODERN, ""));
        let head = client.head();
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        assert_eq!(client.chunk(), Chunk::Last);
    }
}

#[test]
fn a_client_of_http_1_0_gets_the_stream_as_it_is() {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    client.send("GET /mcp HTTP/1.0\r\naccept: text/event-stream\r\n\r\n");
    let mut asked = arrivals.next();
    asked.begin_stream().chunk("data: 1\n\n");
    client.head();
    assert!(!client.is_quiet_for(LONG));
    asked.chunk("data: 2\n\n").send("0\r\n\r\n");
    while client.fill() {}
    assert_eq!(client.take_buffered(), b"data: 1\n\ndata: 2\n\n");
    assert!(!client.was_reset());
}
