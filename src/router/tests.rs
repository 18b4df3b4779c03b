use std::time::{Duration, Instant};

use http::HeaderValue;
use proptest::prelude::*;

use super::{
    membership::Membership,
    testing::{config, pool_of},
    *,
};
use crate::{config::Config, health::Observation, pin::Keys, ring::Coordinate};

fn table(config: &Config) -> RoutingTable {
    let mut membership = Membership::new();
    membership.update(config, None, Instant::now());
    membership.table(config)
}

fn client_id(text: &str) -> ClientSessionId {
    HeaderValue::from_str(text).unwrap().try_into().unwrap()
}

/// The id that a client of `pool` holds for the string of its member.
fn pinned_id(table: &RoutingTable, pool: &Pool, member: Member, string: &str) -> ClientSessionId {
    let coordinate = pool.coordinate_for(member, string.as_bytes());
    pinned_to(table, coordinate, string)
}

fn pinned_to(table: &RoutingTable, coordinate: Coordinate, string: &str) -> ClientSessionId {
    let pin = table
        .keys
        .mint(Kind::Session, coordinate, None, string.as_bytes());
    client_id(&format!("{string}-{}", std::str::from_utf8(&pin).unwrap()))
}

fn member(pool: &Pool, name: &str) -> Member {
    let position = pool
        .entries()
        .iter()
        .position(|entry| entry.backend.name.as_str() == name);
    position.unwrap() as Member
}

/// A request of the modern era that has this session id.
fn modern(id: ClientSessionId) -> RequestKind {
    RequestKind::Modern(Modern {
        session: Some(id),
        ..Modern::default()
    })
}

fn ask(table: &RoutingTable, kind: RequestKind) -> Result<Decision, Refusal> {
    route(table, &table.pools[0], &Asker::Anybody, &kind, 0)
}

#[test]
fn a_pin_routes_to_its_backend_which_sees_its_own_id() {
    let table = table(&pool_of(&["a", "b", "c"], ""));
    for name in ["a", "b", "c"] {
        let wanted = member(&table.pools[0], name);
        let id = pinned_id(&table, &table.pools[0], wanted, "0193c2e6");
        let decision = ask(&table, RequestKind::Session(id)).unwrap();
        assert_eq!((decision.member, decision.why), (wanted, Why::Pinned));
        assert_eq!(decision.session.unwrap().as_bytes(), b"0193c2e6");
    }
}

#[test]
fn every_bad_pin_has_its_own_refusal() {
    let both = "[[pools]]\nname = \"one\"\nbackends = [{ name = \"a\", url = \"http://h:1\" }]\n\
                [[pools]]\nname = \"two\"\nmatch = { path = \"/two\" }\nbackends = [{ name = \"b\", url = \"http://h:2\" }]";
    let table = table(&config(both));
    let pool = table.pool_for(|| None, "/").unwrap();
    let other = table.pool_for(|| None, "/two/x").unwrap();
    let refusal =
        |id| route(&table, pool, &Asker::Anybody, &RequestKind::Session(id), 0).unwrap_err();

    let good = pinned_id(&table, pool, 0, "id");
    let altered = format!("x{}", std::str::from_utf8(good.as_bytes()).unwrap());
    assert_eq!(refusal(client_id(&altered)), Refusal::Forged);
    assert_eq!(
        refusal(pinned_id(&table, other, 0, "id")),
        Refusal::WrongPool
    );
    assert_eq!(
        refusal(pinned_to(&table, Coordinate(1), "id")),
        Refusal::UnknownCoordinate
    );
    let secret = crate::pin::Secret::try_new(&[7; 32]).unwrap();
    let elsewhere =
        Keys::try_new(&[secret])
            .unwrap()
            .mint(Kind::Session, Coordinate(1), None, b"id");
    let foreign = client_id(&format!("id-{}", std::str::from_utf8(&elsewhere).unwrap()));
    assert_eq!(refusal(foreign), Refusal::UnknownKey);
}

