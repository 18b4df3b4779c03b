//! Tags that this thread has found good lately: each request of a session brings the same, and its HMAC costs 0.3 µs with the
//! processor's help, and three times as much without.
//!
//! A tag that is not among them is calculated, whatever else is alike, and tags are compared in constant time: how long it
//! takes says nothing of a tag that somebody makes up.

use std::cell::RefCell;

use super::{TAG_LEN, keys::Binding};
use crate::ring::hash;

/// 600 bytes each, of threads that serve sessions.
const PLACES: usize = 256;

/// So many share a place, of which the oldest goes. Alone, every fifth of 256 sessions had its tag calculated each time.
const TOGETHER: usize = 4;

/// A longer string is not remembered. Most are the 36 characters of a UUID.
const LONGEST: usize = 64;

thread_local! {
    static GOOD: RefCell<Vec<[Option<Good>; TOGETHER]>> = const { RefCell::new(Vec::new()) };
}

/// All that a tag depends on: whoever has a key gives it a number that no other key has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) key: u64,
    pub(super) head: [u8; 10],
    pub(super) binding: Option<&'a Binding>,
    pub(super) string: &'a [u8],
}

struct Good {
    key: u64,
    head: [u8; 10],
    tag: [u8; TAG_LEN],
    binding: Option<Binding>,
    length: usize,
    string: [u8; LONGEST],
}

impl Good {
    fn is(&self, signed: Signed<'_>, tag: &[u8; TAG_LEN]) -> bool {
        let is_signed = self.key == signed.key
            && self.head == signed.head
            && self.string.get(..self.length) == Some(signed.string)
            && self.binding.as_ref() == signed.binding;
        let differs = self
            .tag
            .iter()
            .zip(tag)
            .fold(0, |all, (one, other)| all | (one ^ other));
        is_signed && differs == 0
    }
}

fn place(signed: Signed<'_>) -> usize {
    hash::position(signed.string).0 as usize % PLACES
}

/// Whether `tag` was found good for it.
pub(super) fn knows(signed: Signed<'_>, tag: &[u8; TAG_LEN]) -> bool {
    GOOD.with_borrow(|good| {
        let together = good.get(place(signed)).into_iter().flatten();
        together.flatten().any(|known| known.is(signed, tag))
    })
}

/// Remembers that `tag` is good for it.
pub(super) fn remember(signed: Signed<'_>, tag: &[u8; TAG_LEN]) {
    let length = signed.string.len();
    let mut string = [0; LONGEST];
    let Some(own) = string.get_mut(..length) else {
        return;
    };
    own.copy_from_slice(signed.string);
    GOOD.with_borrow_mut(|good| {
        good.resize_with(PLACES, || [const { None }; TOGETHER]);
        let together = &mut good[place(signed)];
        together.rotate_right(1);
        together[0] = Some(Good {
            key: signed.key,
            head: signed.head,
            tag: *tag,
            binding: signed.binding.copied(),
            length,
            string,
        });
    });
}
