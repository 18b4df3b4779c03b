//! Who may repeat a session's handshake: one proxy at a time.

use std::sync::Arc;

use super::{Away, Key, Store};
use crate::{router::Moved, sessions::redis::Token};

/// The right to repeat the handshake of one session. Given back when dropped; in a shared store it expires, should
/// this process die.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    key: Key,
    token: Option<Token>,
}

impl Lease {
    pub(super) fn new(store: Store, key: Key, token: Option<Token>) -> Self {
        Self { store, key, token }
    }

    /// Remembers where the session went. `None` if that is no longer so: the session was ended meanwhile, or the
    /// lease had expired and was another's.
    ///
    /// # Errors
    ///
    /// When the shared store is away.
    pub async fn moved(mut self, moved: Moved) -> Result<Option<Arc<Moved>>, Away> {
        if let (Some(redis), Some(token)) = (&self.store.0.shared, &self.token) {
            let holds = redis.moved(&self.key, token, &moved).await?;
            self.token = None; // it is given back
            if !holds {
                return Ok(None);
            }
        }
        Ok(self.store.moves(&self.key, moved))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let (Some(redis), Some(token)) = (self.store.0.shared.clone(), self.token.take())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let key = self.key;
            runtime.spawn(async move { redis.release(&key, &token).await });
        }
    }
}
