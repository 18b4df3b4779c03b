//! Which of the headers are there that something is done with: found in one look over a head's names.
//!
//! To ask a map for a name costs a hash and a search, and nearly all that is asked for is not there.

use http::{HeaderMap, header};

/// A set of headers, or of kinds of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen(u16);

impl Seen {
    /// What is of one connection (RFC 9110, section 7.6.1), and `Expect`, which pinring answers itself.
    pub const OF_CONNECTION: Self = Self(1);
    /// `Connection`, which may name more of that kind.
    pub const CONNECTION: Self = Self(1 << 1);
    /// `Transfer-Encoding`.
    pub const CODING: Self = Self(1 << 2);
    /// A `Content-Length` that somebody could read otherwise: not in the shortest digits, or not alone.
    pub const ODD_LENGTH: Self = Self(1 << 3);
    /// `Expect`.
    pub const EXPECT: Self = Self(1 << 4);
    /// `Upgrade`.
    pub const UPGRADE: Self = Self(1 << 5);
    /// `Host`.
    pub const HOST: Self = Self(1 << 6);
    /// `Origin`.
    pub const ORIGIN: Self = Self(1 << 7);
    /// What proxies say of the way before: `Forwarded`, `X-Forwarded-*`.
    pub const FORWARDED: Self = Self(1 << 8);
    /// `X-Request-Id`.
    pub const REQUEST_ID: Self = Self(1 << 9);
    /// A name with `_`, which some servers take for `-`.
    pub const UNDERSCORE: Self = Self(1 << 10);
    /// `Access-Control-Expose-Headers`.
    pub const EXPOSED: Self = Self(1 << 11);

    /// What there is of it among `headers`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        let mut lengths = 0;
        for (name, value) in headers {
            if *name == header::CONTENT_LENGTH {
                lengths += 1;
                if lengths > 1 || !is_plain_number(value.as_bytes()) {
                    seen = seen.or(Self::ODD_LENGTH);
                }
            } else {
                seen = seen.or(Self::of_name(name.as_str()));
            }
        }
        seen
    }

    /// What a header of this name, in lower case, is.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        match name {
            "host" => Self::HOST,
            "connection" => Self::CONNECTION.or(Self::OF_CONNECTION),
            "transfer-encoding" => Self::CODING.or(Self::OF_CONNECTION),
            "expect" => Self::EXPECT.or(Self::OF_CONNECTION),
            "upgrade" => Self::UPGRADE.or(Self::OF_CONNECTION),
            "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer" => Self::OF_CONNECTION,
            "origin" => Self::ORIGIN,
            "forwarded" => Self::FORWARDED,
            "x-request-id" => Self::REQUEST_ID,
            "access-control-expose-headers" => Self::EXPOSED,
            other if other.starts_with("x-forwarded-") => Self::FORWARDED,
            other if has_underscore(other.as_bytes()) => Self::UNDERSCORE,
            _ => Self::default(),
        }
    }

    /// Both.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any of these is there.
    #[must_use]
    pub const fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }
}

/// Names are short: to look at each byte takes no longer than to find out where to stop.
fn has_underscore(name: &[u8]) -> bool {
    name.iter().fold(false, |has, byte| has | (*byte == b'_'))
}

/// Whether everybody reads these digits alike: not `007`, not `7, 7`.
fn is_plain_number(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_digit)
        && match digits {
            [] => false,
            [b'0', _, ..] => false,
            _ => digits.len() < 20,
        }
}