#[test]
fn while_backends_may_be_undiscovered_nothing_is_judged_that_may_be_theirs() {
    let known = pool_of(&["a"], "");
    let alone = "[[backends]]\nurl = \"dns+http://h\"\n";
    let beside = format!("{alone}[[backends]]\nname = \"a\"\nurl = \"http://127.0.0.1:9001\"\n");
    let nobody = table(&config(alone));
    let some = table(&config(&beside));
    let of_a = pinned_id(&table(&known), &table(&known).pools[0], 0, "id");
    let of_other = pinned_to(&nobody, Coordinate(1), "id");
    let undiscovered = Err(Refusal::Undiscovered);
    for id in [of_a.clone(), of_other.clone(), client_id("no-pin")] {
        assert_eq!(ask(&nobody, RequestKind::Session(id)), undiscovered);
    }
    for kind in [RequestKind::NewWork, RequestKind::Other] {
        assert_eq!(ask(&nobody, kind), undiscovered);
    }
    assert_eq!(ask(&some, RequestKind::Session(of_other)), undiscovered);
    assert_eq!(
        ask(&some, RequestKind::Session(client_id("no-pin"))),
        undiscovered,
        "with all of the list, it may be another's"
    );
    for kind in [RequestKind::Session(of_a), RequestKind::NewWork] {
        assert_eq!(ask(&some, kind).unwrap().member, 0, "who is known serves");
    }
}

#[test]
fn an_id_without_a_pin_goes_where_its_hash_is_or_nowhere() {
    let open = table(&pool_of(&["a", "b", "c"], ""));
    let id = client_id("from-before-pinring");
    let decision = ask(&open, RequestKind::Session(id.clone())).unwrap();
    assert_eq!(decision.why, Why::Ring);
    assert_eq!(
        Some(decision.member),
        open.pools[0].unpinned_owner(hash::position(id.as_bytes()))
    );
    assert_eq!(decision.session.unwrap().as_bytes(), id.as_bytes());

    let signed = table(&pool_of(
        &["a", "b", "c"],
        "[affinity]\nsecrets = [\"env:SECRET\"]",
    ));
    assert_eq!(
        ask(&signed, RequestKind::Session(id)),
        Err(Refusal::Unpinned)
    );
}

#[test]
fn a_modern_request_follows_a_good_pin_and_ignores_every_other_id() {
    let table = table(&pool_of(
        &["a", "b", "c"],
        "[affinity]\nsecrets = [\"env:SECRET\"]",
    ));
    for wanted in 0..3 {
        let id = pinned_id(&table, &table.pools[0], wanted, "id");
        let decision = ask(&table, modern(id)).unwrap();
        assert_eq!((decision.member, decision.why), (wanted, Why::Pinned));
    }
    for bad in [client_id("no-pin"), pinned_to(&table, Coordinate(1), "id")] {
        let decision = ask(&table, modern(bad)).unwrap();
        assert_eq!((decision.why, decision.session), (Why::Placed, None));
    }
}

#[test]
fn home_is_one_backend_in_every_proxy_and_the_next_when_it_was_tried() {
    let (one, other) = (
        table(&pool_of(&["a", "b", "c"], "")),
        table(&pool_of(&["c", "a", "b"], "")),
    );
    let name_of = |table: &RoutingTable, decision: &Decision| {
        table.pools[0].entry(decision.member).backend.name.clone()
    };
    let home = ask(&one, RequestKind::Other).unwrap();
    assert_eq!(
        name_of(&one, &home),
        name_of(&other, &ask(&other, RequestKind::Other).unwrap())
    );
    let next = reroute(&one.pools[0], &home, 0, &[home.member]).unwrap();
    assert_ne!(next.member, home.member);
    assert_eq!(
        reroute(&one.pools[0], &home, 0, &[0, 1, 2]),
        Err(Refusal::NoBackend)
    );
}

