//! Answers of backends: what is read of one does not depend on how it is cut, and a slow reader of the same rules sees the
//! same body and the same end.
#![no_main]

#[path = "../../../src/upstream/http1/framing/slow_reader.rs"]
mod slow_reader;

use http::{HeaderMap, header};
use libfuzzer_sys::fuzz_target;
use pinring::upstream::http1::{
    framing::{Chunks, Framing},
    head::{self, Delimited, Head, Limits, Malformed},
};
use slow_reader::Outcome;

const LIMITS: Limits = Limits {
    bytes: 4096,
    fields: 20,
};

fn parsed(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    head::parse(bytes, LIMITS, HeaderMap::new)
}

/// The data, and what the bytes come to, with `cut` of them at a time.
fn read(mut framing: Framing, body: &[u8], cut: usize) -> (Vec<u8>, Outcome) {
    let (mut data, mut consumed) = (Vec::new(), 0);
    for piece in body.chunks(cut) {
        let mut piece = piece.to_vec();
        let found = framing.decode(&mut piece);
        data.extend_from_slice(&piece[found.data]);
        consumed += found.consumed;
        match found.end {
            None => assert_eq!(found.consumed, piece.len()),
            Some(Ok(ended)) => return (data, Outcome::Ended(consumed, ended.in_doubt)),
            Some(Err(_)) => return (data, Outcome::Invalid),
        }
    }
    (data, Outcome::Unended)
}

/// Where a body of a length ends.
fn of_length(length: u64, body: &[u8]) -> (Vec<u8>, Outcome) {
    match usize::try_from(length) {
        Ok(length) if length <= body.len() && !body.is_empty() => {
            (body[..length].to_vec(), Outcome::Ended(length, false))
        }
        _ => (body.to_vec(), Outcome::Unended),
    }
}

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (cut, of_head, bytes) = input;
    let cut = usize::from(cut) + 1;
    assert_eq!(
        read(Framing::Chunked(Chunks::default()), bytes, cut),
        slow_reader::read(bytes)
    );
    let Ok(Some(Head { answer, length, behind })) = parsed(bytes) else {
        return;
    };
    // No beginning of a head is another one, or garbage.
    for end in (0..length).step_by(cut) {
        assert!(matches!(parsed(&bytes[..end]), Ok(None)));
    }
    let (text, body) = bytes.split_at(length);
    assert!(body.starts_with(&behind));
    let lines = text.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.trim_ascii().is_empty());
    assert_eq!(answer.headers().len() + 1, lines.count());
    let Ok(Delimited { framing, .. }) = head::delimited(&answer, of_head) else {
        return;
    };
    let is_chunked = matches!(framing, Framing::Chunked(_));
    assert!(!is_chunked || answer.headers()[header::TRANSFER_ENCODING].as_bytes().eq_ignore_ascii_case(b"chunked"));
    match framing {
        Framing::Chunked(_) => assert_eq!(read(framing, body, cut), slow_reader::read(body)),
        Framing::Length(length) => assert_eq!(read(framing, body, cut), of_length(length, body)),
        Framing::UntilClose => {
            assert!(!answer.headers().contains_key(header::CONTENT_LENGTH));
            assert_eq!(read(framing, body, cut), (body.to_vec(), Outcome::Unended));
        }
    }
});
