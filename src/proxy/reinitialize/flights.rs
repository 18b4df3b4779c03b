//! Who of this process repeats the handshake of a session: one request, and the others wait for what comes of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use tokio::sync::Semaphore;

use crate::{router::Moved, sessions::store::Key};

/// What came of a handshake.
#[derive(Debug, Clone)]
pub(super) enum Landed {
    /// The session is there.
    At(Arc<Moved>),
    /// It cannot be brought back.
    Gone,
    /// Not now.
    Unavailable,
}

/// The handshakes that are under way in this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Flights(Arc<Mutex<HashMap<Key, Arc<Course>>>>);

/// One of them.
#[derive(Debug)]
struct Course {
    /// Nothing yet, or for ever, if its leader has left.
    landed: OnceLock<Landed>,
    /// Has no permits, and is closed at the end: so those who wait go on in the order in which they came, and a
    /// simulation can be repeated.
    over: Semaphore,
}

/// What a request has to do.
#[derive(Debug)]
pub(super) enum Flight {
    /// To repeat the handshake.
    Leads(Lead),
    /// To wait for another that does.
    Waits(Waits),
}

impl Flights {
    /// Takes part in the handshake of a session.
    pub(super) fn join(&self, key: Key) -> Flight {
        let mut flights = self.lock();
        if let Some(course) = flights.get(&key) {
            return Flight::Waits(Waits(Arc::clone(course)));
        }
        let course = Arc::new(Course {
            landed: OnceLock::new(),
            over: Semaphore::new(0),
        });
        flights.insert(key, Arc::clone(&course));
        Flight::Leads(Lead {
            flights: self.clone(),
            key,
            course,
        })
    }

    // Held for one lookup, never across an await.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Course>>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

/// Leads a flight. Dropped without having landed, because its client left, it leaves the lead to another.
#[derive(Debug)]
pub(super) struct Lead {
    flights: Flights,
    key: Key,
    course: Arc<Course>,
}

impl Lead {
    /// Tells all who wait.
    pub(super) fn land(self, landed: Landed) {
        self.course.landed.get_or_init(|| landed);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
        self.course.over.close();
    }
}

/// Waits for another's flight to end.
#[derive(Debug)]
pub(super) struct Waits(Arc<Course>);

impl Waits {
    /// What came of it; `None` if its leader has left. Cancel safe.
    pub(super) async fn landed(self) -> Option<Landed> {
        let _closed = self.0.over.acquire().await;
        self.0.landed.get().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(flights: &Flights) -> Lead {
        match flights.join(Key::of(b"one")) {
            Flight::Leads(lead) => lead,
            Flight::Waits(_) => panic!("nobody leads"),
        }
    }

    fn waits(flights: &Flights) -> Waits {
        match flights.join(Key::of(b"one")) {
            Flight::Leads(_) => panic!("somebody leads already"),
            Flight::Waits(waits) => waits,
        }
    }

    #[tokio::test]
    async fn all_hear_what_came_of_the_one_handshake() {
        let flights = Flights::default();
        let (lead, first, second) = (leads(&flights), waits(&flights), waits(&flights));
        lead.land(Landed::Gone);
        assert!(matches!(first.landed().await, Some(Landed::Gone)));
        assert!(matches!(second.landed().await, Some(Landed::Gone)));
        drop(leads(&flights)); // it is over
    }

    #[tokio::test]
    async fn when_the_leader_leaves_another_leads() {
        let flights = Flights::default();
        let (lead, waiting) = (leads(&flights), waits(&flights));
        drop(lead);
        assert!(waiting.landed().await.is_none());
        drop(leads(&flights));
    }
}
