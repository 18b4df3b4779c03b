//! The pace of one connection: how long a head may take, how long it may idle, and how much of an answer waits to be
//! written.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::Lasting;
use crate::{incoming::Taken, limits::Limit, net::Deadline};

/// An idle connection on which requests follow each other keeps its buffers for this long. One request alone lets go of
/// them at once: a burst of many connections would have theirs all at one time, and the allocator gives little back.
const STAYS_READY: Duration = Duration::from_millis(200);

/// An answer that takes longer may take much longer.
const LASTS_AFTER: Duration = Duration::from_millis(200);

/// Bytes of an answer that wait to be written, from which on no more of it is asked for. Above it comes one frame.
/// Small events that come together still leave together.
const UNWRITTEN: usize = 16 * 1024;

/// What a piece of an answer costs beside its bytes: the size of a chunk and its line ends.
const FRAMING: usize = 8;

/// What one connection is doing, and until when it may.
#[derive(Debug)]
pub(super) struct Pace {
    doing: Cell<Doing>,
    deadline: Deadline,
    request_head: Duration,
    keep_alive: Duration,
    /// Whether all of the request under way was taken.
    taken: Taken,
    /// Another request has come since the connection had its buffers last.
    is_hot: Cell<bool>,
    /// It has them, and a request has come.
    is_warm: Cell<bool>,
    /// It is to let go of them now.
    rests_now: Cell<bool>,
    /// What is left of `keep_alive` when the deadline of an idle connection expires.
    idle_left: Cell<Duration>,
    /// The end of HTTP on the connection is to be no end of the connection.
    parking: Cell<bool>,
    /// Bytes of the answer that were taken and not written.
    unwritten: Cell<usize>,
    /// The socket did not take all that was to be written.
    blocked: Cell<bool>,
    /// Who wants to take more of the answer.
    held_back: RefCell<Option<Waker>>,
    /// No request has come yet.
    fresh: Cell<bool>,
    /// The answer under way has no end of its own but the connection's.
    close_delimited: Cell<bool>,
    must_reset: Cell<bool>,
    /// No request is taken after the one under way.
    is_last: Cell<bool>,
    /// The answer under way lasts long.
    lasts: Cell<bool>,
    /// All that was taken of it was written, its head too.
    is_written: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// New: its client is expected to speak at once.
    New,
    /// Waiting for a request's first byte.
    Idle,
    /// Within a head.
    Head,
    /// Between a head and the end of its answer.
    Request,
}

/// What a client has been waited for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// Another request, for so short a time that it may still come.
    Resting,
    /// Another request.
    Idle,
    /// The first byte.
    Silent,
    /// The rest of a head.
    Head,
    /// Nothing: an answer goes on for longer than most.
    Lasting,
}

impl Expired {
    /// The limit that was reached, if it is one.
    pub(super) fn limit(self) -> Limit {
        match self {
            Self::Resting | Self::Idle | Self::Lasting => Limit::KeepAlive,
            Self::Silent | Self::Head => Limit::RequestHead,
        }
    }
}

impl Pace {
    /// The pace of a new connection, whose client is expected to speak at once.
    pub(super) fn new(deadline: Deadline, request_head: Duration, keep_alive: Duration) -> Self {
        deadline.set(request_head);
        Self {
            doing: Cell::new(Doing::New),
            deadline,
            request_head,
            keep_alive,
            taken: Taken::default(),
            is_hot: Cell::new(false),
            is_warm: Cell::new(false),
            rests_now: Cell::new(false),
            idle_left: Cell::new(Duration::ZERO),
            parking: Cell::new(false),
            unwritten: Cell::new(0),
            blocked: Cell::new(false),
            held_back: RefCell::new(None),
            fresh: Cell::new(true),
            close_delimited: Cell::new(false),
            must_reset: Cell::new(false),
            is_last: Cell::new(false),
            lasts: Cell::new(false),
            is_written: Cell::new(false),
        }
    }

    /// Bytes came from the client.
    pub(super) fn read(&self) {
        match self.doing.get() {
            Doing::New => self.doing.set(Doing::Head), // its time has begun
            Doing::Idle if self.taken.is_whole() => {
                self.doing.set(Doing::Head);
                self.deadline.set(self.request_head);
            }
            // While it idles, these are of the last request.
            Doing::Head | Doing::Request | Doing::Idle => {}
        }
    }

    /// A head is complete; the request ends when the guard is dropped.
    pub(super) fn begin(this: &Rc<Self>) -> Busy {
        this.is_hot.set(this.is_warm.replace(true));
        this.rests_now.set(false);
        this.doing.set(Doing::Request);
        this.fresh.set(false);
        this.deadline.clear();
        Busy(Rc::clone(this))
    }

