//! Known before used, kept after gone: backends and secrets come and go, at each proxy at another moment,
//! and no session is lost by it before its time.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::support::{Answer, Backend, Client, PATIENCE, Pinring, eventually, listing};

/// Read again on SIGHUP, or when a pin asks for it, and at no other time.
const UNWATCHED: &str = "[server]\nlisten = \"127.0.0.1:0\"\nwatch = false\n";

/// What the proxies of these tests read: backends and the keys of `[affinity]`.
fn toml(backends: &[(&str, &Backend)], affinity: &str) -> String {
    let plain: Vec<_> = backends
        .iter()
        .map(|(name, backend)| (*name, *backend, ""))
        .collect();
    format!("{}[affinity]\n{affinity}\n{UNWATCHED}", listing(&plain))
}

/// Opens sessions until one is of the backend that calls itself `name`.
fn session_of(name: &str, pinring: &Pinring) -> String {
    let mut id = String::new();
    eventually(&format!("a session of {name}"), || {
        id = Client::initialize(pinring.address());
        id.starts_with(&format!("{name}-"))
    });
    id
}

fn serves(pinring: &Pinring, id: &str) {
    let answer = Client::in_session(pinring.address(), id);
    assert_eq!(answer.status, 200, "{id}: {}", answer.text());
}

fn told(answer: &Answer) -> (u16, String) {
    (answer.status, answer.reason())
}

#[test]
fn a_backend_that_joins_takes_pins_at_once_and_no_new_work() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let (one, two) = ([("a", &a)], [("a", &a), ("b", &b)]);
    let delay = "join_delay = \"1h\"";
    let ahead = Pinring::start(&toml(&two, delay));
    let pinring = Pinring::start(&toml(&one, delay));
    pinring.reload(&toml(&two, delay));
    serves(&pinring, &session_of("b", &ahead));
    for _ in 0..30 {
        assert!(Client::initialize(pinring.address()).starts_with("a-"));
    }
}

#[test]
fn a_backend_gets_new_work_once_it_has_joined() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let delay = "join_delay = \"300ms\"";
    let pinring = Pinring::start(&toml(&[("a", &a)], delay));
    pinring.reload(&toml(&[("a", &a), ("b", &b)], delay));
    serves(&pinring, &session_of("b", &pinring));
}

#[test]
fn a_list_that_is_wholly_new_takes_work_without_delay() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let delay = "join_delay = \"1h\"";
    let pinring = Pinring::start(&toml(&[("a", &a)], delay));
    pinring.reload(&toml(&[("b", &b)], delay));
    assert!(Client::initialize(pinring.address()).starts_with("b-"));
}

#[test]
fn a_removed_backend_keeps_its_sessions_and_gets_no_new_work() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let pinring = Pinring::start(&toml(&[("a", &a), ("b", &b)], ""));
    let id = session_of("b", &pinring);
    pinring.reload(&toml(&[("a", &a)], ""));
    for _ in 0..30 {
        serves(&pinring, &id);
        assert!(Client::initialize(pinring.address()).starts_with("a-"));
    }
}

#[test]
fn a_removed_backend_is_lost_when_its_time_has_run_out_and_found_when_it_comes_back() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let short = "departed = \"300ms\"";
    let both = toml(&[("a", &a), ("b", &b)], short);
    let pinring = Pinring::start(&both);
    let id = session_of("b", &pinring);
    pinring.reload(&toml(&[("a", &a)], short));
    let mut last = (200, String::new());
    eventually("its sessions are lost", || {
        last = told(&Client::in_session(pinring.address(), &id));
        last.0 != 200
    });
    assert_eq!(last, (404, "backend_lost".to_owned()));
    pinring.wait_for_log("its sessions are lost from now on");
    pinring.reload(&both);
    serves(&pinring, &id);
}

#[test]
fn a_pin_of_a_backend_never_seen_waits_and_then_answers_503_and_after_its_grace_404() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let ahead = Pinring::start(&toml(&[("a", &a), ("b", &b)], ""));
    let behind = Pinring::start(&toml(&[("a", &a)], "unknown_grace = \"1s\""));
    let id = session_of("b", &ahead);
    let asked = Instant::now();
    let answer = Client::in_session(behind.address(), &id);
    let waited = asked.elapsed();
    assert_eq!(told(&answer), (503, "unknown_coordinate".to_owned()));
    assert_eq!(answer.header("retry-after"), Some("1"));
    let limits = Duration::from_millis(1900)..PATIENCE / 2; // a busy machine was seen to take seven seconds
    assert!(limits.contains(&waited), "{waited:?}");
    // It was first seen two seconds ago.
    let answer = Client::in_session(behind.address(), &id);
    assert_eq!(told(&answer), (404, "unknown_coordinate".to_owned()));
}

