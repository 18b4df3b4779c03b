//! What a backend may send before the head of its answer has ended.
//!
//! Nothing before it is asked: bytes that are there when a request is about to be sent belong to nobody, and would be
//! taken for its answer. And not without end: hyper holds each head to its limits, but skips any number of interim
//! answers (1xx) before the last. A backend that sends nothing else would keep a client waiting, and a core busy, for as
//! long as the answer may take to begin.

use std::{cell::Cell, io};

/// Reads that are not counted: an honest answer's head is there by then, and counting takes a copy.
const FREE_READS: u32 = 8;

/// Most bytes of the reads after those.
const MOST: usize = 256 * 1024;

/// What one connection reads from the moment a request is on its way until the head of its answer is there.
#[derive(Debug, Default)]
pub(super) struct Intake(Cell<State>);

#[derive(Debug, Default, Clone, Copy)]
enum State {
    /// No head is waited for.
    #[default]
    Free,
    /// A request is about to be sent.
    Asking,
    /// It is sent, and so often was read, and so many bytes that count.
    Asked { times: u32, bytes: usize },
}

/// How the next read is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// As it comes.
    Free,
    /// Only if nothing is there yet.
    Quiet,
    /// With its length told to [`Intake::read`].
    Counted,
}

impl Intake {
    /// A request is about to be sent.
    pub(super) fn begin(&self) {
        self.0.set(State::Asking);
    }

    /// The head is there, or nobody waits for it.
    pub(super) fn end(&self) {
        self.0.set(State::Free);
    }

    /// How the next read is to be done. [`Reading::Quiet`] comes once for each request: hyper reads before it writes.
    ///
    /// # Errors
    ///
    /// When there is no head in all that came.
    pub(super) fn next(&self) -> io::Result<Reading> {
        match self.0.get() {
            State::Free => Ok(Reading::Free),
            State::Asking => {
                self.0.set(State::Asked { times: 0, bytes: 0 });
                Ok(Reading::Quiet)
            }
            State::Asked { bytes, .. } if bytes > MOST => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "interim answers without end",
            )),
            State::Asked { times, .. } if times < FREE_READS => Ok(Reading::Free),
            State::Asked { .. } => Ok(Reading::Counted),
        }
    }

    /// Something came, of this length if it counts.
    pub(super) fn read(&self, length: usize) {
        if let State::Asked { times, bytes } = self.0.get() {
            self.0.set(State::Asked {
                times: times.saturating_add(1),
                bytes: bytes + length,
            });
        }
    }
}
