//! The metrics of this process, as OpenMetrics text.
//!
//! Everything is read when somebody asks, nothing is pushed: [`Metrics`] asks whoever knows for a [`Reading`] and writes
//! it down. So what is gone has no series either. Labels hold names of the configuration and words of enumerations,
//! and nothing that a client chooses.

mod families;
mod writer;

use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use prometheus_client::{encoding::text, registry::Registry};
use serde::{Deserialize, Serialize};

use self::families::Scrape;
use super::{meter::Meters, traffic::Traffic};

/// What OpenMetrics text is announced as.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Tells how this process stands. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    meters: Meters,
    read: Arc<dyn Fn() -> Reading + Send + Sync>,
}

/// How a process stands at one moment, as far as that is not counted by [`Meters`].
#[derive(Debug, Default)]
pub struct Reading {
    /// The pools, in the order in which they are matched.
    pub pools: Vec<Pool>,
    /// The DNS names that stand for backends, in the order of the file.
    pub services: Vec<Service>,
    /// A digest of which backends there are: equal where proxies agree.
    pub ring: String,
    /// A digest of the keys and their order, from which none can be found out.
    pub keys: String,
    /// How many pins each key has verified, by its id.
    pub pins_verified: Vec<(String, u64)>,
    /// Sessions that were brought back at another backend.
    pub sessions_reinitialized: u64,
    /// Handshakes that were forgotten, because `store.sessions` holds no more.
    pub handshakes_forgotten: u64,
    /// Spans that the collector has taken, and that were lost.
    pub spans: [u64; 2],
    /// Whether the shared store can be reached; `None` where there is none.
    pub store_up: Option<bool>,
    /// Connections of clients.
    pub downstream: usize,
    /// Connections to backends.
    pub upstream: usize,
    /// How often each limit was reached, by its key.
    pub limits: Vec<(&'static str, u64)>,
    /// Clients that did not come through the TLS handshake.
    pub tls_handshakes_failed: u64,
    /// The certificates that clients are shown.
    pub certificates: Vec<Certificate>,
    /// Whether the process is leaving: balancers are to send nobody any more.
    pub draining: bool,
}

/// One pool.
#[derive(Debug)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its requests that came to no backend.
    pub traffic: Arc<Traffic>,
    /// Its backends.
    pub backends: Vec<Backend>,
}

/// One DNS name that stands for backends.
#[derive(Debug)]
pub struct Service {
    /// Its pool.
    pub pool: String,
    /// Its URL.
    pub url: String,
    /// How many addresses its last list has.
    pub addresses: usize,
    /// Whether there is no newer list because the DNS did not give one.
    pub failing: bool,
}

/// One backend of one pool.
#[derive(Debug)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// What it was asked.
    pub traffic: Arc<Traffic>,
    /// How it stands, and all words that there are for that.
    pub state: (&'static str, &'static [&'static str]),
    /// Its live sessions.
    pub sessions: u32,
    /// Its requests and streams that are under way.
    pub in_flight: u32,
    /// How many sessions it did not know though it had answered them a moment ago.
    pub forgotten: u64,
    /// In how many seconds what it holds will be lost, if that is known.
    pub lost_in: Option<f64>,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The host names that it is for.
    pub names: String,
    /// The last moment of its time.
    pub until: SystemTime,
}

impl Metrics {
    /// Of what `meters` count, and what `read` tells.
    pub fn new(meters: Meters, read: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        let read = Arc::new(read);
        Self { meters, read }
    }

    /// A part of it, in numbers.
    #[must_use]
    pub fn glance(&self) -> Glance {
        let some =
            |(word, times): (&'static str, u64)| (times > 0).then(|| (word.to_owned(), times));
        let asked = |pool: &Pool, backend: &Backend| Asked {
            pool: pool.name.clone(),
            backend: backend.name.clone(),
            requests: backend.traffic.requests().map(|(.., times)| times).sum(),
            streams: backend.traffic.streams(),
        };
        let pools = (self.read)().pools;
        let of_pool = |pool: &Pool| -> Vec<Asked> {
            let backends = pool.backends.iter();
            backends.map(|backend| asked(pool, backend)).collect()
        };
        Glance {
            traffic: pools.iter().flat_map(of_pool).collect(),
            refusals: self.meters.refusals().read().filter_map(some).collect(),
            losses: self.meters.losses().read().filter_map(some).collect(),
        }
    }

    /// Everything at this moment, in the text that [`CONTENT_TYPE`] announces. Takes microseconds for each backend, and
    /// waits for nothing.
    #[must_use]
    pub fn openmetrics(&self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape {
            meters: self.meters.clone(),
            reading: (self.read)(),
        }));
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("a string takes whatever is written");
        text
    }
}

/// What a page shows of a process each second.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Glance {
    /// What each backend was asked.
    pub traffic: Vec<Asked>,
    /// Answers of pinring's own, by reason; those that there were.
    pub refusals: BTreeMap<String, u64>,
    /// Live sessions that were lost, by why; those that there were.
    pub losses: BTreeMap<String, u64>,
}

/// What one backend was asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Asked {
    /// Its pool.
    pub pool: String,
    /// Its name.
    pub backend: String,
    /// All requests that were answered, or whose client left, since it has been known.
    pub requests: u64,
    /// The event streams that are open.
    pub streams: u32,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
