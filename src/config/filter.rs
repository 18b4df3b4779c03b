//! The filter of the log, as `log.filter` and `RUST_LOG` have it.

use std::str::FromStr as _;

use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, ParseError},
};

/// What the targets that log in this process begin with.
const TARGETS: [&str; 8] = [
    "pinring", "hyper", "tokio", "notify", "h2", "rustls", "mio", "want",
];

/// Why a text is no filter.
#[derive(Debug, thiserror::Error)]
pub enum InvalidFilter {
    /// Not of the form that a filter has.
    #[error(
        "no filter; write levels as RUST_LOG has them, such as \"info\" or \"warn,pinring=debug\""
    )]
    Form(#[source] ParseError),
    /// A level misspelt, most likely: taken for a target, it would let nothing else through.
    #[error(
        "\"{0}\" is neither a level (off, error, warn, info, debug, trace) nor a part of pinring; write for example \"info\" or \"warn,pinring=debug\""
    )]
    Word(String),
}

/// Reads a filter. Blanks around its commas do not count.
///
/// # Errors
///
/// If it has not the form of one, or if a word alone is neither a level nor a target of this process.
pub fn parse(text: &str) -> Result<EnvFilter, InvalidFilter> {
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    let is_word = |directive: &&&str| !directive.is_empty() && !directive.contains(['=', '[']);
    for word in directives.iter().filter(is_word) {
        let known = TARGETS.iter().any(|target| word.starts_with(target));
        if !known && LevelFilter::from_str(word).is_err() {
            return Err(InvalidFilter::Word((*word).to_owned()));
        }
    }
    EnvFilter::try_new(directives.join(",")).map_err(InvalidFilter::Form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_own_targets_are_filters() {
        for text in [
            "info",
            "INFO",
            "off",
            "3",
            "",
            "warn,",
            "pinring",
            "warn,pinring::access=off",
            "pinring::access",
            "info,hyper_util=debug",
            "hyper",
            "[span]=debug",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_misspelt_level_is_no_target() {
        for text in ["inof", "warn,inof", "inof,pinring=debug", "warn, inof", "6"] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, InvalidFilter::Word(_)), "{text}: {error}");
        }
        assert!(matches!(parse("pinring=loud"), Err(InvalidFilter::Form(_))));
    }

    #[test]
    fn blanks_do_not_change_a_filter() {
        let parsed = |text| parse(text).unwrap().to_string();
        assert_eq!(parsed("warn, pinring=debug "), parsed("warn,pinring=debug"));
    }
}
