use std::time::Duration;

use super::*;
use crate::{
    health::Observation,
    router::{
        membership::{Shown, tests::Story},
        testing::{config, pool_of},
    },
};

const MINUTE: Duration = Duration::from_secs(60);

impl Story {
    fn take(&mut self, config: Config) -> Vec<Name> {
        let undone = self.membership.follow_file(&config, self.now);
        self.membership
            .update(&config, Some(&self.config), self.now);
        self.config = config;
        undone
    }

    fn drain_within(&mut self, name: &str, time: Duration) {
        self.membership.drain(name, Some(self.now + time)).unwrap();
    }

    fn undrain(&mut self, name: &str) -> Result<(), Unchanged> {
        self.membership.undrain(name, self.now)
    }

    /// In how long all sessions of `a` are known.
    fn a_is_complete_in(&self) -> Duration {
        let views = self.membership.views(&self.config);
        let view = views.iter().find(|view| view.name.as_str() == "a");
        view.unwrap()
            .complete_at
            .saturating_duration_since(self.now)
    }

    /// What is seen of `a`, at its first pool.
    fn see_a(&mut self, seen: Observation) {
        let table = self.membership.table(&self.config);
        let mut entries = table.pools.iter().flat_map(|pool| pool.entries());
        let entry = entries.find(|entry| entry.backend.name.as_str() == "a");
        let id = entry.unwrap().id;
        self.membership.observe(id, seen, self.now, 0.5);
    }

