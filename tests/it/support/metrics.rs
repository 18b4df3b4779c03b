//! The metrics of a pinring, as samples.

use std::collections::BTreeMap;

use super::{Pinring, admin::exchange};

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Its name, suffixes included.
    pub(crate) name: String,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its value.
    pub(crate) value: f64,
}

/// What one scrape told.
#[derive(Debug)]
pub(crate) struct Scrape {
    /// The text.
    pub(crate) text: String,
    /// Its samples.
    pub(crate) samples: Vec<Sample>,
}

impl Scrape {
    fn read(text: String) -> Self {
        assert!(text.ends_with("# EOF\n"), "{text}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(sample).collect();
        Self { text, samples }
    }

    /// The samples of this name that have these labels, among others.
    pub(crate) fn find(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let fits = |sample: &&Sample| {
            let mut labels = labels.iter();
            let has = |(key, value): &(&str, &str)| {
                sample.labels.get(*key).is_some_and(|found| found == value)
            };
            sample.name == name && labels.all(has)
        };
        self.samples.iter().filter(fits).collect()
    }

    /// Their sum; 0 where there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.find(name, labels);
        found.iter().map(|sample| sample.value).sum()
    }

    /// The value of the one sample of this name that has these labels, among others.
    pub(crate) fn one(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.find(name, labels);
        assert_eq!(found.len(), 1, "{name} {labels:?} in {}", self.text);
        found[0].value
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
    };
    Sample {
        name: name.to_owned(),
        labels: pairs(labels),
        value: value.parse().unwrap(),
    }
}

/// `key="value",…`, in which values may have escaped quotes.
fn pairs(mut labels: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    while let Some((key, rest)) = labels.split_once("=\"") {
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => value.push(characters.next().unwrap().1),
                (_, other) => value.push(other),
            }
        };
        found.insert(key.trim_start_matches(',').to_owned(), value);
        labels = rest.get(end + 1..).unwrap();
    }
    found
}

impl Pinring {
    /// What `GET /metrics` tells at its admin socket.
    pub(crate) fn metrics(&self) -> Scrape {
        let (status, head, body) = exchange(&self.admin(), "GET", "/metrics", "");
        assert_eq!(status, 200, "{head}");
        let announced = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert!(head.contains(announced), "{head}");
        Scrape::read(body)
    }
}
