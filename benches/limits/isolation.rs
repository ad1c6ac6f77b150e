//! Who else moves the slowest appends: a replay of the whole log, the roll to new segments, a trim.
//!
//! Windows with and without the disturbance follow each other on one log, under one unbroken load; what happens right
//! after a change counts for neither. Rolling cannot be switched off in a log: there, windows on a log with small
//! segments alternate with windows on one with large segments, each under a load of its own.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use skylark_storage::{CommitLog, Options};

use crate::support::appenders::{self, AppendInTask, RunningLog};
use crate::support::load::{self, Phase, Times, UNCOUNTED};
use crate::support::records::{PAYLOAD_BYTES, Payload};
use crate::support::samples::Samples;
use crate::support::scratch;

use super::Plan;
use super::cell::Cell;
use super::report::Report;

/// What goes on beside the appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    /// A thread reads the whole log again and again, group by group; cold, its files are dropped from the page
    /// cache first.
    Replay { cold: bool },
    /// A thread trims a segment every [`TRIM_EVERY`].
    Trim,
}

/// The column that is judged.
pub const RATIO: &str = "p99 / alone";

const APPENDERS: [usize; 2] = [1, 16];
const DISTURBANCES: [(&str, Disturbance); 3] = [
    ("replay, cold", Disturbance::Replay { cold: true }),
    ("replay, page cache", Disturbance::Replay { cold: false }),
    ("trim", Disturbance::Trim),
];
const ROLL: &str = "roll";
const QUIET: &str = "alone";
const DISTURBED: &str = "disturbed";
const ROLLING: &str = "rolling";
/// After a change, and after a load has begun, nothing counts for so long.
const SETTLES: Duration = Duration::from_millis(100);
/// About as fast as sixteen appenders fill segments.
const TRIM_EVERY: Duration = Duration::from_millis(100);
/// What is there to be replayed.
const REPLAYED_BYTES: u64 = 2 << 30;
/// Small segments, of a log that is trimmed or rolls often. A lone appender fills them in less than a second.
const SMALL_SEGMENT_BYTES: [u64; 2] = [1 << 20, 16 << 20];
const TRIMMED_SEGMENT_BYTES: u64 = 4 << 20;

/// Measures what the plan wants of it.
///
/// # Errors
/// When the disk refuses.
pub fn run(plan: &Plan<'_>, report: &mut Report) -> Result<(), Box<dyn Error>> {
    for appenders in APPENDERS {
        for (name, disturbance) in DISTURBANCES {
            let cell = cell_name(name, appenders);
            if plan.wants(&cell) {
                disturbed(plan, report, &cell, appenders, disturbance)?;
            }
        }
        let cell = cell_name(ROLL, appenders);
        if plan.wants(&cell) {
            rolling(plan, report, &cell, appenders);
        }
    }
    Ok(())
}

/// All cells, each with its row that is judged.
pub fn cells() -> impl Iterator<Item = (String, &'static str)> {
    APPENDERS.into_iter().flat_map(|appenders| {
        let disturbed = DISTURBANCES.map(|(name, _)| (cell_name(name, appenders), DISTURBED));
        disturbed.into_iter().chain([(cell_name(ROLL, appenders), ROLLING)])
    })
}

fn cell_name(name: &str, appenders: usize) -> String {
    format!("isolation/{name}, {appenders}")
}

