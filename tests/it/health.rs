//! Backends that go and come back: what their sessions are told, and where new work goes meanwhile.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    Backend, Client, Closed, ONE_THREAD, Pinring, Unreachable, anywhere, eventually, listing, ok,
};

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
    pinring.wait_for_log("healthy again");
    assert_eq!(ask(&pinring, &id), (200, "a".into()));
}

/// How long it took at most until the return of a backend was seen. Each comes back at another moment between two
/// probes.
fn longest_until_seen() -> Duration {
    const APART: Duration = Duration::from_millis(80);
    let gone: Vec<Closed> = (0..10).map(|_| Closed::new()).collect();
    let entry = |(number, gone): (usize, &Closed)| {
        let address = gone.address();
        format!("{{ name = \"s{number}\", url = \"http://{address}\" }}")
    };
    let entries: Vec<String> = gone.iter().enumerate().map(entry).collect();
    let backends = format!("backends = [{}]\n", entries.join(", "));
    let pinring = Pinring::start(&format!("{backends}[timeouts]\nconnect = \"100ms\"\n"));
    eventually("all are suspects", || {
        place(&pinring);
        pinring.find_logs("seen").len() == gone.len()
    });
    let seen = |name: &str| {
        let mut logs = pinring.find_logs("backend").into_iter();
        logs.any(|line| line["message"] == "healthy again" && line["backend"] == name)
    };
    let measure = |(number, gone): (u32, &Closed)| {
        std::thread::sleep(APART * number);
        gone.open();
        let began = Instant::now();
        eventually("it is seen", || seen(&format!("s{number}")));
        began.elapsed()
    };
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let measuring: Vec<_> = (0..)
            .zip(&gone)
            .map(|one| scope.spawn(move || measure(one)))
            .collect();
        let times = measuring.into_iter().map(|one| one.join().unwrap());
        times.collect()
    });
    eprintln!("seen after {times:.0?}");
    times.into_iter().max().unwrap()
}

#[test]
fn the_return_of_a_backend_is_seen_within_half_a_second() {
    // The rest is for this test to notice it. On a busy machine one attempt may be late.
    let limit = Duration::from_millis(500 + 50);
    assert!((0..3).any(|_| longest_until_seen() < limit));
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
fn a_probed_path_must_be_answered_as_expected() {
    let a = server("a", anywhere());
    let (address, b) = (a.address(), server("b", anywhere()));
    let pinring = Pinring::before(
        &[&a, &b],
        "[pool]\nprobe_path = \"/ready\"\nprobe_status = \"204, 401\"\n",
    );
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
        stream.write_all(&ok("", "another's page")).is_ok()
    });
    eventually("it was probed twice", || busy.received().len() >= 2);
    for _ in 0..10 {
        assert_eq!(
            Client::once(pinring.address(), "POST", "", "{}").text(),
            "b"
        );
    }
    drop(busy);
    let denies = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
    let _back = Backend::on(address, move |_, stream| stream.write_all(denies).is_ok());
    pinring.wait_for_log("healthy again");
}

fn logged(pinring: &Pinring, text: &str) -> bool {
    pinring.log().iter().any(|line| line.contains(text))
}

/// New work that was answered, and by whom.
fn place(pinring: &Pinring) -> (u16, String) {
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    (answer.status, answer.text())
}

#[test]
fn only_suspects_are_probed_and_without_a_byte() {
    let (a, b) = (server("a", anywhere()), server("b", anywhere()));
    let address = b.address();
    let pinring = Pinring::before(&[&a, &b], ONE_THREAD);
    drop(b);
    while !logged(&pinring, "suspect") {
        place(&pinring);
    }
    let (asked, connected) = (a.received().len(), a.connections());
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&bytes);
    let back = Backend::raw(address, move |mut stream, _| {
        let mut read = Vec::new();
        let _end = stream.read_to_end(&mut read);
        sink.lock().unwrap().push(read);
    });
    pinring.wait_for_log("healthy again");
    eventually("the probe has left", || !bytes.lock().unwrap().is_empty());
    assert!(bytes.lock().unwrap().iter().all(Vec::is_empty));
    assert_eq!(back.connections(), 1, "and who is healthy is left alone");
    assert_eq!((a.received().len(), a.connections()), (asked, connected));
}

