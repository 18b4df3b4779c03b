//! `/metrics`: every request counts once, series stay few whatever clients do, and what is gone is gone.

mod files;

use std::io::Write as _;

use crate::support::{
    Backend, Client, Pinring, Scrape, administrated, ask, eventually, listing, ok, request,
    server_with_admin,
};

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

#[test]
fn who_leaves_turns_away_or_asks_in_advance_counts_once_too() {
    let (backend, arrivals) = Backend::manual();
    let toml =
        "[limits]\nconnections_per_address = 2\n[cors]\norigins = [\"https://app.example\"]\n";
    let pinring = administrated(&format!("{}\n{toml}", Pinring::backends(&[&backend])));
    let address = pinring.address();

    // The client leaves before the head.
    let mut client = Client::connect(address);
    client.send(request("POST", "", "{}"));
    let asked = arrivals.next();
    drop(client);
    let scrape = counted(&pinring, 1.0);
    assert_eq!(
        scrape.one(REQUESTS, &[("backend", "a"), ("code", "499")]),
        1.0
    );
    assert_eq!(
        scrape.one("pinring_requests_ended_total", &[("end", "client_left")]),
        1.0
    );
    drop(asked);

    // A browser asks in advance, over HTTP/1.0 a client without Host is served.
    let preflight = "OPTIONS /mcp HTTP/1.1\r\nhost: a\r\norigin: https://app.example\r\naccess-control-request-method: POST\r\n\r\n";
    let mut client = Client::connect(address);
    assert_eq!(client.send(preflight).answer().status, 204);
    assert_eq!(
        counted(&pinring, 2.0).one(REQUESTS, &[("route", "none"), ("code", "204")]),
        1.0
    );
    let mut old = Client::connect(address);
    old.send("GET / HTTP/1.0\r\n\r\n");
    arrivals.next().send(ok("", "a"));
    assert_eq!(old.answer().status, 200);
    let scrape = counted(&pinring, 3.0);
    assert_eq!(
        scrape.one(REQUESTS, &[("route", "home"), ("code", "200")]),
        1.0
    );
    drop(old);

    // There is no room for a third connection.
    let second = Client::connect(address);
    eventually("both connections are there", || {
        pinring
            .metrics()
            .one("pinring_connections", &[("side", "downstream")])
            == 2.0
    });
    let told = Client::once(address, "POST", "", "{}");
    assert_eq!(told.reason(), "address_connections_full");
    let scrape = counted(&pinring, 4.0);
    assert_eq!(scrape.one(REQUESTS, &[("pool", ""), ("code", "503")]), 1.0);
    let reason = [("reason", "address_connections_full")];
    assert_eq!(scrape.one("pinring_refusals_total", &reason), 1.0);
    let limit = [("limit", "limits.connections_per_address")];
    assert_eq!(scrape.one("pinring_limits_reached_total", &limit), 1.0);
    drop((client, second));
}

#[test]
fn streams_are_open_until_they_end_and_no_duration() {
    let (backend, arrivals) = Backend::manual();
    let pinring = administrated(&Pinring::backends(&[&backend]));
    let mut client = Client::connect(pinring.address());
    client.send(request("GET", "", ""));
    let mut asked = arrivals.next();
    asked.begin_stream();
    client.head();
    let of_a = [("pool", "default"), ("backend", "a")];
    let scrape = counted(&pinring, 1.0);
    assert_eq!(scrape.one("pinring_streams", &of_a), 1.0);
    assert_eq!(scrape.one("pinring_requests_in_flight", &of_a), 1.0);
    asked.chunk("data: x\n\n");
    client.chunk();
    assert_eq!(
        pinring
            .metrics()
            .one("pinring_body_bytes_total", &[("direction", "out")]),
        9.0
    );
    drop(client);
    eventually("the stream is over", || {
        pinring.metrics().one("pinring_streams", &of_a) == 0.0
    });
    let scrape = counted(&pinring, 1.0);
    assert_eq!(
        scrape.one("pinring_request_duration_seconds_count", &[]),
        0.0
    );
    assert_eq!(
        scrape.one("pinring_requests_ended_total", &[("end", "client_left")]),
        1.0
    );
}

