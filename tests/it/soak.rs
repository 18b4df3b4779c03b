//! Everything at once, for a while: clients that leave, servers that break, reloads. Nothing may pile up.
//!
//! `cargo test --test it -- --ignored soak`; PINRING_SOAK_SECONDS=1800 is a night's work.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use crate::support::{
    Backend, Chunk, Client, Pinring, Received, anywhere, eventually, ok, request,
};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const CLIENTS: usize = 12;
const LARGE: usize = 1024 * 1024;

const OPTIONS: &str = "[affinity]\nloss_after = \"1s\"\nsession_idle = \"2s\"\nunknown_grace = \"1s\"\ndeparted = \"3s\"\n\
    join_delay = \"200ms\"\n[timeouts]\nconnect = \"300ms\"\nresponse_head = \"2s\"\nstream_comment = \"1s\"\n\
    upstream_keep_alive = \"500ms\"\n";

/// What memory may differ by, in MiB, between a rest early on and one at the end: allocators do not give all back.
const TOLERANCE: u64 = 4;

/// Answers one request, or breaks off; `false` ends the connection.
fn answer(name: &str, issued: &AtomicUsize, request: &Received, stream: &mut TcpStream) -> bool {
    let Some(id) = request.header("mcp-session-id") else {
        let number = issued.fetch_add(1, SeqCst);
        let issue = format!("mcp-session-id: {name}-{number}\r\n");
        return stream.write_all(&ok(&issue, name)).is_ok();
    };
    assert!(
        id.starts_with(&format!("{name}-")),
        "{name} was asked for {id}"
    );
    if request.line().starts_with("GET") {
        return events(stream).is_ok_and(|()| false);
    }
    let bytes = match fastrand::u8(..) {
        0..8 => b"nonsense\r\n\r\n".to_vec(),
        8..16 => format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{name}").into_bytes(),
        16..24 => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n".to_vec(),
        24..32 => [ok("", name), ok("", "nobody asked for this")].concat(),
        32..40 => Vec::new(),
        40..48 => ok("", &format!("{name}{}", "x".repeat(LARGE))),
        _ => return stream.write_all(&ok("", name)).is_ok(),
    };
    stream.write_all(&bytes).is_ok_and(|()| false)
}

/// A stream that ends well half of the time.
fn events(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    for _ in 0..fastrand::u8(..20) {
        stream.write_all(b"9\r\ndata: 1\n\n\r\n")?;
        sleep(Duration::from_millis(fastrand::u64(..30)));
    }
    stream.write_all(if fastrand::bool() {
        b"0\r\n\r\n"
    } else {
        b"3\r\n"
    })
}

fn server(name: &'static str, address: SocketAddr) -> Backend {
    let issued = AtomicUsize::new(fastrand::usize(..) >> 8);
    Backend::raw(address, move |mut stream, number| {
        let mut buffer = Vec::new();
        while let Some(request) = Received::read(&mut stream, &mut buffer, number)
            && answer(name, &issued, &request, &mut stream)
        {}
    })
}

/// What one user does on one connection. Whatever happens, pinring answers what was asked in full.
fn visit(pinring: SocketAddr) {
    let mut client = Client::connect(pinring);
    let opened = client.call("POST", "", "{}");
    let Some(id) = opened.header("mcp-session-id").map(str::to_owned) else {
        assert_eq!(opened.status / 100, 5, "{}", opened.head);
        return;
    };
    let session = format!("Mcp-Session-Id: {id}\r\n");
    for _ in 0..fastrand::u8(1..8) {
        match fastrand::u8(..10) {
            0 => leave(&mut client, &request("POST", &session, "{}")),
            1 => leave(
                &mut client,
                "POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
            ),
            2 => leave(&mut client, "\x16\x03\x01 nonsense\r\n\r\n"),
            3 => {
                client.send_what_is_taken(request("GET", &session, ""));
                if client.head().starts_with("HTTP/1.1 200") {
                    while fastrand::u8(..8) > 0 && matches!(client.chunk(), Chunk::Data(_)) {}
                }
            }
            4 => {
                let body = "x".repeat(LARGE);
                client.send_what_is_taken(request("POST", &session, &body));
                checked(&mut client, &id);
            }
            _ => {
                client.send_what_is_taken(request("POST", &session, "{}"));
                if checked(&mut client, &id) {
                    continue;
                }
            }
        }
        client = Client::connect(pinring); // the last one has come to no good
    }
    if fastrand::bool() {
        client.send_what_is_taken(request("DELETE", &session, ""));
    }
}

