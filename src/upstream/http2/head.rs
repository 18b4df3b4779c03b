//! The head of a request in HTTP/2, made of that of HTTP/1.1 (RFC 9113, sections 8.2.2 and 8.3.1).

use http::{
    Request, Uri, Version, header,
    request::Parts,
    uri::{Authority, Scheme},
};

use crate::backend::Endpoint;

/// What `head` is for a backend at `endpoint`: `Host` becomes `:authority`, and what is of one
/// connection alone is gone by now.
pub(super) fn to_http2(head: &Parts, endpoint: &Endpoint) -> Parts {
    let (mut sent, ()) = Request::new(()).into_parts();
    sent.method = head.method.clone();
    sent.headers = head.headers.clone();
    sent.version = Version::HTTP_2;
    let host = sent.headers.remove(header::HOST);
    let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut uri = head.uri.clone().into_parts();
    uri.authority = host.or_else(|| Authority::try_from(endpoint.authority().as_bytes()).ok());
    uri.scheme = Some(match endpoint.tls {
        Some(_) => Scheme::HTTPS,
        None => Scheme::HTTP,
    });
    sent.uri = Uri::from_parts(uri).expect("what has a path may have a scheme and an authority");
    sent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Url;

    fn converted(request: http::request::Builder) -> Parts {
        let url: Url = "http://127.0.0.1:9001".parse().unwrap();
        to_http2(&request.body(()).unwrap().into_parts().0, &url.endpoint)
    }

    #[test]
    fn the_host_becomes_the_authority() {
        for host in ["a", "A.example:8080", "a:", "[::1]:80", "a_b.~c"] {
            let head = converted(Request::get("/mcp?x=%20").header("host", host));
            assert_eq!(head.uri.to_string(), format!("http://{host}/mcp?x=%20"));
            assert!(head.headers.is_empty() && head.version == Version::HTTP_2);
        }
    }

    #[test]
    fn all_other_fields_go_along() {
        let request = Request::options("*")
            .header("host", "a")
            .header("authorization", "b");
        let head = converted(request);
        assert_eq!(head.uri.path(), "*");
        assert_eq!(head.headers.len(), 1);
        assert_eq!(head.headers["authorization"], "b");
    }
}
