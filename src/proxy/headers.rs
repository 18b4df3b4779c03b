//! Rewrites the heads of requests and answers: what is of one connection stays there, the session id is
//! exchanged, and the backend learns who asked.
//!
//! Third and fifth of the six phases. Pure. What is refused before is in `inspect`.

mod forwarded;
mod inspect;
mod seen;
mod target;

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri, Version,
    header::{self, Entry},
    request::Parts,
    uri::PathAndQuery,
};

use self::inspect::{is_plainly_framed, nominated};
pub use self::{
    forwarded::Forwarded,
    inspect::{Ambiguous, Scan, TooLarge, check_size, host_of, scan},
    seen::Seen,
};
use crate::{
    config::PathPrefix,
    mcp::{
        era,
        session::{InvalidSessionId, ServerSessionId},
    },
    router::table,
};

/// The document about a protected resource (RFC 9728, section 3).
const PROTECTED_RESOURCE: &str = "/.well-known/oauth-protected-resource";

/// Makes the head of a request what the backend is to see, but for its Host: see [`set_host`].
pub fn to_backend(
    head: &mut Parts,
    scan: &Scan,
    forwarded: Forwarded<'_>,
    strip: Option<&PathPrefix>,
    session: Option<ServerSessionId>,
) {
    for name in &scan.stop {
        head.headers.remove(name);
    }
    if scan.seen.has(Seen::CODING) {
        // RFC 9112, section 6.1: the length is void beside it. The message is framed anew.
        head.headers.remove(header::CONTENT_LENGTH);
    } else if scan.seen.has(Seen::ODD_LENGTH) {
        // What hyper has let through is a length.
        let _is_one = settle_length(&mut head.headers);
    }
    if scan.by_trusted {
        forwarded.add(&mut head.headers);
    } else {
        forwarded.tell(&mut head.headers);
    }
    match session {
        Some(id) => drop(head.headers.insert(era::SESSION_ID, id.into_value())),
        None => drop(head.headers.remove(era::SESSION_ID)),
    }
    let stripped = strip.and_then(|prefix| {
        let path = stripped(head.uri.path_and_query()?.as_str(), prefix)?;
        let before = head.headers.get(forwarded::PREFIX); // of a trusted proxy, which has taken that off
        let before = before.map_or(&b""[..], HeaderValue::as_bytes);
        let all = [before, prefix.as_str().as_bytes()].concat();
        head.headers
            .insert(forwarded::PREFIX, HeaderValue::from_bytes(&all).ok()?);
        Some(path)
    });
    head.uri = target(std::mem::take(&mut head.uri), stripped.as_deref());
    head.version = Version::HTTP_11;
}

/// Puts the backend's own query in place of the one that has a pin.
pub fn set_query(head: &mut Parts, own: &str) {
    let mark = if own.is_empty() { "" } else { "?" };
    // A part of a valid target that begins with its path is valid.
    if let Ok(target) = [head.uri.path(), mark, own]
        .concat()
        .parse::<PathAndQuery>()
    {
        let mut parts = std::mem::take(&mut head.uri).into_parts();
        parts.path_and_query = Some(target);
        head.uri = Uri::from_parts(parts).unwrap_or_default();
    }
}

/// The target in origin form, with this path and query if the prefix was taken off.
fn target(uri: Uri, stripped: Option<&str>) -> Uri {
    if stripped.is_none() && uri.authority().is_none() {
        return uri;
    }
    let own = uri.path_and_query().map(PathAndQuery::as_str);
    let own = stripped.or(own).unwrap_or("/");
    // A part of a valid target that begins with "/" is valid. That of `http://host?query` does not.
    let target = if own.starts_with('?') {
        ["/", own].concat().parse()
    } else {
        own.parse()
    };
    target.unwrap_or(uri)
}

/// The target at this path and query, without the prefix.
#[must_use]
pub fn target_of(path: &str, query: Option<&str>, strip: Option<&PathPrefix>) -> Uri {
    let own = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let target = strip.and_then(|prefix| stripped(&own, prefix));
    target.unwrap_or(own).parse().unwrap_or_default()
}

/// Of `/.well-known/<document>/<path>` the prefix is that of the path. SDK servers have the document of an
/// authorization server at its root, wherever that is for their clients; but that of a protected resource where its
/// public URL says, which they are told for the document's sake (TypeScript and Python SDKs, 1.x and 2.x).
fn stripped(path_and_query: &str, prefix: &PathPrefix) -> Option<String> {
    let end = path_and_query.find('?').unwrap_or(path_and_query.len());
    let (path, query) = path_and_query.split_at_checked(end)?;
    let (document, described) = table::well_known_suffix(path).unwrap_or(("", path));
    if document == PROTECTED_RESOURCE {
        return None;
    }
    let rest = prefix.strip(described)?;
    let slash = if rest.is_empty() && document.is_empty() {
        "/"
    } else {
        ""
    };
    Some([document, slash, rest, query].concat())
}

