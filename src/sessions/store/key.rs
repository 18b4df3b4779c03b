//! What sessions are remembered by.

use std::hash::{Hash, Hasher};

use sha2::{Digest as _, Sha256};

/// A session, by the hash of its client's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of the session that its client calls `id`, with its pin.
    #[must_use]
    pub fn of(id: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(id).into();
        Self(*digest.first_chunk().expect("32 bytes begin with 16"))
    }

    pub(in crate::sessions) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Hashes keys, which are hashes already.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("a key writes one u64");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
    }
}
