//! What is remembered of sessions for `on_loss = "reinitialize"`: how each began, and where it went.
//!
//! In the memory of this process, or at a Redis that several proxies share; then this process's memory is a
//! cache of where sessions went. Keys are hashes of the clients' ids. No credentials are kept: of a request only
//! its path and the parameters of `initialize`.
//!
//! The memory is bounded: who was used last is forgotten last, and a session that was forgotten is not found
//! when its backend is lost. Equal handshakes are kept once: a session costs 115 bytes, and 245 when it has moved
//! (measured: 1000000 of them, of one client program, with all that the allocator adds).

mod interned;
mod key;
mod lease;

use std::{
    hash::BuildHasherDefault,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use lru::LruCache;

use self::interned::Interned;
use self::key::Hashed;
pub use self::{key::Key, lease::Lease};
use super::{lock, redis::Redis};
use crate::{
    net::{self, Instant},
    ring::hash,
    router::Moved,
};

/// Parts of the memory, each behind a lock of its own.
const MOST_SHARDS: usize = 32;

/// Below this, one part more would make the bound inexact.
const SESSIONS_PER_SHARD: usize = 1024;

/// For so many seconds the shared store is not asked again about a session that has not moved.
const ASK_AGAIN: u32 = 1;

/// After so many seconds of use, a session's life in the shared store is prolonged.
const PROLONG_AGAIN: u32 = 3600;

/// How a session began.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Handshake {
    /// The path of its `initialize`, as the client sent it, without the query.
    pub path: String,
    /// The body to be sent again: see [`crate::mcp::initialize::repeatable`].
    pub body: Bytes,
}

/// What is remembered of a session.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// How it began, if that was recorded.
    pub handshake: Option<Arc<Handshake>>,
    /// Where it went, if its handshake was repeated.
    pub moved: Option<Arc<Moved>>,
}

/// What this process knows of a session's whereabouts without asking.
#[derive(Debug, Clone)]
pub enum Known {
    /// It went there.
    Moved(Arc<Moved>),
    /// It is where its pin says, as far as anybody knows, or knew a moment ago.
    Stays,
    /// The shared store may know more.
    Ask,
}

/// Why the shared store gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Away {
    /// It cannot be reached, or hangs, since then.
    #[error("the session store is away")]
    Unreachable(Instant),
    /// It does not do what it is asked for, as when it is full.
    #[error("the session store refuses")]
    Refuses,
}

/// What is remembered of sessions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    // Held for one lookup, never across an await.
    shards: Box<[Mutex<Shard>]>,
    most_per_shard: usize,
    handshakes: Mutex<Interned>,
    shared: Option<Redis>,
    began: Instant,
    /// Sessions that were forgotten because others were used later.
    forgotten: AtomicU64,
}

type Shard = LruCache<Key, Session, BuildHasherDefault<Hashed>>;

/// One session, as this process remembers it.
#[derive(Debug, Default)]
struct Session {
    /// Never with a shared store, which has it.
    handshake: Option<Arc<Handshake>>,
    moved: Option<Arc<Moved>>,
    /// When the shared store was last asked, and when it was told of use: seconds since the process began.
    asked: Option<u32>,
    prolonged: u32,
    /// After what the first stream was to resume that was opened where it moved to.
    resumed: Option<Event>,
}

/// The hash of an event's id, which is any number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Event(NonZeroU32);

impl Event {
    /// Two ids of one session are taken for the same once in four thousand million times: a stream that should
    /// resume begins anew.
    fn of(id: &[u8]) -> Self {
        let [.., a, b, c, d] = hash::position(id).0.to_be_bytes();
        let hash = u32::from_be_bytes([a, b, c, d]);
        Self(NonZeroU32::new(hash).unwrap_or(NonZeroU32::MAX))
    }
}

// With the list's two links and the table's place for it: see the figure above.
const _: () = assert!(size_of::<(Key, Session)>() <= 48);

impl Store {
    /// A store in the memory of this process.
    #[must_use]
    pub fn in_memory(sessions: usize) -> Self {
        Self::new(sessions, None)
    }

    /// A store at the Redis of this URL, with a cache of so many sessions. Nobody connects before
    /// [`Store::keep`] does.
    #[must_use]
    pub fn in_redis(sessions: usize, url: &str) -> Self {
        Self::new(sessions, Some(Redis::new(url)))
    }

    fn new(sessions: usize, shared: Option<Redis>) -> Self {
        let shards = (sessions / SESSIONS_PER_SHARD).clamp(1, MOST_SHARDS);
        let shard = |_| {
            Mutex::new(LruCache::unbounded_with_hasher(
                BuildHasherDefault::default(),
            ))
        };
        Self(Arc::new(Inner {
            shards: (0..shards).map(shard).collect(),
            most_per_shard: sessions.div_ceil(shards),
            handshakes: Mutex::default(),
            shared,
            began: net::now(),
            forgotten: AtomicU64::new(0),
        }))
    }

    /// Keeps a connection to the shared store, for ever. One task of the process runs this.
    pub async fn keep(&self) {
        match &self.0.shared {
            Some(redis) => redis.keep().await,
            None => std::future::pending().await,
        }
    }

    /// Whether the shared store can be reached; `None` where the store is this process's memory.
    #[must_use]
    pub fn is_up(&self) -> Option<bool> {
        self.0.shared.as_ref().map(Redis::is_there)
    }

