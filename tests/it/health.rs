//! Backends that go and come back: what their sessions are told, and where new work goes meanwhile.

use std::{
    io::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::support::{Backend, Client, Pinring, anywhere, eventually, ok};

const SOON: &str = "[affinity]\nloss_after = \"1s\"\n[timeouts]\nconnect = \"300ms\"\n";

/// A server that answers every request by its name and issues one id to those that have none.
fn server(name: &'static str, address: SocketAddr) -> Backend {
    Backend::on(address, move |request, stream| {
        let id = request.header("mcp-session-id").unwrap_or("id");
        stream
            .write_all(&ok(&format!("mcp-session-id: {id}\r\n"), name))
            .is_ok()
    })
}

fn ask(pinring: &Pinring, id: &str) -> (u16, String) {
    let answer = Client::once(
        pinring.address(),
        "POST",
        &format!("Mcp-Session-Id: {id}\r\n"),
        "{}",
    );
    (
        answer.status,
        if answer.status == 200 {
            answer.text()
        } else {
            answer.reason()
        },
    )
}

#[test]
fn a_killed_backend_costs_new_work_nothing_and_its_sessions_heal_when_it_returns() {
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let address = a.address();
    let pinring = Pinring::before(&[&a, &b], "[timeouts]\nconnect = \"300ms\"\n");
    let id = loop {
        let answer = Client::once(pinring.address(), "POST", "", "{}");
        if answer.text() == "a" {
            break answer.header("mcp-session-id").unwrap().to_owned();
        }
    };
    drop(a);
    assert_eq!(ask(&pinring, &id), (503, "connect_refused".into()));
    pinring.wait_for_log("suspect");
    for _ in 0..20 {
        assert_eq!(
            Client::once(pinring.address(), "POST", "", "{}").text(),
            "b"
        );
    }
    let _back = server("a", address);
    let began = Instant::now();
    pinring.wait_for_log("healthy again");
    assert!(
        began.elapsed() < Duration::from_millis(900),
        "seen after {:?}",
        began.elapsed()
    );
    assert_eq!(ask(&pinring, &id), (200, "a".into()));
}

#[test]
fn who_refuses_for_loss_after_is_lost_and_its_pins_serve_again_when_it_is_back() {
    let a = server("a", anywhere());
    let address = a.address();
    let pinring = Pinring::before(&[&a], SOON);
    let id = Client::initialize(pinring.address());
    drop(a);
    assert_eq!(ask(&pinring, &id).0, 503);
    pinring.wait_for_log("down for too long");
    assert_eq!(ask(&pinring, &id), (404, "backend_lost".into()));
    let _back = server("a", address);
    eventually("it serves again", || {
        ask(&pinring, &id) == (200, "a".into())
    });
}

#[test]
fn with_successor_the_sessions_of_a_lost_backend_go_to_one_other() {
    let (a, b, c) = (
        server("a", anywhere()),
        server("b", anywhere()),
        server("c", anywhere()),
    );
    let pinring = Pinring::before(
        &[&a, &b, &c],
        &format!("{SOON}[pool]\non_loss = \"successor\"\n"),
    );
    let ids: Vec<String> = (0..12)
        .map(|_| Client::initialize(pinring.address()))
        .collect();
    drop(a);
    let owners = |pinring: &Pinring| -> Vec<(u16, String)> {
        ids.iter().map(|id| ask(pinring, id)).collect()
    };
    eventually("all are served", || {
        owners(&pinring).iter().all(|(status, _)| *status == 200)
    });
    let first = owners(&pinring);
    assert!(first.iter().all(|(_, owner)| owner != "a"));
    assert_eq!(first, owners(&pinring));
}

#[test]
fn when_all_have_been_down_for_a_while_the_answer_comes_at_once() {
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let pinring = Pinring::before(&[&a, &b], "[timeouts]\nconnect = \"300ms\"\n");
    let id = Client::initialize(pinring.address());
    drop((a, b));
    for id in ["", &format!("Mcp-Session-Id: {id}\r\n")] {
        eventually("it is known", || {
            let began = Instant::now();
            let answer = Client::once(pinring.address(), "POST", id, "{}");
            assert_eq!(
                (answer.status, answer.header("retry-after")),
                (503, Some("1"))
            );
            began.elapsed() < Duration::from_millis(100)
        });
    }
}

#[test]
fn a_restart_within_the_connect_time_costs_nobody_anything() {
    let a = server("a", anywhere());
    let address = a.address();
    let pinring = Pinring::before(&[&a], "");
    let id = Client::initialize(pinring.address());
    drop(a);
    let asking: Vec<_> = (0..6)
        .map(|number| {
            let (address, id) = (pinring.address(), id.clone());
            let header = if number % 2 == 0 {
                format!("Mcp-Session-Id: {id}\r\n")
            } else {
                String::new()
            };
            std::thread::spawn(move || Client::once(address, "POST", &header, "{}").status)
        })
        .collect();
    pinring.wait_for_log("suspect");
    let _back = server("a", address);
    let statuses: Vec<u16> = asking
        .into_iter()
        .map(|asking| asking.join().unwrap())
        .collect();
    assert_eq!(statuses, [200; 6]);
}

#[test]
fn a_server_that_hangs_gets_no_new_work_and_keeps_its_sessions() {
    let hangs = Backend::start(|request, stream| match request.header("mcp-session-id") {
        Some(_) => stream.write_all(&ok("", "still here")).is_ok(),
        None if request.body.is_empty() => true, // never answered
        None => stream
            .write_all(&ok("mcp-session-id: id\r\n", "hangs"))
            .is_ok(),
    });
    let b = server("b", anywhere());
    let pinring = Pinring::before(&[&hangs, &b], "[timeouts]\nopen_head = \"200ms\"\n");
    let id = loop {
        let answer = Client::once(pinring.address(), "POST", "", "{}");
        if answer.text() == "hangs" {
            break answer.header("mcp-session-id").unwrap().to_owned();
        }
    };
    let mut timeouts = 0;
    while timeouts < 3 {
        timeouts += usize::from(Client::once(pinring.address(), "POST", "", "").status == 504);
    }
    pinring.wait_for_log("suspect");
    for _ in 0..20 {
        assert_eq!(Client::once(pinring.address(), "POST", "", "").text(), "b");
    }
    assert_eq!(ask(&pinring, &id), (200, "still here".into()));
}

#[test]
fn a_probed_path_must_be_answered_by_2xx() {
    let a = server("a", anywhere());
    let (address, b) = (a.address(), server("b", anywhere()));
    let pinring = Pinring::before(&[&a, &b], "[pool]\nprobe_path = \"/ready\"\n");
    drop(a);
    while !pinring.log().iter().any(|line| line.contains("suspect")) {
        Client::once(pinring.address(), "POST", "", "{}");
    }
    let busy = Backend::on(address, |request, stream| {
        assert!(
            request.head.starts_with("GET /ready"),
            "only the probe may come: {}",
            request.head
        );
        stream
            .write_all(b"HTTP/1.1 503 Not Yet\r\ncontent-length: 0\r\n\r\n")
            .is_ok()
    });
    eventually("it was probed twice", || busy.received().len() >= 2);
    for _ in 0..10 {
        assert_eq!(
            Client::once(pinring.address(), "POST", "", "{}").text(),
            "b"
        );
    }
    drop(busy);
    let _back = server("a", address);
    pinring.wait_for_log("healthy again");
}
