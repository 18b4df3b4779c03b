use proptest::prelude::*;

use super::*;

const PATIENCE: Patience = Patience {
    refused: Duration::from_secs(10),
    unreachable: Duration::from_secs(60),
};

struct Story {
    state: State,
    now: Instant,
}

impl Story {
    fn begin() -> Self {
        Self {
            state: State::default(),
            now: Instant::now(),
        }
    }

    fn see(&mut self, seen: Observation) -> Vital {
        self.state.observe(seen, self.now, PATIENCE, 0.5);
        self.state.vital()
    }

    fn pass(&mut self, seconds: u64) -> Vital {
        self.now += Duration::from_secs(seconds);
        self.state.advance(self.now);
        self.state.vital()
    }

    /// Lets seconds pass, in each of which a probe sees the same.
    fn probe(&mut self, seconds: u64, seen: Observation) -> Vital {
        for _ in 0..seconds {
            self.pass(1);
            self.see(seen);
        }
        self.state.vital()
    }
}

#[test]
fn one_refused_connection_makes_a_suspect_and_a_probe_clears_it() {
    let mut story = Story::begin();
    assert_eq!(story.see(Observation::Refused), Vital::Suspect);
    assert!(story.state.wants_probe());
    assert_eq!(story.see(Observation::Probed), Vital::Healthy);
    assert!(!story.state.wants_probe());
}

#[test]
fn who_refuses_for_long_enough_is_lost_until_it_answers() {
    let mut story = Story::begin();
    story.see(Observation::Refused);
    assert_eq!(story.probe(9, Observation::Refused), Vital::Suspect);
    assert_eq!(story.probe(1, Observation::Refused), Vital::Lost);
    assert_eq!(story.pass(3600), Vital::Lost);
    assert_eq!(story.see(Observation::Probed), Vital::Healthy);
}

#[test]
fn time_alone_loses_nobody() {
    let mut story = Story::begin();
    story.see(Observation::Refused);
    assert_eq!(
        story.pass(3600),
        Vital::Suspect,
        "this process was stopped, say"
    );
    assert_eq!(
        story.see(Observation::Refused),
        Vital::Suspect,
        "it may have been up meanwhile"
    );
    assert_eq!(story.probe(10, Observation::Refused), Vital::Lost);
}

#[test]
fn who_cannot_be_reached_has_more_time_and_refusing_begins_its_clock_anew() {
    let mut story = Story::begin();
    story.see(Observation::Unreachable);
    assert_eq!(story.probe(50, Observation::Unreachable), Vital::Suspect);
    story.see(Observation::Refused);
    assert_eq!(
        story.probe(9, Observation::Refused),
        Vital::Suspect,
        "it refuses since 9 s"
    );
    assert_eq!(
        story.probe(1, Observation::Refused),
        Vital::Lost,
        "nobody has reached it for 60 s"
    );
}

#[test]
fn a_partition_within_a_refusal_stops_the_refusal_s_clock() {
    let mut story = Story::begin();
    story.see(Observation::Refused);
    story.probe(5, Observation::Refused);
    assert_eq!(story.probe(10, Observation::Unreachable), Vital::Suspect);
}

#[test]
fn one_slow_call_or_one_reset_harms_nobody() {
    let mut story = Story::begin();
    assert_eq!(story.see(Observation::TimedOut), Vital::Healthy);
    assert_eq!(story.see(Observation::Reset), Vital::Healthy);
    assert!(story.state.wants_good_news());
    assert_eq!(story.see(Observation::Answered), Vital::Healthy);
    assert!(!story.state.wants_good_news());
}

#[test]
fn who_hangs_is_left_out_for_growing_times_and_never_lost() {
    let mut story = Story::begin();
    for _ in 0..TIMEOUTS {
        story.see(Observation::TimedOut);
    }
    let mut times = Vec::new();
    for _ in 0..12 {
        assert_eq!(story.state.vital(), Vital::Suspect);
        assert!(
            !story.state.wants_probe(),
            "it accepts connections: probing tells nothing"
        );
        let end = story.state.next_change().unwrap();
        times.push(end - story.now);
        story.now = end;
        story.state.advance(end);
        assert_eq!(story.state.vital(), Vital::Healthy, "on trial");
        story.see(Observation::TimedOut);
    }
    assert!(
        times
            .windows(2)
            .all(|pair| pair[0] < pair[1] || pair[1] == TIME_OUT_LONGEST),
        "{times:?}"
    );
    story.pass(600);
    story.see(Observation::Answered);
    assert_eq!(
        story.see(Observation::TimedOut),
        Vital::Healthy,
        "an answer forgives everything"
    );
}

