//! What the tests are built from: the pinring process, backends that answer as told, a client of raw bytes.

mod admin;
mod backend;
mod client;
mod dns;
pub(crate) mod http2;
mod metrics;
mod names;
mod namespace;
mod process;
mod resources;
mod tls;

use std::{
    io::{self, ErrorKind},
    time::{Duration, Instant},
};

pub(crate) use self::{
    admin::{administrated, administrated_by_tcp, ask, server_with_admin, socket_in},
    backend::{Arrivals, Asked, Backend, Closed, Received, Unreachable, anywhere, listening, ok},
    client::{Answer, Chunk, Client, request},
    dns::{Dns, at_one_port},
    metrics::Scrape,
    names::Names,
    namespace::{Link, Namespace},
    process::Pinring,
    tls::{Authority, Pair, Relay},
};

/// The longest that a test waits for something that must come. Tests run side by side, on machines that do other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// `[server]` for tests that count a backend's connections: each thread has a pool of its own.
pub(crate) const ONE_THREAD: &str = "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\n";

/// Does it until it is not interrupted: a process that was stopped for a moment finds its reads ended, where they
/// have a time limit.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Makes the end of `stream` a reset, as when its process is killed with unread data.
pub(crate) fn reset_on_close(stream: &std::net::TcpStream) {
    let socket = socket2::SockRef::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// Waits until `condition` holds; panics with `what` if it never does.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The `backends` key for backends by name, each with further keys, such as `, draining = true`.
pub(crate) fn listing(backends: &[(&str, &Backend, &str)]) -> String {
    let entry = |(name, backend, more): &(&str, &Backend, &str)| {
        let url = format!("http://{}", backend.address());
        format!("{{ name = \"{name}\", url = \"{url}\"{more} }}")
    };
    let entries: Vec<String> = backends.iter().map(entry).collect();
    format!("backends = [{}]\n", entries.join(", "))
}
