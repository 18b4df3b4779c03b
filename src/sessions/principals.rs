//! How many live sessions each principal has, and how many it is opening: what `sessions_per_principal`
//! is held against.

use std::{
    collections::HashMap,
    num::{NonZeroU32, NonZeroU64},
    sync::{Mutex, MutexGuard},
};

use super::{SHARDS, Sessions, lock, shards, table::Table};
use crate::ring::hash;

/// Who sessions are counted by, as the tables hold it: 64 bits of the principal's digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(NonZeroU64);

impl Owner {
    /// The owner with this digest of a principal.
    #[must_use]
    pub fn of(digest: &[u8; 32]) -> Self {
        let first = digest
            .first_chunk()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Self(NonZeroU64::new(first).unwrap_or(NonZeroU64::MAX))
    }
}

/// The principal has as many sessions as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

#[derive(Debug)]
pub(super) struct Principals {
    // Held for one lookup each; taken while a shard of the sessions is held, never the other way round.
    live: Vec<Mutex<Table<NonZeroU32>>>,
    opening: Mutex<HashMap<u64, u32>>,
}

impl Default for Principals {
    fn default() -> Self {
        Self {
            live: shards(),
            opening: Mutex::default(),
        }
    }
}

impl Principals {
    pub(super) fn begins(&self, Owner(key): Owner) {
        let key = key.get();
        let mut shard = self.shard(key);
        match shard.get_mut(key) {
            Some(count) => *count = count.saturating_add(1),
            None => {
                shard.get_or_insert_with(key, || NonZeroU32::MIN);
            }
        }
    }

    pub(super) fn ends(&self, Owner(key): Owner) {
        let key = key.get();
        let mut shard = self.shard(key);
        if let Some(count) = shard.get_mut(key) {
            match NonZeroU32::new(count.get() - 1) {
                Some(less) => *count = less,
                None => drop(shard.remove(key)),
            }
        }
    }

    pub(super) fn count(&self, Owner(key): Owner) -> u32 {
        self.shard(key.get())
            .get_mut(key.get())
            .map_or(0, |count| count.get())
    }

    /// Gives back the room of principals that have no session any more.
    pub(super) fn sweep(&self) {
        for shard in &self.live {
            lock(shard).sweep(|_| false);
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.live.iter().map(|shard| lock(shard).bytes()).sum()
    }

    /// Digests are as good as random.
    fn shard(&self, key: u64) -> MutexGuard<'_, Table<NonZeroU32>> {
        lock(&self.live[key as usize % SHARDS])
    }
}

/// A session that a principal is opening, until its answer has come and this is dropped.
#[derive(Debug)]
pub struct Opening {
    sessions: Sessions,
    credential: u64,
}

impl Sessions {
    /// Takes room for one more session of `owner`, who may have `most`.
    ///
    /// Nobody has verified who it is until the backend has answered. What is being opened therefore counts
    /// against the same `credential` only: else who makes up a token of somebody else could hold all his room.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn open(&self, owner: Owner, credential: &[u8], most: NonZeroU32) -> Result<Opening, Full> {
        let credential = hash::position(credential).0;
        let principals = &self.0.principals;
        let mut opening = lock(&principals.opening);
        let waiting = opening.get(&credential).copied().unwrap_or(0);
        if principals.count(owner).saturating_add(waiting) >= most.get() {
            return Err(Full);
        }
        opening.insert(credential, waiting + 1);
        drop(opening);
        Ok(Opening {
            sessions: self.clone(),
            credential,
        })
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut opening = lock(&self.sessions.0.principals.opening);
        match opening.get(&self.credential).copied().unwrap_or(0) {
            0 | 1 => drop(opening.remove(&self.credential)),
            waiting => drop(opening.insert(self.credential, waiting - 1)),
        }
    }
}
