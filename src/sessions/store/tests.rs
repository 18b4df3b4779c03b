use super::*;
use crate::ring::Coordinate;

fn handshake() -> Handshake {
    Handshake {
        path: "/mcp".into(),
        body: Bytes::from_static(b"{}"),
    }
}

fn key(number: u32) -> Key {
    Key::of(&number.to_be_bytes())
}

fn to(name: &'static str) -> Moved {
    Moved {
        coordinate: Coordinate(7),
        session: http::HeaderValue::from_static(name).try_into().unwrap(),
    }
}

async fn moves(store: &Store, key: &Key, moved: Moved) -> Option<Arc<Moved>> {
    let lease = store.lease(key).await.unwrap().unwrap();
    lease.moved(moved).await.unwrap()
}

#[tokio::test]
async fn a_session_is_found_with_its_handshake_until_it_is_removed() {
    let store = Store::in_memory(10);
    assert!(store.find(&key(1)).await.unwrap().handshake.is_none());
    store.record(key(1), handshake());
    let found = store.find(&key(1)).await.unwrap();
    assert_eq!(*found.handshake.unwrap(), handshake());
    assert!(matches!(store.known(&key(1)), Known::Stays));
    store.remove(&key(1)).await;
    assert!(store.find(&key(1)).await.unwrap().handshake.is_none());
}

#[tokio::test]
async fn where_a_session_moved_is_known_until_it_moves_again() {
    let store = Store::in_memory(10);
    store.record(key(1), handshake());
    for place in ["here", "there"] {
        let moved = moves(&store, &key(1), to(place)).await.unwrap();
        assert_eq!(*moved, to(place));
        assert!(matches!(store.known(&key(1)), Known::Moved(moved) if *moved == to(place)));
        for (last, from_before) in [("9", true), ("1", false), ("9", true)] {
            let last = Some(last.as_bytes());
            assert_eq!(store.resumes_from_before(&key(1), last), from_before);
        }
    }
}

#[tokio::test]
async fn a_session_that_was_ended_meanwhile_moves_nowhere() {
    let store = Store::in_memory(10);
    store.record(key(1), handshake());
    let lease = store.lease(&key(1)).await.unwrap().unwrap();
    store.remove(&key(1)).await;
    assert_eq!(lease.moved(to("there")).await.unwrap(), None);
    assert!(matches!(store.known(&key(1)), Known::Stays));
}

#[tokio::test]
async fn who_was_used_last_is_forgotten_last() {
    let store = Store::in_memory(3);
    for number in 1..=3 {
        store.record(key(number), handshake());
    }
    assert!(matches!(store.known(&key(1)), Known::Stays));
    store.record(key(4), handshake());
    let mut left = Vec::new();
    for number in 1..=4 {
        if store.find(&key(number)).await.unwrap().handshake.is_some() {
            left.push(number);
        }
    }
    assert_eq!((left, store.forgotten()), (vec![1, 3, 4], 1));
}

#[test]
fn many_sessions_stay_below_the_bound_and_use_nearly_all_of_it() {
    let store = Store::in_memory(10_000);
    for number in 0..50_000 {
        store.record(key(number), handshake());
    }
    let held: usize = store.0.shards.iter().map(|shard| lock(shard).len()).sum();
    assert!((9_900..=10_032).contains(&held), "{held}");
}
