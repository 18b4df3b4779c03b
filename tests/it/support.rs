//! What the tests are built from: the pinring process, backends that answer as told, a client of raw bytes.

mod backend;
mod client;
mod process;

use std::time::{Duration, Instant};

pub(crate) use self::{
    backend::{Backend, Received, ok},
    client::{Answer, Chunk, Client, request},
    process::Pinring,
};

/// The longest that a test waits for something that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `condition` holds; panics with `what` if it never does.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
