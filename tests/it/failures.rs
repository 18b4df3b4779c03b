//! Backends that are gone, silent or broken: what is tried again, what is not, and what the client is told.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    ops::Range,
    time::{Duration, Instant},
};

use crate::support::{
    Answer, Backend, Chunk, Client, ONE_THREAD, PATIENCE, Pinring, Received, anywhere, eventually,
    ok, request, reset_on_close,
};

fn told(answer: &Answer) -> (u16, String) {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["error"]["data"]["source"], "pinring");
    assert_eq!(body["error"]["code"], answer.status);
    (answer.status, answer.reason())
}

fn session(id: &str) -> String {
    format!("mcp-session-id: {id}\r\n")
}

#[test]
fn a_pooled_connection_that_the_backend_has_closed_is_replaced_unnoticed() {
    for by_reset in [false, true] {
        let (sender, idle) = std::sync::mpsc::channel();
        let sender = std::sync::Mutex::new(sender);
        let address = anywhere();
        let backend = Backend::raw(address, move |mut stream, number| {
            if Received::read(&mut stream, &mut Vec::new(), number).is_some() {
                stream.write_all(&ok("", "a")).unwrap();
                sender.lock().unwrap().send(stream).unwrap();
            }
        });
        let pinring = Pinring::before(&[&backend], ONE_THREAD);
        let mut client = Client::connect(pinring.address());
        for _ in 0..100 {
            assert_eq!(client.call("POST", "", "{}").status, 200, "{by_reset}");
            let pooled: TcpStream = idle.recv().unwrap();
            if by_reset {
                reset_on_close(&pooled);
            } else {
                pooled.shutdown(Shutdown::Both).unwrap();
            }
            drop(pooled);
        }
        assert_eq!(backend.connections(), 100);
    }
}

#[test]
fn a_request_that_may_have_been_seen_is_never_sent_twice() {
    let seen = Backend::start(|request, stream| {
        request.body.is_empty() && stream.write_all(&ok("", "a")).is_ok()
    });
    for (backends, pooled) in [
        (vec![&seen], false),
        (vec![&seen], true),
        (vec![&seen, &seen], false),
    ] {
        let pinring = Pinring::before(&backends, ONE_THREAD);
        if pooled {
            assert_eq!(Client::once(pinring.address(), "POST", "", "").status, 200);
        }
        let before = seen.received().len();
        let answer = Client::once(pinring.address(), "POST", "", "{}");
        assert_eq!(told(&answer), (502, "backend_closed".into()));
        assert_eq!(seen.received().len(), before + 1);
    }
}

#[test]
fn new_work_goes_past_a_backend_that_refuses_connections() {
    let (up, down) = (Backend::stateful("up"), Backend::stateful("down"));
    down.stop();
    let pinring = Pinring::before(&[&up, &down], "");
    for _ in 0..20 {
        assert!(Client::initialize(pinring.address()).starts_with("up-"));
        let metadata = "GET /.well-known/oauth-protected-resource HTTP/1.1\r\nhost: a\r\n\r\n";
        let answer = Client::connect(pinring.address()).send(metadata).answer();
        assert_eq!((answer.status, answer.text()), (200, "up".into()));
    }
}

#[test]
fn a_large_request_that_moves_on_arrives_whole() {
    let (up, down) = (Backend::stateful("up"), Backend::stateful("down"));
    down.stop();
    let pinring = Pinring::before(&[&up, &down], "");
    let body = "x".repeat(1 << 20);
    for _ in 0..8 {
        assert_eq!(
            Client::once(pinring.address(), "POST", "", &body).status,
            200
        );
    }
    assert!(
        up.received()
            .iter()
            .all(|seen| seen.body == body.as_bytes())
    );
}

#[test]
fn when_all_backends_are_down_the_client_may_try_again() {
    let backends = [Backend::stateful("a"), Backend::stateful("b")];
    backends.iter().for_each(Backend::stop);
    let pinring = Pinring::before(&backends.each_ref(), "");
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    assert_eq!(told(&answer), (503, "connect_refused".into()));
    assert!(answer.header("retry-after").is_some());
}

/// A stateful backend that closes after each answer, so that no connection outlives it.
fn short_lived(address: std::net::SocketAddr) -> Backend {
    Backend::on(address, |_, stream| {
        stream
            .write_all(&ok("connection: close\r\nmcp-session-id: s\r\n", "a"))
            .unwrap();
        false
    })
}

