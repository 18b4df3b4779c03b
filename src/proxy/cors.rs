//! Web pages: whose may ask at all, and what a browser is told before it lets one of another origin ask and read
//! (Fetch, "HTTP extensions").
//!
//! Around the six phases, and pure: nothing here is done where `[cors]` is not configured, but for one look at `Origin`.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
        ORIGIN, VARY,
    },
    request,
};

use crate::config::{Cors, Origins};

const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

/// 2026-07-28, Streamable HTTP, "Custom Headers from Tool Parameters". Browsers ask in lower case.
const PARAM: &str = "mcp-param-";

/// The page that a request comes from may not send it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pages of {0} may not ask here: see server.allowed_origins and cors.origins")]
pub struct ForeignOrigin(Box<str>);

impl ForeignOrigin {
    fn of(origin: &HeaderValue) -> Self {
        Self(format!("{origin:?}").into()) // quoted and escaped
    }
}

/// Lets requests pass that come from no page, or from one that may ask (2025-11-25 and later, Transports, "Security
/// Warning": 403; earlier revisions ask for the check alone).
///
/// # Errors
///
/// Where `Origin` names another page, or there are several.
pub fn check_origin(headers: &HeaderMap, allowed: &Origins) -> Result<(), ForeignOrigin> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return Ok(());
    };
    let is_one = origins.next().is_none();
    if allowed.is_any() || (is_one && allowed.contains(origin.as_bytes())) {
        Ok(())
    } else {
        Err(ForeignOrigin::of(origin))
    }
}

/// The page that a request comes from, if it comes from one.
#[derive(Debug)]
pub struct Page {
    cors: Arc<Cors>,
    /// Of a page that may read the answer.
    reader: Option<HeaderValue>,
}

impl Page {
    /// Looks who sends a request with these headers.
    #[must_use]
    pub fn of(headers: &HeaderMap, cors: &Arc<Cors>) -> Self {
        let reader = headers.get(ORIGIN);
        let reader = reader.filter(|origin| cors.origins.contains(origin.as_bytes()));
        Self {
            cors: Arc::clone(cors),
            reader: reader.cloned(),
        }
    }

    /// The answer to a browser that asks what its page may send; `None` if that is not what the request is. It is
    /// to go through [`Page::admit`] like every other.
    ///
    /// # Errors
    ///
    /// If the page may not read answers.
    pub fn preflight(&self, head: &request::Parts) -> Result<Option<Response<()>>, ForeignOrigin> {
        let asks = head.method == Method::OPTIONS
            && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let Some(origin) = head.headers.get(ORIGIN).filter(|_| asks) else {
            return Ok(None);
        };
        if self.reader.is_none() {
            return Err(ForeignOrigin::of(origin));
        }
        let cors = &*self.cors;
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, cors.methods.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.clone());
        for param in params(&head.headers) {
            headers.append(ACCESS_CONTROL_ALLOW_HEADERS, param);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, cors.max_age.clone());
        if cors.private_network && head.headers.contains_key(REQUEST_PRIVATE_NETWORK) {
            headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
        Ok(Some(response))
    }

    /// Adds to the head of an answer what lets the page read it, and takes off what its backend said of that.
    pub fn admit(self, headers: &mut HeaderMap) {
        headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        let reader = if self.cors.origins.is_any() {
            Some(HeaderValue::from_static("*"))
        } else {
            headers.append(VARY, HeaderValue::from_static("Origin"));
            self.reader
        };
        let Some(reader) = reader else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, reader);
        if self.cors.credentials {
            headers.insert(
                ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        headers.append(ACCESS_CONTROL_EXPOSE_HEADERS, self.cors.exposed.clone());
    }
}

/// The `Mcp-Param-*` that a preflight asks for. Their names come from tools, so no list could have them.
fn params(headers: &HeaderMap) -> impl Iterator<Item = HeaderValue> {
    let asked = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let names = asked.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    names.filter_map(|name| {
        let name = HeaderName::from_bytes(name.trim_ascii()).ok()?;
        name.as_str().starts_with(PARAM).then(|| name.into())
    })
}

#[cfg(test)]
mod tests {
    use http::{Request, request::Parts};

    use super::*;
    use crate::router::testing::pool_of;

    const APP: &str = "https://app.example.com";

    fn cors(lines: &str) -> Arc<Cors> {
        let text = format!("[cors]\norigins = [\"{APP}\"]\n{lines}");
        pool_of(&["a"], &text).cors.unwrap()
    }

    fn head(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn preflight(cors: &Arc<Cors>, headers: &[(&str, &str)]) -> HeaderMap {
        let head = head("OPTIONS", headers);
        let page = Page::of(&head.headers, cors);
        let mut response = page.preflight(&head).unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        page.admit(response.headers_mut());
        response.into_parts().0.headers
    }

    /// All values of a header, as a browser reads them.
    fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .flat_map(|value| value.to_str().unwrap().split(", "))
            .map(str::to_ascii_lowercase)
            .collect()
    }

