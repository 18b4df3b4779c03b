//! The `endpoint` event: the first of an HTTP+SSE stream, whose URL is the session's carrier.
//!
//! 2024-11-05, Transports, "HTTP with SSE": the server MUST send it when a client connects, and the client
//! POSTs to its URL. Only this one event is ever looked into; every byte around the URL stays as it is,
//! whatever ends the lines and wherever the chunks are cut.

use std::fmt;

use bytes::{Bytes, BytesMut};
use percent_encoding::percent_decode_str;

/// Most bytes that are held back while the first event is incomplete. What is longer passes untouched:
/// URLs are limited to less everywhere on the way.
const MOST_HELD: usize = 16 * 1024;

/// Name of the parameter that carries the pin.
const PARAMETER: &str = "pinring=";

/// Characters of a pin.
const PIN_LEN: usize = 32;

/// What a message's data begins with, and a URL does not.
const MESSAGE: &[u8] = b"{";

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The raw query of a request that ends in the parameter of a pin.
#[derive(Clone, PartialEq, Eq)]
pub struct PinnedQuery(Box<str>);

impl PinnedQuery {
    /// Takes the raw query of a request; `None` if it does not end in something of the shape of a pin of this
    /// kind (contract; design, section 2: "what a client sees").
    #[must_use]
    pub fn find(query: &str) -> Option<Self> {
        let at = query.len().checked_sub(PIN_LEN)?;
        let (before, pin) = query.split_at_checked(at)?;
        let own = before.strip_suffix(PARAMETER)?;
        let first = own.is_empty() || own.ends_with('&');
        (first && has_shape(pin.as_bytes())).then(|| Self(query.into()))
    }

    /// The backend's own query, without the parameter and its `&`.
    #[must_use]
    pub fn own(&self) -> &str {
        let before = self.0.len() - PIN_LEN - PARAMETER.len();
        let own = self.0.get(..before).unwrap_or_default();
        own.strip_suffix('&').unwrap_or(own)
    }

    /// The 32 characters of the pin.
    #[must_use]
    pub fn pin(&self) -> &str {
        self.0.get(self.0.len() - PIN_LEN..).unwrap_or_default()
    }
}

impl fmt::Debug for PinnedQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinnedQuery({} bytes)", self.0.len())
    }
}

/// Whether a query names a session, as the messages of HTTP+SSE do: `session_id` in Python, `sessionId` in TypeScript,
/// Java and C#, `sessionid` in Go. Read as leniently as any server may: percent-decoded, in any case, and with the
/// brackets of Express, to which `sessionId[]=x` is the same.
#[must_use]
pub fn names_session(query: &str) -> bool {
    let parameters = query.split(['&', ';']);
    let mut names = parameters.filter_map(|parameter| parameter.split('=').next());
    names.any(is_name_of_session)
}

fn is_name_of_session(name: &str) -> bool {
    let name: Vec<u8> = percent_decode_str(name).collect();
    let name = name.split(|byte| matches!(byte, b'[' | b']'));
    let first = name.filter(|part| !part.is_empty()).take(1).flatten();
    let letters = first.filter(|byte| !matches!(byte, b'_' | b'-'));
    letters
        .map(u8::to_ascii_lowercase)
        .eq(b"sessionid".iter().copied())
}

/// Base32 in lower case whose first byte is 0x12: version 1, kind 2.
fn has_shape(pin: &[u8]) -> bool {
    matches!(pin, [b'c', b'i'..=b'l', rest @ ..] if rest.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')))
}

/// Looks for the `endpoint` event at the beginning of a stream.
#[derive(Debug, Default)]
pub struct Opening {
    held: BytesMut,
    /// What is held is not the stream's beginning, where alone a byte order mark may stand.
    has_begun: bool,
    over: bool,
}

/// What a URL must be like to be touched, and what it gets.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Host and port as the client asked for them: an absolute URL must name them.
    pub authority: &'a str,
    /// What was taken off the path of the client's request, and is to be put back; empty: nothing.
    pub prefix: &'a str,
}

impl Opening {
    /// Whether the first event has passed: all that follows may pass unread.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Takes the next bytes of the stream and gives those that may leave, possibly none. `pin` makes the 32
    /// characters of the pin for a raw query.
    pub fn push(
        &mut self,
        data: &[u8],
        origin: Origin<'_>,
        pin: impl FnOnce(&[u8]) -> [u8; PIN_LEN],
    ) -> Bytes {
        self.held.extend_from_slice(data);
        match look(&self.held, self.has_begun) {
            // Comments before the event leave at once: they tell that the stream lives.
            Found::Incomplete { from } if self.held.len() - from <= MOST_HELD => {
                self.has_begun |= from > 0;
                self.held.split_to(from).freeze()
            }
            Found::Incomplete { .. } | Found::Other => self.finish(),
            Found::Endpoint { from, to } => {
                let url = self.held.get(from..to).unwrap_or_default();
                let rewritten = rewritten(url, origin, pin);
                let all = self.finish();
                match rewritten {
                    Some(url) => [&all[..from], &url, &all[to..]].concat().into(),
                    None => all,
                }
            }
        }
    }

