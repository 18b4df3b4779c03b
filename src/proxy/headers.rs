//! Rewrites the heads of requests and answers: what is of one connection stays there, the session id is
//! exchanged, and the backend learns who asked.
//!
//! Third and fifth of the six phases. Also refuses heads that a backend could read otherwise than pinring
//! did (design, section 6). Pure; what hyper has rejected never comes here.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{self, Entry},
    request::Parts,
    uri::PathAndQuery,
};

use crate::{
    config::{HostHeader, Limits, PathPrefix},
    mcp::{
        era,
        session::{InvalidSessionId, ServerSessionId},
    },
    router::table,
};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Why a request's head is refused: servers would not agree about what it means.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// HTTP/1.1 without Host.
    #[error("the Host header is missing")]
    HostMissing,
    /// More than one Host.
    #[error("there is more than one Host header")]
    SeveralHosts,
    /// Host is no `host[:port]`.
    #[error("the Host header is not of the form host or host:port")]
    HostMalformed,
    /// The request's target names another host.
    #[error("the request's target and its Host header name different hosts")]
    HostDisagrees,
    /// A header that differs from one with a meaning only in `_` for `-`.
    #[error("the header {0} would be read as another one by some servers; write it with hyphens")]
    Underscore(HeaderName),
    /// `Connection` names a header that must reach the backend.
    #[error("the Connection header names {0}, which is not a header of one connection")]
    Nominated(Box<str>),
    /// The body is coded otherwise than in chunks.
    #[error("the only transfer coding that is understood here is \"chunked\"")]
    TransferCoding,
    /// CONNECT asks for a tunnel.
    #[error("CONNECT is for forward proxies")]
    Connect,
}

/// Longest request target, in bytes: more than OAuth's redirects need (nginx: 8 KiB, HAProxy: 16 KiB with all else).
pub const MAX_TARGET: usize = 16 * 1024;

/// Why a request's head is refused: there is too much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// The target is longer than [`MAX_TARGET`].
    #[error("the request's target has {0} bytes; 16384 are allowed")]
    Target(usize),
    /// More header fields than `limits.headers`.
    #[error("the request has {0} header fields, which is more than limits.headers allows")]
    Fields(usize),
    /// More bytes of header fields than `limits.header_bytes`.
    #[error(
        "the request's header fields have {0} bytes, which is more than limits.header_bytes allows"
    )]
    Bytes(usize),
}

/// Holds a head to the limits. hyper has limits of its own, twice as wide, and no body for its answer.
///
/// # Errors
///
/// When there is too much of it.
pub fn check_size(head: &Parts, limits: &Limits) -> Result<(), TooLarge> {
    let target = head
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET {
        return Err(TooLarge::Target(target));
    }
    if head.headers.len() > limits.headers {
        return Err(TooLarge::Fields(head.headers.len()));
    }
    let bytes: usize = head
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if bytes > limits.header_bytes {
        return Err(TooLarge::Bytes(bytes));
    }
    Ok(())
}

/// What a look over a request's head has found.
#[derive(Debug)]
pub struct Scan {
    /// Headers that stop here.
    stop: Vec<HeaderName>,
}

/// Looks once over all header names: what stops here, and what is ambiguous.
///
/// # Errors
///
/// When servers would not agree about what the head means.
pub fn scan(head: &Parts) -> Result<Scan, Ambiguous> {
    if head.method == Method::CONNECT {
        return Err(Ambiguous::Connect);
    }
    check_host(head)?;
    if !is_plainly_framed(&head.headers) {
        return Err(Ambiguous::TransferCoding);
    }
    let mut stop = Vec::new();
    for name in head.headers.keys() {
        if stops_here(name) || is_forwarded(name) {
            stop.push(name.clone());
        } else if name.as_str().contains('_') && is_twin(name) {
            return Err(Ambiguous::Underscore(name.clone()));
        }
    }
    nominated(&head.headers, &mut stop)?;
    Ok(Scan { stop })
}