#[test]
fn who_is_not_ready_gets_no_work_and_keeps_its_sessions() {
    let mut story = Story::begin();
    assert_eq!(story.probe(20, Observation::Refused), Vital::Lost);
    assert_eq!(story.see(Observation::Unready), Vital::Suspect);
    assert_eq!(story.pass(600), Vital::Suspect);
    assert!(story.state.wants_probe());
    assert_eq!(story.see(Observation::Probed), Vital::Healthy);
}

#[test]
fn a_name_that_does_not_resolve_loses_nobody_and_brings_nobody_back() {
    let mut story = Story::begin();
    assert_eq!(story.see(Observation::Unresolved), Vital::Suspect);
    assert!(story.state.wants_probe());
    assert_eq!(story.probe(3600, Observation::Unresolved), Vital::Suspect);
    assert_eq!(story.see(Observation::Served), Vital::Healthy);

    assert_eq!(story.probe(5, Observation::Refused), Vital::Suspect);
    story.probe(3, Observation::Unresolved);
    assert_eq!(story.probe(2, Observation::Refused), Vital::Suspect);
    assert_eq!(
        story.probe(1, Observation::Refused),
        Vital::Lost,
        "refused for 10 s"
    );
    assert_eq!(story.probe(3600, Observation::Unresolved), Vital::Lost);
    assert_eq!(story.see(Observation::Probed), Vital::Healthy);
}

#[test]
fn what_sessions_are_answered_does_not_hide_that_new_work_hangs_or_is_unwanted() {
    let mut story = Story::begin();
    for _ in 0..TIMEOUTS {
        story.see(Observation::Served);
        story.see(Observation::TimedOut);
    }
    assert_eq!(story.see(Observation::Served), Vital::Suspect);
    let mut story = Story::begin();
    story.see(Observation::Unready);
    assert_eq!(story.see(Observation::Served), Vital::Suspect);
    assert_eq!(story.see(Observation::Answered), Vital::Suspect);
    assert!(story.state.wants_probe());
}

fn observations() -> impl Strategy<Value = Observation> {
    prop::sample::select(vec![
        Observation::Answered,
        Observation::Served,
        Observation::Probed,
        Observation::Refused,
        Observation::Unreachable,
        Observation::Unready,
        Observation::Unresolved,
        Observation::Reset,
        Observation::TimedOut,
    ])
}

proptest! {
    #[test]
    fn whatever_happens_the_machine_keeps_its_word(steps in prop::collection::vec((observations(), 0_u64..40), 1..60)) {
        let mut story = Story::begin();
        let mut down_since = None;
        for (seen, seconds) in steps {
            let before = story.pass(seconds);
            let vital = story.see(seen);
            match seen {
                Observation::Answered | Observation::Served | Observation::Probed | Observation::Unready => down_since = None,
                Observation::Refused | Observation::Unreachable => { down_since.get_or_insert(story.now); }
                Observation::Unresolved => {
                    prop_assert_eq!(vital == Vital::Lost, before == Vital::Lost, "no evidence was taken for some");
                    prop_assert!(vital != Vital::Healthy, "work for one that nobody can find");
                }
                Observation::Reset | Observation::TimedOut => {}
            }
            prop_assert!(vital != Vital::Lost || down_since.is_some(), "lost without a failed connect");
            prop_assert!(down_since.is_none() || vital != Vital::Healthy, "healthy without an answer");
            if seen == Observation::Answered && !story.state.unready {
                prop_assert_eq!(vital, Vital::Healthy);
            }
            if let Some(next) = story.state.next_change() {
                prop_assert!(next > story.now, "a change that is due was not made");
            }
        }
    }

    #[test]
    fn times_out_double_up_to_the_longest_each_spread_by_a_quarter(
        randoms in prop::collection::vec(0.0..=1.0, 1..12),
        by in prop::sample::select(vec![Observation::TimedOut, Observation::Reset]),
    ) {
        let (mut state, mut now) = (State::default(), Instant::now());
        let mut nominal = TIME_OUT;
        for random in randoms {
            while state.next_change().is_none() {
                state.observe(by, now, PATIENCE, random);
            }
            // What was under way goes on failing, and changes nothing.
            let end = state.next_change().unwrap();
            state.observe(by, now, PATIENCE, 1.0 - random);
            prop_assert_eq!(state.next_change(), Some(end));
            let expected = nominal.mul_f64(0.75 + random / 2.0);
            prop_assert!((end - now).abs_diff(expected) < Duration::from_millis(1), "{:?}", end - now);
            nominal = (nominal * 2).min(TIME_OUT_LONGEST);
            now = end;
            state.advance(now);
            prop_assert_eq!(state.vital(), Vital::Healthy, "on trial");
        }
        state.observe(Observation::Answered, now, PATIENCE, 0.5);
        state.observe(by, now, PATIENCE, 0.5);
        prop_assert_eq!(state.vital(), Vital::Healthy, "an answer forgives everything");
    }
}
