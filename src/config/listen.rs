//! `listen_streams`: how many replicas one `subscriptions/listen` hears.

use std::fmt;

use super::{section::Section, word};

/// What becomes of a client's `subscriptions/listen` (2026-07-28).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenStreams {
    /// It hears one backend.
    One,
    /// It hears all that are open, by one stream to each.
    FanOut,
}

impl ListenStreams {
    const WORDS: [(&'static str, Self); 2] = [("one", Self::One), ("fan-out", Self::FanOut)];
}

impl fmt::Display for ListenStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&Self::WORDS, self))
    }
}

/// Reads the key. `read_bodies` is what the pool says of bodies: streams are merged message by message.
pub(super) fn read(section: &Section<'_>, read_bodies: bool) -> ListenStreams {
    let found = section.choice("listen_streams", &ListenStreams::WORDS);
    let streams = found.unwrap_or(ListenStreams::One);
    if streams == ListenStreams::FanOut && !read_bodies {
        let message = "merges streams message by message, which read_bodies = false forbids; remove that, or \
                       write listen_streams = \"one\"";
        section.refuse("listen_streams", message);
    }
    streams
}
