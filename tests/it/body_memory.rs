//! How much of bodies that are looked into is in memory at one time: a limit over all requests.

use std::{io::Write as _, time::Duration};

use crate::{
    reinitialize,
    support::{Answer, Backend, Client, Pinring, anywhere, eventually, ok, request},
};

const MODERN: &str = "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\n";
const LIMITS: &str = "[limits]\nbody_bytes = \"64KiB\"\nbody_bytes_total = \"64KiB\"\n";
const LARGE: usize = 60_000;

fn body(length: usize) -> String {
    format!(r#"{{"id":1,"x":"{}"}}"#, "x".repeat(length))
}

/// Sends a body in pieces that come one by one.
fn in_pieces(client: &mut Client, body: &str) {
    for piece in body.as_bytes().chunks(8 * 1024) {
        client.send_what_is_taken(piece);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A call whose body comes in pieces.
fn call(pinring: &Pinring, length: usize) -> Answer {
    let whole = request("POST", MODERN, &body(length));
    let mut client = Client::connect(pinring.address());
    in_pieces(&mut client, &whole);
    client.answer()
}

fn is_full(answer: &Answer) -> bool {
    let is_full = (answer.status, &*answer.reason()) == (503, "bodies_full");
    assert!(is_full || answer.status == 200, "{}", answer.head);
    assert_eq!(answer.header("retry-after").is_some(), is_full);
    is_full
}

/// A call that has sent most of its body, so that there is no room for another, and the rest of it.
fn holding(pinring: &Pinring) -> (Client, String) {
    let whole = request("POST", MODERN, &body(LARGE));
    let (most, rest) = whole.split_at(LARGE - 5_000);
    let mut held = None;
    eventually("there is no room for another", || {
        let mut slow = Client::connect(pinring.address());
        in_pieces(&mut slow, most);
        held = Some(slow);
        is_full(&call(pinring, LARGE)) // else the other may have come first
    });
    (held.unwrap(), rest.to_owned())
}

#[test]
fn beyond_the_limit_of_all_bodies_a_call_is_told_to_come_back() {
    let backend = Backend::answering(ok("content-type: application/json\r\n", "{}"));
    let pinring = Pinring::before(&[&backend], LIMITS);
    assert!(!is_full(&call(&pinring, LARGE)), "one has room");
    let (mut slow, rest) = holding(&pinring);
    // What comes in one piece needs none, nor does what nobody looks into.
    let small = Client::once(pinring.address(), "POST", MODERN, "{}");
    let unread = Client::once(pinring.address(), "POST", "", &body(LARGE));
    assert_eq!([small.status, unread.status], [200, 200]);
    assert_eq!(
        slow.send(rest).answer().status,
        200,
        "who was first is served"
    );
    assert!(
        !is_full(&call(&pinring, LARGE)),
        "and its room is free again"
    );
}

#[test]
fn a_body_counts_until_its_backend_has_it() {
    let (backend, arrivals) = Backend::manual();
    let pinring = Pinring::before(&[&backend], LIMITS);
    let mut first = Client::connect(pinring.address());
    in_pieces(&mut first, &request("POST", MODERN, &body(LARGE)));
    let mut asked = arrivals.next();
    // The backend has read all of it, and takes its time: that holds nobody up.
    let mut second = Client::connect(pinring.address());
    in_pieces(&mut second, &request("POST", MODERN, &body(LARGE)));
    let mut other = arrivals.next();
    for (asked, client) in [(&mut asked, &mut first), (&mut other, &mut second)] {
        asked.send(ok("", "{}"));
        assert_eq!(client.answer().status, 200);
    }
}

#[test]
fn a_call_of_a_lost_session_for_which_there_is_no_room_may_come_again() {
    let a = reinitialize::server("a", anywhere());
    let address = a.address();
    let pinring = Pinring::before(&[&a], &format!("{LIMITS}{}", reinitialize::SOON));
    let id = reinitialize::open_at("a", pinring.address());
    let call_of_session = || {
        let call = format!("{}{}", reinitialize::CALL, " ".repeat(LARGE));
        let mut client = Client::connect(pinring.address());
        in_pieces(
            &mut client,
            &request("POST", &reinitialize::header(&id), &call),
        );
        client.answer()
    };
    drop(a);
    let _back = reinitialize::server("a", address);
    let (mut slow, rest) = holding(&pinring);
    assert!(is_full(&call_of_session()));
    slow.send(rest).answer();
    assert!(!is_full(&call_of_session()));
}

#[test]
fn an_answer_that_there_is_no_room_to_collect_flows() {
    const RESULT: &str = "{\"result\":{\"requestState\":\"s\"}}";
    let padded = format!("{RESULT}{}", " ".repeat(30_000));
    let length = padded.len();
    let backend = Backend::start(move |request, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
        write!(stream, "{head}content-length: {length}\r\n\r\n").unwrap();
        let in_pieces = request.header("x-pieces").is_some();
        for piece in padded
            .as_bytes()
            .chunks(if in_pieces { 4 * 1024 } else { length })
        {
            stream.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(if in_pieces { 20 } else { 0 }));
        }
        true
    });
    let pinring = Pinring::before(&[&backend], LIMITS);
    let headers = format!("{MODERN}x-pieces: 1\r\n");
    let ask = || Client::once(pinring.address(), "POST", &headers, "{}");
    let collected = ask();
    let with_its_pin = length + 33;
    assert_eq!(
        collected.header("content-length"),
        Some(&*with_its_pin.to_string())
    );
    let (_slow, _rest) = holding(&pinring);
    let flowing = ask();
    assert_eq!(flowing.header("transfer-encoding"), Some("chunked"));
    assert!(flowing.complete && flowing.body == collected.body);
}