#[test]
fn a_session_never_moves() {
    let table = table(&pool_of(&["a", "b"], ""));
    let id = pinned_id(&table, &table.pools[0], 0, "id");
    let decision = ask(&table, RequestKind::Session(id)).unwrap();
    assert_eq!(
        reroute(&table.pools[0], &decision, 0, &[]),
        Err(Refusal::NoBackend)
    );
}

#[test]
fn the_longest_path_of_the_named_host_wins() {
    let pool = |name: &str, matcher: &str| {
        format!(
            "[[pools]]\nname = \"{name}\"\nmatch = {{ {matcher} }}\nbackends = [{{ name = \"{name}\", url = \"http://h:1\" }}]\n"
        )
    };
    let text = [
        pool("any", ""),
        pool("path", "path = \"/a\""),
        pool("deep", "path = \"/a/b\""),
        pool("host", "host = \"mcp.example\""),
    ];
    let table = table(&config(&text.concat()));
    let name = |host, path| {
        table
            .pool_for(|| host, path)
            .map(|pool| pool.options.name.clone())
            .unwrap()
    };
    assert_eq!(name(None, "/"), "any");
    assert_eq!(name(None, "/ab"), "any", "whole segments only");
    assert_eq!(name(None, "/a"), "path");
    assert_eq!(name(None, "/a/b/c"), "deep");
    assert_eq!(name(Some("MCP.example"), "/a/b"), "host");
    assert_eq!(
        name(None, "/.well-known/oauth-protected-resource/a/b"),
        "deep"
    );
    assert_eq!(name(None, "/.well-known/oauth-protected-resource"), "any");
    assert_eq!(name(None, "*"), "any");
}

#[test]
fn a_departed_backend_keeps_its_pins_until_its_time_runs_out() {
    let (full, less) = (pool_of(&["a", "b"], ""), pool_of(&["b"], ""));
    let start = Instant::now();
    let mut membership = Membership::new();
    membership.update(&full, None, start);
    let before = membership.table(&full);
    let id = pinned_id(
        &before,
        &before.pools[0],
        member(&before.pools[0], "a"),
        "id",
    );
    membership.update(&less, Some(&full), start);
    let after = membership.table(&less);
    let decision = ask(&after, RequestKind::Session(id.clone())).unwrap();
    assert_eq!(
        after.pools[0].entry(decision.member).backend.name.as_str(),
        "a"
    );
    let placed = |_| ask(&after, RequestKind::NewWork).unwrap().member;
    assert!(
        (0..20).map(placed).all(|placed| placed != decision.member),
        "departed backends get no new work"
    );

    membership.advance(start + Duration::from_secs(16 * 60));
    let lost = membership.table(&less);
    assert_eq!(
        ask(&lost, RequestKind::Session(id)),
        Err(Refusal::BackendRemoved)
    );
}

#[test]
fn a_removed_key_is_lost_and_not_unknown() {
    let old = pool_of(&["a"], "[affinity]\nsecrets = [\"env:SECRET_1\"]");
    let new = pool_of(&["a"], "[affinity]\nsecrets = [\"env:SECRET_2\"]");
    let mut membership = Membership::new();
    membership.update(&old, None, Instant::now());
    let before = membership.table(&old);
    let id = pinned_id(&before, &before.pools[0], 0, "id");
    membership.update(&new, Some(&old), Instant::now());
    assert_eq!(
        ask(&membership.table(&new), RequestKind::Session(id)),
        Err(Refusal::KeyRemoved)
    );
}

proptest! {
    #[test]
    fn any_id_is_routed_without_panic(id in "[!-~]{1,90}", random in any::<u64>()) {
        let table = table(&pool_of(&["a", "b"], ""));
        let _decided = route(&table, &table.pools[0], &Asker::Anybody, &RequestKind::Session(client_id(&id)), random);
    }
}

