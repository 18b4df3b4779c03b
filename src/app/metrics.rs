//! Where the metrics of a process come from.

use tokio::sync::watch;

use crate::{
    limits::{Connections, Limit, Reached},
    net::{self, tls::Acceptor},
    observe::{
        Meters,
        metrics::{Backend, Certificate, Metrics, Pool, Reading, Service},
        otlp,
    },
    proxy::Renewals,
    reload,
    router::{
        membership::Shown,
        table::{self, Entry, RoutingTable, Subscriber},
    },
    sessions::store::Store,
    shutdown::{Phase, Rouser},
    upstream,
};

/// All that is read for a scrape.
pub(super) struct Sources {
    pub(super) tables: Subscriber,
    pub(super) services: watch::Receiver<Vec<reload::Shown>>,
    pub(super) renewals: Renewals,
    pub(super) store: Store,
    pub(super) connections: Connections,
    pub(super) reached: Reached,
    pub(super) upstream: upstream::Open,
    pub(super) acceptor: Acceptor,
    pub(super) phases: Rouser,
    pub(super) spans: otlp::Counts,
}

impl Sources {
    /// The metrics that come from here and from `meters`.
    pub(super) fn metrics(self, meters: Meters) -> Metrics {
        Metrics::new(meters, move || self.read())
    }

    fn read(&self) -> Reading {
        let table = self.tables.current();
        Reading {
            pools: table.pools.iter().map(pool).collect(),
            services: self.services.borrow().iter().map(service).collect(),
            ring: table.ring_digest(),
            keys: table.keys.digest(),
            pins_verified: pins_verified(&table),
            sessions_reinitialized: self.renewals.reinitialized(),
            handshakes_forgotten: self.store.forgotten(),
            spans: [self.spans.exported(), self.spans.dropped()],
            store_up: self.store.is_up(),
            downstream: self.connections.count(),
            upstream: self.upstream.count(),
            limits: Limit::ALL
                .map(|limit| (limit.key(), self.reached.times(limit)))
                .to_vec(),
            tls_handshakes_failed: self.acceptor.failed(),
            certificates: self
                .acceptor
                .shown()
                .into_iter()
                .map(|shown| Certificate {
                    names: shown.names.join(" "),
                    until: shown.until,
                })
                .collect(),
            draining: self.phases.phase() != Phase::Running,
        }
    }
}

fn pool(pool: &table::Pool) -> Pool {
    Pool {
        name: pool.options.name.clone(),
        traffic: pool.traffic.clone(),
        backends: pool.entries().iter().map(backend).collect(),
    }
}

fn service(shown: &reload::Shown) -> Service {
    Service {
        pool: shown.pool.clone(),
        url: shown.url.clone(),
        addresses: shown.addresses.unwrap_or(0),
        failing: shown.failure.is_some(),
    }
}

fn backend(entry: &Entry) -> Backend {
    let left = |at: net::Instant| at.saturating_duration_since(net::now()).as_secs_f64();
    Backend {
        name: entry.backend.name.to_string(),
        traffic: entry.traffic.clone(),
        state: (Shown::of_entry(entry).as_str(), &Shown::WORDS),
        sessions: entry.load.sessions(),
        in_flight: entry.load.in_flight(),
        forgotten: entry.load.forgotten(),
        lost_in: entry.ends_at.map(left),
    }
}

fn pins_verified(table: &RoutingTable) -> Vec<(String, u64)> {
    let of_key = |key| (format!("{key}"), table.verified.by(key));
    table.keys.ids().map(of_key).collect()
}
