//! The admin listener: tells how this process stands, and takes changes to it.
//!
//! A small JSON interface over HTTP: on a Unix socket that only its owner may open, and on a TCP address, where
//! `guard` looks who asks. It reads and changes nothing itself: the table's writer is asked, and stays the only one
//! that writes. Every change leaves one line in the log, under `pinring::audit`. A new endpoint is one more row in
//! `routes`.

pub mod api;
pub mod client;

mod change;
mod dashboard;
mod explain;
mod guard;
mod listener;
mod local_drain;
mod log;
mod probes;
mod routes;
mod status;
mod take_over;

use std::{fmt, path::PathBuf, sync::Arc};

use http::{Response, StatusCode};
use tokio::sync::{Semaphore, mpsc, watch};

use self::api::{Body, Fault};
use crate::{
    limits::{Connections, Reached},
    net::{self, Instant},
    observe::metrics::Metrics,
    reload::command::Commander,
    router::{Refusal, table::Subscriber},
    sessions::store::Store,
    shutdown::Rouser,
    takeover::Claim,
};

/// What an admin listener tells of, and through whom it changes anything.
#[derive(Debug)]
pub struct Process {
    /// The table's writer.
    pub writer: Commander,
    /// Is given who wants to take this process's place.
    pub claims: mpsc::Sender<Claim>,
    /// What becomes of a request that goes nowhere: its status and reason.
    pub verdict: fn(Refusal) -> (StatusCode, &'static str),
    /// Where sessions went whose backend was lost.
    pub store: Store,
    /// What the process counts.
    pub counters: Counters,
    /// What it measures.
    pub metrics: Metrics,
    /// The connections of clients.
    pub connections: Connections,
    /// How often limits were reached.
    pub reached: Reached,
    /// The routing table.
    pub tables: Subscriber,
    /// Whether all names that stand for backends were asked for, and somebody was found.
    pub discovered: watch::Receiver<bool>,
    /// How far the end of the process has come.
    pub phases: Rouser,
    /// Where it listens.
    pub listeners: api::Listeners,
    /// What nothing protects, each in a few words.
    pub unprotected: Vec<String>,
    /// The configuration's file, if there is one.
    pub file: Option<PathBuf>,
}

/// What answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admin {
    process: Arc<Process>,
    began: Instant,
    /// One process may take over at a time.
    claimed: Arc<Semaphore>,
}

/// Reads what the process counts. Cheap to clone.
#[derive(Clone)]
pub struct Counters(Arc<dyn Fn() -> api::Counts + Send + Sync>);

impl Counters {
    /// Reads by calling `read`.
    pub fn new(read: impl Fn() -> api::Counts + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counters").field(&(self.0)()).finish()
    }
}

type Answered = Result<Response<Body>, Fault>;

impl Admin {
    /// An admin of `process`, which begins now.
    #[must_use]
    pub fn new(process: Process) -> Self {
        Self {
            process: Arc::new(process),
            began: net::now(),
            claimed: Arc::new(Semaphore::new(1)),
        }
    }
}
