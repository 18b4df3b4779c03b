//! TLS with clients, driven by curl and openssl as people have them, and TLS with backends.

mod ends;
mod http2;
mod reload;
mod upstream;

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use crate::support::{
    Authority, Backend, Chunk, Client, ONE_THREAD, PATIENCE, Pinring, Relay, ask, eventually, ok,
    request, server_with_admin,
};

/// A folder with certificates, an authority that has issued them, and a pinring before one backend.
struct Edge {
    authority: Authority,
    backend: Backend,
    pinring: Pinring,
}

/// `[server]` and `[tls]` with these pairs, whose files are `NAME.pem` and `NAME.key`.
fn settings(pairs: &[&str], more: &str) -> String {
    let pairs = pairs.iter().map(|name| {
        format!("[[tls.certificates]]\ncertificate = \"{name}.pem\"\nkey = \"{name}.key\"\n")
    });
    let pairs: String = pairs.collect();
    format!("[server]\nlisten = \"https://127.0.0.1:0\"\n[tls]\n{more}\n{pairs}")
}

impl Edge {
    /// With certificates for a.test and b.test, in this order.
    fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("Test CA");
        for name in ["a", "b"] {
            authority
                .issue(&[&format!("{name}.test")])
                .write(folder.path(), name);
        }
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        Self::in_folder(folder, authority, &settings(&["a", "b"], more))
    }

    fn in_folder(folder: tempfile::TempDir, authority: Authority, toml: &str) -> Self {
        let backend = Backend::answering(ok("mcp-session-id: id\r\n", "hello"));
        let toml = format!("{}\n{toml}", Pinring::backends(&[&backend]));
        Self {
            authority,
            backend,
            pinring: Pinring::start_in(folder, &toml, &[]),
        }
    }

    fn folder(&self) -> std::path::PathBuf {
        self.pinring.file().parent().unwrap().to_owned()
    }

    fn address(&self) -> SocketAddr {
        self.pinring.address()
    }

    /// What curl says of a call to `host`.
    fn curl(&self, host: &str, args: &[&str]) -> Called {
        curl(&self.folder().join("ca.pem"), host, self.address(), args)
    }

    /// What `openssl s_client` says.
    fn openssl(&self, args: &[&str]) -> String {
        openssl(self.address(), &self.folder(), args)
    }

    /// A way in without TLS, for tests that speak HTTP only.
    fn relay(&self) -> Relay {
        Relay::to(self.address(), "a.test", self.authority.client())
    }
}

/// A folder with a certificate for a.test, and with that of its authority.
fn certified() -> (tempfile::TempDir, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Test CA");
    authority.issue(&["a.test"]).write(folder.path(), "a");
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    (folder, authority)
}

/// A pinring before `backend` that speaks TLS as a.test, and a way in without it.
fn behind_tls(backend: &Backend) -> (Pinring, Relay) {
    let (folder, authority) = certified();
    let backends = Pinring::backends(&[backend]);
    let toml = format!("{backends}\n{}", settings(&["a"], ""));
    let pinring = Pinring::start_in(folder, &toml, &[]);
    let relay = Relay::to(pinring.address(), "a.test", authority.client());
    (pinring, relay)
}

/// What curl has to say.
#[derive(Debug)]
struct Called {
    code: Option<i32>,
    body: String,
    #[allow(dead_code, reason = "failures show it")]
    told: String,
}

