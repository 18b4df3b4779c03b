//! How much a backend may send before the head of its answer has ended.
//!
//! hyper holds each head to its limits, but skips any number of interim answers (1xx) before the last: a backend that
//! sends nothing else would keep a client waiting, and a core busy, for as long as the answer may take to begin.

use std::{cell::Cell, io};

/// Reads that are not counted: an honest answer's head is there by then, and counting takes a copy.
const FREE_READS: u32 = 8;

/// Most bytes of the reads after those.
const MOST: usize = 256 * 1024;

/// What one connection reads while a head is waited for.
#[derive(Debug, Default)]
pub(super) struct Intake(Cell<Option<Read>>);

/// Since the request began.
#[derive(Debug, Default, Clone, Copy)]
struct Read {
    times: u32,
    counted: usize,
}

impl Intake {
    /// A request is sent.
    pub(super) fn begin(&self) {
        self.0.set(Some(Read::default()));
    }

    /// The head is there, or nobody waits for it.
    pub(super) fn end(&self) {
        self.0.set(None);
    }

    /// Whether the next read is to be counted.
    ///
    /// # Errors
    ///
    /// When there is no head in all that came.
    pub(super) fn is_counted(&self) -> io::Result<bool> {
        match self.0.get() {
            Some(read) if read.counted > MOST => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "interim answers without end",
            )),
            Some(read) => Ok(read.times >= FREE_READS),
            None => Ok(false),
        }
    }

    /// Bytes came, so many if they were counted.
    pub(super) fn read(&self, bytes: usize) {
        if let Some(mut read) = self.0.get() {
            read.times += 1;
            read.counted += bytes;
            self.0.set(Some(read));
        }
    }
}
