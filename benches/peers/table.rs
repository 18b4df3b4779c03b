//! What was measured, as a table of medians and of ratios.

use std::collections::BTreeMap;

use crate::peers::Peer;

/// The figures of a run, by what was measured, in the order in which they first came.
#[derive(Debug, Default)]
pub(crate) struct Table {
    order: Vec<String>,
    figures: BTreeMap<(String, &'static str), Vec<f64>>,
}

impl Table {
    /// Notes a figure of one round.
    pub(crate) fn note(&mut self, what: &str, peer: Peer, figure: f64) {
        if !self.order.iter().any(|known| known == what) {
            self.order.push(what.to_owned());
        }
        let key = (what.to_owned(), peer.name());
        self.figures.entry(key).or_default().push(figure);
    }

    /// Prints medians, and pinring's by those of the others.
    pub(crate) fn print(&self) {
        println!("| median of the rounds | haproxy | nginx | pinring | × haproxy | × nginx |");
        println!("|---|---|---|---|---|---|");
        for what in &self.order {
            let medians = Peer::ALL.map(|peer| self.median(what, peer));
            let [haproxy, nginx, pinring] = medians;
            let cells = medians.map(|median| median.map_or("–".to_owned(), shown));
            let ratio = |other: Option<f64>| match (pinring, other) {
                (Some(pinring), Some(other)) if other > 0.0 => format!("{:.2}", pinring / other),
                _ => "–".to_owned(),
            };
            let [to_haproxy, to_nginx] = [ratio(haproxy), ratio(nginx)];
            println!(
                "| {what} | {} | {to_haproxy} | {to_nginx} |",
                cells.join(" | ")
            );
        }
    }

    fn median(&self, what: &str, peer: Peer) -> Option<f64> {
        let mut figures = self.figures.get(&(what.to_owned(), peer.name()))?.clone();
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
