//! The older transport, HTTP+SSE (2024-11-05): the URL that a stream's first event names leads home.

use std::{
    io::Write as _,
    net::TcpStream,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::support::{Answer, Backend, Chunk, Client, Pinring, Received};

/// A server in the manner of the SDKs: a GET opens a session, whose stream names `url` with its number; a POST
/// is answered 202 where it names a session of this server, else 404.
fn legacy(name: &'static str, url: &'static str) -> Backend {
    let opened = AtomicUsize::new(0);
    Backend::start(move |request: &Received, stream: &mut TcpStream| {
        if request.line().starts_with("GET ") {
            let number = opened.fetch_add(1, Ordering::SeqCst) + 1;
            let event = format!("event: endpoint\r\ndata: {url}?session={name}-{number}\r\n\r\n");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            // In two pieces: chunks are no events.
            for piece in [event.get(..9).unwrap(), event.get(9..).unwrap()] {
                let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
                stream.write_all(chunk.as_bytes()).unwrap();
            }
            return true;
        }
        let own = request.line().contains(&format!("?session={name}-"));
        let status = if own { "202 Accepted" } else { "404 Not Found" };
        let answer = format!("HTTP/1.1 {status}\r\nx-name: {name}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).is_ok()
    })
}

/// Opens a stream of `path` and gives it with the URL that its first event names.
fn open(pinring: &Pinring, path: &str) -> (Client, String) {
    let mut client = Client::connect(pinring.address());
    client.send(format!(
        "GET {path} HTTP/1.1\r\nhost: pinring.test\r\naccept: text/event-stream\r\n\r\n"
    ));
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    let Chunk::Data(event) = client.chunk() else {
        panic!("the stream ended")
    };
    let event = String::from_utf8(event).unwrap();
    let url = event
        .strip_prefix("event: endpoint\r\ndata: ")
        .and_then(|rest| rest.strip_suffix("\r\n\r\n"));
    (
        client,
        url.unwrap_or_else(|| panic!("{event:?}")).to_owned(),
    )
}

fn post(pinring: &Pinring, target: &str) -> Answer {
    let mut client = Client::connect(pinring.address());
    client.send(format!(
        "POST {target} HTTP/1.1\r\nhost: pinring.test\r\naccept: */*\r\ncontent-length: 2\r\n\r\n{{}}"
    ));
    client.answer()
}

#[test]
fn every_message_reaches_the_replica_of_its_stream() {
    let backends = ["a", "b", "c"].map(|name| legacy(name, "/messages"));
    let pinring = Pinring::before(&backends.each_ref(), "");
    let other = Pinring::before(&backends.each_ref(), "");
    let mut owners = std::collections::HashSet::new();
    let mut streams = Vec::new();
    for _ in 0..20 {
        let (stream, url) = open(&pinring, "/sse");
        let owner = url.split(['=', '-']).nth(1).unwrap().to_owned();
        for proxy in [&pinring, &other] {
            let answer = post(proxy, &url);
            assert_eq!(
                (answer.status, answer.header("x-name")),
                (202, Some(&*owner)),
                "{url}"
            );
        }
        owners.insert(owner);
        streams.push(stream);
    }
    assert!(owners.len() > 1, "all streams were placed on {owners:?}");
    for request in backends.iter().flat_map(Backend::received) {
        assert!(
            !request.head.contains("pinring="),
            "a backend saw a pin: {}",
            request.head
        );
    }
}

#[test]
fn an_altered_url_is_answered_404_by_nobody_else() {
    let backend = legacy("a", "/messages");
    let pinring = Pinring::before(&[&backend], "");
    let (_stream, url) = open(&pinring, "/sse");
    let before = backend.received().len();
    let last = if url.ends_with('a') { 'b' } else { 'a' };
    let altered_pin = format!("{}{last}", url.get(..url.len() - 1).unwrap());
    let altered_query = url.replace("session=a-1", "session=a-2");
    for altered in [altered_pin, altered_query] {
        let answer = post(&pinring, &altered);
        assert_eq!(
            (answer.status, answer.reason()),
            (404, "tag_invalid".into())
        );
    }
    assert_eq!(backend.received().len(), before);
}

#[test]
fn a_prefix_that_was_taken_off_is_back_in_the_url() {
    let backend = legacy("a", "/messages");
    let pinring = Pinring::start(&format!(
        "backends = [{{ name = \"a\", url = \"http://{}\" }}]\n[pool]\nstrip_prefix = \"/team\"\n",
        backend.address()
    ));
    let (_stream, url) = open(&pinring, "/team/sse");
    assert!(
        url.starts_with("/team/messages?session=a-1&pinring="),
        "{url}"
    );
    assert_eq!(post(&pinring, &url).status, 202);
    let line = backend.received().last().unwrap().line().to_owned();
    assert_eq!(line, "POST /messages?session=a-1 HTTP/1.1");
}
