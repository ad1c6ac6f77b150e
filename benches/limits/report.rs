//! What was measured, beside what it was to be: as Markdown for people, as JSON for programs.

use serde_json::{Value, json};

use crate::support::load::Times;
use crate::support::samples::Spread;

use super::cell::{Cell, add, shown};
use super::machine::Machine;

/// Everything one run found out.
pub struct Report {
    machine: Machine,
    rounds: usize,
    times: Times,
    cells: Vec<Cell>,
    lines: Vec<Line>,
}

/// A line of what must be shown, held against what was found.
struct Line {
    text: String,
    /// Nothing if the figure is only told.
    target: Option<Target>,
    /// Nothing if it was not measured.
    found: Option<Spread>,
    /// Whether the run was to measure it.
    wanted: bool,
}

/// On which side of a limit the median of a figure has to be.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// This or lower.
    AtMost(f64),
    /// This or higher.
    AtLeast(f64),
}

/// What has become of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The figure is on the right side of its limit.
    Holds,
    /// The figure is on the wrong side.
    FallsShort,
    /// There is no figure, although the run was to find one.
    NotMeasured,
    /// There is no figure because the run was told to leave it out.
    LeftOut,
    /// There is no limit: the figure is shown beside those that have one.
    NotAsked,
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

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::FallsShort => "falls short",
            Self::NotMeasured => "not measured",
            Self::LeftOut => "not measured: left out of this run",
            Self::NotAsked => "not asked",
        }
    }

    /// Whether a run that is to judge says no because of it.
    fn is_bad(self) -> bool {
        matches!(self, Self::FallsShort | Self::NotMeasured)
    }
}

impl Line {
    fn verdict(&self) -> Verdict {
        match (self.target, self.found) {
            (None, _) => Verdict::NotAsked,
            (Some(target), Some(found)) if target.holds(found.median) => Verdict::Holds,
            (Some(_), Some(_)) => Verdict::FallsShort,
            (Some(_), None) if self.wanted => Verdict::NotMeasured,
            (Some(_), None) => Verdict::LeftOut,
        }
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
        Self { machine, rounds, times, cells: Vec::new(), lines: Vec::new() }
    }

    /// Takes a cell that is complete, and prints it.
    pub fn add(&mut self, cell: Cell) {
        println!("{}", cell.markdown());
        self.cells.push(cell);
    }

    /// The median of a figure that was measured, and how far it reaches.
    pub fn found(&self, cell: &str, subject: &str, figure: &str) -> Option<Spread> {
        self.cells.iter().find(|of| of.name() == cell)?.spread(subject, figure)
    }

    /// Holds a figure against a line of what must be shown. `wanted` says whether this run was to measure it.
    pub fn judge(&mut self, text: String, target: Target, found: Option<Spread>, wanted: bool) {
        self.lines.push(Line { text, target: Some(target), found, wanted });
    }

    /// Shows a figure beside those that are judged, if there is one.
    pub fn tell(&mut self, text: String, found: Option<Spread>) {
        if found.is_some() {
            self.lines.push(Line { text, target: None, found, wanted: true });
        }
    }

    /// Whether every line that this run was to measure was measured, and holds.
    pub fn holds(&self) -> bool {
        !self.lines.iter().any(|line| line.verdict().is_bad())
    }

    /// What was to be shown, and whether it was.
    pub fn verdicts(&self) -> String {
        let mut text = "### What must be shown\n\n| line | target | found | |\n|---|---|---:|---|".to_owned();
        for line in &self.lines {
            let target = line.target.map_or_else(String::new, Target::text);
            let found = line.found.map_or_else(String::new, shown);
            let verdict = line.verdict();
            let mark = if verdict.is_bad() { "**" } else { "" };
            let name = verdict.name();
            add(&mut text, format_args!("\n| {} | {target} | {found} | {mark}{name}{mark} |", line.text));
        }
        text.push('\n');
        text
    }

    /// Everything, every single figure included.
    pub fn to_json(&self) -> Value {
        let lines = self.lines.iter().map(|line| {
            json!({
                "line": line.text,
                "target": line.target.map(Target::text),
                "found": line.found.map(|found| found.median),
                "min": line.found.map(|found| found.min),
                "max": line.found.map(|found| found.max),
                "verdict": line.verdict().name(),
            })
        });
        json!({
            "machine": self.machine.to_json(),
            "rounds": self.rounds,
            "seconds": self.times.measured.as_secs_f64(),
            "warm_seconds": self.times.warm.as_secs_f64(),
            "cells": self.cells.iter().map(Cell::to_json).collect::<Vec<_>>(),
            "verdicts": lines.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let machine = Machine::default();
        Report { machine, rounds: 1, times: Times::default(), cells: Vec::new(), lines: Vec::new() }
    }

    fn judged(target: Target, values: &[f64], wanted: bool) -> (Verdict, bool) {
        let mut report = report();
        report.judge("it".to_owned(), target, Spread::of(values), wanted);
        (report.lines[0].verdict(), report.holds())
    }

    #[test]
    fn the_median_has_to_be_on_the_right_side_of_its_limit() {
        assert_eq!(judged(Target::AtMost(2.0), &[1.0, 2.0, 9.0], true), (Verdict::Holds, true));
        assert_eq!(judged(Target::AtLeast(2.1), &[1.0, 2.0, 9.0], true), (Verdict::FallsShort, false));
    }

    #[test]
    fn a_line_without_a_figure_is_listed_and_does_not_hold() {
        assert_eq!(judged(Target::AtMost(1.0), &[], true), (Verdict::NotMeasured, false));
        assert_eq!(judged(Target::AtMost(1.0), &[f64::NAN], true), (Verdict::NotMeasured, false));
        assert_eq!(judged(Target::AtMost(1.0), &[], false), (Verdict::LeftOut, true), "nobody wanted it");
        let mut report = report();
        report.judge("how fast".to_owned(), Target::AtLeast(0.9), None, true);
        report.tell("how fast unprepared".to_owned(), Spread::of(&[0.5]));
        report.tell("how fast elsewhere".to_owned(), None);
        let text = "### What must be shown\n\n| line | target | found | |\n|---|---|---:|---|\n\
            | how fast | at least 0.9 |  | **not measured** |\n\
            | how fast unprepared |  | 0.50 | not asked |\n";
        assert_eq!(report.verdicts(), text);
    }
}
