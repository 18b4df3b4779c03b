//! Backends that an operator drains: no new work, and from a known moment on nothing at all.
//!
//! This is beside the file's `draining = true`, which has no end of its own and is for all proxies.

use std::{sync::Arc, time::Instant};

use super::{Known, Members, Membership, State, View, lists};
use crate::{
    backend::{Admission, Name},
    config::Config,
    router::placement::Load,
};

/// How far a backend's drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Drain {
    /// Nobody asked for one.
    #[default]
    None,
    /// It gets no new work; what it holds at `until` is lost. `None`: no such time.
    Asked { until: Option<Instant> },
    /// What it held is lost.
    Over {
        /// How many live sessions that were.
        sessions: u32,
    },
}

impl Drain {
    /// When what is left will be lost.
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Self::Asked { until } => until,
            Self::None | Self::Over { .. } => None,
        }
    }
}

/// A backend whose sessions are lost from now on.
#[derive(Debug)]
pub struct Lost {
    /// Which.
    pub name: Name,
    /// Why.
    pub why: WhyLost,
    /// What counted its work until now; work that begins from now on is counted elsewhere.
    pub load: Arc<Load>,
}

/// Why the sessions of a backend are lost, other than by its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyLost {
    /// It was taken off the list, and its time has run out. What is open goes on: nobody wanted it to end.
    Departed,
    /// It was drained, and its time has run out. What is open ends too.
    Drained,
}

/// What a change has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The backend as it stands now; one that is being removed may stand in several pools.
    pub views: Vec<View>,
    /// How many backends of its pool are left that take new work.
    pub open_left: usize,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unchanged {
    /// No backend has that name. These are there.
    Unknown(Vec<Name>),
    /// The file says that it is draining.
    ByFile,
    /// It is no longer in the file.
    Departed,
}

impl Membership {
    /// Gives a backend no new work, and lets it lose what it holds at `until`: see [`Membership::advance`]. One
    /// that has departed may lose it earlier so.
    ///
    /// # Errors
    ///
    /// If there is no such backend.
    pub fn drain(&mut self, name: &str, until: Option<Instant>) -> Result<(), Unchanged> {
        for known in self.named(name)? {
            match known.drain {
                Drain::Over { .. } => {}
                Drain::None | Drain::Asked { .. } => known.drain = Drain::Asked { until },
            }
        }
        Ok(())
    }

    /// Takes a drain back, also one that is over.
    ///
    /// # Errors
    ///
    /// If there is no such backend, or it takes no new work for another reason.
    pub fn undrain(&mut self, name: &str) -> Result<(), Unchanged> {
        for known in self.named(name)? {
            if matches!(known.state, State::Departed { .. }) {
                return Err(Unchanged::Departed);
            }
            known.drain = Drain::None;
            if known.backend.admission == Admission::Draining {
                return Err(Unchanged::ByFile);
            }
        }
        Ok(())
    }

    /// Takes back the drains of backends that the file wants open. Gives their names.
    pub fn follow_file(&mut self, config: &Config) -> Vec<Name> {
        let wanted_open = |name: &Name| {
            let mut backends = config.pools.iter().flat_map(|pool| &pool.backends);
            backends.any(|backend| backend.name == *name && backend.admission == Admission::Open)
        };
        let known = self
            .pools
            .values_mut()
            .flat_map(|members| &mut members.known);
        let undone =
            known.filter(|known| known.drain != Drain::None && wanted_open(&known.backend.name));
        undone
            .map(|known| {
                known.drain = Drain::None;
                known.backend.name.clone()
            })
            .collect()
    }

    /// How a backend stands after a change.
    #[must_use]
    pub fn changed(&self, name: &str, config: &Config) -> Changed {
        let mut views = self.views(config);
        views.retain(|view| view.name.as_str() == name);
        let is_its = |pool: &&crate::config::Pool| views.iter().any(|view| view.pool == pool.name);
        let pools = config.pools.iter().filter(is_its);
        let open = pools.map(|pool| {
            let takes_work =
                |known: &&Known| lists(pool, &known.backend.name) && known.takes_work();
            let members = self.pools.get(&pool.name).into_iter();
            members
                .flat_map(|members| &members.known)
                .filter(takes_work)
                .count()
        });
        Changed {
            open_left: open.sum(),
            views,
        }
    }

