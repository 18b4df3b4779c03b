//! Who makes a request, as far as the request itself tells: the principal that sessions are counted by.
//!
//! A JWT's claims are read without verifying them, because the backend verifies it: what is made of a
//! principal must therefore wait for the backend's answer (design, section 6). Nothing here knows keys,
//! and nothing is ever logged.

use std::{borrow::Cow, fmt, net::IpAddr};

use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

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
    /// Whoever connects from one IPv4 address, or one /64 of IPv6.
    Address,
}

/// Why a text names no [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSource {
    /// Such as `header:NAME`, which needs to know whom to believe.
    #[error("header:NAME is not yet supported by this version; write \"jwt:CLAIM\" or \"address\"")]
    NotYet,
    /// Anything else.
    #[error("write \"jwt:CLAIM\", such as \"jwt:sub\", or \"address\"")]
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
            Some(("header", name)) if !name.is_empty() => Err(InvalidSource::NotYet),
            Some(_) | None => Err(InvalidSource::Unknown),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jwt { claim } => write!(f, "jwt:{claim}"),
            Self::Address => f.write_str("address"),
        }
    }
}

/// What a request shows of its maker, not looked into yet. Cheap to make: only few requests need more.
#[derive(Clone)]
pub enum Credential {
    /// The value of `Authorization`.
    Authorization(HeaderValue),
    /// Where it comes from.
    Address(IpAddr),
}

impl Credential {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Authorization(value) => Cow::Borrowed(value.as_bytes()),
            Self::Address(address) => Cow::Owned(network(*address)),
        }
    }
}

