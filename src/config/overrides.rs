//! What flags and the environment give beside the file, each value with the name it came under.

use std::{ffi::OsString, fmt};

use super::fault::{Place, Spot, shown};

/// The variable that may hold the secret.
pub const SECRET_VARIABLE: &str = "PINRING_SECRET";
const LISTEN_VARIABLE: &str = "PINRING_LISTEN";
const BACKENDS_VARIABLE: &str = "PINRING_BACKENDS";

/// One value from outside the file. `Debug` hides it: it may be the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Given<T = String> {
    /// The flag or variable, such as `--listen` or `PINRING_LISTEN`: faults name it.
    pub label: &'static str,
    /// What was given.
    pub value: T,
}

impl Given {
    pub(super) fn spot(&self) -> Spot {
        Spot {
            place: Place::Outside,
            key: self.label.to_owned(),
            value: shown(&format!("\"{}\"", self.value)),
        }
    }
}

impl Given<OsString> {
    /// As the other, without the value.
    pub(super) fn spot(&self) -> Spot {
        Spot {
            place: Place::Outside,
            key: self.label.to_owned(),
            value: None,
        }
    }
}

impl<T> fmt::Debug for Given<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Given").field(&self.label).finish()
    }
}

/// What flags and the environment give. An empty one leaves everything to the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Listening addresses, in place of `server.listen`.
    pub listen: Vec<Given>,
    /// URLs of backends, each as `URL` or `NAME=URL`, where the file has none.
    pub backends: Vec<Given>,
    /// The secret's bytes as they stand, where the file has no `affinity.secrets`.
    pub secret: Option<Given<OsString>>,
    /// How many files the process may open, where it matters: to one that only checks a file it does not.
    pub open_files: Option<u64>,
}

impl Overrides {
    /// Takes the flags `--listen` and `--backend`, and what `env` has for those that were not given:
    /// `PINRING_LISTEN` and `PINRING_BACKENDS` (separated by commas or spaces; an empty value counts
    /// as unset) and `PINRING_SECRET` (an empty one does not: it must not quietly mean "no secret").
    /// For the process itself `env` is [`std::env::var_os`].
    #[must_use]
    pub fn new(
        listen: &[String],
        backends: &[String],
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let either = |flag, values: &[String], variable| match values {
            [] => {
                env(variable).map_or_else(Vec::new, |list| split(variable, &list.to_string_lossy()))
            }
            values => values.iter().flat_map(|list| split(flag, list)).collect(),
        };
        Self {
            listen: either("--listen", listen, LISTEN_VARIABLE),
            backends: either("--backend", backends, BACKENDS_VARIABLE),
            secret: env(SECRET_VARIABLE).map(|value| Given {
                label: SECRET_VARIABLE,
                value,
            }),
            open_files: None,
        }
    }
}

fn split(label: &'static str, list: &str) -> Vec<Given> {
    let separator = |character: char| character == ',' || character.is_whitespace();
    let values = list.split(separator).filter(|value| !value.is_empty());
    values
        .map(|value| Given {
            label,
            value: value.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(given: &[Given]) -> Vec<(&str, &str)> {
        given
            .iter()
            .map(|given| (given.label, given.value.as_str()))
            .collect()
    }

    #[test]
    fn flags_win_over_the_environment() {
        let env = |name: &str| Some(format!("{name},b").into());
        let flags = Overrides::new(&["a".into(), "b,c".into()], &[], env);
        assert_eq!(
            values(&flags.listen),
            [("--listen", "a"), ("--listen", "b"), ("--listen", "c")]
        );
        assert_eq!(
            values(&flags.backends),
            [
                ("PINRING_BACKENDS", "PINRING_BACKENDS"),
                ("PINRING_BACKENDS", "b")
            ]
        );
    }

    #[test]
    fn an_empty_list_is_unset_and_an_empty_secret_is_not() {
        let empty = Overrides::new(&[], &[], |_| Some(OsString::new()));
        assert!(empty.listen.is_empty() && empty.backends.is_empty());
        assert!(empty.secret.is_some());
        let unset = Overrides::new(&[], &[], |_| None);
        assert_eq!(unset, Overrides::default());
    }

    #[test]
    fn debug_shows_no_value() {
        let env = |name: &str| (name == SECRET_VARIABLE).then(|| "hush".into());
        let text = format!("{:?}", Overrides::new(&[], &[], env));
        assert!(text.contains(SECRET_VARIABLE) && !text.contains("hush"));
    }
}
