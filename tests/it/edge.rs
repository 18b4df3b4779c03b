//! What pinring does at the limits of connections and of open files, how it counts what was refused, and what idle and
//! stuck clients cost it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{
    Answer, Backend, Client, ONE_THREAD, Pinring, Received, administrated, ask, eventually, ok,
    request,
};

const MODERN: &str =
    "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: x\r\n";

fn with_admin(backend: &Backend, toml: &str) -> Pinring {
    administrated(&format!("{}\n{toml}", Pinring::backends(&[backend])))
}

/// How often each limit was reached.
fn reached(pinring: &Pinring) -> Value {
    let (status, limits) = ask(&pinring.admin(), "GET", "/limits", "");
    assert_eq!(status, 200);
    limits["reached"].clone()
}

fn is_refused(answer: &Answer, reason: &str) {
    assert_eq!((answer.status, &*answer.reason()), (503, reason));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("connection"), Some("close"));
}

#[test]
fn a_connection_beyond_a_limit_is_told_so_and_a_later_one_served() {
    for (limit, key, reason) in [
        ("connections = 2", "limits.connections", "connections_full"),
        (
            "connections_per_address = 2",
            "limits.connections_per_address",
            "address_connections_full",
        ),
    ] {
        let backend = Backend::answering(ok("", "a"));
        let pinring = with_admin(&backend, &format!("[limits]\n{limit}\n"));
        let mut served = [(); 2].map(|()| Client::connect(pinring.address()));
        for client in &mut served {
            assert_eq!(client.call("POST", "", "{}").status, 200);
        }
        for _ in 0..3 {
            let mut client = Client::connect(pinring.address());
            is_refused(&client.call("POST", "", "{}"), reason);
            assert!(client.is_closed());
        }
        // Who says nothing is not waited for as others are.
        let begun = Instant::now();
        assert!(Client::connect(pinring.address()).is_closed());
        assert!(begun.elapsed() < Duration::from_secs(8));
        assert_eq!(reached(&pinring)[key], 4);
        for client in &mut served {
            assert_eq!(client.call("POST", "", "{}").status, 200);
        }
        drop(served);
        eventually("there is room again", || {
            Client::once(pinring.address(), "POST", "", "{}").status == 200
        });
    }
}

#[test]
fn far_more_connections_than_are_told_are_closed_at_once() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = with_admin(&backend, "[limits]\nconnections = 1\n");
    let mut served = Client::connect(pinring.address());
    served.call("POST", "", "{}");
    let mut others: Vec<Client> = (0..200)
        .map(|_| Client::connect(pinring.address()))
        .collect();
    assert!(others.iter_mut().all(Client::is_closed));
    assert_eq!(reached(&pinring)["limits.connections"], 200);
    assert!(pinring.find_logs("refused").len() < 100);
    assert_eq!(served.call("POST", "", "{}").status, 200);
}

