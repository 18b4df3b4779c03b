//! A short body that is put together.

use bytes::{Bytes, BytesMut};

/// Bytes that come in pieces: mostly in one, which is not copied.
#[derive(Debug, Default)]
pub struct Pieces {
    first: Bytes,
    /// All of them, once there are several. Small pieces would else keep the large buffers that they are parts of.
    joined: BytesMut,
}

impl Pieces {
    /// Adds the next.
    pub fn push(&mut self, piece: Bytes) {
        if self.is_empty() {
            self.first = piece;
            return;
        }
        self.joined
            .extend_from_slice(&std::mem::take(&mut self.first));
        self.joined.extend_from_slice(&piece);
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        if self.joined.is_empty() {
            self.first
        } else {
            self.joined.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_piece_is_not_copied_and_several_are_joined() {
        let mut pieces = Pieces::default();
        let one = Bytes::from(vec![b'x'; 100]);
        pieces.push(one.clone());
        assert_eq!(pieces.len(), 100);
        pieces.push(Bytes::from_static(b"yz"));
        pieces.push(Bytes::from_static(b"!"));
        assert_eq!(pieces.len(), 103);
        assert!(pieces.into_bytes().ends_with(b"xyz!"));
        let mut pieces = Pieces::default();
        pieces.push(one.clone());
        assert_eq!(pieces.into_bytes().as_ptr(), one.as_ptr());
    }
}