#[test]
fn a_session_outlives_its_backends_restart() {
    let backend = short_lived(anywhere());
    let other = Backend::stateful("other");
    let pinring = Pinring::before(&[&backend, &other], "[timeouts]\nconnect = \"8s\"\n");
    let mut id = String::new();
    eventually("a session of the backend", || {
        id = Client::initialize(pinring.address());
        id.starts_with("s-")
    });
    let address = backend.address();
    backend.stop();
    drop(backend);
    let calling = std::thread::spawn({
        let (address, header) = (pinring.address(), session(&id));
        move || Client::once(address, "POST", &header, "{}")
    });
    // The request waits for its backend, which was seen to refuse.
    assert!(!calling.is_finished());
    let again = short_lived(address);
    let answer = calling.join().unwrap();
    assert_eq!((answer.status, answer.text()), (200, "a".into()));
    assert_eq!(answer.header("mcp-session-id"), Some(&*id));
    assert_eq!(again.received().len(), 1);
}

#[test]
fn a_session_whose_backend_stays_away_is_told_to_try_again() {
    let backend = short_lived(anywhere());
    let pinring = Pinring::before(&[&backend], "[timeouts]\nconnect = \"700ms\"\n");
    let id = Client::initialize(pinring.address());
    backend.stop();
    let begun = Instant::now();
    let answer = Client::once(pinring.address(), "POST", &session(&id), "{}");
    assert_eq!(told(&answer), (503, "connect_refused".into()));
    assert!(answer.header("retry-after").is_some());
    assert!(
        begun.elapsed() > Duration::from_millis(400),
        "it was tried again"
    );
}

#[test]
fn a_backend_that_never_answers_is_given_up_after_the_time_for_that_kind_of_request() {
    let (backend, arrivals) = Backend::manual();
    let timeouts = "[timeouts]\nopen_head = \"300ms\"\nresponse_head = \"3s\"\n[affinity]\nunpinned = \"ring\"\n";
    let pinring = Pinring::before(&[&backend], timeouts);
    let (to_open, to_answer) = (Duration::from_millis(300), Duration::from_secs(3));
    let cases = [
        ("POST", "", to_open..to_answer),
        ("GET", "mcp-session-id: x\r\n", to_open..to_answer),
        ("POST", "mcp-session-id: x\r\n", to_answer..PATIENCE),
        ("DELETE", "mcp-session-id: x\r\n", to_answer..PATIENCE),
        (
            "POST",
            "mcp-protocol-version: 2026-07-28\r\n",
            to_answer..PATIENCE,
        ),
    ];
    let given_up = |(method, headers, limits): (&str, &str, Range<Duration>)| {
        let begun = Instant::now();
        let answer = Client::once(pinring.address(), method, headers, "{}");
        let took = begun.elapsed();
        let asked = format!("{method} {headers}");
        assert_eq!(told(&answer), (504, "backend_timeout".into()), "{asked}");
        assert!(limits.contains(&took), "{asked}: {took:?}");
    };
    std::thread::scope(|scope| {
        for case in cases.clone() {
            scope.spawn(|| given_up(case));
        }
    });
    for _ in cases {
        assert!(arrivals.next().is_closed_within(PATIENCE));
    }
}

#[test]
fn an_answer_that_is_none_answers_502() {
    let head = |headers: &str| {
        format!("HTTP/1.1 200 OK\r\n{headers}connection: close\r\ncontent-length: 0\r\n\r\n")
    };
    let cases = [
        ("garbage\r\n\r\n".to_owned(), "backend_answer_invalid"),
        ("HTTP/2 200\r\n\r\n".to_owned(), "backend_answer_invalid"),
        (head("a b: c\r\n"), "backend_answer_invalid"),
        (head("content-length: 1\r\n"), "backend_answer_invalid"),
        (head(&"x: y\r\n".repeat(101)), "backend_answer_invalid"),
        (
            head(&format!("x: {}\r\n", "y".repeat(70_000))),
            "backend_answer_invalid",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
                .to_owned(),
            "backend_answer_invalid",
        ),
        ("HTTP/1.1 200 OK\r\nx: ".to_owned(), "backend_closed"),
        (
            head("mcp-session-id: a b\r\n"),
            "backend_session_id_invalid",
        ),
        (head("mcp-session-id: \r\n"), "backend_session_id_invalid"),
        (
            head("mcp-session-id: \u{e4}\r\n"),
            "backend_session_id_invalid",
        ),
        (
            head(&format!("mcp-session-id: {}\r\n", "x".repeat(5000))),
            "backend_session_id_invalid",
        ),
        (
            head("mcp-session-id: a\r\nmcp-session-id: b\r\n"),
            "backend_session_id_invalid",
        ),
    ];
    for (answered, reason) in cases {
        let backend = {
            let answered = answered.clone();
            Backend::start(move |_, stream| {
                stream.write_all(answered.as_bytes()).unwrap();
                false
            })
        };
        let pinring = Pinring::before(&[&backend], "");
        let mut client = Client::connect(pinring.address());
        for _ in 0..2 {
            let answer = client.call("POST", "", "{}"); // and the client's connection goes on
            assert_eq!(told(&answer), (502, reason.into()), "{answered:.60?}");
            assert_eq!(answer.header("mcp-session-id"), None);
        }
        assert_eq!(backend.received().len(), 2, "{answered:.60?}");
    }
}

