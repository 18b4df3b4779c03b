//! `[log]`: what is written, and how.

use std::time::Duration;

use super::{
    check::{DAY, MILLISECOND},
    filter,
    section::Section,
    word,
};

/// Most calls are answered within it, so that those that are not stand out among what a sample leaves.
const DEFAULT_SLOW: Duration = Duration::from_secs(1);

/// `[log]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// What is logged, in the syntax of `RUST_LOG`; `None` leaves it to that variable.
    pub filter: Option<String>,
    /// Whether each request leaves a line.
    pub access: bool,
    /// Which of the requests whose line tells nothing much leave one.
    pub sample: Sample,
    /// Whether each request has an id of its own (`X-Request-Id`).
    pub request_id: bool,
}

/// Which requests that were answered well, and soon, leave a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The share of them: 0 to 1.
    pub share: f32,
    /// What takes longer leaves one always.
    pub slow: Duration,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    const WORDS: [(&'static str, Self); 3] = [
        ("auto", Self::Auto),
        ("text", Self::Text),
        ("json", Self::Json),
    ];
}

impl std::fmt::Display for LogFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(word(&Self::WORDS, self))
    }
}

pub(super) fn read(section: Section<'_>) -> Log {
    let filter = section
        .string("filter")
        .and_then(|found| match filter::parse(found.value) {
            Ok(_) => Some(found.value.to_owned()),
            Err(error) => {
                section.report().push(found.spot.fault(error.to_string()));
                None
            }
        });
    let log = Log {
        format: section
            .choice("format", &LogFormat::WORDS)
            .unwrap_or(LogFormat::Auto),
        filter,
        access: section.bool("access").unwrap_or(true),
        sample: Sample {
            share: section.share("access_sample").unwrap_or(1.0),
            slow: section
                .duration("access_slow", MILLISECOND..=DAY)
                .unwrap_or(DEFAULT_SLOW),
        },
        request_id: section.bool("request_id").unwrap_or(true),
    };
    section.finish();
    log
}
