//! The head of an answer: read by httparse, and what it says of the body and of its connection.
//!
//! Pure. Two servers must not be able to take one answer for two different ones: see [`delimited`].

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use httparse::Status;
use hyper::ext::ReasonPhrase;

use super::framing::{Chunks, Framing};

/// Fields for which there is room without an allocation. The limit may be higher.
const FIELDS: usize = 128;

/// So much of a body shares the memory of its head: most answers of a call are one allocation.
const TOGETHER: usize = 4096;

/// Most of a head that is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes, its first line among them.
    pub bytes: usize,
    /// Header lines.
    pub fields: usize,
}

/// A head.
#[derive(Debug)]
pub struct Head {
    /// Status, version and headers.
    pub answer: Response<()>,
    /// Its bytes, up to the body.
    pub length: usize,
    /// What has come behind it, as far as that shares the memory of the head.
    pub behind: Bytes,
}

/// Why what came is no head.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not HTTP/1.1.
    #[error("it is not HTTP/1.1: {0}")]
    Http(httparse::Error),
    /// A name, value or status that HTTP does not allow.
    #[error("its head has a byte, or a status, that HTTP does not allow")]
    Field,
    /// Longer than the limit.
    #[error("its head has more than the {0} bytes that limits.header_bytes allows")]
    Bytes(usize),
    /// Only interim answers come.
    #[error("interim answers without end")]
    Interim,
    /// Another coding than chunks, or one in HTTP/1.0, which knows none.
    #[error("its body has a transfer coding other than \"chunked\"")]
    Coding,
    /// Nobody knows how long the body is.
    #[error("its Content-Length is none, or there are several different ones")]
    Length,
}

/// Reads the head at the beginning of `bytes`; `None` if its end has not come yet. The values of its headers share one
/// piece of memory; `map` gives an empty one for the headers.
///
/// # Errors
///
/// As soon as it can be none, or is larger than `limits`.
pub fn parse(
    bytes: &[u8],
    limits: Limits,
    map: impl FnOnce() -> HeaderMap,
) -> Result<Option<Head>, Malformed> {
    if limits.fields <= FIELDS {
        let mut room = [const { MaybeUninit::uninit() }; FIELDS];
        let (room, _) = room.split_at_mut(limits.fields);
        return parse_into(room, bytes, limits, map);
    }
    let mut room = vec![MaybeUninit::uninit(); limits.fields];
    parse_into(&mut room, bytes, limits, map)
}

fn parse_into<'b>(
    room: &mut [MaybeUninit<httparse::Header<'b>>],
    bytes: &'b [u8],
    limits: Limits,
    map: impl FnOnce() -> HeaderMap,
) -> Result<Option<Head>, Malformed> {
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut head, bytes, room)
        .map_err(Malformed::Http)?;
    let length = match parsed {
        Status::Complete(length) => length,
        Status::Partial => bytes.len(),
    };
    if length > limits.bytes {
        return Err(Malformed::Bytes(limits.bytes));
    }
    if parsed.is_partial() {
        return Ok(None);
    }
    let copied = bytes.len().min(length + TOGETHER);
    let own = Bytes::copy_from_slice(bytes.split_at(copied).0);
    let mut headers = map();
    headers.reserve(head.headers.len());
    for field in &*head.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Field)?;
        let begin = field.value.as_ptr().addr() - bytes.as_ptr().addr();
        let value = own.slice(begin..begin + field.value.len());
        let value = HeaderValue::from_maybe_shared(value);
        headers.append(name, value.map_err(|_| Malformed::Field)?);
    }
    let mut answer = Response::new(());
    let code = head.code.unwrap_or_default();
    *answer.status_mut() = StatusCode::from_u16(code).map_err(|_| Malformed::Field)?;
    *answer.version_mut() = match head.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    *answer.headers_mut() = headers;
    if let Some(reason) = head.reason.filter(|reason| is_own(answer.status(), reason))
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        answer.extensions_mut().insert(reason);
    }
    Ok(Some(Head {
        answer,
        length,
        behind: own.slice(length..),
    }))
}

/// Whether a backend says what a status is in words of its own.
fn is_own(status: StatusCode, reason: &str) -> bool {
    !reason.is_empty() && Some(reason) != status.canonical_reason()
}

/// What an answer says of its body and its connection. Found in one look: to ask a map for each costs a hash and a search.
#[derive(Default)]
struct Said {
    coding: Option<Coding>,
    length: Option<Result<u64, Malformed>>,
    closes: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    Other,
}

