//! Who makes a request, as far as the request itself tells: the principal that sessions are counted by, and that
//! they are bound to.
//!
//! A JWT's claims are read without verifying them, because the backend verifies it: what is made of a
//! principal must therefore wait for the backend's answer (design, section 6). Where the client is, and which headers
//! may say so, is the business of [`trusted`]. Nothing here knows keys, and nothing is ever logged.

pub mod trusted;

use std::{borrow::Cow, fmt, net::IpAddr};

use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use self::trusted::Client;

/// The longest token that is looked into. Identity providers stay below 8 KiB, for servers refuse longer heads.
const MOST_TOKEN_BYTES: usize = 16 * 1024;

/// Who counts as one and the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Whoever the bearer token says: its issuer and this claim of it.
    Jwt {
        /// The claim's name, such as `sub`.
        claim: Box<str>,
    },
    /// Whoever a trusted proxy says by this header.
    Header(HeaderName),
    /// Whoever connects from one IPv4 address, or one /64 of IPv6.
    Address,
}

/// Why a text names no [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSource {
    /// `header:` and what is no header's name.
    #[error("no header has such a name")]
    HeaderName,
    /// Anything else.
    #[error("write \"jwt:CLAIM\", such as \"jwt:sub\", \"header:NAME\" or \"address\"")]
    Unknown,
}

impl std::str::FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        match text.split_once(':') {
            None if text == "address" => Ok(Self::Address),
            Some(("jwt", claim)) if !claim.is_empty() => Ok(Self::Jwt {
                claim: claim.into(),
            }),
            Some(("header", name)) => name
                .parse()
                .map(Self::Header)
                .map_err(|_| InvalidSource::HeaderName),
            Some(_) | None => Err(InvalidSource::Unknown),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jwt { claim } => write!(f, "jwt:{claim}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Address => f.write_str("address"),
        }
    }
}

/// What a request shows of its maker, not looked into yet. Cheap to make: only few requests need more.
#[derive(Clone)]
pub enum Credential {
    /// The value of `Authorization`.
    Authorization(HeaderValue),
    /// What a trusted proxy says.
    Header(HeaderValue),
    /// Where it comes from.
    Address(IpAddr),
}

impl Credential {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Authorization(value) | Self::Header(value) => Cow::Borrowed(value.as_bytes()),
            Self::Address(address) => Cow::Owned(network(*address)),
        }
    }
}

/// Tokens are never logged.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authorization(_) => "Authorization(…)",
            Self::Header(_) => "Header(…)",
            Self::Address(_) => "Address(…)",
        })
    }
}

/// Somebody, by a string that only he has.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal(Vec<u8>);

impl Principal {
    /// SHA-256 of the source's name, a zero byte and the principal.
    #[must_use]
    pub fn digest(&self, source: &Source) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(source.to_string());
        hasher.update([0]);
        hasher.update(&self.0);
        hasher.finalize().into()
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Principal(…)")
    }
}

impl Source {
    /// What the request with these headers, of `client`, shows; `None` if nothing.
    ///
    /// Of several `Authorization` the first counts, as in the servers of the SDKs.
    #[must_use]
    pub fn credential(&self, headers: &HeaderMap, client: Client) -> Option<Credential> {
        match self {
            Self::Jwt { .. } => headers
                .get(header::AUTHORIZATION)
                .cloned()
                .map(Credential::Authorization),
            Self::Header(name) if client.by_trusted => {
                only(headers, name).cloned().map(Credential::Header)
            }
            Self::Header(_) => None,
            Self::Address => Some(Credential::Address(client.address)),
        }
    }

    /// Whose the credential is; `None` where it does not say, as of every token that is malformed.
    #[must_use]
    pub fn principal(&self, credential: &Credential) -> Option<Principal> {
        match (self, credential) {
            (Self::Jwt { claim }, Credential::Authorization(value)) => {
                named(bearer(value.as_bytes())?, claim).map(Principal)
            }
            (Self::Header(_), Credential::Header(value)) => {
                (!value.is_empty()).then(|| Principal(value.as_bytes().to_vec()))
            }
            (Self::Address, Credential::Address(address)) => Some(Principal(network(*address))),
            (Self::Jwt { .. } | Self::Header(_) | Self::Address, _) => None,
        }
    }

    /// The digest of whoever makes the request with these headers, to bind his sessions to; `None` if it names nobody.
    ///
    /// Several `Authorization` name nobody: a server that heeds another than the first would take the thief of a
    /// session, with a made-up token of its owner before his own, for himself.
    #[must_use]
    pub fn binding(&self, headers: &HeaderMap, client: Client) -> Option<[u8; 32]> {
        if matches!(self, Self::Jwt { .. }) {
            only(headers, &header::AUTHORIZATION)?;
        }
        let principal = self.principal(&self.credential(headers, client)?)?;
        Some(principal.digest(self))
    }
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The token of an `Authorization` with the scheme `Bearer`, which is written in any case (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    let token = token.trim_ascii();
    let fits = scheme.eq_ignore_ascii_case(b"Bearer ") && token.len() <= MOST_TOKEN_BYTES;
    fits.then_some(token)
}

/// The issuer, a zero byte, and the claim of a signed token in its compact form (RFC 7515, section 7.1).
fn named(token: &[u8], claim: &str) -> Option<Vec<u8>> {
    let mut parts = token.split(|byte| *byte == b'.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None; // encrypted: nobody but the backend can read it
    }
    let payload = BASE64URL_NOPAD.decode(payload).ok()?;
    // Nesting beyond 128 levels is an error of serde_json's, and no overflow.
    let Value::Object(claims) = serde_json::from_slice(&payload).ok()? else {
        return None;
    };
    let issuer = match claims.get("iss") {
        None => "",
        Some(issuer) => issuer.as_str()?,
    };
    let claim = match claims.get(claim)? {
        Value::String(claim) => Cow::Borrowed(claim.as_str()),
        Value::Number(number) if !number.is_f64() => Cow::Owned(number.to_string()),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return None;
        }
    };
    // With a zero byte in it, one issuer could name the users of another.
    if claim.is_empty() || issuer.contains('\0') {
        return None;
    }
    Some([issuer.as_bytes(), b"\0", claim.as_bytes()].concat())
}

/// What one customer of a network has: an IPv4 address, or the first 64 bits of an IPv6 address, of which each
/// may use any number.
fn network(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    }
}

#[cfg(test)]
mod tests;