#[test]
fn what_a_drain_loses_is_counted_and_a_backend_that_is_gone_has_no_series() {
    let backends = [Backend::stateful("a"), Backend::stateful("b")];
    let affinity = "\n[affinity]\ndeparted = \"1s\"\n";
    let toml = format!("{}{affinity}", Pinring::backends(&backends.each_ref()));
    let pinring = administrated(&toml);
    let ids: Vec<String> = (0..8)
        .map(|_| Client::initialize(pinring.address()))
        .collect();
    let at_b = ids.iter().filter(|id| id.starts_with('b')).count();
    assert!(at_b > 0, "{ids:?}");
    let scrape = pinring.metrics();
    assert_eq!(
        scrape.one("pinring_sessions", &[("backend", "b")]),
        at_b as f64
    );
    assert_eq!(scrape.one("pinring_sessions_opened_total", &[]), 8.0);

    let soon = r#"{"backend":"b","timeout":"1h"}"#;
    assert_eq!(ask(&pinring.admin(), "POST", "/drain", soon).0, 200);
    let scrape = pinring.metrics();
    let left = scrape.one("pinring_backend_lost_in_seconds", &[("backend", "b")]);
    assert!((3500.0..=3600.0).contains(&left), "{left}");
    assert_eq!(
        scrape.one(
            "pinring_backend_state",
            &[("backend", "b"), ("state", "draining")]
        ),
        1.0
    );
    assert_eq!(
        scrape.sum("pinring_backend_state", &[]),
        2.0,
        "one state each"
    );
    let now = r#"{"backend":"b","now":true}"#;
    assert_eq!(ask(&pinring.admin(), "POST", "/drain", now).0, 200);
    let scrape = pinring.metrics();
    assert_eq!(
        scrape.one("pinring_sessions_lost_total", &[("reason", "drained")]),
        at_b as f64
    );
    assert_eq!(scrape.sum("pinring_sessions_lost_total", &[]), at_b as f64);

    let alone = format!(
        "{}{affinity}{}",
        Pinring::backends(&[&backends[0]]),
        server_with_admin(pinring.file().parent().unwrap())
    );
    pinring.reload(&alone);
    eventually("b is forgotten", || {
        !pinring.metrics().text.contains("backend=\"b\"")
    });
    let scrape = pinring.metrics();
    assert_eq!(
        scrape.one("pinring_reloads_total", &[("result", "applied")]),
        1.0
    );
    pinring.reload("backends = 7");
    eventually("a fault is counted", || {
        pinring
            .metrics()
            .one("pinring_reloads_total", &[("result", "failed")])
            > 0.0
    });
}

/// The digests of a pinring that is started with this: of its ring and of its keys.
fn digests(toml: &str, secrets: &str) -> [String; 2] {
    let folder = tempfile::tempdir().unwrap();
    let server = server_with_admin(folder.path());
    let env = [
        ("ONE", "11111111111111111111111111111111"),
        ("TWO", "22222222222222222222222222222222"),
    ];
    let toml = format!("{toml}[affinity]\nsecrets = [{secrets}]\n{server}");
    let pinring = Pinring::start_in(folder, &toml, &env);
    let scrape = pinring.metrics();
    let info = scrape.find("pinring_config_info", &[]);
    assert_eq!(info.len(), 1);
    assert!(!scrape.text.contains("1111111111"));
    ["ring", "keys"].map(|label| info[0].labels[label].clone())
}

#[test]
fn digests_are_equal_in_proxies_that_agree_and_only_there() {
    let [a, b] = ["a", "b"].map(Backend::stateful);
    let both = digests(
        &listing(&[("a", &a, ""), ("b", &b, "")]),
        "\"env:ONE\", \"env:TWO\"",
    );
    // Neither order, address, weight nor admission says where a pin leads.
    let same = digests(
        &listing(&[("b", &a, ", weight = 3"), ("a", &b, ", draining = true")]),
        "\"env:ONE\", \"env:TWO\"",
    );
    assert_eq!(both, same);
    let [ring, keys] = digests(
        &listing(&[("a", &a, ""), ("c", &b, "")]),
        "\"env:TWO\", \"env:ONE\"",
    );
    assert_ne!(ring, both[0]);
    assert_ne!(keys, both[1], "the first signs");
    let [_, keys] = digests(&listing(&[("a", &a, "")]), "\"env:ONE\"");
    assert_ne!(keys, both[1]);
}

#[test]
fn a_stream_of_changes_over_all_backends_is_one_request_and_one_stream() {
    let replicas = [Backend::manual(), Backend::manual()];
    let fan_out = "\n[pool]\nlisten_streams = \"fan-out\"\n";
    let backends = Pinring::backends(&[&replicas[0].0, &replicas[1].0]);
    let pinring = administrated(&format!("{backends}{fan_out}"));
    let mut client = Client::connect(pinring.address());
    let headers = "mcp-protocol-version: 2026-07-28\r\nmcp-method: subscriptions/listen\r\n";
    let params = r#"{"notifications":{"toolsListChanged":true}}"#;
    let call =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{params}}}"#);
    client.send(request("POST", headers, &call));
    let mut asked = replicas.each_ref().map(|(_, arrivals)| arrivals.next());
    for one in &mut asked {
        one.begin_stream();
    }
    assert!(client.head().starts_with("HTTP/1.1 200"));
    let scrape = counted(&pinring, 1.0);
    let route = [("route", "fan-out"), ("code", "200")];
    assert_eq!(scrape.one(REQUESTS, &route), 1.0);
    assert_eq!(scrape.sum("pinring_streams", &[]), 1.0);
    assert_eq!(
        scrape.sum("pinring_requests_in_flight", &[]),
        2.0,
        "one at each"
    );
    drop(client);
    eventually("all of it is over", || {
        let scrape = pinring.metrics();
        scrape.sum("pinring_streams", &[]) + scrape.sum("pinring_requests_in_flight", &[]) == 0.0
    });
    let scrape = counted(&pinring, 1.0);
    assert_eq!(
        scrape.one("pinring_request_duration_seconds_count", &[]),
        0.0
    );
}
