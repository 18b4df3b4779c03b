//! The TOML text: parsed with its lines kept, and the one [`Report`] of what was found in it.
//!
//! serde would stop at the first error and forget the line. Here every key is asked for by itself
//! (`section`), faults are collected, and a key that nobody asked for is unknown: the report names
//! the nearest known one. What values mean is the business of `check`.

use std::{cell::RefCell, collections::BTreeSet, ops::Range};

use toml::de::DeTable;

use super::{
    fault::{Fault, Place, Spot, shown},
    section::Section,
};

/// Keys whose values never appear in a fault: somebody may have written a secret itself there.
const SECRET_KEYS: [&str; 2] = ["secrets", "admin_token"];

/// Parses the text.
///
/// # Errors
///
/// All that is no TOML, one fault a line: what follows on the same line is mostly its echo.
pub(super) fn parse(text: &str) -> Result<DeTable<'_>, Vec<Fault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table.into_inner());
    }
    let mut faults: Vec<Fault> = Vec::new();
    for error in errors {
        let at = error.span().map_or(text.len(), |span| span.start);
        let (line, column) = position(text, at);
        if faults.iter().all(|known| known.place != Place::Line(line)) {
            faults.push(Fault {
                place: Place::Line(line),
                key: String::new(),
                value: None,
                message: format!("column {column}: {}", explained(error.message())),
            });
        }
    }
    Err(faults)
}

/// What the parser says, but for its answer to `listen = 127.0.0.1:8080`, which explains nothing.
fn explained(message: &str) -> String {
    match message.strip_suffix(", expected nothing") {
        Some(problem) => format!("{problem}; whatever is no plain number stands in quotes"),
        None => message.replace('\n', ", "),
    }
}

/// Line and column of a byte, both counted from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default();
    (line, column.chars().count() + 1)
}

/// What the reading of one text found: faults, and the keys that were asked for.
#[derive(Debug)]
pub(super) struct Report<'a> {
    text: &'a str,
    /// Where each line ends: every key asks for its own, and a file may have 10,000 backends.
    line_ends: Vec<usize>,
    faults: RefCell<Vec<Fault>>,
    notes: RefCell<Vec<String>>,
    known: RefCell<BTreeSet<String>>,
    unknown: RefCell<Vec<Unknown>>,
}

#[derive(Debug)]
struct Unknown {
    spot: Spot,
    section: String,
    key: String,
}

impl<'a> Report<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            line_ends: memchr::memchr_iter(b'\n', text.as_bytes()).collect(),
            faults: RefCell::default(),
            notes: RefCell::default(),
            known: RefCell::default(),
            unknown: RefCell::default(),
        }
    }

    /// The section at the top of the file.
    pub(super) fn root(&'a self, table: &'a DeTable<'a>) -> Section<'a> {
        let spot = Spot {
            place: Place::File,
            key: String::new(),
            value: None,
        };
        Section::new(self, Some(table), spot)
    }

    pub(super) fn push(&self, fault: Fault) {
        self.faults.borrow_mut().push(fault);
    }

    /// Notes what is no fault and should be known all the same.
    pub(super) fn note(&self, note: String) {
        self.notes.borrow_mut().push(note);
    }

    /// All notes so far.
    pub(super) fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    /// All faults. To be called when every section is finished: only then it is known what is known.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let known = &self.known.borrow();
        let mut faults = self.faults.borrow().clone();
        for unknown in self.unknown.borrow().iter() {
            let message = unknown.message(known);
            faults.push(unknown.spot.clone().fault(message));
        }
        faults
    }

    /// The keys that were asked for, elements of arrays written `[]`.
    #[cfg(test)]
    pub(super) fn known(&self) -> Vec<String> {
        self.known.borrow().iter().cloned().collect()
    }

    /// Notes that a key is known.
    pub(super) fn asked(&self, path: &str) {
        self.known.borrow_mut().insert(pattern(path));
    }

    /// Notes a key that nobody asked for in the section at `section`.
    pub(super) fn unknown(&self, section: &str, key: &str, spot: Spot) {
        self.unknown.borrow_mut().push(Unknown {
            spot,
            section: pattern(section),
            key: key.to_owned(),
        });
    }

    pub(super) fn spot(&self, key: String, span: Range<usize>) -> Spot {
        let line = self.line_ends.partition_point(|end| *end < span.start) + 1;
        let written = self.text.get(span).and_then(shown);
        let last = key.rsplit('.').next().unwrap_or_default();
        let last = last.split('[').next().unwrap_or_default();
        Spot {
            place: Place::Line(line),
            value: written.filter(|_| !SECRET_KEYS.contains(&last)),
            key,
        }
    }
}

impl Unknown {
    /// What is wrong with it, where these are the paths of all keys that exist.
    fn message(&self, known: &BTreeSet<String>) -> String {
        let here: Vec<&str> = known
            .iter()
            .filter_map(|path| leaf_in(path, &self.section))
            .collect();
        if let Some((nearest, _)) = nearest(&self.key, here.iter().map(|key| (*key, *key))) {
            return format!("unknown key; the nearest known one is \"{nearest}\"");
        }
        let elsewhere = known.iter().filter_map(|path| {
            let (_, key) = path.rsplit_once('.')?;
            Some((key, path.as_str()))
        });
        if let Some((nearest, path)) = nearest(&self.key, elsewhere) {
            let header = header(path.rsplit_once('.').map_or("", |(section, _)| section));
            return if nearest == self.key {
                format!("unknown key here; it belongs in {header}")
            } else {
                format!(
                    "unknown key; the nearest known one is \"{nearest}\", which belongs in {header}"
                )
            };
        }
        format!("unknown key; known here: {}", here.join(", "))
    }
}

/// The key's own name if `path` stands directly in `section`.
fn leaf_in<'a>(path: &'a str, section: &str) -> Option<&'a str> {
    let leaf = match section {
        "" => path,
        section => path.strip_prefix(section)?.strip_prefix('.')?,
    };
    (!leaf.contains('.')).then_some(leaf)
}

/// How the file opens a section, given its path.
pub(super) fn header(section: &str) -> String {
    let section = pattern(section);
    match section.strip_suffix("[]") {
        Some(array) => format!("[[{}]]", array.replace("[]", "")),
        None => format!("[{}]", section.replace("[]", "")),
    }
}

/// The word that `written` probably means, with its path, if any is near enough: one letter in three may
/// differ.
fn nearest<'a>(
    written: &str,
    words: impl Iterator<Item = (&'a str, &'a str)>,
) -> Option<(&'a str, &'a str)> {
    let distance = |word: &str| strsim::damerau_levenshtein(written, word);
    let (distance, word, path) = words
        .map(|(word, path)| (distance(word), word, path))
        .min()?;
    (distance <= written.len().max(word.len()) / 3).then_some((word, path))
}

/// Of `pools[1].name` it is `pools[].name`.
fn pattern(path: &str) -> String {
    path.split_inclusive(['[', ']'])
        .map(|part| {
            let index = part.strip_suffix(']');
            let digits = |index: &str| index.bytes().all(|byte| byte.is_ascii_digit());
            if index.is_some_and(digits) { "]" } else { part }
        })
        .collect()
}
