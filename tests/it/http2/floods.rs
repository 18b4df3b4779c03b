//! Clients that send what costs them little and a server much: each is ended, counted, and no trouble for others.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{open, reached};
use crate::support::{
    Backend, Pinring, administrated, eventually,
    http2::{
        CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, Http2,
        PING, PREFACE, REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE, fields, frame, request,
        setting,
    },
    ok,
};

fn start(backend: &Backend, toml: &str) -> Pinring {
    administrated(&format!("{}\n{toml}", Pinring::backends(&[backend])))
}

/// Waits until a limit was reached so often: a client may see what follows from it before it is counted.
fn counts(pinring: &Pinring, key: &str, times: u64) {
    eventually(key, || reached(pinring, key) == times);
}

/// A request of its own stream, without a body.
fn get(stream: u32) -> Vec<u8> {
    let flags = END_HEADERS | END_STREAM;
    frame(HEADERS, flags, stream, &fields(&request("GET", &[])))
}

/// Sends `bytes` again and again, until pinring ends the connection, and gives how often.
fn flood(client: &mut Http2, bytes: &[u8]) -> usize {
    client
        .stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let mut times = 0;
    eventually("the flood is ended", || {
        client.send(bytes);
        times += 1;
        client.read_for(Duration::from_millis(1));
        client.is_closed
    });
    times
}

/// That others are served while somebody floods, and memory does not grow.
fn is_well(pinring: &Pinring, before: usize) {
    let mut other = Http2::connect(pinring.address());
    assert_eq!(other.call("POST", &[], "{}").status(), 200);
    let grown = pinring.share_of_memory().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB");
}

#[test]
fn requests_taken_back_at_once_are_few() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = start(&backend, "");
    let before = pinring.share_of_memory();
    let mut client = Http2::connect(pinring.address());
    let mut bytes = Vec::new();
    for number in 0..10_000 {
        let stream = 2 * number + 1;
        bytes.extend(get(stream));
        bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    client.send(bytes);
    client.until_closed();
    counts(&pinring, "http2_resets", 1);
    assert!(
        backend.received().len() < 500,
        "{}",
        backend.received().len()
    );
    is_well(&pinring, before);
}

#[test]
fn requests_taken_back_while_they_are_served_are_few() {
    let (backend, arrivals) = Backend::manual();
    let pinring = start(&backend, "");
    let mut client = Http2::connect(pinring.address());
    let mut sent = 0;
    while !client.is_closed && sent < 1000 {
        let stream = client.ask("POST", &[], "{}");
        sent += 1;
        if sent <= 201 {
            drop(arrivals.next()); // it has come to the backend, which does not answer
        }
        client.reset(stream, CANCEL);
        client.read_for(Duration::from_millis(1));
    }
    client.until_closed();
    counts(&pinring, "http2_resets", 1);
}

#[test]
fn who_leaves_after_the_answer_has_begun_may_do_so_for_ever() {
    let backend = Backend::answering(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
    );
    let pinring = start(&backend, "");
    let mut client = Http2::connect(pinring.address());
    for _ in 0..600 {
        let stream = client.ask("POST", &[], "{}");
        client.until("the event comes", |client| {
            !client.of(stream).body.is_empty()
        });
        client.reset(stream, CANCEL);
    }
    assert_eq!(
        (reached(&pinring, "http2_resets"), client.code()),
        (0, None)
    );
}

#[test]
fn resets_that_a_client_has_pinring_make_are_few() {
    let (backend, _arrivals) = Backend::manual();
    let pinring = start(&backend, "");
    let mut client = Http2::connect(pinring.address());
    let mut sent = 0;
    while !client.is_closed && sent < 1000 {
        let stream = client.ask("POST", &[], "{}");
        sent += 1;
        // A window that is wider than can be: the stream is at fault.
        client.send(frame(
            WINDOW_UPDATE,
            0,
            stream,
            &0x7fff_ffff_u32.to_be_bytes(),
        ));
        client.read_for(Duration::from_millis(1));
    }
    client.until_closed();
    assert!(sent < 400, "{sent}");
    counts(&pinring, "http2_resets", 1);
}