/// Whether the body is in chunks, if it is transfer-coded at all. The coding stops here, and nobody behind
/// would know how to read another (RFC 9112, section 6.1).
fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Headers of one connection (RFC 9110, section 7.6.1), and `Expect`, which pinring answers itself.
fn stops_here(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
    )
}

fn is_forwarded(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-forwarded-") || name == header::FORWARDED
}

/// Whether a server that maps `-` and `_` to one character, as CGI does, would take it for a header of
/// framing, routing or MCP.
fn is_twin(name: &HeaderName) -> bool {
    let hyphened = name.as_str().replace('_', "-");
    hyphened.starts_with("mcp-")
        || hyphened.starts_with("x-forwarded-")
        || matches!(hyphened.as_str(), "content-length" | "transfer-encoding")
}

/// Headers that `Connection` names stop here too, but for those that decide where a request goes and
/// whose it is: taking them off would change its meaning.
fn nominated(headers: &HeaderMap, stop: &mut Vec<HeaderName>) -> Result<(), Ambiguous> {
    let options = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    for option in options
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty())
    {
        if option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive") {
            continue;
        }
        let Ok(name) = HeaderName::from_bytes(option) else {
            continue;
        };
        let protected = matches!(
            name.as_str(),
            "host" | "authorization" | "origin" | "content-length"
        );
        if protected || name.as_str().starts_with("mcp-") {
            return Err(Ambiguous::Nominated(name.as_str().into()));
        }
        if headers.contains_key(&name) && !stop.contains(&name) {
            stop.push(name);
        }
    }
    Ok(())
}

/// hyper does not look at Host. RFC 9112, section 3.2: a server answers 400 to a request that lacks it, has
/// several or an invalid one. HTTP/1.0 may lack it.
fn check_host(head: &Parts) -> Result<(), Ambiguous> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else {
        return if head.version == Version::HTTP_10 {
            Ok(())
        } else {
            Err(Ambiguous::HostMissing)
        };
    };
    if hosts.next().is_some() {
        return Err(Ambiguous::SeveralHosts);
    }
    let (name, port) = split_host(host.as_bytes()).ok_or(Ambiguous::HostMalformed)?;
    if name.is_empty() || !port.iter().all(u8::is_ascii_digit) {
        return Err(Ambiguous::HostMalformed);
    }
    match head.uri.authority() {
        Some(authority)
            if !authority
                .as_str()
                .as_bytes()
                .eq_ignore_ascii_case(host.as_bytes()) =>
        {
            Err(Ambiguous::HostDisagrees)
        }
        Some(_) | None => Ok(()),
    }
}

/// Splits `host[:port]`; `None` if there are characters that neither can hold.
fn split_host(host: &[u8]) -> Option<(&[u8], &[u8])> {
    let allowed = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'-' | b'_' | b'~' | b'%' | b':' | b'[' | b']')
    };
    if !host.iter().all(allowed) {
        return None;
    }
    let (name, rest) = match host.strip_prefix(b"[") {
        Some(literal) => {
            let end = literal.iter().position(|byte| *byte == b']')?;
            (host.get(..end + 2)?, host.get(end + 2..)?)
        }
        None => host.split_at(
            host.iter()
                .position(|byte| *byte == b':')
                .unwrap_or(host.len()),
        ),
    };
    match rest.split_first() {
        None => Some((name, &[])),
        Some((b':', port)) => Some((name, port)),
        Some(_) => None,
    }
}

/// The host that a request asks for, without its port: what pools are matched by.
#[must_use]
pub fn host_of(head: &Parts) -> Option<&str> {
    let host = head.headers.get(header::HOST)?;
    let (name, _) = split_host(host.as_bytes())?;
    let name = name.strip_suffix(b".").unwrap_or(name);
    std::str::from_utf8(name).ok()
}

