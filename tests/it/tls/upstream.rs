//! Backends that speak TLS, well or not.

use crate::support::{Pair, listening};

use super::*;

/// A backend behind TLS, an authority, and a pinring that speaks to it.
struct Behind {
    authority: Authority,
    backend: Backend,
    relay: Relay,
    folder: tempfile::TempDir,
}

impl Behind {
    fn new(pair: impl FnOnce(&Authority) -> Pair) -> Self {
        Self::asking(pair, None)
    }

    fn asking(pair: impl FnOnce(&Authority) -> Pair, clients: Option<&Authority>) -> Self {
        let authority = Authority::new("Backends CA");
        let backend = Backend::stateful("a");
        let server = pair(&authority).server(clients);
        let relay = Relay::before(backend.address(), server);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("roots.pem"), authority.pem()).unwrap();
        fs::write(
            folder.path().join("others.pem"),
            Authority::new("Others").pem(),
        )
        .unwrap();
        Self {
            authority,
            backend,
            relay,
            folder,
        }
    }

    /// Starts pinring with these keys under `[pool.tls]`.
    fn start(self, tls: &str, env: &[(&str, &str)]) -> (Pinring, Backend, Relay) {
        let url = format!("https://{}", self.relay.address());
        let toml = format!(
            "backends = [{{ name = \"a\", url = \"{url}\" }}]\n{ONE_THREAD}[pool.tls]\n{tls}"
        );
        (
            Pinring::start_in(self.folder, &toml, env),
            self.backend,
            self.relay,
        )
    }
}

/// A certificate for the address of relays as well as for a name.
fn right(authority: &Authority) -> Pair {
    named(authority, "backend.test")
}

fn named(authority: &Authority, name: &str) -> Pair {
    authority.issue(&[name])
}

const ROOTS: &str = "roots = \"roots.pem\"\nserver_name = \"backend.test\"\n";

#[test]
fn a_session_lives_on_a_backend_behind_tls_over_one_connection() {
    let (pinring, backend, _relay) = Behind::new(right).start(ROOTS, &[]);
    let id = Client::initialize(pinring.address());
    for _ in 0..5 {
        assert_eq!(Client::in_session(pinring.address(), &id).status, 200);
    }
    assert_eq!((backend.received().len(), backend.connections()), (6, 1));
    assert_eq!(
        backend.received()[0].header("x-forwarded-proto"),
        Some("http")
    );
}

#[test]
fn the_roots_of_the_machine_are_believed_where_no_others_are_named() {
    let behind = Behind::new(right);
    let roots = behind.folder.path().join("roots.pem").display().to_string();
    let system = [("SSL_CERT_FILE", &*roots)];
    let (pinring, _backend, _relay) = behind.start("server_name = \"backend.test\"", &system);
    assert!(Client::initialize(pinring.address()).starts_with("a-"));
}

