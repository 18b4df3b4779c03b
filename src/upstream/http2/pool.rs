//! The connections of one thread that speak HTTP/2, by backend.
//!
//! One serves all requests as long as it has room for their streams; those who find none wait for the next one together.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use tokio::sync::watch;

use super::{
    connection::{Multiplexed, Reserved},
    handshake,
    lent::Replay,
};
use crate::{
    backend::{BackendId, Endpoint},
    net::{self, Instant},
    upstream::{Failure, Open, Options, Target, connect::ConnectError, names::Names},
};

/// How many a new connection will have room for, where nothing is known of the backend.
const EXPECTED: usize = 100;

/// Looks for a connection with room before a request is given up: others may be faster each time.
const MOST_ROUNDS: usize = 20;

/// Turns that what has come on an idle connection has to be read.
const TURNS: usize = 4;

/// That a backend does not speak HTTP/2 is logged no more often.
const SAY_AGAIN: Duration = Duration::from_secs(60);

pub(in crate::upstream) struct Pool<B>(RefCell<BTreeMap<BackendId, Rc<Known<B>>>>);

/// What one backend has.
struct Known<B> {
    open: RefCell<Vec<Rc<Multiplexed<B>>>>,
    on_their_way: RefCell<Vec<OnItsWay>>,
    /// How many streams its last connection had room for.
    expected: Cell<usize>,
    said: Cell<Option<Instant>>,
}

/// A connection that is being made.
struct OnItsWay {
    waiting: usize,
    came: watch::Receiver<Came>,
}

/// What has become of it; `None` as long as nothing has.
type Came = Option<Result<(), ConnectError>>;

impl<B> Pool<B> {
    pub(in crate::upstream) fn new() -> Self {
        Self(RefCell::new(BTreeMap::new()))
    }

    /// Closes connections that had no stream for too long, and forgets those that get no more requests.
    pub(in crate::upstream) fn sweep(&self, now: Instant) {
        self.0.borrow_mut().retain(|_, known| {
            let mut open = known.open.borrow_mut();
            open.retain(|connection| connection.is_usable(now));
            // What was said of it is remembered a while, so that it is not said at each request.
            let has_spoken = known.said.get().is_some_and(|at| at + SAY_AGAIN > now);
            !open.is_empty() || !known.on_their_way.borrow().is_empty() || has_spoken
        });
    }

    fn known(&self, id: BackendId) -> Rc<Known<B>> {
        let mut all = self.0.borrow_mut();
        let known = all.entry(id).or_insert_with(|| {
            Rc::new(Known {
                open: RefCell::default(),
                on_their_way: RefCell::default(),
                expected: Cell::new(EXPECTED),
                said: Cell::new(None),
            })
        });
        Rc::clone(known)
    }
}

impl<B> Pool<B>
where
    B: Replay + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// A connection to `target` with room for one request: one that is there, or else a new one. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`Failure::Connect`].
    pub(super) async fn reserve(
        &self,
        target: Target<'_>,
        made_with: (Options, &Names, &Open),
    ) -> Result<Reserved<B>, Failure> {
        let known = self.known(target.id);
        for _ in 0..MOST_ROUNDS {
            if let Some(connection) = known.with_room() {
                let is_idle = connection.is_idle();
                let reserved = Reserved::new(connection, made_with.0.keep_alive);
                if is_idle {
                    settle(&reserved).await;
                }
                if reserved.is_usable(net::now()) {
                    return Ok(reserved);
                }
                continue;
            }
            let mut came = known.join(target.endpoint, made_with);
            let came = came.wait_for(Option::is_some).await;
            let came = came.ok().and_then(|came| came.clone());
            if let Some(Err(error)) = came {
                return Err(Failure::Connect(error));
            }
        }
        Err(Failure::Connect(ConnectError::Http2(
            handshake::NoHttp2::Closed,
        )))
    }
}

/// A backend that closes an idle connection says so, and this thread may not have read it yet: a request would be lost
/// that has not left.
async fn settle<B>(connection: &Reserved<B>) {
    for _ in 0..TURNS {
        if !connection.wire().has_news() {
            return;
        }
        tokio::task::yield_now().await; // the runtime looks for what has come, and hyper reads it
    }
}

impl<B> Known<B> {
    fn with_room(&self) -> Option<Rc<Multiplexed<B>>> {
        let now = net::now();
        let mut open = self.open.borrow_mut();
        open.retain(|connection| connection.is_usable(now));
        let mut open = open.iter();
        open.find(|connection| connection.has_room()).cloned()
    }
}

impl<B> Known<B>
where
    B: Replay + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Waits for a connection that is on its way, if enough of it will be left, or for a new one.
    fn join(
        self: &Rc<Self>,
        endpoint: &Endpoint,
        (options, names, counted): (Options, &Names, &Open),
    ) -> watch::Receiver<Came> {
        let mut on_their_way = self.on_their_way.borrow_mut();
        let has_room = |on_its_way: &&mut OnItsWay| on_its_way.waiting < self.expected.get();
        if let Some(on_its_way) = on_their_way.iter_mut().find(has_room) {
            on_its_way.waiting += 1;
            return on_its_way.came.clone();
        }
        let (sender, came) = watch::channel(None);
        on_their_way.push(OnItsWay {
            waiting: 1,
            came: came.clone(),
        });
        // A task of its own: others may wait for it when this request's client has left.
        let (endpoint, names) = (endpoint.clone(), names.clone());
        let (known, counted) = (Rc::clone(self), counted.clone());
        tokio::task::spawn_local(async move {
            let made = handshake::connect(&endpoint, &options, &names, &counted).await;
            known.arrived(made, &endpoint, &sender);
        });
        came
    }

    fn arrived(
        &self,
        made: Result<Multiplexed<B>, ConnectError>,
        endpoint: &Endpoint,
        sender: &watch::Sender<Came>,
    ) {
        let came = match made {
            Ok(connection) => {
                self.expected.set(connection.most_streams());
                self.open.borrow_mut().push(Rc::new(connection));
                Ok(())
            }
            Err(error) => {
                if let ConnectError::Http2(why) = &error {
                    self.say(endpoint, *why);
                }
                Err(error)
            }
        };
        self.on_their_way
            .borrow_mut()
            .retain(|on_its_way| !on_its_way.came.same_channel(&sender.subscribe()));
        sender.send_replace(Some(came));
    }

    fn say(&self, endpoint: &Endpoint, why: handshake::NoHttp2) {
        let now = net::now();
        if self.said.get().is_none_or(|at| at + SAY_AGAIN <= now) {
            self.said.set(Some(now));
            let backend = endpoint.url();
            tracing::warn!(%backend, %why, "http2 = true is set for the pool of this backend, which cannot be spoken to so: \
                            set http2 = false if it speaks HTTP/1.1 alone");
        }
    }
}
