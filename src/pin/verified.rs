//! How many pins each key has verified: whoever rotates secrets sees when an old one is of no use any more.

use std::{
    array, fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::KeyId;

/// Counts by key. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Verified(Arc<[AtomicU64; 256]>);

impl Verified {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(array::from_fn(|_| AtomicU64::new(0))))
    }

    /// One more pin under this key.
    pub fn count(&self, key: KeyId) {
        self.0[usize::from(key.0)].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn by(&self, key: KeyId) -> u64 {
        self.0[usize::from(key.0)].load(Ordering::Relaxed)
    }
}

impl Default for Verified {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").finish_non_exhaustive()
    }
}
