//! The end of a process whose clients speak TLS, and the beginning of the next one.

use super::*;

/// How many sockets its process has open to clients.
fn connections(pinring: &Pinring) -> usize {
    let port = pinring.address().port();
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", pinring.id())).unwrap();
    let local = format!(":{port:04X} ");
    let established = table.lines().filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.len() > 3 && format!("{} ", fields[1]).ends_with(&local) && fields[3] == "01"
    });
    established.count()
}

/// What speaks TLS with a.test over a socket of the test's own.
fn tls_client(authority: &Authority) -> rustls::ClientConnection {
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let config = std::sync::Arc::new(authority.client());
    rustls::ClientConnection::new(config, name).unwrap()
}

#[test]
fn a_drain_lets_calls_end_and_takes_the_request_behind_a_handshake() {
    let (backend, arrivals) = Backend::manual();
    let (folder, authority) = certified();
    let server = settings(&["a"], "").replace("[tls]", "[timeouts]\ndrain = \"1m\"\n[tls]");
    let toml = format!("{}\n{server}", Pinring::backends(&[&backend]));
    let mut pinring = Pinring::start_in(folder, &toml, &[]);
    let relay = Relay::to(pinring.address(), "a.test", authority.client());
    let mut calls = Client::connect(relay.address());
    calls.send(request("POST", "", "{}"));
    let mut asked = arrivals.next();
    let mut shaken = Client::connect(relay.address());
    // The handshake begins when the process drains already: a relay shakes hands at once, so this one is held.
    let mut late = std::net::TcpStream::connect(pinring.address()).unwrap();
    late.set_read_timeout(Some(PATIENCE)).unwrap();
    eventually("all are accepted", || {
        pinring.find_logs("listen").len() == 1 && connections(&pinring) >= 3
    });
    pinring.signal("TERM");
    eventually("the port is closed", || {
        std::net::TcpStream::connect(pinring.address()).is_err()
    });
    shaken.send(request("POST", "", "{}"));
    let mut second = arrivals.next();
    let mut tls = tls_client(&authority);
    let mut late = rustls::Stream::new(&mut tls, &mut late);
    late.write_all(request("POST", "", "{}").as_bytes())
        .unwrap();
    let mut third = arrivals.next();
    for asked in [&mut asked, &mut second, &mut third] {
        asked.send(ok("", "done"));
    }
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut late, &mut answer).unwrap();
    assert!(answer.ends_with(b"done"), "and TLS was closed in order");
    for client in [&mut calls, &mut shaken] {
        let answer = client.answer();
        assert_eq!(
            (answer.text(), answer.header("connection")),
            ("done".into(), Some("close"))
        );
        assert!(client.is_closed());
    }
    assert_eq!(pinring.wait().code(), Some(0));
}

#[test]
fn a_drain_cuts_what_does_not_end_and_handshakes_do_not_hold_it_up() {
    let edge = Edge::new("");
    let toml = settings(&["a"], "").replace("[tls]", "[timeouts]\ndrain = \"300ms\"\n[tls]");
    edge.pinring
        .reload(&format!("{}\n{toml}", Pinring::backends(&[&edge.backend])));
    let mut pinring = edge.pinring;
    let mut silent = Client::connect(pinring.address());
    eventually("it is accepted", || connections(&pinring) >= 1);
    pinring.signal("TERM");
    assert!(silent.is_closed());
    assert_eq!(pinring.wait().code(), Some(0));
}

#[test]
fn a_balancer_names_the_client_before_tls_begins() {
    let (folder, authority) = certified();
    let balanced = "[server]\nproxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]";
    let toml = settings(&["a"], "").replace("[server]", balanced);
    let edge = Edge::in_folder(folder, authority, &toml);
    let mut stream = std::net::TcpStream::connect(edge.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 443\r\n")
        .unwrap();
    let mut tls = tls_client(&edge.authority);
    let mut secure = rustls::Stream::new(&mut tls, &mut stream);
    let call = request("POST", "connection: close\r\n", "{}");
    secure.write_all(call.as_bytes()).unwrap();
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut secure, &mut answer).unwrap();
    assert!(answer.ends_with(b"hello"));
    let received = edge.backend.received().pop().unwrap();
    assert_eq!(received.header("x-forwarded-for"), Some("192.0.2.1"));
    assert_eq!(received.header("x-forwarded-proto"), Some("https"));
}

#[test]
fn a_take_over_keeps_tls_clients_served() {
    let (folder, authority) = certified();
    let admin = folder.path().join("admin.sock");
    let server = format!(
        "listen = \"https://127.0.0.1:0\"\nadmin = \"unix:{}\"",
        admin.display()
    );
    let toml = settings(&["a"], "").replace("listen = \"https://127.0.0.1:0\"", &server);
    let edge = Edge::in_folder(folder, authority, &toml);
    let address = edge.address();
    let relay = edge.relay();
    let mut kept = Client::connect(relay.address());
    assert_eq!(kept.call("POST", "", "{}").header("connection"), None);
    let file = edge.pinring.file();
    let args = ["--take-over", "--config", file.to_str().unwrap()];
    let next = Pinring::launch(tempfile::tempdir().unwrap(), &args, &[]);
    assert_eq!(next.address(), address);
    next.wait_for_log("took over");
    edge.pinring.wait_for_log("stopping");
    assert_eq!(
        kept.call("POST", "", "{}").header("connection"),
        Some("close")
    );
    let ca = edge.folder().join("ca.pem");
    for _ in 0..5 {
        assert_eq!(curl(&ca, "a.test", address, &[]).body, "hello");
    }
}

#[test]
fn a_passed_socket_speaks_what_its_port_is_configured_for() {
    let (folder, _authority) = certified();
    let backend = Backend::answering(ok("", "hello"));
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let toml = settings(&["a"], "").replace(
        "\"https://127.0.0.1:0\"",
        &format!("[\"127.0.0.1:1\", \"https://0.0.0.0:{}\"]", address.port()),
    );
    let file = folder.path().join("pinring.toml");
    fs::write(&file, format!("{}\n{toml}", Pinring::backends(&[&backend]))).unwrap();
    let passed: std::os::fd::OwnedFd = socket.into();
    let mut pinring = Command::new("sh")
        .args([
            "-c",
            "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 0</dev/null",
            "sh",
        ])
        .arg(env!("CARGO_BIN_EXE_pinring"))
        .arg("--config")
        .arg(&file)
        .stdin(passed)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let called = curl(&folder.path().join("ca.pem"), "a.test", address, &[]);
    pinring.kill().unwrap();
    pinring.wait().unwrap();
    assert_eq!(called.body, "hello", "{called:?}");
}
