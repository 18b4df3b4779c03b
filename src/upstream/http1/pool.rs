//! Idle connections of one thread, by backend.
//!
//! Last in, first out: the connection used last is the one that the backend is least likely to be closing.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    task::{Context, Waker},
    time::Duration,
};

use super::connection::Connection;
use crate::{
    backend::BackendId,
    net::{self, Instant},
};

pub(in crate::upstream) struct Pool {
    idle: RefCell<BTreeMap<BackendId, Vec<Idle>>>,
    /// The time of the last sweep: near enough, and costs nothing to know.
    swept: Cell<Instant>,
}

struct Idle {
    connection: Connection,
    until: Instant,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            idle: RefCell::default(),
            swept: Cell::new(net::now()),
        }
    }

    /// A connection that can take a request now, as far as is known. The task of `cx` wakes when something comes over it.
    pub(super) fn checkout(&self, id: BackendId, cx: &mut Context<'_>) -> Option<Connection> {
        let mut pool = self.idle.borrow_mut();
        let idle = pool.get_mut(&id)?;
        while let Some(Idle {
            mut connection,
            until,
        }) = idle.pop()
        {
            if until > self.swept.get() && connection.is_quiet(cx) {
                return Some(connection);
            }
        }
        None
    }

    pub(super) fn give_back(&self, id: BackendId, connection: Connection, keep_alive: Duration) {
        let until = self.swept.get() + keep_alive;
        self.idle
            .borrow_mut()
            .entry(id)
            .or_default()
            .push(Idle { connection, until });
    }

    /// Closes what was idle too long, was closed by the backend, or says what nobody has asked for.
    pub(in crate::upstream) fn sweep(&self, now: Instant) {
        self.swept.set(now);
        let nobody = &mut Context::from_waker(Waker::noop());
        self.idle.borrow_mut().retain(|_, idle| {
            idle.retain_mut(|idle| idle.until > now && idle.connection.is_quiet(nobody));
            !idle.is_empty()
        });
    }
}
