//! The same with the store at a Redis that two proxies share: a real one, from Debian's packages.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    SOON, answer, call, call_until_lost, handshakes, header, mark, open_at, server, server_that,
};
use crate::support::{Backend, Client, Closed, Pinring, anywhere, eventually, listing};

/// A Redis that keeps nothing when it is gone.
struct Redis {
    address: SocketAddr,
    child: Child,
}

impl Redis {
    fn start() -> Self {
        Self::on(Closed::new().address())
    }

    fn on(address: SocketAddr) -> Self {
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let child = Command::new("redis-server")
            .args([
                "--bind",
                &ip,
                "--port",
                &port,
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed: apt-get install redis-server");
        eventually("redis listens", || TcpStream::connect(address).is_ok());
        Self { address, child }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Two proxies in front of the same backends, with the same store.
fn two(backends: &[&Backend], redis: &Redis) -> [Pinring; 2] {
    [(); 2].map(|()| one(&Pinring::backends(backends), redis))
}

fn one(backends: &str, redis: &Redis) -> Pinring {
    let store = format!("[store]\nurl = \"redis://{}\"\n{SOON}", redis.address);
    let pinring = Pinring::start(&format!("{backends}\n{store}"));
    pinring.wait_for_log("the session store is there");
    pinring
}

/// Waits until the store has what was recorded a moment ago: nobody waits for that.
fn recorded(redis: &Redis, sessions: usize) {
    // No redis-cli: a process that is just being started holds the ports of other tests' backends for a moment.
    let count = || {
        let mut stream = TcpStream::connect(redis.address).unwrap();
        stream.write_all(b"KEYS pinring:1:session:*\r\n").unwrap();
        let mut length = String::new();
        BufReader::new(stream).read_line(&mut length).unwrap();
        length.trim_start_matches('*').trim().parse() == Ok(sessions)
    };
    eventually("the sessions are recorded", count);
}

/// Waits until the store has been away for too long.
fn not_found_at_last(address: SocketAddr, id: &str) {
    eventually("the session is not found", || {
        let answer = call(address, id);
        if answer.status == 503 {
            assert_eq!(answer.reason(), "not_reinitialized");
        }
        answer.status == 404
    });
}

/// A proxy that knows `backend` alone: when it has seen the session's place for longer than its grace, and never on its
/// list, the session goes on there.
fn goes_on_after_its_grace((name, backend): (&str, &Backend), redis: &Redis, id: &str) -> Pinring {
    let backends = listing(&[(name, backend, "")]);
    let pinring = one(
        &format!("{backends}[pool]\nunknown_grace = \"1s\"\n"),
        redis,
    );
    assert_eq!(call(pinring.address(), id).reason(), "unknown_coordinate");
    let answer = call(pinring.address(), id);
    assert_eq!(
        (&*answer.text(), mark(&answer)),
        (&*format!("{name}:1"), Some("reinitialized"))
    );
    pinring
}

#[test]
fn requests_of_one_session_at_two_proxies_cause_one_handshake() {
    let redis = Redis::start();
    let a = server("a", anywhere());
    let address = a.address();
    let [one, other] = two(&[&a], &redis);
    let id = open_at("a", one.address());
    recorded(&redis, 1);
    drop(a);
    let back = server_that("a", address, |request| {
        if super::method_of(request) == "initialize" {
            std::thread::sleep(Duration::from_millis(300));
        }
        None
    });
    let calls: Vec<_> = (0..8)
        .map(|number| {
            let pinring = if number % 2 == 0 { &one } else { &other };
            let (address, id) = (pinring.address(), id.clone());
            std::thread::spawn(move || call(address, &id))
        })
        .collect();
    for call in calls {
        let answer = call.join().unwrap();
        assert_eq!((answer.status, mark(&answer)), (200, Some("reinitialized")));
        assert_eq!(answer.header("mcp-session-id"), Some(&*id));
    }
    assert_eq!(handshakes(&back), 1);
    for (number, pinring) in (9..).zip([&one, &other]) {
        assert_eq!(call(pinring.address(), &id).text(), format!("a:{number}"));
    }
}

#[test]
fn where_a_session_went_is_known_to_the_other_proxy_and_after_a_restart() {
    let redis = Redis::start();
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let [first, other] = two(&[&a, &b], &redis);
    let id = open_at("a", first.address());
    recorded(&redis, handshakes(&a) + handshakes(&b));
    drop(a);
    assert_eq!(call_until_lost(first.address(), &id).text(), "b:1");
    let from_other = call_until_lost(other.address(), &id);
    assert_eq!(from_other.text(), "b:2");
    drop(first);
    drop(other);
    let again = one(&listing(&[("b", &b, "")]), &redis);
    let after = call(again.address(), &id);
    assert_eq!((after.status, &*after.text()), (200, "b:3"));
}

#[test]
fn after_a_restart_a_session_of_a_backend_that_is_long_gone_goes_on_when_its_grace_is_over() {
    let redis = Redis::start();
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let [first, _] = two(&[&a, &b], &redis);
    let id = open_at("a", first.address());
    recorded(&redis, handshakes(&a) + handshakes(&b));
    drop((a, first));
    let _again = goes_on_after_its_grace(("b", &b), &redis, &id);
}

#[test]
fn a_session_whose_new_place_stays_unknown_here_goes_on_when_its_grace_is_over() {
    let redis = Redis::start();
    let (a, b, c) = (
        server("a", anywhere()),
        server("b", anywhere()),
        server("c", anywhere()),
    );
    let [first, _] = two(&[&a, &b], &redis);
    let id = open_at("a", first.address());
    recorded(&redis, handshakes(&a) + handshakes(&b));
    drop(a);
    assert_eq!(call_until_lost(first.address(), &id).text(), "b:1");
    drop(first);
    let again = goes_on_after_its_grace(("c", &c), &redis, &id);
    assert_eq!(call(again.address(), &id).text(), "c:2");
}

#[test]
fn a_session_that_moved_outlives_a_store_that_is_away_for_less_than_loss_after() {
    let redis = Redis::start();
    let a = server("a", anywhere());
    let address = a.address();
    let backends = format!(
        "{}\n[pool]\nloss_after = \"60s\"\n",
        Pinring::backends(&[&a])
    );
    let [first, other] = [(); 2].map(|()| one(&backends, &redis));
    let id = open_at("a", first.address());
    recorded(&redis, 1);
    drop(a);
    let _back = server("a", address);
    assert_eq!(call(first.address(), &id).text(), "a:1");
    redis.signal("STOP");
    // At the first time it is waited for, at the second it is known to be away.
    for _ in 0..2 {
        let answer = call(other.address(), &id);
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1"))
        );
        assert_eq!(answer.reason(), "not_reinitialized");
    }
    other.wait_for_log("the session store is away");
    redis.signal("CONT");
    other.wait_for_log("\"again\":true");
    assert_eq!(call(other.address(), &id).text(), "a:2");
}

#[test]
fn a_backend_that_returns_takes_nothing_back_from_another_proxy_s_handshake() {
    let redis = Redis::start();
    let known = std::sync::Arc::default();
    let start = |address| {
        let known = std::sync::Arc::clone(&known);
        Backend::on(address, move |request, stream| {
            std::io::Write::write_all(stream, &answer("a", request, &known)).is_ok()
        })
    };
    let a = start(anywhere());
    let (address, b) = (a.address(), server("b", anywhere()));
    let [one, other] = two(&[&a, &b], &redis);
    let (id, second) = (open_at("a", one.address()), open_at("a", other.address()));
    drop(a);
    assert_eq!(call_until_lost(one.address(), &id).text(), "b:1");
    call_until_lost(other.address(), &second);
    let _back = start(address);
    for pinring in [&one, &other] {
        pinring.wait_for_log("healthy again");
    }
    assert_eq!(call(other.address(), &id).text(), "b:2");
}

#[test]
fn a_session_ended_at_one_proxy_is_not_brought_back_by_the_other() {
    let redis = Redis::start();
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let [one, other] = two(&[&a, &b], &redis);
    let id = open_at("a", one.address());
    let opened = handshakes(&a) + handshakes(&b);
    recorded(&redis, opened);
    assert_eq!(
        Client::once(other.address(), "DELETE", &header(&id), "").status,
        200
    );
    recorded(&redis, opened - 1);
    drop(a);
    for pinring in [&one, &other] {
        assert_eq!(call_until_lost(pinring.address(), &id).status, 404);
    }
}

#[test]
fn without_the_store_moved_sessions_go_on_and_others_are_not_found_until_it_is_back() {
    let redis = Redis::start();
    let a = server("a", anywhere());
    let (a_address, redis_address) = (a.address(), redis.address);
    let [one, other] = two(&[&a], &redis);
    let (moved, lost) = (open_at("a", one.address()), open_at("a", one.address()));
    recorded(&redis, 2);
    drop(a);
    let _back = server("a", a_address);
    assert_eq!(call(one.address(), &moved).text(), "a:1");
    drop(redis);
    one.wait_for_log("the session store is away");
    not_found_at_last(one.address(), &lost);
    assert_eq!(call(one.address(), &moved).text(), "a:2");
    let new = open_at("a", one.address());
    assert_eq!(call(other.address(), &new).text(), "a:1");

    let again = Redis::on(redis_address);
    one.wait_for_log("\"again\":true");
    let recent = open_at("a", one.address());
    recorded(&again, 1);
    drop(_back);
    let _back = server("a", a_address);
    assert_eq!(call(one.address(), &recent).text(), "a:1");
    for said in ["the session store is away", "\"again\":true"] {
        let lines = one.log();
        assert_eq!(
            lines.iter().filter(|line| line.contains(said)).count(),
            1,
            "{said}"
        );
    }
}

#[test]
fn a_store_that_hangs_holds_nobody_up() {
    let redis = Redis::start();
    let a = server("a", anywhere());
    let address = a.address();
    let [one, _] = two(&[&a], &redis);
    let id = open_at("a", one.address());
    recorded(&redis, 1);
    drop(a);
    let _back = server("a", address);
    redis.signal("STOP");
    let timed = |id: &str| {
        let began = Instant::now();
        (call(one.address(), id).status, began.elapsed())
    };
    let (status, first) = timed(&id);
    assert_eq!(status, 503);
    assert!(first < Duration::from_millis(1500), "{first:?}");
    one.wait_for_log("the session store is away");
    not_found_at_last(one.address(), &id);
    let (status, second) = timed(&id);
    assert_eq!(status, 404);
    assert!(second < Duration::from_millis(200), "{second:?}");
    redis.signal("CONT");
    one.wait_for_log("\"again\":true");
    assert_eq!(timed(&id).0, 200);
}

#[test]
fn a_process_starts_without_its_store() {
    let closed = crate::support::Closed::new();
    let a = server("a", anywhere());
    let url = format!("redis://user:sesame@{}", closed.address());
    let pinring = Pinring::before(&[&a], &format!("[store]\nurl = \"{url}\"\n{SOON}"));
    pinring.wait_for_log("the session store is away");
    let id = open_at("a", pinring.address());
    assert_eq!(call(pinring.address(), &id).text(), "a:1");
    assert!(!pinring.log().iter().any(|line| line.contains("sesame")));
}
