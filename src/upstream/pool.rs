//! Idle connections of one thread, by backend.
//!
//! Last in, first out: the connection used last is the one that the backend is least likely to be closing.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use hyper::client::conn::http1::SendRequest;

use super::connect::Connection;
use crate::{
    backend::BackendId,
    net::{self, Instant},
};

/// How often idle connections are looked through.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct Pool<B>(RefCell<BTreeMap<BackendId, Vec<Idle<B>>>>);

struct Idle<B> {
    connection: Connection<B>,
    until: Instant,
}

impl<B> Idle<B> {
    fn sender(&self) -> &SendRequest<B> {
        &self.connection.sender
    }
}

impl<B> Pool<B> {
    pub(super) fn new() -> Self {
        Self(RefCell::new(BTreeMap::new()))
    }

    /// A connection that can take a request now, as far as is known.
    pub(super) fn checkout(&self, id: BackendId) -> Option<Connection<B>> {
        let mut pool = self.0.borrow_mut();
        let idle = pool.get_mut(&id)?;
        // One whose request's body is still going out is not ready yet, and not closed either.
        while let Some(last) = idle
            .iter()
            .rposition(|idle| idle.sender().is_ready() || idle.sender().is_closed())
        {
            let idle = idle.swap_remove(last);
            if idle.sender().is_ready() && !idle.sender().is_closed() && idle.until > net::now() {
                return Some(idle.connection);
            }
        }
        None
    }

    pub(super) fn give_back(&self, id: BackendId, connection: Connection<B>, keep_alive: Duration) {
        let until = net::now() + keep_alive;
        self.0
            .borrow_mut()
            .entry(id)
            .or_default()
            .push(Idle { connection, until });
    }

    /// Closes what was idle too long or was closed by the backend.
    pub(super) fn sweep(&self, now: Instant) {
        self.0.borrow_mut().retain(|_, idle| {
            idle.retain(|idle| idle.until > now && !idle.sender().is_closed());
            !idle.is_empty()
        });
    }
}