#[test]
fn who_cannot_be_reached_has_more_time_than_who_refuses_and_is_found_when_he_is_back() {
    let elsewhere = server("a", anywhere());
    let id = Client::initialize(Pinring::before(&[&elsewhere], "").address());
    let cut = Unreachable::new();
    let pinring = Pinring::start(&format!(
        "backends = [{{ name = \"a\", url = \"http://{}\" }}]\n[timeouts]\nconnect = \"300ms\"\n\
         [affinity]\nloss_after = \"1s\"\nunreachable_after = \"2500ms\"\n",
        cut.address()
    ));
    let began = Instant::now();
    assert_eq!(ask(&pinring, &id), (503, "connect_timeout".into()));
    pinring.wait_for_log("down for too long");
    assert!(began.elapsed() > Duration::from_millis(2500));
    assert_eq!(ask(&pinring, &id), (404, "backend_lost".into()));

    let _back = cut.heal(ok("", "a"));
    pinring.wait_for_log("healthy again");
    assert_eq!(ask(&pinring, &id), (200, "a".into()));
}

#[test]
fn when_nobody_can_be_reached_the_answer_comes_at_once() {
    let cut = [(); 3].map(|()| Unreachable::new());
    let entries = cut
        .each_ref()
        .map(|cut| format!("{{ url = \"http://{}\" }}", cut.address()));
    let pinring = Pinring::start(&format!(
        "backends = [{}]\n[timeouts]\nconnect = \"300ms\"\n",
        entries.join(", ")
    ));
    eventually("it is known", || {
        let began = Instant::now();
        let answer = Client::once(pinring.address(), "POST", "", "{}");
        assert_eq!((answer.status, &*answer.reason()), (503, "connect_timeout"));
        began.elapsed() < Duration::from_millis(100)
    });
}

/// A server whose answers to `initialize` are these bytes, after which it closes; its sessions are served.
fn opening_with(bytes: &'static [u8]) -> Backend {
    Backend::start(move |request, stream| {
        if request.header("mcp-session-id").is_some() {
            return stream.write_all(&ok("", "still here")).is_ok();
        }
        let _sent = stream.write_all(bytes);
        false
    })
}

#[test]
fn who_resets_one_request_after_the_other_gets_no_new_work_and_keeps_its_sessions() {
    let (crashes, b) = (opening_with(b""), server("b", anywhere()));
    let pinring = Pinring::before(&[&crashes, &b], "");
    let id = Client::initialize(Pinring::before(&[&server("a", anywhere())], "").address());
    let mut resets = 0;
    while resets < 2 {
        resets += usize::from(place(&pinring).0 == 502);
    }
    pinring.wait_for_log("suspect");
    for _ in 0..20 {
        assert_eq!(place(&pinring), (200, "b".into()));
    }
    assert_eq!(ask(&pinring, &id), (200, "still here".into()));
}

#[test]
fn who_answers_what_is_no_http_is_not_left_out_for_it() {
    let (odd, b) = (opening_with(b"nonsense\r\n\r\n"), server("b", anywhere()));
    let pinring = Pinring::before(&[&odd, &b], "");
    eventually("it was asked again and again", || {
        place(&pinring);
        odd.received().len() >= 5
    });
    assert!(!logged(&pinring, "suspect"));
}

