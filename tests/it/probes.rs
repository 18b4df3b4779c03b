//! What probes ask: whether it lives, whether it is ready, at each step of its life; and the drain of a server's container.

use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{Answer, Backend, Client, Pinring, eventually, listing};

const PROBES: &str = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"\"\nprobes = \"127.0.0.1:0\"\n";

fn probes(pinring: &Pinring) -> SocketAddr {
    let line = pinring.find_log("probes").unwrap();
    line["probes"].as_str().unwrap().parse().unwrap()
}

fn get(address: SocketAddr, target: &str, headers: &str) -> Answer {
    let request = format!("GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}\r\n");
    Client::connect(address).send(request).answer()
}

fn status(address: SocketAddr, target: &str) -> u16 {
    get(address, target, "").status
}

#[test]
fn it_is_ready_whatever_its_backends_do_unless_they_are_asked_for() {
    let backend = Backend::stateful("a");
    let pinring = Pinring::start(&format!("{}\n{PROBES}", Pinring::backends(&[&backend])));
    let at = probes(&pinring);
    for target in ["/livez", "/readyz", "/readyz?backends=1"] {
        assert_eq!(status(at, target), 200, "{target}");
    }
    assert_eq!(status(at, "/status"), 404, "that is for operators");
    drop(backend);
    eventually("its backend is found out", || {
        Client::once(pinring.address(), "POST", "", "{}");
        status(at, "/readyz?backends=1") == 503
    });
    assert_eq!((status(at, "/livez"), status(at, "/readyz")), (200, 200));
    let told = get(at, "/readyz?backends=1", "").text();
    assert!(told.contains("pool default"), "{told}");
}

#[test]
fn on_its_way_out_it_lives_and_accepts_and_is_not_ready() {
    let backend = Backend::stateful("a");
    let more = "health_path = \"/up\"\n[timeouts]\nshutdown_delay = \"2s\"\ndrain = \"2s\"\n";
    let toml = format!("{}\n{PROBES}{more}", Pinring::backends(&[&backend]));
    let mut pinring = Pinring::start(&toml);
    let (at, traffic) = (probes(&pinring), pinring.address());
    assert_eq!((status(at, "/readyz"), status(traffic, "/up")), (200, 200));
    let id = Client::initialize(traffic);
    let mut stream = Client::connect(traffic);
    stream.send("POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{"); // stays under way
    pinring.signal("TERM");
    eventually("it is not ready", || status(at, "/readyz") == 503);
    assert_eq!(status(at, "/livez"), 200);
    assert_eq!(status(traffic, "/up"), 503);
    assert_eq!(
        Client::in_session(traffic, &id).status,
        200,
        "it still accepts"
    );
    eventually("it drains", || {
        get(at, "/readyz", "").text() == "draining\n"
    });
    assert_eq!(status(at, "/livez"), 200, "also when it accepts no more");
    drop(stream);
    assert_eq!(pinring.wait().code(), Some(0));
}

#[test]
fn the_health_path_is_never_forwarded() {
    let backend = Backend::stateful("a");
    let toml = |more: &str| {
        let backends = Pinring::backends(&[&backend]);
        format!("{backends}\n[server]\nlisten = \"127.0.0.1:0\"\n{more}\n")
    };
    let pinring = Pinring::start(&toml("health_path = \"/up\""));
    let at = pinring.address();
    assert_eq!(get(at, "/up", "").text(), "ready\n");
    let head = Client::connect(at)
        .send("HEAD /up HTTP/1.1\r\nhost: x\r\n\r\n")
        .head();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(backend.received().is_empty());
    let post = "POST /up HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    Client::connect(at).send(post).answer();
    assert_eq!(status(at, "/upper"), 200);
    assert_eq!(backend.received().len(), 2, "these are the server's own");
    pinring.reload(&toml(""));
    status(at, "/up");
    assert_eq!(backend.received().len(), 3);
}

/// One whose local backend is a.
fn sidecar(backends: &[(&str, &Backend, &str)], more: &str) -> Pinring {
    let server = format!("{PROBES}probes_drain = true\nadmin_token = \"env:TEST_SECRET\"\n");
    Pinring::start(&format!(
        "{}\n{server}{more}[pool]\nlocal = \"a\"\n",
        listing(backends)
    ))
}

