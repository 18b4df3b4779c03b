//! Server-sent events, as far as an intermediary must see them: where one event ends.
//!
//! Events pass as bytes; nothing is decoded. WHATWG HTML, "Server-sent events", 9.2.5: lines end in LF, CR
//! or CRLF, and a blank line ends an event.

mod cut;

use http::{HeaderMap, header::CONTENT_TYPE};

pub use self::cut::{Cutter, Event, TooLong};

/// Whether a media type, without parameters, is `text/event-stream`. Space around it is ignored.
#[must_use]
pub fn is_event_stream(media_type: &[u8]) -> bool {
    media_type
        .trim_ascii()
        .eq_ignore_ascii_case(b"text/event-stream")
}

/// Whether these headers announce an event stream.
#[must_use]
pub fn announced(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.as_bytes().split(|byte| *byte == b';').next())
        .is_some_and(is_event_stream)
}

/// Follows a stream and tells whether it stands between two events, where it may be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boundary {
    /// Line ends that the stream ends in, counted up to two. A stream begins between events.
    line_ends: u8,
    /// The last byte was CR: a LF that follows belongs to it.
    after_cr: bool,
}

impl Boundary {
    /// The beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self {
            line_ends: 2,
            after_cr: false,
        }
    }

    /// Takes the next bytes of the stream. Only the last four can matter.
    pub fn push(&mut self, bytes: &[u8]) {
        let tail = bytes.split_at(bytes.len().saturating_sub(4)).1;
        for byte in tail {
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\n' | b'\r' => {
                    self.line_ends = (self.line_ends + 1).min(2);
                    self.after_cr = *byte == b'\r';
                }
                _ => {
                    *self = Self {
                        line_ends: 0,
                        after_cr: false,
                    }
                }
            }
        }
    }

    /// Whether the stream stands between two events.
    #[must_use]
    pub fn between_events(self) -> bool {
        self.line_ends == 2
    }
}

/// Reads the `data` of each event of a stream.
#[derive(Debug, Default)]
pub struct Data {
    line: Vec<u8>,
    data: Vec<u8>,
    after_cr: bool,
}

impl Data {
    /// Takes the next bytes of the stream, and calls `event` with the data of each event that ends in them.
    pub fn push(&mut self, bytes: &[u8], mut event: impl FnMut(&[u8])) {
        for byte in bytes {
            let belongs_to_cr = *byte == b'\n' && self.after_cr;
            self.after_cr = *byte == b'\r';
            match byte {
                b'\n' if belongs_to_cr => {}
                b'\n' | b'\r' if self.line.is_empty() => {
                    if !self.data.is_empty() {
                        event(&self.data);
                        self.data.clear();
                    }
                }
                b'\n' | b'\r' => self.end_line(),
                _ => self.line.push(*byte),
            }
        }
    }

    fn end_line(&mut self) {
        if let Some(value) = self.line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data
                .extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
        self.line.clear();
    }
}

impl Default for Boundary {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_line_ends_an_event_whatever_ends_the_lines() {
        for end in ["\n", "\r", "\r\n"] {
            let stream = format!("id: 1{end}data: x{end}{end}: comment{end}{end}");
            for cut in 0..stream.len() {
                let (before, after) = stream.as_bytes().split_at(cut);
                let mut boundary = Boundary::new();
                boundary.push(before);
                boundary.push(after);
                assert!(boundary.between_events(), "{stream:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn the_data_of_an_event_is_read_whatever_ends_the_lines() {
        for end in ["\n", "\r", "\r\n"] {
            let stream = format!(
                ": hello{end}{end}id: 1{end}data:{end}{end}data: {{{end}event: message{end}data:1}}{end}{end}data: cut{end}"
            );
            for cut in 0..stream.len() {
                let (before, after) = stream.as_bytes().split_at(cut);
                let (mut data, mut events) = (Data::default(), Vec::new());
                for bytes in [before, after] {
                    data.push(bytes, |event| events.push(event.to_vec()));
                }
                assert_eq!(events, [b"{\n1}"], "{stream:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn within_an_event_there_is_no_boundary() {
        for open in [
            "data: x",
            "data: x\n",
            "data: x\r\n",
            "\n\ndata",
            "data: x\n\nid: 1\n",
        ] {
            let mut boundary = Boundary::new();
            boundary.push(open.as_bytes());
            assert!(!boundary.between_events(), "{open:?}");
        }
        assert!(Boundary::new().between_events());
    }

    #[test]
    fn the_content_type_announces_a_stream() {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            http::HeaderValue::from_static("Text/Event-Stream; charset=utf-8"),
        );
        assert!(announced(&headers));
        headers.insert(
            CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        );
        assert!(!announced(&headers));
    }
}