#[test]
fn a_server_that_is_at_work_for_too_long_is_never_lost() {
    let busy = Arc::new(AtomicBool::new(true));
    let works = Arc::clone(&busy);
    let a = Backend::start(move |request, stream| {
        let opens = request.header("mcp-session-id").is_none();
        if opens || !works.load(Ordering::SeqCst) {
            let answer = ok("mcp-session-id: id\r\n", "a");
            return stream.write_all(&answer).is_ok();
        }
        let _left = stream.read(&mut [0]); // until the client has given up
        false
    });
    let toml = "[timeouts]\nresponse_head = \"150ms\"\n[affinity]\nloss_after = \"300ms\"\nunreachable_after = \"300ms\"\n";
    let b = server("b", anywhere());
    let pinring = Pinring::before(&[&a, &b], toml);
    let mut id = String::new();
    eventually("a session of a", || {
        let answer = Client::once(pinring.address(), "POST", "", "{}");
        id = answer.header("mcp-session-id").unwrap().to_owned();
        answer.text() == "a"
    });
    for _ in 0..8 {
        assert_eq!(ask(&pinring, &id), (504, "backend_timeout".into()));
    }
    assert!(
        !logged(&pinring, "suspect"),
        "time-outs of sessions say nothing about new work"
    );
    busy.store(false, Ordering::SeqCst);
    assert_eq!(ask(&pinring, &id), (200, "a".into()));
}

#[test]
fn the_last_open_backend_gets_new_work_however_it_fares() {
    let asked = AtomicUsize::new(0);
    let only = Backend::start(move |_, stream| {
        let hangs = asked.fetch_add(1, Ordering::SeqCst) < 4;
        hangs || stream.write_all(&ok("", "only")).is_ok()
    });
    let (draining, toml) = (
        server("b", anywhere()),
        "[timeouts]\nopen_head = \"100ms\"\n",
    );
    let backends = listing(&[("only", &only, ""), ("b", &draining, ", draining = true")]);
    let pinring = Pinring::start(&format!("{backends}{toml}"));
    for _ in 0..4 {
        assert_eq!(place(&pinring).0, 504);
    }
    pinring.wait_for_log("suspect");
    assert_eq!(place(&pinring), (200, "only".into()));
}

#[test]
fn a_backend_s_own_404_is_passed_on_and_nobody_else_is_asked() {
    for on_loss in ["not-found", "successor"] {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\nno memory";
        let forgets = Backend::start(move |request, stream| {
            let known = request.header("mcp-session-id").is_none();
            let issues = ok("mcp-session-id: id\r\n", "forgets");
            stream
                .write_all(if known { &issues } else { answer })
                .is_ok()
        });
        let b = server("b", anywhere());
        let toml = format!("[pool]\non_loss = \"{on_loss}\"\n[limits]\nsessions_per_backend = 1\n");
        let pinring = Pinring::before(&[&forgets, &b], &toml);
        let ids = [(); 2].map(|()| Client::initialize(pinring.address()));
        assert_eq!(place(&pinring).0, 503, "each has its one session");
        let before = b.received().len();
        let gone = ids
            .iter()
            .map(|id| Client::in_session(pinring.address(), id))
            .find(|answer| answer.status == 404)
            .unwrap();
        assert_eq!(
            (gone.text(), gone.header("content-type")),
            ("no memory".into(), Some("text/plain"))
        );
        assert!(
            b.received().len() <= before + 1,
            "its own session's request alone"
        );
        assert_eq!(
            place(&pinring),
            (200, "forgets".into()),
            "there is room again"
        );
    }
}

/// How long after the end of a partition the backend counts as well.
fn time_to_heal() -> Duration {
    let cut = Unreachable::new();
    let pinring = Pinring::start(&format!(
        "backends = [{{ url = \"http://{}\" }}]\n[timeouts]\nconnect = \"2s\"\n",
        cut.address()
    ));
    assert_eq!(place(&pinring).0, 503);
    pinring.wait_for_log("suspect");
    // Now the first probe's packet is lost, and TCP is to send the next one in a second.
    std::thread::sleep(Duration::from_millis(500));
    let healed = Instant::now();
    let _back = cut.heal(ok("", "a"));
    pinring.wait_for_log("healthy again");
    healed.elapsed()
}

#[test]
fn the_end_of_a_partition_is_seen_before_tcp_sends_again() {
    // On a busy machine one attempt may be late.
    let times: Vec<Duration> = (0..3).map(|_| time_to_heal()).collect();
    let limit = Duration::from_millis(600);
    assert!(times.iter().any(|time| *time < limit), "{times:?}");
}
