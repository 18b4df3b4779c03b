//! The end of the process: what is under way ends well, what does not end is cut visibly.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::support::{Arrivals, Asked, Backend, Chunk, Client, Pinring, eventually, ok, request};

fn drain(limit: &str) -> String {
    format!("[timeouts]\ndrain = \"{limit}\"\n")
}

/// Opens a stream through pinring.
fn open(pinring: &Pinring, arrivals: &Arrivals, method: &str) -> (Client, Asked) {
    let mut client = Client::connect(pinring.address());
    client.send(request(method, "", ""));
    let mut asked = arrivals.next();
    asked.begin_stream();
    client.head();
    (client, asked)
}

fn wait_until_draining(pinring: &Pinring) {
    eventually("the port is closed", || {
        TcpStream::connect(pinring.address()).is_err()
    });
}

#[test]
fn while_it_leaves_it_still_accepts_and_sends_clients_away() {
    let backend = Backend::answering(ok("", "a"));
    let mut pinring = Pinring::before(&[&backend], "[timeouts]\nshutdown_delay = \"1500ms\"\n");
    let mut kept = Client::connect(pinring.address());
    assert_eq!(kept.call("POST", "", "{}").header("connection"), None);
    pinring.signal("TERM");
    pinring.wait_for_log("stopping");
    eventually("answers say that it leaves", || {
        Client::once(pinring.address(), "POST", "", "{}").header("connection") == Some("close")
    });
    assert_eq!(
        kept.call("POST", "", "{}").header("connection"),
        Some("close")
    );
    assert!(kept.is_closed());
    assert_eq!(pinring.wait().code(), Some(0));
}

#[test]
fn an_idle_process_ends_at_once_and_closes_idle_connections() {
    for signal in ["TERM", "INT"] {
        let backend = Backend::answering(ok("", "a"));
        let mut pinring = Pinring::before(&[&backend], &drain("1m"));
        let mut used = Client::connect(pinring.address());
        used.call("POST", "", "{}");
        let mut fresh = Client::connect(pinring.address());
        pinring.signal(signal);
        assert!(used.is_closed() && fresh.is_closed());
        assert_eq!(pinring.wait().code(), Some(0));
    }
}

#[test]
fn a_call_that_is_under_way_completes() {
    let (backend, arrivals) = Backend::manual();
    let mut pinring = Pinring::before(&[&backend], &drain("1m"));
    let mut before_its_head = Client::connect(pinring.address());
    before_its_head.send(request("POST", "", "{}"));
    let mut asked = arrivals.next();
    let (mut within_its_body, mut other) = open(&pinring, &arrivals, "POST");
    pinring.signal("TERM");
    wait_until_draining(&pinring);
    asked.send(ok("", "done"));
    let answer = before_its_head.answer();
    assert_eq!(
        (answer.text(), answer.header("connection")),
        ("done".into(), Some("close"))
    );
    assert!(before_its_head.is_closed());
    other.chunk("data: 1\n\n").send("0\r\n\r\n");
    assert_eq!(within_its_body.chunk(), Chunk::Data("data: 1\n\n".into()));
    assert_eq!(within_its_body.chunk(), Chunk::Last);
    assert_eq!(pinring.wait().code(), Some(0));
}

#[test]
fn quiet_get_streams_end_cleanly_and_not_all_at_once() {
    let (backend, arrivals) = Backend::manual();
    let mut pinring = Pinring::before(&[&backend], &drain("3s"));
    let streams: Vec<_> = (0..8).map(|_| open(&pinring, &arrivals, "GET")).collect();
    pinring.signal("TERM");
    let begun = Instant::now();
    let ended: Vec<_> = streams
        .into_iter()
        .map(|(mut client, asked)| {
            std::thread::spawn(move || {
                assert_eq!(client.chunk(), Chunk::Last);
                let moment = begun.elapsed();
                assert!(client.is_closed());
                drop(asked);
                moment
            })
        })
        .collect();
    let mut moments: Vec<Duration> = ended
        .into_iter()
        .map(|stream| stream.join().unwrap())
        .collect();
    assert_eq!(pinring.wait().code(), Some(0));
    moments.sort();
    assert!(moments[7] < Duration::from_secs(3), "{moments:?}");
    assert!(
        moments[7] - moments[0] > Duration::from_millis(150),
        "{moments:?}"
    );
}

