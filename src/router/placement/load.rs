//! What each backend has to do: its requests in flight and its sessions, counted over all threads.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

/// What one backend has to do, counted over all threads.
///
/// All counts are relaxed: a placement that sees those of a moment ago is as good.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: AtomicU32,
    sessions: AtomicU32,
    session_idle: AtomicU32,
    forgotten: AtomicU64,
    /// 0: never; else one more than the time.
    in_doubt_since: AtomicU32,
    ended: AtomicBool,
}

impl Load {
    /// Counts one request until the guard is dropped.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight {
            load: Arc::clone(self),
            looked: None,
        }
    }

    /// Everything that is counted here is to end. There is no way back: see [`Load::successor`].
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// What counts from now on in place of this one. It holds nothing yet, and goes on with what only grows.
    #[must_use]
    pub fn successor(&self) -> Arc<Self> {
        let next = Self::default();
        let idle = self.session_idle();
        next.session_idle.store(idle, Ordering::Relaxed);
        next.forgotten.store(self.forgotten(), Ordering::Relaxed);
        Arc::new(next)
    }

    /// Requests in flight now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Live sessions, as far as they are known, and those that are being opened where their number is limited.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Whether it may have one more session.
    #[must_use]
    pub fn has_room(&self, limit: SessionLimit) -> bool {
        limit.is_none_or(|most| self.sessions() < most.get())
    }

    /// Takes room for a session that is being opened; `None` if there is none any more.
    #[must_use]
    pub fn open_session(self: &Arc<Self>, most: NonZeroU32) -> Option<Opening> {
        let one_more = |sessions| (sessions < most.get()).then_some(sessions + 1);
        self.sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_ok()
            .then(|| Opening(Arc::clone(self)))
    }

    /// Counts one more live session.
    pub fn session_begins(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one less.
    pub fn session_ends(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// For how many seconds without a request a session of this backend counts as live.
    #[must_use]
    pub fn session_idle(&self) -> u32 {
        self.session_idle.load(Ordering::Relaxed)
    }

    /// Sets it, as the configuration says.
    pub fn set_session_idle(&self, idle: Duration) {
        let seconds = u32::try_from(idle.as_secs()).unwrap_or(u32::MAX);
        self.session_idle.store(seconds, Ordering::Relaxed);
    }

    /// Counts a session that the backend does not know though it answered it a moment ago. Gives the count.
    pub fn session_forgotten(&self) -> u64 {
        self.forgotten.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Sessions that the backend did not know though it had answered them a moment ago.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// When a connection to the backend last failed or broke, in seconds of the clock that
    /// [`Load::set_in_doubt_since`] is given.
    #[must_use]
    pub fn in_doubt_since(&self) -> Option<u32> {
        self.in_doubt_since.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Sets it.
    pub fn set_in_doubt_since(&self, seconds: u32) {
        self.in_doubt_since
            .store(seconds.saturating_add(1), Ordering::Relaxed);
    }

    pub(super) fn total(&self) -> u64 {
        u64::from(self.in_flight()) + u64::from(self.sessions())
    }
}

/// One request in flight.
#[derive(Debug)]
pub struct InFlight {
    load: Arc<Load>,
    looked: Option<u64>,
}

impl InFlight {
    /// Whether this request is to end, because its backend has lost all that it held. Looked up once for each
    /// `round`, a number of the thread that changes after [`Load::end`]: the counts are written by all threads,
    /// and an answer asks at every piece of its body.
    #[must_use]
    pub fn is_to_end(&mut self, round: u64) -> bool {
        let looked = self.looked.replace(round);
        looked != Some(round) && self.load.ended.load(Ordering::Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A session that is being opened counts as one until this is dropped. By then its answer has come, and shown
/// whether it is one.
#[derive(Debug)]
pub struct Opening(Arc<Load>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.session_ends();
    }
}

/// How many live sessions a backend may have for one more to be opened; `None`: any number, or none is opened.
pub type SessionLimit = Option<NonZeroU32>;
