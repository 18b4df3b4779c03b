//! What is wrong with a configuration: every fault with its place, key path, value and remedy.

use std::fmt;

/// Where a fault stands. The order is that of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a flag or a variable of the environment, which the key then names.
    Outside,
    /// In this line of the file, counted from 1.
    Line(usize),
    /// In the file, at no line of its own: something is missing.
    File,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands.
    pub place: Place,
    /// The key path, such as `timeouts.drain` or `pools[1].backends[0].url` (counted from 0). Empty
    /// where the fault is of the file as a whole.
    pub key: String,
    /// The value as written, shortened; `None` where it is absent or may be a secret.
    pub value: Option<String>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Fault {
    /// The fault as one line (several, where it gives lines to paste), `source` being the file's name.
    pub fn display<'a>(&'a self, source: &'a str) -> impl fmt::Display + 'a {
        Located {
            fault: self,
            source,
        }
    }
}

struct Located<'a> {
    fault: &'a Fault,
    source: &'a str,
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault {
            place,
            key,
            value,
            message,
        } = self.fault;
        let equals = match place {
            Place::Outside => " ",
            Place::Line(line) => {
                write!(f, "{}:{line}: ", self.source)?;
                " = "
            }
            Place::File => {
                write!(f, "{}: ", self.source)?;
                " = "
            }
        };
        if !key.is_empty() {
            f.write_str(key)?;
            if let Some(value) = value {
                write!(f, "{equals}{value}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(message)
    }
}

/// A place, key and value about which something may turn out to be wrong.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) value: Option<String>,
}

impl Spot {
    pub(super) fn fault(self, message: impl Into<String>) -> Fault {
        Fault {
            place: self.place,
            key: self.key,
            value: self.value,
            message: message.into(),
        }
    }

    /// How another fault refers to this place.
    pub(super) fn reference(&self) -> String {
        match self.place {
            Place::Line(line) => format!("{} (line {line})", self.key),
            Place::Outside | Place::File => self.key.clone(),
        }
    }
}

/// The value as a fault shows it: one line, shortened, no password.
pub(super) fn shown(written: &str) -> Option<String> {
    const MOST_CHARACTERS: usize = 80;
    if written.contains("://") && written.contains('@') {
        return None; // "redis://:password@host", "http://user:password@host"
    }
    let line = written.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(MOST_CHARACTERS).collect();
    if shown.len() < written.len() {
        shown.push('…');
    }
    Some(shown)
}

/// Everything that is wrong with a configuration; never empty. `Display` has a line for each fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    source: String,
    faults: Vec<Fault>,
}

impl ConfigErrors {
    /// Takes at least one fault and sorts them by their place.
    pub(super) fn new(mut faults: Vec<Fault>) -> Self {
        debug_assert!(!faults.is_empty(), "an error says what is wrong");
        faults.sort_by_key(|fault| fault.place);
        Self {
            source: "configuration".to_owned(),
            faults,
        }
    }

    /// Says which file the faults are in.
    #[must_use]
    pub fn named(self, source: impl Into<String>) -> Self {
        let source = source.into();
        Self { source, ..self }
    }

    /// The name of the file that the faults are in.
    #[must_use]
    pub fn source_name(&self) -> &str {
        &self.source
    }

    /// The faults, sorted by line.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.faults.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", fault.display(&self.source))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
