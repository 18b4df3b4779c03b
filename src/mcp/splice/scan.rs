//! Follows one JSON text, cut anywhere, and stops where a carrier's string ends.
//!
//! The few places that can hold a carrier are followed member by member, all other values are skipped. There is
//! no recursion and no stack: each place has one parent, and the depth of a skipped value is a number.

use super::{
    Carrier,
    place::{Field, Place, Side, Value},
    skip::Skipped,
    text::Text,
};

/// Longest key that is kept. The longest that is looked for has 13 bytes.
const LONGEST_KEY: usize = 16;

#[derive(Debug)]
enum State {
    /// Between tokens, in a place that is followed.
    Expects(Token),
    Key,
    String(Field),
    Skipped(Skipped),
    /// A number, a literal, or what somebody takes for one, and what it is if it is looked for.
    Scalar(Option<Field>),
    /// After the end, or after a fault.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Message,
    FirstKey,
    Key,
    Colon,
    Value,
    FirstElement,
    Comma,
}

/// See the module. Holds no more than the longest string that it keeps.
#[derive(Debug)]
pub(super) struct Scanner {
    side: Side,
    longest: usize,
    state: State,
    /// The innermost place that is open.
    place: Place,
    /// The value that comes next.
    value: Value,
    text: Text,
    /// Bytes of the string in `text`, or of the scalar that is looked for, as they were written.
    raw_len: usize,
}

impl Scanner {
    /// Keeps strings of up to `longest` bytes.
    pub(super) fn new(side: Side, longest: usize) -> Self {
        Self {
            side,
            longest,
            state: State::Expects(Token::Message),
            place: Place::Message,
            value: Value::Other,
            text: Text::new(),
            raw_len: 0,
        }
    }

    /// Begins another text.
    pub(super) fn reset(&mut self) {
        self.state = State::Expects(Token::Message);
    }

    /// Whether nothing of the text has come yet.
    pub(super) fn is_fresh(&self) -> bool {
        matches!(self.state, State::Expects(Token::Message))
    }

    /// The string that ended last; `None` if it is empty, too long, no valid JSON or no valid Unicode.
    pub(super) fn string(&self) -> Option<&str> {
        self.text.string().filter(|string| !string.is_empty())
    }

    /// The length of what [`Scanner::next`] has found, as it was written: of a string without its quotes.
    pub(super) fn raw_len(&self) -> usize {
        self.raw_len
    }

    /// Reads `bytes` from `at` to the end of the next value that is looked for; `at` is then behind its closing
    /// quote or, of a number, its last byte. `None` if there is none.
    pub(super) fn next(&mut self, bytes: &[u8], at: &mut usize) -> Option<Field> {
        while let Some(rest) = bytes.get(*at..).filter(|rest| !rest.is_empty()) {
            match self.state {
                State::Expects(token) => {
                    *at += 1;
                    if !is_space(rest[0]) {
                        self.take(token, rest[0]);
                    }
                }
                State::Key => {
                    *at += self.read_text(rest, State::Expects(Token::Colon));
                }
                State::String(field) => {
                    *at += self.read_text(rest, State::Expects(Token::Comma));
                    if !matches!(self.state, State::String(_)) {
                        return Some(field);
                    }
                }
                State::Skipped(ref mut skipped) => {
                    *at += skipped.pass(rest);
                    if skipped.is_over() {
                        self.state = State::Expects(Token::Comma);
                    }
                }
                State::Scalar(field) => {
                    let end = rest.iter().position(|byte| ends_scalar(*byte));
                    let passed = end.unwrap_or(rest.len());
                    *at += passed;
                    self.raw_len += passed;
                    if end.is_some() {
                        self.state = State::Expects(Token::Comma);
                        if field.is_some() {
                            return field;
                        }
                    }
                }
                State::Over => *at = bytes.len(),
            }
        }
        None
    }

    /// Reads the line end between two lines of an event's data.
    pub(super) fn pass_new_line(&mut self) {
        let field = self.next(b"\n", &mut 0);
        debug_assert!(field.is_none(), "a line end closes no string");
    }

    /// Reads on in a string. Returns how many bytes were its, and goes to `then` after its end.
    fn read_text(&mut self, bytes: &[u8], then: State) -> usize {
        match self.text.push(bytes) {
            Some(quote) => {
                self.raw_len += quote;
                if matches!(self.state, State::Key) {
                    let key = self.text.string().unwrap_or_default();
                    self.value = self.place.member(self.side, key);
                }
                self.state = then;
                quote + 1
            }
            None => {
                self.raw_len += bytes.len();
                bytes.len()
            }
        }
    }

    /// Takes a byte that begins or is a token.
    fn take(&mut self, expected: Token, byte: u8) {
        match (expected, byte) {
            (Token::Message, b'{') => self.enter(Place::Message),
            // A byte order mark, which parsers may ignore (RFC 8259, section 8.1).
            (Token::Message, 0xef | 0xbb | 0xbf) => {}
            (Token::FirstKey | Token::Key, b'"') => self.begin_text(State::Key, LONGEST_KEY),
            (Token::FirstKey, b'}') => self.leave(),
            (Token::Colon, b':') => self.state = State::Expects(Token::Value),
            (Token::FirstElement, b']') => self.leave(),
            (Token::Value | Token::FirstElement, _) => self.begin_value(byte),
            (Token::Comma, b',') => {
                self.state = State::Expects(if self.place.is_array() {
                    Token::Value
                } else {
                    Token::Key
                });
            }
            (Token::Comma, b'}') if !self.place.is_array() => self.leave(),
            (Token::Comma, b']') if self.place.is_array() => self.leave(),
            (Token::Message | Token::FirstKey | Token::Key | Token::Colon | Token::Comma, _) => {
                self.state = State::Over;
            }
        }
    }

    fn begin_value(&mut self, byte: u8) {
        match (byte, self.value) {
            (b'"', Value::Is(field)) => self.begin_text(State::String(field), self.longest),
            (b'{', Value::Within(place)) if !place.is_array() => self.enter(place),
            (b'[', Value::Within(place)) if place.is_array() => self.enter(place),
            (b'"' | b'{' | b'[', _) => self.state = State::Skipped(Skipped::begin(byte)),
            (b',' | b':' | b'}' | b']', _) => self.state = State::Over,
            (_, value) => {
                self.raw_len = 1;
                self.state = State::Scalar(match value {
                    Value::Is(Field::Id) => Some(Field::Id),
                    Value::Is(Field::Carrier(_)) | Value::Within(_) | Value::Other => None,
                });
            }
        }
    }

    fn begin_text(&mut self, state: State, longest: usize) {
        self.text.begin(longest);
        self.raw_len = 0;
        self.state = state;
    }

    fn enter(&mut self, place: Place) {
        self.place = place;
        self.state = if place.is_array() {
            // All its elements are the same.
            self.value = Value::Is(Field::Carrier(Carrier::Task));
            State::Expects(Token::FirstElement)
        } else {
            State::Expects(Token::FirstKey)
        };
    }

    fn leave(&mut self) {
        self.state = match self.place.parent() {
            Some(parent) => {
                self.place = parent;
                State::Expects(Token::Comma)
            }
            None => State::Over,
        };
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn ends_scalar(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b',' | b'}' | b']')
}
