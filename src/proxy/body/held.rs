//! How much of bodies is held in memory at one time, over all requests of the process.
//!
//! Counted is what is put together from several pieces. A body that comes in one piece lies in the buffer of its
//! connection, which has limits of its own: nearly all do, and cost nothing here.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

/// All bodies that are held. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Bodies(Arc<AtomicUsize>);

impl Bodies {
    /// Room for all of them together.
    #[must_use]
    pub fn up_to(&self, most: usize) -> Budget<'_> {
        Budget { all: self, most }
    }
}

/// How many bytes all bodies may have.
#[derive(Debug, Clone, Copy)]
pub struct Budget<'a> {
    pub(super) all: &'a Bodies,
    pub(super) most: usize,
}

/// What is held of one body. Given back when it is dropped.
#[derive(Debug, Default)]
pub struct Held {
    /// Once there is something.
    all: Option<Bodies>,
    bytes: usize,
}

impl Held {
    /// Takes so many bytes more of a budget, always the same; `false` if it is used up.
    #[must_use]
    pub fn take(&mut self, bytes: usize, budget: Budget<'_>) -> bool {
        let Bodies(all) = self.all.get_or_insert_with(|| budget.all.clone());
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        before + bytes <= budget.most
    }

    /// Whether nothing was taken: the body came in one piece.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.all.is_none()
    }

    /// The body itself: it counts until its last clone is dropped.
    #[must_use]
    pub fn until_dropped(self, body: Bytes) -> Bytes {
        if self.is_nothing() {
            return body;
        }
        Bytes::from_owner(Counted { body, _held: self })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(Bodies(all)) = &self.all {
            all.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

struct Counted {
    body: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bodies_share_the_room_and_give_it_back() {
        let bodies = Bodies::default();
        let budget = bodies.up_to(10);
        let (mut one, mut other) = (Held::default(), Held::default());
        assert!(one.take(6, budget) && other.take(4, budget));
        assert!(!other.take(1, budget), "it is full");
        drop(other);
        assert!(one.take(4, budget));
        let body = one.until_dropped(Bytes::from_static(b"0123456789"));
        let part = body.slice(..1);
        drop(body);
        assert!(!Held::default().take(1, budget), "a part holds the whole");
        drop(part);
        assert!(Held::default().take(10, budget));
    }

    #[test]
    fn what_takes_no_room_is_the_body_as_it_came() {
        let body = Bytes::from(vec![b'x'; 100]);
        let same = Held::default().until_dropped(body.clone());
        assert_eq!(same.as_ptr(), body.as_ptr());
    }
}