fn disturbed(
    plan: &Plan<'_>,
    report: &mut Report,
    name: &str,
    appenders: usize,
    disturbance: Disturbance,
) -> Result<(), Box<dyn Error>> {
    let window = plan.times.measured / 2;
    let (question, options, bytes) = match disturbance {
        Disturbance::Replay { cold } => {
            let from = if cold { "the disk" } else { "the page cache" };
            let question = format!(
                "{appenders} tasks append while a thread replays a log of {} MiB from {from}, and while none does.",
                REPLAYED_BYTES >> 20
            );
            (question, Options::default(), REPLAYED_BYTES)
        }
        Disturbance::Trim => {
            let trims = (window + SETTLES).as_millis() / TRIM_EVERY.as_millis() + 2;
            let bytes = TRIMMED_SEGMENT_BYTES * u64::try_from(trims)? * (plan.rounds as u64 + 1);
            let question = format!(
                "{appenders} tasks append while a segment of {} MiB is trimmed every {TRIM_EVERY:?}, and while none is.",
                TRIMMED_SEGMENT_BYTES >> 20
            );
            (question, Options { segment_bytes: TRIMMED_SEGMENT_BYTES, ..Options::default() }, bytes)
        }
    };
    let directory = scratch::directory(&plan.directory);
    let running = RunningLog::open_at(directory.path(), plan.device(), options);
    let (log, payload) = (&running.log, Payload::new(PAYLOAD_BYTES));
    appenders::fill(log, &payload, bytes);
    scratch::forget_log(directory.path())?;
    let happened = AtomicU64::new(0);
    let mut amounts = Vec::new();
    let phases = 2 * plan.rounds;
    let samples = load::tasks(appenders, phases, in_tasks(log), |phase| {
        thread::sleep(plan.times.warm);
        for round in 0..plan.rounds {
            let quiet = |phase: &Phase| count(phase, 2 * round + 1, window, || 0);
            let disturbed = |phase: &Phase| {
                let is_over = AtomicBool::new(false);
                thread::scope(|scope| {
                    let other =
                        scope.spawn(|| disturb(disturbance, log, directory.path(), &is_over, &happened));
                    // Relaxed: numbers to be looked at.
                    let amount = count(phase, 2 * round + 2, window, || happened.load(Ordering::Relaxed));
                    is_over.store(true, Ordering::Relaxed);
                    other.join().expect("what disturbs does not fail");
                    amount
                })
            };
            // Who goes first alternates, as both get slower or faster with the log's age.
            if round % 2 == 0 {
                quiet(phase);
                amounts.push(disturbed(phase));
            } else {
                amounts.push(disturbed(phase));
                quiet(phase);
            }
        }
    });
    running.close();
    scratch::clear(directory);
    let mut cell = Cell::new(name, question);
    note(&mut cell, samples, DISTURBED, &amounts);
    let (figure, unit) = match disturbance {
        Disturbance::Replay { .. } => ("replayed MB/s", 1e6),
        Disturbance::Trim => ("trims/s", 1.0),
    };
    for amount in amounts {
        cell.note(DISTURBED, figure, amount as f64 / unit / window.as_secs_f64());
    }
    eprintln!("{name}: done");
    report.add(cell);
    Ok(())
}

fn in_tasks(log: &CommitLog<u64>) -> AppendInTask {
    AppendInTask { log: log.clone(), payload: Payload::new(PAYLOAD_BYTES), records: 1 }
}

/// Lets the appends of a window count; by how much `happened` has grown within it.
fn count(phase: &Phase, number: usize, window: Duration, happened: impl Fn() -> u64) -> u64 {
    thread::sleep(SETTLES);
    let before = happened();
    phase.set(number);
    thread::sleep(window);
    phase.set(UNCOUNTED);
    happened() - before
}

