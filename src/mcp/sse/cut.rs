//! Cuts a stream into whole events, for those who merge several streams into one.
//!
//! WHATWG HTML, "Server-sent events", 9.2.5 and 9.2.6.

use std::fmt;

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memchr2;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An event is longer than the [`Cutter`] may hold, or what comes is no event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {0} bytes")]
pub struct TooLong(pub usize);

/// Cuts a stream into its events.
pub struct Cutter {
    /// What is there of the event that has begun.
    begun: BytesMut,
    longest: usize,
    line_is_empty: bool,
    /// The last byte was CR: a LF that follows belongs to it.
    after_cr: bool,
    is_first: bool,
}

impl Cutter {
    /// The beginning of a stream whose events have up to `longest` bytes. So much is held at most.
    #[must_use]
    pub fn new(longest: usize) -> Self {
        Self {
            begun: BytesMut::new(),
            longest,
            line_is_empty: true,
            after_cr: false,
            is_first: true,
        }
    }

    /// Takes the next event off the stream, whose next bytes are `chunk`: the whole of it, with the blank line that
    /// ends it. `None` if it does not end in them; they are then taken all the same.
    ///
    /// # Errors
    ///
    /// When it is too long. The stream is then of no use any more.
    pub fn next(&mut self, chunk: &mut Bytes) -> Result<Option<Bytes>, TooLong> {
        let mut at = 0;
        if !chunk.is_empty() && std::mem::take(&mut self.after_cr) && chunk[0] == b'\n' {
            if self.begun.is_empty() {
                chunk.advance(1); // its event has left already
            } else {
                at = 1;
            }
        }
        while let Some(found) = chunk.get(at..).and_then(|rest| memchr2(b'\r', b'\n', rest)) {
            let is_blank = found == 0 && self.line_is_empty;
            let is_cr = chunk[at + found] == b'\r';
            at += found + 1;
            match chunk.get(at) {
                Some(b'\n') if is_cr => at += 1,
                Some(_) => {}
                None => self.after_cr = is_cr,
            }
            self.line_is_empty = true;
            if is_blank {
                return self.end(chunk.split_to(at)).map(Some);
            }
        }
        self.line_is_empty &= at == chunk.len();
        self.check(chunk.len())?;
        self.begun.extend_from_slice(chunk);
        chunk.clear();
        Ok(None)
    }

    fn end(&mut self, rest: Bytes) -> Result<Bytes, TooLong> {
        self.check(rest.len())?;
        let mut event = rest;
        if !self.begun.is_empty() {
            let mut begun = std::mem::take(&mut self.begun);
            begun.extend_from_slice(&event);
            event = begun.freeze();
        }
        if std::mem::take(&mut self.is_first) && event.starts_with(BYTE_ORDER_MARK) {
            event.advance(BYTE_ORDER_MARK.len());
        }
        Ok(event)
    }

    fn check(&self, more: usize) -> Result<(), TooLong> {
        if self.begun.len() + more > self.longest {
            return Err(TooLong(self.longest));
        }
        Ok(())
    }
}

impl fmt::Debug for Cutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cutter({} bytes)", self.begun.len())
    }
}

/// A whole event that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// As it leaves: as it came, but for what is about its stream rather than about what it says. `id` and `retry`
    /// tell a client how to resume that one stream, which nobody can do with several at once, and comments that it
    /// lives.
    pub bytes: Bytes,
    /// Its data.
    pub data: Bytes,
}

impl Event {
    /// Reads what [`Cutter::next`] gave; `None` if it says nothing.
    #[must_use]
    pub fn read(raw: &Bytes) -> Option<Self> {
        let (mut kept, mut data) = (Vec::new(), Vec::new());
        for line in lines(raw) {
            let text = content(line);
            let (name, value) = field(text);
            match name {
                b"id" | b"retry" => continue,
                b"" if !text.is_empty() => continue,
                b"data" => data.push(value),
                _ => {}
            }
            kept.push(line);
        }
        let data = match *data.as_slice() {
            [] => return None,
            [one] => raw.slice_ref(one),
            _ => Bytes::from(data.join(&b'\n')),
        };
        let whole = kept.iter().map(|line| line.len()).sum::<usize>() == raw.len();
        let bytes = if whole {
            raw.clone()
        } else {
            Bytes::from(kept.concat())
        };
        (!data.trim_ascii().is_empty()).then_some(Self { bytes, data })
    }
}

