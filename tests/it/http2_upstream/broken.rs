//! Backends that break the rules, by hand-made frames.

use std::io::Write as _;

use super::{
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, Raw, field, frame, go_away,
        head, reset,
    },
    *,
};

const CONNECT_SOON: &str = "[timeouts]\nconnect = \"300ms\"\n";

/// RST_STREAM with this is a promise that nobody has looked at the request.
const REFUSED_STREAM: u32 = 7;
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;

fn answer_ok(connection: &mut frames::Connection, stream: u32) {
    connection.send(head(stream, 0, &[("content-length", "2")]));
    connection.send(frame(DATA, END_STREAM, stream, b"ok"));
}

#[test]
fn a_broken_answer_is_a_502_and_its_request_is_not_sent_again() {
    type Break = fn(&mut frames::Connection, u32);
    let broken: [(&str, Break, &str); 9] = [
        (
            "reset",
            |c, s| c.send(reset(s, INTERNAL_ERROR)),
            "backend_closed",
        ),
        (
            "reset without a fault",
            |c, s| c.send(reset(s, NO_ERROR)),
            "backend_closed",
        ),
        (
            "close",
            |c, _| c.stream.shutdown(std::net::Shutdown::Both).unwrap(),
            "backend_closed",
        ),
        (
            "goes away, having seen it, and closes",
            |c, s| {
                c.send(go_away(s, INTERNAL_ERROR));
                c.stream.shutdown(std::net::Shutdown::Both).unwrap();
            },
            "backend_closed",
        ),
        (
            "garbage",
            |c, _| c.send([0xff; 64]),
            "backend_answer_invalid",
        ),
        (
            "an answer without a status",
            |c, s| c.send(frame(HEADERS, END_HEADERS, s, &field("a", "b"))),
            "backend_answer_invalid",
        ),
        (
            "a field of HTTP/1.1",
            |c, s| c.send(head(s, 0, &[("connection", "close")])),
            "backend_answer_invalid",
        ),
        (
            "body before its head",
            |c, s| c.send(frame(DATA, 0, s, b"x")),
            "backend_answer_invalid",
        ),
        (
            "a frame of a stream that nobody opened",
            |c, s| c.send(head(s + 100, 0, &[])),
            "backend_answer_invalid",
        ),
    ];
    for (what, break_it, reason) in broken {
        let raw = Raw::answering(move |connection, stream, _| break_it(connection, stream));
        let pinring = before(&[raw.address()], CONNECT_SOON);
        let answer = Client::once(pinring.address(), "POST", "", "{}");
        assert_eq!((answer.status, &*answer.reason()), (502, reason), "{what}");
        assert_eq!(raw.requests(), 1, "{what}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_never_whole() {
    type Break = fn(&mut frames::Connection, u32);
    let broken: [(&str, Break); 6] = [
        ("reset", |c, s| c.send(reset(s, INTERNAL_ERROR))),
        // hyper takes this for an end.
        ("reset without a fault", |c, s| c.send(reset(s, NO_ERROR))),
        ("close", |c, _| {
            c.stream.shutdown(std::net::Shutdown::Both).unwrap()
        }),
        ("goes away from it", |c, _| c.send(go_away(0, NO_ERROR))),
        ("garbage", |c, _| c.send([0xff; 64])),
        ("a second head", |c, s| c.send(head(s, 0, &[]))),
    ];
    for (what, break_it) in broken {
        let raw = Raw::answering(move |connection, stream, _| {
            connection.send(head(stream, 0, &[("content-type", "text/event-stream")]));
            connection.send(frame(DATA, 0, stream, b"data: x\n\n"));
            std::thread::sleep(Duration::from_millis(30)); // else the answer may be none at all
            break_it(connection, stream);
        });
        let pinring = before(&[raw.address()], CONNECT_SOON);
        let answer = Client::once(pinring.address(), "POST", "", "{}");
        assert_eq!(
            (answer.status, &*answer.text()),
            (200, "data: x\n\n"),
            "{what}"
        );
        assert!(!answer.complete, "{what}");
        assert_eq!(raw.requests(), 1, "{what}");
    }
}

#[test]
fn a_body_of_another_length_than_was_said_is_never_whole() {
    for (said, sent) in [("4", &b"long: too long"[..]), ("40", b"short")] {
        let raw = Raw::answering(move |connection, stream, _| {
            connection.send(head(stream, 0, &[("content-length", said)]));
            connection.send(frame(DATA, END_STREAM, stream, sent));
        });
        let pinring = before(&[raw.address()], CONNECT_SOON);
        let mut client = Client::connect(pinring.address());
        client.send(request("POST", "", "{}"));
        let whole = client.head().starts_with("HTTP/1.1 200") && {
            let mut length = client.take_buffered().len();
            while client.fill() {
                length += client.take_buffered().len();
            }
            length >= said.parse().unwrap()
        };
        assert!(!whole, "{said}");
    }
}

#[test]
fn a_request_that_was_refused_is_sent_again_whole() {
    for first in [
        (|c: &mut frames::Connection, s: u32| c.send(reset(s, REFUSED_STREAM)))
            as fn(&mut frames::Connection, u32),
        |c, _| c.send(go_away(0, NO_ERROR)),
    ] {
        let raw = Raw::start(&[], move |connection, requests| {
            let mut body = Vec::new();
            while let Some(frame) = connection.next() {
                if frame.kind == DATA {
                    body.extend_from_slice(&frame.payload);
                }
                if !matches!(frame.kind, HEADERS | DATA) || frame.flags & END_STREAM == 0 {
                    continue;
                }
                if requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                    first(connection, frame.stream);
                } else {
                    connection.send(head(frame.stream, 0, &[]));
                    connection.send(self::frame(DATA, END_STREAM, frame.stream, &body));
                }
                body.clear();
            }
        });
        let pinring = before(&[raw.address()], "");
        let mut client = Client::connect(pinring.address());
        client.send("POST /mcp HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n");
        std::thread::sleep(Duration::from_millis(50));
        let answer = client.send("3\r\ntwo\r\n0\r\n\r\n").answer();
        assert_eq!((answer.status, &*answer.text()), (200, "onetwo"));
        assert_eq!(raw.requests(), 2);
    }
}

#[test]
fn a_backend_that_refuses_everything_is_told_as_one_that_is_busy() {
    let raw =
        Raw::answering(|connection, stream, _| connection.send(reset(stream, REFUSED_STREAM)));
    let pinring = before(&[raw.address()], CONNECT_SOON);
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    assert_eq!((answer.status, &*answer.reason()), (503, "backend_refused"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(raw.connections() == 1 && raw.requests() > 1);
}

#[test]
fn what_goes_wrong_in_one_stream_leaves_the_others_alone() {
    let raw = Raw::answering(|connection, stream, number| match number {
        1 => {
            connection.send(head(stream, 0, &[("content-type", "text/event-stream")]));
            connection.send(frame(DATA, 0, stream, b"data: x\n\n"));
        }
        2 => connection.send(head(stream, 0, &[("connection", "close")])),
        3 => connection.send(reset(stream, INTERNAL_ERROR)),
        _ => answer_ok(connection, stream),
    });
    let pinring = before(&[raw.address()], "");
    let mut stream = Client::connect(pinring.address());
    stream.send(request("GET", "", ""));
    stream.head();
    assert_eq!(stream.chunk(), Chunk::Data(b"data: x\n\n".to_vec()));
    for status in [502, 502, 200] {
        assert_eq!(
            Client::once(pinring.address(), "POST", "", "{}").status,
            status
        );
    }
    assert!(stream.is_quiet_for(Duration::from_millis(50)));
    assert_eq!(raw.connections(), 1);
}

#[test]
fn a_flood_of_fields_is_refused() {
    for (many, long) in [(150, 1), (90, 1000)] {
        let raw = Raw::answering(move |connection, stream, _| {
            let value = "v".repeat(100.min(long));
            let mut block = frames::OK.to_vec();
            for _ in 0..many * long.div_ceil(100) {
                block.extend(field("a", &value));
            }
            let (first, rest) = block.split_at(block.len().min(16_000));
            let flags = if rest.is_empty() { END_HEADERS } else { 0 };
            connection.send(frame(HEADERS, flags, stream, first));
            let mut pieces = rest.chunks(16_000).peekable();
            while let Some(piece) = pieces.next() {
                let flags = if pieces.peek().is_none() {
                    END_HEADERS
                } else {
                    0
                };
                connection.send(frame(CONTINUATION, flags, stream, piece));
            }
        });
        let pinring = before(&[raw.address()], CONNECT_SOON);
        let answer = Client::once(pinring.address(), "POST", "", "{}");
        assert_eq!(
            (answer.status, &*answer.reason()),
            (502, "backend_answer_invalid")
        );
    }
}

#[test]
fn what_never_ends_and_says_nothing_is_given_up() {
    type Flood = fn(u32) -> Vec<u8>;
    let floods: [(&str, Flood); 3] = [
        ("interim answers", |s| {
            frame(HEADERS, END_HEADERS, s, &[&[0x08, 3][..], b"103"].concat())
        }),
        ("pings", |_| frame(PING, 0, 0, &[0; 8])),
        ("continuations", |s| frame(CONTINUATION, 0, s, &[])),
    ];
    for (what, flood) in floods {
        let raw = Raw::answering(move |connection, stream, _| {
            if what == "continuations" {
                connection.send(frame(HEADERS, 0, stream, frames::OK));
            }
            let piece = flood(stream).repeat(500);
            let mut reader = connection.stream.try_clone().unwrap();
            std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
            while connection.stream.write_all(&piece).is_ok() {}
        });
        let pinring = before(&[raw.address()], CONNECT_SOON);
        let began = Instant::now();
        let answer = Client::once(pinring.address(), "POST", "", "{}");
        assert_eq!(answer.status, 502, "{what}");
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
    }
}

#[test]
fn an_interim_answer_is_not_the_answer() {
    let raw = Raw::answering(|connection, stream, _| {
        let early_hints = [&[0x08, 3][..], b"103"].concat();
        connection.send(frame(HEADERS, END_HEADERS, stream, &early_hints));
        answer_ok(connection, stream);
    });
    let pinring = before(&[raw.address()], "");
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    assert_eq!((answer.status, &*answer.text()), (200, "ok"));
}

#[test]
fn a_request_of_which_much_has_left_is_not_sent_again() {
    let raw = Raw::start(&[0, 4, 0, 16, 0, 0], |connection, requests| {
        // A window of a megabyte for the stream, and one for the connection.
        connection.send(frame(8, 0, 0, &(1_u32 << 20).to_be_bytes()));
        while let Some(stream) = connection.request() {
            requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            connection.send(reset(stream, REFUSED_STREAM));
        }
    });
    let pinring = before(&[raw.address()], CONNECT_SOON);
    let answer = Client::once(pinring.address(), "POST", "", &"x".repeat(200_000));
    assert_eq!((answer.status, &*answer.reason()), (503, "backend_refused"));
    assert_eq!(raw.requests(), 1);
}