#[test]
fn a_server_s_container_waits_until_its_own_sessions_have_ended() {
    let [a, b] = ["a", "b"].map(Backend::stateful);
    let session_idle = "[affinity]\nsession_idle = \"1s\"\n"; // then all sessions are known
    let pinring = sidecar(&[("a", &a, ""), ("b", &b, "")], session_idle);
    let at = probes(&pinring);
    let own = (0..20)
        .map(|_| Client::initialize(pinring.address()))
        .find(|id| id.starts_with('a'));
    let id = own.expect("one of twenty is a's");
    let session = format!("mcp-session-id: {id}\r\n");
    let begun = Instant::now();
    let waiting = std::thread::spawn(move || get(at, "/drain?wait=1m", ""));
    eventually("a gets no more", || {
        pinring
            .log()
            .iter()
            .any(|line| line.contains("\"action\":\"drain\""))
    });
    assert!(!waiting.is_finished());
    for _ in 0..20 {
        assert!(Client::initialize(pinring.address()).starts_with('b'));
    }
    assert_eq!(
        Client::in_session(pinring.address(), &id).status,
        200,
        "it goes on"
    );
    Client::once(pinring.address(), "DELETE", &session, "");
    let told = waiting.join().unwrap();
    assert_eq!(told.status, 200);
    assert!(
        told.text().starts_with("a: drained after"),
        "{}",
        told.text()
    );
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn silent_connections_keep_no_probe_out() {
    let backend = Backend::stateful("a");
    let pinring = Pinring::before(&[&backend], PROBES);
    let at = probes(&pinring);
    let silent: Vec<_> = (0..200).map(|_| Client::connect(at)).collect();
    assert_eq!(status(at, "/livez"), 200);
    drop(silent);
}

#[test]
fn what_is_left_when_the_time_is_over_is_lost() {
    let backend = Backend::stateful("a");
    let pinring = sidecar(&[("a", &backend, "")], "");
    let id = Client::initialize(pinring.address());
    let told = get(probes(&pinring), "/drain?wait=1s", "").text();
    assert!(told.contains("1 live sessions are lost"), "{told}");
    let answer = Client::in_session(pinring.address(), &id);
    assert_eq!((answer.status, &*answer.reason()), (404, "backend_lost"));
}

#[test]
fn nobody_drains_from_a_page_or_from_elsewhere_or_where_it_is_off() {
    let backend = Backend::stateful("a");
    let all = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"\"\nprobes = \"0.0.0.0:0\"\n";
    let on = format!(
        "{all}probes_drain = true\nadmin_token = \"env:TEST_SECRET\"\n[pool]\nlocal = \"a\"\n"
    );
    let pinring = Pinring::before(&[&backend], &on);
    let port = probes(&pinring).port();
    let here = SocketAddr::from(([127, 0, 0, 1], port));
    for page in [
        "origin: http://127.0.0.1\r\n",
        "sec-fetch-site: same-origin\r\n",
    ] {
        assert_eq!(get(here, "/drain?wait=1s", page).status, 403, "{page}");
    }
    let rebound = "GET /drain HTTP/1.1\r\nhost: evil.example:9902\r\n\r\n";
    let answer = Client::connect(here).send(rebound).answer();
    assert_eq!(answer.status, 403, "a name that leads here");
    assert_eq!(status(here, "/drain?wait=soon"), 400);
    if let Some(own) = own_address() {
        let there = SocketAddr::new(own, port);
        assert_eq!(status(there, "/drain"), 403);
        let token = "authorization: Bearer 0123456789abcdef0123456789abcdef\r\n";
        assert!(pinring.find_log("action").is_none(), "nothing was changed");
        assert_eq!(get(there, "/drain", token).status, 200);
    }
    let off = Pinring::before(&[&backend], PROBES);
    assert_eq!(status(probes(&off), "/drain?wait=1s"), 404);
}

/// An address of this machine that others see, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?; // sends nothing
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn the_health_command_asks_where_the_configuration_says() {
    let backend = Backend::stateful("a");
    for server in [
        "admin = \"\"\nprobes = \"127.0.0.1:PORT\"\n",
        "admin = \"127.0.0.1:PORT\"\n",
        "admin = \"\"\nhealth_path = \"/up\"\n",
    ] {
        // The command reads the file, so each port has to stand there. Another process may take it meanwhile.
        let (mut child, file, _folder) = (0..20)
            .find_map(|_| started(&backend, server))
            .expect("a port is free");
        let health = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_pinring"));
            let output = command
                .arg("health")
                .args(["--config", &file])
                .args(arguments)
                .output()
                .unwrap();
            (
                output.status.code(),
                String::from_utf8_lossy(&output.stdout).into_owned(),
            )
        };
        eventually("it is ready", || {
            health(&[]) == (Some(0), "ready\n".to_owned())
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(health(&[]).0, Some(1));
    }
}

fn started(
    backend: &Backend,
    server: &str,
) -> Option<(std::process::Child, String, tempfile::TempDir)> {
    let port = || {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().port().to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pinring.toml");
    let listen = format!("[server]\nlisten = \"127.0.0.1:{}\"\n", port());
    let server = server.replace("PORT", &port());
    let toml = format!("{}\n{listen}{server}", Pinring::backends(&[backend]));
    std::fs::write(&file, toml).unwrap();
    let file = file.to_str().unwrap().to_owned();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pinring"))
        .args(["--config", &file])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200)); // a port that is taken ends it at once
    let runs = child.try_wait().unwrap().is_none();
    runs.then_some((child, file, folder))
}
