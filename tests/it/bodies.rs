//! Bodies on their way through: unchanged at any size, and never faster than their reader.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::{Backend, Client, Pinring, anywhere, eventually, ok, request};

const LARGE: usize = 20 << 20;
const OFFERED: usize = 200 << 20;
/// What the kernel's buffers of four sockets, and pinring's, may hold at most.
const IN_FLIGHT: usize = 60 << 20;
const MAX_MEMORY_MIB: u64 = 40;

/// Bytes in which no part looks like another.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8))
        .flat_map(next)
        .take(length)
        .collect()
}

/// `body` in chunks of uneven sizes.
fn chunked(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + body.len() / 64);
    let mut rest = body;
    for size in (1..).map(|step: usize| step * 7919 % 50_000 + 1) {
        if rest.is_empty() {
            break;
        }
        let (chunk, others) = rest.split_at(size.min(rest.len()));
        write!(bytes, "{:x}\r\n", chunk.len()).unwrap();
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        rest = others;
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// An echo that answers in the framing of the request.
fn echo() -> Backend {
    Backend::start(|request, stream| {
        let answer = if request.header("content-length").is_some() {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                request.body.len()
            );
            [head.as_bytes(), &request.body].concat()
        } else {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            [&head[..], &chunked(&request.body)].concat()
        };
        stream.write_all(&answer).is_ok()
    })
}

#[test]
fn large_bodies_arrive_unchanged_in_both_framings() {
    let backend = echo();
    let pinring = Pinring::before(&[&backend], "");
    let body = noise(LARGE);
    let framings = [
        (format!("content-length: {LARGE}\r\n"), body.clone()),
        ("transfer-encoding: chunked\r\n".to_owned(), chunked(&body)),
    ];
    let mut client = Client::connect(pinring.address());
    for (framing, bytes) in framings {
        client.send(format!("POST /mcp HTTP/1.1\r\nhost: a\r\n{framing}\r\n"));
        let answer = client.send(bytes).answer();
        assert!(answer.complete && answer.body == body, "{framing}");
    }
    assert!(
        pinring.memory() < MAX_MEMORY_MIB,
        "{} MiB",
        pinring.memory()
    );
}

#[test]
fn small_chunks_arrive_before_the_body_ends() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let sink = Arc::clone(&arrived);
    let backend = Backend::raw(anywhere(), move |mut stream, _| {
        let mut bytes = [0; 1024];
        while let Ok(length @ 1..) = stream.read(&mut bytes) {
            let data = bytes[..length].iter().filter(|byte| **byte == b'#').count();
            sink.fetch_add(data, Ordering::SeqCst);
        }
    });
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    client.send("POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for count in 1..=3 {
        client.send("1\r\n#\r\n");
        eventually("the byte arrives", || {
            arrived.load(Ordering::SeqCst) == count
        });
    }
}

/// Writes until `OFFERED` bytes have left or the other side closes, and counts.
fn offer(stream: &mut TcpStream, count: &AtomicUsize) {
    let block = [b'x'; 64 * 1024];
    while count.load(Ordering::SeqCst) < OFFERED && stream.write_all(&block).is_ok() {
        count.fetch_add(block.len(), Ordering::SeqCst);
    }
}

/// Waits until `count` stands still for half a second, and gives it.
fn settled(count: &AtomicUsize) -> usize {
    let mut last = usize::MAX;
    let mut since = std::time::Instant::now();
    eventually("the writer is stopped", || {
        let now = count.load(Ordering::SeqCst);
        if now != last {
            (last, since) = (now, std::time::Instant::now());
        }
        now > 0 && since.elapsed() > Duration::from_millis(500)
    });
    last
}

#[test]
fn a_client_that_does_not_read_stops_the_backend() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let backend = Backend::start(move |_, stream| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {OFFERED}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        offer(stream, &count);
        false
    });
    let pinring = Pinring::before(&[&backend], "");
    let mut client = Client::connect(pinring.address());
    client.send(request("POST", "", "{}"));
    client.head();
    let stopped_at = settled(&written);
    assert!(
        stopped_at < IN_FLIGHT,
        "{stopped_at} bytes left the backend"
    );
    assert!(
        pinring.memory() < MAX_MEMORY_MIB,
        "{} MiB",
        pinring.memory()
    );
    let mut bytes = vec![0; 1 << 20];
    let mut left = OFFERED - client.take_buffered().len();
    while left > 0 {
        let length = client.stream.read(&mut bytes).unwrap();
        assert!(length > 0, "{left} bytes are missing");
        left -= length;
    }
    assert!(
        pinring.memory() < MAX_MEMORY_MIB,
        "{} MiB",
        pinring.memory()
    );
}

