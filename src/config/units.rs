//! Durations and sizes as the file writes them: an integer with a unit, never a bare number.

use std::time::Duration;

/// Why a text is no duration or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuantity {
    /// A number alone.
    #[error("no unit")]
    NoUnit,
    /// A unit that is none; the second names those that are.
    #[error("\"{0}\" is no unit here (units: {1})")]
    Unit(String, &'static str),
    /// Something else than integers with units.
    #[error("not a whole number with its unit")]
    Form,
    /// Beyond what can be counted.
    #[error("too large")]
    Large,
}

const TIME_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Reads "500ms", "10s", "1m30s": units from the largest to the smallest, each once.
///
/// # Errors
///
/// If it is anything else.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidQuantity> {
    let (mut rest, mut units) = (text, &TIME_UNITS[..]);
    let mut total: u64 = 0;
    loop {
        let (number, unit, behind) = split(rest)?;
        let Some(at) = units.iter().position(|(name, _)| *name == unit) else {
            return Err(if TIME_UNITS.iter().any(|(name, _)| *name == unit) {
                InvalidQuantity::Form
            } else {
                InvalidQuantity::Unit(unit.to_owned(), "ms, s, m, h, d")
            });
        };
        let milliseconds = number.checked_mul(units[at].1);
        total = milliseconds
            .and_then(|more| total.checked_add(more))
            .ok_or(InvalidQuantity::Large)?;
        units = &units[at + 1..];
        rest = behind;
        if rest.is_empty() {
            return Ok(Duration::from_millis(total));
        }
    }
}

/// Reads "512B", "64KiB", "16MiB", "1GiB". KB and K are refused: they mean 1000 to some, 1024 to others.
pub(super) fn parse_size(text: &str) -> Result<usize, InvalidQuantity> {
    let (number, unit, rest) = split(text)?;
    if !rest.is_empty() {
        return Err(InvalidQuantity::Form);
    }
    let known = SIZE_UNITS.iter().find(|(name, _)| *name == unit);
    let (_, bytes) =
        known.ok_or_else(|| InvalidQuantity::Unit(unit.to_owned(), "B, KiB, MiB, GiB"))?;
    let total = number.checked_mul(*bytes).ok_or(InvalidQuantity::Large)?;
    usize::try_from(total).map_err(|_| InvalidQuantity::Large)
}

/// The first number, its unit, and what follows them.
fn split(text: &str) -> Result<(u64, &str, &str), InvalidQuantity> {
    let digits = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    if number.is_empty() {
        return Err(InvalidQuantity::Form);
    }
    if rest.is_empty() {
        return Err(InvalidQuantity::NoUnit);
    }
    let letters = rest
        .find(|character: char| !character.is_alphabetic())
        .unwrap_or(rest.len());
    let (unit, behind) = rest.split_at(letters);
    if unit.is_empty() {
        return Err(InvalidQuantity::Form);
    }
    let number = number.parse().map_err(|_| InvalidQuantity::Large)?;
    Ok((number, unit, behind))
}

/// The duration as [`parse_duration`] reads it. Whole milliseconds; all that is configured is.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, milliseconds) in TIME_UNITS {
        if rest >= milliseconds {
            text.push_str(&format!("{}{unit}", rest / milliseconds));
            rest %= milliseconds;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// The size in the largest unit that needs no fraction.
pub(super) fn format_size(bytes: usize) -> String {
    let bytes = bytes as u64;
    let fits = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    match SIZE_UNITS.iter().find(fits) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_units() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("500ms", 500),
            ("10s", 10_000),
            ("15m", 900_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("1m30s", 90_000),
        ] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(parse_duration(text), Ok(duration));
            assert_eq!(format_duration(duration), text);
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        assert_eq!(parse_duration("20"), Err(InvalidQuantity::NoUnit));
        assert_eq!(parse_duration("1m30"), Err(InvalidQuantity::NoUnit));
        assert!(matches!(
            parse_duration("1sec"),
            Err(InvalidQuantity::Unit(unit, _)) if unit == "sec"
        ));
        for bad in ["", "s", "-1s", "1.5s", "1 s", " 1s", "1s ", "1s1m", "1s1s"] {
            assert_eq!(parse_duration(bad), Err(InvalidQuantity::Form), "{bad:?}");
        }
        for large in ["99999999999999999999s", "999999999999999999d"] {
            assert_eq!(parse_duration(large), Err(InvalidQuantity::Large));
        }
    }

    #[test]
    fn sizes_are_powers_of_two() {
        for (text, bytes) in [
            ("0B", 0),
            ("512B", 512),
            ("64KiB", 65_536),
            ("16MiB", 16 << 20),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes));
            assert_eq!(format_size(bytes), text);
        }
        for bad in ["64KB", "64K", "64kib"] {
            assert!(
                matches!(parse_size(bad), Err(InvalidQuantity::Unit(..))),
                "{bad:?}"
            );
        }
        assert_eq!(parse_size("64"), Err(InvalidQuantity::NoUnit));
        assert_eq!(parse_size("1MiB1B"), Err(InvalidQuantity::Form));
    }
}