    fn lost_after(&mut self, time: Duration) -> Vec<Lost> {
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
    assert!(
        story
            .lost_after(MINUTE - Duration::from_millis(1))
            .is_empty()
    );
    let lost = story.lost_after(Duration::from_millis(1));
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
    assert!(story.lost_after(MINUTE).is_empty(), "it is lost once");
}

#[test]
fn without_a_deadline_nothing_is_lost_and_a_later_one_counts() {
    let mut story = Story::begin(&["a"]);
    story.membership.drain("a", None).unwrap();
    assert!(story.lost_after(1000 * MINUTE).is_empty());
    assert_eq!(story.membership.changed("a", &story.config).open_left, 0);
    story.drain_within("a", 2 * MINUTE);
    story.drain_within("a", MINUTE);
    assert_eq!(story.lost_after(MINUTE).len(), 1);
}

#[test]
fn an_undrained_backend_serves_as_before() {
    let mut story = Story::begin(&["a", "b"]);
    story.drain_within("a", Duration::ZERO);
    assert_eq!(story.lost_after(Duration::ZERO).len(), 1);
    story.undrain("a").unwrap();
    assert_eq!(story.of_a(), (Shown::Open, true, false));
    assert!(story.lost_after(MINUTE).is_empty());
}

/// The default of `affinity.session_idle`.
const SESSION_IDLE: Duration = Duration::from_secs(3600);

#[test]
fn the_count_of_sessions_begins_anew_when_what_forgot_them_is_over() {
    let mut story = Story::begin(&["a", "b"]);
    story.now += SESSION_IDLE;
    assert_eq!(story.a_is_complete_in(), Duration::ZERO);
    while story.of_a().0 != Shown::Lost {
        story.now += Duration::from_secs(1);
        story.see_a(Observation::Refused);
    }
    assert_eq!(story.a_is_complete_in(), SESSION_IDLE, "while it is lost");
    story.now += MINUTE;
    story.see_a(Observation::Probed);
    assert_eq!(story.of_a().0, Shown::Open);
    assert_eq!(story.a_is_complete_in(), SESSION_IDLE, "healed");

    story.now += SESSION_IDLE;
    story.drain_within("a", MINUTE);
    story.undrain("a").unwrap();
    assert_eq!(story.a_is_complete_in(), Duration::ZERO, "nothing was lost");
    for by_file in [false, true] {
        story.now += SESSION_IDLE;
        story.drain_within("a", Duration::ZERO);
        story.lost_after(Duration::ZERO);
        if by_file {
            story.take(pool_of(&["a", "b"], ""));
        } else {
            story.undrain("a").unwrap();
        }
        assert_eq!(story.a_is_complete_in(), SESSION_IDLE, "{by_file}");
    }

    story.now += SESSION_IDLE;
    story.take(pool_of(&["b"], ""));
    story.lost_after(15 * MINUTE);
    story.take(pool_of(&["a", "b"], ""));
    assert_eq!(story.a_is_complete_in(), SESSION_IDLE, "listed again");
}

/// The pool `one` with these backends, and `two` with those.
fn two_pools(one: &[&str], two: &[&str]) -> Config {
    let pool = |(name, backends): (&str, &[&str])| {
        let backend = |name: &&str| format!("{{ name = \"{name}\", url = \"http://{name}:1\" }}");
        let backends: Vec<String> = backends.iter().map(backend).collect();
        let backends = backends.join(", ");
        format!(
            "[[pools]]\nname = \"{name}\"\nmatch = {{ host = \"{name}\" }}\nbackends = [{backends}]\n"
        )
    };
    config(&[("one", one), ("two", two)].map(pool).concat())
}

#[test]
fn one_that_was_moved_to_another_pool_is_drained_and_taken_back_where_it_is_listed() {
    // The pools are kept in a map of random order.
    for _ in 0..8 {
        let mut story = Story::begin(&["x"]);
        story.take(two_pools(&["a", "b"], &["c"]));
        story.take(two_pools(&["b"], &["c", "a"]));
        story.drain_within("a", MINUTE);
        let states = |story: &Story| {
            let views = story.membership.changed("a", &story.config).views;
            let state = |view: &crate::router::membership::View| (view.state, view.ends_at);
            views.iter().map(state).collect::<Vec<_>>()
        };
        let deadline = Some(story.now + MINUTE);
        assert_eq!(
            states(&story),
            [(Shown::Departed, deadline), (Shown::Draining, deadline)]
        );
        assert_eq!(story.undrain("a"), Ok(()));
        let [departed, listed] = states(&story)[..] else {
            panic!("it is in two pools")
        };
        assert!(departed.1 > deadline, "its own time holds again");
        assert_eq!(listed, (Shown::Joining, None));
    }
}

#[test]
fn who_is_left_to_take_new_work_is_in_its_pool_and_well() {
    let mut story = Story::begin(&["a", "b"]);
    let left = |story: &Story, name| story.membership.changed(name, &story.config).open_left;
    story.membership.drain("b", None).unwrap();
    assert_eq!(left(&story, "b"), 1);
    story.see_a(Observation::Refused);
    assert_eq!(left(&story, "b"), 0, "a is down");

    story.take(two_pools(&["d", "e"], &["c"]));
    story.take(two_pools(&["d"], &["e"]));
    story.membership.drain("e", None).unwrap();
    assert_eq!(left(&story, "e"), 0, "d is of the pool that it has left");
}

#[test]
fn what_the_file_drains_is_not_changed_by_taking_it_back() {
    let mut story = Story::begin(&["b", "a"]);
    let mut draining = pool_of(&["b", "a"], "");
    draining.pools[0].backends[1].admission = Admission::Draining;
    story.take(draining);
    story.drain_within("a", MINUTE);
    let before = story.membership.views(&story.config);
    assert_eq!(story.undrain("a"), Err(Unchanged::ByFile));
    assert_eq!(story.membership.views(&story.config), before);
}

#[test]
fn the_file_takes_back_what_it_does_not_say() {
    let mut story = Story::begin(&["a", "b"]);
    story.drain_within("a", MINUTE);
    let undone = story.take(pool_of(&["a", "b"], ""));
    assert_eq!(undone, [Name::try_new("a").unwrap()]);
    assert_eq!(story.of_a(), (Shown::Open, true, false));
}

#[test]
fn the_file_keeps_what_it_says_and_its_deadline() {
    let mut story = Story::begin(&["b", "a"]);
    story.drain_within("a", MINUTE);
    let mut draining = pool_of(&["b", "a"], "");
    draining.pools[0].backends[1].admission = Admission::Draining;
    assert_eq!(story.take(draining.clone()), []);
    assert_eq!(story.undrain("a"), Err(Unchanged::ByFile));
    assert_eq!(story.of_a(), (Shown::Draining, false, false));
    story.drain_within("a", MINUTE);
    assert_eq!(story.lost_after(MINUTE).len(), 1);
    assert_eq!(story.take(draining), []);
    assert_eq!(story.of_a(), (Shown::Drained, false, true));
}

#[test]
fn who_is_taken_out_while_draining_is_lost_at_the_earlier_moment() {
    let mut story = Story::begin(&["a", "b"]);
    story.drain_within("a", MINUTE);
    story.take(pool_of(&["b"], ""));
    assert_eq!(story.of_a().0, Shown::Departed);
    let lost = story.lost_after(MINUTE);
    assert_eq!(lost[0].why, WhyLost::Drained);
    assert!(
        story.lost_after(1000 * MINUTE).is_empty(),
        "it is lost once"
    );
}

#[test]
fn who_is_taken_out_when_drained_stays_lost() {
    let mut story = Story::begin(&["a", "b"]);
    let entries = &story.membership.table(&story.config).pools[0];
    let coordinate = entries.coordinate_for(0, b"id");
    story.drain_within("a", Duration::ZERO);
    story.lost_after(Duration::ZERO);
    story.take(pool_of(&["b"], ""));
    let table = story.membership.table(&story.config);
    assert!(table.pools[0].has_lost(coordinate));
}

#[test]
fn one_that_departed_can_be_ended_and_not_be_taken_back() {
    let mut story = Story::begin(&["a", "b"]);
    story.take(pool_of(&["b"], ""));
    assert_eq!(story.undrain("a"), Err(Unchanged::Departed));
    story.membership.drain("a", None).unwrap();
    assert!(story.lost_after(MINUTE).is_empty());
    story.drain_within("a", Duration::ZERO);
    assert_eq!(story.lost_after(Duration::ZERO)[0].why, WhyLost::Drained);
    assert_eq!(story.membership.views(&story.config).len(), 1);
}

#[test]
fn one_that_comes_back_is_drained_no_longer() {
    let mut story = Story::begin(&["a", "b"]);
    story.drain_within("a", MINUTE);
    story.take(pool_of(&["b"], ""));
    story.take(pool_of(&["a", "b"], ""));
    assert_eq!(story.of_a(), (Shown::Joining, false, false));
}

#[test]
fn an_unknown_name_is_told_those_that_are_there() {
    let mut story = Story::begin(&["b", "a"]);
    let names = ["a", "b"].map(|name| Name::try_new(name).unwrap());
    let unknown = Err(Unchanged::Unknown(names.to_vec()));
    assert_eq!(story.membership.drain("c", None), unknown);
    assert_eq!(story.undrain("c"), unknown);
}
