use proptest::prelude::*;

use super::*;

#[path = "slow_reader.rs"]
mod slow_reader;

/// What became of a body in the end.
type Decoding = (Vec<u8>, usize, Option<Result<Ended, Invalid>>);

/// Decodes `bytes` as they come in pieces of these lengths, the last one with all that is left.
fn decoded(bytes: &[u8], pieces: &[usize]) -> Decoding {
    let mut framing = Framing::Chunked(Chunks::default());
    let (mut data, mut consumed) = (Vec::new(), 0);
    let mut rest = bytes.to_vec();
    let mut pieces = pieces.iter();
    while !rest.is_empty() {
        let length = pieces
            .next()
            .map_or(rest.len(), |length| (*length).min(rest.len()));
        let later = rest.split_off(length);
        let found = framing.decode(&mut rest);
        data.extend_from_slice(&rest[found.data.clone()]);
        consumed += found.consumed;
        if found.end.is_some() {
            return (data, consumed, found.end);
        }
        assert_eq!(found.consumed, rest.len());
        rest = later;
    }
    (data, consumed, None)
}

/// What the slow reader tells of it.
fn known((data, consumed, end): Decoding) -> (Vec<u8>, slow_reader::Outcome) {
    let outcome = match end {
        None => slow_reader::Outcome::Unended,
        Some(Ok(ended)) => slow_reader::Outcome::Ended(consumed, ended.in_doubt),
        Some(Err(_)) => slow_reader::Outcome::Invalid,
    };
    (data, outcome)
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let chunk = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 1..40).prop_map(|data| {
            [format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat()
        }),
        1 => Just(b"3;a=\"b\"\r\nabc\r\n".to_vec()),
        1 => Just(b"0003 \r\nabc\r\n".to_vec()),
        1 => prop::collection::vec(prop::sample::select(b"0123af \t;\r\nx".to_vec()), 1..12),
    ];
    let end = prop::sample::select(vec![
        "0\r\n\r\n",
        "0\r\n\r\nrest",
        "0\r\n\n",
        "0\r\na: b\r\n\r\n",
        "0\r\na\r\n\r\n",
        "0\n\r\n",
        "",
        "0\r\na: b\n\r\nrest",
    ]);
    (prop::collection::vec(chunk, 0..6), end)
        .prop_map(|(chunks, end)| [chunks.concat(), end.as_bytes().to_vec()].concat())
}

proptest! {
    #[test]
    fn a_body_is_what_a_slow_reader_sees_however_it_is_cut(
        body in bodies(),
        pieces in prop::collection::vec(1_usize..20, 0..30),
    ) {
        let whole = decoded(&body, &[]);
        prop_assert_eq!(&decoded(&body, &pieces), &whole);
        prop_assert_eq!(known(whole), slow_reader::read(&body));
    }
}

#[test]
fn chunks_that_come_together_leave_together() {
    let mut framing = Framing::Chunked(Chunks::default());
    let mut bytes = *b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nmore";
    let found = framing.decode(&mut bytes);
    assert_eq!(&bytes[found.data.clone()], b"abcde");
    assert_eq!(found.consumed, bytes.len() - 4);
    assert_eq!(found.end, Some(Ok(Ended { in_doubt: false })));
}

#[test]
fn a_size_that_no_number_holds_is_none() {
    for size in ["10000000000000005", "fffffffffffffffff"] {
        let (_, _, end) = decoded(format!("{size}\r\nx").as_bytes(), &[]);
        assert_eq!(end, Some(Err(Invalid::Size)));
    }
    let (data, _, end) = decoded(b"ffffffffffffffff\r\nx", &[]);
    assert_eq!((data.as_slice(), end), (&b"x"[..], None));
}

#[test]
fn extensions_and_trailers_have_an_end() {
    let body = format!("1;{}\r\nx\r\n", "y".repeat(EXTENSIONS));
    assert_eq!(
        decoded(body.as_bytes(), &[]).2,
        Some(Err(Invalid::Extensions))
    );
    let body = format!("0\r\nx: {}", "y".repeat(TRAILER_BYTES));
    assert_eq!(decoded(body.as_bytes(), &[]).2, Some(Err(Invalid::Trailer)));
    let body = format!("0\r\n{}\r\n", "x: y\r\n".repeat(TRAILER_FIELDS + 1));
    assert_eq!(decoded(body.as_bytes(), &[]).2, Some(Err(Invalid::Trailer)));
}
