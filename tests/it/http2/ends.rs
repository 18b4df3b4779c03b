//! The end of connections with HTTP/2: by the process, by a take-over's other side, by silence.

use std::time::{Duration, Instant};

use super::{open, reached};
use crate::support::{
    Backend, Pinring, administrated, eventually,
    http2::{End, HEADERS, Http2, PING, fields, frame, request},
    ok,
};

#[test]
fn a_drain_says_goaway_and_ends_streams_at_event_boundaries() {
    let (backend, arrivals) = Backend::manual();
    let mut pinring = Pinring::before(&[&backend], "[timeouts]\ndrain = \"4s\"\n");
    let mut client = Http2::connect(pinring.address());
    let (quiet, _asked) = open(&mut client, &arrivals, "GET");
    let (within, mut other) = open(&mut client, &arrivals, "GET");
    other.chunk("data: 0\n\n").chunk("data: 1\n");
    let call = client.ask("POST", &[], "{}");
    let mut called = arrivals.next();
    client.until("an event comes", |client| {
        !client.of(within).body.is_empty()
    });
    pinring.signal("TERM");
    assert_eq!(client.answer(quiet).end, Some(End::Whole));
    other.chunk("\n");
    let ended = client.answer(within);
    assert_eq!(
        (ended.text(), ended.end),
        ("data: 0\n\ndata: 1\n\n".into(), Some(End::Whole))
    );
    called.send(ok("", "done"));
    assert_eq!(client.answer(call).text(), "done");
    client.until_closed();
    assert_eq!(client.code(), Some(0), "NO_ERROR");
    assert_eq!(pinring.wait().code(), Some(0));
}

