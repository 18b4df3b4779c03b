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
    /// Nothing of a body yet, which will have as much room as the others leave of `most` bytes.
    #[must_use]
    pub fn hold(&self, most: usize) -> Held {
        Held {
            all: self.clone(),
            most,
            bytes: 0,
        }
    }
}

/// What is held of one body. Given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    all: Bodies,
    most: usize,
    bytes: usize,
}

impl Held {
    /// Takes room for so many bytes more; `false` if there is none.
    #[must_use]
    pub fn take(&mut self, bytes: usize) -> bool {
        let Bodies(all) = &self.all;
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        before + bytes <= self.most
    }

    /// The body itself: it counts until its last clone is dropped.
    #[must_use]
    pub fn until_dropped(self, body: Bytes) -> Bytes {
        if self.bytes == 0 {
            return body;
        }
        Bytes::from_owner(Counted { body, _held: self })
    }

    /// Holds nothing any longer.
    pub fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes > 0 {
            let Bodies(all) = &self.all;
            all.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back();
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
        let (mut one, mut other) = (bodies.hold(10), bodies.hold(10));
        assert!(one.take(6) && other.take(4));
        assert!(!other.take(1), "it is full");
        drop(other);
        assert!(one.take(4));
        let body = one.until_dropped(Bytes::from_static(b"0123456789"));
        let part = body.slice(..1);
        drop(body);
        assert!(!bodies.hold(10).take(1), "a part holds the whole");
        drop(part);
        assert!(bodies.hold(10).take(10));
    }

    #[test]
    fn what_takes_no_room_is_the_body_as_it_came() {
        let body = Bytes::from(vec![b'x'; 100]);
        let same = Bodies::default().hold(0).until_dropped(body.clone());
        assert_eq!(same.as_ptr(), body.as_ptr());
    }
}
