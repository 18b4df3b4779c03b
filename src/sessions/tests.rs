use super::*;

fn load() -> Arc<Load> {
    let load = Arc::new(Load::default());
    load.set_session_idle(Duration::from_secs(60));
    load
}

#[test]
fn a_session_counts_once_from_its_first_request_until_its_end() {
    let (sessions, load) = (Sessions::new(), load());
    drop(sessions.visit(b"one", &load));
    drop(sessions.visit(b"one", &load));
    let other = sessions.visit(b"other", &load);
    assert_eq!(load.sessions(), 2);
    other.end_session();
    assert_eq!(load.sessions(), 1);
}

#[test]
fn an_idle_session_is_forgotten_and_one_with_an_open_stream_is_not() {
    let (sessions, load) = (Sessions::new(), load());
    drop(sessions.visit(b"idle", &load));
    let open = sessions.visit(b"open", &load);
    sessions.forget_idle(59);
    assert_eq!(load.sessions(), 2);
    sessions.forget_idle(60);
    assert_eq!(load.sessions(), 1);
    drop(open);
    sessions.forget_idle(60);
    assert_eq!(load.sessions(), 0);
}

#[test]
fn a_lost_backend_has_no_sessions_and_the_others_keep_theirs() {
    let (sessions, lost, kept) = (Sessions::new(), load(), load());
    let (_one, _two) = (sessions.visit(b"one", &lost), sessions.visit(b"two", &kept));
    sessions.forget(&lost);
    assert_eq!((lost.sessions(), kept.sessions()), (0, 1));
}

#[test]
fn equal_ids_of_two_backends_are_two_sessions() {
    let (sessions, one, other) = (Sessions::new(), load(), load());
    drop(sessions.visit(b"1", &one));
    let second = sessions.visit(b"1", &other);
    assert_eq!((one.sessions(), other.sessions()), (1, 1));
    second.end_session();
    assert_eq!((one.sessions(), other.sessions()), (1, 0));
}

fn owner(number: u64) -> Owner {
    let mut digest = [7; 32];
    digest[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Owner::of(&digest)
}

fn owned(sessions: &Sessions, load: &Arc<Load>, number: u64) -> Visit {
    let mut visit = sessions.visit(&number.to_be_bytes(), load);
    visit.belongs_to(owner(number));
    visit
}

#[test]
fn an_owner_has_what_he_opened_until_it_ends() {
    let (sessions, load) = (Sessions::new(), load());
    let count = || sessions.0.principals.count(owner(1));
    let visits: Vec<Visit> = ["one", "two", "three"]
        .into_iter()
        .map(|id| {
            let mut visit = sessions.visit(id.as_bytes(), &load);
            assert!(visit.is_unowned());
            visit.belongs_to(owner(1));
            visit
        })
        .collect();
    assert_eq!(count(), 3);
    let mut again = sessions.visit(b"one", &load);
    assert!(!again.is_unowned());
    again.belongs_to(owner(2));
    assert_eq!(
        (count(), sessions.0.principals.count(owner(2))),
        (3, 0),
        "it has an owner"
    );
    visits.into_iter().next().unwrap().end_session();
    again.end_session();
    assert_eq!(count(), 2);
    sessions.forget_idle(60);
    assert_eq!(count(), 0, "idle");
    drop(owned(&sessions, &load, 1));
    sessions.forget(&load);
    assert_eq!(count(), 0, "lost");
}

#[test]
fn what_is_being_opened_counts_against_the_same_credential_alone() {
    let (sessions, load, two) = (Sessions::new(), load(), NonZeroU32::new(2).unwrap());
    let open = |credential: &str| sessions.open(owner(1), credential.as_bytes(), two);
    let (first, second) = (open("good").unwrap(), open("good").unwrap());
    assert_eq!(open("good").unwrap_err(), Full);
    let _forged = [open("forged").unwrap(), open("forged").unwrap()];
    drop(second);
    let opened = owned(&sessions, &load, 1);
    drop(first);
    let _second = open("good").expect("one is open and none is being opened");
    assert_eq!(open("good").unwrap_err(), Full);
    drop(opened);
}

/// Bytes for each session that is live, each of an owner of its own.
fn bytes_for_each(sessions: &Sessions, live: usize) -> f64 {
    let places = sessions.0.shards.iter().map(|shard| lock(shard).bytes());
    let bytes: usize = places.sum::<usize>() + sessions.0.principals.bytes();
    bytes as f64 / live as f64
}

#[test]
fn a_live_session_never_costs_more_than_promised() {
    let (sessions, load) = (Sessions::new(), load());
    let mut most: f64 = 0.0;
    for number in 1..=200_000_usize {
        drop(owned(&sessions, &load, number as u64));
        if number >= 50_000 && number % 500 == 0 {
            most = most.max(bytes_for_each(&sessions, number));
        }
    }
    assert!(most <= MOST_BYTES as f64, "{most} while they come");
    for number in 1..=150_000 {
        owned(&sessions, &load, number).end_session();
    }
    sessions.forget_idle(0);
    let left = bytes_for_each(&sessions, 50_000);
    assert!(left <= MOST_BYTES as f64, "{left} when most have gone");
}
