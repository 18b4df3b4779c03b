//! Session ids: the one that a server issued and the one that its client sees are two types.
//!
//! Only [`crate::pin`] knows how to turn one into the other. Neither shows itself in `Debug`.

use std::fmt;

use http::HeaderValue;

/// Longest session id of a server, in bytes. The specification sets no limit; other gateways take 128
/// characters, JWTs as ids reach a few hundred.
pub const MAX_LEN: usize = 4096;

/// Longest session id of a client: a server's, with its pin.
pub const MAX_CLIENT_LEN: usize = MAX_LEN + 33;

/// Why a header's value cannot be a session id.
///
/// MCP 2025-11-25, Transports, "Session Management": an id MUST hold only visible ASCII, 0x21 to 0x7E.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session id is 1 to 4096 visible ASCII characters, without its pin")]
pub struct InvalidSessionId;

fn check(value: HeaderValue, longest: usize) -> Result<HeaderValue, InvalidSessionId> {
    let fits = (1..=longest).contains(&value.len());
    if fits && is_graphic(value.as_bytes()) {
        Ok(value)
    } else {
        Err(InvalidSessionId)
    }
}

/// Whether all are visible ASCII.
#[must_use]
pub fn is_graphic(bytes: &[u8]) -> bool {
    // To stop at the first that is not would cost four instructions a byte: so it is done with 16 at once.
    bytes
        .iter()
        .fold(true, |all, byte| all & byte.is_ascii_graphic())
}

macro_rules! session_id {
    ($(#[$doc:meta])* $name:ident, $longest:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(HeaderValue);

        impl $name {
            /// The id's bytes: visible ASCII.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }

            /// The id as a header's value.
            #[must_use]
            pub fn into_value(self) -> HeaderValue {
                self.0
            }
        }

        impl TryFrom<HeaderValue> for $name {
            type Error = InvalidSessionId;

            fn try_from(value: HeaderValue) -> Result<Self, InvalidSessionId> {
                check(value, $longest).map(Self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({} bytes)"), self.0.len())
            }
        }
    };
}

session_id! {
    /// The id that a backend issued.
    ServerSessionId, MAX_LEN
}

session_id! {
    /// The id that a client holds: a backend's, with a pin, or without one from before pinring came.
    ClientSessionId, MAX_CLIENT_LEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_visible_ascii_of_a_sane_length_is_an_id() {
        let id = |bytes: &[u8]| ServerSessionId::try_from(HeaderValue::from_bytes(bytes).unwrap());
        assert!(id(b"!~").is_ok() && id(&[b'a'; MAX_LEN]).is_ok());
        for bad in [&b""[..], b"a b", b"a\tb", b"\xff", &[b'a'; MAX_LEN + 1]] {
            assert_eq!(id(bad), Err(InvalidSessionId));
        }
    }

    #[test]
    fn an_id_never_shows_itself() {
        let id = ClientSessionId::try_from(HeaderValue::from_static("sesame")).unwrap();
        assert_eq!(format!("{id:?}"), "ClientSessionId(6 bytes)");
    }
}
