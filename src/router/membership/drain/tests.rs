use std::time::Duration;

use super::*;
use crate::router::{
    membership::{Shown, tests::Story},
    testing::pool_of,
};

const MINUTE: Duration = Duration::from_secs(60);

impl Story {
    fn take(&mut self, config: Config) -> Vec<Name> {
        let undone = self.membership.follow_file(&config);
        self.membership
            .update(&config, Some(&self.config), self.now);
        self.config = config;
        undone
    }

    fn drain_within(&mut self, name: &str, time: Duration) {
        self.membership.drain(name, Some(self.now + time)).unwrap();
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
    story.membership.undrain("a").unwrap();
    assert_eq!(story.of_a(), (Shown::Open, true, false));
    assert!(story.lost_after(MINUTE).is_empty());
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
    assert_eq!(story.membership.undrain("a"), Err(Unchanged::ByFile));
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
    assert_eq!(story.membership.undrain("a"), Err(Unchanged::Departed));
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
    assert_eq!(story.membership.undrain("c"), unknown);
}
