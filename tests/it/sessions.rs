//! Sessions stay on their replica: the pin in every answer, through restarts and several proxies.

use std::io::Write as _;

use crate::support::{Backend, Client, Pinring, ok};

fn is_pin(text: &str) -> bool {
    text.len() == 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte))
}

#[test]
fn every_session_stays_on_the_replica_that_issued_it() {
    let backends = [
        Backend::stateful("a"),
        Backend::stateful("b"),
        Backend::stateful("c"),
    ];
    let pinring = Pinring::before(&backends.each_ref(), "");
    let mut owners = std::collections::HashSet::new();
    for _ in 0..30 {
        let id = Client::initialize(pinring.address());
        let (own, pin) = id.rsplit_once('-').unwrap();
        assert!(is_pin(pin), "{id}");
        let owner = own.split_once('-').unwrap().0.to_owned();
        for method in ["POST", "GET", "DELETE"] {
            let answer = Client::once(
                pinring.address(),
                method,
                &format!("Mcp-Session-Id: {id}\r\n"),
                "",
            );
            assert_eq!((answer.status, answer.text()), (200, owner.clone()));
            assert_eq!(
                answer.header("mcp-session-id"),
                Some(&*id),
                "the client's id, byte for byte"
            );
            assert_eq!(
                answer.header("access-control-expose-headers"),
                Some("Mcp-Session-Id")
            );
        }
        owners.insert(owner);
    }
    assert!(owners.len() > 1, "all sessions were placed on {owners:?}");
    for request in backends.iter().flat_map(Backend::received) {
        assert!(
            !request.head.contains("-cf"),
            "a backend saw a pin: {}",
            request.head
        );
    }
}

#[test]
fn a_second_proxy_with_the_same_backends_serves_the_same_sessions() {
    let backends = [
        Backend::stateful("a"),
        Backend::stateful("b"),
        Backend::stateful("c"),
    ];
    let backends = backends.each_ref();
    let (one, other) = (
        Pinring::before(&backends, ""),
        Pinring::before(&backends, ""),
    );
    for _ in 0..10 {
        let id = Client::initialize(one.address());
        let header = format!("Mcp-Session-Id: {id}\r\n");
        let first = Client::once(one.address(), "POST", &header, "").text();
        let second = Client::once(other.address(), "POST", &header, "").text();
        assert_eq!(first, second);
    }
}

#[test]
fn an_altered_pin_answers_404_in_the_words_of_the_sdks() {
    let backend = Backend::stateful("a");
    let pinring = Pinring::before(&[&backend], "");
    let id = Client::initialize(pinring.address()).replace("a-1-", "a-2-");
    let answer = Client::once(
        pinring.address(),
        "POST",
        &format!("Mcp-Session-Id: {id}\r\n"),
        "{}",
    );
    assert_eq!((answer.status, &*answer.reason()), (404, "tag_invalid"));
    assert!(answer.text().contains("-32001") && answer.text().contains("Session not found"));
    assert_eq!(backend.received().len(), 1, "only initialize reached it");
}

#[test]
fn the_longest_id_of_a_server_is_accepted_with_its_pin() {
    let backend = Backend::start(|request, stream| {
        let id = request
            .header("mcp-session-id")
            .map_or_else(|| "x".repeat(4096), str::to_owned);
        let length = id.len().to_string();
        stream
            .write_all(&ok(&format!("mcp-session-id: {id}\r\n"), &length))
            .is_ok()
    });
    let pinring = Pinring::before(&[&backend], "");
    let id = Client::initialize(pinring.address());
    assert_eq!(Client::in_session(pinring.address(), &id).text(), "4096");
}