/// Disturbs until told to end, and adds to `happened` the bytes that were replayed, or the trims.
fn disturb(
    disturbance: Disturbance,
    log: &CommitLog<u64>,
    directory: &Path,
    is_over: &AtomicBool,
    happened: &AtomicU64,
) {
    while !is_over.load(Ordering::Relaxed) {
        match disturbance {
            Disturbance::Replay { cold } => {
                if cold {
                    forget_sealed(directory);
                }
                let begun = log.frontiers().trimmed;
                for group in log.scan(begun) {
                    let bytes = group.expect("the log is sound").bytes.len() as u64;
                    happened.fetch_add(bytes, Ordering::Relaxed);
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
            Disturbance::Trim => {
                let begun = Instant::now();
                let to = log.frontiers().trimmed.advance(TRIMMED_SEGMENT_BYTES);
                if to.get() + 2 * TRIMMED_SEGMENT_BYTES < log.durable().get().get() {
                    log.trim(to).expect("the log can be trimmed");
                    happened.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(TRIM_EVERY.saturating_sub(begun.elapsed()));
            }
        }
    }
}

/// Drops the page cache of all segments but the newest, without a flush that would disturb as well.
fn forget_sealed(directory: &Path) {
    let segments = scratch::segments(directory).expect("the log's directory can be read");
    for path in segments.iter().rev().skip(1) {
        let dropped = std::fs::File::open(path).and_then(|file| scratch::forget_cached(&file));
        dropped.expect("a segment can be dropped from the page cache");
    }
}

/// Windows on a log with small segments and on one with large segments in turn.
fn rolling(plan: &Plan<'_>, report: &mut Report, name: &str, appenders: usize) {
    let small_bytes = if appenders == 1 { SMALL_SEGMENT_BYTES[0] } else { SMALL_SEGMENT_BYTES[1] };
    let question = format!(
        "{appenders} tasks append to a log with segments of {} MiB, and to one with segments of 256 MiB.",
        small_bytes >> 20
    );
    let mut samples = Vec::new();
    let mut rolls = Vec::new();
    for round in 0..plan.rounds {
        let mut pair = [Samples::default(), Samples::default()];
        for turn in 0..2 {
            let is_small = (turn + round) % 2 == 1;
            let mut options = Options::default();
            if is_small {
                options.segment_bytes = small_bytes;
            }
            let directory = scratch::directory(&plan.directory);
            let running = RunningLog::open_at(directory.path(), plan.device(), options);
            let log = &running.log;
            let Times { warm, measured } = plan.times;
            let mut counted = load::tasks(appenders, 1, in_tasks(log), |phase| {
                thread::sleep(warm);
                let rolled = count(phase, 1, measured, || log.durable().get().get() / log.segment_bytes());
                if is_small {
                    rolls.push(rolled);
                }
            });
            pair[usize::from(is_small)] = counted.pop().unwrap_or_default();
            running.close();
            scratch::clear(directory);
        }
        samples.extend(pair);
    }
    let mut cell = Cell::new(name, question);
    note(&mut cell, samples, ROLLING, &rolls);
    for rolled in rolls {
        cell.note(ROLLING, "rolls/s", rolled as f64 / plan.times.measured.as_secs_f64());
    }
    eprintln!("{name}: done");
    report.add(cell);
}

/// Samples come in pairs: without the disturbance, with it. How much of it there was in each window is in `amounts`: one
/// in which nothing happened says nothing of it.
fn note(cell: &mut Cell, samples: Vec<Samples>, subject: &str, amounts: &[u64]) {
    let mut without = 0;
    let mut quiet_p99_us = f64::NAN;
    for (index, samples) in samples.into_iter().enumerate() {
        let is_quiet = index % 2 == 0;
        let of = if is_quiet { QUIET } else { subject };
        cell.note(of, "appends", samples.count() as f64);
        let percentiles = samples.percentiles();
        cell.note(of, "p50 µs", percentiles.at_us(0.5));
        let p99_us = percentiles.at_us(0.99);
        cell.note(of, "p99 µs", p99_us);
        cell.note(of, "p999 µs", percentiles.at_us(0.999));
        cell.note(of, "max µs", percentiles.at_us(1.0));
        if is_quiet {
            quiet_p99_us = p99_us;
        } else if amounts.get(index / 2).is_some_and(|amount| *amount > 0) {
            cell.note(of, RATIO, p99_us / quiet_p99_us);
        } else {
            without += 1;
        }
    }
    if without > 0 {
        let windows = if without == 1 { "window" } else { "windows" };
        cell.remark(format!("Nothing happened in {without} {windows}: left out of {RATIO}."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(us: &[u64]) -> Vec<Samples> {
        let window = |us: &u64| {
            let mut samples = Samples::default();
            samples.push(Duration::from_micros(*us));
            samples
        };
        us.iter().map(window).collect()
    }

    #[test]
    fn a_window_in_which_nothing_happened_says_nothing() {
        let mut cell = Cell::new("isolation/trim, 1", "?");
        note(&mut cell, windows(&[100, 100, 100, 300]), DISTURBED, &[0, 2]);
        assert_eq!(cell.median(DISTURBED, RATIO), Some(3.0), "the first would have made it 2");
        assert!(cell.markdown().contains("Nothing happened in 1 window"));
        let mut cell = Cell::new("isolation/trim, 1", "?");
        note(&mut cell, windows(&[100, 100]), DISTURBED, &[0]);
        assert_eq!(cell.median(DISTURBED, RATIO), None);
    }
}
