//! Which backend gets new work: the less loaded of two that chance picks, and that have room.
//!
//! Two random choices keep the largest load near the mean without anybody knowing all loads of the moment
//! (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001), and a herd of
//! proxies does not rush to the one backend that is empty, as it would with the least loaded of all.

mod load;

use std::sync::Arc;

pub use self::load::{InFlight, Load, Opening, SessionLimit};
use crate::{backend::Weight, ring::Member};

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
        let (own, others) = (self.load.total(), other.load.total());
        own * other.share() < others * self.share()
    }

    fn share(&self) -> u64 {
        u64::from(self.weight.0.get())
    }
}

/// The backends of a pool that take new work.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// In the order of their members.
    all: Vec<Candidate>,
    /// The sum of the shares up to and with each, so that a share is found in a few steps.
    sums: Vec<u64>,
}

impl FromIterator<Candidate> for Candidates {
    /// Takes candidates in the order of their members.
    fn from_iter<I: IntoIterator<Item = Candidate>>(candidates: I) -> Self {
        let all: Vec<Candidate> = candidates.into_iter().collect();
        let add = |sum: &mut u64, candidate: &Candidate| {
            *sum += candidate.share();
            Some(*sum)
        };
        let sums = all.iter().scan(0, add).collect();
        Self { all, sums }
    }
}

impl Candidates {
    /// Whether nobody takes new work.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether this member takes new work.
    #[must_use]
    pub fn contains(&self, member: Member) -> bool {
        self.all
            .binary_search_by_key(&member, |candidate| candidate.member)
            .is_ok()
    }

    /// Whether somebody who takes new work is not in `tried`.
    #[must_use]
    pub fn has_untried(&self, tried: &[Member]) -> bool {
        let mut all = self.all.iter();
        all.any(|candidate| !tried.contains(&candidate.member))
    }

    /// The lighter of two candidates picked by `random`, none of them in `tried` or at its limit; `None` if nobody
    /// is left.
    #[must_use]
    pub fn two_choices(
        &self,
        random: u64,
        tried: &[Member],
        limit: SessionLimit,
    ) -> Option<Member> {
        let fits = |candidate: &&Candidate| {
            !tried.contains(&candidate.member) && candidate.load.has_room(limit)
        };
        // Nearly always there is no reason to leave anybody out.
        if tried.is_empty()
            && let Some(chosen) = self.choose(random).filter(fits)
        {
            return Some(chosen.member);
        }
        let left: Self = self.all.iter().filter(fits).cloned().collect();
        left.choose(random).map(|candidate| candidate.member)
    }

    /// Chance favours by weight too: between idle backends it alone decides.
    fn choose(&self, random: u64) -> Option<&Candidate> {
        let total = *self.sums.last()?;
        // Two different ones out of one random number, each from its own half: the second from all shares
        // but those of the first.
        let first = self.at(scale(random as u32, total));
        let own = self.all[first].share();
        let before = self.sums[first] - own;
        let point = scale((random >> 32) as u32, total - own);
        let second = match total - own {
            0 => first,
            _ if point < before => self.at(point),
            _ => self.at(point + own),
        };
        let (first, second) = (&self.all[first], &self.all[second]);
        Some(if second.is_lighter(first) {
            second
        } else {
            first
        })
    }

    /// The index of the candidate that has the share at `point`, less than the sum of all.
    fn at(&self, point: u64) -> usize {
        self.sums.partition_point(|sum| *sum <= point)
    }
}

/// Maps a random number to 0..`count`.
fn scale(random: u32, count: u64) -> u64 {
    (u64::from(random) * count) >> 32
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use std::num::NonZeroU16;

    use super::*;

    fn candidates(weights: &[u16]) -> Candidates {
        let weigh = |(member, weight): (Member, &u16)| Candidate {
            member,
            weight: Weight(NonZeroU16::new(*weight).unwrap()),
            load: Arc::default(),
        };
        (0..).zip(weights).map(weigh).collect()
    }

    /// Places `count` requests that never end, and counts them by member.
    fn spread(candidates: &Candidates, count: usize) -> Vec<u32> {
        let mut random = fastrand::Rng::with_seed(7);
        let place = |_| {
            let member = candidates.two_choices(random.u64(..), &[], None).unwrap();
            candidates.all[member as usize].load.enter()
        };
        let _placed: Vec<InFlight> = (0..count).map(place).collect();
        candidates
            .all
            .iter()
            .map(|candidate| candidate.load.in_flight())
            .collect()
    }

    #[test]
    fn what_counts_after_a_drain_goes_on_with_what_only_grows() {
        let load = Arc::new(Load::default());
        load.session_begins();
        load.session_forgotten();
        let next = load.successor();
        assert_eq!((next.sessions(), next.forgotten()), (0, 1));
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
            placed[all.two_choices(random.u64(..), &[], None).unwrap() as usize] += 1;
        }
        for (placed, wanted) in placed.iter().zip([3000, 1000, 4000_u32]) {
            assert!(wanted.abs_diff(*placed) < 200, "{placed} for {wanted}");
        }
    }

    #[test]
    fn who_was_tried_is_not_chosen_again() {
        let all = candidates(&[1, 1, 1]);
        for random in (0..1000).map(|step: u64| step.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            assert_eq!(all.two_choices(random, &[0, 2], None), Some(1));
            assert_eq!(all.two_choices(random, &[0, 1, 2], None), None);
        }
        assert_eq!(Candidates::default().two_choices(7, &[], None), None);
    }

    #[test]
    fn a_finished_request_is_no_load() {
        let load = Arc::new(Load::default());
        drop(load.enter());
        assert_eq!(load.in_flight(), 0);
    }

    #[test]
    fn a_thousand_sessions_spread_evenly_over_four_backends() {
        for seed in 0..20 {
            let all = candidates(&[1, 1, 1, 1]);
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..1000 {
                let member = all.two_choices(random.u64(..), &[], None).unwrap();
                all.all[member as usize].load.session_begins();
            }
            let counts = all.all.iter().map(|candidate| candidate.load.sessions());
            let (most, least) = (counts.clone().max().unwrap(), counts.min().unwrap());
            assert!(
                f64::from(most) / f64::from(least) <= 1.15,
                "{most} and {least}"
            );
        }
    }

    #[test]
    fn who_is_at_its_limit_is_left_out_until_a_session_ends() {
        let all = candidates(&[1, 1, 1]);
        let most = NonZeroU32::new(2);
        let mut random = fastrand::Rng::with_seed(7);
        let mut place = || all.two_choices(random.u64(..), &[], most);
        for placed in 0..6 {
            let member = place().expect("there is room");
            let load = &all.all[member as usize].load;
            assert!(load.sessions() < 2, "{placed}");
            load.session_begins();
        }
        assert_eq!(place(), None);
        all.all[1].load.session_ends();
        for _ in 0..20 {
            assert_eq!(place(), Some(1));
        }
    }

    #[test]
    fn a_session_that_is_being_opened_takes_room() {
        let (load, most) = (Arc::new(Load::default()), NonZeroU32::new(2).unwrap());
        load.session_begins();
        let opening = load.open_session(most);
        assert!(opening.is_some() && load.open_session(most).is_none());
        assert!(!load.has_room(Some(most)) && load.has_room(None));
        drop(opening);
        assert_eq!(load.sessions(), 1);
    }
}