#[test]
fn a_pin_of_a_backend_never_seen_makes_the_proxy_look_at_its_file() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let both = toml(&[("a", &a), ("b", &b)], "");
    let ahead = Pinring::start(&both);
    let behind = Pinring::start(&toml(&[("a", &a)], ""));
    behind.write(&both);
    serves(&behind, &session_of("b", &ahead));
}

#[test]
fn a_waiting_request_is_served_by_the_reload_that_brings_its_backend() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let both = toml(&[("a", &a), ("b", &b)], "");
    let ahead = Pinring::start(&both);
    let behind = Pinring::start(&toml(&[("a", &a)], ""));
    let mut client = Client::connect(behind.address());
    let header = format!("mcp-session-id: {}\r\n", session_of("b", &ahead));
    client.send(crate::support::request("POST", &header, "{}"));
    behind.wait_for_log("a request names an unknown backend"); // and nothing has changed
    behind.reload(&both);
    let answer = client.answer();
    assert_eq!((answer.status, &*answer.text()), (200, "b"));
}

/// Asks for every session at every proxy, all at once, for those that are not known there yet wait.
fn none_is_lost(sessions: &[String], proxies: &[Pinring]) {
    let ask = |(id, pinring): (&String, &Pinring)| {
        let mut client = Client::connect(pinring.address());
        let header = format!("mcp-session-id: {id}\r\n");
        client.send(crate::support::request("POST", &header, "{}"));
        client
    };
    let all = sessions
        .iter()
        .flat_map(|id| proxies.iter().map(move |pinring| (id, pinring)));
    let asked: Vec<Client> = all.map(ask).collect();
    for mut client in asked {
        let answer = client.answer();
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
    }
}

#[test]
fn proxies_whose_files_differ_for_a_while_lose_no_session() {
    let (a, b, c) = (
        Backend::stateful("a"),
        Backend::stateful("b"),
        Backend::stateful("c"),
    );
    let before = toml(&[("a", &a), ("b", &b)], "join_delay = \"0s\"");
    let after = toml(&[("b", &b), ("c", &c)], "join_delay = \"0s\"");
    let proxies = [Pinring::start(&before), Pinring::start(&before)];
    let mut sessions = vec![session_of("a", &proxies[0]), session_of("b", &proxies[1])];
    // One is ahead of the other, whose file comes later, as a ConfigMap does; then the other way round.
    for (toml, new, ahead) in [(&after, "c", 0), (&before, "a", 1)] {
        for pinring in [&proxies[ahead], &proxies[1 - ahead]] {
            pinring.reload(toml);
            sessions.push(session_of(new, &proxies[ahead]));
            sessions.extend(
                proxies
                    .each_ref()
                    .map(|proxy| Client::initialize(proxy.address())),
            );
            none_is_lost(&sessions, &proxies);
        }
        for id in &sessions {
            serves(&proxies[0], id);
            serves(&proxies[1], id);
        }
    }
}

#[test]
fn pins_follow_a_name_to_its_new_address() {
    let (old, new) = (Backend::stateful("a"), Backend::stateful("a"));
    let pinring = Pinring::start(&toml(&[("a", &old)], ""));
    let id = Client::initialize(pinring.address());
    serves(&pinring, &id);
    pinring.reload(&toml(&[("a", &new)], ""));
    serves(&pinring, &id);
    assert_eq!((old.received().len(), new.received().len()), (2, 1));
}

#[test]
fn a_draining_backend_serves_its_sessions_and_gets_no_new_work() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let pinring = Pinring::start(&toml(&[("a", &a), ("b", &b)], ""));
    let id = session_of("b", &pinring);
    let draining = listing(&[("a", &a, ""), ("b", &b, ", draining = true")]);
    pinring.reload(&format!("{draining}{UNWATCHED}"));
    for _ in 0..30 {
        serves(&pinring, &id);
        assert!(Client::initialize(pinring.address()).starts_with("a-"));
    }
    pinring.reload(&toml(&[("a", &a), ("b", &b)], ""));
    session_of("b", &pinring);
}