/// What a client and the log are told of a backend that cannot be believed.
fn refused(behind: Behind, tls: &str, reason: &str, told: &str) {
    let (pinring, backend, _relay) = behind.start(tls, &[]);
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    assert_eq!(
        (answer.status, &*answer.reason()),
        (503, reason),
        "{answer:?}"
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    pinring.wait_for_log(told);
    assert!(backend.received().is_empty());
}

#[test]
fn a_backend_that_cannot_be_believed_is_asked_nothing_and_it_is_said_why() {
    let invalid = "backend_certificate_invalid";
    let past = |authority: &Authority| {
        authority.issue_with(&["backend.test"], |params| {
            params.not_after = rcgen::date_time_ymd(2026, 1, 1)
        })
    };
    let future = |authority: &Authority| {
        authority.issue_with(&["backend.test"], |params| {
            params.not_before = rcgen::date_time_ymd(2090, 1, 1)
        })
    };
    refused(
        Behind::new(right),
        &ROOTS.replace("roots.pem", "others.pem"),
        invalid,
        "its issuer is not among the roots",
    );
    refused(
        Behind::new(|authority| named(authority, "other.test")),
        ROOTS,
        invalid,
        "it is for other names",
    );
    refused(
        Behind::new(right),
        "roots = \"roots.pem\"",
        invalid,
        "it is for other names",
    );
    refused(Behind::new(past), ROOTS, invalid, "it has expired");
    refused(Behind::new(future), ROOTS, invalid, "it is not valid yet");
}

#[test]
fn a_backend_that_asks_for_a_certificate_is_shown_it() {
    let clients = Authority::new("Clients CA");
    let behind = Behind::asking(right, Some(&clients));
    clients
        .issue(&["pinring"])
        .write(behind.folder.path(), "own");
    let own = format!("{ROOTS}certificate = \"own.pem\"\nkey = \"own.key\"");
    let (pinring, _backend, _relay) = behind.start(&own, &[]);
    assert!(Client::initialize(pinring.address()).starts_with("a-"));

    let (pinring, backend, _relay) = Behind::asking(right, Some(&clients)).start(ROOTS, &[]);
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    assert!(answer.status >= 500, "{answer:?}");
    assert!(backend.received().is_empty());
    pinring.wait_for_log("CertificateRequired");
}

#[test]
fn a_backend_without_tls_is_told_from_one_with_a_bad_certificate() {
    let backend = Backend::answering(ok("", "hello"));
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Backends CA");
    fs::write(folder.path().join("roots.pem"), authority.pem()).unwrap();
    let toml = format!(
        "backends = [{{ name = \"a\", url = \"https://{}\" }}]\n[timeouts]\nconnect = \"1s\"\n[pool.tls]\n{ROOTS}",
        backend.address()
    );
    let pinring = Pinring::start_in(folder, &toml, &[]);
    let answer = Client::once(pinring.address(), "POST", "", "{}");
    assert_eq!(
        (answer.status, &*answer.reason()),
        (503, "backend_tls_failed"),
        "{answer:?}"
    );
    pinring.wait_for_log("no TLS with backend.test");
}

#[test]
fn a_backend_that_restarts_within_the_handshake_is_tried_again() {
    let behind = Behind::new(right);
    let (at, target) = (behind.relay.address(), behind.backend.address());
    let server = right(&behind.authority).server(None);
    drop(behind.relay);
    let first = listening(at);
    let restart = std::thread::spawn(move || {
        drop(first.accept().unwrap()); // its client has begun to speak: a reset
        drop(first);
        Relay::before_at(at, target, server)
    });
    let toml =
        format!("backends = [{{ name = \"a\", url = \"https://{at}\" }}]\n[pool.tls]\n{ROOTS}");
    let pinring = Pinring::start_in(behind.folder, &toml, &[]);
    assert!(Client::initialize(pinring.address()).starts_with("a-"));
    drop(restart.join().unwrap());
}

#[test]
fn new_work_goes_to_a_backend_that_can_be_believed() {
    let past = |authority: &Authority| {
        authority.issue_with(&["backend.test"], |params| {
            params.not_after = rcgen::date_time_ymd(2026, 1, 1)
        })
    };
    let (bad, good) = (Behind::new(past), Behind::new(right));
    let roots = [bad.authority.pem(), good.authority.pem()].concat();
    fs::write(good.folder.path().join("roots.pem"), roots).unwrap();
    let (bad_url, good_url) = (bad.relay.address(), good.relay.address());
    let toml = format!(
        "backends = [{{ name = \"bad\", url = \"https://{bad_url}\" }}, {{ name = \"a\", url = \"https://{good_url}\" }}]\n[pool.tls]\n{ROOTS}"
    );
    let pinring = Pinring::start_in(good.folder, &toml, &[]);
    for _ in 0..10 {
        assert!(Client::initialize(pinring.address()).starts_with("a-"));
    }
    assert!(bad.backend.received().is_empty());
    pinring.wait_for_log("suspect: gets no new work");
}

#[test]
fn a_probed_path_is_asked_for_by_tls() {
    let behind = Behind::new(right);
    let url = format!("https://{}", behind.relay.address());
    let toml = format!(
        "backends = [{{ name = \"a\", url = \"{url}\" }}]\n[pool]\nprobe_path = \"/healthz\"\n[pool.tls]\n{ROOTS}"
    );
    let target = behind.backend.address();
    let (backend, authority) = (behind.backend, behind.authority);
    let relay_address = behind.relay.address();
    drop(behind.relay);
    let pinring = Pinring::start_in(behind.folder, &toml, &[]);
    assert_eq!(
        Client::once(pinring.address(), "POST", "", "{}").status,
        503
    );
    pinring.wait_for_log("suspect");
    let _again = Relay::before_at(relay_address, target, right(&authority).server(None));
    pinring.wait_for_log("healthy again");
    assert!(
        backend
            .received()
            .iter()
            .any(|request| request.line().starts_with("GET /healthz "))
    );
}

#[test]
fn a_changed_certificate_of_our_own_is_shown_on_the_next_connection() {
    let clients = Authority::new("Clients CA");
    let behind = Behind::asking(right, Some(&clients));
    Authority::new("Nobody")
        .issue(&["pinring"])
        .write(behind.folder.path(), "own");
    let own = format!("{ROOTS}certificate = \"own.pem\"\nkey = \"own.key\"");
    let (pinring, _backend, _relay) = behind.start(&own, &[]);
    assert!(Client::once(pinring.address(), "POST", "", "{}").status >= 500);
    clients
        .issue(&["pinring"])
        .write(pinring.file().parent().unwrap(), "own");
    eventually("it is believed now", || {
        Client::once(pinring.address(), "POST", "", "{}").status == 200
    });
}
