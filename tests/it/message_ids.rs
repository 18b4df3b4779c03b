//! Errors of pinring's own repeat the id of the request where its body has been read, and say null where it has not.

use std::io::Write as _;

use crate::support::{Answer, Backend, Client, Closed, Pinring, ok, request};

const MODERN: &str = "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\n";
const IDS: [&str; 5] = [
    "7",
    "\"a-1\"",
    "\"\\u00e9\\\"\"",
    "-1.50e+3",
    "18446744073709551616",
];

fn call(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"tools/call","params":{{"id":0}},"id": {id} }}"#)
}

fn send(pinring: &Pinring, headers: &str, body: &str) -> Answer {
    Client::once(pinring.address(), "POST", headers, body)
}

/// Holds that it is an error with this id, as it stands there.
fn assert_id(answer: &Answer, reason: &str, id: &str) {
    assert_eq!(answer.reason(), reason);
    let text = answer.text();
    assert!(
        text.starts_with(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"#)),
        "{text}"
    );
}

/// In front of a backend that refuses connections.
fn before_nobody(closed: &Closed, more: &str) -> Pinring {
    let url = format!("http://{}", closed.address());
    Pinring::start(&format!(
        "backends = [{{ name = \"a\", url = \"{url}\" }}]\ntimeouts = {{ connect = \"50ms\" }}\n{more}"
    ))
}

#[test]
fn a_call_that_was_read_gets_its_id_back_with_every_error() {
    let closed = Closed::new();
    let pinring = before_nobody(&closed, "");
    for id in IDS {
        assert_id(&send(&pinring, MODERN, &call(id)), "connect_refused", id);
    }
    let notification = r#"{"jsonrpc":"2.0","method":"tools/call"}"#;
    for body in [
        notification,
        r#"{"id":{"a":1}}"#,
        r#"[{"id":1}]"#,
        "{\"id\":1",
        "{\"id\":NaN}",
        "",
    ] {
        assert_id(&send(&pinring, MODERN, body), "connect_refused", "null");
    }
}

#[test]
fn an_id_is_repeated_after_the_backend_had_the_request() {
    let breaking = Backend::start(|_, _| false);
    let pinring = Pinring::before(&[&breaking], "");
    assert_id(
        &send(&pinring, MODERN, &call("\"x\"")),
        "backend_closed",
        "\"x\"",
    );
    let silent = Backend::start(|_, _| {
        std::thread::park();
        false
    });
    let pinring = Pinring::before(&[&silent], "timeouts = { response_head = \"200ms\" }");
    assert_id(&send(&pinring, MODERN, &call("9")), "backend_timeout", "9");
}

#[test]
fn an_id_is_repeated_where_the_pin_is_not_known_yet() {
    let sealing = Backend::answering(ok(
        "content-type: application/json\r\n",
        r#"{"result":{"requestState":"s"}}"#,
    ));
    let (other, ahead) = (
        Backend::answering(ok("", "")),
        Pinring::before(&[&sealing], ""),
    );
    let listed = format!(
        "backends = [{{ name = \"b\", url = \"http://{}\" }}]",
        other.address()
    );
    let behind = Pinring::start(&listed);
    let answer: serde_json::Value =
        serde_json::from_slice(&send(&ahead, MODERN, &call("1")).body).unwrap();
    let state = &answer["result"]["requestState"];
    let body = format!(r#"{{"id":"again","params":{{"requestState":{state}}}}}"#);
    assert_id(
        &send(&behind, MODERN, &body),
        "unknown_coordinate",
        "\"again\"",
    );
}

#[test]
fn the_id_of_a_request_that_nobody_reads_is_null() {
    let closed = Closed::new();
    let pinring = before_nobody(&closed, "");
    let listing = "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/list\r\n";
    for headers in ["", listing] {
        assert_id(
            &send(&pinring, headers, &call("7")),
            "connect_refused",
            "null",
        );
    }
    let closed = Closed::new();
    let pinring = before_nobody(&closed, "pool = { read_bodies = false }");
    assert_id(
        &send(&pinring, MODERN, &call("7")),
        "connect_refused",
        "null",
    );
    let closed = Closed::new();
    let pinring = before_nobody(&closed, "limits = { body_bytes = \"1KiB\" }");
    let long = call("7").replace("\"id\":0", &format!("\"x\":\"{}\"", "x".repeat(2000)));
    assert_id(&send(&pinring, MODERN, &long), "connect_refused", "null");
}

#[test]
fn a_request_that_is_kept_to_be_sent_again_gets_its_id_back() {
    // It opens sessions, and breaks off whatever comes then.
    let server = || {
        Backend::start(|request, stream| {
            request.header("mcp-session-id").is_none()
                && stream.write_all(&ok("mcp-session-id: s\r\n", "")).is_ok()
        })
    };
    for (on_loss, id) in [("not-found", "null"), ("reinitialize", "\"seven\"")] {
        let server = server();
        let pinring = Pinring::before(
            &[&server],
            &format!("affinity = {{ on_loss = \"{on_loss}\" }}"),
        );
        let session = Client::initialize(pinring.address());
        let headers = format!("mcp-session-id: {session}\r\n");
        let mut client = Client::connect(pinring.address());
        client.send(request("POST", &headers, &call("\"seven\"")));
        assert_id(&client.answer(), "backend_closed", id);
    }
}

#[test]
fn a_lost_session_is_told_with_the_id_of_what_was_asked() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let affinity = "affinity = { on_loss = \"reinitialize\", loss_after = \"500ms\" }\n\
                    timeouts = { connect = \"100ms\" }\n[limits]\nsessions_per_backend = 1\n";
    let pinring = Pinring::before(&[&a, &b], affinity);
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#;
    let ids = [(); 2].map(|()| {
        let opened = send(&pinring, "", initialize);
        opened.header("mcp-session-id").unwrap().to_owned()
    });
    let of_a = ids.iter().find(|id| id.starts_with("a-")).unwrap();
    drop(a);
    // It waits for a to be lost, and then there is no room at b.
    let answer = send(&pinring, &format!("mcp-session-id: {of_a}\r\n"), &call("3"));
    assert_id(&answer, "not_reinitialized", "3");
}
