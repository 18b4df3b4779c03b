//! Backends that are named by a DNS name: what the resolver says, or does not say, is not their fault.

use std::{
    io::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::support::{Backend, Client, Names, Pinring, anywhere, ok};

const NAME: &str = "a.pinring.test";

/// Longer than the times after which a backend is lost.
const LONG: Duration = Duration::from_secs(4);

fn server(address: SocketAddr) -> Backend {
    Backend::on(address, |request, stream| {
        let id = request.header("mcp-session-id").unwrap_or("id");
        stream
            .write_all(&ok(&format!("mcp-session-id: {id}\r\n"), "a"))
            .is_ok()
    })
}

/// A pinring that connects to `backend` by its name, for each request anew.
fn start(names: &Names, backend: &Backend) -> Pinring {
    let port = backend.address().port();
    let toml = format!(
        "[[backends]]\nname = \"a\"\nurl = \"http://{NAME}:{port}\"\n\
         [affinity]\nloss_after = \"1s\"\nunreachable_after = \"2s\"\n\
         [timeouts]\nconnect = \"300ms\"\nupstream_keep_alive = \"0s\"\n"
    );
    let prefix = names.prefix();
    Pinring::start_by(&prefix.each_ref().map(String::as_str), &toml)
}

fn ask(pinring: &Pinring, id: &str) -> u16 {
    let session = format!("Mcp-Session-Id: {id}\r\n");
    Client::once(pinring.address(), "POST", &session, "{}").status
}

/// What all requests of a session are answered for a while.
fn answers(pinring: &Pinring, id: &str) -> Vec<u16> {
    let began = Instant::now();
    let mut answers = Vec::new();
    while began.elapsed() < LONG {
        answers.push(ask(pinring, id));
        std::thread::sleep(Duration::from_millis(20));
    }
    answers.dedup();
    answers
}

#[test]
fn a_silent_dns_server_costs_no_session() {
    let Some(names) = Names::try_new() else {
        return;
    };
    let backend = server(anywhere());
    names.put(NAME, backend.address().ip());
    let pinring = start(&names, &backend);
    let id = Client::initialize(pinring.address());
    names.fall_silent();
    assert_eq!(answers(&pinring, &id), [200]);
    assert!(!pinring.log().iter().any(|line| line.contains("suspect")));
}

#[test]
fn a_backend_whose_name_is_gone_too_is_lost_in_time_and_stays_so() {
    for silent in [false, true] {
        let Some(names) = Names::try_new() else {
            return;
        };
        let backend = server(anywhere());
        names.put(NAME, backend.address().ip());
        let address = backend.address();
        let pinring = start(&names, &backend);
        let id = Client::initialize(pinring.address());
        drop(backend);
        if silent {
            names.fall_silent();
        } else {
            names.take_away();
        }
        assert_eq!(ask(&pinring, &id), 503);
        pinring.wait_for_log("down for too long");
        assert_eq!(answers(&pinring, &id), [404]);
        let _back = server(address);
        pinring.wait_for_log("healthy again");
        assert_eq!(ask(&pinring, &id), 200);
    }
}