#[test]
fn a_backend_that_does_not_read_stops_the_client() {
    let (go, may_read) = std::sync::mpsc::channel::<()>();
    let may_read = std::sync::Mutex::new(may_read);
    let backend = Backend::raw(anywhere(), move |mut stream, _| {
        may_read.lock().unwrap().recv().unwrap();
        let mut bytes = vec![0; 1 << 20];
        let mut total = 0;
        while total < OFFERED {
            total += stream.read(&mut bytes).unwrap();
        }
        stream.write_all(&ok("", "all of it")).unwrap();
    });
    let pinring = Pinring::before(&[&backend], "[timeouts]\nrequest_body_idle = \"300ms\"\n");
    let mut client = Client::connect(pinring.address());
    client.send(format!(
        "POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: {OFFERED}\r\n\r\n"
    ));
    let written = Arc::new(AtomicUsize::new(0));
    let (mut stream, count) = (client.stream.try_clone().unwrap(), Arc::clone(&written));
    let writing = std::thread::spawn(move || offer(&mut stream, &count));
    let stopped_at = settled(&written);
    assert!(stopped_at < IN_FLIGHT, "{stopped_at} bytes left the client");
    assert!(
        pinring.memory() < MAX_MEMORY_MIB,
        "{} MiB",
        pinring.memory()
    );
    // The client was not silent for the time that has passed: it was not read from.
    go.send(()).unwrap();
    writing.join().unwrap();
    assert_eq!(client.answer().text(), "all of it");
    assert!(
        pinring.memory() < MAX_MEMORY_MIB,
        "{} MiB",
        pinring.memory()
    );
}

#[test]
fn a_silent_upload_answers_408_and_an_upload_that_goes_on_does_not() {
    let (backend, arrivals) = Backend::manual();
    let _arrivals = arrivals; // nobody answers
    let pinring = Pinring::before(&[&backend], "[timeouts]\nrequest_body_idle = \"500ms\"\n");
    let mut client = Client::connect(pinring.address());
    client.send("POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n");
    let begun = std::time::Instant::now();
    for _ in 0..10 {
        assert!(client.is_quiet_for(Duration::from_millis(100)));
        client.send("x");
    }
    let answer = client.answer();
    assert_eq!(
        (answer.status, &*answer.reason()),
        (408, "request_body_timeout")
    );
    assert!(begun.elapsed() > Duration::from_millis(1400));
    assert!(client.is_closed());
}

#[test]
fn an_upload_that_breaks_off_never_looks_complete_to_the_backend() {
    let uploads = [
        "content-length: 100\r\n\r\nabc",
        "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
    ];
    for upload in uploads {
        let (sender, receiver) = std::sync::mpsc::channel();
        let sender = std::sync::Mutex::new(sender);
        let backend = Backend::raw(anywhere(), move |mut stream, _| {
            let mut bytes = Vec::new();
            drop(stream.read_to_end(&mut bytes));
            sender.lock().unwrap().send(bytes).unwrap();
        });
        let pinring = Pinring::before(&[&backend], "");
        let mut client = Client::connect(pinring.address());
        client.send(format!("POST /mcp HTTP/1.1\r\nhost: a\r\n{upload}"));
        if !upload.ends_with("zz\r\n") {
            eventually("the backend is connected to", || backend.connections() == 1);
            drop(client);
        }
        let seen = receiver
            .recv_timeout(crate::support::PATIENCE)
            .expect("the backend's side is closed");
        let seen = String::from_utf8(seen).unwrap();
        assert!(
            seen.starts_with("POST /mcp") && !seen.ends_with("0\r\n\r\n"),
            "{seen}"
        );
    }
}

#[test]
fn the_time_for_an_answer_begins_when_the_upload_has_ended() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::before(&[&backend], "[timeouts]\nopen_head = \"4s\"\n");
    let mut client = Client::connect(pinring.address());
    client.send("POST /upload HTTP/1.1\r\nhost: h\r\ncontent-length: 8\r\n\r\n");
    for byte in b"12345678" {
        assert!(client.is_quiet_for(Duration::from_millis(600)));
        client.send([*byte]);
    }
    assert_eq!(client.answer().text(), "a");
}
