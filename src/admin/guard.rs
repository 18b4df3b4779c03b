//! Who may ask at the admin listener, and who may change something.
//!
//! Whoever can open the Unix socket is the owner. Over TCP everybody reads who can connect, but no web page: one of
//! another origin is refused, and so is one that had its own name lead here (DNS rebinding), since a browser then asks
//! with that name. Changes over TCP need the token.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, header, request};

use super::api::Fault;
use crate::config::Token;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visitor {
    /// Whoever can open the Unix socket; the number of the user, where the kernel knows it.
    Owner(Option<u32>),
    /// Somebody at this address.
    Remote(SocketAddr),
}

impl Visitor {
    /// The user, for the log.
    pub(super) fn user(self) -> Option<u32> {
        match self {
            Self::Owner(user) => user,
            Self::Remote(_) => None,
        }
    }

    /// The address, for the log.
    pub(super) fn peer(self) -> Option<SocketAddr> {
        match self {
            Self::Owner(_) => None,
            Self::Remote(peer) => Some(peer),
        }
    }
}

/// What a request shows of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// The token.
    Right,
    /// Another one.
    Wrong,
    /// None.
    Nothing,
}

impl Shown {
    /// What `headers` show of `token`.
    pub(super) fn of(headers: &HeaderMap, token: Option<&Token>) -> Self {
        let Some(shown) = bearer(headers) else {
            return Self::Nothing;
        };
        match token {
            Some(token) if token.is(shown) => Self::Right,
            Some(_) | None => Self::Wrong,
        }
    }
}

/// What stands behind `Bearer` in the one `Authorization`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    let (scheme, rest) = value.split_at_checked("Bearer ".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer ") && values.next().is_none();
    is_bearer.then(|| rest.trim_ascii())
}

/// Lets a request over TCP pass that no web page of elsewhere can have caused.
///
/// # Errors
///
/// Where one can.
pub(super) fn check_page(head: &request::Parts, shown: Shown) -> Result<(), Fault> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => hosts.next().and_then(|host| host.to_str().ok()),
    };
    let host = host.ok_or_else(|| Fault::host(None))?;
    // No page knows the token.
    if shown != Shown::Right && (!is_own(host) || hosts.next().is_some()) {
        return Err(Fault::host(Some(host)));
    }
    let is_of = |origin: &[u8]| {
        let origin = std::str::from_utf8(origin).ok();
        let origin = origin.and_then(|origin| origin.strip_prefix("http://"));
        origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
    };
    let mut origins = head.headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => Ok(()),
        (Some(origin), None) if is_of(origin.as_bytes()) => Ok(()),
        (Some(_), _) => Err(Fault::origin()),
    }
}

/// Lets a change over TCP pass that shows the `token`.
///
/// # Errors
///
/// Where it does not.
pub(super) fn check_token(shown: Shown, token: Option<&Token>) -> Result<(), Fault> {
    match (shown, token) {
        (Shown::Right, _) => Ok(()),
        (_, None) => Err(Fault::no_token()),
        (Shown::Wrong, Some(_)) => Err(Fault::token_wrong()),
        (Shown::Nothing, Some(_)) => Err(Fault::token_missing()),
    }
}

/// Whether nobody else can have a name of his own lead here by that: an address, or the name that each machine has
/// for itself (RFC 6761, section 6.3).
fn is_own(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let literal = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    literal.unwrap_or(name).parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn passes(headers: &[(&str, &str)]) -> bool {
        check_page(&head(headers), Shown::Nothing).is_ok()
    }

    #[test]
    fn a_name_that_anybody_can_have_lead_here_is_refused() {
        for good in [
            "127.0.0.1:9901",
            "localhost:9901",
            "LOCALHOST",
            "[::1]:9901",
            "10.1.2.3",
            "[fd00::1]",
        ] {
            assert!(passes(&[("host", good)]), "{good}");
        }
        for bad in [
            "evil.example:9901",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9901",
            "",
            "::1:x",
        ] {
            assert!(!passes(&[("host", bad)]), "{bad}");
        }
        assert!(!passes(&[]));
        assert!(!passes(&[("host", "127.0.0.1"), ("host", "127.0.0.1")]));
        let named = head(&[("host", "pinring.svc:9901")]);
        assert!(
            check_page(&named, Shown::Right).is_ok(),
            "no page has the token"
        );
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let from = |origin| passes(&[("host", "127.0.0.1:9901"), ("origin", origin)]);
        assert!(from("http://127.0.0.1:9901"));
        for bad in [
            "https://evil.example",
            "null",
            "http://127.0.0.1:8000",
            "http://localhost:9901",
        ] {
            assert!(!from(bad), "{bad}");
        }
        let two = [
            ("host", "localhost"),
            ("origin", "http://localhost"),
            ("origin", "http://localhost"),
        ];
        assert!(!passes(&two));
        let with_token = head(&[("host", "localhost"), ("origin", "https://evil.example")]);
        assert!(check_page(&with_token, Shown::Right).is_err());
    }

    #[test]
    fn a_change_needs_the_token_and_says_what_is_missing() {
        let token = Token::try_new(b"0123456789abcdef").unwrap();
        let told = |value: Option<&str>, token: Option<&Token>| {
            let headers = value.map(|value| ("authorization", value));
            let head = head(headers.as_slice());
            check_token(Shown::of(&head.headers, token), token).map_err(|fault| fault.reason)
        };
        let token = Some(&token);
        assert_eq!(told(Some("Bearer 0123456789abcdef"), token), Ok(()));
        assert_eq!(told(Some("bearer 0123456789abcdef"), token), Ok(()));
        assert_eq!(
            told(Some("Bearer 0123456789abcdeF"), token),
            Err("token_wrong".to_owned())
        );
        assert_eq!(
            told(Some("Basic x"), token),
            Err("token_missing".to_owned())
        );
        assert_eq!(told(None, token), Err("token_missing".to_owned()));
        assert_eq!(
            told(Some("Bearer 0123456789abcdef"), None),
            Err("changes_refused".to_owned())
        );
    }
}