/// What of a request's head goes into a handshake that is repeated for it: whatever says who asks.
pub fn keep_credentials(headers: &mut HeaderMap) {
    let of_this_request = |name: &HeaderName| {
        let text = name.as_str();
        text.starts_with("content-")
            || text.starts_with("mcp-")
            || text.starts_with("if-")
            || *name == era::LAST_EVENT_ID
            || *name == header::ACCEPT
            || *name == header::ACCEPT_ENCODING
            || *name == header::EXPECT
            || *name == header::RANGE
            || *name == header::TRANSFER_ENCODING
    };
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| of_this_request(name))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Sets the Host that a backend is to see.
pub fn set_host(headers: &mut HeaderMap, authority: &str) {
    if let Ok(value) = HeaderValue::from_str(authority) {
        headers.insert(header::HOST, value);
    }
}

/// Why the head of an answer cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokenHead {
    /// The body is coded otherwise than in chunks.
    #[error("the backend's answer has a transfer coding other than \"chunked\"")]
    TransferCoding,
    /// It is not clear where the body ends.
    #[error("the backend's answer has a Content-Length that is none, or several different ones")]
    Length,
    /// No client could send the session id back.
    #[error("the backend issued an unusable Mcp-Session-Id")]
    SessionId(#[from] InvalidSessionId),
}

/// What the session ids of a request were: the client's, and the one that its backend was sent.
#[derive(Debug)]
pub struct Exchanged {
    /// With its pin, byte for byte.
    pub client: HeaderValue,
    /// The backend's own.
    pub server: HeaderValue,
}

/// Makes the head of an answer what the client is to see. Gives the session id of the backend, if there
/// is one. `pin` makes the client's id of a backend's.
///
/// The id of a request that carried a verified pin leaves as the client sent it; any other is pinned.
/// Every answer that carries the header leaves with it once: clients store the id from any answer.
///
/// # Errors
///
/// When the body's coding is not understood, the session id cannot be one, or there are several different
/// ones.
pub fn to_client(
    headers: &mut HeaderMap,
    exchanged: Option<&Exchanged>,
    pin: impl FnOnce(&ServerSessionId) -> HeaderValue,
) -> Result<Option<ServerSessionId>, BrokenHead> {
    let seen = Seen::of(headers);
    if seen.has(Seen::CODING) && !is_plainly_framed(headers) {
        return Err(BrokenHead::TransferCoding);
    }
    if seen.has(Seen::OF_CONNECTION) {
        stop_at_client(headers, seen);
    }
    if seen.has(Seen::ODD_LENGTH) && !seen.has(Seen::CODING) {
        settle_length(headers)?;
    }
    let Entry::Occupied(mut ids) = headers.entry(era::SESSION_ID) else {
        return Ok(None);
    };
    let id = ids.get().clone();
    if ids.iter().any(|other| *other != id) {
        return Err(BrokenHead::SessionId(InvalidSessionId));
    }
    let id = ServerSessionId::try_from(id)?;
    let client = match exchanged {
        Some(exchanged) if exchanged.server.as_bytes() == id.as_bytes() => exchanged.client.clone(),
        Some(_) | None => pin(&id),
    };
    ids.insert(client);
    expose(headers, seen);
    Ok(Some(id))
}

/// Leaves one Content-Length, in the digits that everybody reads alike: not `007`, not `7, 7`, not twice. hyper passes
/// on what was there, and does not look at it where no body follows.
fn settle_length(headers: &mut HeaderMap) -> Result<(), BrokenHead> {
    let parts = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut parts = parts.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let first = parts.next().and_then(number).ok_or(BrokenHead::Length)?;
    if parts.any(|part| number(part) != Some(first)) {
        return Err(BrokenHead::Length);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(first));
    Ok(())
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits.trim_ascii()).ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number) // "+7" would be one to `parse`
}

fn stop_at_client(headers: &mut HeaderMap, seen: Seen) {
    let mut stop: Vec<HeaderName> = headers
        .keys()
        .filter(|name| Seen::of_name(name.as_str()).has(Seen::OF_CONNECTION))
        .cloned()
        .collect();
    // What a backend nominates wrongly is its own affair; nothing of ours is lost.
    if seen.has(Seen::CONNECTION) && nominated(headers, &mut stop).is_err() {
        tracing::debug!("a backend's Connection header names an end-to-end header");
    }
    if seen.has(Seen::CODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in stop {
        headers.remove(name);
    }
}

/// Lets pages of other origins read the session id (Fetch, "CORS-safelisted response-header name").
fn expose(headers: &mut HeaderMap, seen: Seen) {
    let is_named = || {
        let values = headers.get_all(header::ACCESS_CONTROL_EXPOSE_HEADERS);
        let mut names = values
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let own = era::SESSION_ID;
        names.any(|name| {
            name.trim_ascii()
                .eq_ignore_ascii_case(own.as_str().as_bytes())
        })
    };
    if !seen.has(Seen::EXPOSED) || !is_named() {
        headers.append(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Mcp-Session-Id"),
        );
    }
}

#[cfg(test)]
mod tests;
