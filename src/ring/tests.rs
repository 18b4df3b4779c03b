use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    Name::try_new(text).unwrap()
}

fn all_nodes(names: &[String]) -> Vec<Nodes> {
    names.iter().map(|text| Nodes::of(&name(text))).collect()
}

fn ring_of(nodes: &[Nodes]) -> Ring {
    Ring::try_new((0..).zip(nodes)).unwrap()
}

/// The name behind a position, so that rings with other member numbers compare.
fn owner_name<'a>(ring: &Ring, nodes: &'a [Nodes], position: u64) -> &'a Name {
    nodes[ring.successor(Coordinate(position)) as usize].name()
}

fn fleet(size: usize) -> Vec<String> {
    (0..size)
        .map(|number| format!("10.0.{}.{}:8080", number / 250, number % 250))
        .collect()
}

/// What a ring of these members is, without an index: the contract.
fn plain(members: &[(Member, &Nodes)]) -> BTreeMap<u64, Member> {
    let mut plain: BTreeMap<u64, (Member, &Nodes)> = BTreeMap::new();
    for (member, of) in members {
        for point in of.points() {
            let owner = plain.entry(point.0).or_insert((*member, of));
            if of.name() < owner.1.name() {
                *owner = (*member, of);
            }
        }
    }
    let owners = plain.into_iter();
    owners.map(|(point, (member, _))| (point, member)).collect()
}