#[test]
fn a_drain_ends_idle_and_new_connections_at_once() {
    let backend = Backend::answering(ok("", "a"));
    let mut pinring = Pinring::before(&[&backend], "[timeouts]\ndrain = \"1m\"\n");
    let mut used = Http2::connect(pinring.address());
    used.call("POST", &[], "{}");
    let mut fresh = Http2::connect(pinring.address());
    fresh.until("it is served", |client| !client.settings.is_empty());
    let mut silent = Http2::silent(pinring.address());
    let begun = Instant::now();
    pinring.signal("TERM");
    for client in [&mut used, &mut fresh, &mut silent] {
        client.until_closed();
    }
    assert_eq!((used.code(), fresh.code()), (Some(0), Some(0)));
    assert_eq!(pinring.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_client_that_goes_on_asking_is_told_to_go_by_half_of_the_drain_and_loses_nothing() {
    let (backend, arrivals) = Backend::manual();
    let mut pinring = Pinring::before(&[&backend], "[timeouts]\ndrain = \"6s\"\n");
    let mut client = Http2::connect(pinring.address());
    let call = client.ask("POST", &[], "{}");
    let mut called = arrivals.next();
    pinring.signal("TERM");
    client.until("it is told to go", |client| client.code() == Some(0));
    called.send(ok("", "done"));
    assert_eq!(client.answer(call).text(), "done");
    client.until_closed();
    assert_eq!(pinring.wait().code(), Some(0));
}

#[test]
fn what_is_left_when_a_drain_ends_is_cut_and_no_clean_end() {
    let (backend, arrivals) = Backend::manual();
    let mut pinring = Pinring::before(&[&backend], "[timeouts]\ndrain = \"500ms\"\n");
    let mut client = Http2::connect(pinring.address());
    let (stream, mut asked) = open(&mut client, &arrivals, "POST");
    asked.chunk("data: 1");
    client.until("half an event comes", |client| {
        !client.of(stream).body.is_empty()
    });
    pinring.signal("TERM");
    let cut = client.answer(stream);
    assert_ne!(cut.end, Some(End::Whole));
    assert_eq!(pinring.wait().code(), Some(0));
    let line = pinring.find_log("end").unwrap();
    assert_eq!(line["end"], "drained", "{line}");
}

#[test]
fn while_the_process_leaves_an_answer_sends_its_client_away() {
    let backend = Backend::answering(ok("", "a"));
    let mut pinring = Pinring::before(&[&backend], "[timeouts]\nshutdown_delay = \"2s\"\n");
    let mut client = Http2::connect(pinring.address());
    client.call("POST", &[], "{}");
    pinring.signal("TERM");
    pinring.wait_for_log("stopping");
    eventually("answers say that it leaves", || {
        let mut client = Http2::connect(pinring.address());
        assert_eq!(client.call("POST", &[], "{}").status(), 200);
        client.read_for(Duration::from_millis(100));
        client.code() == Some(0)
    });
    assert_eq!(client.call("POST", &[], "{}").status(), 200);
    client.until_closed();
    assert_eq!(client.code(), Some(0));
    assert_eq!(pinring.wait().code(), Some(0));
}

#[test]
fn an_idle_connection_gets_goaway_and_one_with_a_stream_stays() {
    let (backend, arrivals) = Backend::manual();
    let pinring = administrated(&format!(
        "{}\n[timeouts]\nkeep_alive = \"500ms\"\n",
        Pinring::backends(&[&backend])
    ));
    let mut busy = Http2::connect(pinring.address());
    let (stream, mut asked) = open(&mut busy, &arrivals, "GET");
    let mut idle = Http2::connect(pinring.address());
    let call = idle.ask("POST", &[], "{}");
    arrivals.next().send(ok("", "a"));
    assert_eq!(idle.answer(call).status(), 200);
    idle.until_closed();
    assert_eq!(idle.code(), Some(0));
    eventually("it is counted", || {
        reached(&pinring, "timeouts.keep_alive") == 1
    });
    asked.chunk("data: 1\n\n");
    busy.until("the stream goes on", |client| {
        !client.of(stream).body.is_empty()
    });
}

#[test]
fn who_says_nothing_or_half_a_head_is_not_waited_for() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = administrated(&format!(
        "{}\n[timeouts]\nrequest_head = \"500ms\"\n",
        Pinring::backends(&[&backend])
    ));
    let head = frame(HEADERS, 1, 1, &fields(&request("GET", &[])));
    let mut silent = Http2::silent(pinring.address());
    let mut without_request = Http2::connect(pinring.address());
    let mut only_pings = Http2::connect(pinring.address());
    only_pings.send(frame(PING, 0, 0, &[0; 8]));
    let mut unended = Http2::connect(pinring.address());
    unended.send(&head);
    let mut cut = Http2::connect(pinring.address());
    cut.send(&head[..20]);
    let mut later = Http2::connect(pinring.address());
    later.call("POST", &[], "{}");
    later.send(frame(HEADERS, 1, 3, &fields(&request("GET", &[]))));
    for client in [
        &mut silent,
        &mut without_request,
        &mut only_pings,
        &mut unended,
        &mut cut,
        &mut later,
    ] {
        client.until_closed();
    }
    eventually("it is counted", || {
        reached(&pinring, "timeouts.request_head") == 6
    });
    assert_eq!(backend.received().len(), 1);
}

#[test]
fn a_client_that_answers_no_pings_is_gone() {
    let (backend, arrivals) = Backend::manual();
    let pinring = administrated(&format!(
        "{}\n[timeouts]\ntcp_keep_alive = \"1s\"\ntcp_user_timeout = \"2s\"\n",
        Pinring::backends(&[&backend])
    ));
    let mut polite = Http2::connect(pinring.address());
    let (_, mut stays) = open(&mut polite, &arrivals, "GET");
    let mut gone = Http2::connect(pinring.address());
    let (stream, mut asked) = open(&mut gone, &arrivals, "GET");
    gone.is_polite = false;
    eventually("it is given up", || {
        for client in [&mut polite, &mut gone] {
            client.read_for(Duration::from_millis(20));
        }
        gone.is_closed
    });
    assert_ne!(gone.of(stream).end, Some(End::Whole));
    assert!(asked.is_closed_within(Duration::from_secs(5)));
    eventually("it is counted", || {
        reached(&pinring, "timeouts.tcp_user_timeout") == 1
    });
    polite.until("it is asked again", |client| client.pings >= 3);
    assert!(!stays.is_closed_within(Duration::from_millis(100)));
}

#[test]
fn a_connection_without_room_is_told_so_and_closed() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = administrated(&format!(
        "{}\n[limits]\nconnections = 1\n",
        Pinring::backends(&[&backend])
    ));
    let mut served = Http2::connect(pinring.address());
    assert_eq!(served.call("POST", &[], "{}").status(), 200);
    let mut other = Http2::connect(pinring.address());
    let refused = other.call("POST", &[], "{}");
    assert_eq!(
        (refused.status(), &*refused.reason()),
        (503, "connections_full")
    );
    assert_eq!(refused.header("connection"), None);
    other.until_closed();
    assert_eq!(served.call("POST", &[], "{}").status(), 200);
}

#[test]
fn a_balancer_s_word_counts_before_http_2() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = Pinring::start(&format!(
        "{}\n[server]\nlisten = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true\n",
        Pinring::backends(&[&backend])
    ));
    let mut client = Http2::silent(pinring.address());
    client.send("PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n");
    client.send(crate::support::http2::PREFACE);
    client.send(frame(4, 0, 0, &[]));
    assert_eq!(client.call("POST", &[], "{}").status(), 200);
    assert_eq!(
        backend.received()[0].header("x-forwarded-for"),
        Some("192.0.2.1")
    );
}

#[test]
fn requests_beside_others_take_room_as_connections_do() {
    let (backend, arrivals) = Backend::manual();
    let pinring = administrated(&format!(
        "{}\n[limits]\nconnections = 3\n",
        Pinring::backends(&[&backend])
    ));
    let mut client = Http2::connect(pinring.address());
    let mut streams: Vec<_> = (0..3)
        .map(|_| open(&mut client, &arrivals, "GET"))
        .collect();
    let refused = client.call("GET", &[], "");
    assert_eq!(
        (refused.status(), &*refused.reason()),
        (503, "connections_full")
    );
    assert_eq!(reached(&pinring, "limits.connections"), 1);
    let (first, mut asked) = streams.remove(0);
    asked.send("0\r\n\r\n");
    drop(asked);
    client.answer(first);
    let (_, mut again) = open(&mut client, &arrivals, "GET");
    again.chunk("data: 1\n\n");
}
