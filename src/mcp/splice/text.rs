//! One JSON string, decoded as it comes, up to a cap.

use std::fmt;

use memchr::memchr2;

/// What a stream keeps in hand from one string to the next: enough for keys and the ids of tasks.
const KEPT_CAPACITY: usize = 256;

/// A string between its quotes. RFC 8259, section 7.
pub(super) struct Text {
    decoded: Vec<u8>,
    /// More bytes than these are not kept.
    longest: usize,
    escape: Escape,
    /// The first half of a surrogate pair, whose second has not come yet.
    high: Option<u16>,
    /// Too long, no valid JSON or no valid Unicode.
    spoiled: bool,
}

/// Where in an escape the string stands.
#[derive(Debug, Clone, Copy)]
enum Escape {
    No,
    /// After the backslash.
    Begun,
    /// After `\u` and so many of its four digits.
    Unicode {
        digits: u8,
        unit: u16,
    },
}

impl Text {
    pub(super) fn new() -> Self {
        Self {
            decoded: Vec::new(),
            longest: 0,
            escape: Escape::No,
            high: None,
            spoiled: false,
        }
    }

    /// Begins a string, after its opening quote.
    pub(super) fn begin(&mut self, longest: usize) {
        let mut decoded = std::mem::take(&mut self.decoded);
        decoded.clear();
        decoded.shrink_to(KEPT_CAPACITY);
        *self = Self {
            decoded,
            longest,
            ..Self::new()
        };
    }

    /// Reads on. Returns where the closing quote is, if it is among these bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match self.escape {
                Escape::No => {
                    let rest = &bytes[at..];
                    let end = memchr2(b'"', b'\\', rest);
                    self.keep_raw(&rest[..end.unwrap_or(rest.len())]);
                    at += end?;
                    if bytes[at] == b'"' {
                        return Some(at);
                    }
                    self.escape = Escape::Begun;
                    at += 1;
                }
                Escape::Begun => {
                    self.unescape(*byte);
                    at += 1;
                }
                Escape::Unicode { digits, unit } => {
                    // Anything but a digit ends the escape, and may be the closing quote.
                    at += usize::from(self.take_digit(*byte, digits, unit));
                }
            }
        }
        None
    }

    /// What was decoded; `None` if the string is too long, no valid JSON or no valid Unicode.
    pub(super) fn string(&self) -> Option<&str> {
        if self.spoiled || self.high.is_some() {
            return None;
        }
        std::str::from_utf8(&self.decoded).ok()
    }

    fn spoil(&mut self) {
        self.spoiled = true;
        self.decoded = Vec::new();
    }

    fn keep(&mut self, bytes: &[u8]) {
        let fits = self.longest - self.decoded.len() >= bytes.len();
        if self.high.is_some() || !fits {
            self.spoil();
        }
        if !self.spoiled {
            self.decoded.extend_from_slice(bytes);
        }
    }

    fn keep_raw(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.spoiled {
            return;
        }
        self.keep(bytes);
        if bytes.iter().any(|byte| *byte < 0x20) {
            self.spoil();
        }
    }

    fn unescape(&mut self, byte: u8) {
        self.escape = Escape::No;
        match byte {
            b'"' | b'\\' | b'/' => self.keep(&[byte]),
            b'b' => self.keep(b"\x08"),
            b'f' => self.keep(b"\x0c"),
            b'n' => self.keep(b"\n"),
            b'r' => self.keep(b"\r"),
            b't' => self.keep(b"\t"),
            b'u' => self.escape = Escape::Unicode { digits: 0, unit: 0 },
            _ => self.spoil(),
        }
    }

    /// Takes a digit of `\u`; false if it is none.
    fn take_digit(&mut self, byte: u8, digits: u8, unit: u16) -> bool {
        let Some(digit) = char::from(byte).to_digit(16) else {
            self.escape = Escape::No;
            self.spoil();
            return false;
        };
        let unit = unit << 4 | digit as u16;
        self.escape = Escape::Unicode {
            digits: digits + 1,
            unit,
        };
        if digits == 3 {
            self.escape = Escape::No;
            self.keep_unit(unit);
        }
        true
    }

    /// Keeps a code unit of UTF-16: a character, or half of one.
    fn keep_unit(&mut self, unit: u16) {
        let units = match self.high.take() {
            None if (0xd800..0xdc00).contains(&unit) => {
                self.high = Some(unit);
                return;
            }
            None => [None, Some(unit)],
            high => [high, Some(unit)],
        };
        for character in char::decode_utf16(units.into_iter().flatten()) {
            match character {
                Ok(character) => self.keep(character.encode_utf8(&mut [0; 4]).as_bytes()),
                Err(_) => self.spoil(),
            }
        }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.decoded.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `raw`, cut into pieces of `step` bytes.
    fn decode(raw: &[u8], longest: usize, step: usize) -> Option<String> {
        let mut text = Text::new();
        text.begin(longest);
        for piece in raw.chunks(step) {
            assert_eq!(text.push(piece), None, "{raw:?} has no closing quote");
        }
        assert_eq!(text.push(b"\" tail"), Some(0));
        text.string().map(str::to_owned)
    }

    #[test]
    fn strings_are_decoded_wherever_they_are_cut() {
        for (raw, decoded) in [
            (r"", Some("")),
            (r"plain", Some("plain")),
            (r#"\"\\\/\b\f\n\r\t"#, Some("\"\\/\u{8}\u{c}\n\r\t")),
            (r"\u0041\u00e9\u20AC", Some("A\u{e9}\u{20ac}")),
            ("\u{e9}\u{1f600}", Some("\u{e9}\u{1f600}")),
            (r"\ud83d\ude00!", Some("\u{1f600}!")),
            (r"\u0000", Some("\0")),
            (r"\ud83d", None),
            (r"\ud83d!", None),
            (r"\ud83d!\ude00", None),
            (r"\ud83d\n", None),
            (r"\ud83d\u0041", None),
            (r"\ud83d\ud83d\ude00", None),
            (r"\ude00", None),
            (r"\x", None),
            (r"\u00g0", None),
            (r"\u00", None),
            ("a\nb", None),
            ("\0", None),
        ] {
            for step in 1..=raw.len().max(1) {
                let found = decode(raw.as_bytes(), 100, step);
                assert_eq!(found.as_deref(), decoded, "{raw:?} in steps of {step}");
            }
        }
        assert_eq!(decode(b"\xff", 100, 1), None);
    }

    #[test]
    fn what_is_longer_than_the_cap_is_not_kept() {
        assert_eq!(decode(b"abcd", 4, 2).as_deref(), Some("abcd"));
        for long in [&b"abcde"[..], br"abc\u00e9", &[b'a'; 10_000]] {
            assert_eq!(decode(long, 4, 2), None);
        }
        let mut text = Text::new();
        text.begin(4);
        text.push(&[b'a'; 10_000]);
        assert_eq!(text.decoded.capacity(), 0);
    }

    #[test]
    fn a_string_begins_anew_after_a_bad_one() {
        let mut text = Text::new();
        text.begin(10);
        text.push(br"\ud83d\");
        text.begin(10);
        assert_eq!(text.push(br#"ok""#), Some(2));
        assert_eq!(text.string(), Some("ok"));
    }
}
