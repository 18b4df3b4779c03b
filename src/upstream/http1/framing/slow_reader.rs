//! Reads a chunked body line by line, from bytes that are all there: the rules of `framing`, slow and plain. Also for
//! `tests/fuzz`.

/// Most bytes of all chunk extensions, of a trailer section, and its most fields: as there.
const EXTENSIONS: usize = 16 * 1024;
const TRAILER_BYTES: usize = 16 * 1024;
const TRAILER_FIELDS: usize = 64;

/// What a body comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It goes on.
    Unended,
    /// It has ended behind so many bytes; whether in doubt.
    Ended(usize, bool),
    /// It is none.
    Invalid,
}

/// The data of `bytes`, and what they come to.
pub(crate) fn read(bytes: &[u8]) -> (Vec<u8>, Outcome) {
    let (mut data, mut at, mut extensions) = (Vec::new(), 0, 0);
    loop {
        let rest = &bytes[at..];
        let line_end = rest.windows(2).position(|pair| pair == b"\r\n");
        let line = &rest[..line_end.unwrap_or(rest.len())];
        // Of an unended line, a last CR may be the first half of its end.
        let line = line
            .strip_suffix(b"\r")
            .filter(|_| line_end.is_none())
            .unwrap_or(line);
        let begins = line_end.is_some() || line.len() < rest.len();
        let Some(size) = size_of(line, begins) else {
            return (data, Outcome::Invalid);
        };
        extensions += line
            .iter()
            .skip_while(|byte| byte.is_ascii_hexdigit())
            .count();
        if extensions > EXTENSIONS {
            return (data, Outcome::Invalid);
        }
        let Some(line_end) = line_end else {
            return (data, Outcome::Unended);
        };
        at += line_end + 2;
        if size == 0 {
            let outcome = trailer(bytes, at);
            return (data, outcome);
        }
        let rest = &bytes[at..];
        let length = usize::try_from(size).map_or(rest.len(), |size| size.min(rest.len()));
        data.extend_from_slice(&rest[..length]);
        at += length;
        let end = &bytes[at..bytes.len().min(at + 2)];
        if !b"\r\n".starts_with(end) {
            return (data, Outcome::Invalid);
        }
        if end.len() < 2 {
            return (data, Outcome::Unended);
        }
        at += 2;
    }
}

/// The size that a line tells, which has `ended` or may go on; 0 for one that has not begun.
fn size_of(line: &[u8], ended: bool) -> Option<u64> {
    let (line, has_extension) = match line.iter().position(|byte| *byte == b';') {
        Some(at) if line[at..].iter().any(|byte| matches!(byte, b'\n' | b'\r')) => return None,
        Some(at) => (&line[..at], true),
        None => (line, false),
    };
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (digits, blanks) = line.split_at(digits);
    if !blanks.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
        return None;
    }
    if digits.is_empty() {
        return (!ended && !has_extension && blanks.is_empty()).then_some(0);
    }
    let digits = std::str::from_utf8(digits).ok()?.trim_start_matches('0');
    match digits {
        "" => Some(0),
        digits => u64::from_str_radix(digits, 16).ok(),
    }
}

fn trailer(bytes: &[u8], begin: usize) -> Outcome {
    let mut at = begin;
    let mut in_doubt = false;
    while let Some(length) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let line = &bytes[at..at + length];
        at += length + 1;
        if at - begin > TRAILER_BYTES {
            return Outcome::Invalid;
        }
        in_doubt |= !line.ends_with(b"\r");
        if matches!(line, b"" | b"\r") {
            let mut fields = [httparse::EMPTY_HEADER; TRAILER_FIELDS];
            let parsed = httparse::parse_headers(&bytes[begin..at], &mut fields);
            return match parsed {
                Ok(httparse::Status::Complete((length, _))) if length == at - begin => {
                    Outcome::Ended(at, in_doubt)
                }
                Ok(_) | Err(_) => Outcome::Invalid,
            };
        }
    }
    if bytes.len() - begin > TRAILER_BYTES {
        Outcome::Invalid
    } else {
        Outcome::Unended
    }
}
