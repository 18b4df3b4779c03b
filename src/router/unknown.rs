//! Pins that this process cannot judge yet: since when each has been seen.
//!
//! Proxies do not learn of backends and keys at the same moment, and a wrong 404 is final for a user. So a
//! pin that nothing is known about is *unknown*, not lost, until `unknown_grace` has passed since it was
//! first seen here (design, section 2, "known before used, kept after gone").

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// Pins of one sort that are remembered at once: about 1 MiB.
const CAPACITY: usize = 16_384;

/// What an unknown pin is by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may still become known.
    Waiting,
    /// Its grace has passed.
    Lost,
}

/// The unknown pins of this process. Two bounded tables: those that verify fill none of the room of those
/// that anybody can make up.
#[derive(Debug, Default)]
pub struct Unknown {
    /// The tag verifies, the coordinate was never seen.
    pub coordinates: FirstSeen,
    /// The key was never here, so that nothing could be verified.
    pub keys: FirstSeen,
}

/// When each of a bounded number of pins was first seen.
#[derive(Debug)]
pub struct FirstSeen {
    seen: HashMap<u64, Instant>,
    /// The same in the order of their arrival, to make room from the oldest on.
    order: VecDeque<(Instant, u64)>,
    capacity: usize,
}

impl Default for FirstSeen {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl FirstSeen {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            seen: HashMap::new(),
            order: VecDeque::new(),
            capacity,
        }
    }

    /// Notes that the pin whose hash is `pin` was seen, and tells what it is by now.
    ///
    /// Where the table is full, a new one waits: it is never lost unseen, and nothing is forgotten
    /// before its grace has passed.
    pub fn see(&mut self, pin: u64, now: Instant, grace: Duration) -> Standing {
        if let Some(first) = self.seen.get(&pin) {
            let passed = now.saturating_duration_since(*first) >= grace;
            return if passed {
                Standing::Lost
            } else {
                Standing::Waiting
            };
        }
        if self.make_room(now, grace) {
            self.seen.insert(pin, now);
            self.order.push_back((now, pin));
        }
        Standing::Waiting
    }

    fn make_room(&mut self, now: Instant, grace: Duration) -> bool {
        while self.seen.len() >= self.capacity {
            match self.order.front() {
                Some((first, pin)) if now.saturating_duration_since(*first) >= grace => {
                    self.seen.remove(pin);
                    self.order.pop_front();
                }
                Some(_) | None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    #[test]
    fn a_pin_waits_until_its_grace_has_passed_since_it_was_first_seen() {
        let (mut seen, start) = (FirstSeen::default(), Instant::now());
        assert_eq!(seen.see(1, start, GRACE), Standing::Waiting);
        assert_eq!(seen.see(1, start + GRACE / 2, GRACE), Standing::Waiting);
        assert_eq!(seen.see(2, start + GRACE / 2, GRACE), Standing::Waiting);
        assert_eq!(seen.see(1, start + GRACE, GRACE), Standing::Lost);
        assert_eq!(seen.see(1, start + GRACE * 9, GRACE), Standing::Lost);
        assert_eq!(seen.see(2, start + GRACE, GRACE), Standing::Waiting);
    }

    #[test]
    fn a_full_table_never_loses_and_never_forgets_early() {
        let (mut seen, start) = (FirstSeen::with_capacity(2), Instant::now());
        for pin in 1..=3 {
            seen.see(pin, start, GRACE);
        }
        assert_eq!(seen.seen.len(), 2);
        assert_eq!(seen.see(1, start + GRACE, GRACE), Standing::Lost);
        assert_eq!(
            seen.see(3, start + GRACE, GRACE),
            Standing::Waiting,
            "there was no room to note it"
        );
        assert_eq!(
            seen.see(3, start + GRACE * 2, GRACE),
            Standing::Lost,
            "the oldest has made room"
        );
    }
}
