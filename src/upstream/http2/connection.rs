//! One connection and its streams.

use std::{cell::Cell, ops::Deref, rc::Rc, time::Duration};

use hyper::client::conn::http2::SendRequest;

use super::{lent::Lent, wire::Wire};
use crate::net::{self, Instant};

/// A new connection waits so long for those who wanted it.
const UNUSED: Duration = Duration::from_secs(1);

/// A connection that takes several requests at one time. It is closed when nobody holds it any longer: neither the
/// pool, nor a stream.
pub(in crate::upstream) struct Multiplexed<B> {
    sender: SendRequest<Lent<B>>,
    /// How many streams the backend allows, as it says now.
    most_streams: Box<dyn Fn() -> usize>,
    wire: Rc<Wire>,
    /// How long it is kept without streams.
    until: Cell<Instant>,
    keep_alive: Cell<Duration>,
    is_retired: Cell<bool>,
}

impl<B> Multiplexed<B> {
    pub(super) fn new(
        sender: SendRequest<Lent<B>>,
        most_streams: Box<dyn Fn() -> usize>,
        wire: Rc<Wire>,
        keep_alive: Duration,
    ) -> Self {
        Self {
            sender,
            most_streams,
            wire,
            until: Cell::new(net::now() + keep_alive.max(UNUSED)),
            keep_alive: Cell::new(keep_alive),
            is_retired: Cell::new(false),
        }
    }

    pub(in crate::upstream) fn wire(&self) -> &Wire {
        &self.wire
    }

    pub(super) fn sender(&self) -> SendRequest<Lent<B>> {
        self.sender.clone()
    }

    pub(super) fn most_streams(&self) -> usize {
        (self.most_streams)()
    }

    /// It gets no more requests. Those that it has go on.
    pub(super) fn retire(&self) {
        self.is_retired.set(true);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.wire.streams.get() == 0
    }

    /// Whether requests may be given to it, as far as is known.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        let is_expired = self.is_idle() && self.until.get() <= now;
        !self.is_retired.get() && !self.sender.is_closed() && !is_expired
    }

    pub(super) fn has_room(&self) -> bool {
        self.wire.streams.get() < self.most_streams()
    }
}

/// A connection with room for one stream, until it is dropped.
pub(in crate::upstream) struct Reserved<B>(Rc<Multiplexed<B>>);

impl<B> Reserved<B> {
    /// Without streams, the connection is kept for `keep_alive`.
    pub(super) fn new(connection: Rc<Multiplexed<B>>, keep_alive: Duration) -> Self {
        let streams = &connection.wire.streams;
        streams.set(streams.get() + 1);
        connection.keep_alive.set(keep_alive);
        Self(connection)
    }
}

impl<B> Deref for Reserved<B> {
    type Target = Multiplexed<B>;

    fn deref(&self) -> &Multiplexed<B> {
        &self.0
    }
}

impl<B> Drop for Reserved<B> {
    fn drop(&mut self) {
        let streams = &self.wire.streams;
        streams.set(streams.get() - 1);
        if self.is_idle() {
            self.until.set(net::now() + self.keep_alive.get());
        }
    }
}
