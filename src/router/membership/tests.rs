use super::*;
use crate::{
    ring::{Coordinate, Ring},
    router::testing::{config, pool_of},
};

const JOIN_DELAY: Duration = Duration::from_secs(10);
const DEPARTED: Duration = Duration::from_secs(15 * 60);

pub(super) struct Story {
    pub(super) membership: Membership,
    pub(super) config: Config,
    pub(super) now: Instant,
}

impl Story {
    pub(super) fn begin(names: &[&str]) -> Self {
        let (config, now) = (pool_of(names, ""), Instant::now());
        let mut membership = Membership::new();
        membership.update(&config, None, now);
        Self {
            membership,
            config,
            now,
        }
    }

    fn reload(&mut self, names: &[&str]) -> &mut Self {
        let config = pool_of(names, "");
        self.membership
            .update(&config, Some(&self.config), self.now);
        self.config = config;
        self
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.membership.advance(self.now);
        self
    }

    /// Each backend's name and standing, and whether it takes new work.
    fn standings(&self) -> Vec<(String, Standing, bool)> {
        let table = self.membership.table(&self.config);
        let pool = &table.pools[0];
        let entries = (0..).zip(pool.entries());
        let standing = |(member, entry): (u32, &Entry)| {
            let takes_work = pool.candidates().contains(member);
            (entry.backend.name.to_string(), entry.standing, takes_work)
        };
        let mut standings: Vec<_> = entries.map(standing).collect();
        standings.sort_by(|one, other| one.0.cmp(&other.0));
        standings
    }
}

fn is(name: &str, standing: Standing, takes_work: bool) -> (String, Standing, bool) {
    (name.to_owned(), standing, takes_work)
}

#[test]
fn those_present_at_the_start_take_work_at_once_and_later_ones_after_the_delay() {
    let mut story = Story::begin(&["a"]);
    assert_eq!(story.standings(), [is("a", Standing::Listed, true)]);
    story.reload(&["a", "b"]);
    assert_eq!(
        story.standings(),
        [
            is("a", Standing::Listed, true),
            is("b", Standing::Joining, false)
        ]
    );
    assert_eq!(story.membership.next_change(), Some(story.now + JOIN_DELAY));
    story.pass(JOIN_DELAY);
    assert_eq!(
        story.standings(),
        [
            is("a", Standing::Listed, true),
            is("b", Standing::Listed, true)
        ]
    );
    assert_eq!(story.membership.next_change(), None);
}

#[test]
fn a_further_reload_does_not_begin_the_delay_anew() {
    let mut story = Story::begin(&["a"]);
    story
        .reload(&["a", "b"])
        .pass(JOIN_DELAY / 2)
        .reload(&["a", "b", "c"])
        .pass(JOIN_DELAY / 2);
    let standings = story.standings();
    assert_eq!(standings[1], is("b", Standing::Listed, true));
    assert_eq!(standings[2], is("c", Standing::Joining, false));
}

#[test]
fn when_the_whole_list_is_new_the_new_ones_take_work() {
    let mut story = Story::begin(&["a"]);
    story.reload(&["b"]);
    assert_eq!(
        story.standings(),
        [
            is("a", Standing::Departed, false),
            is("b", Standing::Joining, true)
        ]
    );
}

#[test]
fn one_that_departed_is_forgotten_after_its_time_and_joins_anew_when_it_returns() {
    let mut story = Story::begin(&["a", "b"]);
    story.reload(&["b"]).pass(DEPARTED / 2);
    assert_eq!(story.standings()[0], is("a", Standing::Departed, false));
    story.reload(&["a", "b"]);
    assert_eq!(story.standings()[0], is("a", Standing::Joining, false));
    story.reload(&["b"]).pass(DEPARTED);
    assert_eq!(story.standings(), [is("b", Standing::Listed, true)]);
}

#[test]
fn a_new_address_has_new_connections_and_an_old_one_keeps_its_own() {
    let id_of = |membership: &Membership, config: &Config, name: &str| {
        let table = membership.table(config);
        let found = table.pools[0]
            .entries()
            .iter()
            .find(|entry| entry.backend.name.as_str() == name)
            .map(|entry| entry.id);
        found.unwrap()
    };
    let mut story = Story::begin(&["a", "b"]);
    let (a, b) = (
        id_of(&story.membership, &story.config, "a"),
        id_of(&story.membership, &story.config, "b"),
    );
    // The ports follow the order, so that swapping the names swaps the addresses.
    story.reload(&["b", "a"]);
    assert_ne!(id_of(&story.membership, &story.config, "a"), a);
    assert_ne!(id_of(&story.membership, &story.config, "b"), b);
    let a = id_of(&story.membership, &story.config, "a");
    story.reload(&["b", "a", "c"]);
    assert_eq!(id_of(&story.membership, &story.config, "a"), a);
}

#[test]
fn of_the_lost_only_so_many_are_remembered() {
    let names: Vec<String> = (0..LOST_CAPACITY + 5)
        .map(|number| format!("n{number}"))
        .collect();
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.push("stays");
    let mut story = Story::begin(&all);
    story.reload(&["stays"]).pass(DEPARTED);
    assert_eq!(story.membership.pools["default"].lost.len(), LOST_CAPACITY);
}