    #[test]
    fn a_preflight_allows_what_clients_of_every_revision_send() {
        let asked = "authorization,content-type,mcp-param-tenant, Mcp-Param-Region,x-other,mcp-param-\u{e4}";
        let answer = preflight(
            &cors(""),
            &[
                ("origin", APP),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", asked),
                ("access-control-request-private-network", "true"),
            ],
        );
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], APP);
        assert_eq!(answer[VARY], "Origin");
        assert_eq!(
            list(&answer, &ACCESS_CONTROL_ALLOW_METHODS),
            ["get", "post", "delete"]
        );
        let allowed = list(&answer, &ACCESS_CONTROL_ALLOW_HEADERS);
        for name in [
            "authorization",
            "mcp-session-id",
            "mcp-name",
            "mcp-param-tenant",
            "mcp-param-region",
        ] {
            assert!(allowed.iter().any(|known| known == name), "{name}");
        }
        assert!(!allowed.iter().any(|name| name == "x-other"));
        assert_eq!(answer[ACCESS_CONTROL_MAX_AGE], "7200");
        assert!(!answer.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        assert!(!answer.contains_key(ALLOW_PRIVATE_NETWORK));
    }

    #[test]
    fn credentials_and_private_networks_are_allowed_where_that_is_configured() {
        let cors = cors("credentials = true\nprivate_network = true");
        let asks = [("origin", APP), ("access-control-request-method", "GET")];
        let answer = preflight(&cors, &asks);
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert!(!answer.contains_key(ALLOW_PRIVATE_NETWORK), "nobody asked");
        let asks = [
            &asks[..],
            &[("access-control-request-private-network", "true")],
        ]
        .concat();
        assert_eq!(preflight(&cors, &asks)[ALLOW_PRIVATE_NETWORK], "true");
    }

    #[test]
    fn what_is_no_preflight_is_not_answered() {
        let asks = ("access-control-request-method", "POST");
        for head in [
            head("OPTIONS", &[("origin", APP)]),
            head("OPTIONS", &[asks]),
            head("POST", &[("origin", APP), asks]),
        ] {
            let page = Page::of(&head.headers, &cors(""));
            assert!(page.preflight(&head).unwrap().is_none(), "{head:?}");
        }
        let foreign = head("OPTIONS", &[("origin", "https://evil.example"), asks]);
        let refused = Page::of(&foreign.headers, &cors("")).preflight(&foreign);
        let error = refused.unwrap_err().to_string();
        assert!(
            error.contains("pages of \"https://evil.example\" may not ask"),
            "{error}"
        );
    }

    fn admitted(cors: &Arc<Cors>, origin: Option<&'static str>) -> HeaderMap {
        let asked = origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin)));
        let page = Page::of(&asked.into_iter().collect(), cors);
        let mut answer = HeaderMap::new();
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_ORIGIN, "https://other.example"),
            (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
            (ACCESS_CONTROL_EXPOSE_HEADERS, "X-Quota"),
            (VARY, "Accept-Encoding"),
        ] {
            answer.insert(name, HeaderValue::from_static(value));
        }
        page.admit(&mut answer);
        answer
    }

    #[test]
    fn an_answer_is_read_by_listed_pages_alone_whatever_its_backend_says() {
        let listed = admitted(&cors(""), Some(APP));
        assert_eq!(list(&listed, &ACCESS_CONTROL_ALLOW_ORIGIN), [APP]);
        assert!(!listed.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        let exposed = list(&listed, &ACCESS_CONTROL_EXPOSE_HEADERS);
        for name in [
            "x-quota",
            "mcp-session-id",
            "www-authenticate",
            "pinring-session",
        ] {
            assert!(exposed.iter().any(|known| known == name), "{name}");
        }
        for origin in [Some("https://evil.example"), None] {
            let other = admitted(&cors(""), origin);
            assert!(!other.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
            assert!(!other.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
            // Else a cache would give one page what was meant for another.
            assert_eq!(list(&other, &VARY), ["accept-encoding", "origin"]);
        }
    }

    #[test]
    fn where_every_page_may_read_every_answer_says_so() {
        let all = pool_of(&["a"], "[cors]\norigins = [\"*\"]").cors.unwrap();
        for origin in [Some(APP), None] {
            let answer = admitted(&all, origin);
            assert_eq!(list(&answer, &ACCESS_CONTROL_ALLOW_ORIGIN), ["*"]);
            assert_eq!(list(&answer, &VARY), ["accept-encoding"]);
        }
    }

    #[test]
    fn who_says_no_origin_is_no_page_and_who_says_two_is_none_that_may_ask() {
        let check = |origins: &[&'static str], allowed: &Origins| {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(ORIGIN, HeaderValue::from_static(origin));
            }
            check_origin(&headers, allowed).is_ok()
        };
        let local = "http://localhost:6274";
        assert!(check(&[], &Origins::loopback()));
        assert!(check(&[local], &Origins::loopback()));
        for refused in [&[local, local][..], &[APP], &[""], &["null"]] {
            assert!(!check(refused, &Origins::loopback()), "{refused:?}");
            assert!(check(refused, &Origins::any()), "{refused:?}");
        }
    }
}
