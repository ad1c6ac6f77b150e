//! One question, and what the contestants came to.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::support::load::Outcome;
use crate::support::samples::Spread;

/// One question, and the contestants' answers.
pub struct Cell {
    name: String,
    question: String,
    rows: Vec<Row>,
    /// What no figure says.
    remarks: Vec<String>,
}

struct Row {
    subject: String,
    figures: Vec<(String, Vec<f64>)>,
}

impl Cell {
    /// A cell without answers so far.
    pub fn new(name: impl Into<String>, question: impl Into<String>) -> Self {
        Self { name: name.into(), question: question.into(), rows: Vec::new(), remarks: Vec::new() }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes down a figure of a subject, one of a round or of a window in it. Subjects and figures are shown in the
    /// order they were first noted.
    pub fn note(&mut self, subject: &str, figure: &str, value: f64) {
        let index = self.rows.iter().position(|row| row.subject == subject).unwrap_or_else(|| {
            self.rows.push(Row { subject: subject.to_owned(), figures: Vec::new() });
            self.rows.len() - 1
        });
        let figures = &mut self.rows[index].figures;
        match figures.iter_mut().find(|(name, _)| name == figure) {
            Some((_, values)) => values.push(value),
            None => figures.push((figure.to_owned(), vec![value])),
        }
    }

    /// Takes down what every load comes to.
    pub fn note_outcome(&mut self, subject: &str, outcome: &Outcome) {
        self.note(subject, "records/s", outcome.per_second());
        self.note(subject, "p50 µs", outcome.latencies.at_us(0.5));
        self.note(subject, "p99 µs", outcome.latencies.at_us(0.99));
        self.note(subject, "p999 µs", outcome.latencies.at_us(0.999));
        self.note(subject, "CPU µs/record", outcome.cpu_us());
    }

    /// Says something below the figures.
    pub fn remark(&mut self, remark: String) {
        self.remarks.push(remark);
    }

    /// The median of a subject's figure, and how far it reaches, if it was measured.
    pub fn spread(&self, subject: &str, figure: &str) -> Option<Spread> {
        let row = self.rows.iter().find(|row| row.subject == subject)?;
        let (_, values) = row.figures.iter().find(|(name, _)| name == figure)?;
        Spread::of(values)
    }

    /// The median of a subject's figure, if it was measured.
    pub fn median(&self, subject: &str, figure: &str) -> Option<f64> {
        self.spread(subject, figure).map(|spread| spread.median)
    }

    /// As a heading and a table.
    pub fn markdown(&self) -> String {
        let mut columns: Vec<&str> = Vec::new();
        for (figure, _) in self.rows.iter().flat_map(|row| &row.figures) {
            if !columns.contains(&figure.as_str()) {
                columns.push(figure);
            }
        }
        let mut text = format!("### {}\n\n{}\n\n|", self.name, self.question);
        text.push_str(" |");
        columns.iter().for_each(|column| add(&mut text, format_args!(" {column} |")));
        text.push_str("\n|---|");
        columns.iter().for_each(|_| text.push_str("---:|"));
        for row in &self.rows {
            add(&mut text, format_args!("\n| {} |", row.subject));
            for column in &columns {
                let values = row.figures.iter().find(|(figure, _)| figure == column);
                match values.and_then(|(_, values)| Spread::of(values)) {
                    Some(spread) => add(&mut text, format_args!(" {} |", shown(spread))),
                    None => text.push_str(" |"),
                }
            }
        }
        text.push('\n');
        self.remarks.iter().for_each(|remark| add(&mut text, format_args!("\n{remark}\n")));
        text
    }

    /// Everything, every single figure included.
    pub fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let figures = row.figures.iter().map(|(figure, values)| {
                let spread = Spread::of(values);
                let value = json!({
                    "median": spread.map(|spread| spread.median),
                    "min": spread.map(|spread| spread.min),
                    "max": spread.map(|spread| spread.max),
                    "values": values,
                });
                (figure.clone(), value)
            });
            json!({ "subject": row.subject, "figures": figures.collect::<serde_json::Map<_, _>>() })
        });
        json!({
            "cell": self.name,
            "question": self.question,
            "rows": rows.collect::<Vec<_>>(),
            "remarks": self.remarks,
        })
    }
}

pub(super) fn add(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a string takes everything");
}

/// A median, and how far it reaches, for a person.
pub(super) fn shown(spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    if number(min) == number(max) {
        number(median)
    } else {
        format!("{} ({}–{})", number(median), number(min), number(max))
    }
}

/// Three digits that mean something, and thousands apart.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1000.0 {
        let whole = format!("{value:.0}");
        let (sign, digits) = whole.strip_prefix('-').map_or(("", whole.as_str()), |digits| ("-", digits));
        let groups: Vec<&str> =
            digits.as_bytes().rchunks(3).rev().filter_map(|g| str::from_utf8(g).ok()).collect();
        format!("{sign}{}", groups.join(","))
    } else if magnitude >= 100.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else if magnitude >= 0.1 || magnitude == 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_mean_something() {
        let texts = [1234567.0, -1000.4, 345.6, 12.34, 1.234, 0.0123].map(number);
        assert_eq!(texts, ["1,234,567", "-1,000", "346", "12.3", "1.23", "0.012"]);
    }

    #[test]
    fn a_cell_shows_medians_of_what_was_noted() {
        let mut cell = Cell::new("durable/1", "How long?");
        for value in [1.0, 3.0, 2.0] {
            cell.note("log", "p50 µs", value);
        }
        cell.note("bare", "CPU", 0.5);
        cell.remark("It was late.".to_owned());
        let text = "### durable/1\n\nHow long?\n\n| | p50 µs | CPU |\n|---|---:|---:|\n\
            | log | 2.00 (1.00–3.00) | |\n| bare | | 0.50 |\n\nIt was late.\n";
        assert_eq!(cell.markdown(), text);
        assert_eq!(cell.median("log", "p50 µs"), Some(2.0));
    }
}
