//! The head of an answer: read by httparse, and what it says of the body and of its connection.
//!
//! Pure. Two servers must not be able to take one answer for two different ones: see [`framing_of`].

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use httparse::Status;
use hyper::ext::ReasonPhrase;

use super::framing::{Chunks, Framing};

/// Fields for which there is room without an allocation. The limit may be higher.
const FIELDS: usize = 128;

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
    let own = Bytes::copy_from_slice(bytes.split_at(length).0);
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
    Ok(Some(Head { answer, length }))
}

/// Whether a backend says what a status is in words of its own.
fn is_own(status: StatusCode, reason: &str) -> bool {
    !reason.is_empty() && Some(reason) != status.canonical_reason()
}

/// Where the body of the answer to a request ends, which asked for the head alone if `of_head` (RFC 9112, section 6.3).
///
/// # Errors
///
/// When that is not clear.
pub fn framing_of(answer: &Response<()>, of_head: bool) -> Result<Framing, Malformed> {
    let headers = answer.headers();
    if has_no_body(answer.status(), of_head) {
        return Ok(Framing::Length(0));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !is_chunked || codings.next().is_some() || answer.version() == Version::HTTP_10 {
            return Err(Malformed::Coding);
        }
        return Ok(Framing::Chunked(Chunks::default()));
    }
    let mut lengths = headers
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let Some(first) = lengths.next() else {
        return Ok(Framing::UntilClose);
    };
    let length = number(first).ok_or(Malformed::Length)?;
    if lengths.any(|other| number(other) != Some(length)) {
        return Err(Malformed::Length);
    }
    Ok(Framing::Length(length))
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
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number <= u64::MAX / 2).then_some(number)
}

/// Whether the backend may be asked again on this connection, once the body has ended. It may not, if it says so; if it
/// speaks HTTP/1.0; and if it may send more than was read of this answer: it says two things of its body, or there is none by
/// the rules and it speaks of one. Some servers then send it, and the next answer would begin with it.
#[must_use]
pub fn is_reusable(answer: &Response<()>, of_head: bool) -> bool {
    let headers = answer.headers();
    let is_coded = headers.contains_key(header::TRANSFER_ENCODING);
    let length = headers.get(header::CONTENT_LENGTH);
    let says_too_much = if has_no_body(answer.status(), of_head) {
        is_coded || length.is_some_and(|length| length.as_bytes() != b"0")
    } else {
        is_coded && length.is_some()
    };
    let is_last = || {
        let options = headers.get_all(header::CONNECTION).iter();
        options
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    };
    answer.version() == Version::HTTP_11
        && !says_too_much
        && answer.status() != StatusCode::SWITCHING_PROTOCOLS
        && !is_last()
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
            is_reusable(&answer(status, headers), of_head)
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
        assert!(!is_reusable(&old, false));
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
