//! The live sessions of each backend, as far as this process knows them: what new work is placed by.
//!
//! Nothing is routed by this: a session that is not known here is served all the same, and known from its
//! first request on. After a start the counts are therefore too low for a while. A session is live from the
//! answer that issued its id, until DELETE, the backend's 404, the backend's loss, or `session_idle` without a
//! request or an open stream.
//!
//! Beside it, [`store`] has what sessions of lost backends are brought back by.

mod redis;
pub mod store;

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    mem::size_of,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crate::{
    net::{self, Instant},
    ring::hash,
    router::placement::Load,
};

/// Parts of the table, each behind a lock of its own: threads seldom meet.
const SHARDS: usize = 32;

/// How often idle sessions are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// The live sessions of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sessions(Arc<Table>);

#[derive(Debug)]
struct Table {
    // Held for one lookup, never across an await.
    shards: [Mutex<Shard>; SHARDS],
    began: Instant,
}

type Shard = HashMap<u64, Live, BuildHasherDefault<Hashed>>;

/// One session. With its key and the table's spare room it stays below 64 bytes.
#[derive(Debug)]
struct Live {
    load: Arc<Load>,
    /// Seconds since the process began.
    last_use: u32,
    /// Requests and streams that are under way.
    open: u32,
}

// hashbrown keeps one control byte for each place, and at least every second place is taken after growth.
const _: () = assert!((size_of::<(u64, Live)>() + 1) * 8 / 7 <= 32 + 4);

/// The keys are hashes already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("keys are u64");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

impl Sessions {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Table {
            shards: std::array::from_fn(|_| Mutex::default()),
            began: net::now(),
        }))
    }

    /// The same where the session may be none: it is noted only if it is known already.
    #[must_use]
    pub fn visit_known(&self, id: &[u8], load: &Arc<Load>) -> Option<Visit> {
        let key = hash::position(id).0;
        let known = self.shard(key).contains_key(&key);
        known.then(|| self.visit(id, load))
    }

    /// A request of the session that its backend calls `id` begins. The session is known from now on.
    #[must_use]
    pub fn visit(&self, id: &[u8], load: &Arc<Load>) -> Visit {
        let key = hash::position(id).0;
        let now = self.seconds();
        let mut shard = self.shard(key);
        let live = shard.entry(key).or_insert_with(|| Live::new(load));
        if !Arc::ptr_eq(&live.load, load) {
            *live = Live::new(load); // it has moved, or two backends made one id
        }
        live.last_use = now;
        live.open += 1;
        drop(shard);
        Visit {
            sessions: self.clone(),
            key,
        }
    }

    /// Forgets the sessions of a backend that is lost.
    pub fn forget(&self, load: &Arc<Load>) {
        for shard in &self.0.shards {
            lock(shard).retain(|_, live| !Arc::ptr_eq(&live.load, load));
        }
    }

    /// Forgets idle sessions, for ever.
    pub async fn sweep(&self) {
        loop {
            net::sleep(SWEEP_INTERVAL).await;
            self.forget_idle(self.seconds());
        }
    }

    fn forget_idle(&self, now: u32) {
        for shard in &self.0.shards {
            lock(shard).retain(|_, live| {
                live.open > 0 || now.saturating_sub(live.last_use) < live.load.session_idle()
            });
        }
    }

    fn seconds(&self) -> u32 {
        let seconds = net::now().saturating_duration_since(self.0.began).as_secs();
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        // The map's own places come from the lowest bits, its tags from the highest.
        lock(&self.0.shards[(key >> 32) as usize % SHARDS])
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self::new()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

impl Live {
    fn new(load: &Arc<Load>) -> Self {
        load.session_begins();
        Self {
            load: Arc::clone(load),
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
}

impl Visit {
    /// The session is over: its client ended it, or its backend does not know it.
    pub fn end_session(self) {
        self.sessions.shard(self.key).remove(&self.key);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let now = self.sessions.seconds();
        if let Some(live) = self.sessions.shard(self.key).get_mut(&self.key) {
            live.open = live.open.saturating_sub(1);
            live.last_use = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Arc<Load> {
        let load = Arc::new(Load::default());
        load.set_session_idle(Duration::from_secs(60));
        load
    }

    #[test]
    fn a_session_counts_once_from_its_first_request_until_its_end() {
        let (sessions, load) = (Sessions::new(), load());
        drop(sessions.visit(b"one", &load));
        drop(sessions.visit(b"one", &load));
        let other = sessions.visit(b"other", &load);
        assert_eq!(load.sessions(), 2);
        other.end_session();
        assert_eq!(load.sessions(), 1);
    }

    #[test]
    fn an_idle_session_is_forgotten_and_one_with_an_open_stream_is_not() {
        let (sessions, load) = (Sessions::new(), load());
        drop(sessions.visit(b"idle", &load));
        let open = sessions.visit(b"open", &load);
        sessions.forget_idle(59);
        assert_eq!(load.sessions(), 2);
        sessions.forget_idle(60);
        assert_eq!(load.sessions(), 1);
        drop(open);
        sessions.forget_idle(60);
        assert_eq!(load.sessions(), 0);
    }

    #[test]
    fn a_lost_backend_has_no_sessions_and_the_others_keep_theirs() {
        let (sessions, lost, kept) = (Sessions::new(), load(), load());
        let (_one, _two) = (sessions.visit(b"one", &lost), sessions.visit(b"two", &kept));
        sessions.forget(&lost);
        assert_eq!((lost.sessions(), kept.sessions()), (0, 1));
    }

    #[test]
    fn a_session_that_moved_counts_where_it_is() {
        let (sessions, before, after) = (Sessions::new(), load(), load());
        drop(sessions.visit(b"one", &before));
        drop(sessions.visit(b"one", &after));
        assert_eq!((before.sessions(), after.sessions()), (0, 1));
    }
}
