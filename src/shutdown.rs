//! The end of the process: signals, the phases of a drain, and what tells every connection of them.
//!
//! One [`Trigger`] moves all threads from phase to phase. Each thread has a [`Watch`], which keeps the
//! phase in a plain cell, so that a connection asks for it at every poll for nothing.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use slab::Slab;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, watch},
};

use crate::net::{self, Instant};

/// How far the end of the process has come. It only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Serving.
    Running,
    /// Not ready for balancers, but still accepting; every answer asks the client to go elsewhere.
    Leaving,
    /// No longer accepting; what is under way may end until `until`.
    Draining {
        /// When draining began.
        since: Instant,
        /// When what is left will be cut.
        until: Instant,
        /// Until when idle connections are kept, for a request that may be on its way.
        idle_until: Instant,
    },
    /// What is left is cut now.
    Forced,
}

impl Phase {
    /// The word for answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Leaving => "leaving",
            Self::Draining { .. } => "draining",
            Self::Forced => "stopping",
        }
    }
}

/// What all threads are told.
#[derive(Debug, Clone, Copy)]
struct Told {
    phase: Phase,
    /// How often a [`Rouser`] has called.
    round: u64,
}

/// Moves the process to its end. There is one.
#[derive(Debug)]
pub struct Trigger(watch::Sender<Told>);

/// Has every connection of the process look after itself once, when something has happened that concerns a
/// few of them: nobody needs to know which, and while nothing happens it costs nothing.
#[derive(Debug, Clone)]
pub struct Rouser(watch::Sender<Told>);

/// Sees the phases from any thread.
#[derive(Debug, Clone)]
pub struct Watcher(watch::Receiver<Told>);

/// Makes the trigger and its first watcher.
#[must_use]
pub fn channel() -> (Trigger, Watcher) {
    let (sender, receiver) = watch::channel(Told {
        phase: Phase::Running,
        round: 0,
    });
    (Trigger(sender), Watcher(receiver))
}

impl Trigger {
    /// Leads to draining after `delay`, and ends when nothing is left or `limit` has passed: see
    /// [`Trigger::force`]. Idle connections are kept for `linger` of that.
    pub async fn drain(&self, delay: Duration, limit: Duration, linger: Duration) {
        self.tell(Phase::Leaving);
        net::sleep(delay).await;
        let since = net::now();
        let until = since + limit;
        self.tell(Phase::Draining {
            since,
            until,
            idle_until: since + linger,
        });
        tokio::select! {
            biased; // as everywhere where the order could be left to chance, for the simulation
            () = net::sleep_until(until) => {}
            () = self.0.closed() => {} // nobody is left
        }
    }

    /// Cuts what is left, now.
    pub fn force(&self) {
        self.tell(Phase::Forced);
    }

    /// Another end for whoever has to rouse all connections.
    #[must_use]
    pub fn rouser(&self) -> Rouser {
        Rouser(self.0.clone())
    }

    fn tell(&self, phase: Phase) {
        self.0.send_modify(|told| told.phase = phase);
    }
}

impl Rouser {
    /// The phase of this moment. Unlike a [`Watcher`], this end holds nobody up.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.0.borrow().phase
    }

    /// Wakes the task of every connection. What it is to see must have been written before.
    pub fn rouse(&self) {
        self.0.send_modify(|told| told.round += 1);
    }
}

impl Watcher {
    /// The phase of this moment.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.0.borrow().phase
    }
}

/// The phase as one thread sees it.
#[derive(Clone)]
pub struct Watch(Rc<Seen>);

struct Seen {
    phase: Cell<Phase>,
    round: Cell<u64>,
    changed: Notify,
    waiting: RefCell<Slab<Waker>>,
    left: Notify,
}

impl Watch {
    /// A watch that shows [`Phase::Running`] until [`Watch::follow`] is polled.
    #[must_use]
    pub fn new() -> Self {
        let seen = Seen {
            phase: Cell::new(Phase::Running),
            round: Cell::new(0),
            changed: Notify::new(),
            waiting: RefCell::default(),
            left: Notify::new(),
        };
        Self(Rc::new(seen))
    }

    /// The phase of this moment.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.0.phase.get()
    }

    /// A number that is another one after each [`Rouser::rouse`].
    #[must_use]
    pub fn round(&self) -> u64 {
        self.0.round.get()
    }

    /// Copies the phases of `watcher` to this thread, for ever, and wakes those who subscribed.
    pub async fn follow(&self, mut watcher: Watcher) {
        loop {
            // Lets the runtime look at its sockets, so that connections know of requests sent before this.
            tokio::task::yield_now().await;
            let told = *watcher.0.borrow_and_update();
            self.0.phase.set(told.phase);
            self.0.round.set(told.round);
            self.0.changed.notify_waiters();
            for (_, waker) in self.0.waiting.borrow().iter() {
                waker.wake_by_ref();
            }
            if watcher.0.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until draining has begun, or worse. Cancel safe.
    pub async fn draining(&self) {
        self.reached(|phase| matches!(phase, Phase::Draining { .. } | Phase::Forced))
            .await;
    }

    /// Waits until what is left is to be cut. Cancel safe.
    pub async fn forced(&self) {
        self.reached(|phase| phase == Phase::Forced).await;
    }

    async fn reached(&self, wanted: impl Fn(Phase) -> bool) {
        while !wanted(self.phase()) {
            self.0.changed.notified().await;
        }
    }

    /// Has the task behind `cx` woken at every change, until the subscription is dropped.
    #[must_use]
    pub fn subscribe(&self, cx: &Context<'_>) -> Subscription {
        let key = self.0.waiting.borrow_mut().insert(cx.waker().clone());
        Subscription {
            watch: self.clone(),
            key,
        }
    }

    /// Waits until no subscription is left. Cancel safe.
    pub async fn idle(&self) {
        while !self.0.waiting.borrow().is_empty() {
            self.0.left.notified().await;
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.phase()).finish()
    }
}

/// One task that is woken when the phase changes, and that the drain waits for.
#[derive(Debug)]
pub struct Subscription {
    watch: Watch,
    key: usize,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.watch.0.waiting.borrow_mut().remove(self.key);
        self.watch.0.left.notify_one();
    }
}

/// The signals that pinring acts upon.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: drain; a second one: end at once.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

impl Signals {
    /// Takes the signals over from their default actions.
    ///
    /// # Errors
    ///
    /// When the handlers cannot be installed.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next request. Cancel safe.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hang_up.recv() => Request::Reload,
        }
    }
}