impl Said {
    fn of(headers: &HeaderMap) -> Self {
        let mut said = Self::default();
        for (name, value) in headers {
            if *name == header::CONTENT_LENGTH {
                parts_of(value).for_each(|part| said.length(number(part)));
            } else if *name == header::TRANSFER_ENCODING {
                let is_chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
                said.coding = Some(if is_chunked && said.coding.is_none() {
                    Coding::Chunked
                } else {
                    Coding::Other
                });
            } else if *name == header::CONNECTION {
                let is_close = |option: &[u8]| option.trim_ascii().eq_ignore_ascii_case(b"close");
                said.closes |= parts_of(value).any(is_close);
            }
        }
        said
    }

    fn length(&mut self, length: Option<u64>) {
        self.length = Some(match (&self.length, length) {
            (None, Some(length)) => Ok(length),
            (Some(Ok(before)), Some(length)) if *before == length => Ok(length),
            _ => Err(Malformed::Length),
        });
    }
}

fn parts_of(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',')
}

/// Where the body of an answer ends, and what becomes of its connection then.
#[derive(Debug)]
pub struct Delimited {
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the backend may be asked again on this connection. It may not, if it says so; if it speaks HTTP/1.0; and
    /// if it may send more than was read of this answer: it says two things of its body, or there is none by the rules and
    /// it speaks of one. Some servers then send it, and the next answer would begin with it.
    pub is_reusable: bool,
}

/// Where the body of the answer to a request ends, which asked for the head alone if `of_head` (RFC 9112, section 6.3).
///
/// # Errors
///
/// When that is not clear.
pub fn delimited(answer: &Response<()>, of_head: bool) -> Result<Delimited, Malformed> {
    let said = Said::of(answer.headers());
    let is_http_11 = answer.version() == Version::HTTP_11;
    let no_body = has_no_body(answer.status(), of_head);
    let says_too_much = if no_body {
        said.coding.is_some()
            || said
                .length
                .as_ref()
                .is_some_and(|said| !matches!(said, Ok(0)))
    } else {
        said.coding.is_some() && said.length.is_some()
    };
    let framing = match (said.coding, said.length) {
        _ if no_body => Framing::Length(0),
        (Some(Coding::Chunked), _) if is_http_11 => Framing::Chunked(Chunks::default()),
        (Some(_), _) => return Err(Malformed::Coding),
        (None, Some(length)) => Framing::Length(length?),
        (None, None) => Framing::UntilClose,
    };
    let is_switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    Ok(Delimited {
        framing,
        is_reusable: is_http_11 && !says_too_much && !is_switched && !said.closes,
    })
}

fn has_no_body(status: StatusCode, of_head: bool) -> bool {
    of_head
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// A length that leaves room for calculations.
fn number(digits: &[u8]) -> Option<u64> {
    let digits = digits.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    (number <= u64::MAX / 2).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)]) -> Response<()> {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(()).unwrap()
    }

    #[test]
    fn an_answer_that_says_too_much_of_its_body_leaves_its_connection_in_doubt() {
        let reusable = |status: u16, headers: &[(&str, &str)], of_head| {
            let delimited = delimited(&answer(status, headers), of_head);
            delimited.unwrap().is_reusable
        };
        let (length, none) = (("content-length", "5"), ("content-length", "0"));
        let coded = ("transfer-encoding", "chunked");
        assert!(reusable(200, &[length], false) && reusable(200, &[coded], false));
        assert!(!reusable(200, &[length, coded], false));
        for (status, of_head) in [(200, true), (204, false), (304, false)] {
            assert!(!reusable(status, &[length], of_head), "{status}");
            assert!(!reusable(status, &[coded], of_head), "{status}");
            assert!(reusable(status, &[none], of_head), "{status}");
            assert!(reusable(status, &[], of_head), "{status}");
        }
        assert!(!reusable(200, &[("connection", "x, Close")], false));
        let mut old = answer(200, &[]);
        *old.version_mut() = Version::HTTP_10;
        assert!(!delimited(&old, false).unwrap().is_reusable);
    }

    #[test]
    fn a_backends_own_words_for_a_status_reach_the_client() {
        let limits = Limits {
            bytes: 1000,
            fields: 10,
        };
        let bytes = b"HTTP/1.1 299 Own words\r\n\r\nrest";
        let head = parse(bytes, limits, HeaderMap::new).unwrap().unwrap();
        assert_eq!(head.length, bytes.len() - 4);
        let reason = head.answer.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(reason.as_bytes(), b"Own words");
        let bytes = b"HTTP/1.1 200 OK\r\n\r\n";
        let head = parse(bytes, limits, HeaderMap::new).unwrap().unwrap();
        assert!(head.answer.extensions().is_empty());
    }
}