    fn named(&mut self, name: &str) -> Result<Vec<&mut Known>, Unchanged> {
        let is_named = |known: &Known| known.backend.name.as_str() == name;
        if !self
            .pools
            .values()
            .flat_map(|members| &members.known)
            .any(is_named)
        {
            let known = self.pools.values().flat_map(|members| &members.known);
            let mut names: Vec<Name> = known.map(|known| known.backend.name.clone()).collect();
            names.sort_unstable();
            names.dedup();
            return Err(Unchanged::Unknown(names));
        }
        let known = self
            .pools
            .values_mut()
            .flat_map(|members| &mut members.known);
        Ok(known.filter(|known| is_named(known)).collect())
    }
}

impl Members {
    /// Lets those lose what they hold whose time has come.
    pub(super) fn end_drains(&mut self, now: Instant, lost: &mut Vec<Lost>) {
        let is_due = |known: &Known| known.drain.until().is_some_and(|until| until <= now);
        let drained = |known: &Known, load| Lost {
            name: known.backend.name.clone(),
            why: WhyLost::Drained,
            load,
        };
        let is_departed = |known: &Known| matches!(known.state, State::Departed { .. });
        let gone = |known: &mut Known| is_departed(known) && is_due(known);
        for known in self.known.extract_if(.., gone) {
            lost.push(drained(&known, Arc::clone(&known.load)));
            self.lost.push(known.nodes);
        }
        for known in self.known.iter_mut().filter(|known| is_due(known)) {
            let next = known.load.successor();
            let load = std::mem::replace(&mut known.load, next);
            known.was_lost = true;
            known.drain = Drain::Over {
                sessions: load.sessions(),
            };
            lost.push(drained(known, load));
        }
    }
}

