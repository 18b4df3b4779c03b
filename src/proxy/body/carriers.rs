//! An answer's body on its way to the client, in which what the backend made gets its pins.

use std::fmt;

use bytes::Bytes;

use crate::{
    mcp::splice::{self, Carrier},
    pin::PIN_LEN,
};

/// Makes the pin, with its hyphen, of a backend's own string.
pub type Mint = Box<dyn FnMut(Carrier, &str) -> Option<[u8; PIN_LEN]>>;

/// Splices pins into a body as it flows.
pub struct Carriers {
    answer: splice::Answer,
    mint: Mint,
}

impl Carriers {
    /// A body of this form, whose strings get the pins of `mint`.
    #[must_use]
    pub fn new(answer: splice::Answer, mint: Mint) -> Self {
        Self { answer, mint }
    }

    /// What leaves in place of `data`: never less.
    #[must_use]
    pub fn pass(&mut self, data: Bytes) -> Bytes {
        self.answer.push(data, &mut self.mint)
    }
}

impl fmt::Debug for Carriers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Carriers").field(&self.answer).finish()
    }
}
