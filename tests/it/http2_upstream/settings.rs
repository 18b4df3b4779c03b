//! Backends that do not speak HTTP/2, and those that do over TLS.

use super::{frames::Raw, *};

/// What a client and the log are told of a backend that cannot be spoken to.
fn refused(pinring: &Pinring, status: u16, reason: &str, log: &str) {
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    assert_eq!((answer.status, &*answer.reason()), (status, reason));
    pinring.wait_for_log("set http2 = false");
    let warned = pinring.log();
    let mut warned = warned.iter().filter(|line| line.contains("http2 = false"));
    assert!(warned.any(|line| line.contains(log)), "{log}");
}

#[test]
fn a_backend_of_http1_is_refused_clearly_and_not_asked() {
    let backend = Backend::stateful("a");
    let pinring = before(&[backend.address()], "");
    let url = format!("http://{}", backend.address());
    refused(&pinring, 502, "backend_not_http2", &url);
    let methods: Vec<String> = backend
        .received()
        .iter()
        .map(|request| request.head.clone())
        .collect();
    assert!(
        methods.iter().all(|head| !head.contains("/mcp")),
        "{methods:?}"
    );
}

#[test]
fn a_backend_that_answers_in_http1_is_named() {
    let raw = Raw::silent(|connection, _| {
        connection.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        connection.next();
    });
    let pinring = before(&[raw.address()], "");
    refused(&pinring, 502, "backend_not_http2", "it speaks HTTP/1");
    assert_eq!(raw.connections(), 1);
}

#[test]
fn a_backend_that_closes_at_once_is_no_hang() {
    let raw = Raw::silent(|_, _| {});
    let pinring = before(&[raw.address()], "[timeouts]\nconnect = \"300ms\"\n");
    refused(&pinring, 502, "backend_not_http2", "closes the connection");
}

#[test]
fn a_backend_that_is_silent_is_given_up_after_the_time_for_a_connection() {
    let raw = Raw::silent(|connection, _| while connection.next().is_some() {});
    let pinring = before(&[raw.address()], "[timeouts]\nconnect = \"300ms\"\n");
    let began = Instant::now();
    refused(
        &pinring,
        504,
        "backend_timeout",
        "it said nothing for 300ms",
    );
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_backend_that_allows_no_streams_is_told_apart() {
    let raw = Raw::start(
        &[0, 3, 0, 0, 0, 0],
        |connection, _| {
            while connection.next().is_some() {}
        },
    );
    let pinring = before(&[raw.address()], "");
    refused(&pinring, 502, "backend_not_http2", "MAX_CONCURRENT_STREAMS");
}

/// A pinring before a backend behind TLS that offers these protocols.
fn behind_tls(target: SocketAddr, protocols: &[&[u8]]) -> (Pinring, Relay) {
    let authority = Authority::new("Backends CA");
    let mut config = authority.issue(&["backend.test"]).server(None);
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let relay = Relay::before(target, config);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("roots.pem"), authority.pem()).unwrap();
    let url = format!("https://{}", relay.address());
    let toml = format!(
        "backends = [{{ name = \"a\", url = \"{url}\" }}]\n{ONE_THREAD}[pool]\nhttp2 = true\n\
         [pool.tls]\nroots = \"roots.pem\"\nserver_name = \"backend.test\"\n"
    );
    (Pinring::start_in(folder, &toml, &[]), relay)
}

#[test]
fn over_tls_it_is_agreed_by_alpn() {
    let server = Server::echoing();
    let (pinring, _relay) = behind_tls(server.address(), &[b"h2", b"http/1.1"]);
    for _ in 0..3 {
        Client::initialize(pinring.address());
    }
    assert_eq!(server.connections(), 1);
    assert_eq!(server.requests()[0].uri(), "https://pinring.test/mcp");
}

#[test]
fn a_backend_that_does_not_agree_is_refused_clearly() {
    let server = Server::echoing();
    for protocols in [&[][..], &[&b"http/1.1"[..]]] {
        let (pinring, _relay) = behind_tls(server.address(), protocols);
        refused(&pinring, 502, "backend_not_http2", "(ALPN)");
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_reload_changes_what_is_spoken() {
    let backend = Backend::stateful("a");
    let more = format!("{ONE_THREAD}[pool]\nhost = \"pass\"");
    let pinring = before(&[backend.address()], &more);
    let call = || Client::once(pinring.address(), "POST", "", "{}").status;
    assert_eq!(call(), 502);
    let toml = pool(&[backend.address()], &more);
    pinring.reload(&toml.replace("http2 = true", "http2 = false"));
    assert_eq!(call(), 200);
}