/// Makes the head of a request what the backend is to see, but for its Host: see [`set_host`].
pub fn to_backend(
    head: &mut Parts,
    scan: Scan,
    forwarded_for: &HeaderValue,
    strip: Option<&PathPrefix>,
    session: Option<ServerSessionId>,
) {
    if head.headers.contains_key(header::TRANSFER_ENCODING) {
        // RFC 9112, section 6.1: the length is void beside it. hyper frames the message anew.
        head.headers.remove(header::CONTENT_LENGTH);
    }
    for name in scan.stop {
        head.headers.remove(name);
    }
    head.headers.insert(FORWARDED_FOR, forwarded_for.clone());
    head.headers
        .insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Some(host) = head.headers.get(header::HOST).cloned() {
        head.headers.insert(FORWARDED_HOST, host);
    }
    match session {
        Some(id) => drop(head.headers.insert(era::SESSION_ID, id.into_value())),
        None => drop(head.headers.remove(era::SESSION_ID)),
    }
    let stripped = strip.and_then(|prefix| {
        let path = stripped(head.uri.path_and_query()?.as_str(), prefix)?;
        let value = HeaderValue::from_str(prefix.as_str()).ok()?;
        head.headers.insert(FORWARDED_PREFIX, value);
        Some(path)
    });
    head.uri = target(std::mem::take(&mut head.uri), stripped.as_deref());
    head.version = Version::HTTP_11;
}

/// The target in origin form, with this path and query if the prefix was taken off.
fn target(uri: Uri, stripped: Option<&str>) -> Uri {
    if stripped.is_none() && uri.authority().is_none() {
        return uri;
    }
    let own = uri.path_and_query().map(PathAndQuery::as_str);
    // A part of a valid target that begins with "/" is valid.
    let target = stripped.or(own).unwrap_or("/").parse();
    target.unwrap_or(uri)
}

fn stripped(path_and_query: &str, prefix: &PathPrefix) -> Option<String> {
    let end = path_and_query.find('?').unwrap_or(path_and_query.len());
    let (path, query) = path_and_query.split_at_checked(end)?;
    let (document, described) = table::well_known_suffix(path).unwrap_or(("", path));
    let rest = prefix.strip(described)?;
    let slash = if rest.is_empty() && document.is_empty() {
        "/"
    } else {
        ""
    };
    Some([document, slash, rest, query].concat())
}

/// Whether the backend is to see its own address as Host: where that is configured, and where the client sent
/// none, as those of HTTP/1.0 may.
#[must_use]
pub fn needs_host(headers: &HeaderMap, host: HostHeader) -> bool {
    match host {
        HostHeader::Pass => !headers.contains_key(header::HOST),
        HostHeader::Rewrite => true,
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
    if !is_plainly_framed(headers) {
        return Err(BrokenHead::TransferCoding);
    }
    stop_at_client(headers);
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
    expose(headers);
    Ok(Some(id))
}

fn stop_at_client(headers: &mut HeaderMap) {
    let mut stop: Vec<HeaderName> = headers
        .keys()
        .filter(|name| stops_here(name))
        .cloned()
        .collect();
    // What a backend nominates wrongly is its own affair; nothing of ours is lost.
    if headers.contains_key(header::CONNECTION) && nominated(headers, &mut stop).is_err() {
        tracing::debug!("a backend's Connection header names an end-to-end header");
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in stop {
        headers.remove(name);
    }
}

/// Lets pages of other origins read the session id (Fetch, "CORS-safelisted response-header name").
fn expose(headers: &mut HeaderMap) {
    let named = headers
        .get_all(header::ACCESS_CONTROL_EXPOSE_HEADERS)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|name| {
            name.trim_ascii()
                .eq_ignore_ascii_case(era::SESSION_ID.as_str().as_bytes())
        });
    if !named {
        headers.append(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Mcp-Session-Id"),
        );
    }
}

#[cfg(test)]
mod tests;
