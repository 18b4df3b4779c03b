//! Which statuses a probed path is to be answered with.

use std::{fmt, ops::RangeInclusive, str::FromStr};

/// A set of HTTP statuses, as `"200-299"` or `"200, 401"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

/// Why a text is no set of statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write the statuses of a healthy backend, from 200 to 599, such as \"200\", \"200-299\" or \"200, 401\""
)]
pub struct InvalidStatuses;

impl Default for Statuses {
    /// Success.
    fn default() -> Self {
        Self(vec![200..=299])
    }
}

impl Statuses {
    /// Whether this is one of them.
    #[must_use]
    pub fn contain(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl FromStr for Statuses {
    type Err = InvalidStatuses;

    fn from_str(text: &str) -> Result<Self, InvalidStatuses> {
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (status(first)?, status(last)?);
            (first <= last).then_some(first..=last)
        };
        let ranges = text.split(',').map(|part| range(part.trim()));
        ranges
            .collect::<Option<_>>()
            .map(Self)
            .ok_or(InvalidStatuses)
    }
}

/// A final status: hyper does not give those below 200.
fn status(digits: &str) -> Option<u16> {
    let plain = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let status = plain.then(|| digits.parse().ok())??;
    (200..=599).contains(&status).then_some(status)
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, range) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            let (first, last) = (range.start(), range.end());
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_single_ones_and_ranges() {
        let set: Statuses = "200,204-206 , 401".parse().unwrap();
        let has: Vec<u16> = (100..700).filter(|status| set.contain(*status)).collect();
        assert_eq!(has, [200, 204, 205, 206, 401]);
        assert_eq!(set.to_string(), "200, 204-206, 401");
        assert_eq!("200-299".parse(), Ok(Statuses::default()));
    }

    #[test]
    fn what_no_backend_can_answer_is_refused() {
        for text in [
            "",
            "2xx",
            "20",
            "100",
            "600",
            "299-200",
            "200-",
            "-200",
            "200,",
            "+200",
            "200-299-300",
        ] {
            assert_eq!(text.parse::<Statuses>(), Err(InvalidStatuses), "{text:?}");
        }
    }
}