/// Says something and is gone before the answer.
fn leave(client: &mut Client, last_words: &str) {
    client.send_what_is_taken(last_words);
}

/// Reads an answer: the session's own server's, or one that says why there is none. Whether the connection goes on.
fn checked(client: &mut Client, id: &str) -> bool {
    let answer = client.answer();
    match answer.status {
        200 => assert!(
            answer
                .body
                .first()
                .is_none_or(|name| *name == id.as_bytes()[0]),
            "{id} was told {}",
            answer.text()
        ),
        404 => assert_eq!(answer.reason(), "backend_lost"),
        502..=504 => assert_ne!(answer.reason(), ""),
        status => panic!("{status}: {}", answer.text()),
    }
    answer.complete && answer.header("connection").is_none()
}

/// Kills and revives servers, drains them, takes them out, and breaks the file.
fn trouble(pinring: &Pinring, servers: &mut [Backend], addresses: &[SocketAddr]) {
    let at = fastrand::usize(..servers.len());
    match fastrand::u8(..6) {
        0 => servers[at].stop(),
        1 => pinring.write("[server]\nlisten = \"127.0.0.1:0\"\nnonsense"),
        2 => pinring.write(&listing(addresses, |number| number != at, "")),
        3 => pinring.write(&listing(addresses, |_| true, ", draining = true")),
        _ => pinring.write(&listing(addresses, |_| true, "")),
    }
    pinring.signal("HUP");
    sleep(Duration::from_millis(fastrand::u64(100..600)));
    // Those that have stopped are there again.
    for (number, server) in servers.iter_mut().enumerate() {
        if TcpStream::connect(addresses[number]).is_err() {
            *server = self::server(NAMES[number], addresses[number]);
        }
    }
}

fn listing(addresses: &[SocketAddr], is_in: impl Fn(usize) -> bool, of_first: &str) -> String {
    let entry = |(number, address): (usize, &SocketAddr)| {
        let more = if number == 0 { of_first } else { "" };
        let name = NAMES[number];
        is_in(number).then(|| format!("{{ name = \"{name}\", url = \"http://{address}\"{more} }}"))
    };
    let entries: Vec<_> = addresses.iter().enumerate().filter_map(entry).collect();
    format!("backends = [{}]\n{OPTIONS}", entries.join(", "))
}

#[test]
#[ignore = "takes its time: tests/run runs it alone"]
fn soak_with_faults_leaves_nothing_behind() {
    let seconds = std::env::var("PINRING_SOAK_SECONDS").map_or(60, |text| text.parse().unwrap());
    let mut servers: Vec<Backend> = NAMES.map(|name| server(name, anywhere())).into();
    let addresses: Vec<SocketAddr> = servers.iter().map(Backend::address).collect();
    let toml = listing(&addresses, |_| true, "");
    let quiet = [("RUST_LOG", "pinring::app=info")];
    let pinring = Pinring::start_in(tempfile::tempdir().unwrap(), &toml, &quiet);
    let (at_first, visits) = (pinring.open_files(), AtomicUsize::new(0));
    let mut phase = |length: Duration| {
        let (end, over) = (Instant::now() + length, AtomicBool::new(false));
        scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while !over.load(SeqCst) {
                        visit(pinring.address());
                        visits.fetch_add(1, SeqCst);
                        sleep(Duration::from_millis(fastrand::u64(..20)));
                    }
                });
            }
            while Instant::now() < end {
                trouble(&pinring, &mut servers, &addresses);
            }
            over.store(true, SeqCst);
        });
        eventually("all connections are closed", || {
            pinring.open_files() <= at_first
        });
        pinring.memory()
    };
    let length = Duration::from_secs(seconds);
    let (early, late) = (phase(length / 3), phase(length * 2 / 3));
    let visits = visits.into_inner();
    eprintln!("{visits} visits; {early} MiB early, {late} MiB at the end");
    assert!(late <= early + TOLERANCE, "from {early} to {late} MiB");
    assert!(visits > 10 * usize::try_from(seconds).unwrap());
}
