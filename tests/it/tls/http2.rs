//! HTTP/2 behind TLS: whoever speaks it says so in the handshake.

use super::*;
use crate::support::http2::{End, Http2};

/// A way in without TLS for who speaks HTTP/2.
fn relay(edge: &Edge) -> Relay {
    let mut config = edge.authority.client();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Relay::to(edge.address(), "a.test", config)
}

#[test]
fn the_handshake_decides_what_is_spoken() {
    let edge = Edge::new("");
    for (args, version) in [
        (&["--http2"][..], "2"),
        (&["--http1.1"], "1.1"),
        (&["--no-alpn"], "1.1"),
        (&["--http2", "--tls-max", "1.2"], "2"),
    ] {
        let more = ["-d", "{}", "-w", " %{http_version} %{http_code}"];
        let called = edge.curl("a.test", &[args, &more].concat());
        assert_eq!(called.body, format!("hello {version} 200"), "{called:?}");
    }
    for received in edge.backend.received() {
        assert_eq!(received.header("x-forwarded-proto"), Some("https"));
    }
    for (offered, agreed) in [
        ("h2", "ALPN protocol: h2"),
        ("h2,http/1.1", "ALPN protocol: h2"),
        ("http/1.1,h2", "ALPN protocol: h2"),
        ("http/1.1", "ALPN protocol: http/1.1"),
    ] {
        let told = edge.openssl(&["-servername", "a.test", "-alpn", offered]);
        assert!(told.contains(agreed), "{offered}: {told}");
    }
    let told = edge.openssl(&["-servername", "a.test"]);
    assert!(told.contains("No ALPN negotiated"), "{told}");
}

#[test]
fn who_has_agreed_on_one_and_speaks_the_other_is_not_served() {
    let edge = Edge::new("");
    let mut config = edge.authority.client();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let relay_1 = Relay::to(edge.address(), "a.test", config);
    let mut client = Http2::connect(relay_1.address());
    client.until_closed();
    let relay_2 = relay(&edge);
    let mut client = Client::connect(relay_2.address());
    client.send(request("POST", "", "{}"));
    while client.fill() {}
    assert!(edge.backend.received().is_empty());
}

#[test]
fn a_renewed_certificate_breaks_no_stream() {
    let (backend, arrivals) = Backend::manual();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Test CA");
    authority.issue(&["a.test"]).write(folder.path(), "a");
    let toml = format!(
        "{}\n{}",
        Pinring::backends(&[&backend]),
        settings(&["a"], "")
    );
    let pinring = Pinring::start_in(folder, &toml, &[]);
    let edge = Edge {
        authority,
        backend,
        pinring,
    };
    let relay = relay(&edge);
    let mut client = Http2::connect(relay.address());
    let stream = client.ask("GET", &[], "");
    let mut asked = arrivals.next();
    asked.begin_stream();
    client.until("it begins", |client| client.of(stream).status() == 200);
    edge.authority.issue(&["a.test"]).write(&edge.folder(), "a");
    eventually("the new one is shown", || {
        edge.pinring.find_log("changes").is_some()
    });
    asked.chunk("data: 1\n\n").send("0\r\n\r\n");
    drop(asked);
    let answer = client.answer(stream);
    assert_eq!(
        (answer.text(), answer.end),
        ("data: 1\n\n".into(), Some(End::Whole))
    );
    let call = client.ask("POST", &[], "{}");
    arrivals.next().send(ok("", "a"));
    assert_eq!(client.answer(call).status(), 200);
}