#[test]
fn a_head_without_end_is_ended() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = start(&backend, "");
    let before = pinring.share_of_memory();
    for piece in [
        &b""[..],
        &fields(&[("x", "y")]),
        &fields(&[("x", "y".repeat(16_000))]),
    ] {
        let mut client = Http2::connect(pinring.address());
        client.is_polite = false; // nothing may come between the parts of a head
        client.send(frame(HEADERS, END_STREAM, 1, &fields(&request("GET", &[]))));
        let continuation = frame(CONTINUATION, 0, 1, piece);
        flood(&mut client, &continuation);
        is_well(&pinring, before);
    }
    counts(&pinring, "limits.header_bytes", 3);
    assert!(
        backend
            .received()
            .iter()
            .all(|request| request.line().starts_with("POST"))
    );
}

#[test]
fn a_head_that_unfolds_to_megabytes_is_not_kept() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = start(&backend, "");
    let before = pinring.share_of_memory();
    let mut client = Http2::connect(pinring.address());
    // A field of 4 KB is remembered by name and value, and named again by one byte each time.
    let mut block = fields(&request("GET", &[]));
    let value = "v".repeat(3_900);
    block.push(0x40);
    let literal = fields(&[("x", &value)]);
    block.extend_from_slice(&literal[1..]);
    for (times, status) in [(10, 200), (20, 431), (60, 431)] {
        let again = [&block[..], &vec![0x80 | 62; times]].concat();
        let stream = client.number();
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &again));
        assert_eq!(client.answer(stream).status(), status, "{times} times");
    }
    assert!(reached(&pinring, "limits.header_bytes") >= 1);
    let bomb = [&block[..], &vec![0x80 | 62; 10_000]].concat();
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 999, &bomb));
    client.until_closed();
    assert_eq!(client.code(), Some(ENHANCE_YOUR_CALM));
    assert!(reached(&pinring, "limits.header_bytes") >= 2);
    is_well(&pinring, before);
}

#[test]
fn frames_that_carry_nothing_are_ended() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = start(&backend, "");
    let before = pinring.share_of_memory();
    let kinds = [
        frame(PING, 0, 0, &[0; 8]),
        frame(PING, 1, 0, &[0; 8]), // answers that nobody has asked for
        frame(SETTINGS, 0, 0, &setting(4, 1000)),
        frame(2, 0, 1, &[0, 0, 0, 0, 1]), // PRIORITY
        frame(200, 0, 1, b"what nobody knows"),
        frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()),
    ];
    for (number, kind) in kinds.iter().enumerate() {
        for reads in [true, false] {
            let mut client = Http2::connect(pinring.address());
            client.is_polite = false;
            let many = kind.repeat(1000);
            if reads {
                flood(&mut client, &many);
            } else {
                // Who does not take the answers is not read any further.
                client
                    .stream
                    .set_write_timeout(Some(Duration::from_millis(300)))
                    .unwrap();
                for _ in 0..100 {
                    client.send(&many);
                }
            }
            assert!(reached(&pinring, "http2_frames") >= number as u64);
            is_well(&pinring, before);
        }
    }
}

#[test]
fn streams_beyond_the_limit_are_refused_and_the_others_served() {
    let (backend, arrivals) = Backend::manual();
    let pinring = start(&backend, "[limits]\nhttp2_streams = 5\n");
    let mut client = Http2::connect(pinring.address());
    client.until("settings come", |client| !client.settings.is_empty());
    assert!(
        client
            .settings
            .chunks(6)
            .any(|known| known == setting(3, 5)),
        "{:?}",
        client.settings
    );
    let mut open: Vec<_> = (0..5)
        .map(|_| open(&mut client, &arrivals, "GET"))
        .collect();
    for _ in 0..3 {
        let refused = client.call("GET", &[], "");
        assert_eq!(
            refused.end,
            Some(crate::support::http2::End::Reset(REFUSED_STREAM))
        );
    }
    counts(&pinring, "limits.http2_streams", 3);
    let (ended, mut asked) = open.pop().unwrap();
    asked.send("0\r\n\r\n");
    drop(asked);
    client.answer(ended);
    let stream = client.ask("GET", &[], "");
    arrivals.next().send(ok("", "a"));
    assert_eq!(client.answer(stream).status(), 200);
    for (stream, asked) in &mut open {
        asked.chunk("data: 1\n\n");
        client.until("it goes on", |client| !client.of(*stream).body.is_empty());
    }
}