#[test]
fn a_get_stream_within_an_event_ends_behind_it() {
    let (backend, arrivals) = Backend::manual();
    let mut pinring = Pinring::before(&[&backend], &drain("4s"));
    let (mut client, mut asked) = open(&pinring, &arrivals, "GET");
    asked.chunk("data: {half");
    assert_eq!(client.chunk(), Chunk::Data("data: {half".into()));
    pinring.signal("TERM");
    wait_until_draining(&pinring);
    // Quiet streams have all ended when half of the time is over.
    assert!(client.is_quiet_for(Duration::from_millis(2200)));
    asked.chunk(" an event\n\n");
    assert_eq!(client.chunk(), Chunk::Data(" an event\n\n".into()));
    assert_eq!(client.chunk(), Chunk::Last);
    assert_eq!(pinring.wait().code(), Some(0));
}

#[test]
fn what_is_left_at_the_deadline_is_cut_visibly() {
    let (backend, arrivals) = Backend::manual();
    let mut pinring = Pinring::before(&[&backend], &drain("500ms"));
    let (mut call, _asked) = open(&pinring, &arrivals, "POST");
    let (mut stream, mut within) = open(&pinring, &arrivals, "GET");
    within.chunk("data: {half");
    assert_eq!(stream.chunk(), Chunk::Data("data: {half".into()));
    let mut old = Client::connect(pinring.address());
    old.send("POST /mcp HTTP/1.0\r\naccept: text/event-stream\r\ncontent-length: 0\r\n\r\n");
    let mut of_old = arrivals.next();
    of_old.begin_stream();
    old.head();
    pinring.signal("TERM");
    assert_eq!(
        (call.chunk(), stream.chunk()),
        (Chunk::Truncated, Chunk::Truncated)
    );
    assert!(
        old.is_closed() && old.was_reset(),
        "to HTTP/1.0 a mere end looks complete"
    );
    assert!(within.is_closed_within(Duration::from_secs(1)));
    assert_eq!(pinring.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for second in ["TERM", "INT"] {
        let (backend, arrivals) = Backend::manual();
        let mut pinring = Pinring::before(&[&backend], &drain("1m"));
        let (mut client, _asked) = open(&pinring, &arrivals, "POST");
        pinring.signal("TERM");
        wait_until_draining(&pinring);
        assert!(client.is_quiet_for(Duration::from_millis(100)));
        pinring.signal(second);
        assert_eq!(client.chunk(), Chunk::Truncated);
        assert_eq!(pinring.wait().code(), Some(0));
    }
}

#[test]
fn a_request_that_was_sent_before_the_signal_is_answered() {
    for _ in 0..10 {
        let backend = Backend::answering(ok("", "a"));
        let mut pinring = Pinring::before(&[&backend], &drain("1m"));
        let mut clients: Vec<Client> = (0..20)
            .map(|_| Client::connect(pinring.address()))
            .collect();
        for client in &mut clients {
            client.call("POST", "", "{}");
        }
        pinring.signal("STOP");
        for client in &mut clients {
            client.send(request("POST", "", "{}"));
        }
        pinring.signal("TERM");
        pinring.signal("CONT");
        for client in &mut clients {
            assert_eq!(client.answer().status, 200);
        }
        assert_eq!(pinring.wait().code(), Some(0));
    }
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_does_not_hold_up_the_end() {
    let backend = Backend::answering(ok("", "a"));
    let mut pinring = Pinring::before(&[&backend], &drain("1m"));
    std::fs::remove_file(pinring.file()).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(pinring.file())
        .status();
    assert!(made.unwrap().success());
    pinring.signal("HUP");
    assert_eq!(
        Client::once(pinring.address(), "POST", "", "{}").status,
        200
    );
    pinring.signal("TERM");
    assert_eq!(pinring.wait().code(), Some(0));
}
