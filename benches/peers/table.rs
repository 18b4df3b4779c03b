//! What was measured, as a table of medians and of ratios.

use std::collections::BTreeMap;

/// The figures of a run, by what was measured, in the order in which they first came.
#[derive(Debug)]
pub(crate) struct Table {
    /// Who was measured.
    columns: Vec<&'static str>,
    /// Whose medians are divided by whose.
    ratios: Vec<(&'static str, &'static str)>,
    order: Vec<String>,
    figures: BTreeMap<(String, &'static str), Vec<f64>>,
}

impl Table {
    pub(crate) const fn new(
        columns: Vec<&'static str>,
        ratios: Vec<(&'static str, &'static str)>,
    ) -> Self {
        Self {
            columns,
            ratios,
            order: Vec::new(),
            figures: BTreeMap::new(),
        }
    }

    /// Notes a figure of one round.
    pub(crate) fn note(&mut self, what: &str, column: &'static str, figure: f64) {
        if !self.order.iter().any(|known| known == what) {
            self.order.push(what.to_owned());
        }
        let key = (what.to_owned(), column);
        self.figures.entry(key).or_default().push(figure);
    }

    /// Prints medians and their ratios.
    pub(crate) fn print(&self) {
        let columns = self.columns.iter().map(|&column| column.to_owned());
        let ratios = self.ratios.iter();
        let ratios = ratios.map(|(column, other)| format!("{column} × {other}"));
        let heads: Vec<String> = columns.chain(ratios).collect();
        println!("| median of the rounds | {} |", heads.join(" | "));
        println!("|---|{}", "---|".repeat(heads.len()));
        for what in &self.order {
            println!("| {what} | {} |", self.row(what).join(" | "));
        }
    }

    fn row(&self, what: &str) -> Vec<String> {
        let missing = || "–".to_owned();
        let medians = self.columns.iter().map(|column| self.median(what, column));
        let medians = medians.map(|median| median.map_or_else(missing, shown));
        let ratios = self.ratios.iter().map(|(column, other)| {
            match (self.median(what, column), self.median(what, other)) {
                (Some(figure), Some(other)) if other > 0.0 => format!("{:.2}", figure / other),
                _ => missing(),
            }
        });
        medians.chain(ratios).collect()
    }

    fn median(&self, what: &str, column: &'static str) -> Option<f64> {
        let mut figures = self.figures.get(&(what.to_owned(), column))?.clone();
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        Some(if figures.len() % 2 == 1 {
            figures[middle]
        } else {
            f64::midpoint(figures[middle - 1], figures[middle])
        })
    }
}

fn shown(figure: f64) -> String {
    match figure.abs() {
        large if large >= 1000.0 => format!("{figure:.0}"),
        large if large >= 100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}