/// The table of three backends of which the one that `lost` names has been down for too long, and an id of it.
fn with_one_down(lines: &str, lost: &str) -> (RoutingTable, ClientSessionId) {
    let config = pool_of(&["a", "b", "c"], lines);
    let (mut membership, now) = (Membership::new(), Instant::now());
    membership.update(&config, None, now);
    let before = membership.table(&config);
    let down = member(&before.pools[0], lost);
    let id = before.pools[0].entry(down).id;
    for second in 0..=10 {
        let at = now + Duration::from_secs(second);
        membership.observe(id, Observation::Refused, at, 0.5);
    }
    (
        membership.table(&config),
        pinned_id(&before, &before.pools[0], down, "id"),
    )
}

#[test]
fn a_session_of_a_backend_that_is_down_for_too_long_is_lost() {
    let (table, id) = with_one_down("", "a");
    assert_eq!(
        ask(&table, RequestKind::Session(id)),
        Err(Refusal::BackendDown)
    );
}

#[test]
fn an_id_without_a_pin_is_lost_with_the_backend_that_owns_its_hash() {
    let well = table(&pool_of(&["a", "b", "c"], ""));
    let (down, _) = with_one_down("", "a");
    let shared = "[affinity]\non_loss = \"successor\"";
    let (shared, _) = with_one_down(shared, "a");
    for number in 0..20 {
        let id = RequestKind::Session(client_id(&format!("before-{number}")));
        let owner = ask(&well, id.clone()).unwrap().member;
        let is_lost = well.pools[0].entry(owner).backend.name.as_str() == "a";
        let refused = ask(&down, id.clone()).err();
        assert_eq!(refused, is_lost.then_some(Refusal::BackendDown));
        let why = ask(&shared, id).unwrap().why;
        assert_eq!(why == Why::Successor, is_lost);
    }
}

#[test]
fn with_successor_it_goes_to_one_and_the_same_backend_in_every_proxy() {
    let lines = "[affinity]\non_loss = \"successor\"";
    let (table, id) = with_one_down(lines, "a");
    let (other, _) = with_one_down(lines, "a");
    let decision = ask(&table, RequestKind::Session(id.clone())).unwrap();
    assert_eq!(decision.why, Why::Successor);
    assert_ne!(
        table.pools[0].entry(decision.member).backend.name.as_str(),
        "a"
    );
    assert_eq!(decision.session.as_ref().unwrap().as_bytes(), b"id");
    assert_eq!(ask(&other, RequestKind::Session(id)).unwrap(), decision);
}

const LOCAL_FIRST: &str = "[pool]\nplacement = \"local-first\"\nlocal = \"b\"\n";