    /// How many sessions were forgotten because there was no room.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.0.forgotten.load(Ordering::Relaxed)
    }

    /// Remembers how a session began. Does not wait for a shared store.
    pub fn record(&self, key: Key, handshake: Handshake) {
        let now = self.seconds();
        let mut session = Session {
            asked: Some(now),
            prolonged: now,
            ..Session::default()
        };
        if let Some(redis) = &self.0.shared {
            let redis = redis.clone();
            tokio::spawn(async move { redis.record(&key, &handshake).await });
        } else {
            let mut handshakes = lock(&self.0.handshakes);
            session.handshake = handshakes.intern(handshake);
        }
        self.insert(key, session);
    }

    /// What is known without asking. The session counts as used.
    #[must_use]
    pub fn known(&self, key: &Key) -> Known {
        let now = self.seconds();
        let mut shard = self.shard(key);
        match shard.get_mut(key) {
            Some(Session {
                moved: Some(moved), ..
            }) => Known::Moved(Arc::clone(moved)),
            Some(session) => self.unmoved(session.asked, now),
            None => self.unmoved(None, now),
        }
    }

    /// Notes that the session's backend has answered it: a shared store is told now and then that it lives.
    pub fn answered(&self, key: &Key) {
        if self.0.shared.is_none() {
            return;
        }
        let now = self.seconds();
        let mut shard = self.shard(key);
        match shard.get_mut(key) {
            Some(session) if now.saturating_sub(session.prolonged) < PROLONG_AGAIN => return,
            Some(session) => session.prolonged = now,
            None => {
                drop(shard);
                let session = Session {
                    prolonged: now,
                    ..Session::default()
                };
                self.insert(*key, session); // who knows when it was told last
            }
        }
        self.prolong(key);
    }

    fn unmoved(&self, asked: Option<u32>, now: u32) -> Known {
        let is_old = |asked: u32| now.saturating_sub(asked) >= ASK_AGAIN;
        if self.0.shared.is_some() && asked.is_none_or(is_old) {
            Known::Ask
        } else {
            Known::Stays
        }
    }

    /// All that is remembered of a session. As long as no other move is known, [`Found::moved`] is the `Arc` that
    /// [`Store::known`] gives.
    ///
    /// # Errors
    ///
    /// When the shared store is away.
    pub async fn find(&self, key: &Key) -> Result<Found, Away> {
        let Some(redis) = &self.0.shared else {
            let mut shard = self.shard(key);
            let found = |session: &mut Session| Found {
                handshake: session.handshake.clone(),
                moved: session.moved.clone(),
            };
            return Ok(shard.get_mut(key).map(found).unwrap_or_default());
        };
        let mut found = redis.find(key).await?;
        let now = self.seconds();
        let mut shard = self.shard(key);
        if let Some(session) = shard.get_mut(key) {
            session.asked = Some(now);
            if session.moved == found.moved {
                found.moved.clone_from(&session.moved); // the same move is the same `Arc`
            } else {
                session.moved.clone_from(&found.moved);
                session.resumed = None;
            }
        } else if found.moved.is_some() {
            drop(shard);
            let session = Session {
                moved: found.moved.clone(),
                asked: Some(now),
                ..Session::default()
            };
            self.insert(*key, session);
        }
        Ok(found)
    }

    /// Takes the right to repeat the handshake of a session; `None` while another proxy has it. In the memory of
    /// one process it is always given: there requests wait for each other by themselves.
    ///
    /// # Errors
    ///
    /// When the shared store is away.
    pub async fn lease(&self, key: &Key) -> Result<Option<Lease>, Away> {
        let token = match &self.0.shared {
            Some(redis) => match redis.lease(key).await? {
                Some(token) => Some(token),
                None => return Ok(None),
            },
            None => None,
        };
        Ok(Some(Lease::new(self.clone(), *key, token)))
    }

    /// Forgets a session: it was ended, or nobody can have it any more.
    pub async fn remove(&self, key: &Key) {
        self.shard(key).pop(key);
        if let Some(redis) = &self.0.shared {
            redis.remove(key).await;
        }
    }

    /// Notes that the session opens a stream where it moved to, after the event of this id, if any. Tells whether
    /// that event is of where it was before: it is for the first stream, and whenever that one's is named again,
    /// for a client goes on naming it until it gets another.
    #[must_use]
    pub fn resumes_from_before(&self, key: &Key, last: Option<&[u8]>) -> bool {
        let last = Event::of(last.unwrap_or_default());
        let mut shard = self.shard(key);
        shard
            .get_mut(key)
            .is_some_and(|session| *session.resumed.get_or_insert(last) == last)
    }

    /// `None` if the session was ended meanwhile. Of a shared store, the session may only be out of the cache.
    fn moves(&self, key: &Key, moved: Moved) -> Option<Arc<Moved>> {
        let moved = Some(Arc::new(moved));
        let mut shard = self.shard(key);
        if let Some(session) = shard.get_mut(key) {
            session.moved.clone_from(&moved);
            session.resumed = None;
            return moved;
        }
        self.0.shared.as_ref()?;
        drop(shard);
        let session = Session {
            moved: moved.clone(),
            ..Session::default()
        };
        self.insert(*key, session);
        moved
    }

    fn insert(&self, key: Key, session: Session) {
        let mut shard = self.shard(&key);
        shard.put(key, session);
        if shard.len() > self.0.most_per_shard {
            shard.pop_lru();
            self.0.forgotten.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn prolong(&self, key: &Key) {
        if let Some(redis) = self.0.shared.clone() {
            let key = *key;
            tokio::spawn(async move { redis.prolong(&key).await });
        }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        // Other bits than the map itself takes.
        let [.., last] = key.as_bytes();
        lock(&self.0.shards[usize::from(*last) % self.0.shards.len()])
    }

    fn seconds(&self) -> u32 {
        let since = net::now().saturating_duration_since(self.0.began);
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
