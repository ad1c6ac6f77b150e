//! What must be shown: every line, and the figure that it is about.

use crate::support::devices;

use super::durable::{self, MAPPED, SHAPES, SUSTAINED, VERSUS_BEST};
use super::report::{Report, Target};
use super::{Plan, isolation, recovery, space, written};

use Target::{AtLeast, AtMost};

/// Holds what was measured against all lines; those that nothing was measured for are listed as such.
pub fn judge(plan: &Plan<'_>, report: &mut Report) {
    let mut judge = Judge { plan, report };
    durable(&mut judge);
    mapped_and_peers(&mut judge);
    written(&mut judge);
    choice(&mut judge);
    space(&mut judge);
    recovery(&mut judge);
    isolation(&mut judge);
}

struct Judge<'a, 'p> {
    plan: &'a Plan<'p>,
    report: &'a mut Report,
}

impl Judge<'_, '_> {
    fn line(&mut self, text: String, target: Target, cell: &str, subject: &str, figure: &str) {
        let found = self.report.found(cell, subject, figure);
        self.report.judge(text, target, found, self.plan.wants(cell));
    }

    fn information(&mut self, text: String, cell: &str, subject: &str, figure: &str) {
        let found = self.report.found(cell, subject, figure);
        self.report.tell(text, found);
    }

    /// The log that stands for all where not every device is asked for.
    fn log(&self) -> String {
        durable::log_name(self.plan.device())
    }
}

fn durable(judge: &mut Judge<'_, '_>) {
    let log = judge.log();
    for cell in ["durable/tasks 1", "durable/threads 1"] {
        judge.line(format!("{cell} ({log}): p50 / S"), AtMost(1.3), cell, &log, "p50 / S");
    }
    for (cell, least) in [("durable/tasks 16", 0.5), ("durable/tasks 128", 0.5), (SUSTAINED, 0.9)] {
        judge.line(format!("{cell} ({log}): rate / B"), AtLeast(least), cell, &log, "rate / B");
    }
    judge.line(format!("{SUSTAINED} ({log}): CPU / B"), AtMost(2.0), SUSTAINED, &log, "CPU / B");
    let unprepared = durable::unprepared_name(judge.plan.device());
    for figure in ["rate / B", "CPU / B"] {
        judge.information(format!("{SUSTAINED} ({unprepared}): {figure}"), SUSTAINED, &unprepared, figure);
    }
}

fn mapped_and_peers(judge: &mut Judge<'_, '_>) {
    let log = judge.log();
    for (cell, least) in [("durable/tasks 128", 2.5), ("durable/tasks 512", 4.0)] {
        judge.line(format!("{cell}: rate / {MAPPED}"), AtLeast(least), cell, &log, "rate / mapped");
        judge.line(format!("{cell}: CPU / {MAPPED}"), AtMost(0.5), cell, &log, "CPU / mapped");
    }
    for shape in SHAPES.iter().filter(|shape| shape.on_threads) {
        for peer in judge.plan.peers {
            let figure = durable::versus(peer.name());
            judge.line(format!("{}: {figure}", shape.name), AtLeast(1.0), shape.name, &log, &figure);
        }
    }
}

fn written(judge: &mut Judge<'_, '_>) {
    for appenders in written::APPENDERS {
        let subject = written::subject(judge.plan.device(), appenders);
        for (figure, target) in [("CPU µs/record", AtMost(0.5)), ("rate / W", AtLeast(0.9))] {
            let text = format!("{} ({subject}): {figure}", written::SUSTAINED);
            judge.line(text, target, written::SUSTAINED, &subject, figure);
        }
    }
}

/// The device that the log takes by itself against the best of those it could take.
fn choice(judge: &mut Judge<'_, '_>) {
    let by_itself = devices::by_itself();
    let log = durable::log_name(by_itself);
    let has_choice = judge.plan.devices.contains(&by_itself) && judge.plan.devices.len() > 1;
    for shape in SHAPES {
        let text = format!("{}: auto / best device", shape.name);
        let found = judge.report.found(shape.name, &log, VERSUS_BEST);
        judge.report.judge(text, AtLeast(0.9), found, has_choice && judge.plan.wants(shape.name));
    }
}

fn space(judge: &mut Judge<'_, '_>) {
    for (subject, limit) in space::subjects() {
        judge.line(format!("space: {subject}"), AtMost(limit), space::CELL, &subject, space::RATIO);
    }
}

fn recovery(judge: &mut Judge<'_, '_>) {
    use recovery::{
        COLD_RATIO, COLD_SUBJECT, FIRST_APPEND, FIRST_APPEND_MS, FULL_BYTES, PAGE_CACHE, VERIFY, subject,
    };
    let log_bytes = judge.plan.recovery_bytes;
    let text = |bytes: u64| {
        format!("{FIRST_APPEND} after kill -9 of a log of {} MiB, {COLD_SUBJECT}: ms", bytes >> 20)
    };
    if log_bytes < FULL_BYTES {
        // A short log says nothing of a long one.
        judge.report.judge(text(FULL_BYTES), AtMost(1000.0), None, judge.plan.wants(FIRST_APPEND));
        judge.information(text(log_bytes), FIRST_APPEND, COLD_SUBJECT, FIRST_APPEND_MS);
    } else {
        judge.line(text(log_bytes), AtMost(1000.0), FIRST_APPEND, COLD_SUBJECT, FIRST_APPEND_MS);
    }
    let verify = subject();
    let text = format!("{VERIFY}: rate / the faster cold read, buffered or direct");
    judge.line(text, AtLeast(0.8), VERIFY, &verify, COLD_RATIO);
    judge.line(format!("{VERIFY}: {PAGE_CACHE}"), AtLeast(10_000.0), VERIFY, &verify, PAGE_CACHE);
}

fn isolation(judge: &mut Judge<'_, '_>) {
    for (cell, subject) in isolation::cells() {
        judge.line(format!("{cell}: p99 / alone"), AtMost(1.5), &cell, subject, isolation::RATIO);
    }
}

#[cfg(test)]
mod tests {
    use crate::support::load::Times;

    use super::super::cell::Cell;
    use super::super::machine::Machine;
    use super::recovery::{COLD_SUBJECT, FIRST_APPEND, FIRST_APPEND_MS, FULL_BYTES};
    use super::*;

    fn judged(recovery_bytes: u64) -> String {
        let plan = Plan {
            rounds: 1,
            times: Times::default(),
            directory: std::path::PathBuf::new(),
            devices: vec![devices::by_itself()],
            peers: &[],
            recovery_bytes,
            written_bytes: 0,
            only: Vec::new(),
        };
        let mut report = Report::new(Machine::default(), 1, Times::default());
        let mut cell = Cell::new(FIRST_APPEND, "?");
        cell.note(COLD_SUBJECT, FIRST_APPEND_MS, 5.0);
        report.add(cell);
        judge(&plan, &mut report);
        let verdicts = report.verdicts();
        let lines = verdicts.lines().filter(|line| line.contains(FIRST_APPEND));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_restart_is_judged_by_a_log_of_full_length() {
        let text =
            |mib: u64| format!("| {FIRST_APPEND} after kill -9 of a log of {mib} MiB, nothing cached: ms |");
        let full = format!("{} at most 1000 | 5.00 | holds |", text(10_240));
        assert_eq!(judged(FULL_BYTES), full);
        let short = format!(
            "{} at most 1000 |  | **not measured** |\n{}  | 5.00 | not asked |",
            text(10_240),
            text(64)
        );
        assert_eq!(judged(64 << 20), short);
    }
}
