//! `/metrics`: every request counts once, series stay few whatever clients do, and what is gone is gone.

use std::io::Write as _;

use crate::support::{Backend, Client, Pinring, Scrape, administrated, eventually, ok, request};

const REQUESTS: &str = "pinring_requests_total";

/// Waits until as many requests are counted.
fn counted(pinring: &Pinring, requests: f64) -> Scrape {
    let mut scrape = pinring.metrics();
    eventually("all requests are counted", || {
        scrape = pinring.metrics();
        scrape.sum(REQUESTS, &[]) >= requests
    });
    assert!(
        (scrape.sum(REQUESTS, &[]) - requests).abs() < 0.5,
        "{}",
        scrape.text
    );
    scrape
}

#[test]
fn each_request_counts_once_with_where_it_went_and_why() {
    let backend = Backend::stateful("a");
    let pinring = administrated(&Pinring::backends(&[&backend]));
    let address = pinring.address();
    let id = Client::initialize(address);
    for _ in 0..3 {
        assert_eq!(Client::in_session(address, &id).status, 200);
    }
    let forged = format!("x{id}"); // another session with this one's pin
    assert_eq!(Client::in_session(address, &forged).reason(), "tag_invalid");
    Client::connect(address)
        .send("GET / HTTP/1.1\r\n\r\n")
        .answer(); // without Host
    let scrape = counted(&pinring, 6.0);
    let of_a = |route, code| {
        [
            ("pool", "default"),
            ("backend", "a"),
            ("route", route),
            ("code", code),
        ]
    };
    assert_eq!(scrape.one(REQUESTS, &of_a("placed", "200")), 1.0);
    assert_eq!(scrape.one(REQUESTS, &of_a("pinned", "200")), 3.0);
    let refused = [
        ("pool", "default"),
        ("backend", ""),
        ("route", "none"),
        ("code", "404"),
    ];
    assert_eq!(scrape.one(REQUESTS, &refused), 1.0);
    let ambiguous = [
        ("pool", ""),
        ("backend", ""),
        ("route", "none"),
        ("code", "400"),
    ];
    assert_eq!(scrape.one(REQUESTS, &ambiguous), 1.0);
    for reason in ["tag_invalid", "host_invalid"] {
        assert_eq!(
            scrape.one("pinring_refusals_total", &[("reason", reason)]),
            1.0,
            "{reason}"
        );
    }
    assert_eq!(scrape.sum("pinring_refusals_total", &[]), 2.0);
    assert_eq!(scrape.one("pinring_upstream_head_seconds_count", &[]), 4.0);
    assert_eq!(scrape.one("pinring_sessions_opened_total", &[]), 1.0);
    assert_eq!(scrape.one("pinring_sessions", &[("backend", "a")]), 1.0);
    assert_eq!(scrape.one("pinring_pins_verified_total", &[]), 3.0);
}

#[test]
fn whatever_clients_send_and_backends_answer_the_series_are_the_same() {
    let backend = Backend::start(|request, stream| {
        let status = request.header("x-status").unwrap_or("200");
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let pinring = administrated(&Pinring::backends(&[&backend]));
    let mut client = Client::connect(pinring.address());
    let hostile = |client: &mut Client, round: usize| {
        for status in (200..1000).filter(|status| ![204, 205, 304].contains(status)) {
            let path = format!("/{round}/{status}?{}", "x".repeat(round));
            let headers = format!("x-status: {status}\r\nmcp-session-id: {round}-{status}\r\n");
            let head = request("PROPFIND", &headers, "").replace("/mcp", &path);
            client.send(head).answer();
        }
    };
    hostile(&mut client, 0);
    let before = pinring.metrics();
    hostile(&mut client, 1);
    hostile(&mut client, 2);
    let after = pinring.metrics();
    assert!(after.sum(REQUESTS, &[]) > 2300.0);
    assert_eq!(before.samples.len(), after.samples.len());
    assert!(after.find(REQUESTS, &[]).len() < 50, "{}", after.text);
    assert!(!after.text.contains("PROPFIND") && !after.text.contains("-999"));
}

#[test]
fn a_connection_of_pinring_s_own_is_no_secret() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = administrated(&Pinring::backends(&[&backend]));
    let mut client = Client::connect(pinring.address());
    assert_eq!(client.call("POST", "", "{}").status, 200);
    let scrape = pinring.metrics();
    for side in ["downstream", "upstream"] {
        assert_eq!(
            scrape.one("pinring_connections", &[("side", side)]),
            1.0,
            "{side}"
        );
    }
    drop(client);
    eventually("the client's connection is gone", || {
        let scrape = pinring.metrics();
        scrape.one("pinring_connections", &[("side", "downstream")]) == 0.0
    });
}
