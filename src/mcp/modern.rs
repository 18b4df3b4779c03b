//! A request of the stateless revisions: where it may hold what a server made.
//!
//! 2026-07-28, Streamable HTTP, "Standard Request Headers": each request says its method in `Mcp-Method`, and servers
//! check that against the body. Only by it is decided whether a body is worth reading.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Method, request::Parts};

use super::{era, session::ClientSessionId, splice::Carrier};

/// A request of the stateless revisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modern {
    /// The session id, if there is a usable one. Servers are to ignore it, but it may still tell where the client's
    /// state is.
    pub session: Option<ClientSessionId>,
    /// Where the request may hold carriers.
    pub carries: Carries,
    /// Those that it holds, in the order in which they decide. None as long as nobody has looked.
    pub carriers: Vec<Carried>,
    /// The position on the ring at which it belongs where nothing that it holds decides. None unless its pool says how.
    pub affinity: Option<u64>,
}

/// Where a request may hold carriers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Carries {
    /// Nowhere.
    #[default]
    Nothing,
    /// In its body.
    InBody,
    /// In the filter of its body, possibly many: `subscriptions/listen`.
    InFilter,
    /// In its body and in `Mcp-Name`, which then are to agree: a request about one task.
    InBodyAndName,
}

impl Carries {
    /// Tells it by the head.
    #[must_use]
    pub fn of(head: &Parts) -> Self {
        if head.method != Method::POST {
            return Self::Nothing;
        }
        match only(&head.headers, &era::METHOD).map(HeaderValue::as_bytes) {
            Some(b"tools/call" | b"prompts/get" | b"resources/read") => Self::InBody,
            Some(b"subscriptions/listen") => Self::InFilter,
            Some(method) if method.starts_with(b"tasks/") => Self::InBodyAndName,
            Some(_) | None => Self::Nothing,
        }
    }
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// A string of a request that a backend may have made.
#[derive(Clone, PartialEq, Eq)]
pub struct Carried {
    /// What it is.
    pub carrier: Carrier,
    /// As the client means it: decoded.
    pub string: String,
}

/// What a server sealed into it is nobody's business.
impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({} bytes)", self.carrier, self.string.len())
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn carries(method: &str, names: &[&str]) -> Carries {
        let mut request = Request::builder().method(method);
        for name in names {
            request = request.header("Mcp-Method", *name);
        }
        Carries::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn only_methods_that_can_carry_are_looked_into() {
        for method in ["tools/call", "prompts/get", "resources/read"] {
            assert_eq!(carries("POST", &[method]), Carries::InBody, "{method}");
        }
        let listens = carries("POST", &["subscriptions/listen"]);
        assert_eq!(listens, Carries::InFilter);
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            assert_eq!(
                carries("POST", &[method]),
                Carries::InBodyAndName,
                "{method}"
            );
        }
        for method in ["tools/list", "server/discover", "tasks", "Tools/Call", ""] {
            assert_eq!(carries("POST", &[method]), Carries::Nothing, "{method}");
        }
        assert_eq!(carries("GET", &["tools/call"]), Carries::Nothing);
        assert_eq!(carries("POST", &[]), Carries::Nothing);
        assert_eq!(
            carries("POST", &["tools/call", "tools/list"]),
            Carries::Nothing
        );
    }
}
