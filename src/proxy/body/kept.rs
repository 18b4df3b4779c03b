//! A copy of a request's body, made while it passes, for those few requests that are sent twice.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use bytes::{Bytes, BytesMut};

use super::{Bodies, Budget, Held};

/// What was kept of a body so far. Clones are of the same body.
#[derive(Debug, Clone)]
pub struct Kept(Rc<RefCell<Copy>>);

#[derive(Debug)]
struct Copy {
    /// The first piece, which nearly always is the body; once that has ended, all of it.
    first: Bytes,
    /// All of it where there are several pieces: each would hold on to the buffer that it was read into.
    joined: BytesMut,
    /// How many bytes more may be kept.
    room: usize,
    /// Counts what is joined.
    held: Held,
    bodies: Bodies,
    /// How many bytes all bodies may have.
    most: usize,
    state: State,
    waiting: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Coming,
    Whole,
    /// It was too large, or broke off.
    Lost,
    /// Others had left no room for it.
    NoRoom,
}

impl Kept {
    /// Nothing yet, and at most `limit` bytes, for which `budget` has to have room.
    #[must_use]
    pub fn up_to(limit: usize, budget: Budget<'_>) -> Self {
        Self(Rc::new(RefCell::new(Copy {
            first: Bytes::new(),
            joined: BytesMut::new(),
            room: limit,
            held: Held::default(),
            bodies: budget.all.clone(),
            most: budget.most,
            state: State::Coming,
            waiting: None,
        })))
    }

    /// The whole body, if it is there and was not too large.
    #[must_use]
    pub fn whole(&self) -> Option<Bytes> {
        let copy = self.0.borrow();
        match copy.state {
            State::Coming | State::Lost | State::NoRoom => None,
            State::Whole => Some(copy.first.clone()),
        }
    }

    /// Whether it is only for others that it was not kept: later there may be room.
    #[must_use]
    pub fn lacks_room(&self) -> bool {
        self.0.borrow().state == State::NoRoom
    }

    /// Whether more of the body is to come, and to be kept.
    #[must_use]
    pub fn is_coming(&self) -> bool {
        self.0.borrow().state == State::Coming
    }

    /// Waits until the body has ended: a server may answer by the head alone. Cancel safe.
    pub async fn ended(&self) {
        poll_fn(|cx| {
            let mut copy = self.0.borrow_mut();
            if copy.state == State::Coming {
                copy.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    fn passes(&self, chunk: &Bytes) {
        let mut copy = self.0.borrow_mut();
        match copy.room.checked_sub(chunk.len()) {
            Some(room) if copy.state == State::Coming => {
                copy.room = room;
                if !copy.push(chunk) {
                    copy.ends(State::NoRoom);
                }
            }
            Some(_) => {}
            None => copy.ends(State::Lost),
        }
    }
}

impl Copy {
    /// Adds a piece; `false` if there is no room for it.
    fn push(&mut self, chunk: &Bytes) -> bool {
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = chunk.clone();
            return true;
        }
        let first = std::mem::take(&mut self.first);
        let budget = self.bodies.up_to(self.most);
        if !self.held.take(first.len() + chunk.len(), budget) {
            return false;
        }
        self.joined.extend_from_slice(&first);
        self.joined.extend_from_slice(chunk);
        true
    }

    fn ends(&mut self, state: State) {
        if self.state == State::Coming {
            self.state = state;
            let joined = std::mem::take(&mut self.joined);
            match state {
                State::Lost | State::NoRoom => {
                    self.first = Bytes::new();
                    self.held = Held::default();
                }
                State::Whole if !joined.is_empty() => self.first = joined.freeze(),
                State::Whole | State::Coming => {}
            }
            if let Some(waiting) = self.waiting.take() {
                waiting.wake();
            }
        }
    }
}

/// The end that fills a [`Kept`]. A body that is dropped before its end is lost.
#[derive(Debug)]
pub(super) struct Keeping(pub(super) Kept);

impl Keeping {
    pub(super) fn passes(&self, chunk: &Bytes) {
        self.0.passes(chunk);
    }

    pub(super) fn ends(&self) {
        self.0.0.borrow_mut().ends(State::Whole);
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.0.borrow_mut().ends(State::Lost);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Bodies, *};

    fn up_to(limit: usize) -> Kept {
        Kept::up_to(limit, Bodies::default().up_to(usize::MAX))
    }

    #[test]
    fn a_body_that_others_leave_no_room_for_is_not_kept() {
        let bodies = Bodies::default();
        let (mut other, budget) = (Held::default(), bodies.up_to(10));
        assert!(other.take(6, budget));
        let kept = Kept::up_to(10, budget);
        let keeping = Keeping(kept.clone());
        keeping.passes(&Bytes::from_static(b"one"));
        keeping.passes(&Bytes::from_static(b"two"));
        keeping.ends();
        assert_eq!(kept.whole(), None);
        assert!(kept.lacks_room());
        assert!(other.take(4, budget), "and takes none");
    }

    #[test]
    fn a_body_is_whole_only_at_its_end_and_within_the_limit() {
        for (limit, expected) in [(6, Some(Bytes::from_static(b"onetwo"))), (5, None)] {
            let kept = up_to(limit);
            let keeping = Keeping(kept.clone());
            keeping.passes(&Bytes::from_static(b"one"));
            assert_eq!(kept.whole(), None);
            keeping.passes(&Bytes::from_static(b"two"));
            keeping.ends();
            assert_eq!(kept.whole(), expected);
        }
    }

    #[test]
    fn a_body_in_many_pieces_costs_no_more_than_its_bytes() {
        let kept = up_to(100);
        let keeping = Keeping(kept.clone());
        let buffers = [(); 100].map(|()| Bytes::from(vec![b'x'; 8 * 1024]));
        for buffer in &buffers {
            keeping.passes(&buffer.slice(..1));
        }
        let held = buffers.iter().filter(|buffer| !buffer.is_unique());
        assert_eq!(held.count(), 0, "buffers are held for a byte of each");
        keeping.ends();
        assert_eq!(kept.whole(), Some(Bytes::from(vec![b'x'; 100])));
    }

    #[tokio::test]
    async fn who_waits_for_a_body_that_breaks_off_hears_of_it() {
        let kept = up_to(10);
        let keeping = Keeping(kept.clone());
        keeping.passes(&Bytes::from_static(b"half"));
        let ((), ()) = tokio::join!(kept.ended(), async move { drop(keeping) });
        assert_eq!(kept.whole(), None);
    }
}