#[test]
fn bodies_that_never_end_are_given_up() {
    let backend = Backend::stateful("a");
    let pinring = start(&backend, "[timeouts]\nrequest_body_idle = \"500ms\"\n");
    let mut client = Http2::connect(pinring.address());
    let streams: Vec<u32> = (0..100)
        .map(|_| {
            let stream = client.number();
            client.send(frame(
                HEADERS,
                END_HEADERS,
                stream,
                &fields(&request("POST", &[])),
            ));
            stream
        })
        .collect();
    for stream in streams {
        assert_eq!(client.answer(stream).status(), 408);
    }
    counts(&pinring, "timeouts.request_body_idle", 100);
    assert_eq!(client.call("POST", &[], "{}").status(), 200);
}

#[test]
fn empty_and_tiny_pieces_of_a_body_are_ended() {
    let backend = Backend::start(|_, _| true);
    let pinring = start(&backend, "");
    let before = pinring.share_of_memory();
    let mut client = Http2::connect(pinring.address());
    client.send(frame(
        HEADERS,
        END_HEADERS,
        1,
        &fields(&request("POST", &[])),
    ));
    flood(&mut client, &frame(DATA, 0, 1, b"").repeat(1000));
    eventually("others are served", || {
        pinring.share_of_memory() < before + 16 * 1024
    });
    counts(&pinring, "http2_frames", 1);
}

#[test]
fn a_window_of_one_byte_gets_its_bytes() {
    let backend = Backend::answering(ok("", "hello"));
    let pinring = start(&backend, "");
    let mut client = Http2::with_settings(pinring.address(), &setting(4, 1));
    let stream = client.ask("POST", &[], "{}");
    for length in 1..=5 {
        client.until("a byte comes", |client| {
            client.of(stream).body.len() == length
        });
        client.send(frame(WINDOW_UPDATE, 0, stream, &1_u32.to_be_bytes()));
    }
    assert_eq!(client.answer(stream).text(), "hello");
}

#[test]
fn frames_out_of_place_end_the_connection_and_nothing_else() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = start(&backend, "");
    let (head, empty) = (get(1), frame(SETTINGS, 0, 0, &[]));
    for sent in [
        frame(DATA, 0, 1, b"x"),                  // of a stream that is not open
        frame(HEADERS, END_HEADERS, 0, &[]),      // of no stream
        frame(HEADERS, END_HEADERS, 2, &[]),      // of a stream of the server's
        frame(CONTINUATION, END_HEADERS, 1, &[]), // of no head
        frame(5, END_HEADERS, 1, &[0, 0, 0, 2]),  // a push
        frame(PING, 0, 0, &[0; 7]),
        frame(PING, 0, 1, &[0; 8]),
        frame(SETTINGS, 1, 0, &setting(4, 1)), // an answer with settings
        frame(SETTINGS, 0, 0, &setting(4, 1 << 31)), // a window that is none
        frame(SETTINGS, 0, 0, &setting(5, 1)), // a frame that is none
        frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        frame(HEADERS, END_HEADERS, 1, &[0xff; 20]), // an integer without end
        frame(HEADERS, END_HEADERS, 1, &[0x80]),     // a field that is none
        frame(DATA, 0, 1, &vec![0; 20_000]),         // too long
        [
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            empty.clone(),
        ]
        .concat(), // more than can be
        [head.clone(), frame(RST_STREAM, 0, 3, &[0; 4])].concat(), // of a stream that never was
    ] {
        let mut client = Http2::silent(pinring.address());
        client.send([PREFACE, &empty, &sent].concat());
        client.until_closed();
        assert!(
            client.code().is_some_and(|code| code != 0),
            "{sent:?}: {:?}",
            client.told_to_go
        );
    }
    is_well(&pinring, pinring.share_of_memory());
}

#[test]
fn twenty_floods_at_once_leave_room_for_others() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Arc::new(start(&backend, ""));
    let floods: Vec<_> = (0..20)
        .map(|_| {
            let pinring = Arc::clone(&pinring);
            thread::spawn(move || {
                let mut client = Http2::connect(pinring.address());
                client.is_polite = false;
                flood(&mut client, &frame(PING, 0, 0, &[0; 8]).repeat(500));
            })
        })
        .collect();
    let mut longest = Duration::ZERO;
    while floods.iter().any(|flood| !flood.is_finished()) {
        let begun = Instant::now();
        let mut other = Http2::connect(pinring.address());
        assert_eq!(other.call("POST", &[], "{}").status(), 200);
        longest = longest.max(begun.elapsed());
    }
    for flood in floods {
        flood.join().unwrap();
    }
    eprintln!("the longest call beside floods took {longest:?}");
    assert!(longest < Duration::from_secs(20));
    counts(&pinring, "http2_frames", 20);
}
