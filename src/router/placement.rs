//! Which backend gets new work: the less loaded of two that chance picks.
//!
//! Two random choices keep the largest load near the mean without anybody knowing all loads of the moment
//! (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001), and a herd of
//! proxies does not rush to the one backend that is empty, as it would with the least loaded of all.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use crate::{backend::Weight, ring::Member};

/// Requests in flight at one backend, counted over all threads.
#[derive(Debug, Default)]
pub struct Load(AtomicU32);

impl Load {
    /// Counts one request until the guard is dropped.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> InFlight {
        // Relaxed: a placement that sees the count of a moment ago is as good.
        self.0.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Requests in flight now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One request in flight.
#[derive(Debug)]
pub struct InFlight(Arc<Load>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One backend that takes new work.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its index in the pool.
    pub member: Member,
    /// Its share of new work.
    pub weight: Weight,
    /// What it has to do.
    pub load: Arc<Load>,
}

impl Candidate {
    /// Whether this one has less to do than `other`, each in relation to its weight. One request is added
    /// to both, the one to be placed: else every idle backend would be equal, whatever its weight.
    fn is_lighter(&self, other: &Self) -> bool {
        let (own, others) = (
            u64::from(self.load.in_flight()) + 1,
            u64::from(other.load.in_flight()) + 1,
        );
        own * u64::from(other.weight.0.get()) < others * u64::from(self.weight.0.get())
    }
}

/// The lighter of two candidates picked by `random`, none of them in `tried`; `None` if nobody is left.
#[must_use]
pub fn two_choices(candidates: &[Candidate], random: u64, tried: &[Member]) -> Option<Member> {
    if tried.is_empty() {
        return choose(candidates.len(), random, |index| &candidates[index]);
    }
    let left: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| !tried.contains(&candidate.member))
        .collect();
    choose(left.len(), random, |index| left[index])
}

fn choose<'a>(
    count: usize,
    random: u64,
    candidate: impl Fn(usize) -> &'a Candidate,
) -> Option<Member> {
    if count == 0 {
        return None;
    }
    // Two different indices out of one random number, each from its own half.
    let first = scale(random as u32, count);
    let second = (first + 1 + scale((random >> 32) as u32, count.max(2) - 1)) % count;
    let (first, second) = (candidate(first), candidate(second));
    Some(if second.is_lighter(first) {
        second.member
    } else {
        first.member
    })
}

/// Maps a random number to 0..`count`.
fn scale(random: u32, count: usize) -> usize {
    ((u64::from(random) * count as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        let weigh = |(member, weight): (Member, &u16)| Candidate {
            member,
            weight: Weight(NonZeroU16::new(*weight).unwrap()),
            load: Arc::default(),
        };
        (0..).zip(weights).map(weigh).collect()
    }

    /// Places `count` requests that never end, and counts them by member.
    fn spread(candidates: &[Candidate], count: usize) -> Vec<u32> {
        let mut random = fastrand::Rng::with_seed(7);
        let place = |_| {
            let member = two_choices(candidates, random.u64(..), &[]).unwrap();
            candidates[member as usize].load.enter()
        };
        let _placed: Vec<InFlight> = (0..count).map(place).collect();
        candidates
            .iter()
            .map(|candidate| candidate.load.in_flight())
            .collect()
    }

    #[test]
    fn equal_backends_get_equal_work() {
        let loads = spread(&candidates(&[1, 1, 1, 1]), 1000);
        assert!(
            loads.iter().all(|load| (240..=260).contains(load)),
            "{loads:?}"
        );
    }

    #[test]
    fn work_follows_weight() {
        let loads = spread(&candidates(&[3, 1]), 1000);
        assert!((700..=800).contains(&loads[0]), "{loads:?}");
    }

    #[test]
    fn who_was_tried_is_not_chosen_again() {
        let all = candidates(&[1, 1, 1]);
        for random in (0..1000).map(|step: u64| step.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            assert_eq!(two_choices(&all, random, &[0, 2]), Some(1));
            assert_eq!(two_choices(&all, random, &[0, 1, 2]), None);
        }
        assert_eq!(two_choices(&[], 7, &[]), None);
    }

    #[test]
    fn a_finished_request_is_no_load() {
        let load = Arc::new(Load::default());
        drop(load.enter());
        assert_eq!(load.in_flight(), 0);
    }
}
