//! The pin: from a backend's own string and a coordinate to what the client sees, and back.
//!
//! A pin is `-` and 32 characters of base32 behind the backend's string. It holds its version and
//! kind, the id of the key that signed it, the coordinate, and a tag over all of them and the string
//! (contract; design: "what a client sees"). This module reads and writes pins of every kind of
//! carrier. Which backend a coordinate names is the ring's business, what to answer the router's.

mod keys;
mod recent;
mod verified;

use data_encoding::{Encoding, Specification};

use self::recent::Signed;
pub use self::{
    keys::{Binding, InvalidKeys, KeyId, Keys, LogHash, Secret, WeakSecret},
    verified::Verified,
};
use crate::ring::Coordinate;

/// Characters that a pin adds to a session id, a request state or a task's id: the hyphen and 32 more.
pub const PIN_LEN: usize = 1 + TEXT_LEN;

/// Characters of the encoded pin itself.
pub const TEXT_LEN: usize = 32;

const RAW_LEN: usize = 20;
const TAG_LEN: usize = 10;
const VERSION: u8 = 0x10;

/// What carries a pin. The number is the low nibble of the pin's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The `Mcp-Session-Id` header, revisions 2025-03-26 to 2025-11-25.
    Session = 1,
    /// The query of the `endpoint` URL, revision 2024-11-05.
    Endpoint = 2,
    /// `requestState` in bodies, revision 2026-07-28.
    RequestState = 3,
    /// The id of a task, extension `io.modelcontextprotocol/tasks`.
    Task = 4,
}

/// A string that ends in something of the shape of a pin. Nothing is proved yet: see [`Keys::verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin<'a> {
    /// The backend's own string.
    pub string: &'a [u8],
    /// Where it was found.
    pub kind: Kind,
    /// The key that is said to have signed it.
    pub key: KeyId,
    /// The virtual node that it names.
    pub coordinate: Coordinate,
    tag: [u8; TAG_LEN],
}

/// What the keys say about a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The tag verifies.
    Good,
    /// A key with this id is here, and the tag is not its.
    Forged,
    /// No key with this id is here, so that nothing can be said.
    UnknownKey,
}

impl Kind {
    /// What carries it, in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session id (Mcp-Session-Id)",
            Self::Endpoint => "endpoint URL of HTTP+SSE",
            Self::RequestState => "requestState",
            Self::Task => "task id",
        }
    }
}

impl<'a> Pin<'a> {
    /// Reads the pin of whatever carries one: a session id, a request state, a task's id, or a URL of HTTP+SSE.
    #[must_use]
    pub fn find(text: &'a str) -> Option<Self> {
        let kinds = [Kind::Session, Kind::RequestState, Kind::Task];
        let with_hyphen = kinds
            .into_iter()
            .find_map(|kind| Self::parse(kind, text.as_bytes()));
        with_hyphen.or_else(|| {
            let query = text.rsplit_once('?').map_or(text, |(_, query)| query);
            let (before, encoded) = query.rsplit_once("pinring=")?;
            let own = before.strip_suffix('&').unwrap_or(before);
            Self::parse_encoded(Kind::Endpoint, own.as_bytes(), encoded.as_bytes())
        })
    }

    /// Reads a pin of `kind` at the end of `text`; `None` if what stands there has not its shape.
    ///
    /// The string before it may hold anything, even another pin: exactly one is taken off.
    #[must_use]
    pub fn parse(kind: Kind, text: &'a [u8]) -> Option<Self> {
        let at = text.len().checked_sub(PIN_LEN).filter(|at| *at > 0)?;
        let (string, pin) = text.split_at(at);
        match pin.split_first() {
            Some((b'-', encoded)) => Self::parse_encoded(kind, string, encoded),
            _ => None,
        }
    }

    /// Reads the 32 characters of a pin that stand apart from the backend's string, as in a query.
    #[must_use]
    pub fn parse_encoded(kind: Kind, string: &'a [u8], encoded: &[u8]) -> Option<Self> {
        if encoded.len() != TEXT_LEN {
            return None;
        }
        let mut raw = [0; RAW_LEN];
        alphabet().decode_mut(encoded, &mut raw).ok()?;
        let [first, key, rest @ ..] = raw;
        if first != VERSION | kind as u8 {
            return None;
        }
        let (coordinate, tag) = rest.split_first_chunk::<8>()?;
        Some(Self {
            string,
            kind,
            key: KeyId(key),
            coordinate: Coordinate(u64::from_be_bytes(*coordinate)),
            tag: tag.try_into().ok()?,
        })
    }
}

impl Keys {
    /// The 32 characters that pin `string` to `coordinate`, signed with the first key.
    #[must_use]
    pub fn mint(
        &self,
        kind: Kind,
        coordinate: Coordinate,
        binding: Option<&Binding>,
        string: &[u8],
    ) -> [u8; TEXT_LEN] {
        let key = self.signing();
        let mut raw = [0; RAW_LEN];
        raw[0] = VERSION | kind as u8;
        raw[1] = key.id().0;
        raw[2..10].copy_from_slice(&coordinate.0.to_be_bytes());
        let tag = key.tag(&raw[..10], binding, string);
        raw[10..].copy_from_slice(&tag);
        let mut text = [0; TEXT_LEN];
        alphabet().encode_mut(&raw, &mut text);
        text
    }

    /// Checks a pin's tag, in constant time.
    #[must_use]
    pub fn verify(&self, pin: &Pin<'_>, binding: Option<&Binding>) -> Verdict {
        let Some(key) = self.find(pin.key) else {
            return Verdict::UnknownKey;
        };
        let mut head = [0; 10];
        head[0] = VERSION | pin.kind as u8;
        head[1] = pin.key.0;
        head[2..].copy_from_slice(&pin.coordinate.0.to_be_bytes());
        let signed = Signed {
            key: key.number(),
            head,
            binding,
            string: pin.string,
        };
        if recent::knows(signed, &pin.tag) {
            return Verdict::Good;
        }
        if key.verifies(&head, binding, pin.string, &pin.tag) {
            recent::remember(signed, &pin.tag);
            Verdict::Good
        } else {
            Verdict::Forged
        }
    }
}

/// Base32 of RFC 4648 in lower case, without padding; 20 bytes are 32 characters with no bit to spare.
fn alphabet() -> &'static Encoding {
    static ALPHABET: std::sync::LazyLock<Encoding> = std::sync::LazyLock::new(|| {
        let mut specification = Specification::new();
        specification
            .symbols
            .push_str("abcdefghijklmnopqrstuvwxyz234567");
        specification
            .encoding()
            .expect("32 distinct ASCII symbols are an encoding")
    });
    &ALPHABET
}

#[cfg(test)]
mod tests;
