//! Carriers in bodies: every byte but the pins stays, wherever chunks are cut, and a parser sees only carriers grow.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pinring::mcp::splice::{Answer, Request};
use serde_json::Value;

const PIN: &str = "-cqaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn spliced(mut answer: Answer, body: &[u8], cut: usize, pin: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(cut) {
        out.extend_from_slice(&answer.push(Bytes::copy_from_slice(piece), |_, string| {
            assert!(!string.is_empty());
            Some(pin)
        }));
    }
    out
}

/// Whether `long` is `short` with nothing but pins put in.
fn differs_by_pins(short: &[u8], long: &[u8]) -> bool {
    let (mut short, mut long) = (short, long);
    loop {
        let same = short
            .iter()
            .zip(long)
            .take_while(|(one, other)| one == other)
            .count();
        (short, long) = (&short[same..], &long[same..]);
        match long.strip_prefix(PIN.as_bytes()) {
            Some(rest) => long = rest,
            None => return short.is_empty() && long.is_empty(),
        }
    }
}

/// Whether the values are alike but for strings that have grown by a pin.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::String(one), Value::String(other)) => {
            one == other || other.strip_suffix(PIN) == Some(one)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| one.0 == other.0 && alike(one.1, other.1))
        }
        (one, other) => one == other,
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, body) = input;
    let cut = usize::from(cut) + 1;
    for kind in [Answer::json, Answer::events] {
        let whole = spliced(kind(), body, usize::MAX, PIN);
        assert!(differs_by_pins(body, &whole));
        assert_eq!(whole, spliced(kind(), body, cut, PIN));
    }
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        let pinned = spliced(Answer::json(), body, cut, PIN);
        let pinned = serde_json::from_slice(&pinned).expect("a JSON text stays one");
        assert!(alike(&value, &pinned));
    }
    let request = Request::read(Bytes::copy_from_slice(body));
    assert_eq!(request.strip(|_| None), body);
    // A string that is cut to its whole is the same to a parser.
    let request = Request::read(Bytes::copy_from_slice(body));
    let same = request.strip(|found| Some(found.string.len()));
    assert_eq!(
        serde_json::from_slice::<Value>(body).ok(),
        serde_json::from_slice::<Value>(&same).ok()
    );
    let _shorter = Request::read(Bytes::copy_from_slice(body))
        .strip(|found| found.string.len().checked_sub(1));
});
