use super::*;
use crate::backend::{Family, Records};

const OPTIONS: Discovery = Discovery {
    servers: Vec::new(),
    min_interval: Duration::from_secs(1),
    max_interval: Duration::from_secs(60),
    timeout: Duration::from_secs(5),
};

fn answer(addresses: &[&str], ttl: u64) -> Answer {
    let asked = Question {
        name: "mcp.".into(),
        records: Records::Services,
        family: Family::V4,
    };
    let addresses = addresses.iter().map(|text| text.parse().unwrap());
    Answer::new(addresses.collect(), Duration::from_secs(ttl), asked).unwrap()
}

fn addresses(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn the_order_of_addresses_is_no_news() {
    let (mut list, one) = (List::default(), ["10.0.0.2:1", "10.0.0.1:1"]);
    assert!(list.take(Ok(&answer(&one, 5))));
    assert!(!list.take(Ok(&answer(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.1:1"], 5))));
    assert!(list.take(Ok(&answer(&one[..1], 5))));
}

#[test]
fn whatever_fails_leaves_the_last_list() {
    let failures = [
        Failure::NoSuchName,
        Failure::Empty,
        Failure::Server("SERVFAIL".into()),
        Failure::Silent,
        Failure::Unasked("why".into()),
    ];
    let mut list = List::default();
    list.take(Ok(&answer(&["10.0.0.1:1"], 5)));
    for failure in &failures {
        assert!(list.take(Err(failure)), "{failure}");
        assert!(!list.take(Err(failure)), "{failure} again");
        assert_eq!(list.addresses(), Some(&*addresses(&["10.0.0.1:1"])));
        assert!(list.was_answered());
    }
    assert!(list.take(Ok(&answer(&["10.0.0.1:1"], 5))), "it is over");
    assert_eq!(list.failure(), None);
}

#[test]
fn that_there_is_nothing_is_an_answer_and_silence_is_none() {
    let mut list = List::default();
    assert!(!list.was_asked());
    list.take(Err(&Failure::Silent));
    assert!(list.was_asked() && !list.was_answered());
    list.take(Err(&Failure::NoSuchName));
    assert!(list.was_answered() && list.addresses().is_none());
}

#[test]
fn who_has_come_and_gone_is_told() {
    let mut before = List::default();
    before.take(Ok(&answer(&["10.0.0.1:1", "10.0.0.2:1"], 5)));
    let mut after = before.clone();
    after.take(Ok(&answer(&["10.0.0.2:1", "[::1]:1"], 5)));
    let told = (addresses(&["[::1]:1"]), addresses(&["10.0.0.1:1"]));
    assert_eq!(after.changes_since(&before), told);
    assert_eq!(before.changes_since(&before), (vec![], vec![]));
}

#[test]
fn a_name_is_asked_for_when_its_answer_expires_within_bounds() {
    let list = List::default();
    for (ttl, pause) in [(0, 1), (1, 1), (30, 30), (60, 60), (86_400, 60)] {
        let answer = answer(&["10.0.0.1:1"], ttl);
        let expected = Duration::from_secs(pause);
        assert_eq!(list.pause(Ok(&answer), &OPTIONS), expected, "{ttl}");
    }
}

#[test]
fn failures_are_followed_by_ever_longer_pauses() {
    let mut list = List::default();
    let mut pauses = Vec::new();
    for _ in 0..40 {
        list.take(Err(&Failure::Silent));
        pauses.push(list.pause(Err(&Failure::Silent), &OPTIONS).as_secs());
    }
    assert_eq!(pauses[..6], [1, 2, 4, 8, 10, 10]);
    assert_eq!(pauses.last(), Some(&10));
    list.take(Ok(&answer(&["10.0.0.1:1"], 5)));
    list.take(Err(&Failure::Silent));
    let first = list.pause(Err(&Failure::Silent), &OPTIONS);
    assert_eq!(first, Duration::from_secs(1), "they begin anew");
}

#[test]
fn what_a_cache_has_left_does_not_shorten_the_time_at_once() {
    let mut list = List::default();
    for (ttl, known) in [(40, 40), (3, 30), (40, 40), (1, 30)] {
        list.take(Ok(&answer(&["10.0.0.1:1"], ttl)));
        assert_eq!(list.ttl(), Duration::from_secs(known));
    }
    for _ in 0..20 {
        list.take(Ok(&answer(&["10.0.0.1:1"], 1)));
    }
    assert_eq!(list.ttl(), Duration::from_secs(1), "but in the end it does");
}
