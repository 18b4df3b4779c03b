//! Where the body of an answer ends (RFC 9112, sections 6.3 and 7.1), found in the bytes as they come.
//!
//! Strict where another reader could see another end: a chunk's lines end with CRLF, its size is hexadecimal digits and
//! nothing else. Two things are looked over, for every server's sake that sends them, and the connection is not used again:
//! see [`Ended::in_doubt`].

use std::ops::Range;

/// Most bytes of all chunk extensions of one body: nobody reads them.
const EXTENSIONS: usize = 16 * 1024;

/// Most bytes of the trailer section, and most of its fields.
const TRAILER_BYTES: usize = 16 * 1024;
const TRAILER_FIELDS: usize = 64;

/// The rest of a body.
#[derive(Debug)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked(Chunks),
    /// All that comes, until the connection ends.
    UntilClose,
}

/// Where within its chunks a body is.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    extensions: usize,
    trailer: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Within the digits of a size, of which at least one has come if there is a number.
    Size(Option<u64>),
    /// Behind the digits: only blanks may come before an extension or the end of the line.
    Blanks(u64),
    Extension(u64),
    SizeLf(u64),
    /// So many bytes of data are left.
    Data(u64),
    DataCr,
    DataLf,
    /// Behind the last chunk, up to an empty line.
    Trailer,
}

impl Default for State {
    fn default() -> Self {
        Self::Size(None)
    }
}

/// Why an answer's body cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No size of a chunk where one has to be, or one that no number holds.
    #[error("the size of a chunk is not hexadecimal digits and CRLF, or too large")]
    Size,
    /// A chunk is longer than its size says.
    #[error("a chunk does not end where its size says")]
    End,
    /// More extensions than anybody sends in earnest.
    #[error("the chunks have more than 16 KiB of extensions")]
    Extensions,
    /// What stands behind the last chunk is none, or too much.
    #[error("what follows the last chunk is no trailer section of at most 16 KiB and 64 fields")]
    Trailer,
}

/// How a body has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// A line of the trailer section ended without CR: another reader could wait for more.
    pub in_doubt: bool,
}

/// What a piece of bytes was.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Where the data lie now: data of several chunks are moved to stand one behind the other.
    pub data: Range<usize>,
    /// How many of the bytes belong to the body. All of them, unless it has ended.
    pub consumed: usize,
    /// Whether it has ended, or cannot go on. The data before hold all the same.
    pub end: Option<Result<Ended, Invalid>>,
}

impl Decoded {
    /// Whether the body has ended in `length` bytes, and if so, whether exactly with them: what stands behind the end
    /// belongs to nobody, and would be taken for the next answer.
    ///
    /// # Errors
    ///
    /// When it cannot go on.
    #[must_use]
    pub fn end_of(&self, length: usize) -> Option<Result<bool, Invalid>> {
        let end = self.end?;
        Some(end.map(|ended| self.consumed == length && !ended.in_doubt))
    }
}

impl Framing {
    /// Finds the data in `bytes`, which follow those of the last call.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Decoded {
        match self {
            Self::Length(left) => {
                let length =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= length as u64;
                Decoded {
                    data: 0..length,
                    consumed: length,
                    end: (*left == 0).then_some(Ok(Ended { in_doubt: false })),
                }
            }
            Self::Chunked(chunks) => chunks.decode(bytes),
            Self::UntilClose => Decoded {
                data: 0..bytes.len(),
                consumed: bytes.len(),
                end: None,
            },
        }
    }

    /// Whether data stand where they came, with nothing between them.
    #[must_use]
    pub fn is_verbatim(&self) -> bool {
        match self {
            Self::Length(_) | Self::UntilClose => true,
            Self::Chunked(_) => false,
        }
    }

    /// Whether nothing is to come, from the beginning.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Length(0))
    }
}

