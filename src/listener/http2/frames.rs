//! Finds the frames in the bytes of a connection (RFC 9113, section 4.1): hyper does not tell of them.

use crate::limits::Limit;

/// A frame's head.
const HEAD: usize = 9;

/// What is looked at of its payload: the error code of a reset, or the words of a GOAWAY.
const LOOK: usize = 18;

/// A frame's type, where it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    /// HEADERS, or a CONTINUATION of them.
    Headers,
    /// RST_STREAM.
    Reset,
    GoAway,
    /// Of the connection itself, or of what nobody knows.
    Other,
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// Its payload's length.
    pub(super) length: usize,
    flags: u8,
    begin: [u8; LOOK],
}

impl Frame {
    /// Whether the fields of a head end with it.
    pub(super) fn ends_headers(&self) -> bool {
        self.flags & 0x4 != 0
    }

    /// Whether a body ends with it.
    pub(super) fn ends_stream(&self) -> bool {
        self.flags & 0x1 != 0
    }

    /// Whether it refuses a stream, as one too many.
    pub(super) fn refuses(&self) -> bool {
        const REFUSED_STREAM: &[u8] = &[0, 0, 0, 7];
        self.kind == Kind::Reset && self.begin.starts_with(REFUSED_STREAM)
    }

    /// The limit for which it ends the connection: h2 says in words which of its own it is, and to the client alone.
    pub(super) fn limit(&self) -> Option<Limit> {
        const ENHANCE_YOUR_CALM: &[u8] = &[0, 0, 0, 11];
        let (_last_stream, why) = self.begin.split_at(4);
        if self.kind != Kind::GoAway || !why.starts_with(ENHANCE_YOUR_CALM) {
            return None;
        }
        Some(match why.split_at(4).1 {
            b"too_many_r" | b"too_many_i" => Limit::Http2Resets, // "resets", "internal_resets"
            b"too_many_c" | b"header_lis" => Limit::HeaderBytes, // "continuations", "header_list_way_too_large"
            _ => Limit::Http2Frames,
        })
    }
}

/// The frames of one direction of a connection.
#[derive(Debug)]
pub(super) struct Frames {
    begin: [u8; HEAD + LOOK],
    /// How much of that is there.
    come: usize,
    /// How much of a payload is still to pass.
    rest: usize,
}

impl Frames {
    /// The frames behind `preface` bytes.
    pub(super) fn behind(preface: usize) -> Self {
        Self {
            begin: [0; HEAD + LOOK],
            come: 0,
            rest: preface,
        }
    }

    /// Calls `each` for every frame that is begun by these bytes and those before.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let passed = self.rest.min(bytes.len());
            self.rest -= passed;
            let (_, behind) = bytes.split_at(passed);
            let (begin, behind) = behind.split_at(behind.len().min(self.missing()));
            if self.come == 0 && !begin.is_empty() {
                self.begin = [0; HEAD + LOOK];
            }
            for (place, byte) in self.begin.iter_mut().skip(self.come).zip(begin) {
                *place = *byte;
            }
            self.come += begin.len();
            bytes = behind;
            if self.come >= HEAD && self.missing() == 0 && self.rest == 0 {
                each(self.frame());
                self.rest = self.length() - (self.come - HEAD);
                self.come = 0;
            }
        }
    }

    /// Whether a head has begun, and is not all there.
    pub(super) fn is_within_headers(&self) -> bool {
        let begun = self.come >= HEAD || self.rest > 0;
        begun && self.frame().kind == Kind::Headers
    }

    /// How much is missing of what is looked at.
    fn missing(&self) -> usize {
        if self.rest > 0 {
            return 0;
        }
        let wanted = if self.come < HEAD {
            HEAD
        } else {
            HEAD + self.length().min(LOOK)
        };
        wanted - self.come
    }

    fn length(&self) -> usize {
        let [high, middle, low, ..] = self.begin;
        usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
    }

    fn frame(&self) -> Frame {
        let [_, _, _, kind, flags, _, _, _, _, begin @ ..] = self.begin;
        Frame {
            kind: match kind {
                0x0 => Kind::Data,
                0x1 | 0x9 => Kind::Headers,
                0x3 => Kind::Reset,
                0x7 => Kind::GoAway,
                _ => Kind::Other,
            },
            length: self.length(),
            flags,
            begin,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn pass(frames: &mut Frames, bytes: &[u8]) -> Vec<(Kind, usize)> {
        let mut found = Vec::new();
        frames.pass(bytes, |frame| found.push((frame.kind, frame.length)));
        found
    }

    proptest! {
        #[test]
        fn frames_are_found_however_the_bytes_come(
            sent in prop::collection::vec((0_u8..12, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            pieces in prop::collection::vec(1_usize..30, 1..50),
        ) {
            let mut bytes = b"preface".to_vec();
            for (kind, payload) in &sent {
                bytes.extend(frame(*kind, 0, payload));
            }
            let (mut frames, mut found) = (Frames::behind(7), Vec::new());
            let mut pieces = pieces.iter().cycle();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
                found.extend(pass(&mut frames, piece));
                rest = behind;
            }
            let lengths: Vec<usize> = sent.iter().map(|(_, payload)| payload.len()).collect();
            prop_assert_eq!(found.iter().map(|(_, length)| *length).collect::<Vec<_>>(), lengths);
            prop_assert!(!frames.is_within_headers());
        }
    }

    #[test]
    fn a_head_that_is_not_all_there_is_noticed() {
        let mut frames = Frames::behind(0);
        let head = frame(1, 0, b"abcdefgh");
        for (piece, within) in [(0..8, false), (8..9, true), (9..12, true), (12..16, true)] {
            pass(&mut frames, &head[piece]);
            assert_eq!(frames.is_within_headers(), within);
        }
        pass(&mut frames, &head[16..]);
        assert!(!frames.is_within_headers());
        pass(&mut frames, &frame(0, 0, b"abcdefgh")[..12]);
        assert!(!frames.is_within_headers());
    }

    #[test]
    fn the_limit_is_known_by_the_words() {
        let said = |code: u8, words: &str| {
            let payload = [&[0, 0, 0, 1, 0, 0, 0, code], words.as_bytes()].concat();
            let mut found = Vec::new();
            Frames::behind(0).pass(&frame(7, 0, &payload), |frame| found.push(frame.limit()));
            found[0]
        };
        assert_eq!(said(11, "too_many_resets"), Some(Limit::Http2Resets));
        assert_eq!(
            said(11, "too_many_internal_resets"),
            Some(Limit::Http2Resets)
        );
        assert_eq!(said(11, "too_many_continuations"), Some(Limit::HeaderBytes));
        assert_eq!(
            said(11, "header_list_way_too_large"),
            Some(Limit::HeaderBytes)
        );
        assert_eq!(said(11, "too_many_data_frames"), Some(Limit::Http2Frames));
        assert_eq!(said(11, ""), Some(Limit::Http2Frames));
        assert_eq!(said(0, "too_many_resets"), None);
    }

    #[test]
    fn a_refusal_is_known_by_its_code() {
        for (bytes, refuses) in [
            (frame(3, 0, &[0, 0, 0, 7]), true),
            (frame(3, 0, &[0, 0, 0, 8]), false),
            (frame(8, 0, &[0, 0, 0, 7]), false),
        ] {
            let mut found = Vec::new();
            Frames::behind(0).pass(&bytes, |frame| found.push(frame.refuses()));
            assert_eq!(found, [refuses]);
        }
    }
}