#[test]
fn the_backends_of_a_removed_pool_depart() {
    let pool = |name: &str, path: &str| {
        format!(
            "[[pools]]\nname = \"{name}\"\nmatch = {{ path = \"{path}\" }}\nbackends = [{{ name = \"{name}\", url = \"http://h:1\" }}]\n"
        )
    };
    let (all, now) = (
        config(&[pool("one", "/one"), pool("rest", "/")].concat()),
        Instant::now(),
    );
    let rest = config(&pool("rest", "/"));
    let mut membership = Membership::new();
    membership.update(&all, None, now);
    membership.update(&rest, Some(&all), now);
    let names = |membership: &Membership| -> Vec<(String, Standing)> {
        let table = membership.table(&rest);
        let entries = table.pools[0].entries().iter();
        entries
            .map(|entry| (entry.backend.name.to_string(), entry.standing))
            .collect()
    };
    assert_eq!(
        names(&membership),
        [
            ("rest".into(), Standing::Listed),
            ("one".into(), Standing::Departed)
        ]
    );
    let lost = membership.advance(now + DEPARTED);
    assert_eq!((lost.len(), lost[0].name.as_str()), (1, "one"));
    assert_eq!(names(&membership), [("rest".into(), Standing::Listed)]);
}

#[test]
fn who_is_down_gets_no_new_work_is_probed_and_at_last_lost() {
    let mut story = Story::begin(&["a", "b"]);
    let id = story.membership.table(&story.config).pools[0].entries()[0].id;
    let seen = |story: &mut Story, seen| story.membership.observe(id, seen, story.now, 0.5);
    let a = Name::try_new("a").unwrap();
    assert_eq!(
        seen(&mut story, Observation::Refused),
        Some(Some((a.clone(), Vital::Suspect)))
    );
    assert_eq!(
        story.standings(),
        [
            is("a", Standing::Listed, false),
            is("b", Standing::Listed, true)
        ]
    );
    assert_eq!(story.membership.suspects(&story.config)[0].id, id);
    assert_eq!(seen(&mut story, Observation::Refused), None, "no news");

    let lost = (0..10).find_map(|_| {
        story.now += Duration::from_secs(1);
        seen(&mut story, Observation::Refused)
    });
    assert_eq!(lost, Some(Some((a.clone(), Vital::Lost))));
    assert_eq!(
        seen(&mut story, Observation::Probed),
        Some(Some((a, Vital::Healthy)))
    );
    assert_eq!(story.standings()[0], is("a", Standing::Listed, true));
    assert!(story.membership.suspects(&story.config).is_empty());
}

#[test]
fn the_last_one_that_takes_work_is_never_taken_out() {
    let mut story = Story::begin(&["a", "b"]);
    for entry in story.membership.table(&story.config).pools[0].entries() {
        story
            .membership
            .observe(entry.id, Observation::Refused, story.now, 0.5);
    }
    assert_eq!(
        story.standings(),
        [
            is("a", Standing::Listed, true),
            is("b", Standing::Listed, true)
        ]
    );
}

/// What the rings of a table are to be, built anew from its entries.
fn check_rings(story: &Story, gone: &[&str]) {
    let table = story.membership.table(&story.config);
    let pool = &table.pools[0];
    let ring_of = |wanted: fn(Standing) -> bool| {
        let entries = (0..).zip(pool.entries());
        let wanted = entries.filter(|(_, entry)| wanted(entry.standing));
        Ring::try_new(wanted.map(|(member, entry)| (member, &*entry.nodes)))
    };
    let exact = ring_of(|_| true).unwrap();
    let unpinned = ring_of(|standing| standing == Standing::Listed)
        .or_else(|| ring_of(|standing| standing != Standing::Departed))
        .unwrap();
    let places = pool
        .entries()
        .iter()
        .flat_map(|entry| *entry.nodes.points());
    for place in places {
        let beside = Coordinate(place.0.wrapping_add(1));
        assert_eq!(pool.exact(place), exact.exact(place));
        assert_eq!(pool.exact(beside), exact.exact(beside));
        for place in [place, beside] {
            assert_eq!(pool.unpinned_owner(place), Some(unpinned.successor(place)));
        }
    }
    for name in ["a", "b", "c", "d"] {
        let place = Nodes::of(&Name::try_new(name).unwrap()).points()[7];
        assert_eq!(pool.has_lost(place), gone.contains(&name), "{name}");
    }
}

#[test]
fn rings_are_always_those_of_who_is_known() {
    let mut story = Story::begin(&["a", "b"]);
    check_rings(&story, &[]);
    check_rings(story.reload(&["c", "a", "b"]), &[]);
    check_rings(story.pass(JOIN_DELAY), &[]);
    check_rings(story.reload(&["b", "c"]), &[]);
    check_rings(story.pass(DEPARTED / 2), &[]);
    story.membership.drain("c", Some(story.now)).unwrap();
    check_rings(story.pass(DEPARTED / 2), &["a"]);
    check_rings(story.reload(&["d"]), &["a", "c"]);
    check_rings(story.reload(&["d", "a"]), &["c"]);
    check_rings(story.reload(&["c", "d"]), &[]);
    check_rings(story.pass(2 * DEPARTED), &["a", "b"]);
}

#[test]
fn rings_are_kept_while_nobody_joins_or_leaves() {
    let mut story = Story::begin(&["a", "b"]);
    story.reload(&["a", "b", "c"]).pass(JOIN_DELAY);
    let rings = |story: &Story| Arc::as_ptr(&story.membership.pools["default"].rings);
    let before = rings(&story);
    let id = story.membership.table(&story.config).pools[0].entry(0).id;
    for _ in 0..3 {
        let refused = Observation::Refused;
        story.membership.observe(id, refused, story.now, 0.5);
        story.pass(Duration::from_secs(5));
    }
    story.membership.drain("b", None).unwrap();
    story.reload(&["a", "b", "c"]);
    assert_eq!(rings(&story), before);
    story.reload(&["b", "a", "c"]);
    assert_ne!(rings(&story), before);
}
