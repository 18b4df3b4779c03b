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
    /// Whether this one has less to do than `other`, each in relation to its weight.
    fn is_lighter(&self, other: &Self) -> bool {
        let (own, others) = (
            u64::from(self.load.in_flight()),
            u64::from(other.load.in_flight()),
        );
        own * other.share() < others * self.share()
    }

    fn share(&self) -> u64 {
        u64::from(self.weight.0.get())
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
    // Chance favours by weight too: between idle backends it alone decides.
    let total: u64 = (0..count).map(|index| candidate(index).share()).sum();
    let pick = |random: u32, total: u64, except: Option<usize>| {
        let mut left = (u64::from(random) * total) >> 32;
        (0..count)
            .filter(|index| Some(*index) != except)
            .find(|index| {
                let share = candidate(*index).share();
                let here = left < share;
                left = left.saturating_sub(share);
                here
            })
    };
    // Two different ones out of one random number, each from its own half.
    let first = pick(random as u32, total, None)?;
    let rest = total - candidate(first).share();
    let second = pick((random >> 32) as u32, rest, Some(first)).unwrap_or(first);
    let (first, second) = (candidate(first), candidate(second));
    Some(if second.is_lighter(first) {
        second.member
    } else {
        first.member
    })
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
    fn idle_backends_get_work_by_weight() {
        let all = candidates(&[3, 1, 4]);
        let mut random = fastrand::Rng::with_seed(7);
        let mut placed = [0; 3];
        for _ in 0..8000 {
            placed[two_choices(&all, random.u64(..), &[]).unwrap() as usize] += 1;
        }
        for (placed, wanted) in placed.iter().zip([3000, 1000, 4000_u32]) {
            assert!(wanted.abs_diff(*placed) < 200, "{placed} for {wanted}");
        }
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
