//! Carriers in bodies: finds their string tokens and splices them; every other byte stays as it is.
//!
//! 2026-07-28 has two strings that a server makes and its clients repeat in bodies: `requestState`
//! (Multi Round-Trip Requests) and the ids of tasks (SEP-2663). [`Answer`] adds to those that a backend sends,
//! while the bytes flow; [`Request`] names those that a client sends, and takes off again what was added.
//! What is added, and whether what came is genuine, the caller knows: this module knows no pin.
//!
//! What is no JSON passes untouched from the first fault that is seen on. Within values that cannot hold a
//! carrier only strings and brackets are followed, so that the `NaN` of Python's `json` does no harm. Where a key
//! comes twice, parsers differ in which one counts: every one of them is spliced alike, in both directions,
//! so that whichever a peer believes is the right one.

mod events;
mod place;
mod plain;
mod request;
mod scan;
mod skip;
mod text;

use bytes::Bytes;

pub use self::request::{Found, MAX_FOUND, Request};
use self::{
    events::{Events, Piece},
    place::{Field, Side},
    plain::is_plain,
    scan::Scanner,
};

/// Longest string, in bytes of UTF-8, that an answer's carrier may have; a longer one passes untouched. So much an
/// answer keeps in memory at most. Servers seal a call's whole state into it: kilobytes, in the SDKs seen.
pub const MAX_STRING: usize = 1024 * 1024;

/// What a spliced string is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// `requestState` of an `input_required` result, and of the call that is sent again with it.
    RequestState,
    /// The id of a task: in results and requests, in `notifications/tasks`, in the filter of
    /// `subscriptions/listen` and its acknowledgement.
    Task,
}

/// A body on its way to the client, spliced as it flows. Nothing is held back.
#[derive(Debug)]
pub struct Answer {
    scanner: Scanner,
    /// `None` where the body itself is the JSON text.
    events: Option<Events>,
}

impl Answer {
    /// A body of one JSON text.
    #[must_use]
    pub fn json() -> Self {
        Self {
            scanner: Scanner::new(Side::Answer, MAX_STRING),
            events: None,
        }
    }

    /// An event stream, with one JSON text in the data of each event.
    #[must_use]
    pub fn events() -> Self {
        Self {
            events: Some(Events::new()),
            ..Self::json()
        }
    }

    /// Whether all of a body, of either form, certainly has no carrier: it would come back as it is.
    #[must_use]
    pub fn passes(body: &[u8]) -> bool {
        is_plain(body)
    }

    /// Takes the next bytes and gives them back with what `mint` adds to the carriers that end in them.
    ///
    /// `mint` gets the decoded string, never an empty one; `None` leaves it as it is. What it gives must be
    /// ASCII that JSON need not escape. Without a carrier the chunk itself comes back, not a copy.
    #[must_use]
    pub fn push<S: AsRef<[u8]>>(
        &mut self,
        chunk: Bytes,
        mut mint: impl FnMut(Carrier, &str) -> Option<S>,
    ) -> Bytes {
        let Some(events) = &mut self.events else {
            let mut spliced = Splicing::new(&chunk);
            add(&mut self.scanner, &chunk, 0, &mut spliced, &mut mint);
            return spliced.finish();
        };
        if self.scanner.is_fresh() && is_plain(&chunk) && events.pass_whole(&chunk) {
            return chunk;
        }
        let (mut at, mut spliced) = (0, Splicing::new(&chunk));
        while let Some(piece) = events.next(&chunk, &mut at) {
            match piece {
                Piece::Data(data) => {
                    let bytes = &chunk[data.clone()];
                    add(
                        &mut self.scanner,
                        bytes,
                        data.start,
                        &mut spliced,
                        &mut mint,
                    );
                }
                Piece::NewLine => self.scanner.pass_new_line(),
                Piece::End => self.scanner.reset(),
            }
        }
        spliced.finish()
    }
}

/// Scans `bytes`, which stand at `start` of the chunk, and adds to the carriers that end in them.
fn add<S: AsRef<[u8]>>(
    scanner: &mut Scanner,
    bytes: &[u8],
    start: usize,
    spliced: &mut Splicing<'_>,
    mint: &mut impl FnMut(Carrier, &str) -> Option<S>,
) {
    let mut at = 0;
    while let Some(Field::Carrier(carrier)) = scanner.next(bytes, &mut at) {
        if let Some(added) = scanner.string().and_then(|string| mint(carrier, string)) {
            let quote = start + at - 1;
            spliced.replace(quote..quote, added.as_ref());
        }
    }
}

/// Bytes of which some are replaced, from the beginning to the end.
struct Splicing<'a> {
    source: &'a Bytes,
    written: Vec<u8>,
    /// How much of the source is in `written`, or has been replaced.
    done: usize,
}

impl<'a> Splicing<'a> {
    fn new(source: &'a Bytes) -> Self {
        Self {
            source,
            written: Vec::new(),
            done: 0,
        }
    }

    /// Puts `with` in the place of `range`, which begins where the last one ended or behind it.
    fn replace(&mut self, range: std::ops::Range<usize>, with: &[u8]) {
        self.written
            .extend_from_slice(&self.source[self.done..range.start]);
        self.written.extend_from_slice(with);
        self.done = range.end;
    }

    fn finish(mut self) -> Bytes {
        if self.done == 0 && self.written.is_empty() {
            return self.source.clone();
        }
        self.written.extend_from_slice(&self.source[self.done..]);
        Bytes::from(self.written)
    }
}

#[cfg(test)]
mod tests;
