//! One table of the file: each getter asks for one key, checks type and range, and puts a fault with
//! line, value and remedy into the report where something is wrong.
//!
//! A section ends with [`Section::finish`], which finds the keys that nobody asked for.

use std::{cell::RefCell, fmt::Display, ops::RangeInclusive, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    fault::Spot,
    file::{Report, header},
    units::{InvalidQuantity, format_duration, format_size, parse_duration, parse_size},
};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) spot: Spot,
}

/// One table of the file, or its absence: then every key is absent.
#[derive(Debug)]
pub(super) struct Section<'a> {
    report: &'a Report<'a>,
    table: Option<&'a DeTable<'a>>,
    spot: Spot,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub(super) fn new(report: &'a Report<'a>, table: Option<&'a DeTable<'a>>, spot: Spot) -> Self {
        Self {
            report,
            table,
            spot: Spot {
                value: None,
                ..spot
            },
            asked: RefCell::default(),
        }
    }

    pub(super) fn report(&self) -> &'a Report<'a> {
        self.report
    }

    /// Whether the file has this section.
    pub(super) fn exists(&self) -> bool {
        self.table.is_some()
    }

    /// Where the section begins.
    pub(super) fn spot(&self) -> &Spot {
        &self.spot
    }

    /// Whether the key is there, be its value right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Whether the key is absent, or an empty list.
    pub(super) fn lacks(&self, key: &str) -> bool {
        let value = self.table.and_then(|table| table.get(key));
        value.is_none_or(|value| {
            value
                .get_ref()
                .as_array()
                .is_some_and(|array| array.is_empty())
        })
    }

    /// A fault about a key that is there and should not be.
    pub(super) fn refuse(&self, key: &str, message: &str) {
        let value = self.table.and_then(|table| table.get(key));
        let span = value.map_or(0..0, |value| value.span());
        let spot = Spot {
            value: None,
            ..self.report.spot(self.path(key), span)
        };
        self.wrong(spot, message);
    }

    /// A fault about a key that is not there.
    pub(super) fn missing(&self, key: &str, message: &str) {
        let spot = Spot {
            key: self.path(key),
            ..self.spot.clone()
        };
        self.report.push(spot.fault(message));
    }

    /// Reports every key that nobody asked for. To forget this is to accept them silently.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for (key, value) in self.table.into_iter().flatten() {
            let key = key.get_ref();
            if asked.iter().any(|known| known == key) {
                continue;
            }
            // No value: it may be a secret under a mistyped name.
            let spot = Spot {
                value: None,
                ..self.report.spot(self.path(key), value.span())
            };
            self.report.unknown(&self.spot.key, key, spot);
        }
    }

    pub(super) fn string(&self, key: &'static str) -> Option<Found<&'a str>> {
        let (value, spot) = self.value(key)?;
        self.text(value, spot, "a string in quotes")
    }

    pub(super) fn bool(&self, key: &'static str) -> Option<bool> {
        let (value, spot) = self.value(key)?;
        let value = value.as_bool();
        if value.is_none() {
            self.wrong(spot, "write true or false, without quotes");
        }
        value
    }

    pub(super) fn integer(&self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let (value, spot) = self.value(key)?;
        let number = value
            .as_integer()
            .and_then(|number| i128::from_str_radix(number.as_str(), number.radix()).ok())
            .and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            let right = format!("write a whole number from {least} to {most}, without quotes");
            self.wrong(spot, right);
        }
        number
    }

    /// A part of all: 0 to 1.
    pub(super) fn share(&self, key: &'static str) -> Option<f32> {
        let (value, spot) = self.value(key)?;
        let number = match value {
            DeValue::Integer(number) => number.as_str().parse::<f32>().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        let share = number.filter(|number| (0.0..=1.0).contains(number));
        if share.is_none() {
            self.wrong(
                spot,
                "write a number from 0.0 to 1.0, such as 0.01 for one in a hundred, without quotes",
            );
        }
        share
    }

    pub(super) fn duration(
        &self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.quantity(key, &Quantity::duration(range, None))
    }

    /// A duration for which "0s" has a meaning of its own, which `zero` tells. That is the inner `None`.
    pub(super) fn duration_or_zero(
        &self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        zero: &'static str,
    ) -> Option<Option<Duration>> {
        let duration = self.quantity(key, &Quantity::duration(range, Some(zero)))?;
        Some((!duration.is_zero()).then_some(duration))
    }

    pub(super) fn size(&self, key: &'static str, range: RangeInclusive<usize>) -> Option<usize> {
        self.quantity(key, &Quantity::size(range))
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let found = self.string(key)?;
        let word = words.iter().find(|(word, _)| *word == found.value);
        if word.is_none() {
            let all: Vec<String> = words
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            self.wrong(found.spot, format!("write {}", all.join(" or ")));
        }
        word.map(|(_, meaning)| *meaning)
    }

    /// A list of strings.
    pub(super) fn strings(&self, key: &'static str) -> Option<Found<Vec<Found<&'a str>>>> {
        let (value, spot) = self.value(key)?;
        let Some(array) = value.as_array() else {
            self.wrong(spot, "write a list of strings in brackets, as [\"…\"]");
            return None;
        };
        let mut strings = Vec::new();
        for (index, element) in array.iter().enumerate() {
            let at = format!("{}[{index}]", self.path(key));
            let spot = self.report.spot(at, element.span());
            strings.extend(self.text(element.get_ref(), spot, "a string in quotes"));
        }
        let value = strings;
        Some(Found { value, spot })
    }

    /// A string, or a list of them.
    pub(super) fn one_or_more(&self, key: &'static str) -> Option<Found<Vec<Found<&'a str>>>> {
        let (value, spot) = self.value(key)?;
        if value.is_array() {
            return self.strings(key);
        }
        let one = self.text(value, spot, "a string in quotes, or a list of them")?;
        let spot = one.spot.clone();
        let value = vec![one];
        Some(Found { value, spot })
    }

    /// A section below this one; an absent one where there is none.
    pub(super) fn table(&self, key: &'static str) -> Section<'a> {
        let absent = Spot {
            key: self.path(key),
            ..self.spot.clone()
        };
        let Some((value, spot)) = self.value(key) else {
            return Section::new(self.report, None, absent);
        };
        let table = value.as_table();
        if table.is_none() {
            self.wrong(spot.clone(), format!("write a table: [{}]", self.path(key)));
        }
        Section::new(self.report, table, spot)
    }

    /// A list of sections; `None` where there is none, empty where the list is.
    pub(super) fn tables(&self, key: &'static str, example: &str) -> Option<Vec<Section<'a>>> {
        let (value, spot) = self.value(key)?;
        let right = format!(
            "write {} and its keys below",
            header(&format!("{}[]", self.path(key)))
        );
        let Some(array) = value.as_array() else {
            self.wrong(spot, format!("{right}, with two pairs of brackets"));
            return None;
        };
        let mut sections = Vec::new();
        for (index, element) in array.iter().enumerate() {
            let at = format!("{}[{index}]", self.path(key));
            let spot = self.report.spot(at, element.span());
            match element.get_ref().as_table() {
                Some(table) => sections.push(Section::new(self.report, Some(table), spot)),
                None => self.wrong(spot, format!("{right}, or {example} in the list")),
            }
        }
        Some(sections)
    }

    fn path(&self, key: &str) -> String {
        match self.spot.key.as_str() {
            "" => key.to_owned(),
            section => format!("{section}.{key}"),
        }
    }

    /// Looks a key up and notes that it is known.
    fn value(&self, key: &'static str) -> Option<(&'a DeValue<'a>, Spot)> {
        self.asked.borrow_mut().push(key);
        let path = self.path(key);
        self.report.asked(&path);
        let value: &'a Spanned<DeValue<'a>> = self.table?.get(key)?;
        let spot = self.report.spot(path, value.span());
        let value = value.get_ref();
        // Of a table and a list of tables the span is that of a header, which the key says already.
        let list = value.as_array().and_then(|array| array.first());
        let header = value.is_table() || list.is_some_and(|first| first.get_ref().is_table());
        let written = spot.value.filter(|_| !header);
        Some((
            value,
            Spot {
                value: written,
                ..spot
            },
        ))
    }

    fn text(&self, value: &'a DeValue<'a>, spot: Spot, right: &str) -> Option<Found<&'a str>> {
        let Some(value) = value.as_str() else {
            self.wrong(spot, format!("write {right}"));
            return None;
        };
        Some(Found { value, spot })
    }

    fn quantity<T: PartialOrd>(&self, key: &'static str, kind: &Quantity<T>) -> Option<T> {
        let (value, spot) = self.value(key)?;
        let parsed = match value {
            DeValue::String(text) => (kind.parse)(text),
            DeValue::Integer(number) => {
                let digits = number.as_str().bytes().all(|byte| byte.is_ascii_digit());
                Err(if digits {
                    InvalidQuantity::NoUnit
                } else {
                    InvalidQuantity::Form
                })
            }
            _ => Err(InvalidQuantity::Form),
        };
        let problem: &dyn Display = match &parsed {
            Ok(value) if kind.allows(value) => return parsed.ok(),
            Ok(_) => &"out of range",
            Err(problem) => problem,
        };
        self.wrong(spot, format!("{problem}; {}", kind.right));
        None
    }

    fn wrong(&self, spot: Spot, message: impl Into<String>) {
        self.report.push(spot.fault(message));
    }
}

/// A kind of value with a unit: how it is read, what is allowed, and how to say so.
struct Quantity<T> {
    parse: fn(&str) -> Result<T, InvalidQuantity>,
    range: RangeInclusive<T>,
    zero: Option<T>,
    right: String,
}

impl Quantity<Duration> {
    fn duration(range: RangeInclusive<Duration>, zero: Option<&str>) -> Self {
        const EXAMPLE: Duration = Duration::from_secs(20);
        let example = if range.contains(&EXAMPLE) {
            EXAMPLE
        } else {
            *range.end()
        };
        let mut right = format!(
            "write a duration such as \"{}\" ({} to {})",
            format_duration(example),
            format_duration(*range.start()),
            format_duration(*range.end()),
        );
        if let Some(meaning) = zero {
            right.push_str(&format!(", or \"0s\" for {meaning}"));
        }
        Self {
            parse: parse_duration,
            range,
            zero: zero.map(|_| Duration::ZERO),
            right,
        }
    }
}

impl Quantity<usize> {
    fn size(range: RangeInclusive<usize>) -> Self {
        let (least, most) = (format_size(*range.start()), format_size(*range.end()));
        Self {
            parse: parse_size,
            range,
            zero: None,
            right: format!("write a size such as \"64KiB\" ({least} to {most})"),
        }
    }
}

impl<T: PartialOrd> Quantity<T> {
    fn allows(&self, value: &T) -> bool {
        self.range.contains(value) || self.zero.as_ref() == Some(value)
    }
}
