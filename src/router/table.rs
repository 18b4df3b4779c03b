//! All that a routing decision reads, in one immutable value, and the two ends of its publication.
//!
//! One writer ([`Publisher`], held by `reload`) and many readers: each thread has a [`Reader`] and each
//! request holds one snapshot from beginning to end, so that no request sees half of a change.

mod pool;
mod rings;

use std::{
    cell::{LazyCell, RefCell},
    fmt,
    rc::Rc,
    sync::Arc,
};

use arc_swap::ArcSwap;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

pub use self::{
    pool::{Entry, Pool, Standing},
    rings::Rings,
};
use crate::{
    config::{Cors, Limits, Log, Origins, PathPrefix, Sampling, Timeouts},
    identity::trusted::Trusted,
    pin::{KeyId, Keys, Verified},
};

/// Everything that requests are routed and forwarded by.
#[derive(Debug)]
pub struct RoutingTable {
    /// The pools, in the order in which they are matched: the first that fits.
    pub pools: Vec<Pool>,
    /// What pins are signed and verified with.
    pub keys: Keys,
    /// How many pins each of them has verified.
    pub verified: Verified,
    /// Ids of keys that were configured earlier in the life of this process.
    pub retired: Vec<KeyId>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How large and how many things may be.
    pub limits: Limits,
    /// What is told of requests.
    pub log: Log,
    /// Which of them become spans; `None`: nobody asks.
    pub tracing: Option<Sampling>,
    /// The proxies in front, which are believed what they say of clients.
    pub trusted_proxies: Trusted,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// The path that is this process's own, for balancers.
    pub health_path: Option<PathPrefix>,
    /// Whose pages may ask.
    pub allowed_origins: Origins,
    /// What is told to pages of other origins, where that is not left to the backends.
    pub cors: Option<Arc<Cors>>,
}

impl RoutingTable {
    /// The pool for a request to `host` (lower case, without port), which is only found out if a pool wants to know, and
    /// `path`.
    #[must_use]
    pub fn pool_for<'h>(
        &self,
        host: impl FnOnce() -> Option<&'h str>,
        path: &str,
    ) -> Option<&Pool> {
        let host = LazyCell::new(host);
        let path = described_path(path);
        let fits = |pool: &&Pool| {
            let wanted = &pool.options.matcher;
            let host_fits = wanted
                .host
                .as_deref()
                .is_none_or(|wanted| host.is_some_and(|host| wanted.eq_ignore_ascii_case(host)));
            host_fits && wanted.path.strip(path).is_some()
        };
        self.pools.iter().find(fits)
    }

    /// Where one of its pools is among all.
    ///
    /// # Panics
    ///
    /// If it is another table's.
    #[must_use]
    pub fn index_of(&self, pool: &Pool) -> usize {
        let of_pool = |other: &Pool| std::ptr::eq(other, pool);
        let index = self.pools.iter().position(of_pool);
        index.expect("the pool is one of its table's")
    }

    /// Sixteen hexadecimal digits that are equal in all processes whose pools list the same backends, in whatever order:
    /// those that have departed are a memory of this process alone.
    #[must_use]
    pub fn ring_digest(&self) -> String {
        let is_listed = |entry: &&Entry| entry.standing != Standing::Departed;
        let mut pools: Vec<(&str, Vec<&str>)> = Vec::new();
        for pool in &self.pools {
            let entries = pool.entries().iter().filter(is_listed);
            let mut names: Vec<&str> = entries.map(|entry| entry.backend.name.as_str()).collect();
            names.sort_unstable();
            pools.push((&pool.options.name, names));
        }
        pools.sort_unstable();
        let mut all = Sha256::new();
        for (pool, names) in pools {
            for name in [pool].into_iter().chain(names) {
                all.update(name);
                all.update(b"\0"); // in no name of a backend
            }
            all.update(b"\0"); // no name is empty
        }
        HEXLOWER.encode(&all.finalize()[..8])
    }

    /// Whether sessions of any pool are bound to principals.
    #[must_use]
    pub fn binds_sessions(&self) -> bool {
        self.pools.iter().any(|pool| pool.options.bind.is_some())
    }

    /// Whether a key with this id was configured here and taken out again.
    #[must_use]
    pub fn has_retired(&self, key: KeyId) -> bool {
        self.retired.contains(&key)
    }
}

