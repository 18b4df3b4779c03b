//! The data of the events of a stream, cut anywhere.
//!
//! WHATWG HTML, "Server-sent events", 9.2.5 and 9.2.6: lines end in LF, CR or CRLF, a blank line ends an event, and the
//! `data` lines of one event make one text, joined by LF. A bare `data` adds an empty line, which to JSON is nothing.

use std::ops::Range;

use memchr::memchr2;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const DATA: &[u8] = b"data";

/// What matters of a stream, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// These bytes of the chunk belong to the data of an event.
    Data(Range<usize>),
    /// A line of data begins: a LF is between it and the line before. Before the first it is mere space.
    NewLine,
    /// The event is over.
    End,
}

/// Where in a line the stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// After so many bytes of a byte order mark, which only the stream's first line can have.
    Mark(usize),
    /// After so many bytes of `data`.
    Name(usize),
    /// After `data:`, where one space belongs to neither name nor value.
    Space,
    Value,
    /// A comment or another field.
    Other,
}

/// Splits an event stream.
#[derive(Debug)]
pub(super) struct Events {
    line: Line,
    /// The last byte was CR: a LF that follows belongs to it.
    after_cr: bool,
}

impl Events {
    pub(super) fn new() -> Self {
        Self {
            line: Line::Mark(0),
            after_cr: false,
        }
    }

    /// Passes over `bytes`, of which nobody wants the pieces, if no event is cut by their end; `false` if one may be.
    /// Whether one is cut by their beginning, the caller knows, as far as it had data.
    pub(super) fn pass_whole(&mut self, bytes: &[u8]) -> bool {
        let begins_line = matches!(self.line, Line::Mark(0) | Line::Name(0));
        let is_whole = begins_line && (bytes.ends_with(b"\n\n") || bytes.ends_with(b"\r\n\r\n"));
        if is_whole {
            (self.line, self.after_cr) = (Line::Name(0), false);
        }
        is_whole
    }

    /// Reads `bytes` from `at` to behind the next piece; `None` if there is none.
    pub(super) fn next(&mut self, bytes: &[u8], at: &mut usize) -> Option<Piece> {
        while let Some(byte) = bytes.get(*at) {
            if std::mem::take(&mut self.after_cr) && *byte == b'\n' {
                *at += 1;
                continue;
            }
            match self.line {
                Line::Value => {
                    let data = self.pass_line(bytes, at);
                    if !data.is_empty() {
                        return Some(Piece::Data(data));
                    }
                }
                Line::Other => {
                    self.pass_line(bytes, at);
                }
                Line::Mark(_) | Line::Name(_) | Line::Space => {
                    if let Some(piece) = self.begin(*byte, at) {
                        return Some(piece);
                    }
                }
            }
        }
        None
    }

    /// Reads to the end of the line, or of the bytes. Returns what stood before it.
    fn pass_line(&mut self, bytes: &[u8], at: &mut usize) -> Range<usize> {
        let start = *at;
        let found = memchr2(b'\r', b'\n', &bytes[start..]);
        let end = found.map_or(bytes.len(), |found| start + found);
        *at = end;
        if found.is_some() {
            self.end_line(bytes[end]);
            *at += 1;
        }
        start..end
    }

    fn end_line(&mut self, byte: u8) {
        self.after_cr = byte == b'\r';
        self.line = Line::Name(0);
    }

    /// Reads a byte of what stands before a value.
    fn begin(&mut self, byte: u8, at: &mut usize) -> Option<Piece> {
        if matches!(byte, b'\r' | b'\n') {
            *at += 1;
            let line = self.line;
            self.end_line(byte);
            return matches!(line, Line::Mark(0 | 3) | Line::Name(0)).then_some(Piece::End);
        }
        match self.line {
            Line::Mark(read) if BYTE_ORDER_MARK.get(read) == Some(&byte) => {
                self.line = Line::Mark(read + 1);
            }
            Line::Mark(0 | 3) => {
                self.line = Line::Name(0);
                return None;
            }
            Line::Name(read) if DATA.get(read) == Some(&byte) => {
                self.line = Line::Name(read + 1);
            }
            Line::Name(4) if byte == b':' => {
                self.line = Line::Space;
                *at += 1;
                return Some(Piece::NewLine);
            }
            Line::Space => {
                self.line = Line::Value;
                *at += usize::from(byte == b' ');
                return None;
            }
            Line::Mark(_) | Line::Name(_) | Line::Value | Line::Other => self.line = Line::Other,
        }
        *at += 1;
        None
    }
}
