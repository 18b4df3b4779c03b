//! Event streams: where chunks are cut changes nothing, and of the `endpoint` event only the URL's query grows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinring::mcp::{
    endpoint::{Opening, Origin},
    sse::{Boundary, Data},
};

const PIN: [u8; 32] = *b"ciaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn pieces(stream: &[u8], cut: u8) -> impl Iterator<Item = &[u8]> {
    stream.chunks(usize::from(cut) + 1)
}

fn opened(stream: &[u8], cut: u8, prefix: &str) -> Vec<u8> {
    let origin = Origin {
        authority: "mcp.example:8080",
        prefix,
    };
    let (mut opening, mut out) = (Opening::default(), Vec::new());
    for piece in pieces(stream, cut) {
        if opening.is_over() {
            out.extend_from_slice(piece);
        } else {
            out.extend_from_slice(&opening.push(piece, origin, |_| PIN));
        }
    }
    out.extend_from_slice(&opening.finish());
    out
}

fn events(stream: &[u8], cut: u8) -> (Vec<Vec<u8>>, bool) {
    let (mut data, mut boundary, mut all) = (Data::default(), Boundary::new(), Vec::new());
    for piece in pieces(stream, cut) {
        boundary.push(piece);
        data.push(piece, |event| all.push(event.to_vec()));
    }
    (all, boundary.between_events())
}

/// The same, read the plain way: all at once, line by line.
fn plainly(stream: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(stream)
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    let (mut all, mut data) = (Vec::new(), String::new());
    let mut lines: Vec<_> = text.split('\n').collect();
    lines.pop(); // what has no end yet
    for line in lines {
        if line.is_empty() && !data.is_empty() {
            all.push(std::mem::take(&mut data).into_bytes());
        } else if let Some(value) = line.strip_prefix("data:") {
            if !data.is_empty() {
                data.push('\n');
            }
            data.push_str(value.strip_prefix(' ').unwrap_or(value));
        }
    }
    all
}

/// Whether `long` is `short` with a parameter put in at one place.
fn is_pinned(short: &[u8], long: &[u8]) -> bool {
    let added = long.len() - short.len();
    (0..=short.len()).any(|at| {
        long[..at] == short[..at]
            && long[at + added..] == short[at..]
            && long[at..at + added].ends_with(&PIN)
    })
}

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, stream) = input;
    let whole = opened(stream, 255, "");
    assert!(whole == stream || is_pinned(stream, &whole));
    if stream.len() <= 256 {
        // A longer first event passes untouched where more than it has come at once.
        assert_eq!(whole, opened(stream, cut, ""));
        assert_eq!(opened(stream, 255, "/files"), opened(stream, cut, "/files"));
    }
    let (all, between) = events(stream, cut);
    assert_eq!(
        (&all, between),
        (&events(stream, 255).0, events(stream, 255).1)
    );
    if std::str::from_utf8(stream).is_ok() {
        assert_eq!(all, plainly(stream));
    }
});