fn curl(ca: &Path, host: &str, address: SocketAddr, args: &[&str]) -> Called {
    let (port, ip) = (address.port(), address.ip());
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new("curl")
        .args(["-sSv", "--max-time", "20", "--noproxy", "*", "--cacert"])
        .arg(ca)
        .args(["--resolve", &format!("{host}:{port}:{ip}")])
        .args(args)
        .arg(format!("https://{host}:{port}/mcp"))
        .output()
        .unwrap();
    Called {
        code: status.code(),
        body: String::from_utf8_lossy(&stdout).into_owned(),
        told: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

fn openssl(address: SocketAddr, folder: &Path, args: &[&str]) -> String {
    let Output { stdout, stderr, .. } = Command::new("timeout")
        .args([
            "20",
            "openssl",
            "s_client",
            "-connect",
            &address.to_string(),
        ])
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    [stdout, stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat()
}

#[test]
fn a_call_goes_through_and_the_backend_learns_that_it_came_by_tls() {
    let edge = Edge::new("");
    let called = edge.curl("a.test", &["-d", "{}", "-i"]);
    assert_eq!(called.code, Some(0), "{called:?}");
    assert!(
        called.body.ends_with("hello") && called.body.contains("mcp-session-id: id-"),
        "{called:?}"
    );
    let received = edge.backend.received().remove(0);
    assert_eq!(received.header("x-forwarded-proto"), Some("https"));
    let host = received.header("x-forwarded-host").unwrap();
    assert!(host.starts_with("a.test:"), "{host}");
}

#[test]
fn each_host_is_shown_its_own_certificate_and_others_the_first() {
    let edge = Edge::new("");
    for host in ["a.test", "b.test"] {
        let called = edge.curl(host, &[]);
        assert_eq!(
            (called.code, &*called.body),
            (Some(0), "hello"),
            "{called:?}"
        );
    }
    for args in [&["-servername", "other.test"][..], &["-noservername"]] {
        let names = [args, &["-verify_hostname", "a.test", "-CAfile", "ca.pem"]].concat();
        let told = edge.openssl(&names);
        assert!(
            told.contains("Verification: OK") && told.contains("Verified peername: a.test"),
            "{told}"
        );
    }
    assert_ne!(
        edge.curl("other.test", &[]).code,
        Some(0),
        "and clients see that it is another's"
    );
}

#[test]
fn a_wildcard_is_for_one_level_and_a_name_of_its_own_wins() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Test CA");
    for (file, name) in [
        ("first", "first.test"),
        ("any", "*.test"),
        ("own", "own.test"),
    ] {
        authority.issue(&[name]).write(folder.path(), file);
    }
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let edge = Edge::in_folder(folder, authority, &settings(&["first", "any", "own"], ""));
    for (host, shown) in [
        ("x.test", "*.test"),
        ("OWN.test", "own.test"),
        ("y.x.test", "first.test"),
        ("test", "first.test"),
    ] {
        let told = edge.openssl(&["-servername", host]);
        let certificate = told
            .split("-----BEGIN")
            .nth(1)
            .unwrap()
            .split("-----END")
            .next()
            .unwrap();
        fs::write(
            edge.folder().join("shown"),
            format!("-----BEGIN{certificate}-----END CERTIFICATE-----\n"),
        )
        .unwrap();
        let names = Command::new("openssl")
            .args(["x509", "-in", "shown", "-noout", "-ext", "subjectAltName"])
            .current_dir(edge.folder())
            .output()
            .unwrap();
        let names = String::from_utf8(names.stdout).unwrap();
        assert!(names.contains(&format!("DNS:{shown}\n")), "{host}: {names}");
    }
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let edge = Edge::new("");
    for (flag, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let told = edge.openssl(&[flag]);
        assert!(told.contains(&format!("New, {name}, Cipher is ")), "{told}");
        assert!(!told.contains("Cipher is (NONE)"), "{told}");
    }
    let told = edge.openssl(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(told.contains("Cipher is (NONE)"), "{told}");
    edge.pinring.wait_for_log("peer is incompatible");
}

#[test]
fn a_protocol_is_agreed_upon_and_what_is_not_spoken_is_not() {
    let edge = Edge::new("");
    for (offered, told) in [
        ("http/1.1,h2", "ALPN protocol: h2"),
        ("http/1.1", "ALPN protocol: http/1.1"),
        ("h2", "ALPN protocol: h2"),
        ("spdy/3.1", "no peer certificate available"),
    ] {
        let said = edge.openssl(&["-alpn", offered]);
        assert!(said.contains(told), "{offered}: {said}");
    }
    assert!(edge.openssl(&[]).contains("No ALPN negotiated"));
}

/// A handshake whose session is kept in `file`.
fn first_session(edge: &Edge, version: &str, file: &str) {
    // TLS 1.3 sends its tickets behind the handshake: only who reads something gets them.
    let mut client = Command::new("timeout")
        .args([
            "20",
            "openssl",
            "s_client",
            "-connect",
            &edge.address().to_string(),
        ])
        .args([
            version,
            "-servername",
            "a.test",
            "-sess_out",
            file,
            "-ign_eof",
            "-quiet",
        ])
        .current_dir(edge.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let close = "GET /mcp HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
    client
        .stdin
        .take()
        .unwrap()
        .write_all(close.as_bytes())
        .unwrap();
    assert!(client.wait().unwrap().success());
}

fn resumes(edge: &Edge, version: &str, file: &str) -> bool {
    let told = edge.openssl(&[version, "-servername", "a.test", "-sess_in", file]);
    assert!(
        told.contains("New, TLS") || told.contains("Reused, TLS"),
        "{told}"
    );
    told.contains("Reused, TLS")
}

#[test]
fn sessions_are_resumed_by_tickets_and_by_ids_on_any_thread() {
    let edge = Edge::new("");
    for version in ["-tls1_2", "-tls1_3"] {
        first_session(&edge, version, "session");
        for _ in 0..8 {
            assert!(resumes(&edge, version, "session"), "{version}");
        }
    }
    let told = edge.openssl(&["-tls1_2", "-no_ticket", "-sess_out", "session"]);
    assert!(told.contains("New, TLSv1.2"), "{told}");
    let told = edge.openssl(&["-tls1_2", "-no_ticket", "-sess_in", "session"]);
    assert!(told.contains("Reused, TLSv1.2"), "{told}");
}

#[test]
fn clients_show_certificates_where_these_are_asked_for() {
    const REQUIRED: &str = "client_certificates = \"required\"\nclient_ca = \"clients.pem\"";
    for (need, without) in [
        (REQUIRED.to_owned(), false),
        (REQUIRED.replace("required", "optional"), true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (authority, clients) = (Authority::new("Test CA"), Authority::new("Clients CA"));
        authority.issue(&["a.test"]).write(folder.path(), "a");
        clients.issue(&["client"]).write(folder.path(), "good");
        authority.issue(&["client"]).write(folder.path(), "wrong");
        let past = |params: &mut rcgen::CertificateParams| {
            params.not_after = rcgen::date_time_ymd(2026, 1, 1)
        };
        clients
            .issue_with(&["client"], past)
            .write(folder.path(), "expired");
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        fs::write(folder.path().join("clients.pem"), clients.pem()).unwrap();
        let edge = Edge::in_folder(folder, authority, &settings(&["a"], &need));
        let call = |name: Option<&str>| {
            let folder = edge.folder();
            let file =
                |name: &str, end: &str| folder.join(format!("{name}.{end}")).display().to_string();
            let args = name.map(|name| [file(name, "pem"), file(name, "key")]);
            let args = args
                .as_ref()
                .map_or(vec![], |[pem, key]| vec!["--cert", pem, "--key", key]);
            let called = edge.curl("a.test", &args);
            called.code == Some(0) && called.body == "hello"
        };
        assert!(call(Some("good")), "{need}");
        assert!(!call(Some("wrong")), "{need}");
        assert!(!call(Some("expired")), "{need}");
        assert_eq!(call(None), without, "{need}");
        edge.pinring.wait_for_log("a client could not connect");
        edge.pinring
            .wait_for_log("invalid peer certificate: UnknownIssuer");
        edge.pinring
            .wait_for_log("invalid peer certificate: certificate expired");
    }
}

#[test]
fn events_leave_the_moment_they_arrive_and_a_killed_backend_is_seen() {
    let (backend, arrivals) = Backend::manual();
    let (_pinring, relay) = behind_tls(&backend);
    let mut client = Client::connect(relay.address());
    client.send(request("GET", "", ""));
    let mut asked = arrivals.next();
    asked.begin_stream();
    assert!(
        client.head().starts_with("HTTP/1.1 200 "),
        "before any event"
    );
    for number in 0..20 {
        let event = format!("data: {number}\n\n");
        asked.chunk(&event);
        assert_eq!(client.chunk(), Chunk::Data(event.into_bytes()));
    }
    drop(asked);
    assert_eq!(client.chunk(), Chunk::Truncated);
    let mut client = Client::connect(relay.address());
    client.send(request("GET", "", ""));
    let mut asked = arrivals.next();
    asked.begin_stream();
    client.head();
    drop(client);
    assert!(
        asked.is_closed_within(Duration::from_secs(1)),
        "the client has left"
    );
}

#[test]
fn large_bodies_pass_whole_both_ways() {
    let backend = Backend::start(|request, stream| {
        stream
            .write_all(&ok("", &String::from_utf8_lossy(&request.body)))
            .is_ok()
    });
    let (_pinring, relay) = behind_tls(&backend);
    let body: String = (0..400_000).map(|number| format!("{number},")).collect();
    let answer = Client::once(relay.address(), "POST", "", &body);
    assert!(answer.complete && answer.text() == body);
}

#[test]
fn http_without_tls_is_told_so_and_garbage_is_not_noisy() {
    let edge = Edge::new("");
    let mut client = Client::connect(edge.address());
    let answer = client.send(request("POST", "", "{}")).answer();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("https://"), "{answer:?}");
    edge.pinring
        .wait_for_log("the client speaks HTTP without TLS");
    for garbage in [&b"\0\x01garbage"[..], b"\x16\x03\x01\x02\0garbage", b""] {
        let mut client = Client::connect(edge.address());
        client.send(garbage);
        // pinring may have closed the connection by now.
        let _closed = client.stream.shutdown(std::net::Shutdown::Write);
        assert!(!client.fill() || !client.take_buffered().starts_with(b"HTTP"));
    }
    edge.pinring.wait_for_log("the client said nothing");
    assert_eq!(edge.curl("a.test", &[]).body, "hello");
    let loud = edge
        .pinring
        .log()
        .into_iter()
        .filter(|line| line.contains("handshake") && !line.contains("\"DEBUG\""));
    assert_eq!(loud.count(), 0);
}

#[test]
fn a_client_that_is_slow_to_shake_hands_holds_nobody_up_and_is_closed() {
    let (folder, authority) = certified();
    let server =
        server_with_admin(folder.path()).replace("127.0.0.1:0\"", "127.0.0.1:0\"\nthreads = 1");
    let server = server.replace("listen = \"", "listen = \"https://");
    let tls = settings(&["a"], "");
    let (_, tls) = tls.split_once("[tls]").unwrap();
    let toml = format!("{server}[timeouts]\nrequest_head = \"1500ms\"\n[tls]{tls}");
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let edge = Edge::in_folder(folder, authority, &toml);
    let mut silent: Vec<Client> = (0..20).map(|_| Client::connect(edge.address())).collect();
    let mut half: Vec<Client> = (0..20).map(|_| Client::connect(edge.address())).collect();
    for client in &mut half {
        client.send(b"\x16\x03\x01\x02\0");
    }
    assert_eq!(edge.curl("a.test", &[]).body, "hello");
    assert!(
        silent[0].is_quiet_for(Duration::from_millis(50)),
        "they still shake hands"
    );
    for client in silent.iter_mut().chain(&mut half) {
        assert!(client.is_closed());
    }
    edge.pinring
        .wait_for_log("the TLS handshake took longer than 1.5s");
    let admin = edge.folder().join("admin.sock");
    eventually("all are counted", || {
        ask(&admin, "GET", "/backends", "").1["counts"]["tls_handshakes_failed"] == 40
    });
}

#[test]
fn listeners_with_and_without_tls_stand_beside_each_other() {
    let (folder, authority) = certified();
    let both = settings(&["a"], "").replace(
        "\"https://127.0.0.1:0\"",
        "[\"127.0.0.1:0\", \"https://127.0.0.1:0\"]",
    );
    let edge = Edge::in_folder(folder, authority, &both);
    let [clear, secure] = edge.pinring.addresses()[..] else {
        panic!("two listeners");
    };
    assert_eq!(Client::once(clear, "POST", "", "{}").text(), "hello");
    let called = curl(&edge.folder().join("ca.pem"), "a.test", secure, &[]);
    assert_eq!(called.body, "hello", "{called:?}");
    let received = edge.backend.received();
    let schemes = received
        .iter()
        .map(|request| request.header("x-forwarded-proto"));
    assert_eq!(schemes.collect::<Vec<_>>(), [Some("http"), Some("https")]);
}

#[test]
fn check_names_the_file_and_the_line() {
    let (folder, authority) = certified();
    authority.issue(&["b.test"]).write(folder.path(), "b");
    fs::copy(folder.path().join("b.key"), folder.path().join("a.key")).unwrap();
    let file = folder.path().join("pinring.toml");
    fs::write(
        &file,
        format!(
            "backends = [{{ url = \"http://127.0.0.1:1\" }}]\n{}",
            settings(&["a"], "")
        ),
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pinring"))
        .arg("check")
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let place = format!(
        "{}:8: tls.certificates[0].key = \"a.key\": ",
        file.display()
    );
    assert!(
        told.contains(&place) && told.contains("does not fit the certificate in a.pem"),
        "{told}"
    );
}

#[test]
fn an_idle_tls_connection_costs_little() {
    let edge = Edge::new("");
    let relay = edge.relay();
    let open = |count: usize| -> Vec<Client> {
        (0..count)
            .map(|_| {
                let mut client = Client::connect(relay.address());
                assert_eq!(client.call("POST", "", "{}").status, 200);
                client
            })
            .collect()
    };
    let few = open(50); // what is allocated once is there now
    let before = edge.pinring.memory_kib();
    let many = open(200);
    let grown = edge.pinring.memory_kib().saturating_sub(before);
    drop((few, many));
    assert!(grown / 200 <= 64, "{} KiB each", grown / 200);
}