/// A line without its end.
fn content(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The lines of an event, each with its end.
fn lines(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let mut end = memchr2(b'\r', b'\n', rest).map_or(rest.len(), |end| end + 1);
        end += usize::from(rest.get(end.wrapping_sub(1)..=end) == Some(b"\r\n"));
        let line;
        (line, rest) = rest.split_at(end);
        (!line.is_empty()).then_some(line)
    })
}

/// The name of a line's field, and its value. A comment's name is empty.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|byte| *byte == b':') {
        Some(colon) => {
            let value = &line[colon + 1..];
            (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
        }
        None => (line, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts `stream`, which comes in `pieces`.
    fn cut(pieces: &[&[u8]]) -> Vec<Bytes> {
        let (mut cutter, mut events) = (Cutter::new(100), Vec::new());
        for piece in pieces {
            let mut chunk = Bytes::copy_from_slice(piece);
            while let Some(event) = cutter.next(&mut chunk).unwrap() {
                events.push(event);
            }
            assert!(chunk.is_empty());
        }
        events
    }

    fn event(bytes: &[u8], data: &[u8]) -> Event {
        let [bytes, data] = [bytes, data].map(Bytes::copy_from_slice);
        Event { bytes, data }
    }

    #[test]
    fn events_are_the_same_wherever_the_stream_is_cut_and_whatever_ends_its_lines() {
        for end in ["\n", "\r", "\r\n"] {
            let stream = format!(
                "\u{feff}event: message{end}data: {{}}{end}{end}: ping{end}{end}{end}data: 1{end}data:2{end}{end}data: cut{end}"
            );
            let expected = [
                event(
                    format!("event: message{end}data: {{}}{end}{end}").as_bytes(),
                    b"{}",
                ),
                event(format!("data: 1{end}data:2{end}{end}").as_bytes(), b"1\n2"),
            ];
            for cut_at in 0..stream.len() {
                let (one, other) = stream.as_bytes().split_at(cut_at);
                let events = cut(&[one, other]);
                let read: Vec<Event> = events.iter().filter_map(Event::read).collect();
                let data = |events: &[Event]| -> Vec<Bytes> {
                    events.iter().map(|event| event.data.clone()).collect()
                };
                assert_eq!(data(&read), data(&expected), "{stream:?} cut at {cut_at}");
                // Where CRLF is cut in two, the event that leaves at once ends in CR, as it may.
                let leaves = |event: &Event| event.bytes.trim_ascii_end().to_vec();
                assert!(read.iter().map(leaves).eq(expected.iter().map(leaves)));
                assert!(
                    read.iter()
                        .all(|event| event.bytes.ends_with(b"\n") || event.bytes.ends_with(b"\r"))
                );
            }
            let whole = cut(&[stream.as_bytes()]);
            let read: Vec<Event> = whole.iter().filter_map(Event::read).collect();
            assert_eq!(read, expected);
            let bytes: Vec<Vec<u8>> = stream.bytes().map(|byte| vec![byte]).collect();
            let bytes: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
            assert_eq!(cut(&bytes).iter().filter_map(Event::read).count(), 2);
        }
    }

    #[test]
    fn an_event_that_is_too_long_is_refused_before_it_is_whole() {
        let mut cutter = Cutter::new(10);
        assert_eq!(cutter.next(&mut Bytes::from_static(b"data: 1\n")), Ok(None));
        let more = &mut Bytes::from_static(b"data: 2");
        assert_eq!(cutter.next(more), Err(TooLong(10)));
        let whole = &mut Bytes::from_static(b"data: 12345\n\n");
        assert_eq!(Cutter::new(10).next(whole), Err(TooLong(10)));
    }

    #[test]
    fn what_is_about_one_stream_alone_is_taken_off() {
        for (raw, expected) in [
            ("id: 7\ndata: x\nretry: 5\n\n", Some("data: x\n\n")),
            (": c\r\ndata: x\r\n:\r\nid\r\n\r\n", Some("data: x\r\n\r\n")),
            ("identity: 1\ndata: x\n\n", Some("identity: 1\ndata: x\n\n")),
            ("data: x\n\n", Some("data: x\n\n")),
            ("id: 7\nretry: 500\ndata:\n\n", None),
            ("event: message\n\n", None),
            (": keepalive\n\n", None),
            ("\n", None),
            ("no stream at all", None),
        ] {
            let raw = Bytes::from_static(raw.as_bytes());
            let read = Event::read(&raw).map(|event| event.bytes);
            assert_eq!(read.as_deref(), expected.map(str::as_bytes), "{raw:?}");
        }
    }
}
