//! What was measured, beside what it was to be: as Markdown for people, as JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::support::load::{Outcome, Times};
use crate::support::samples::Spread;

use super::machine::Machine;

/// Everything one run found out.
pub struct Report {
    machine: Machine,
    rounds: usize,
    times: Times,
    cells: Vec<Cell>,
    verdicts: Vec<Verdict>,
}

/// One question, and the contestants' answers.
pub struct Cell {
    name: String,
    question: String,
    rows: Vec<Row>,
}

struct Row {
    subject: String,
    figures: Vec<(&'static str, Vec<f64>)>,
}

/// A line of what must be shown.
struct Verdict {
    line: String,
    target: String,
    /// Nothing if it was not measured.
    found: Option<f64>,
    holds: bool,
}

/// On which side of a limit a figure has to be.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// The figure is this or lower.
    AtMost(f64),
    /// The figure is this or higher.
    AtLeast(f64),
}

impl Target {
    fn holds(self, found: f64) -> bool {
        match self {
            Self::AtMost(limit) => found <= limit,
            Self::AtLeast(limit) => found >= limit,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("at most {limit}"),
            Self::AtLeast(limit) => format!("at least {limit}"),
        }
    }
}

impl Cell {
    /// A cell without answers so far.
    pub fn new(name: impl Into<String>, question: impl Into<String>) -> Self {
        Self { name: name.into(), question: question.into(), rows: Vec::new() }
    }

    /// Takes down one round's figure of a subject. Subjects and figures are shown in the order they were first noted.
    pub fn note(&mut self, subject: &str, figure: &'static str, value: f64) {
        let index = self.rows.iter().position(|row| row.subject == subject).unwrap_or_else(|| {
            self.rows.push(Row { subject: subject.to_owned(), figures: Vec::new() });
            self.rows.len() - 1
        });
        let figures = &mut self.rows[index].figures;
        match figures.iter_mut().find(|(name, _)| *name == figure) {
            Some((_, values)) => values.push(value),
            None => figures.push((figure, vec![value])),
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

    /// The median of a subject's figure, if it was measured.
    pub fn median(&self, subject: &str, figure: &str) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.subject == subject)?;
        let (_, values) = row.figures.iter().find(|(name, _)| *name == figure)?;
        Spread::of(values).map(|spread| spread.median)
    }

    fn markdown(&self) -> String {
        let mut columns: Vec<&str> = Vec::new();
        for (figure, _) in self.rows.iter().flat_map(|row| &row.figures) {
            if !columns.contains(figure) {
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
        text
    }

    fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let figures = row.figures.iter().map(|(figure, values)| {
                let spread = Spread::of(values);
                let value = json!({
                    "median": spread.map(|spread| spread.median),
                    "min": spread.map(|spread| spread.min),
                    "max": spread.map(|spread| spread.max),
                    "rounds": values,
                });
                ((*figure).to_owned(), value)
            });
            json!({ "subject": row.subject, "figures": figures.collect::<serde_json::Map<_, _>>() })
        });
        json!({ "cell": self.name, "question": self.question, "rows": rows.collect::<Vec<_>>() })
    }
}

impl Report {
    /// A report without cells so far. Says at once where the run happens.
    pub fn new(machine: Machine, rounds: usize, times: Times) -> Self {
        println!("{}", machine.markdown());
        println!(
            "{rounds} rounds; each contestant warms up for {:?} and is measured for {:?}; median (lowest–highest).\n",
            times.warm, times.measured
        );
        Self { machine, rounds, times, cells: Vec::new(), verdicts: Vec::new() }
    }

    /// Takes a cell that is complete, and prints it.
    pub fn add(&mut self, cell: Cell) {
        println!("{}", cell.markdown());
        self.cells.push(cell);
    }

    /// Holds a figure against a line of what must be shown; one that was not measured is left out.
    pub fn judge(&mut self, line: impl Into<String>, target: Target, found: Option<f64>) {
        if let Some(found) = found.filter(|found| found.is_finite()) {
            self.verdicts.push(Verdict {
                line: line.into(),
                target: target.text(),
                found: Some(found),
                holds: target.holds(found),
            });
        }
    }

    /// A cell that was added.
    pub fn cell(&self, name: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.name == name)
    }

    /// What was to be shown, and whether it was.
    pub fn verdicts(&self) -> String {
        let mut text = "### What must be shown\n\n| line | target | found | |\n|---|---|---:|---|".to_owned();
        for Verdict { line, target, found, holds } in &self.verdicts {
            let found = found.map_or_else(String::new, number);
            let verdict = if *holds { "holds" } else { "**falls short**" };
            add(&mut text, format_args!("\n| {line} | {target} | {found} | {verdict} |"));
        }
        text.push('\n');
        text
    }

    /// Everything, every round's figure included.
    pub fn to_json(&self) -> Value {
        let verdicts = self.verdicts.iter().map(|Verdict { line, target, found, holds }| {
            json!({ "line": line, "target": target, "found": found, "holds": holds })
        });
        json!({
            "machine": self.machine.to_json(),
            "rounds": self.rounds,
            "seconds": self.times.measured.as_secs_f64(),
            "warm_seconds": self.times.warm.as_secs_f64(),
            "cells": self.cells.iter().map(Cell::to_json).collect::<Vec<_>>(),
            "verdicts": verdicts.collect::<Vec<_>>(),
        })
    }
}

fn add(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a string takes everything");
}

fn shown(spread: Spread) -> String {
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
        let text = "### durable/1\n\nHow long?\n\n| | p50 µs | CPU |\n|---|---:|---:|\n\
            | log | 2.00 (1.00–3.00) | |\n| bare | | 0.50 |\n";
        assert_eq!(cell.markdown(), text);
        assert_eq!(cell.median("log", "p50 µs"), Some(2.0));
        assert!(Target::AtMost(2.0).holds(2.0) && !Target::AtLeast(2.1).holds(2.0));
    }
}
