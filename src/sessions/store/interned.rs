//! Equal handshakes, kept once: those of one client program differ in nothing.

use std::{collections::HashSet, sync::Arc};

use super::Handshake;

/// What all different handshakes may have together, in bytes. Real ones have a few hundred each; beyond it somebody
/// makes them up, and a session that begins with a further one is not recorded.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// All handshakes that sessions began with.
#[derive(Debug, Default)]
pub(super) struct Interned {
    all: HashSet<Arc<Handshake>>,
    bytes: usize,
    /// Who is used by no session any more is looked for when there are so many bytes.
    sweep_at: usize,
}

impl Interned {
    /// The one that is equal to `handshake`; `None` if there is no room for another.
    pub(super) fn intern(&mut self, handshake: Handshake) -> Option<Arc<Handshake>> {
        if let Some(known) = self.all.get(&handshake) {
            return Some(Arc::clone(known));
        }
        let size = size(&handshake);
        if self.bytes + size > self.sweep_at {
            self.all
                .retain(|handshake| Arc::strong_count(handshake) > 1);
            self.bytes = self.all.iter().map(|known| self::size(known)).sum();
            self.sweep_at = (2 * self.bytes).clamp(64 * 1024, MOST_BYTES);
        }
        if self.bytes + size > MOST_BYTES {
            return None;
        }
        self.bytes += size;
        let handshake = Arc::new(handshake);
        self.all.insert(Arc::clone(&handshake));
        Some(handshake)
    }
}

fn size(handshake: &Handshake) -> usize {
    size_of::<Handshake>() + handshake.path.len() + handshake.body.len()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn handshake(number: u32, length: usize) -> Handshake {
        let mut body = vec![0; length];
        body[..4].copy_from_slice(&number.to_be_bytes());
        Handshake {
            path: "/mcp".into(),
            body: Bytes::from(body),
        }
    }

    #[test]
    fn equal_handshakes_are_one() {
        let mut interned = Interned::default();
        let first = interned.intern(handshake(1, 300)).unwrap();
        let second = interned.intern(handshake(1, 300)).unwrap();
        let other = interned.intern(handshake(2, 300)).unwrap();
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &other));
    }

    #[test]
    fn there_is_an_end_to_different_ones_and_those_of_no_session_make_room() {
        let mut interned = Interned::default();
        let length = MOST_BYTES / 8;
        let held: Vec<_> = (0..9)
            .map_while(|number| interned.intern(handshake(number, length)))
            .collect();
        assert_eq!(held.len(), 7);
        assert!(
            interned.intern(handshake(0, length)).is_some(),
            "a known one needs no room"
        );
        drop(held);
        assert!(interned.intern(handshake(9, length)).is_some());
        assert_eq!(interned.all.len(), 1);
    }
}
