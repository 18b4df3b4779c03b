//! `X-Request-Id`: the name under which a request is found in everybody's log.
//!
//! Pure. A client's own is kept if it can stand in a log line without harm; else one is made of 128 random bits.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Twice what the usual ones have (a UUID: 36), and no more than a log line bears.
const LONGEST: usize = 128;

/// The one that a request comes with, if there is one alone and it is short and visible ASCII.
#[must_use]
pub fn given(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(REQUEST_ID).iter();
    let value = values.next()?;
    let bytes = value.as_bytes();
    let is_sane = (1..=LONGEST).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    (is_sane && values.next().is_none()).then_some(value)
}

/// Makes one.
#[must_use]
pub fn made_of(random: u128) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // By hand: each request has one, and `format!` would write into a string first.
    let mut text = [0; 32];
    for (at, digit) in text.iter_mut().enumerate() {
        *digit = DIGITS[(random >> (124 - 4 * at)) as usize & 0xf];
    }
    HeaderValue::from_bytes(&text).expect("digits are visible ASCII")
}

/// As text, which both kinds are.
#[must_use]
pub fn text(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_one_is_its_bits_in_hexadecimal() {
        let bits = 0x0123_4567_89ab_cdef_0011_2233_4455_66ff;
        assert_eq!(made_of(bits), format!("{bits:032x}"));
        assert_eq!(made_of(7), format!("{:032x}", 7));
    }

    #[test]
    fn only_one_short_visible_id_is_kept() {
        let longest = "x".repeat(LONGEST);
        for good in [
            "a",
            "0193c2e6-7b5a-7cc1-a1b2-c3d4e5f60718",
            "<&\"\\>",
            &longest,
        ] {
            let headers = HeaderMap::from_iter([(REQUEST_ID, good.parse().unwrap())]);
            assert_eq!(given(&headers).unwrap(), good);
        }
        for bad in ["", "a b", "a\tb", "\u{e4}", &format!("{longest}x")] {
            let value = HeaderValue::from_bytes(bad.as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([(REQUEST_ID, value)]);
            assert_eq!(given(&headers), None, "{bad:?}");
        }
        let mut twice = HeaderMap::new();
        twice.append(REQUEST_ID, HeaderValue::from_static("a"));
        twice.append(REQUEST_ID, HeaderValue::from_static("a"));
        assert_eq!(given(&twice), None);
        assert_eq!(given(&HeaderMap::new()), None);
    }
}
