//! Trace contexts as W3C Trace Context has them: which trace a request belongs to, and which span it is a part of.
//!
//! Pure. Level 1 (recommendation of 2021-11-23) and the random flag of level 2. What is malformed, or there more than
//! once, is no context (sections 2.2.2 and 3.3): the one who finds it begins a new trace.

use std::num::{NonZeroU64, NonZeroU128};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header of the context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What systems of several vendors add to it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Whether the caller may have recorded the trace.
const SAMPLED: u8 = 0b01;

/// Whether the right half of the trace's id is random (level 2, section 3.2.2.3.2).
const RANDOM: u8 = 0b10;

/// `00-<32>-<16>-<2>`.
const LEN: usize = 55;

/// Members of a `tracestate` (section 3.3.1.1).
const MEMBERS: usize = 32;

/// A trace and a span of it, as a caller names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: NonZeroU128,
    /// The caller's span.
    pub span: NonZeroU64,
    flags: u8,
}

/// What the head of a request says of its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// Nothing.
    None,
    /// Nothing that can be used.
    Malformed,
    /// This.
    Of(Context),
}

impl Context {
    /// A trace of our own, whose id was made by chance.
    #[must_use]
    pub fn begin(trace: NonZeroU128, span: NonZeroU64, is_sampled: bool) -> Self {
        let sampled = if is_sampled { SAMPLED } else { 0 };
        Self {
            trace,
            span,
            flags: sampled | RANDOM,
        }
    }

    /// Reads what a `traceparent` holds. Of later versions, what this one knows of them is read (section 3.2.4).
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(LEN)?;
        let version = hex(&known[..2])?;
        match (version, more) {
            (0, []) | (1..=0xfe, [] | [b'-', ..]) => {}
            (_, _) => return None,
        }
        if [2, 35, 52].iter().any(|at| known[*at] != b'-') {
            return None;
        }
        let flags = hex(&known[53..])? as u8;
        Some(Self {
            trace: NonZeroU128::new(hex(&known[3..35])?)?,
            span: NonZeroU64::new(hex(&known[36..52])? as u64)?,
            flags: flags & (SAMPLED | RANDOM), // what the others will mean is not known
        })
    }

    /// Whether the caller may have recorded it, and hopes for the same.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same trace, of which another span is the caller's.
    #[must_use]
    pub fn within(self, span: NonZeroU64) -> Self {
        Self { span, ..self }
    }

    /// The header's value.
    #[must_use]
    pub fn to_value(&self) -> HeaderValue {
        let (trace, span, flags) = (self.trace, self.span, self.flags);
        let text = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
        HeaderValue::try_from(text).expect("digits and hyphens are visible ASCII")
    }
}

/// Reads a request's head.
#[must_use]
pub fn incoming(headers: &HeaderMap) -> Incoming {
    let mut values = headers.get_all(TRACEPARENT).iter();
    match (values.next(), values.next()) {
        (None, _) => Incoming::None,
        (Some(value), None) => {
            Context::parse(value.as_bytes()).map_or(Incoming::Malformed, Incoming::Of)
        }
        (Some(_), Some(_)) => Incoming::Malformed,
    }
}

/// Whether what is in all `tracestate` headers together can be read (section 3.3.1). What cannot is to be dropped.
#[must_use]
pub fn has_good_state(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TRACESTATE).iter();
    let members = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut members = members.map(<[u8]>::trim_ascii);
    let mut count = 0;
    members.all(|member| {
        count += 1;
        count <= MEMBERS && (member.is_empty() || is_member(member))
    })
}

fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|byte| *byte == b'=') else {
        return false;
    };
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    let in_key =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    let in_value = |byte: &u8| matches!(byte, b' '..=b'~') && !b",=".contains(byte);
    let begins = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=256).contains(&key.len())
        && key.first().is_some_and(begins)
        && key.iter().all(in_key)
        && (1..=256).contains(&value.len())
        && value.iter().all(in_value)
}

/// Lower-case digits alone: that is what the specification has, and what others compare byte for byte.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn a_context_is_read_and_written_alike() {
        let context = Context::parse(GOOD.as_bytes()).unwrap();
        assert!(context.is_sampled());
        assert_eq!(context.to_value(), GOOD);
        let child = context.within(NonZeroU64::new(0xab).unwrap());
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000ab-01";
        assert_eq!(child.to_value(), text);
    }

    #[test]
    fn flags_that_are_not_known_are_not_passed_on() {
        let parsed = |flags: &str| {
            let text = GOOD.replace("-01", flags);
            let context = Context::parse(text.as_bytes()).unwrap();
            context.to_value().to_str().unwrap().to_owned()
        };
        assert!(parsed("-ff").ends_with("-03"));
        assert!(parsed("-02").ends_with("-02"));
        assert!(parsed("-04").ends_with("-00"));
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for text in [
            GOOD.replacen("00", "cc", 1),
            GOOD.replacen("00", "cc", 1) + "-what-comes",
            GOOD.replacen("00", "01", 1) + "-",
        ] {
            let context = Context::parse(text.as_bytes()).unwrap();
            assert_eq!(context.to_value(), GOOD, "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_no_context() {
        for text in [
            "",
            "00",
            GOOD.strip_suffix("1").unwrap(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.to_uppercase(),
            &format!("{GOOD}-"),
            &format!("{GOOD}-00"),
            &format!("{GOOD} "),
            &GOOD.replace('-', "_"),
            &(GOOD.replacen("00", "cc", 1) + ".what"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473x-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
        ] {
            assert_eq!(Context::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn two_contexts_are_none() {
        assert_eq!(incoming(&HeaderMap::new()), Incoming::None);
        let twice = headers(&[(TRACEPARENT, GOOD), (TRACEPARENT, GOOD)]);
        assert_eq!(incoming(&twice), Incoming::Malformed);
        let one = incoming(&headers(&[(TRACEPARENT, GOOD)]));
        assert!(matches!(one, Incoming::Of(_)));
    }

    #[test]
    fn a_state_is_a_list_of_keys_and_values() {
        let good = |values: &[&str]| {
            let values = values.iter().map(|value| (TRACESTATE, *value));
            has_good_state(&headers(&values.collect::<Vec<_>>()))
        };
        let most = vec!["a=1"; MEMBERS].join(",");
        for values in [
            &[][..],
            &["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"],
            &["a=1", "b=2"],
            &["tenant@system=x, b=y z"],
            &["a=1,,"],
            &[&most],
        ] {
            assert!(good(values), "{values:?}");
        }
        let (long, many) = (format!("a={}", "1".repeat(257)), most + ",a=1");
        for bad in ["a", "=1", "a=", "A=1", "a=1=2", "a=\u{7f}", &long, &many] {
            let value = HeaderValue::from_bytes(bad.as_bytes());
            let Ok(value) = value else { continue };
            let headers = HeaderMap::from_iter([(TRACESTATE, value)]);
            assert!(!has_good_state(&headers), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _any = Context::parse(&bytes);
        }

        #[test]
        fn what_is_read_is_written_as_it_was(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let context = Context::begin(trace.try_into().unwrap(), span.try_into().unwrap(), sampled);
            prop_assert_eq!(Context::parse(context.to_value().as_bytes()), Some(context));
        }
    }
}
