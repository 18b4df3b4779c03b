//! The values of mirrored headers (`Mcp-Name`, `Mcp-Param-*`): plain, or in base64 between two marks.
//!
//! 2026-07-28, Streamable HTTP, "Value Encoding": what plain ASCII cannot carry comes as `=?base64?…?=`, the base64 of
//! its UTF-8 bytes, and so does what only looks like that.

use std::borrow::Cow;

use data_encoding::BASE64;
use http::HeaderValue;

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

/// The string that a header's value stands for; `None` if it is no plain ASCII and no proper base64 of UTF-8.
///
/// As strict as the SDKs' servers, which answer such values with 400: standard alphabet, padded, no spare bits.
#[must_use]
pub fn decode(value: &[u8]) -> Option<Cow<'_, str>> {
    let value = str::from_utf8(value).ok()?;
    match payload(value) {
        Some(payload) => {
            let decoded = BASE64.decode(payload.as_bytes()).ok()?;
            String::from_utf8(decoded).ok().map(Cow::Owned)
        }
        None => value.is_ascii().then_some(Cow::Borrowed(value)),
    }
}

/// The header's value that stands for `string`.
#[must_use]
pub fn encode(string: &str) -> HeaderValue {
    let plain = !string.is_empty()
        && string.trim_ascii() == string
        && string.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && payload(string).is_none();
    let value = if plain {
        Cow::Borrowed(string)
    } else {
        Cow::Owned(format!(
            "{PREFIX}{}{SUFFIX}",
            BASE64.encode(string.as_bytes())
        ))
    };
    HeaderValue::from_str(&value).expect("printable ASCII without controls is a header's value")
}

fn payload(value: &str) -> Option<&str> {
    value.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_plain_or_marked() {
        for (value, string) in [
            (&b"get_weather"[..], Some("get_weather")),
            (b"a b\tc", Some("a b\tc")),
            (b"", Some("")),
            (b"=?base64?SGVsbG8=?=", Some("Hello")),
            (b"=?base64?w6k=?=", Some("\u{e9}")),
            (
                b"=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=",
                Some("=?base64?literal?="),
            ),
            (b"=?base64??=", Some("")),
            // The two marks may not share a character, and their case counts.
            (b"=?base64?=", Some("=?base64?=")),
            (b"=?BASE64?SGVsbG8=?=", Some("=?BASE64?SGVsbG8=?=")),
            (b"=?base64?SGVsbG8=", Some("=?base64?SGVsbG8=")),
            (b"=?base64?SGVsbG8?=", None),
            (b"=?base64?SGVsbG9=?=", None),
            (b"=?base64?_-8=?=", None),
            (b"=?base64?/w==?=", None),
            (b"caf\xc3\xa9", None),
            (b"\xff", None),
        ] {
            assert_eq!(decode(value).as_deref(), string, "{value:?}");
        }
    }

    #[test]
    fn only_what_needs_it_is_encoded() {
        for (string, value) in [
            ("task-1", "task-1"),
            ("", "=?base64??="),
            (" a", "=?base64?IGE=?="),
            ("=?base64?x?=", "=?base64?PT9iYXNlNjQ/eD89?="),
            ("\u{e9}", "=?base64?w6k=?="),
        ] {
            assert_eq!(encode(string), value);
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_again(string in any::<String>()) {
            let value = encode(&string);
            prop_assert_eq!(decode(value.as_bytes()), Some(Cow::Borrowed(string.as_str())));
        }

        #[test]
        fn any_bytes_are_decoded_without_panic(value in any::<Vec<u8>>()) {
            let _string = decode(&value);
        }
    }
}
