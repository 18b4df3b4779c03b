//! Passes over a value that cannot hold a carrier.
//!
//! In strings only their end is looked for, outside of them only quotes and brackets, of whichever kind.

use memchr::memchr2;

/// A value that is passed over.
#[derive(Debug)]
pub(super) struct Skipped {
    /// Brackets that are open.
    depth: u64,
    quoted: Quoted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoted {
    No,
    Yes,
    /// After a backslash.
    Escaped,
}

impl Skipped {
    /// Begins a value with its first byte, a quote or an opening bracket.
    pub(super) fn begin(byte: u8) -> Self {
        if byte == b'"' {
            Self {
                depth: 0,
                quoted: Quoted::Yes,
            }
        } else {
            Self {
                depth: 1,
                quoted: Quoted::No,
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.depth == 0 && self.quoted == Quoted::No
    }

    /// Reads on to the value's end. Returns how many bytes were its.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while !self.is_over() {
            let rest = &bytes[at..];
            let found = match self.quoted {
                Quoted::Yes => memchr2(b'"', b'\\', rest),
                Quoted::Escaped => (!rest.is_empty()).then_some(0),
                Quoted::No => rest.iter().position(|byte| STRUCTURE[usize::from(*byte)]),
            };
            let Some(found) = found else {
                return bytes.len();
            };
            self.take(rest[found]);
            at += found + 1;
        }
        at
    }

    fn take(&mut self, byte: u8) {
        match (self.quoted, byte) {
            (Quoted::Escaped, _) => self.quoted = Quoted::Yes,
            (Quoted::Yes, b'\\') => self.quoted = Quoted::Escaped,
            (Quoted::Yes, _) => self.quoted = Quoted::No,
            (Quoted::No, b'"') => self.quoted = Quoted::Yes,
            (Quoted::No, b'{' | b'[') => self.depth += 1,
            (Quoted::No, _) => self.depth -= 1,
        }
    }
}

/// What matters in a skipped value, outside of its strings.
static STRUCTURE: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    let bytes = b"\"{}[]";
    while at < bytes.len() {
        table[bytes[at] as usize] = true;
        at += 1;
    }
    table
};