#[test]
fn each_limit_counts_what_it_has_refused() {
    let backend = Backend::stateful("a");
    let pinring = with_admin(
        &backend,
        "[limits]\ntarget_bytes = \"1KiB\"\nsessions_per_backend = 1\nheader_bytes = \"8KiB\"\nbody_bytes = \"1KiB\"\n\
         [timeouts]\nrequest_head = \"300ms\"\nrequest_body_idle = \"300ms\"\nkeep_alive = \"500ms\"\n",
    );
    let once = |bytes: &str| {
        let mut client = Client::connect(pinring.address());
        client.send_what_is_taken(bytes).answer().status
    };
    let get = |target: &str, headers: &str| {
        once(&format!(
            "GET {target} HTTP/1.1\r\nhost: a\r\n{headers}\r\n"
        ))
    };
    let long = "x".repeat(17_000);
    assert_eq!(get(&format!("/{}", "x".repeat(2000)), ""), 414);
    assert_eq!(get("/mcp", &"x: y\r\n".repeat(81)), 431);
    assert_eq!(get("/mcp", &format!("x: {}\r\n", "x".repeat(9000))), 431);
    assert_eq!(get("/mcp", &format!("x: {long}\r\n")), 431, "hyper's own");
    assert_eq!(once("GET /mcp HTTP/1.1\r\nhost: a\r\n"), 408);
    assert_eq!(
        once("POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{"),
        408
    );
    let mut idle = Client::connect(pinring.address());
    let opened = idle.call("POST", "", "{}");
    let id = opened.header("mcp-session-id").unwrap();
    assert_eq!(once(&request("POST", "", "{}")), 503);
    assert!(idle.is_closed());
    let in_session = format!("{MODERN}mcp-session-id: {id}\r\n");
    assert_eq!(
        once(&request("POST", &in_session, &long)),
        200,
        "it passes unread"
    );
    let counted = reached(&pinring);
    for (key, times) in [
        ("limits.target_bytes", 1),
        ("limits.headers", 1),
        ("limits.header_bytes", 2),
        ("timeouts.request_head", 1),
        ("timeouts.request_body_idle", 1),
        ("timeouts.keep_alive", 1),
        ("limits.sessions_per_backend", 1),
        ("limits.body_bytes", 1),
        ("limits.sessions_per_principal", 0),
        ("limits.connections", 0),
        ("open_files", 0),
    ] {
        assert_eq!(counted[key], times, "{key} in {counted}");
    }
    let by_address = "[limits]\nsessions_per_principal = 1\nprincipal = \"address\"\n";
    let pinring = with_admin(&backend, by_address);
    Client::initialize(pinring.address());
    let full = Client::once(pinring.address(), "POST", "", "{}");
    assert_eq!(full.status, 503);
    assert_eq!(reached(&pinring)["limits.sessions_per_principal"], 1);
}

#[test]
fn without_open_files_connections_wait_and_are_served_when_there_are_some() {
    let backend = Backend::answering(ok("", "a"));
    let pinring = with_admin(&backend, "");
    assert_eq!(
        Client::once(pinring.address(), "POST", "", "{}").status,
        200
    );
    pinring.allow_open_files(8);
    let crowd = || -> Vec<Client> {
        let connect = |_| Client::connect(pinring.address());
        (0..30).map(connect).collect()
    };
    let waiting = crowd();
    pinring.wait_for_log("cannot accept connections");
    let mut last = Client::connect(pinring.address());
    last.send(request("POST", "", "{}"));

    let (before, period) = (pinring.computing_time(), Duration::from_secs(2));
    assert!(last.is_quiet_for(period));
    let took = pinring.computing_time() - before;
    assert!(took <= 10, "{took} hundredths of a second in {period:?}");

    let served_after = |mut last: Client, waiting: Vec<Client>| {
        let released = Instant::now();
        drop(waiting);
        assert_eq!(last.answer().status, 200);
        released.elapsed()
    };
    // It looks again after 0.2 s at the latest. Other tests want the processors meanwhile: one time in five is enough, for
    // who looked only after 0.5 s would be late each time.
    let mut waits = vec![served_after(last, waiting)];
    while waits.iter().min() > Some(&Duration::from_millis(500)) && waits.len() < 5 {
        let waiting = crowd();
        let mut last = Client::connect(pinring.address());
        last.send(request("POST", "", "{}"));
        assert!(
            last.is_quiet_for(Duration::from_secs(1)),
            "the pause is the longest by then"
        );
        waits.push(served_after(last, waiting));
    }
    assert!(
        waits.iter().min() <= Some(&Duration::from_millis(500)),
        "{waits:?}"
    );
    assert_eq!(reached(&pinring)["open_files"], 1);
    let told = pinring
        .log()
        .iter()
        .filter(|line| line.contains("cannot accept"))
        .count();
    assert_eq!(told, 1);
}