    /// The answer begins. It is the connection's last one, or not.
    pub(super) fn answer(&self, close_delimited: bool, is_last: bool, lasting: Lasting) {
        self.close_delimited.set(close_delimited);
        self.is_last.set(is_last);
        self.is_written.set(false);
        self.lasts.set(lasting == Lasting::Yes);
        if lasting == Lasting::Perhaps {
            self.deadline.set(LASTS_AFTER);
        }
    }

    /// Whether no request is taken after the one under way.
    pub(super) fn is_last(&self) -> bool {
        self.is_last.get()
    }

    /// No request is taken after the one under way.
    pub(super) fn end_after_this(&self) {
        self.is_last.set(true);
    }

    /// The answer under way lasts long.
    pub(super) fn last_long(&self) {
        self.deadline.clear();
        self.lasts.set(true);
    }

    /// Whether the answer under way lasts long, and HTTP has nothing to do at the moment: neither to write nor to read.
    pub(super) fn may_leave(&self) -> bool {
        self.lasts.get() && self.is_written.get() && !self.blocked.get() && self.taken.is_whole()
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

    /// Ready when the client has been waited for too long, or buffers are to go at once: not before HTTP was polled once
    /// more than for the end of the answer, for which it has to have been idle before.
    pub(super) fn poll_expired(&self, cx: &mut Context<'_>, was_idle: bool) -> Poll<Expired> {
        // What is still to be written goes first.
        if self.rests_now.get() && self.is_idle() && !self.is_blocked() {
            if was_idle {
                self.rests_now.set(false);
                self.idle_left.set(self.keep_alive);
                return Poll::Ready(Expired::Resting);
            }
            cx.waker().wake_by_ref();
        }
        self.deadline
            .poll_expired(cx)
            .map(|()| match self.doing.get() {
                Doing::Idle if !self.idle_left.get().is_zero() => Expired::Resting,
                Doing::Idle => Expired::Idle,
                Doing::New => Expired::Silent,
                Doing::Head => Expired::Head,
                Doing::Request => Expired::Lasting,
            })
    }

    /// Waits for the rest of the time that a connection may idle, from now on without buffers.
    pub(super) fn rest(&self) {
        self.is_warm.set(false);
        self.deadline.set(self.idle_left.take());
    }

    /// An answer has ended, and the connection has no buffers: waits for all of the time that it may idle.
    pub(super) fn rest_now(&self) {
        self.rests_now.set(false);
        self.idle_left.set(self.keep_alive);
        self.rest();
    }

    /// Whether it waits for another request, of which nothing has come, and nothing of the last one is to come.
    pub(super) fn is_idle(&self) -> bool {
        self.doing.get() == Doing::Idle && self.taken.is_whole()
    }

    /// Waits on as before: a rest of the last request is to come, or of its answer to go.
    pub(super) fn stay(&self) {
        let left = self.idle_left.get();
        let ready = left.min(STAYS_READY);
        self.idle_left.set(left - ready);
        self.deadline.set(ready);
    }

    /// Where the request that begins notes that all of it was taken.
    pub(super) fn taken_whole(&self) -> Taken {
        self.taken.clone()
    }

    /// Whether HTTP ends without the connection.
    pub(super) fn set_parking(&self, parking: bool) {
        self.parking.set(parking);
    }

    /// Whether HTTP ends without the connection.
    pub(super) fn is_parking(&self) -> bool {
        self.parking.get()
    }

    /// A piece of the answer was taken, and is to be written.
    pub(super) fn taken(&self, bytes: usize) {
        self.is_written.set(false);
        self.unwritten.set(self.unwritten.get() + bytes + FRAMING);
    }

    /// So many bytes were written: of the answer, its head or its framing.
    pub(super) fn wrote(&self, bytes: usize) {
        self.unwritten
            .set(self.unwritten.get().saturating_sub(bytes));
        if self.unwritten.get() < UNWRITTEN
            && let Some(waker) = self.held_back.take()
        {
            waker.wake();
        }
    }

    /// The socket takes nothing at the moment, and something is to be written.
    pub(super) fn block(&self) {
        self.blocked.set(true);
    }

    /// Whether something is to be written.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.get()
    }

    /// Nothing is left to be written.
    pub(super) fn wrote_all(&self) {
        self.blocked.set(false);
        self.is_written.set(true);
        self.wrote(usize::MAX);
    }

    /// Ready when more of the answer may be taken.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.unwritten.get() < UNWRITTEN {
            return Poll::Ready(());
        }
        self.held_back.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Busy(Rc<Pace>);

impl Busy {
    /// The connection that it is on.
    pub(super) fn pace(&self) -> &Pace {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Self(pace) = self;
        pace.rests_now.set(!pace.is_hot.get());
        let ready = pace.keep_alive.min(STAYS_READY);
        pace.doing.set(Doing::Idle);
        pace.idle_left.set(pace.keep_alive - ready);
        pace.deadline.set(ready);
    }
}
