//! What a backend is told of the client's side: by `X-Forwarded-*`, and by `Forwarded` where a proxy before uses that.
//!
//! Whoever connects is believed nothing of it, and what it sends stops here; a trusted proxy is believed, and this
//! one adds itself behind.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{backend::Scheme, identity::trusted::last_forwarded};

pub(super) const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// What is known of the connection that a request comes over.
#[derive(Debug, Clone, Copy)]
pub struct Forwarded<'a> {
    /// The address at its other end.
    pub peer: &'a HeaderValue,
    /// What is spoken on it.
    pub scheme: Scheme,
}

impl Forwarded<'_> {
    /// Says where the request comes from: nobody was believed before, and nothing is left of what was said.
    pub(super) fn tell(self, headers: &mut HeaderMap) {
        headers.append(FOR, self.peer.clone());
        headers.append(PROTO, HeaderValue::from_static(self.scheme.as_str()));
        if let Some(host) = headers.get(header::HOST).cloned() {
            headers.append(HOST, host);
        }
    }

    /// Adds a trusted proxy's own address to what it says of the way before, and says what it leaves unsaid.
    pub(super) fn add(self, headers: &mut HeaderMap) {
        if !headers.contains_key(PROTO) {
            let said = last_forwarded(headers, "proto").map(HeaderValue::from_bytes);
            let own = HeaderValue::from_static(self.scheme.as_str());
            headers.insert(PROTO, said.and_then(Result::ok).unwrap_or(own));
        }
        if !headers.contains_key(HOST) {
            let said = last_forwarded(headers, "host").map(HeaderValue::from_bytes);
            let said = said.and_then(Result::ok);
            if let Some(host) = said.or_else(|| headers.get(header::HOST).cloned()) {
                headers.insert(HOST, host);
            }
        }
        if headers.contains_key(header::FORWARDED) {
            let address = self.peer.as_bytes();
            let element = if address.contains(&b':') {
                [b"for=\"[", address, b"]\""].concat() // RFC 7239, section 6: IPv6
            } else {
                [b"for=", address].concat()
            };
            append(headers, header::FORWARDED, &element);
        }
        append(headers, FOR, self.peer.as_bytes());
    }
}

/// Puts an element behind those of a list header, in one line: some servers read the first line alone.
fn append(headers: &mut HeaderMap, name: HeaderName, element: &[u8]) {
    let lines = headers.get_all(&name).iter().map(HeaderValue::as_bytes);
    let lines: Vec<&[u8]> = lines
        .filter(|line| !line.is_empty())
        .chain([element])
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b", "[..])) {
        headers.insert(name, joined);
    }
}