    /// Whether the beginning of an event is held back.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        !self.held.is_empty()
    }

    /// The stream has ended: what was held back leaves as it is.
    pub fn finish(&mut self) -> Bytes {
        self.over = true;
        self.held.split().freeze()
    }
}

enum Found {
    /// Its first field, if there is one, is not before this place.
    Incomplete { from: usize },
    /// The first event is another one.
    Other,
    /// The URL's place.
    Endpoint { from: usize, to: usize },
}

/// Reads the first event, as WHATWG HTML, 9.2.6 ("Interpreting an event stream") does.
fn look(stream: &[u8], has_begun: bool) -> Found {
    let mark = !has_begun && stream.starts_with(BYTE_ORDER_MARK);
    let mut at = if mark { BYTE_ORDER_MARK.len() } else { 0 };
    let (mut from, mut named, mut data) = (None, false, None);
    while let Some((line, next)) = line(stream, at) {
        match field(line) {
            _ if line.is_empty() => match (named, data) {
                (true, Some((from, to))) => return Found::Endpoint { from, to },
                (false, Some(_)) => return Found::Other,
                (_, None) => (from, named) = (None, false), // without data it is no event
            },
            (b"", _) => {} // a comment
            (name, value) => {
                from.get_or_insert(at);
                match name {
                    b"event" if value == b"endpoint" => named = true,
                    b"event" => return Found::Other,
                    b"data" if data.is_some() => return Found::Other, // a URL has no line end
                    b"data" if value.starts_with(MESSAGE) => return Found::Other,
                    b"data" => data = Some((at + line.len() - value.len(), at + line.len())),
                    _ => {}
                }
            }
        }
        at = next;
    }
    let (name, value) = field(stream.get(at..).unwrap_or_default());
    if name == b"data" && value.starts_with(MESSAGE) {
        return Found::Other; // it need not wait for its end
    }
    Found::Incomplete {
        from: from.unwrap_or(at),
    }
}

/// The line that begins at `at`, without its end, and where the next one begins.
fn line(stream: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = stream.get(at..)?;
    let length = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
    let (line, end) = rest.split_at(length);
    let width = if end.starts_with(b"\r\n") { 2 } else { 1 };
    Some((line, at + length + width))
}

/// Name and value; a comment's name is empty.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return (line, b"");
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    (name, value.strip_prefix(b" ").unwrap_or(value))
}

/// The URL with its pin; `None` if it leads elsewhere.
fn rewritten(
    url: &[u8],
    origin: Origin<'_>,
    pin: impl FnOnce(&[u8]) -> [u8; PIN_LEN],
) -> Option<Vec<u8>> {
    let url = std::str::from_utf8(url).ok()?;
    let (url, fragment) = url.split_at(url.find('#').unwrap_or(url.len()));
    let (base, path) = split_origin(url, origin.authority)?;
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let pin = pin(query.unwrap_or_default().as_bytes());
    let pin = std::str::from_utf8(&pin).ok()?;
    // What is relative to the path of the stream's own URL has the prefix already.
    let has_prefix = path
        .strip_prefix(origin.prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let prefix = if path.starts_with('/') && !has_prefix {
        origin.prefix
    } else {
        ""
    };
    let query = match query {
        Some(query) => ["?", query, "&"],
        None => ["?", "", ""],
    }
    .concat();
    Some(
        [base, prefix, path, &query, PARAMETER, pin, fragment]
            .concat()
            .into_bytes(),
    )
}

/// Splits scheme and authority off, if they are those of the client's own request (RFC 3986, section 4.2).
fn split_origin<'a>(url: &'a str, authority: &str) -> Option<(&'a str, &'a str)> {
    let before_path = url.split(['/', '?']).next().unwrap_or_default();
    let rest = match before_path.split_once(':') {
        Some(("http" | "https", _)) => url.split_once("//")?.1,
        Some(_) => return None, // another scheme
        None => match url.strip_prefix("//") {
            Some(rest) => rest,
            None => return Some(("", url)),
        },
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let base = url.len() - path.len();
    host.eq_ignore_ascii_case(authority)
        .then(|| url.split_at(base))
}

#[cfg(test)]
mod tests;
