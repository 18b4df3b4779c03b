//! Affinity by key: where on the ring a request without a session belongs.
//!
//! Of the modern era alone, in which servers must check the headers that clients mirror against the body (2026-07-28,
//! Streamable HTTP, "Server Validation").

use http::{HeaderMap, HeaderName};

use crate::{
    config::AffinityKey,
    identity::{Source, trusted::Client},
    mcp::sentinel,
    ring::{Coordinate, hash},
};

/// The place of the first key that is there; `None` if none is. What is empty, or is no value of its kind, counts as
/// absent.
#[must_use]
pub fn position(keys: &[AffinityKey], headers: &HeaderMap, client: Client) -> Option<Coordinate> {
    keys.iter().find_map(|key| match key {
        AffinityKey::Header(name) => of_header(name, headers),
        AffinityKey::Principal(source) => of_principal(source, headers, client),
        AffinityKey::ClientIp => of_principal(&Source::Address, headers, client),
    })
}

fn of_header(name: &HeaderName, headers: &HeaderMap) -> Option<Coordinate> {
    let value = headers.get(name)?.as_bytes();
    let filled = |value: &[u8]| (!value.is_empty()).then(|| hash::position(value));
    if name.as_str().starts_with("mcp-") {
        filled(sentinel::decode(value)?.as_bytes())
    } else {
        filled(value)
    }
}

fn of_principal(source: &Source, headers: &HeaderMap, client: Client) -> Option<Coordinate> {
    let credential = source.credential(headers, client)?;
    let principal = source.principal(&credential)?;
    Some(hash::position(&principal.digest(source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Client {
        Client::direct(address.parse().unwrap())
    }

    fn keys() -> Vec<AffinityKey> {
        let header = |name| AffinityKey::Header(HeaderName::from_static(name));
        vec![
            header("mcp-param-tenant"),
            header("x-tenant"),
            AffinityKey::Principal("jwt:sub".parse().unwrap()),
        ]
    }

    fn of(headers: &[(&'static str, &'static str)]) -> Option<Coordinate> {
        let parsed = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        position(&keys(), &parsed.collect(), client("192.0.2.1"))
    }

    #[test]
    fn the_first_that_is_there_decides() {
        let acme = Some(hash::position(b"acme"));
        assert_eq!(
            of(&[("mcp-param-tenant", "acme"), ("x-tenant", "other")]),
            acme
        );
        assert_eq!(of(&[("x-tenant", "acme")]), acme);
        assert_eq!(of(&[("mcp-param-tenant", ""), ("x-tenant", "acme")]), acme);
        // {"sub":"ann"}
        let token = [("authorization", "Bearer e30.eyJzdWIiOiJhbm4ifQ.x")];
        assert!(of(&token).is_some_and(|position| Some(position) != acme));
        assert_eq!(of(&[("authorization", "Bearer x"), ("x-tenant", "")]), None);
    }

    #[test]
    fn mirrored_values_are_decoded_first_and_others_are_not() {
        let name = "caf\u{e9}";
        let encoded = "=?base64?Y2Fmw6k=?=";
        let position = Some(hash::position(name.as_bytes()));
        assert_eq!(of(&[("mcp-param-tenant", encoded)]), position);
        let plain = Some(hash::position(encoded.as_bytes()));
        assert_eq!(of(&[("x-tenant", encoded)]), plain);
        assert_eq!(of(&[("mcp-param-tenant", "=?base64?!?=")]), None);
    }

    #[test]
    fn the_address_is_always_there() {
        let by_address = |peer: &str| {
            position(&[AffinityKey::ClientIp], &HeaderMap::new(), client(peer)).unwrap()
        };
        assert_eq!(by_address("192.0.2.1"), by_address("::ffff:192.0.2.1"));
        assert_ne!(by_address("192.0.2.1"), by_address("192.0.2.2"));
    }
}
