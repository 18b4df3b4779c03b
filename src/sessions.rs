//! The live sessions of each backend, as far as this process knows them: what new work is placed and limited by.
//!
//! Nothing is routed by this: a session that is not known here is served all the same, and known from its
//! first request on. After a start the counts are therefore too low for a while. A session is live from the
//! answer that issued its id, until DELETE, the backend's 404, the backend's loss, or `session_idle` without a
//! request or an open stream.
//!
//! Beside it, [`store`] has what sessions of lost backends are brought back by.

mod redis;
pub mod store;

mod forgotten;
mod principals;
mod table;

use std::{
    mem::size_of,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

pub use self::principals::{Full, Opening, Owner};
use self::{principals::Principals, table::Table};
use crate::{
    net::{self, Instant},
    ring::hash,
    router::placement::Load,
};

/// Parts of each table, each behind a lock of its own: threads seldom meet, and who comes moves few others on.
const SHARDS: usize = 1024;

/// How often idle sessions are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// The live sessions of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sessions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    // Held for one lookup, never across an await.
    shards: Vec<Mutex<Table<Live>>>,
    principals: Principals,
    began: Instant,
    /// An odd number that nobody outside knows: who can choose ids must not choose their places.
    scatter: u64,
}

/// One session.
#[derive(Debug)]
struct Live {
    load: Arc<Load>,
    /// Whose it is, once an answer has shown it and somebody counts.
    owner: Option<Owner>,
    /// Seconds since the process began.
    last_use: u32,
    /// Requests and streams that are under way.
    open: u32,
}

/// What a live session may cost, were each of a principal of its own.
const MOST_BYTES: usize = 64;

// A table has at most 9/8 places for each entry right after it has grown, and one of all shards grows at a
// time. The sweep brings it back to that where many have gone.
const _: () = {
    let places = size_of::<(u64, Live)>() + size_of::<(u64, NonZeroU32)>();
    assert!(places * 9 * (SHARDS + 1) / SHARDS / 8 <= MOST_BYTES);
};

impl Sessions {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            shards: shards(),
            principals: Principals::default(),
            began: net::now(),
            scatter: fastrand::u64(..) | 1,
        }))
    }

    /// The same where the session may be none: it is noted only if it is known already.
    #[must_use]
    pub fn visit_known(&self, id: &[u8], load: &Arc<Load>) -> Option<Visit> {
        let key = self.key(id, load);
        let known = self.shard(key).get_mut(key).is_some();
        known.then(|| self.visit(id, load))
    }

    /// A request of the session that its backend calls `id` begins. The session is known from now on.
    #[must_use]
    pub fn visit(&self, id: &[u8], load: &Arc<Load>) -> Visit {
        let key = self.key(id, load);
        let mut shard = self.shard(key);
        let live = shard.get_or_insert_with(key, || Live::new(load));
        live.open += 1; // how long it idles counts from the end of this
        let is_unowned = live.owner.is_none();
        drop(shard);
        Visit {
            sessions: self.clone(),
            key,
            is_unowned,
        }
    }

    /// Forgets the sessions of a backend that is lost.
    pub fn forget(&self, load: &Arc<Load>) {
        self.end_all(|live| Arc::ptr_eq(&live.load, load));
    }

    /// Forgets idle sessions, for ever.
    pub async fn sweep(&self) {
        loop {
            net::sleep(SWEEP_INTERVAL).await;
            self.forget_idle(self.seconds());
        }
    }

    fn forget_idle(&self, now: u32) {
        self.end_all(|live| {
            live.open == 0 && now.saturating_sub(live.last_use) >= live.load.session_idle()
        });
        self.0.principals.sweep();
    }

    fn end_all(&self, is_over: impl Fn(&Live) -> bool) {
        for shard in &self.0.shards {
            lock(shard).sweep(|live| {
                let over = is_over(live);
                if over {
                    self.disown(live);
                }
                over
            });
        }
    }

    fn end(&self, key: u64) {
        let ended = self.shard(key).remove(key);
        if let Some(live) = ended {
            self.disown(&live);
        }
    }

    /// The session of `live` ends: its owner has one less.
    fn disown(&self, live: &Live) {
        if let Some(owner) = live.owner {
            self.0.principals.ends(owner);
        }
    }

    fn seconds(&self) -> u32 {
        let seconds = net::now().saturating_duration_since(self.0.began).as_secs();
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    /// Servers that number their sessions make the same ids: only with its backend an id is one session.
    fn key(&self, id: &[u8], load: &Arc<Load>) -> u64 {
        let backend = Arc::as_ptr(load).addr() as u64; // nobody else's, for each session holds it
        (hash::position(id).0 ^ backend).wrapping_mul(self.0.scatter)
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Table<Live>> {
        // The table's own places come from the highest bits.
        lock(&self.0.shards[(key >> 16) as usize % SHARDS])
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self::new()
    }
}

fn shards<T: Default>() -> Vec<Mutex<T>> {
    std::iter::repeat_with(Mutex::default)
        .take(SHARDS)
        .collect()
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock().expect("nobody panics while holding it")
}

impl Live {
    fn new(load: &Arc<Load>) -> Self {
        load.session_begins();
        Self {
            load: Arc::clone(load),
            owner: None,
            last_use: 0,
            open: 0,
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.load.session_ends();
    }
}

/// A request or a stream of a session, until it is dropped.
#[derive(Debug)]
pub struct Visit {
    sessions: Sessions,
    key: u64,
    is_unowned: bool,
}

impl Visit {
    /// Whether nobody owns the session yet.
    #[must_use]
    pub fn is_unowned(&self) -> bool {
        self.is_unowned
    }

    /// The session is `owner`'s from now on, if it is nobody's yet.
    pub fn belongs_to(&mut self, owner: Owner) {
        self.is_unowned = false;
        if let Some(live) = self.sessions.shard(self.key).get_mut(self.key)
            && live.owner.is_none()
        {
            live.owner = Some(owner);
            self.sessions.0.principals.begins(owner);
        }
    }

    /// The session is over: its client ended it, or its backend does not know it.
    pub fn end_session(self) {
        self.sessions.end(self.key);
    }

    /// The session's backend broke off: see [`Sessions::doubt`].
    pub fn doubt_backend(&self) {
        if let Some(live) = self.sessions.shard(self.key).get_mut(self.key) {
            self.sessions.doubt(&live.load);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let now = self.sessions.seconds();
        if let Some(live) = self.sessions.shard(self.key).get_mut(self.key) {
            live.open = live.open.saturating_sub(1);
            live.last_use = now;
        }
    }
}

#[cfg(test)]
mod tests;
