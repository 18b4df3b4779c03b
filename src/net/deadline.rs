//! Deadlines that cost a store to arm: one coarse tick for all deadlines of a thread.
//!
//! A timer of the runtime for each request would be taken out of its wheel again, unexpired, by
//! almost every request. Here a deadline is a number in a slot, and one task looks over all slots
//! every [`TICK`]. So a deadline fires up to two ticks late, never early.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use slab::Slab;

use super::Instant;

/// Half of how late a deadline may fire.
const TICK: Duration = Duration::from_millis(100);

/// Most that are kept for the next deadlines.
const SPARE: usize = 64;

/// Makes the deadlines of one thread and watches over them.
#[derive(Clone)]
pub struct Ticker(Rc<Slots>);

struct Slots {
    slots: RefCell<Slab<Rc<Slot>>>,
    /// Of deadlines that are gone, for the next ones: each request makes one.
    spare: RefCell<Vec<Rc<Slot>>>,
    /// When the tick was last, which costs nothing to know.
    ticked: Rc<Cell<Instant>>,
    /// Wakes the watching task when the first deadline is made.
    filled: tokio::sync::Notify,
}

struct Slot {
    ticked: Rc<Cell<Instant>>,
    at: Cell<Option<Instant>>,
    /// Set by the tick, so that polling costs no look at the clock.
    expired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Slot {
    fn new(ticked: Rc<Cell<Instant>>) -> Self {
        Self {
            ticked,
            at: Cell::new(None),
            expired: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    fn clear(&self) {
        self.expired.set(false);
        self.at.set(None);
    }

    fn set(&self, duration: Duration) {
        self.expired.set(false);
        // From the end of this tick, so that it is never early; and without a look at the clock, which takes 40 ns.
        let begin = self.ticked.get() + TICK;
        self.at.set(begin.checked_add(duration));
    }
}

/// Moves a [`Deadline`] without owning it. Does nothing any more once that is gone.
#[derive(Clone)]
pub struct DeadlineHandle(Rc<Slot>);

impl DeadlineHandle {
    /// Arms the deadline anew, to expire after `duration`.
    pub fn set(&self, duration: Duration) {
        self.0.set(duration);
    }
}

impl fmt::Debug for DeadlineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeadlineHandle")
            .field(&self.0.at.get())
            .finish()
    }
}

impl Ticker {
    /// A ticker without deadlines. Deadlines fire only while [`Ticker::run`] is polled.
    #[must_use]
    pub fn new() -> Self {
        Self(Rc::new(Slots {
            slots: RefCell::default(),
            spare: RefCell::default(),
            ticked: Rc::new(Cell::new(super::now())),
            filled: tokio::sync::Notify::new(),
        }))
    }

    /// A deadline that is not armed.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        let spare = self.0.spare.borrow_mut().pop();
        let slot = spare.unwrap_or_else(|| Rc::new(Slot::new(Rc::clone(&self.0.ticked))));
        let mut slots = self.0.slots.borrow_mut();
        if slots.is_empty() {
            self.0.ticked.set(super::now());
            self.0.filled.notify_one();
        }
        let key = slots.insert(Rc::clone(&slot));
        Deadline {
            slot,
            key,
            ticker: self.clone(),
        }
    }

    /// Wakes whoever waits for an expired deadline, for ever. One task of the thread runs this.
    pub async fn run(&self) {
        loop {
            while self.0.slots.borrow().is_empty() {
                self.0.filled.notified().await;
            }
            super::sleep(TICK).await;
            self.wake_expired(super::now());
        }
    }

    fn wake_expired(&self, now: Instant) {
        self.0.ticked.set(now);
        // Waking runs no foreign code but the runtime's scheduler, which makes no deadlines.
        for (_, slot) in self.0.slots.borrow().iter() {
            if slot.at.get().is_some_and(|at| at <= now) {
                slot.at.set(None);
                slot.expired.set(true);
                if let Some(waker) = slot.waker.borrow_mut().take() {
                    waker.wake();
                }
            }
        }
    }
}

impl Default for Ticker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticker")
            .field("deadlines", &self.0.slots.borrow().len())
            .finish()
    }
}

/// A point in time that may be moved at will. Belongs to one task.
pub struct Deadline {
    slot: Rc<Slot>,
    key: usize,
    ticker: Ticker,
}

impl Deadline {
    /// Arms it to expire after `duration`, whatever it was set to before.
    pub fn set(&self, duration: Duration) {
        self.slot.set(duration);
    }

    /// Something that moves this deadline from another place of the same thread.
    #[must_use]
    pub fn handle(&self) -> DeadlineHandle {
        DeadlineHandle(Rc::clone(&self.slot))
    }

    /// Disarms it.
    pub fn clear(&self) {
        self.slot.clear();
    }

    /// Ready once the deadline has passed, until it is set anew; one that is not armed never is.
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.slot.expired.get() {
            return Poll::Ready(());
        }
        self.remember(cx.waker()); // also where it is not armed: that may come before the next poll
        Poll::Pending
    }

    fn remember(&self, waker: &Waker) {
        let mut slot = self.slot.waker.borrow_mut();
        match slot.as_mut() {
            Some(known) => known.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let slot = self.ticker.0.slots.borrow_mut().remove(self.key);
        let mut spare = self.ticker.0.spare.borrow_mut();
        // Two: this one and that. Who has a handle may set it later, when it is nobody's.
        if Rc::strong_count(&slot) == 2 && spare.len() < SPARE {
            slot.clear();
            slot.waker.take();
            spare.push(slot);
        }
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Deadline")
            .field(&self.slot.at.get())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(test);
    }

    async fn ticking<T>(ticker: &Ticker, future: impl Future<Output = T>) -> T {
        tokio::select! {
            value = future => value,
            () = ticker.run() => unreachable!("runs for ever"),
        }
    }

    #[test]
    fn a_deadline_fires_within_a_tick_and_never_early() {
        run(async {
            let ticker = Ticker::new();
            let deadline = ticker.deadline();
            let begin = super::super::now();
            deadline.set(Duration::from_secs(3));
            ticking(&ticker, poll_fn(|cx| deadline.poll_expired(cx))).await;
            let late = super::super::now() - begin - Duration::from_secs(3);
            assert!(late <= 2 * TICK, "{late:?} late");
        });
    }

    #[test]
    fn a_deadline_that_moves_on_does_not_fire() {
        run(async {
            let ticker = Ticker::new();
            let deadline = ticker.deadline();
            for _ in 0..5 {
                deadline.set(Duration::from_secs(1));
                let expired = ticking(&ticker, async {
                    super::super::within(
                        Duration::from_millis(800),
                        poll_fn(|cx| deadline.poll_expired(cx)),
                    )
                    .await
                });
                assert_eq!(expired.await, None);
            }
            deadline.clear();
            let expired = super::super::within(
                Duration::from_secs(60),
                poll_fn(|cx| deadline.poll_expired(cx)),
            );
            assert_eq!(ticking(&ticker, expired).await, None);
        });
    }
}