/// Tokens are never logged.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authorization(_) => "Authorization(…)",
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
    /// What the request with these headers, of a client at `peer`, shows; `None` if nothing.
    ///
    /// Of several `Authorization` the first counts, as in the servers of the SDKs.
    #[must_use]
    pub fn credential(&self, headers: &HeaderMap, peer: IpAddr) -> Option<Credential> {
        match self {
            Self::Jwt { .. } => headers
                .get(header::AUTHORIZATION)
                .cloned()
                .map(Credential::Authorization),
            Self::Address => Some(Credential::Address(peer)),
        }
    }

    /// Whose the credential is; `None` where it does not say, as of every token that is malformed.
    #[must_use]
    pub fn principal(&self, credential: &Credential) -> Option<Principal> {
        match (self, credential) {
            (Self::Jwt { claim }, Credential::Authorization(value)) => {
                named(bearer(value.as_bytes())?, claim).map(Principal)
            }
            (Self::Address, Credential::Address(address)) => Some(Principal(network(*address))),
            (Self::Jwt { .. }, Credential::Address(_))
            | (Self::Address, Credential::Authorization(_)) => None,
        }
    }
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
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    fn source(text: &str) -> Source {
        text.parse().unwrap()
    }

    fn token(payload: &str) -> String {
        let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        format!(
            "{}.{}.{}",
            part("{\"alg\":\"RS256\"}"),
            part(payload),
            part("signature")
        )
    }

    /// The principal by `source` of a request with this `Authorization`.
    fn of(source: &Source, authorization: &[u8]) -> Option<Vec<u8>> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::AUTHORIZATION,
            HeaderValue::from_bytes(authorization).ok()?,
        );
        let credential = source.credential(&headers, IpAddr::from([192, 0, 2, 1]))?;
        source.principal(&credential).map(|Principal(name)| name)
    }

    fn of_payload(payload: &str) -> Option<Vec<u8>> {
        of(
            &source("jwt:sub"),
            format!("Bearer {}", token(payload)).as_bytes(),
        )
    }

    #[test]
    fn a_token_names_its_issuer_and_the_claim() {
        let payload = "{\"aud\": [\"x\"], \"iss\": \"https://id.example\", \"sub\": \"ann\"}";
        assert_eq!(of_payload(payload).unwrap(), b"https://id.example\0ann");
        let bearer = format!("bEARER  {} ", token(payload));
        assert_eq!(
            of(&source("jwt:sub"), bearer.as_bytes()).unwrap(),
            b"https://id.example\0ann"
        );
        assert_eq!(of_payload("{\"sub\": 42}").unwrap(), b"\x0042");
        let other = of(&source("jwt:email"), bearer.as_bytes());
        assert_eq!(other, None, "the token has no such claim");
    }

    #[test]
    fn what_is_no_signed_token_names_nobody() {
        for payload in [
            "",
            "{",
            "[]",
            "\"ann\"",
            "{}",
            "{\"sub\": \"\"}",
            "{\"sub\": null}",
            "{\"sub\": 1.5}",
            "{\"sub\": [\"ann\"]}",
            "{\"sub\": {\"sub\": \"ann\"}}",
            "{\"iss\": 1, \"sub\": \"ann\"}",
            "{\"iss\": \"a\\u0000b\", \"sub\": \"ann\"}",
            "{\"sub\": \"\\ud800\"}",
        ] {
            assert_eq!(of_payload(payload), None, "{payload}");
        }
        let deep = format!("{{\"sub\": {}{}}}", "[".repeat(6000), "]".repeat(6000));
        assert_eq!(of_payload(&deep), None);
        let long = format!("{{\"sub\": \"{}\"}}", "x".repeat(MOST_TOKEN_BYTES));
        assert_eq!(of_payload(&long), None);
        let good = token("{\"sub\": \"ann\"}");
        let (signed, _) = good.rsplit_once('.').unwrap();
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Basic YTpi",
            &good,
            signed,
            &format!("Bearer {signed}"),
            &format!("Bearer {good}.x"),
            &format!("Bearer {good}.x.y"),
            "Bearer ...",
            "Bearer a.b.c",
        ] {
            assert_eq!(of(&source("jwt:sub"), value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn an_address_names_a_network_and_nothing_else_does() {
        let by = source("address");
        let name = |address: &str| {
            let credential = by.credential(&HeaderMap::new(), address.parse().unwrap());
            by.principal(&credential.unwrap()).unwrap()
        };
        assert_eq!(name("192.0.2.1"), name("::ffff:192.0.2.1"));
        assert_ne!(name("192.0.2.1"), name("192.0.2.2"));
        assert_eq!(name("2001:db8::1"), name("2001:db8::2:3"));
        assert_ne!(name("2001:db8::1"), name("2001:db8:0:1::1"));
    }

    #[test]
    fn one_name_by_two_sources_is_two_principals() {
        let principal = Principal(b"https://id.example\0ann".to_vec());
        assert_ne!(
            principal.digest(&source("jwt:sub")),
            principal.digest(&source("jwt:name"))
        );
        // hashlib.sha256(b"jwt:sub\0https://id.example\0ann")
        let expected = "e8fc893304f8e103b4a3798b7fc90bdd2f5731b535cbb762234ce186dae0c8c9";
        assert_eq!(
            HEXLOWER.encode(&principal.digest(&source("jwt:sub"))),
            expected
        );
    }

    #[test]
    fn nothing_of_a_token_is_shown() {
        let by = source("jwt:sub");
        let mut headers = HeaderMap::new();
        let value = format!("Bearer {}", token("{\"sub\": \"ann\"}"));
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        let credential = by
            .credential(&headers, IpAddr::from([192, 0, 2, 1]))
            .unwrap();
        let shown = format!("{credential:?} {:?}", by.principal(&credential));
        assert_eq!(shown, "Authorization(…) Some(Principal(…))");
    }

    #[test]
    fn sources_are_read_and_written_in_one_way() {
        for text in ["address", "jwt:sub", "jwt:https://a.example/uid"] {
            assert_eq!(source(text).to_string(), text);
        }
        for text in ["", "jwt", "jwt:", "Address", "sub", "header:"] {
            assert_eq!(
                text.parse::<Source>(),
                Err(InvalidSource::Unknown),
                "{text}"
            );
        }
        assert_eq!(
            "header:X-User".parse::<Source>(),
            Err(InvalidSource::NotYet)
        );
    }

    proptest! {
        #[test]
        fn no_authorization_panics(value in prop::collection::vec(any::<u8>(), 0..200)) {
            let _named = of(&source("jwt:sub"), &value);
            let _named = of(&source("jwt:sub"), &[b"Bearer ", &value[..]].concat());
        }

        #[test]
        fn no_payload_panics(payload in "\\PC{0,60}", sub in "\\PC{0,20}") {
            let _named = of_payload(&payload);
            let claims = serde_json::json!({ "iss": payload, "sub": sub }).to_string();
            let wanted = [payload.as_bytes(), b"\0", sub.as_bytes()].concat();
            prop_assert_eq!(of_payload(&claims), (!sub.is_empty()).then_some(wanted));
        }
    }
}