#[test]
fn bytes_behind_an_answer_are_nobodys() {
    let backend = Backend::answering([ok("", "a"), ok("", "unasked")].concat());
    let pinring = Pinring::before(&[&backend], ONE_THREAD);
    for _ in 0..20 {
        let answer = Client::once(pinring.address(), "POST", "", "{}");
        assert_eq!((answer.status, answer.text()), (200, "a".into()));
    }
}

#[test]
fn a_connection_that_switched_protocols_is_not_used_again() {
    let backend = Backend::start(|request, stream| {
        let answer = if request.body.is_empty() {
            ok("", "a")
        } else {
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec()
        };
        stream.write_all(&answer).is_ok()
    });
    let pinring = Pinring::before(&[&backend], ONE_THREAD);
    assert_eq!(
        Client::once(pinring.address(), "POST", "", "{}").status,
        502
    );
    assert_eq!(Client::once(pinring.address(), "POST", "", "").status, 200);
    let connections: Vec<usize> = backend
        .received()
        .iter()
        .map(|seen| seen.connection)
        .collect();
    assert_eq!(connections, [0, 1]);
}

#[test]
fn an_idle_connection_to_a_backend_is_not_kept_longer_than_told() {
    let backend = Backend::answering(ok("", "a"));
    let toml = format!("{ONE_THREAD}[timeouts]\nupstream_keep_alive = \"1ms\"\n");
    let pinring = Pinring::before(&[&backend], &toml);
    eventually("a connection was too old", || {
        assert_eq!(
            Client::once(pinring.address(), "POST", "", "{}").status,
            200
        );
        backend.connections() > 1
    });
}

/// A backend that answers 413 to the head of a request, and then reads the body or does not.
fn refusing(reads_on: bool) -> Backend {
    Backend::raw(anywhere(), move |mut stream, _| {
        let mut bytes = vec![0; 64 * 1024];
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut bytes) {
                Ok(length @ 1..) => head.extend_from_slice(&bytes[..length]),
                Ok(_) | Err(_) => return,
            }
        }
        let answer = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nno!";
        stream.write_all(answer).unwrap();
        while reads_on && stream.read(&mut bytes).is_ok_and(|length| length > 0) {}
    })
}

#[test]
fn an_answer_that_comes_before_the_end_of_the_request_is_passed_on() {
    for reads_on in [true, false] {
        let backend = refusing(reads_on);
        let pinring = Pinring::before(&[&backend], ONE_THREAD);
        for _ in 0..10 {
            let mut client = Client::connect(pinring.address());
            client.send("POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n");
            let answer = client.send([b'x'; 100_000]).answer();
            assert_eq!(
                (answer.status, answer.text()),
                (413, "no!".into()),
                "{reads_on}"
            );
        }
        for _ in 0..10 {
            let mut client = Client::connect(pinring.address());
            client.send_what_is_taken(request("POST", "", &"x".repeat(1 << 20)));
            let answer = client.answer();
            assert_eq!(
                (answer.status, answer.text()),
                (413, "no!".into()),
                "{reads_on}"
            );
        }
    }
}

#[test]
fn the_head_of_an_answer_arrives_although_its_backend_dies_at_once() {
    let backend = Backend::start(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let _sent = stream.write_all(head.as_bytes());
        false
    });
    let pinring = Pinring::before(&[&backend], "");
    for _ in 0..100 {
        let mut client = Client::connect(pinring.address());
        client.send(request("POST", "", "{}"));
        assert!(client.head().starts_with("HTTP/1.1 200"));
        assert_eq!(client.chunk(), Chunk::Truncated);
    }
}