impl Known {
    /// Whether it may get new work, be it well or not.
    pub(super) fn takes_work(&self) -> bool {
        self.backend.admission == Admission::Open && self.drain == Drain::None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::router::{membership::Shown, testing::pool_of};

    const MINUTE: Duration = Duration::from_secs(60);

    struct Story {
        membership: Membership,
        config: Config,
        now: Instant,
    }

    impl Story {
        fn begin(names: &[&str]) -> Self {
            let (config, now) = (pool_of(names, ""), Instant::now());
            let mut membership = Membership::new();
            membership.update(&config, None, now);
            Self {
                membership,
                config,
                now,
            }
        }

        fn reload(&mut self, config: Config) -> Vec<Name> {
            let undone = self.membership.follow_file(&config);
            self.membership
                .update(&config, Some(&self.config), self.now);
            self.config = config;
            undone
        }

        fn drain_within(&mut self, name: &str, time: Duration) {
            self.membership.drain(name, Some(self.now + time)).unwrap();
        }

        fn pass(&mut self, time: Duration) -> Vec<Lost> {
            self.now += time;
            self.membership.advance(self.now)
        }

        /// What is shown of `a`, whether it takes new work, and whether its pins are answered as lost.
        fn of_a(&self) -> (Shown, bool, bool) {
            let views = self.membership.views(&self.config);
            let view = views.iter().find(|view| view.name.as_str() == "a");
            let table = self.membership.table(&self.config);
            let pool = &table.pools[0];
            let entries = (0..).zip(pool.entries());
            let mut its = entries.filter(|(_, entry)| entry.backend.name.as_str() == "a");
            let (member, entry) = its.next().unwrap();
            let takes_work = pool.candidates().contains(member);
            (view.unwrap().state, takes_work, entry.drained)
        }
    }

    #[test]
    fn a_drained_backend_gets_no_work_and_loses_what_it_holds_at_one_moment() {
        let mut story = Story::begin(&["a", "b"]);
        story.drain_within("a", MINUTE);
        assert_eq!(story.of_a(), (Shown::Draining, false, false));
        assert_eq!(story.membership.next_change(), Some(story.now + MINUTE));
        let load = Arc::clone(&story.membership.table(&story.config).pools[0].entries()[0].load);
        load.session_begins();
        assert!(story.pass(MINUTE - Duration::from_millis(1)).is_empty());
        let lost = story.pass(Duration::from_millis(1));
        assert_eq!(
            (lost[0].name.as_str(), lost[0].why),
            ("a", WhyLost::Drained)
        );
        assert!(Arc::ptr_eq(&lost[0].load, &load));
        assert_eq!(story.of_a(), (Shown::Drained, false, true));
        let shown = &story.membership.changed("a", &story.config);
        assert_eq!((shown.open_left, shown.views[0].sessions), (1, 0));
        assert_eq!(shown.views[0].sessions_lost, Some(1));
        assert_eq!(story.membership.next_change(), None);
        assert!(story.pass(MINUTE).is_empty(), "it is lost once");
    }

    #[test]
    fn without_a_deadline_nothing_is_lost_and_a_later_one_counts() {
        let mut story = Story::begin(&["a"]);
        story.membership.drain("a", None).unwrap();
        assert!(story.pass(1000 * MINUTE).is_empty());
        assert_eq!(story.membership.changed("a", &story.config).open_left, 0);
        story.drain_within("a", 2 * MINUTE);
        story.drain_within("a", MINUTE);
        assert_eq!(story.pass(MINUTE).len(), 1);
    }

    #[test]
    fn an_undrained_backend_serves_as_before() {
        let mut story = Story::begin(&["a", "b"]);
        story.drain_within("a", Duration::ZERO);
        assert_eq!(story.pass(Duration::ZERO).len(), 1);
        story.membership.undrain("a").unwrap();
        assert_eq!(story.of_a(), (Shown::Open, true, false));
        assert!(story.pass(MINUTE).is_empty());
    }

    #[test]
    fn the_file_takes_back_what_it_does_not_say() {
        let mut story = Story::begin(&["a", "b"]);
        story.drain_within("a", MINUTE);
        let undone = story.reload(pool_of(&["a", "b"], ""));
        assert_eq!(undone, [Name::try_new("a").unwrap()]);
        assert_eq!(story.of_a(), (Shown::Open, true, false));
    }

    #[test]
    fn the_file_keeps_what_it_says_and_its_deadline() {
        let mut story = Story::begin(&["b", "a"]);
        story.drain_within("a", MINUTE);
        let mut draining = pool_of(&["b", "a"], "");
        draining.pools[0].backends[1].admission = Admission::Draining;
        assert_eq!(story.reload(draining.clone()), []);
        assert_eq!(story.membership.undrain("a"), Err(Unchanged::ByFile));
        assert_eq!(story.of_a(), (Shown::Draining, false, false));
        story.drain_within("a", MINUTE);
        assert_eq!(story.pass(MINUTE).len(), 1);
        assert_eq!(story.reload(draining), []);
        assert_eq!(story.of_a(), (Shown::Drained, false, true));
    }

    #[test]
    fn who_is_taken_out_while_draining_is_lost_at_the_earlier_moment() {
        let mut story = Story::begin(&["a", "b"]);
        story.drain_within("a", MINUTE);
        story.reload(pool_of(&["b"], ""));
        assert_eq!(story.of_a().0, Shown::Departed);
        let lost = story.pass(MINUTE);
        assert_eq!(lost[0].why, WhyLost::Drained);
        assert!(story.pass(1000 * MINUTE).is_empty(), "it is lost once");
    }

    #[test]
    fn who_is_taken_out_when_drained_stays_lost() {
        let mut story = Story::begin(&["a", "b"]);
        let entries = &story.membership.table(&story.config).pools[0];
        let coordinate = entries.coordinate_for(0, b"id");
        story.drain_within("a", Duration::ZERO);
        story.pass(Duration::ZERO);
        story.reload(pool_of(&["b"], ""));
        let table = story.membership.table(&story.config);
        assert!(table.pools[0].has_lost(coordinate));
    }

    #[test]
    fn one_that_departed_can_be_ended_and_not_be_taken_back() {
        let mut story = Story::begin(&["a", "b"]);
        story.reload(pool_of(&["b"], ""));
        assert_eq!(story.membership.undrain("a"), Err(Unchanged::Departed));
        story.membership.drain("a", None).unwrap();
        assert!(story.pass(MINUTE).is_empty());
        story.drain_within("a", Duration::ZERO);
        assert_eq!(story.pass(Duration::ZERO)[0].why, WhyLost::Drained);
        assert_eq!(story.membership.views(&story.config).len(), 1);
    }

    #[test]
    fn one_that_comes_back_is_drained_no_longer() {
        let mut story = Story::begin(&["a", "b"]);
        story.drain_within("a", MINUTE);
        story.reload(pool_of(&["b"], ""));
        story.reload(pool_of(&["a", "b"], ""));
        assert_eq!(story.of_a(), (Shown::Joining, false, false));
    }

    #[test]
    fn an_unknown_name_is_told_those_that_are_there() {
        let mut story = Story::begin(&["b", "a"]);
        let names = ["a", "b"].map(|name| Name::try_new(name).unwrap());
        let unknown = Err(Unchanged::Unknown(names.to_vec()));
        assert_eq!(story.membership.drain("c", None), unknown);
        assert_eq!(story.membership.undrain("c"), unknown);
    }
}