#[test]
fn new_work_waits_where_every_backend_drains() {
    let a = Backend::stateful("a");
    let draining = listing(&[("a", &a, ", draining = true")]);
    let pinring = Pinring::start(&format!("{draining}{UNWATCHED}"));
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    assert_eq!(told(&answer), (503, "no_backend".to_owned()));
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[test]
fn weights_shape_the_placement_of_sessions() {
    let (a, b) = (Backend::stateful("a"), Backend::stateful("b"));
    let weighted = listing(&[("a", &a, ", weight = 3"), ("b", &b, "")]);
    let pinring = Pinring::start(&format!("{weighted}{UNWATCHED}"));
    let of_a = (0..200)
        .filter(|_| Client::initialize(pinring.address()).starts_with("a-"))
        .count();
    // Three in four, with more than six standard deviations on each side.
    assert!((110..=190).contains(&of_a), "{of_a} of 200");
}

/// A proxy before `backend` with the secrets of these names, each of 32 times its name.
fn with_secrets(backend: &Backend, secrets: &[&str], more: &str) -> Pinring {
    let folder = tempfile::tempdir().unwrap();
    for name in ["1", "2"] {
        fs::write(folder.path().join(name), name.repeat(32)).unwrap();
    }
    Pinring::start_in(folder, &secret_toml(backend, secrets, more), &[])
}

fn secret_toml(backend: &Backend, secrets: &[&str], more: &str) -> String {
    let entries: Vec<String> = secrets
        .iter()
        .map(|name| format!("\"file:{name}\""))
        .collect();
    let entries = entries.join(", ");
    toml(&[("a", backend)], &format!("secrets = [{entries}]\n{more}"))
}

#[test]
fn a_pin_of_an_unknown_key_answers_503_at_once_and_404_after_its_grace() {
    let a = Backend::stateful("a");
    let ahead = with_secrets(&a, &["2"], "");
    let behind = with_secrets(&a, &["1"], "unknown_grace = \"300ms\"");
    let id = Client::initialize(ahead.address());
    let asked = Instant::now();
    let answer = Client::in_session(behind.address(), &id);
    let waited = asked.elapsed();
    assert_eq!(told(&answer), (503, "unknown_key".to_owned()));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(waited.as_secs_f64() < 1.5, "{waited:?}");
    let mut last = (503, String::new());
    eventually("its grace has passed", || {
        last = told(&Client::in_session(behind.address(), &id));
        last.0 != 503
    });
    assert_eq!(last, (404, "unknown_key".to_owned()));
    assert_eq!(a.received().len(), 1, "only initialize reached it");
}

#[test]
fn a_pin_of_a_removed_key_answers_404() {
    let a = Backend::stateful("a");
    let pinring = with_secrets(&a, &["1"], "");
    let id = Client::initialize(pinring.address());
    pinring.reload(&secret_toml(&a, &["2"], ""));
    let answer = Client::in_session(pinring.address(), &id);
    assert_eq!(told(&answer), (404, "key_removed".to_owned()));
    pinring.reload(&secret_toml(&a, &["2", "1"], ""));
    serves(&pinring, &id);
}

#[test]
fn a_secret_is_rotated_in_three_steps_without_losing_a_session() {
    let a = Backend::stateful("a");
    let proxies = [with_secrets(&a, &["1"], ""), with_secrets(&a, &["1"], "")];
    let mut sessions = Vec::new();
    let step = |secrets: &[&str], sessions: &mut Vec<String>| {
        for pinring in &proxies {
            pinring.reload(&secret_toml(&a, secrets, ""));
            sessions.extend(
                proxies
                    .each_ref()
                    .map(|proxy| Client::initialize(proxy.address())),
            );
            for id in sessions.iter() {
                serves(&proxies[0], id);
                serves(&proxies[1], id);
            }
        }
    };
    step(&["1", "2"], &mut sessions);
    step(&["2", "1"], &mut sessions);
    // An hour later the sessions from before the second step have ended.
    let old = sessions.remove(0);
    let mut sessions = vec![sessions.pop().unwrap()];
    step(&["2"], &mut sessions);
    let answer = Client::in_session(proxies[0].address(), &old);
    assert_eq!(told(&answer), (404, "key_removed".to_owned()));
}

#[test]
fn a_first_secret_is_introduced_without_losing_a_session() {
    let a = Backend::stateful("a");
    let pinring = with_secrets(&a, &["1"], "");
    let checksums = toml(&[("a", &a)], "");
    pinring.reload(&checksums);
    let id = Client::initialize(pinring.address());
    for step in ["\"none\", \"file:2\"", "\"file:2\", \"none\""] {
        pinring.reload(&toml(&[("a", &a)], &format!("secrets = [{step}]")));
        serves(&pinring, &id);
    }
    pinring.reload(&secret_toml(&a, &["2"], ""));
    let answer = Client::in_session(pinring.address(), &id);
    assert_eq!(told(&answer), (404, "key_removed".to_owned()));
}
