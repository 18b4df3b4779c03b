//! Looks over the head of a request before anything is done with it: its size, what is of one connection, and
//! what a backend could read otherwise than pinring did (design, section 6).
//!
//! What hyper has rejected never comes here.

use std::net::Ipv6Addr;

use http::{HeaderMap, HeaderName, Method, Version, header, request::Parts};

use super::{Seen, forwarded::PROTO, target};
use crate::{config::Limits, mcp::era};

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
    /// TRACE asks for what the client sent, with what proxies have added.
    #[error("TRACE is not answered here")]
    Trace,
    /// `Upgrade` asks for another protocol than HTTP.
    #[error("the Upgrade header asks for a protocol that is not spoken here; MCP needs none")]
    Upgrade,
    /// The target is no path, or could mean another one.
    #[error(
        "the request's target is not a path, has a \".\" or \"..\" segment, or bytes that no URL holds"
    )]
    Target,
    /// A header that says where a request goes, or whose it is, more than once.
    #[error("there is more than one {0} header")]
    Repeated(HeaderName),
}

/// Why a request's head is refused: there is too much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// More bytes of the target than `limits.target_bytes`.
    #[error("the request's target has {0} bytes, which is more than limits.target_bytes allows")]
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
    if target > limits.target_bytes {
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
#[derive(Debug, Clone)]
pub struct Scan {
    /// Headers that stop here.
    pub(super) stop: Vec<HeaderName>,
    /// Whether a trusted proxy has sent them.
    pub(super) by_trusted: bool,
    /// What of all that is done with headers there was to do.
    pub(super) seen: Seen,
}

impl Scan {
    /// Whether the client has said what scheme it uses, and is not believed.
    #[must_use]
    pub fn drops_scheme(&self) -> bool {
        self.stop.contains(&PROTO)
    }

    /// The header by which trusted proxies say who asks: it stops here where nobody of them has sent it, and so does
    /// always what servers that map `-` and `_` to one character take for it.
    pub fn names_principal(&mut self, name: &HeaderName) {
        if !self.by_trusted {
            self.stop.push(name.clone());
        }
        if let Ok(twin) = HeaderName::try_from(name.as_str().replace('-', "_"))
            && twin != *name
        {
            self.stop.push(twin);
        }
    }
}

/// Looks for what stops here, and what is ambiguous, in a head with what was `seen` of it. What a trusted proxy says of
/// clients goes on.
///
/// # Errors
///
/// When servers would not agree about what the head means.
pub fn scan(head: &Parts, seen: Seen, by_trusted: bool) -> Result<Scan, Ambiguous> {
    if head.method == Method::CONNECT {
        return Err(Ambiguous::Connect);
    }
    if head.method == Method::TRACE {
        return Err(Ambiguous::Trace);
    }
    if !target::is_plain(head) {
        return Err(Ambiguous::Target);
    }
    check_host(head)?;
    if seen.has(Seen::CODING) && !is_plainly_framed(&head.headers) {
        return Err(Ambiguous::TransferCoding);
    }
    if seen.has(Seen::UPGRADE) && asks_for_other_protocol(&head.headers) {
        return Err(Ambiguous::Upgrade);
    }
    let stop = stopped(&head.headers, seen, by_trusted)?;
    check_single(&head.headers)?;
    Ok(Scan {
        stop,
        by_trusted,
        seen,
    })
}

/// The headers that stop here.
fn stopped(
    headers: &HeaderMap,
    seen: Seen,
    by_trusted: bool,
) -> Result<Vec<HeaderName>, Ambiguous> {
    let mut stopping = Seen::OF_CONNECTION;
    if !by_trusted {
        stopping = stopping.or(Seen::FORWARDED);
    }
    let mut stop = Vec::new();
    if seen.has(stopping.or(Seen::UNDERSCORE)) {
        for name in headers.keys() {
            let seen = Seen::of_name(name.as_str());
            if seen.has(stopping) {
                stop.push(name.clone());
            } else if seen.has(Seen::UNDERSCORE) && is_twin(name) {
                return Err(Ambiguous::Underscore(name.clone()));
            }
        }
    }
    if seen.has(Seen::CONNECTION) {
        nominated(headers, &mut stop)?;
    }
    Ok(stop)
}

/// Servers take the first of several, the last, or all of them joined. Several session ids and versions are told
/// apart when the request is classified.
fn check_single(headers: &HeaderMap) -> Result<(), Ambiguous> {
    if headers.len() == headers.keys_len() {
        return Ok(());
    }
    let several = |name: &&HeaderName| headers.get_all(*name).iter().nth(1).is_some();
    let mut single = headers.keys().filter(|name| {
        let is_of_mcp = name.as_str().starts_with("mcp-");
        let is_classified = **name == era::SESSION_ID || **name == era::PROTOCOL_VERSION;
        (is_of_mcp && !is_classified) || **name == header::AUTHORIZATION || **name == header::ORIGIN
    });
    match single.find(several) {
        Some(name) => Err(Ambiguous::Repeated(name.clone())),
        None => Ok(()),
    }
}

/// Whether the body is in chunks, if it is transfer-coded at all. The coding stops here, and nobody behind
/// would know how to read another (RFC 9112, section 6.1).
pub(super) fn is_plainly_framed(headers: &HeaderMap) -> bool {
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

/// Whether the client wants to go on in another protocol. An offer of HTTP/2 or TLS is none of that: who makes it goes
/// on in HTTP/1.1 where it is ignored (RFC 9110, section 7.8), as Java's client does, which offers h2c in its first request.
fn asks_for_other_protocol(headers: &HeaderMap) -> bool {
    let asked = headers.get_all(header::UPGRADE).iter();
    let asked = asked.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut names = asked.map(|protocol| {
        let name = protocol.split(|byte| *byte == b'/').next();
        name.unwrap_or_default().trim_ascii()
    });
    let is_other = |name: &[u8]| {
        let is_offer = name.eq_ignore_ascii_case(b"h2c") || name.eq_ignore_ascii_case(b"tls");
        !name.is_empty() && !is_offer
    };
    names.any(is_other)
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
pub(super) fn nominated(headers: &HeaderMap, stop: &mut Vec<HeaderName>) -> Result<(), Ambiguous> {
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
    if !is_name(name) || !is_port(port) {
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

/// Splits `host[:port]`; `None` where nothing but a port may stand and something else does.
fn split_host(host: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = match host.first() {
        Some(b'[') => host.iter().position(|byte| *byte == b']')? + 1,
        _ => {
            let colon = host.iter().position(|byte| *byte == b':');
            colon.unwrap_or(host.len())
        }
    };
    let (name, rest) = host.split_at_checked(end)?;
    match rest.split_first() {
        None => Some((name, &[])),
        Some((b':', port)) => Some((name, port)),
        Some(_) => None,
    }
}

/// Whether it is a DNS name, an IPv4 address, or an IPv6 address in brackets. What else RFC 3986 would allow, as
/// `%00`, is nobody's name.
fn is_name(name: &[u8]) -> bool {
    let literal = name
        .strip_prefix(b"[")
        .and_then(|name| name.strip_suffix(b"]"));
    match literal {
        Some(literal) => {
            std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
        }
        None => {
            let fits = |byte: &u8| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~')
            };
            !name.is_empty() && name.iter().all(fits)
        }
    }
}

/// Whether it is a port, or empty, as RFC 3986 allows behind the colon.
fn is_port(port: &[u8]) -> bool {
    let number = std::str::from_utf8(port).unwrap_or_default();
    port.iter().all(u8::is_ascii_digit) && (port.is_empty() || number.parse::<u16>().is_ok())
}

/// The host that a request asks for, without its port: what pools are matched by.
#[must_use]
pub fn host_of(head: &Parts) -> Option<&str> {
    let host = head.headers.get(header::HOST)?;
    let (name, _) = split_host(host.as_bytes())?;
    let name = name.strip_suffix(b".").unwrap_or(name);
    std::str::from_utf8(name).ok()
}