/// The path that a path stands for when pools are matched: of `/.well-known/<document>/<path>`, `/<path>`,
/// for the document describes what is served there (RFC 8414, section 3.1; RFC 9728, section 3.1).
/// `*`, as in `OPTIONS *`, stands for everything.
fn described_path(path: &str) -> &str {
    if path == "*" {
        return "/";
    }
    well_known_suffix(path).map_or(path, |(_, described)| described)
}

/// Splits `/.well-known/<document>/<path>` before `/<path>`.
#[must_use]
pub fn well_known_suffix(path: &str) -> Option<(&str, &str)> {
    const PREFIX: &str = "/.well-known/";
    let document = path.strip_prefix(PREFIX)?;
    path.split_at_checked(PREFIX.len() + document.find('/')?)
}

/// The end that writes.
#[derive(Debug)]
pub struct Publisher {
    current: Arc<ArcSwap<RoutingTable>>,
    changed: Arc<Notify>,
}

/// Where each thread gets its [`Reader`] from.
#[derive(Debug, Clone)]
pub struct Subscriber {
    current: Arc<ArcSwap<RoutingTable>>,
    changed: Arc<Notify>,
}

/// The end that reads, for one thread.
pub struct Reader {
    shared: Subscriber,
    /// The snapshot again, so that a request takes it without touching a count that threads share.
    local: RefCell<Snapshot>,
}

/// One table, from the beginning of a request to its end. The outer count is the thread's own: cloning it
/// touches no cache line that other threads write.
pub type Snapshot = Rc<Arc<RoutingTable>>;

/// Publishes the first table.
#[must_use]
pub fn publish(table: RoutingTable) -> (Publisher, Subscriber) {
    let current = Arc::new(ArcSwap::from_pointee(table));
    let changed = Arc::<Notify>::default();
    (
        Publisher {
            current: Arc::clone(&current),
            changed: Arc::clone(&changed),
        },
        Subscriber { current, changed },
    )
}

impl Publisher {
    /// Puts `table` in place of the one before, for all requests that begin from now on.
    pub fn replace(&self, table: RoutingTable) {
        self.current.store(Arc::new(table));
        self.changed.notify_waiters();
    }
}

impl Subscriber {
    /// The table of this moment, for whoever asks now and then.
    #[must_use]
    pub fn current(&self) -> Arc<RoutingTable> {
        self.current.load_full()
    }

    /// The reader of this thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader {
            local: RefCell::new(Rc::new(self.current.load_full())),
            shared: self.clone(),
        }
    }
}

impl Reader {
    /// The table of this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let current = self.shared.current.load();
        let mut local = self.local.borrow_mut();
        if !Arc::ptr_eq(&current, &local) {
            *local = Rc::new(Arc::clone(&current));
        }
        Rc::clone(&local)
    }

    /// Something that sees changes from now on.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes {
            seen: self.shared.current.load_full(),
            shared: self.shared.clone(),
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// Waits for new tables.
#[derive(Debug)]
pub struct Changes {
    shared: Subscriber,
    seen: Arc<RoutingTable>,
}

impl Changes {
    /// The last table that was seen here.
    #[must_use]
    pub fn seen(&self) -> Snapshot {
        Rc::new(Arc::clone(&self.seen))
    }

    /// Waits for a table that is newer than the last one seen here. Cancel safe.
    pub async fn next(&mut self) {
        loop {
            // Before the look at the table, so that none is missed. Those who wait are woken in the order in
            // which they came: tokio's `watch` wakes by chance, and a simulation could not be repeated.
            let changed = self.shared.changed.notified();
            let current = self.shared.current.load();
            if !Arc::ptr_eq(&current, &self.seen) {
                self.seen = Arc::clone(&current);
                return;
            }
            drop(current); // a guard of `ArcSwap` is not to be held for long
            changed.await;
        }
    }
}
