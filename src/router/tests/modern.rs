//! Requests of the modern era: what decides first, and where it goes when that is gone.

use super::*;
use crate::{
    mcp::{modern::Carried, splice::Carrier},
    observe::tally::Word as _,
    router::carriers::{Says, judge, kind},
};

fn carried(table: &RoutingTable, carrier: Carrier, coordinate: Coordinate) -> Carried {
    let pin = table.keys.mint(kind(carrier), coordinate, None, b"own");
    let string = format!("own-{}", std::str::from_utf8(&pin).unwrap());
    Carried { carrier, string }
}

fn of(table: &RoutingTable, carrier: Carrier, member: Member) -> Carried {
    let coordinate = table.pools[0].coordinate_for(member, b"own");
    carried(table, carrier, coordinate)
}

fn asking(
    session: Option<ClientSessionId>,
    carriers: &[Carried],
    affinity: Option<u64>,
) -> RequestKind {
    RequestKind::Modern(Modern {
        session,
        carriers: carriers.to_vec(),
        affinity,
        ..Modern::default()
    })
}

fn why(table: &RoutingTable, kind: RequestKind) -> (Member, &'static str) {
    let decision = ask(table, kind).unwrap();
    (decision.member, decision.why.route().as_str())
}

#[test]
fn carriers_come_before_sessions_and_sessions_before_keys() {
    let table = table(&pool_of(&["a", "b", "c"], ""));
    let pool = &table.pools[0];
    let (state, task) = (
        of(&table, Carrier::RequestState, 1),
        of(&table, Carrier::Task, 2),
    );
    let id = || Some(pinned_id(&table, pool, 0, "id"));
    let both = [state.clone(), task.clone()];
    assert_eq!(why(&table, asking(id(), &both, Some(7))), (1, "carrier"));
    let turned = [task, state];
    let elsewhere = ask(&table, asking(id(), &turned, Some(7))).unwrap();
    assert_eq!((elsewhere.member, elsewhere.session), (2, None));
    assert_eq!(why(&table, asking(id(), &[], Some(7))), (0, "pinned"));
    let belongs = pool.successor(Coordinate(7), &[]).unwrap();
    assert_eq!(
        why(&table, asking(None, &[], Some(7))),
        (belongs, "affinity")
    );
    // Where carrier and session agree, the header goes along.
    let home = [of(&table, Carrier::Task, 0)];
    let decision = ask(&table, asking(id(), &home, None)).unwrap();
    assert_eq!(decision.session.unwrap().as_bytes(), b"id");
}

#[test]
fn a_carrier_that_is_not_good_decides_nothing_and_one_that_may_be_waits() {
    let table = table(&pool_of(&["a", "b"], ""));
    let good = of(&table, Carrier::Task, 1);
    let as_state = Carried {
        carrier: Carrier::RequestState,
        string: good.string.clone(),
    };
    let forged = Carried {
        string: format!("x{}", good.string),
        ..good.clone()
    };
    let unknown = carried(&table, Carrier::Task, Coordinate(1));
    let bad = [as_state, forged];
    for string in &bad {
        let judged = judge(
            &table,
            &table.pools[0],
            &Asker::Anybody,
            string.carrier,
            &string.string,
        );
        assert_eq!(judged.says, Says::Nothing);
    }
    assert_eq!(why(&table, asking(None, &bad, None)).1, "placed");
    let waits = asking(None, &[bad[0].clone(), unknown.clone()], None);
    assert_eq!(ask(&table, waits), Err(Refusal::UnknownCoordinate));
    assert_eq!(
        why(&table, asking(None, &[unknown, good], None)),
        (1, "carrier")
    );
}

#[test]
fn what_a_lost_backend_made_is_placed_and_moves_nowhere_before() {
    let lost = with_one_down("", "b").0;
    let down = member(&lost.pools[0], "b");
    let carriers = [of(&lost, Carrier::RequestState, down)];
    let judged = judge(
        &lost,
        &lost.pools[0],
        &Asker::Anybody,
        Carrier::RequestState,
        &carriers[0].string,
    );
    assert_eq!((judged.says, judged.own), (Says::Lost, "own"));
    let (elsewhere, why) = why(&lost, asking(None, &carriers, None));
    assert!(elsewhere != down && why == "placed");

    let all = table(&pool_of(&["a", "b", "c"], ""));
    let decision = ask(&all, asking(None, &carriers, None)).unwrap();
    assert_eq!(
        reroute(&all.pools[0], &decision, 0, &[decision.member]),
        Err(Refusal::NoBackend)
    );
}

#[test]
fn a_key_goes_to_the_next_healthy_backend_of_the_ring_and_no_further() {
    let all = table(&pool_of(&["a", "b", "c"], ""));
    let turned = table(&pool_of(&["c", "b", "a"], ""));
    let with_one_down = with_one_down("", "b").0;
    let name = |table: &RoutingTable, member: Member| {
        table.pools[0]
            .entry(member)
            .backend
            .name
            .as_str()
            .to_owned()
    };
    let mut moved = 0;
    for position in (0..200).map(|step: u64| step.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let place = |table: &RoutingTable| ask(table, asking(None, &[], Some(position))).unwrap();
        let decision = place(&all);
        let owner = name(&all, decision.member);
        assert_eq!(name(&turned, place(&turned).member), owner);
        let next = reroute(&all.pools[0], &decision, 0, &[decision.member]).unwrap();
        assert_eq!(next.why, decision.why);
        assert_ne!(next.member, decision.member);
        let now = name(&with_one_down, place(&with_one_down).member);
        if owner == "b" {
            assert_eq!(now, name(&all, next.member));
            moved += 1;
        } else {
            assert_eq!(now, owner);
        }
    }
    assert!(moved > 20);
}