impl Chunks {
    fn decode(&mut self, bytes: &mut [u8]) -> Decoded {
        let mut data = 0..0;
        let mut at = 0;
        let mut end = None;
        while end.is_none() && at < bytes.len() {
            if let State::Data(left) = &mut self.state {
                let rest = bytes.len() - at;
                let length = usize::try_from(*left).map_or(rest, |left| left.min(rest));
                *left -= length as u64;
                if *left == 0 {
                    self.state = State::DataCr;
                }
                if data.is_empty() {
                    data = at..at + length;
                } else {
                    bytes.copy_within(at..at + length, data.end);
                    data.end += length;
                }
                at += length;
            } else {
                end = self.step(bytes[at]);
                at += 1;
            }
        }
        Decoded {
            data,
            consumed: at,
            end,
        }
    }

    /// Takes one byte that is no data.
    fn step(&mut self, byte: u8) -> Option<Result<Ended, Invalid>> {
        let next = match (self.state, byte) {
            (State::Size(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => digit(size, byte),
            (State::Size(Some(size)) | State::Blanks(size), b' ' | b'\t') => {
                self.skip(State::Blanks(size))
            }
            (State::Size(Some(size)) | State::Blanks(size), b';') => {
                self.skip(State::Extension(size))
            }
            (State::Size(Some(size)) | State::Blanks(size) | State::Extension(size), b'\r') => {
                Ok(State::SizeLf(size))
            }
            (State::Extension(_), b'\n') => Err(Invalid::Size),
            (State::Extension(size), _) => self.skip(State::Extension(size)),
            (State::SizeLf(0), b'\n') => Ok(State::Trailer),
            (State::SizeLf(size), b'\n') => Ok(State::Data(size)),
            (State::Size(_) | State::Blanks(_) | State::SizeLf(_), _) => Err(Invalid::Size),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size(None)),
            (State::DataCr | State::DataLf, _) => Err(Invalid::End),
            (State::Trailer, _) => return self.trailer(byte),
            (State::Data(_), _) => unreachable!("data are not looked at byte by byte"),
        };
        match next {
            Ok(state) => {
                self.state = state;
                None
            }
            Err(invalid) => Some(Err(invalid)),
        }
    }

    fn skip(&mut self, next: State) -> Result<State, Invalid> {
        self.extensions += 1;
        if self.extensions > EXTENSIONS {
            return Err(Invalid::Extensions);
        }
        Ok(next)
    }

    /// Takes one byte behind the last chunk. The fields are checked, for what is none may be another answer, and dropped.
    fn trailer(&mut self, byte: u8) -> Option<Result<Ended, Invalid>> {
        if self.trailer.len() == TRAILER_BYTES {
            return Some(Err(Invalid::Trailer));
        }
        self.trailer.push(byte);
        let is_over = matches!(
            self.trailer.as_slice(),
            [b'\n'] | [b'\r', b'\n'] | [.., b'\n', b'\n'] | [.., b'\n', b'\r', b'\n']
        );
        is_over.then(|| self.ended())
    }

    fn ended(&self) -> Result<Ended, Invalid> {
        let mut fields = [httparse::EMPTY_HEADER; TRAILER_FIELDS];
        match httparse::parse_headers(&self.trailer, &mut fields) {
            Ok(httparse::Status::Complete((length, _))) if length == self.trailer.len() => {}
            Ok(_) | Err(_) => return Err(Invalid::Trailer),
        }
        let mut lines = self.trailer.split(|byte| *byte == b'\n');
        let _behind_the_last = lines.next_back();
        Ok(Ended {
            in_doubt: lines.any(|line| !line.ends_with(b"\r")),
        })
    }
}

/// The number `size`, and one digit more.
fn digit(size: Option<u64>, digit: u8) -> Result<State, Invalid> {
    let value = char::from(digit)
        .to_digit(16)
        .expect("it is a hexadecimal digit");
    let size = size.unwrap_or(0).checked_mul(16).ok_or(Invalid::Size)?;
    Ok(State::Size(Some(size + u64::from(value))))
}

#[cfg(test)]
mod tests;
