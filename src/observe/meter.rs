//! What each thread counts for itself, and who reads the counts of all of them.
//!
//! Counters that every request of every backend would write are the thread's own: nobody else writes them, so that
//! counting is a plain addition (1 ns; on a cache line that two threads write it is 50).

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use super::{
    exchange::Record,
    tally::{Tally, Word as _},
    traffic::Traffic,
    word::{Loss, Outcome, Reason, Reloaded},
};
use crate::net;

/// The upper ends of the buckets of times, in microseconds: from what a proxy adds to what a tool may take.
pub const BOUNDS: [u64; 14] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    10_000_000,
    60_000_000,
    600_000_000,
];

/// Records that are kept for the next requests of a thread; more than this are seldom under way at once.
const SPARE: usize = 256;

/// A counter that one thread writes and any may read.
#[derive(Debug, Default)]
pub struct Own(AtomicU64);

impl Own {
    /// Only to be called by the thread that owns it: [`Meter`] cannot leave it.
    fn add(&self, more: u64) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.wrapping_add(more), Ordering::Relaxed);
    }

    /// The count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Times by the bucket that they fall into.
#[derive(Debug, Default)]
pub struct Times {
    /// The last is for what is beyond all bounds.
    buckets: [Own; BOUNDS.len() + 1],
    micros: Own,
}

impl Times {
    fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].add(1);
        self.micros.add(micros);
    }
}

/// Times of all threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summed {
    /// How many fell into each bucket; the last is for what is beyond all bounds.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// All together, in microseconds.
    pub micros: u64,
}

impl Summed {
    fn add(&mut self, times: &Times) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&times.buckets) {
            *sum += bucket.get();
        }
        self.micros += times.micros.get();
    }
}

/// What one thread has counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) duration: Times,
    pub(super) head: Times,
    pub(super) received: Own,
    pub(super) sent: Own,
    pub(super) sessions_opened: Own,
    pub(super) ended: [Own; Outcome::ALL.len()],
}

/// What all threads have counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// From a request's head to the last byte of its answer.
    pub duration: Summed,
    /// From a request's head to the head of the backend's answer.
    pub head: Summed,
    /// Bytes of bodies that clients sent.
    pub received: u64,
    /// Bytes of bodies that clients were sent.
    pub sent: u64,
    /// Sessions that began.
    pub sessions_opened: u64,
    /// How requests ended, by the number of their [`Outcome`].
    pub ended: [u64; Outcome::ALL.len()],
}

/// All that a process counts for the whole of itself. Cheap to clone; clones are one.
#[derive(Debug, Clone)]
pub struct Meters(Arc<Process>);

#[derive(Debug)]
struct Process {
    began: SystemTime,
    // Held when a thread begins, and for a reading.
    threads: Mutex<Vec<Arc<Counts>>>,
    refusals: Tally<Reason>,
    losses: Tally<Loss>,
    reloads: Tally<Reloaded>,
    nowhere: Arc<Traffic>,
}

impl Meters {
    /// Those of a process that begins now.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Process {
            began: net::time_of_day(),
            threads: Mutex::default(),
            refusals: Tally::default(),
            losses: Tally::default(),
            reloads: Tally::default(),
            nowhere: Arc::default(),
        }))
    }

    /// The meter of one more thread.
    #[must_use]
    pub fn meter(&self) -> Meter {
        let counts = Arc::<Counts>::default();
        let mut threads = self
            .0
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        threads.push(Arc::clone(&counts));
        Meter(Rc::new(Thread {
            counts,
            process: Arc::clone(&self.0),
            spare: RefCell::default(),
        }))
    }

    /// When the process began.
    #[must_use]
    pub fn began(&self) -> SystemTime {
        self.0.began
    }

    /// What all threads have counted until now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        let threads = self
            .0
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for counts in threads.iter() {
            totals.duration.add(&counts.duration);
            totals.head.add(&counts.head);
            totals.received += counts.received.get();
            totals.sent += counts.sent.get();
            totals.sessions_opened += counts.sessions_opened.get();
            for (sum, ended) in totals.ended.iter_mut().zip(&counts.ended) {
                *sum += ended.get();
            }
        }
        totals
    }

    /// Answers of pinring's own, by their reason.
    #[must_use]
    pub fn refusals(&self) -> &Tally<Reason> {
        &self.0.refusals
    }

    /// Live sessions that were lost, by why.
    #[must_use]
    pub fn losses(&self) -> &Tally<Loss> {
        &self.0.losses
    }

    /// What came of reading the configuration again.
    #[must_use]
    pub fn reloads(&self) -> &Tally<Reloaded> {
        &self.0.reloads
    }

    /// Requests that no pool is for.
    #[must_use]
    pub fn nowhere(&self) -> &Arc<Traffic> {
        &self.0.nowhere
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

/// What one thread counts with. Clones are one.
#[derive(Debug, Clone)]
pub struct Meter(Rc<Thread>);

#[derive(Debug)]
struct Thread {
    counts: Arc<Counts>,
    process: Arc<Process>,
    /// So that a request needs no memory of its own.
    spare: RefCell<Vec<Rc<Record>>>,
}

impl Meter {
    /// A session began: its id was issued through this thread.
    pub fn session_opened(&self) {
        self.0.counts.sessions_opened.add(1);
    }

    /// A session was lost, as its client is told.
    pub fn session_lost(&self, why: Loss) {
        self.0.process.losses.add(why, 1);
    }

    pub(super) fn nowhere(&self) -> &Arc<Traffic> {
        &self.0.process.nowhere
    }

    pub(super) fn refused(&self, reason: Reason) {
        self.0.process.refusals.add(reason, 1);
    }

    /// A backend began to answer.
    pub(super) fn began(&self, waited: Duration) {
        self.0.counts.head.add(waited);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.0.counts.received.add(bytes as u64);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.0.counts.sent.add(bytes as u64);
    }

    /// A request ended, after this time if that says something.
    pub(super) fn ended(&self, outcome: Outcome, after: Option<Duration>) {
        self.0.counts.ended[outcome.number()].add(1);
        if let Some(after) = after {
            self.0.counts.duration.add(after);
        }
    }

    pub(super) fn spare(&self) -> Option<Rc<Record>> {
        self.0.spare.borrow_mut().pop()
    }

    pub(super) fn keep(&self, record: Rc<Record>) {
        let mut spare = self.0.spare.borrow_mut();
        if spare.len() < SPARE {
            spare.push(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_bucket_whose_end_they_do_not_pass() {
        let times = Times::default();
        for micros in [0, 1_000, 1_001, 600_000_000, 600_000_001] {
            times.add(Duration::from_micros(micros));
        }
        let mut summed = Summed::default();
        summed.add(&times);
        summed.add(&times);
        let mut wanted = [0; BOUNDS.len() + 1];
        (wanted[0], wanted[1], wanted[13], wanted[14]) = (4, 2, 2, 2);
        assert_eq!(summed.buckets, wanted);
        assert_eq!(summed.micros, 2 * 1_200_002_002);
    }

    #[test]
    fn the_threads_counts_are_summed_also_of_those_that_have_ended() {
        let meters = Meters::new();
        let (one, other) = (meters.meter(), meters.meter());
        one.sent(3);
        other.sent(4);
        drop(other);
        assert_eq!(meters.totals().sent, 7);
        assert_ne!(meters.totals(), Totals::default());
    }
}
