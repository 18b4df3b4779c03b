use std::{collections::VecDeque, future::pending};

use super::*;

const LIMIT: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(10);

/// What a resolver does when it is asked.
#[derive(Clone)]
enum Says {
    Addresses(&'static [&'static str]),
    No,
    Nothing,
    Late(&'static str),
}

/// Names whose resolver says one after the other, and then nothing; and how often it is yet to be asked.
fn names(says: &[Says]) -> (Names, Arc<Mutex<VecDeque<Says>>>) {
    let left = Arc::new(Mutex::new(VecDeque::from(says.to_vec())));
    let script = Arc::clone(&left);
    let names = Names::new(move |host| {
        assert_eq!(&*host, "h");
        let says = script.lock().unwrap().pop_front().expect("asked too often");
        async move {
            match says {
                Says::Addresses(found) => Ok(found.iter().map(|ip| ip.parse().unwrap()).collect()),
                Says::No => Err(io::Error::other("NXDOMAIN")),
                Says::Nothing => pending().await,
                Says::Late(found) => {
                    net::sleep(LATE).await;
                    Ok(vec![found.parse().unwrap()])
                }
            }
        }
    });
    (names, left)
}

async fn found(names: &Names) -> String {
    match names.addresses("h", LIMIT).await {
        Ok(addresses) => format!("{addresses:?}"),
        Err(ConnectError::Unresolved { .. }) => "unresolved".into(),
        Err(other) => format!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_found_last_is_used_while_the_resolver_knows_nothing() {
    let (names, _) = names(&[
        Says::No,
        Says::Addresses(&["192.0.2.1"]),
        Says::No,
        Says::Addresses(&[]),
        Says::Addresses(&["192.0.2.2", "2001:db8::2"]),
        Says::Addresses(&["192.0.2.3", "192.0.2.4"]),
        Says::No,
    ]);
    assert_eq!(found(&names).await, "unresolved");
    for _ in 0..3 {
        assert_eq!(found(&names).await, "[192.0.2.1]");
    }
    assert_eq!(found(&names).await, "[192.0.2.2, 2001:db8::2]");
    assert!(found(&names).await.contains("each replica"), "two replicas");
    assert_eq!(found(&names).await, "[192.0.2.2, 2001:db8::2]");
}

#[tokio::test(start_paused = true)]
async fn a_silent_resolver_is_asked_once_and_waited_for_once() {
    let (names, left) = names(&[Says::Addresses(&["192.0.2.1"]), Says::Nothing]);
    assert_eq!(found(&names).await, "[192.0.2.1]");
    let began = net::now();
    for _ in 0..100 {
        assert_eq!(found(&names).await, "[192.0.2.1]");
    }
    let waited = net::now() - began;
    assert!(waited >= LIMIT && waited < 2 * LIMIT, "{waited:?}");
    assert!(left.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_late_is_remembered_though_nobody_waits() {
    let (names, left) = names(&[Says::Late("192.0.2.1"), Says::Nothing]);
    let called_off = net::within(LIMIT / 2, found(&names)).await;
    assert_eq!(called_off, None);
    assert_eq!(found(&names).await, "unresolved");
    net::sleep(LATE).await;
    assert_eq!(left.lock().unwrap().len(), 1, "asked once so far");
    assert_eq!(found(&names).await, "[192.0.2.1]");
}

#[test]
fn a_lookup_whose_thread_has_ended_is_made_again() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    };
    let (names, _) = names(&[Says::Nothing, Says::Addresses(&["192.0.2.1"])]);
    let called_off = async { net::within(LIMIT / 100, found(&names)).await };
    assert_eq!(runtime().block_on(called_off), None);
    assert_eq!(runtime().block_on(found(&names)), "[192.0.2.1]");
}