#[test]
fn connections_beyond_the_open_files_are_refused_at_start_and_the_default_is_lowered() {
    let allowed = ["prlimit", "--nofile=256:1000"];
    let pinring = Pinring::start_by(
        &allowed,
        "backends = [{ url = \"http://127.0.0.1:9\" }]\n[server]\nlisten = \"127.0.0.1:0\"\nthreads = 2\n",
    );
    assert_eq!(pinring.open_files_allowed(), (1000, 1000));
    pinring.wait_for_log("limits.connections is 428 instead of 20000");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pinring.toml");
    let toml = "backends = [{ url = \"http://127.0.0.1:9\" }]\n[server]\nthreads = 2\n[limits]\nconnections = 429\n";
    std::fs::write(&file, toml).unwrap();
    let binary = env!("CARGO_BIN_EXE_pinring");
    let run = |how: &str| {
        let mut command = Command::new(allowed[0]);
        command.args([allowed[1], binary, how]).arg(&file);
        command.output().unwrap()
    };
    let failed = run("--config");
    let said = String::from_utf8(failed.stderr).unwrap();
    assert_eq!(failed.status.code(), Some(64), "{said}");
    for part in [
        "pinring.toml:5: limits.connections",
        "ulimit -n",
        "write 428 or less",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    // The machine where it is checked may be another one.
    assert!(run("check").status.success());
}

/// Asks once on a connection that stays open.
fn used_once(pinring: &Pinring) -> TcpStream {
    let mut client = Client::connect(pinring.address());
    assert_eq!(client.call("POST", "", "{}").status, 200);
    client.stream
}

#[test]
fn an_idle_connection_costs_less_than_8_kib() {
    const CONNECTIONS: usize = 5000;
    rlimit::increase_nofile_limit(CONNECTIONS as u64 + 2000).unwrap();
    let backend = Backend::answering(ok("", "a"));
    for uses in [0, 1] {
        let pinring = Pinring::before(&[&backend], "");
        drop(used_once(&pinring));
        let before = pinring.share_of_memory();
        let idle: Vec<TcpStream> = (0..CONNECTIONS)
            .map(|_| match uses {
                0 => TcpStream::connect(pinring.address()).unwrap(),
                _ => used_once(&pinring),
            })
            .collect();
        eventually("each costs less than 8 KiB", || {
            pinring.share_of_memory() < before + 8 * CONNECTIONS
        });
        eprintln!(
            "{} KiB for {CONNECTIONS} connections that were used {uses} times",
            pinring.share_of_memory() - before
        );
        drop(idle);
    }
}

/// An answer that comes as its request's headers say.
struct Kind {
    name: &'static str,
    method: &'static str,
    headers: &'static str,
    media_type: &'static str,
    with_length: bool,
}

const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

const KINDS: [Kind; 6] = [
    Kind {
        name: "an answer with a length",
        method: "POST",
        headers: "",
        media_type: JSON,
        with_length: true,
    },
    Kind {
        name: "the stream of a POST",
        method: "POST",
        headers: "",
        media_type: EVENTS,
        with_length: false,
    },
    Kind {
        name: "a GET stream, which may name an endpoint",
        method: "GET",
        headers: "",
        media_type: EVENTS,
        with_length: false,
    },
    Kind {
        name: "a modern answer with a length",
        method: "POST",
        headers: MODERN,
        media_type: JSON,
        with_length: true,
    },
    Kind {
        name: "a modern answer in chunks",
        method: "POST",
        headers: MODERN,
        media_type: JSON,
        with_length: false,
    },
    Kind {
        name: "a modern stream",
        method: "POST",
        headers: MODERN,
        media_type: EVENTS,
        with_length: false,
    },
];

const OFFERED: usize = 1 << 30;

/// Answers with `x-wish: INDEX` get that kind, with `x-small` a short one.
fn generous() -> (Backend, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let backend = Backend::start(move |request, stream| offer(request, stream, &count).is_ok());
    (backend, written)
}

fn offer(request: &Received, stream: &mut TcpStream, count: &AtomicUsize) -> std::io::Result<()> {
    let kind: usize = request.header("x-kind").unwrap().parse().unwrap();
    let Kind {
        media_type,
        with_length,
        ..
    } = KINDS[kind];
    let event = format!("data: {}\n\n", "x".repeat(32 * 1024 - 8));
    let blocks = match request.header("x-small") {
        Some(_) => 1,
        None => OFFERED / event.len(),
    };
    let framing = if with_length {
        format!("content-length: {}", blocks * event.len())
    } else {
        "transfer-encoding: chunked".to_owned()
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\n{framing}\r\n\r\n"
    )?;
    let block = if with_length {
        event
    } else {
        format!("{:x}\r\n{event}\r\n", event.len())
    };
    for _ in 0..blocks {
        stream.write_all(block.as_bytes())?;
        count.fetch_add(block.len(), Ordering::SeqCst);
    }
    if !with_length {
        stream.write_all(b"0\r\n\r\n")?;
    }
    Ok(())
}

/// Asks for the whole of what is offered, and reads nothing.
fn get_stuck(pinring: &Pinring, kind: usize) -> Client {
    let (small, whole) = requests_of(kind);
    let mut client = Client::connect(pinring.address());
    let socket = socket2::SockRef::from(&client.stream);
    socket.set_recv_buffer_size(64 * 1024).unwrap(); // else the kernel takes megabytes of it
    assert!(client.send(small).answer().complete);
    client.send(whole);
    client
}

/// The requests for a short answer and for all that is offered.
fn requests_of(kind: usize) -> (String, String) {
    let Kind {
        method, headers, ..
    } = KINDS[kind];
    let body = if method == "GET" { "" } else { "{}" };
    let headers = format!("{headers}x-kind: {kind}\r\n");
    let small = request(method, &format!("{headers}x-small: 1\r\n"), body);
    (small, request(method, &headers, body))
}

/// Waits until nothing was written for half a second.
fn settle(count: &AtomicUsize) {
    let (mut last, mut since) = (usize::MAX, Instant::now());
    eventually("the backend is held back", || {
        let now = count.load(Ordering::SeqCst);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(500)
    });
}

/// Ordinary requests, and a client that reads some of what is offered: what is paid once, is paid then.
fn warm_up(pinring: &Pinring, kind: usize) {
    let (small, whole) = requests_of(kind);
    let mut ordinary = Client::connect(pinring.address());
    for _ in 0..20 {
        assert!(ordinary.send(&small).answer().complete);
    }
    ordinary.send(&whole);
    let mut read = vec![0; 1 << 20];
    for _ in 0..32 {
        ordinary.stream.read_exact(&mut read).unwrap();
    }
}

#[test]
fn a_client_alone_that_does_not_read_costs_less_than_256_kib() {
    let (backend, written) = generous();
    for (kind, Kind { name, .. }) in KINDS.iter().enumerate() {
        let pinring = Pinring::before(&[&backend], ONE_THREAD);
        warm_up(&pinring, kind);
        settle(&written);
        let mut stuck = Vec::new();
        let costs = [(); 10].map(|()| {
            let before = pinring.share_of_memory();
            stuck.push(get_stuck(&pinring, kind));
            settle(&written);
            pinring.share_of_memory().saturating_sub(before)
        });
        eprintln!("{name}: {costs:?} KiB");
        assert!(
            costs.iter().all(|cost| *cost <= 256),
            "{name}: {costs:?} KiB"
        );
    }
}

#[test]
fn clients_that_do_not_read_cost_less_than_192_kib_each() {
    const STUCK: usize = 100;
    let (backend, written) = generous();
    for (kind, Kind { name, .. }) in KINDS.iter().enumerate() {
        let pinring = Pinring::before(
            &[&backend],
            "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\n",
        );
        drop(get_stuck(&pinring, kind)); // what is paid once
        settle(&written);
        let before = pinring.share_of_memory();
        let stuck: Vec<Client> = (0..STUCK).map(|_| get_stuck(&pinring, kind)).collect();
        settle(&written);
        let all = pinring.share_of_memory().saturating_sub(before);
        eprintln!("{name}: {all} KiB for {STUCK}");
        assert!(all <= 192 * STUCK, "{name}: {all} KiB");
        assert_eq!(
            Client::once(
                pinring.address(),
                "POST",
                "x-kind: 0\r\nx-small: 1\r\n",
                "{}"
            )
            .status,
            200
        );
        drop(stuck);
    }
}
