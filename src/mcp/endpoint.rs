//! The `endpoint` event: the first of an HTTP+SSE stream, whose URL is the session's carrier.
//!
//! 2024-11-05, Transports, "HTTP with SSE": the server MUST send it when a client connects, and the client
//! POSTs to its URL. Only this one event is ever looked into; every byte around the URL stays as it is,
//! whatever ends the lines and wherever the chunks are cut.

use std::fmt;

use bytes::{Bytes, BytesMut};

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
mod tests {
    use super::*;

    fn pass(chunks: &[&[u8]], origin: Origin<'_>) -> String {
        let mut opening = Opening::default();
        let mut out = Vec::new();
        for chunk in chunks {
            if opening.is_over() {
                out.extend_from_slice(chunk);
            } else {
                out.extend(opening.push(chunk, origin, |query| {
                    let mut pin = [b'a'; 32];
                    pin[0] = b'0' + u8::try_from(query.len() % 10).unwrap();
                    pin
                }));
            }
        }
        out.extend(opening.finish());
        String::from_utf8(out).unwrap()
    }

    const PLAIN: Origin<'static> = Origin {
        authority: "mcp.example:8080",
        prefix: "",
    };
    const TAIL: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn the_url_gets_the_parameter_whatever_ends_the_lines_and_wherever_chunks_are_cut() {
        for end in ["\n", "\r", "\r\n"] {
            let before = format!(": hello{end}{end}event: endpoint{end}data: /m?s=1");
            let after = format!("{end}{end}data: x{end}{end}");
            let stream = [before.as_str(), &after].concat();
            for cut in 0..stream.len() {
                let (one, two) = stream.as_bytes().split_at(cut);
                assert_eq!(
                    pass(&[one, two], PLAIN),
                    format!("{before}&pinring=3{TAIL}{after}"),
                    "{end:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn urls_of_every_form_that_lead_here_are_pinned() {
        let url = |url: &str| {
            let passed = pass(
                &[format!("data:{url}\nevent:endpoint\n\n").as_bytes()],
                PLAIN,
            );
            passed
                .replace("\nevent:endpoint\n\n", "")
                .replace("data:", "")
        };
        assert_eq!(url("/m"), format!("/m?pinring=0{TAIL}"));
        assert_eq!(url("/m?"), format!("/m?&pinring=0{TAIL}"));
        assert_eq!(url("m/n?a=b#c"), format!("m/n?a=b&pinring=3{TAIL}#c"));
        assert_eq!(url("?a=b"), format!("?a=b&pinring=3{TAIL}"));
        assert_eq!(
            url("http://MCP.example:8080/m?a=b"),
            format!("http://MCP.example:8080/m?a=b&pinring=3{TAIL}")
        );
        assert_eq!(
            url("//mcp.example:8080?a"),
            format!("//mcp.example:8080?a&pinring=1{TAIL}")
        );
        for elsewhere in [
            "http://other/m",
            "http://mcp.example/m",
            "//other/m",
            "mailto:x",
        ] {
            assert_eq!(url(elsewhere), elsewhere);
        }
    }

    #[test]
    fn a_byte_order_mark_counts_at_the_beginning_alone_wherever_chunks_are_cut() {
        let first = "\u{feff}event: endpoint\ndata: /m\n\n";
        let later = format!(": hello\n\n{first}data: x\n\n");
        assert!(pass(&[first.as_bytes()], PLAIN).contains("/m?pinring="));
        for cut in 0..later.len() {
            let (one, two) = later.as_bytes().split_at(cut);
            assert_eq!(pass(&[one, two], PLAIN), later, "cut at {cut}");
        }
    }

    #[test]
    fn a_prefix_that_was_taken_off_is_put_back_once() {
        let origin = Origin {
            prefix: "/files",
            ..PLAIN
        };
        let url = |url: &str| {
            pass(
                &[format!("event: endpoint\ndata: {url}\n\n").as_bytes()],
                origin,
            )
        };
        assert!(url("/m?s=1").contains("data: /files/m?s=1&pinring="));
        assert!(url("/files/m?s=1").contains("data: /files/m?s=1&pinring="));
        assert!(url("m?s=1").contains("data: m?s=1&pinring="));
        assert!(
            url("http://mcp.example:8080/m")
                .contains("data: http://mcp.example:8080/files/m?pinring=")
        );
    }

    #[test]
    fn any_other_stream_passes_byte_for_byte() {
        for stream in [
            "data: {}\n\nevent: endpoint\ndata: /m\n\n",
            "event: message\ndata: /m\n\n",
            "event: endpoint\ndata: /m\ndata: n\n\n",
            "id: 1\nretry: 3000\ndata:\n\n",
            "event: endpoint\n",
            "event: endpoint\ndata: /m",
            "",
        ] {
            for cut in 0..stream.len() {
                let (one, two) = stream.as_bytes().split_at(cut);
                assert_eq!(pass(&[one, two], PLAIN), stream, "cut at {cut}");
            }
        }
    }

    #[test]
    fn only_a_query_that_ends_in_a_pin_has_one() {
        let pin = format!("cj{}", "a".repeat(30));
        let own = |query: String| PinnedQuery::find(&query).map(|found| found.own().to_owned());
        assert_eq!(own(format!("pinring={pin}")), Some(String::new()));
        assert_eq!(own(format!("a=b&pinring={pin}")), Some("a=b".to_owned()));
        assert_eq!(own(format!("&pinring={pin}")), Some(String::new()));
        assert_eq!(
            own(format!("pinring={pin}&pinring={pin}")),
            Some(format!("pinring={pin}")),
            "exactly one is taken off"
        );
        for none in [
            String::new(),
            pin.clone(),
            format!("xpinring={pin}"),
            format!("pinring={pin}&a"),
            format!("pinring={}", pin.to_uppercase()),
            format!("pinring=a{pin}"),
            format!("pinring=ca{}", "a".repeat(30)),
        ] {
            assert_eq!(own(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn what_is_held_back_is_bounded_and_comments_do_not_wait() {
        let mut opening = Opening::default();
        let mut push = |data: &[u8]| {
            opening
                .push(data, PLAIN, |_| unreachable!("no endpoint"))
                .len()
        };
        assert_eq!(push(b": ping\n\nid: 1\n"), 8);
        assert_eq!(push(&[b'x'; MOST_HELD]), 6 + MOST_HELD);
        assert!(opening.is_over());
        let mut opening = Opening::default();
        let message = opening.push(b"id: 1\ndata: {", PLAIN, |_| unreachable!("no URL"));
        assert_eq!(&*message, b"id: 1\ndata: {", "a message leaves as it comes");
    }
}