fn check(ring: &Ring, plain: &BTreeMap<u64, Member>, positions: &[u64]) {
    let all: Vec<(u64, Member)> = ring.iter().map(|(point, owner)| (point.0, owner)).collect();
    assert!(
        all.iter()
            .copied()
            .eq(plain.iter().map(|(point, owner)| (*point, *owner)))
    );
    let around = plain
        .keys()
        .flat_map(|point| [point - 1, *point, point + 1]);
    for position in around.chain([0, u64::MAX]).chain(positions.iter().copied()) {
        let at = Coordinate(position);
        let (before, after) = (plain.range(..position), plain.range(position..));
        let order = || after.clone().chain(before.clone()).map(|(_, owner)| *owner);
        assert_eq!(ring.exact(at), plain.get(&position).copied(), "{at}");
        assert_eq!(Some(ring.successor(at)), order().next(), "{at}");
        assert!(ring.walk(at).take(5).eq(order().take(5)), "{at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_answers_as_a_plain_search_does(
        size in 1_usize..12,
        first in 0_u32..300,
        // Who takes a virtual node of another, and where: now and then at one position, or far from an even spread.
        moved in prop::collection::vec((0_usize..12, 0_usize..160, prop_oneof![
            (0_u64..3).prop_map(|step| 7 << 60 | step),
            (1_u64..u64::MAX),
        ]), 0..20),
        left_out in prop::collection::hash_set(0_usize..12, 0..12),
        positions in prop::collection::vec(any::<u64>(), 50),
    ) {
        let mut nodes = all_nodes(&fleet(size));
        for (backend, number, position) in moved {
            nodes[backend % size].points[number] = Coordinate(position);
        }
        let members: Vec<(Member, &Nodes)> = (first..).zip(&nodes).collect();
        let ring = Ring::try_new(members.iter().copied()).unwrap();
        check(&ring, &plain(&members), &positions);
        let kept = members.iter().enumerate().filter(|(index, _)| !left_out.contains(index));
        let kept: Vec<(Member, &Nodes)> = kept.map(|(_, member)| *member).collect();
        match ring.part(kept.iter().copied()) {
            None => prop_assert!(kept.is_empty()),
            Some(part) => check(&part, &plain(&kept), &positions),
        }
    }

    #[test]
    fn the_order_of_members_does_not_matter(
        names in prop::collection::hash_set("[a-z]{1,8}:[0-9]{1,4}", 1..12),
        positions in prop::collection::vec(any::<u64>(), 50),
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let forward = all_nodes(&names);
        let backward: Vec<Nodes> = forward.iter().rev().cloned().collect();
        let (one, other) = (ring_of(&forward), ring_of(&backward));
        for position in positions {
            prop_assert_eq!(owner_name(&one, &forward, position), owner_name(&other, &backward, position));
        }
    }

    #[test]
    fn a_pin_stays_while_others_join_and_leave(
        names in prop::collection::hash_set("[a-z]{1,8}", 2..12),
        string in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let nodes = all_nodes(&names);
        let (all, kept) = (ring_of(&nodes), ring_of(&nodes[..1]));
        let coordinate = all.coordinate_for(0, &nodes[0], &string);
        prop_assert_eq!(all.exact(coordinate), Some(0));
        prop_assert_eq!(kept.exact(coordinate), Some(0));
        let without = Ring::try_new((1..).zip(&nodes[1..])).unwrap();
        prop_assert_eq!(without.exact(coordinate), None);
    }

    #[test]
    fn walk_begins_at_the_successor_and_meets_everybody(position in any::<u64>()) {
        let nodes = all_nodes(&fleet(5));
        let ring = ring_of(&nodes);
        let order: Vec<Member> = ring.walk(Coordinate(position)).collect();
        prop_assert_eq!(order[0], ring.successor(Coordinate(position)));
        prop_assert_eq!(order.len(), 5 * VIRTUAL_NODES);
        for member in 0..5 {
            prop_assert!(order.contains(&member));
        }
    }
}

#[test]
fn adding_a_backend_moves_at_most_two_nths_of_the_keys() {
    for size in [2_usize, 3, 5, 10, 50] {
        let nodes = all_nodes(&fleet(size + 1));
        let (before, after) = (ring_of(&nodes[..size]), ring_of(&nodes));
        let keys = 20_000_u64;
        let mut moved = 0;
        for key in 0..keys {
            let position = hash::position(&key.to_be_bytes());
            let (old, new) = (before.successor(position), after.successor(position));
            if old != new {
                assert_eq!(
                    new as usize, size,
                    "a key moved to a backend that was there before"
                );
                moved += 1;
            }
        }
        assert!(
            moved <= 2 * keys / (size as u64 + 1),
            "{moved} of {keys} keys moved at {size} backends"
        );
        assert!(moved > 0);
    }
}

#[test]
fn shares_of_160_virtual_nodes_stay_within_bounds() {
    // The relative deviation of a share is about 1/sqrt(160) = 8 %; four of them bound 20 backends.
    for size in [2_usize, 4, 20] {
        let shares = ring_of(&all_nodes(&fleet(size))).shares(size);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        for share in shares {
            let relative = share * size as f64;
            assert!(
                (0.68..1.32).contains(&relative),
                "a share of {relative:.2} of the mean at {size}"
            );
        }
    }
}

#[test]
fn the_successor_wraps_and_includes_the_point_itself() {
    let nodes = all_nodes(&fleet(3));
    let ring = ring_of(&nodes);
    let (first, owner) = ring.iter().next().unwrap();
    let (last, _) = ring.iter().last().unwrap();
    assert_eq!(ring.successor(first), owner);
    assert_eq!(ring.successor(Coordinate(last.0 + 1)), owner);
    assert_eq!(ring.exact(Coordinate(first.0 + 1)), None);
}

#[test]
fn of_two_backends_at_one_point_the_smaller_name_has_it_and_the_other_never_mints_it() {
    let mut nodes = all_nodes(&["b".into(), "a".into()]);
    let string = (0_u64..)
        .map(|number| number.to_be_bytes())
        .find(|string| {
            hash::position(string)
                .0
                .is_multiple_of(VIRTUAL_NODES as u64)
        })
        .unwrap();
    nodes[0].points[0] = nodes[1].points[7];
    let ring = ring_of(&nodes);
    assert_eq!(ring.exact(nodes[1].points[7]), Some(1));
    assert_eq!(
        ring.coordinate_for(0, &nodes[0], &string),
        nodes[0].points[1]
    );
}

#[test]
fn a_ring_of_nobody_is_none() {
    assert!(Ring::try_new([]).is_none());
}