/// Where new work of a modern and a legacy client goes, over many random numbers.
fn places(table: &RoutingTable) -> Vec<String> {
    let name = |kind: RequestKind, random: u64| {
        let pool = &table.pools[0];
        let random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let decision = route(table, pool, &Asker::Anybody, &kind, random).unwrap();
        pool.entry(decision.member).backend.name.to_string()
    };
    let mut names: Vec<String> = (1..200)
        .map(|random| name(RequestKind::NewWork, random))
        .chain((1..200).map(|random| name(RequestKind::Modern(Modern::default()), random)))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn local_first_keeps_new_work_at_home_while_that_takes_any() {
    let well = table(&pool_of(&["a", "b", "c"], LOCAL_FIRST));
    assert_eq!(places(&well), ["b"]);
    let tried = [member(&well.pools[0], "b")];
    let first = ask(&well, RequestKind::NewWork).unwrap();
    assert_eq!(first.member, tried[0]);
    let next = reroute(&well.pools[0], &first, 0, &tried).unwrap();
    assert_ne!(next.member, tried[0], "it was tried and failed");

    let (down, _) = with_one_down(LOCAL_FIRST, "b");
    assert_eq!(places(&down), ["a", "c"]);
    let (up, _) = with_one_down(LOCAL_FIRST, "a");
    assert_eq!(places(&up), ["b"]);

    let nobody = LOCAL_FIRST.replace("\"b\"", "\"elsewhere\"");
    assert_eq!(places(&table(&pool_of(&["a", "b"], &nobody))), ["a", "b"]);
    let not_first = "[pool]\nlocal = \"b\"\n";
    assert_eq!(places(&table(&pool_of(&["a", "b"], not_first))), ["a", "b"]);
}

#[test]
fn a_local_backend_that_drains_joins_or_departs_gets_no_new_work() {
    let entry = |name: &str, more: &str| {
        format!("[[backends]]\nname = \"{name}\"\nurl = \"http://h-{name}\"\n{more}\n")
    };
    let draining = config(&format!(
        "{LOCAL_FIRST}{}{}",
        entry("a", ""),
        entry("b", "draining = true")
    ));
    assert_eq!(places(&table(&draining)), ["a"]);

    let (both, without) = (
        pool_of(&["a", "b"], LOCAL_FIRST),
        pool_of(&["a"], LOCAL_FIRST),
    );
    let (mut membership, start) = (Membership::new(), Instant::now());
    membership.update(&without, None, start);
    membership.update(&both, Some(&without), start);
    assert_eq!(places(&membership.table(&both)), ["a"], "joining");
    membership.advance(start + Duration::from_secs(10));
    assert_eq!(places(&membership.table(&both)), ["b"]);
    membership.update(&without, Some(&both), start);
    assert_eq!(places(&membership.table(&without)), ["a"], "departed");
}

#[test]
fn at_its_limit_of_sessions_the_local_backend_shares_and_modern_requests_stay() {
    let lines = format!("{LOCAL_FIRST}[limits]\nsessions_per_backend = 1\n");
    let table = table(&pool_of(&["a", "b"], &lines));
    let local = member(&table.pools[0], "b");
    let load = |member| &table.pools[0].entry(member).load;
    load(local).session_begins();
    let other = ask(&table, RequestKind::NewWork).unwrap().member;
    assert_ne!(other, local);
    let modern = ask(&table, RequestKind::Modern(Modern::default())).unwrap();
    assert_eq!(modern.member, local);
    load(other).session_begins();
    assert_eq!(
        ask(&table, RequestKind::NewWork),
        Err(Refusal::SessionsFull)
    );
    assert!(ask(&table, RequestKind::Other).is_ok());
}

#[test]
fn where_nobody_takes_new_work_it_is_not_for_want_of_room() {
    let lines = "backends = [{ name = \"a\", url = \"http://h\", draining = true }]\n[limits]\nsessions_per_backend = 1\n";
    let table = table(&config(lines));
    assert_eq!(ask(&table, RequestKind::NewWork), Err(Refusal::NoBackend));
}

#[test]
fn health_never_takes_the_last_one_out() {
    let config = pool_of(&["a", "b"], "");
    let (mut membership, now) = (Membership::new(), Instant::now());
    membership.update(&config, None, now);
    let ids = [0, 1].map(|member| membership.table(&config).pools[0].entry(member).id);
    let mut fails = |id, seen| {
        membership.observe(id, seen, now, 0.5);
        membership.observe(id, seen, now, 0.5);
        membership.observe(id, seen, now, 0.5);
        places(&membership.table(&config))
    };
    assert_eq!(fails(ids[0], Observation::TimedOut), ["b"]);
    assert_eq!(fails(ids[1], Observation::Refused), ["a", "b"]);
}

/// Where the session that `member` calls `string` has moved to.
fn moved_to(pool: &Pool, member: Member, string: &str) -> Moved {
    Moved {
        coordinate: pool.coordinate_for(member, string.as_bytes()),
        session: HeaderValue::from_str(string).unwrap().try_into().unwrap(),
    }
}

#[test]
fn where_a_session_moved_to_comes_before_its_pin_which_must_be_genuine_all_the_same() {
    let table = table(&pool_of(&["a", "b"], ""));
    let pool = &table.pools[0];
    let (a, b) = (member(pool, "a"), member(pool, "b"));
    let id = pinned_id(&table, pool, a, "old");
    let moved = moved_to(pool, b, "new");
    let decision = follow(&table, pool, &Asker::Anybody, &id, &moved).unwrap();
    assert_eq!((decision.member, decision.why), (b, Why::Reinitialized));
    assert_eq!(decision.session.unwrap().as_bytes(), b"new");
    let altered = format!("x{}", std::str::from_utf8(id.as_bytes()).unwrap());
    let refusal = follow(&table, pool, &Asker::Anybody, &client_id(&altered), &moved).unwrap_err();
    assert_eq!(refusal, Refusal::Forged);
}

#[test]
fn a_session_is_lost_again_with_the_backend_that_it_moved_to() {
    let config = pool_of(&["a", "b"], "");
    let mut membership = Membership::new();
    let now = Instant::now();
    membership.update(&config, None, now);
    let id = {
        let table = membership.table(&config);
        pinned_id(&table, &table.pools[0], 0, "old")
    };
    for seconds in 0..=20 {
        let lost = membership.table(&config).pools[0].entry(1).id;
        let now = now + Duration::from_secs(seconds);
        membership.observe(lost, Observation::Refused, now, 0.5);
    }
    let table = membership.table(&config);
    let pool = &table.pools[0];
    let refusal = follow(
        &table,
        pool,
        &Asker::Anybody,
        &id,
        &moved_to(pool, 1, "new"),
    )
    .unwrap_err();
    assert!(refusal.is_loss(), "{refusal:?}");
}

#[test]
fn a_session_that_has_just_moved_is_served_there_though_an_older_table_calls_the_backend_lost() {
    let (table, id) = with_one_down("", "b");
    let pool = &table.pools[0];
    let b = member(pool, "b");
    let moved = moved_to(pool, b, "new");
    let refusal = follow(&table, pool, &Asker::Anybody, &id, &moved).unwrap_err();
    assert_eq!(refusal, Refusal::BackendDown);
    let decision = arrive(&table, pool, &Asker::Anybody, &id, &moved).unwrap();
    assert_eq!((decision.member, decision.why), (b, Why::Reinitialized));
}

#[test]
fn only_a_genuine_session_of_a_backend_that_is_or_was_lost_may_have_moved() {
    let config = pool_of(&["a", "b"], "");
    let mut membership = Membership::new();
    let now = Instant::now();
    membership.update(&config, None, now);
    let fresh = membership.table(&config);
    let id = |member: Member| pinned_id(&fresh, &fresh.pools[0], member, "id");
    let may_have_moved = |table: &RoutingTable, id: &ClientSessionId| {
        super::may_have_moved(table, &table.pools[0], &Asker::Anybody, id)
    };
    assert!(!may_have_moved(&fresh, &id(0)));
    assert!(
        may_have_moved(&fresh, &pinned_to(&fresh, Coordinate(1), "id")),
        "never seen here"
    );

    let a = fresh.pools[0].entry(0).id;
    for seconds in 0..=20 {
        let now = now + Duration::from_secs(seconds);
        membership.observe(a, Observation::Refused, now, 0.5);
    }
    let lost = membership.table(&config);
    assert!(may_have_moved(&lost, &id(0)) && !may_have_moved(&lost, &id(1)));
    let altered = format!("x{}", std::str::from_utf8(id(0).as_bytes()).unwrap());
    assert!(!may_have_moved(&lost, &client_id(&altered)));

    membership.observe(a, Observation::Answered, now + Duration::from_secs(21), 0.5);
    let back = membership.table(&config);
    assert_eq!(back.pools[0].entry(0).vital, Vital::Healthy);
    assert!(
        may_have_moved(&back, &id(0)),
        "others may have brought it back meanwhile"
    );
}

mod modern;
