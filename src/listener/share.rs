//! Which thread serves a connection.
//!
//! All threads accept from one socket, and the first to wake would take a whole burst. So whoever accepts looks how many
//! connections each thread has, and hands this one over where another has fewer and waits for work. Envoy ("exact balance")
//! and HAProxy (`tune.listener.multi-queue`) hand over too. Tried in a small server, and left: connections stay in the queue
//! for the others for 1 to 16 turns of the loop, with or without `sched_yield` (of 8 at once the fuller thread had 62 to
//! 97 %, against 50 %); busy threads are handed connections too (the first answer after 331 µs instead of 133).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::sync::mpsc;

use crate::net::{Moving, tls::Acceptor};

/// A thread keeps what it has accepted while the one with the fewest has at least 8 in 9 of its own, or one less: handing
/// over has its price (a call on a connection of its own takes 1.07 times the CPU), of many connections a few more matter to
/// nobody, and a client that makes one connection after the other may seem to have two.
const EVEN: usize = 8;

/// What a thread has of the connections that all accept.
#[derive(Debug)]
pub struct Share {
    threads: Arc<[Arc<Thread>]>,
    own: usize,
}

/// The connections that other threads have accepted for this one.
#[derive(Debug)]
pub struct Arrivals(mpsc::UnboundedReceiver<Arrival>);

/// What the others read when they accept. It is in cache lines of its own, for its thread writes it all the time.
#[derive(Debug)]
#[repr(align(128))]
struct Thread {
    open: AtomicUsize,
    /// Whether nothing is to be done there.
    waits: AtomicBool,
    /// Has no bound of its own: what is in it has been accepted, and so has a descriptor.
    arrivals: mpsc::UnboundedSender<Arrival>,
}

/// A connection that counts as one of its thread's until this is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<Thread>);

/// A connection between two threads.
pub(super) struct Arrival {
    pub(super) stream: Moving,
    pub(super) peer: SocketAddr,
    pub(super) tls: Option<Acceptor>,
    pub(super) counted: Counted,
}

impl Share {
    /// For each of so many threads, its share of all connections. A single one shares with nobody: `None`.
    #[must_use]
    pub fn among(threads: usize) -> Vec<Option<(Self, Arrivals)>> {
        if threads == 1 {
            return vec![None];
        }
        let thread = |_| {
            let (sender, arrivals) = mpsc::unbounded_channel();
            let thread = Thread {
                open: AtomicUsize::new(0),
                waits: AtomicBool::new(false),
                arrivals: sender,
            };
            (Arc::new(thread), Arrivals(arrivals))
        };
        let (threads, arrivals): (Vec<_>, Vec<_>) = (0..threads).map(thread).unzip();
        let threads: Arc<[_]> = threads.into();
        let share = |(own, arrivals)| {
            let threads = Arc::clone(&threads);
            Some((Self { threads, own }, arrivals))
        };
        arrivals.into_iter().enumerate().map(share).collect()
    }

    /// What the runtime of this thread is to call whenever it begins to wait, or has waited.
    pub fn note(&self, waits: bool) -> impl Fn() + Send + Sync + 'static {
        let thread = Arc::clone(&self.threads[self.own]);
        move || thread.waits.store(waits, Ordering::Relaxed)
    }

    /// Counts one more connection where it is to be served.
    pub(super) fn count(&self) -> Counted {
        let open = |thread: &Arc<Thread>| thread.open.load(Ordering::Relaxed);
        let own = &self.threads[self.own];
        let threads = self.threads.iter();
        let waiting = threads.filter(|thread| thread.waits.load(Ordering::Relaxed));
        let lightest = waiting.min_by_key(|thread| open(thread));
        let of = lightest.filter(|lightest| is_lighter(open(lightest), open(own)));
        Counted::new(of.unwrap_or(own))
    }

    /// Whether this thread is to serve it.
    pub(super) fn keeps(&self, counted: &Counted) -> bool {
        Arc::ptr_eq(&self.threads[self.own], &counted.0)
    }
}

/// Whether a connection is better off at a thread that has `least`, than at the one that has accepted it and has `own`.
const fn is_lighter(least: usize, own: usize) -> bool {
    least + 1 + least / EVEN < own
}

impl Counted {
    fn new(of: &Arc<Thread>) -> Self {
        of.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(of))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Arrival {
    /// Hands the connection over to the thread that it is counted at.
    ///
    /// # Errors
    ///
    /// The connection, when that thread no longer accepts any.
    pub(super) fn hand_over(self) -> Result<(), Self> {
        let thread = Arc::clone(&self.counted.0);
        thread.arrivals.send(self).map_err(|refused| refused.0)
    }
}

impl Arrivals {
    /// The next one; `None` when they are closed, and none is left. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Arrival> {
        self.0.recv().await
    }

    /// Takes no more than have been handed over already.
    pub(super) fn close(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of threads that all wait.
    fn shares(threads: usize) -> Vec<Share> {
        let shares = Share::among(threads).into_iter();
        let waiting = shares.map(|share| {
            let (share, _) = share.unwrap();
            share.note(true)();
            share
        });
        waiting.collect()
    }

    fn open(share: &Share) -> Vec<usize> {
        let threads = share.threads.iter();
        threads
            .map(|thread| thread.open.load(Ordering::Relaxed))
            .collect()
    }

    #[test]
    fn a_single_thread_shares_with_nobody() {
        assert!(matches!(Share::among(1).as_slice(), [None]));
    }

    #[test]
    fn a_burst_that_one_thread_accepts_goes_to_all() {
        let shares = shares(4);
        let few = [(); 8].map(|()| shares[2].count());
        assert_eq!(open(&shares[0]), [2, 2, 3, 1]);
        let many = [(); 392].map(|()| shares[2].count());
        let most = open(&shares[0]).into_iter().max().unwrap();
        assert!((100..=110).contains(&most), "{most}");
        drop((few, many));
        assert_eq!(open(&shares[0]), [0; 4]);
    }

    #[test]
    fn a_thread_keeps_what_it_accepts_while_it_has_hardly_more_than_others() {
        let kept = |least: usize, own: usize| !is_lighter(least, own);
        assert!(kept(0, 1) && !kept(0, 2));
        assert!(kept(7, 8) && !kept(7, 9));
        assert!(kept(8, 10) && !kept(8, 11));
        assert!(kept(800, 901) && !kept(800, 902));
        assert!(kept(900, 800));
    }

    #[test]
    fn a_busy_thread_gets_only_what_it_accepts_itself() {
        let shares = shares(3);
        shares[0].note(false)();
        let burst = [(); 5].map(|()| shares[2].count());
        assert_eq!(open(&shares[0]), [0, 2, 3]);
        let own = shares[0].count();
        assert_eq!(open(&shares[0]), [1, 2, 3]);
        drop((burst, own));
    }

    #[test]
    fn a_connection_counts_where_it_is_to_be_served() {
        let shares = shares(2);
        let first = [(); 2].map(|()| shares[1].count());
        assert!(first.iter().all(|counted| shares[1].keeps(counted)));
        let third = shares[1].count();
        assert!(shares[0].keeps(&third) && !shares[1].keeps(&third));
        drop(first);
        assert_eq!(open(&shares[0]), [1, 0]);
    }
}
