//! All that a routing decision reads, in one immutable value, and the two ends of its publication.
//!
//! One writer ([`Publisher`], held by `reload`) and many readers: each thread has a [`Reader`] and each
//! request holds one snapshot from beginning to end, so that no request sees half of a change.

use std::{cell::RefCell, fmt, rc::Rc, sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::{
    backend::{Backend, BackendId, Name},
    config::{self, Limits, Placement, Timeouts},
    health::Vital,
    identity::trusted::Trusted,
    pin::{KeyId, Keys},
    ring::{Coordinate, Member, Nodes, Ring, hash},
    router::placement::{Candidate, Candidates, Load},
};

/// Everything that requests are routed and forwarded by.
#[derive(Debug)]
pub struct RoutingTable {
    /// The pools, in the order in which they are matched: the first that fits.
    pub pools: Vec<Pool>,
    /// What pins are signed and verified with.
    pub keys: Keys,
    /// Ids of keys that were configured earlier in the life of this process.
    pub retired: Vec<KeyId>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How large and how many things may be.
    pub limits: Limits,
    /// The proxies in front, which are believed what they say of clients.
    pub trusted_proxies: Trusted,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

impl RoutingTable {
    /// The pool for a request to `host` (lower case, without port) and `path`.
    #[must_use]
    pub fn pool_for(&self, host: Option<&str>, path: &str) -> Option<&Pool> {
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

/// A backend as the table knows it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What connections to it are kept by.
    pub id: BackendId,
    /// Its name, address, weight and admission.
    pub backend: Backend,
    /// Its virtual nodes.
    pub nodes: Arc<Nodes>,
    /// What it has to do.
    pub load: Arc<Load>,
    /// How it stands to the list of backends.
    pub standing: Standing,
    /// Whether it was drained and what it held is lost.
    pub drained: bool,
    /// How well it is.
    pub vital: Vital,
    /// Whether it was ever lost in the life of this process, or is: its sessions may be elsewhere.
    pub was_lost: bool,
    /// Whether it is to be told when it answers: see [`crate::health::State::wants_good_news`].
    pub wants_good_news: bool,
    /// Since when no connection could be made to it.
    pub down_since: Option<Instant>,
}

/// How a backend stands to the list of backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// On the list, and other proxies will have noticed.
    Listed,
    /// On the list for so short a time that other proxies may not know it.
    Joining,
    /// No longer on the list; its pins are still tried.
    Departed,
}

/// The backends that serve one host and path.
#[derive(Debug)]
pub struct Pool {
    /// Its name, what it matches, and its options.
    pub options: config::Pool,
    entries: Vec<Entry>,
    /// All that are known: listed, joining, departed.
    exact: Ring,
    /// Those on the list past their `join_delay`, draining ones included: where ids without a pin are.
    unpinned: Ring,
    /// Those that take new work.
    candidates: Candidates,
    /// Those of them that come first: none, unless placement is local-first.
    local: Candidates,
    /// Those whose time after departure has run out.
    lost: Option<Ring>,
    lost_nodes: Vec<Arc<Nodes>>,
}

impl Pool {
    /// Builds a pool of `entries`, of which the configuration has at least one. `lost` are those that
    /// were known and are gone for good.
    ///
    /// # Panics
    ///
    /// If `entries` is empty, which the configuration's check rules out.
    #[must_use]
    pub fn new(options: config::Pool, entries: Vec<Entry>, lost: &[Arc<Nodes>]) -> Self {
        let ring_of = |wanted: &dyn Fn(&Entry) -> bool| {
            Ring::try_new(
                (0..)
                    .zip(&entries)
                    .filter(|(_, entry)| wanted(entry))
                    .map(|(member, entry)| (member, &*entry.nodes)),
            )
        };
        let exact = ring_of(&|_| true).expect("a pool has at least one backend");
        let settled = |entry: &Entry| entry.standing == Standing::Listed;
        let listed = |entry: &Entry| entry.standing != Standing::Departed;
        // When the whole list is new, waiting for other proxies would be an outage.
        let unpinned = ring_of(&settled)
            .or_else(|| ring_of(&listed))
            .unwrap_or_else(|| exact.clone());
        let open = |wanted: &dyn Fn(&Entry) -> bool| -> Candidates {
            let open = |entry: &Entry| {
                wanted(entry) && entry.backend.admission == crate::backend::Admission::Open
            };
            (0..)
                .zip(&entries)
                .filter(|(_, entry)| open(entry))
                .map(|(member, entry)| entry.candidate(member))
                .collect()
        };
        let healthy = |entry: &Entry| entry.vital == Vital::Healthy;
        // Health never takes the last one out: who is down is found out by trying.
        let ranks: [&dyn Fn(&Entry) -> bool; 4] = [
            &|entry| settled(entry) && healthy(entry),
            &|entry| listed(entry) && healthy(entry),
            &settled,
            &listed,
        ];
        let candidates = ranks
            .into_iter()
            .map(open)
            .find(|found| !found.is_empty())
            .unwrap_or_default();
        let is_local = |entry: &Entry| {
            options.placement == Placement::LocalFirst
                && settled(entry)
                && healthy(entry)
                && options
                    .local
                    .as_ref()
                    .is_some_and(|local| local.is(&entry.backend))
        };
        let local = open(&is_local);
        let lost_nodes = lost.to_vec();
        let lost = Ring::try_new((0..).zip(lost.iter().map(|nodes| &**nodes)));
        Self {
            options,
            lost_nodes,
            exact,
            unpinned,
            candidates,
            local,
            lost,
            entries,
        }
    }

    /// One of its backends.
    #[must_use]
    pub fn entry(&self, member: Member) -> &Entry {
        &self.entries[member as usize]
    }

    /// All its backends.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The backend that has a virtual node at exactly this position.
    #[must_use]
    pub fn exact(&self, coordinate: Coordinate) -> Option<Member> {
        self.exact.exact(coordinate)
    }

    /// The coordinate that a string of this member is pinned to.
    #[must_use]
    pub fn coordinate_for(&self, member: Member, string: &[u8]) -> Coordinate {
        self.exact
            .coordinate_for(member, &self.entry(member).nodes, string)
    }

    /// The first at or after this position that takes new work, was not tried, and is healthy if anybody is.
    #[must_use]
    pub fn successor(&self, position: Coordinate, tried: &[Member]) -> Option<Member> {
        let takes_work =
            |member: &Member| !tried.contains(member) && self.candidates.contains(*member);
        self.exact.walk(position).find(takes_work)
    }

    /// Whether a backend with this virtual node was here and is gone for good.
    #[must_use]
    pub fn has_lost(&self, coordinate: Coordinate) -> bool {
        self.lost
            .as_ref()
            .is_some_and(|lost| lost.exact(coordinate).is_some())
    }

    /// The name of the backend that has, or had, a virtual node at exactly this position.
    #[must_use]
    pub fn name_at(&self, coordinate: Coordinate) -> Option<&Name> {
        if let Some(member) = self.exact(coordinate) {
            return Some(&self.entry(member).backend.name);
        }
        let gone = self.lost.as_ref()?.exact(coordinate)?;
        Some(self.lost_nodes[gone as usize].name())
    }

    /// The backend that an id without a pin belongs to.
    #[must_use]
    pub fn unpinned_owner(&self, position: Coordinate) -> Member {
        self.unpinned.successor(position)
    }

    /// The backends that take new work.
    #[must_use]
    pub fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// Those of them that are asked before the others.
    #[must_use]
    pub fn local(&self) -> &Candidates {
        &self.local
    }

    /// The first on the ring from the pool's name on that takes new work and was not tried: the same in
    /// every proxy with the same list.
    #[must_use]
    pub fn home(&self, tried: &[Member]) -> Option<Member> {
        let position = hash::position(self.options.name.as_bytes());
        self.successor(position, tried)
    }
}

impl Entry {
    fn candidate(&self, member: Member) -> Candidate {
        Candidate {
            member,
            weight: self.backend.weight,
            load: Arc::clone(&self.load),
        }
    }
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
