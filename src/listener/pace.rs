//! The pace of one connection: how long a head may take, how long it may idle.

use std::{
    cell::Cell,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use crate::net::Deadline;

/// What one connection is doing, and until when it may.
#[derive(Debug)]
pub(super) struct Pace {
    doing: Cell<Doing>,
    deadline: Deadline,
    request_head: Duration,
    keep_alive: Duration,
    /// No request has come yet.
    fresh: Cell<bool>,
    /// The answer under way has no end of its own but the connection's.
    close_delimited: Cell<bool>,
    must_reset: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Waiting for a request's first byte.
    Idle,
    /// Within a head.
    Head,
    /// Between a head and the end of its answer.
    Request,
}

impl Pace {
    /// The pace of a new connection, whose client is expected to speak at once.
    pub(super) fn new(deadline: Deadline, request_head: Duration, keep_alive: Duration) -> Self {
        deadline.set(request_head);
        Self {
            doing: Cell::new(Doing::Head),
            deadline,
            request_head,
            keep_alive,
            fresh: Cell::new(true),
            close_delimited: Cell::new(false),
            must_reset: Cell::new(false),
        }
    }

    /// Bytes came from the client.
    pub(super) fn read(&self) {
        if self.doing.get() == Doing::Idle {
            self.doing.set(Doing::Head);
            self.deadline.set(self.request_head);
        }
    }

    /// A head is complete; the request ends when the guard is dropped.
    pub(super) fn begin(this: &Rc<Self>) -> Busy {
        this.doing.set(Doing::Request);
        this.fresh.set(false);
        this.deadline.clear();
        Busy(Rc::clone(this))
    }

    /// The answer begins.
    pub(super) fn answer(&self, close_delimited: bool) {
        self.close_delimited.set(close_delimited);
    }

    /// The connection ends before its answer does. To a client that takes the connection's end for the
    /// answer's, that is shown by a reset: else the client would take it for complete.
    pub(super) fn cut(&self) {
        self.must_reset.set(self.close_delimited.get());
    }

    /// Whether no request has come yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.get()
    }

    pub(super) fn must_reset(&self) -> bool {
        self.must_reset.get()
    }

    /// Ready when the client has been waited for too long.
    pub(super) fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.deadline.poll_expired(cx)
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Busy(Rc<Pace>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.doing.set(Doing::Idle);
        self.0.deadline.set(self.0.keep_alive);
    }
}
